from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from evals.errors import BadInput
from evals.features import FeatureSet
from evals.linear import Linear, choose_rate, evaluate, fit, hold_out


def clusters(n: int, *, noise: float, seed: int, classes: int = 6, width: int = 32) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(9))
    labels = torch.randint(classes, (n,), generator=draw)
    x = centres[labels] + noise * torch.randn(n, width, generator=draw)
    return x * torch.logspace(-2, 2, width) + 3, labels  # scales that only standardisation survives


class Labels:
    name, split, segments, has_depth = "made", "train", (), False

    def __init__(self, labels: Tensor) -> None:
        self.values = labels
        self.classes = tuple("abcdef")

    def label(self, index: int) -> int:
        return int(self.values[index])


def featured(x: Tensor, labels: Tensor) -> FeatureSet:
    keys = tuple(f"image-{i}" for i in range(len(x)))
    return FeatureSet(Labels(labels), keys, x, None, None)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("noise", "most"), [(0.2, 0.005), (2.0, 0.03), (5.0, 0.05)])
def test_the_probe_agrees_with_scikit_learns_logistic_regression(noise: float, most: float):
    train, test = clusters(1000, noise=noise, seed=0), clusters(1000, noise=noise, seed=1)
    scaler = StandardScaler().fit(train[0].numpy())
    theirs = LogisticRegression(C=1.0, max_iter=2000).fit(scaler.transform(train[0].numpy()), train[1].numpy())
    score = theirs.score(scaler.transform(test[0].numpy()), test[1].numpy())
    ours = evaluate(Linear(), featured(*train), featured(*test))["correct"].mean()
    assert ours == pytest.approx(score, abs=most)
    assert score > 0.3


def test_all_heads_follow_torchs_sgd_one_by_one():
    x, labels = clusters(60, noise=1, seed=0)
    x = (x - x.mean(0)) / x.std(0)
    protocol = Linear(steps=12, batch_size=60)
    weight, bias = fit(protocol, x.double(), labels, classes=6, rates=(0.01, 0.5))
    for index, rate in enumerate((0.01, 0.5)):
        head = torch.nn.Linear(32, 6, dtype=torch.float64)
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        optimizer = torch.optim.SGD(head.parameters(), lr=rate, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
        for _ in range(12):
            optimizer.zero_grad()
            F.cross_entropy(head(x.double()), labels).backward()
            optimizer.step()
            schedule.step()
        assert torch.allclose(weight[index], head.weight.T, atol=1e-10)
        assert torch.allclose(bias[index], head.bias, atol=1e-10)


def test_the_same_data_gives_the_same_head_and_the_global_random_state_stays():
    train, test = clusters(300, noise=2, seed=0), clusters(100, noise=2, seed=1)
    before = torch.get_rng_state()
    first = evaluate(Linear(steps=50), featured(*train), featured(*test))
    second = evaluate(Linear(steps=50), featured(*train), featured(*test))
    assert (first["correct"] == second["correct"]).all()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_rate_is_chosen_on_held_out_training_images():
    draw = torch.Generator().manual_seed(0)
    labels, common = torch.randint(2, (400,), generator=draw), torch.randn(400, generator=draw)
    x = torch.stack([common, common + 0.1 * (2 * labels - 1)], 1)  # only the difference tells: slow rates miss it
    assert choose_rate(Linear(rates=(1e-6, 0.5)), x, labels, classes=2) == 0.5


def test_a_tenth_of_each_class_is_held_out():
    labels = torch.tensor([0] * 100 + [1] * 20 + [2] * 3 + [3])
    held = hold_out(labels, share=0.1, seed=0)
    assert [int(held[labels == c].sum()) for c in range(4)] == [10, 2, 1, 0]
    assert torch.equal(held, hold_out(labels, share=0.1, seed=0))
    assert not torch.equal(held, hold_out(labels, share=0.1, seed=1))


def test_sets_that_cannot_be_learnt_are_refused():
    x, _ = clusters(10, noise=1, seed=0)
    one = featured(x, torch.zeros(10, dtype=torch.long))
    with pytest.raises(BadInput, match="got one class"):
        evaluate(Linear(), one, one)
    lone = featured(x[:3], torch.arange(3))
    with pytest.raises(BadInput, match="one per class"):
        evaluate(Linear(), lone, lone)
    nameless = featured(x, torch.zeros(10, dtype=torch.long))
    nameless.dataset.classes = ()  # pyright: ignore
    with pytest.raises(BadInput, match="without image classes"):
        evaluate(Linear(), nameless, one)
