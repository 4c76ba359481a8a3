from __future__ import annotations

import math
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from benchmarks.evals import main
from common.errors import BadInput
from evals.features.feature_set import FeatureSet
from evals.features.matrix import DiskRows, Rows
from evals.features.view import View
from evals.fitting.nearest import search
from evals.protocols.reading import load
from evals.results.bootstrap import intervals
from evals.tasks.knn import Knn, among, evaluate, metrics, vote
from tests.evals import toys

QUICK, PAPER = load("knn-quick", Knn), load("knn-paper", Knn)
clusters = partial(toys.clusters, classes=5, width=16)


def featured(x: Rows, labels: Tensor, classes: int = 5) -> FeatureSet:
    return toys.labelled(x, labels, "abcdefghi"[:classes])


def on_disk(x: Tensor, path: Path) -> DiskRows:
    x.numpy().astype("<f4").tofile(path)
    return DiskRows(path, (x.shape[0], x.shape[1]))


@pytest.mark.parametrize("classes", [2, 5, 40])
@pytest.mark.parametrize("k", [1, 20, 100])
def test_knn_equals_scikit_learns_weighted_classifier(k: int, classes: int):
    (bank, labels), (queries, _) = (clusters(n, seed=seed, classes=classes) for n, seed in ((700, 0), (300, 1)))
    theirs = KNeighborsClassifier(k, weights=lambda d: np.exp((1 - d) / 0.07), metric="cosine", algorithm="brute")
    theirs.fit(bank.double().numpy(), labels.numpy())
    _, similar, rows = next(search(queries, bank, k=k))
    ours = vote(similar, labels[rows], load("knn-quick", Knn, k=(k,)), classes=classes)[0]
    known = torch.from_numpy(theirs.classes_)
    np.testing.assert_allclose(ours[:, known].numpy(), theirs.predict_proba(queries.double().numpy()), atol=2e-6)
    assert ours.argmax(1).tolist() == theirs.predict(queries.double().numpy()).tolist()


def test_each_k_equals_scikit_learns_classifier_with_as_many_neighbours():
    train, test = clusters(400, seed=0), clusters(200, seed=1)
    found = evaluate(PAPER, featured(*train), featured(*test))
    for k in (10, 20, 100, 200):
        theirs = KNeighborsClassifier(k, weights=lambda d: np.exp((1 - d) / 0.07), metric="cosine", algorithm="brute")
        right = theirs.fit(train[0].numpy(), train[1].numpy()).predict(test[0].numpy()) == test[1].numpy()
        assert found[f"correct@{k}"].tolist() == right.tolist()


def test_outcomes_equal_those_of_plain_loops():
    (bank, labels), (queries, truth) = clusters(120, seed=0, classes=9), clusters(30, seed=1, classes=9)
    found = evaluate(load("knn-paper", Knn, k=(7, 3, 40)), featured(bank, labels, 9), featured(queries, truth, 9))
    for i, query in enumerate(queries.double().tolist()):
        near: list[tuple[float, int]] = []
        for row, label in zip(bank.double().tolist(), labels.tolist(), strict=True):
            near.append(
                (sum(a * b for a, b in zip(query, row, strict=True)) / math.hypot(*query) / math.hypot(*row), label)
            )
        near.sort(reverse=True)
        for k in (3, 7, 40):
            scores: dict[int, float] = defaultdict(float)
            for cosine, label in near[:k]:
                scores[label] += math.exp(cosine / 0.07)
            ranking = sorted(scores, key=lambda label: -scores[label])
            assert found[f"correct@{k}"][i] == (ranking[0] == truth[i])
            assert found[f"in_top5@{k}"][i] == (int(truth[i]) in ranking[:5])


def test_features_on_disk_give_the_same_answers(tmp_path: Path):
    (bank, labels), (queries, truth) = clusters(300, seed=0), clusters(80, seed=1)
    memory = evaluate(PAPER, featured(bank, labels), featured(queries, truth))
    bank, queries = on_disk(bank, tmp_path / "bank"), on_disk(queries, tmp_path / "queries")
    disk = evaluate(PAPER, featured(bank, labels), featured(queries, truth))
    assert memory.keys() == disk.keys()
    assert all((memory[name] == disk[name]).all() for name in memory)


