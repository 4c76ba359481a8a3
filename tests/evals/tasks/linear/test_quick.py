from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from common.errors import BadInput
from evals.features.feature_set import FeatureSet
from evals.features.matrix import DiskRows
from evals.features.scale import fit_scale
from evals.judging.image_classes import hold_out
from evals.protocols.reading import load
from evals.tasks.linear import quick
from evals.tasks.linear.grid import GridHead, grid
from evals.tasks.linear.quick import QuickLinear, choose, evaluate, fit_grid, metrics
from tests.evals import toys
from tests.evals.toys import labelled

QUICK = load("linear-quick", QuickLinear)
featured = partial(labelled, classes="abcdef")


def clusters(n: int, *, noise: float, seed: int) -> tuple[Tensor, Tensor]:
    x, labels = toys.clusters(n, noise=noise, seed=seed, classes=6, width=32)
    return x * torch.logspace(-2, 2, 32) + 3, labels  # scales that only standardisation survives


@pytest.mark.parametrize(("noise", "most"), [(0.2, 0.005), (2.0, 0.03), (5.0, 0.05)])
def test_the_probe_agrees_with_scikit_learns_logistic_regression(noise: float, most: float):
    train, test = clusters(1000, noise=noise, seed=0), clusters(1000, noise=noise, seed=1)
    scaler = StandardScaler().fit(train[0].numpy())
    theirs = LogisticRegression(C=1.0, max_iter=2000).fit(scaler.transform(train[0].numpy()), train[1].numpy())
    score = theirs.score(scaler.transform(test[0].numpy()), test[1].numpy())
    found = evaluate(QUICK, featured(*train), featured(*test))
    assert found["correct"].mean() == pytest.approx(score, abs=most)
    assert score > 0.3
    assert found["in_top5"].mean() > found["correct"].mean() or noise < 1
    assert not found["in_top5"].all() or noise < 5


