from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from evals.errors import BadInput
from evals.features import FeatureSet
from evals.knn import Knn, evaluate, vote


def clusters(n: int, *, seed: int, classes: int = 5, width: int = 16) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(9))
    labels = torch.randint(classes, (n,), generator=draw)
    return centres[labels] + 2 * torch.randn(n, width, generator=draw), labels


class Labels:
    name, split, segments, has_depth = "made", "train", (), False

    def __init__(self, labels: Tensor) -> None:
        self.values = labels
        self.classes = tuple("abcde")

    def label(self, index: int) -> int:
        return int(self.values[index])


def featured(x: Tensor, labels: Tensor) -> FeatureSet:
    keys = tuple(f"image-{i}" for i in range(len(x)))
    return FeatureSet(Labels(labels), keys, x, None, None)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("k", [1, 20, 100])
def test_knn_equals_scikit_learns_weighted_classifier(k: int):
    (bank, labels), (queries, _) = clusters(700, seed=0), clusters(300, seed=1)

    def softmax(distances: np.ndarray) -> np.ndarray:
        weights = np.exp((1 - distances) / 0.07)
        return weights / weights.sum(1, keepdims=True)

    theirs = KNeighborsClassifier(k, weights=softmax, metric="cosine", algorithm="brute")
    theirs.fit(bank.double().numpy(), labels.numpy())
    ours = vote(queries.double(), bank.double(), labels, k=k, temperature=0.07, rows=64, columns=90)
    np.testing.assert_allclose(ours.numpy(), theirs.predict_proba(queries.double().numpy()), atol=1e-9)


def test_blocks_do_not_change_the_scores():
    (bank, labels), (queries, _) = clusters(500, seed=0), clusters(50, seed=1)
    whole = vote(queries, bank, labels, k=20, temperature=0.07)
    blocks = vote(queries, bank, labels, k=20, temperature=0.07, rows=7, columns=11)
    assert torch.allclose(whole, blocks, atol=1e-5)
    assert torch.allclose(whole.sum(1), torch.ones(50), atol=1e-5)


def test_outcomes_say_which_images_were_right():
    train, test = clusters(400, seed=0), clusters(100, seed=1)
    found = evaluate(Knn(), featured(*train), featured(*test))
    scores = vote(test[0], train[0], train[1], k=20, temperature=0.07)
    assert (found["correct"] == (scores.argmax(1) == test[1]).numpy()).all()
    assert list(found["keys"][:2]) == ["image-0", "image-1"]
    assert 0.4 < found["correct"].mean() < 1


def test_more_neighbours_than_images_are_refused():
    few = featured(*clusters(10, seed=0))
    with pytest.raises(BadInput, match="got k=20 and 10 training images"):
        evaluate(Knn(), few, few)