def test_of_equal_rows_the_earlier_one_votes():
    bank = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)).repeat(50, 1)
    labels = torch.arange(5).repeat(30)
    found = evaluate(load("knn-quick", Knn, k=(1,)), featured(bank, labels), featured(bank[:3], labels[:3]))
    assert found["correct"].all()


def test_opposite_and_equal_neighbours_share_the_vote_without_overflow():
    cosines = torch.tensor([[1.0, 1.0, -1.0], [-1.0, -1.0, -1.0]])
    scores = vote(cosines, torch.tensor([[0, 1, 1], [0, 1, 1]]), load("knn-quick", Knn, k=(3,)), classes=2)[0]
    expected = torch.tensor([[0.5, 0.5], [1 / 3, 2 / 3]], dtype=torch.float64)
    torch.testing.assert_close(scores, expected, atol=1e-12, rtol=0)
    sharp = vote(cosines, torch.tensor([[0, 0, 1]] * 2), load("knn-quick", Knn, temperature=1e-3, k=(3,)), classes=2)
    assert sharp.isfinite().all()


def test_a_tie_of_classes_goes_to_the_lower_and_a_class_without_a_vote_is_never_among_the_best():
    scores = torch.tensor([[[0.4, 0.4, 0.2, 0.0]]])
    assert [bool(among(scores, torch.tensor([c]), top=1)) for c in range(4)] == [True, False, False, False]
    assert [bool(among(scores, torch.tensor([c]), top=2)) for c in range(4)] == [True, True, False, False]
    assert [bool(among(scores, torch.tensor([c]), top=5)) for c in range(4)] == [True, True, True, False]


def test_outcomes_and_metrics_name_each_k_and_the_first_leads():
    train, test = featured(*clusters(400, seed=0)), featured(*clusters(100, seed=1))
    assert metrics(QUICK) == ("top1",)
    assert metrics(PAPER)[0] == "top1@20"
    for protocol in (QUICK, PAPER):
        found = evaluate(protocol, train, test)
        values = {name: value.value for name, value in intervals(metrics(protocol), found).items()}
        assert list(found["keys"][:2]) == ["image-0", "image-1"]
        assert all(0.4 < values[name] < 1 for name in values if "top1" in name)
        assert all(values[name] == 1 for name in values if "top5" in name and name != "top5@10")
    assert PAPER.view == View("crop", 224, 0.875)


def test_every_setting_of_the_protocol_moves_its_answers():
    train, test = featured(*clusters(400, seed=0)), featured(*clusters(300, seed=1))
    plain = evaluate(QUICK, train, test)["correct"]
    for change in ({"k": (3,)}, {"temperature": 5.0}):
        assert (evaluate(load("knn-quick", Knn, **change), train, test)["correct"] != plain).any(), change
    assert load("knn-quick", Knn, crop_pct=0.5).view != QUICK.view


def test_what_cannot_be_is_refused():
    few = featured(*clusters(10, seed=0))
    with pytest.raises(BadInput, match="got k=20 and 10 training images"):
        evaluate(QUICK, few, few)
    with pytest.raises(BadInput, match=r"got 5 classes in made/train and 6"):
        evaluate(QUICK, few, featured(*clusters(10, seed=0), classes=6))
    for change in ({"k": ()}, {"k": (0, 5)}, {"k": (5, 5)}, {"temperature": 0.0}, {"crop_pct": 1.5}):
        with pytest.raises(BadInput, match=rf"^knn-quick: {next(iter(change))}(\[0\])?="):
            load("knn-quick", Knn, **change)


def test_the_benchmark_compares_like_with_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)  # where it notes what it measured
    sizes = "--bank 300 --queries 20 --width 8 --classes 3 --k 2 7 --linear-classes 3 --steps 4"
    assert main(["--only", "knn", "linear", *sizes.split()]) == 0
    table = capsys.readouterr().out
    assert table.count("20 of 20\n") == 4
    gaps = [float(line.split()[-1]) for line in table.splitlines() if "one by one" in line or "SGD" in line]
    assert len(gaps) == 2
    assert max(gaps) < 1e-5