def test_one_pass_over_the_grid_gives_each_rates_head_as_if_it_were_trained_alone():
    x, labels = clusters(60, noise=1, seed=0)
    x = (x - x.mean(0)) / x.std(0)
    protocol = replace(QUICK, steps=12, batch_size=60)  # a batch is the whole set: its order does not matter
    heads = grid(("cls",), (0.01, 0.1, 0.5), (0.0,))
    fitted = fit_grid(protocol, {"cls": x}, labels, classes=6, heads=heads)
    for index, head in enumerate(heads):
        layer = torch.nn.Linear(32, 6)
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        optimizer = torch.optim.SGD(layer.parameters(), lr=head.rate, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
        for _ in range(12):
            optimizer.zero_grad()
            F.cross_entropy(layer(x), labels).backward()
            optimizer.step()
            schedule.step()
        weight, bias = fitted.parameters(index)
        assert torch.allclose(weight, layer.weight.T, atol=1e-5)
        assert torch.allclose(bias, layer.bias, atol=1e-5)


def test_a_head_is_the_same_in_a_grid_and_by_itself_also_in_small_batches():
    x, labels = clusters(90, noise=1, seed=0)
    protocol = replace(QUICK, steps=30, batch_size=16)
    heads = grid(("cls",), (1e-4, 1e-3), (0.0,))
    both = fit_grid(protocol, {"cls": x}, labels, classes=6, heads=heads)
    for index, head in enumerate(heads):
        one = fit_grid(protocol, {"cls": x}, labels, classes=6, heads=[head])
        assert torch.allclose(both.parameters(index)[0], one.parameters(0)[0], atol=1e-5)


def test_the_same_data_gives_the_same_head_and_the_global_random_state_stays():
    train, test = clusters(300, noise=2, seed=0), clusters(100, noise=2, seed=1)
    before = torch.get_rng_state()
    first = evaluate(replace(QUICK, steps=50), featured(*train), featured(*test))
    second = evaluate(replace(QUICK, steps=50), featured(*train), featured(*test))
    assert (first["correct"] == second["correct"]).all()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_rate_is_chosen_on_held_out_training_images():
    draw = torch.Generator().manual_seed(0)
    labels, common = torch.randint(2, (400,), generator=draw), torch.randn(400, generator=draw)
    x = torch.stack([common, common + 0.1 * (2 * labels - 1)], 1)  # only the difference tells: slow rates miss it
    held = hold_out(labels, share=0.1, seed=0)
    heads = grid(("cls",), (1e-6, 0.5), (0.0,))
    assert choose(QUICK, {"cls": x}, labels, classes=2, heads=heads, held=held) == GridHead("cls", 0.5, 0.0)
    misled = torch.where(held, 1 - labels, labels)  # what the held-out images say decides, not the others
    assert choose(QUICK, {"cls": x}, misled, classes=2, heads=heads, held=held).rate == 1e-6


@pytest.mark.parametrize("telling", ["cls", "mean", "both"])
def test_the_input_that_tells_the_classes_is_found(telling: str, caplog: pytest.LogCaptureFixture):
    labels = torch.arange(240) % 4
    draw = torch.Generator().manual_seed(1)
    bits = [2.0 * (labels % 2) - 1, 2.0 * (labels // 2) - 1]  # each input alone knows half when both are needed
    told = {"cls": (bits, []), "mean": ([], bits), "both": (bits[:1], bits[1:])}[telling]
    cls, mean = (torch.stack([*told[i], *torch.randn(3, 240, generator=draw)], 1) for i in (0, 1))
    protocol = replace(QUICK, inputs=("cls", "mean", "cls_mean"), steps=100)
    train, test = (featured(cls[s], labels[s], mean=mean[s]) for s in (slice(0, 160), slice(160, 240)))
    with caplog.at_level("INFO", logger="gramlab"):
        found = evaluate(protocol, train, test)
    assert found["correct"].mean() > 0.95
    assert f": {'cls_mean' if telling == 'both' else telling}, rate" in caplog.text


class Watched(DiskRows):
    largest = 0

    def __getitem__(self, which: slice | Tensor | np.ndarray) -> Tensor:
        rows = super().__getitem__(which)
        Watched.largest = max(Watched.largest, len(rows))
        return rows


def test_features_on_disk_give_the_same_answers_and_large_ones_are_read_a_batch_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    parts = [clusters(200, noise=2, seed=seed) for seed in (0, 1)]
    protocol = replace(QUICK, steps=20, batch_size=32, inputs=("cls", "cls_mean"))
    wanted = evaluate(protocol, *(featured(x, labels, mean=-x) for x, labels in parts))
    stored = []
    for index, (x, labels) in enumerate(parts):
        rows = []
        for sign in (1, -1):
            path = tmp_path / f"{index}{sign}"
            (sign * x).numpy().tofile(path)
            rows.append(Watched(path, (200, 32)))
        stored.append(replace(featured(x, labels), pooled=rows[0], mean=rows[1]))
    small = evaluate(protocol, *stored)
    monkeypatch.setattr(quick, "WHOLE", 0)
    monkeypatch.setattr(quick, "fit_scale", partial(fit_scale, block=32))
    monkeypatch.setattr("evals.tasks.linear.grid.ROWS", 32)
    Watched.largest = 0
    large = evaluate(protocol, *stored)
    assert Watched.largest == 32
    for found in (small, large):
        assert all((found[name] == wanted[name]).all() for name in wanted)


def test_sets_that_cannot_be_learnt_are_refused():
    x, _ = clusters(10, noise=1, seed=0)
    one = featured(x, torch.zeros(10, dtype=torch.long))
    with pytest.raises(BadInput, match="got one class"):
        evaluate(QUICK, one, one)
    lone = featured(x[:3], torch.arange(3))
    with pytest.raises(BadInput, match="one per class"):
        evaluate(QUICK, lone, lone)
    nameless = featured(x, torch.zeros(10, dtype=torch.long))
    nameless.dataset.classes = ()  # pyright: ignore
    with pytest.raises(BadInput, match="without image classes"):
        evaluate(QUICK, nameless, one)
    fewer = featured(x, torch.arange(10) % 3)
    fewer.dataset.classes = ("a", "b", "d")  # pyright: ignore
    with pytest.raises(BadInput, match=r"6 classes in made.* and 3 in made.* \('c' is in made.* alone\)"):
        evaluate(QUICK, featured(x, torch.arange(10) % 3), fewer)


def test_settings_that_cannot_be_are_refused():
    for changes, reason in (
        ({"inputs": ("patch",)}, "inputs[0]='patch': want one of cls, mean, cls_mean"),
        ({"rates": ()}, "rates=[]: want a list of one or more different values"),
        ({"rates": (0.1, 0.1)}, "rates=[0.1, 0.1]: want a list of one or more different values"),
        ({"held_out": 1.5}, "held_out=1.5"),
        ({"steps": 0}, "steps=0"),
    ):
        with pytest.raises(BadInput, match=re.escape(f"linear-quick: {reason}")):
            load("linear-quick", QuickLinear, **changes)


@pytest.mark.parametrize("rate", [-1.0, 0.0, math.nan, math.inf])
def test_a_rate_that_does_not_descend_is_refused(rate: float):
    with pytest.raises(BadInput, match=rf"^linear-quick: rates\[1\]={rate}: want a number, above 0"):
        load("linear-quick", QuickLinear, rates=(0.1, rate))


@pytest.mark.parametrize("decay", [-0.5, math.nan, math.inf])
def test_a_decay_that_grows_the_weights_is_refused(decay: float):
    with pytest.raises(BadInput, match=rf"^linear-quick: decays\[1\]={decay}: want a number, at least 0"):
        load("linear-quick", QuickLinear, decays=(0.0, decay))


def test_every_setting_of_the_probe_moves_its_answers():
    train, test = (
        featured(*clusters(300, noise=4, seed=seed), mean=clusters(300, noise=3, seed=seed)[0]) for seed in (0, 1)
    )
    base = replace(QUICK, steps=20, batch_size=32, rates=(1e-3,))
    usual = fitted_logits(base, train, test)
    for changes in (
        {"rates": (2e-3,)},
        {"decays": (0.1,)},
        {"momentum": 0.5},
        {"steps": 21},
        {"batch_size": 33},
        {"seed": 1},
        {"inputs": ("mean",)},
    ):
        assert not torch.equal(fitted_logits(replace(base, **changes), train, test), usual), changes
    assert replace(QUICK, crop_pct=0.875).view != QUICK.view
    assert metrics(QUICK) == ("top1",)


def fitted_logits(protocol: QuickLinear, train: FeatureSet, test: FeatureSet) -> Tensor:
    inputs, unseen = quick.standardised(protocol.inputs, train, test)
    heads = grid(protocol.inputs, protocol.rates, protocol.decays)
    fitted = fit_grid(protocol, inputs, train.labels, classes=6, heads=heads)
    return fitted.logits({name: rows[:] for name, rows in unseen.items()})
