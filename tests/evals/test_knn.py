from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from benchmarks.evals import main
from evals import knn
from evals.errors import BadInput
from evals.features import FeatureSet
from evals.knn import Knn, among, evaluate, metrics, search, unit_rows, vote
from evals.protocol import View, load
from evals.rows import DiskRows, Rows
from evals.statistics import intervals

QUICK, PAPER = load("knn-quick", Knn), load("knn-paper", Knn)


def clusters(n: int, *, seed: int, classes: int = 5, width: int = 16) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(9))
    labels = torch.randint(classes, (n,), generator=draw)
    return centres[labels] + 2 * torch.randn(n, width, generator=draw), labels


class Labels:
    name, split, segments, has_depth = "made", "train", (), False

    def __init__(self, labels: Tensor, classes: int = 5) -> None:
        self.values, self.classes = labels, tuple(map(str, range(classes)))

    def __len__(self) -> int:
        return len(self.values)

    def key(self, index: int) -> str:
        return f"image-{index}"

    def label(self, index: int) -> int:
        return int(self.values[index])


def featured(x: Rows, labels: Tensor, classes: int = 5) -> FeatureSet:
    return FeatureSet.in_memory(Labels(labels, classes), x)  # pyright: ignore[reportArgumentType]


def on_disk(x: Tensor, path: Path) -> DiskRows:
    x.numpy().astype("<f4").tofile(path)
    return DiskRows(path, (x.shape[0], x.shape[1]))


def neighbours(queries: Rows, bank: Rows, **options: Any) -> tuple[Tensor, Tensor]:
    starts, similar, rows = zip(*search(queries, bank, **options), strict=True)
    assert list(starts) == [sum(map(len, similar[:i])) for i in range(len(similar))]
    return torch.cat(similar), torch.cat(rows)


def sorted_out(queries: Tensor, bank: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The same by the whole table of cosines, in order."""
    table = unit_rows(queries).double() @ unit_rows(bank).double().T
    similar, rows = table.sort(dim=1, descending=True, stable=True)
    return similar[:, :k], rows[:, :k]


def crowd(kind: str, n: int, *, seed: int, width: int = 24) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, width, generator=draw)
    made = {
        "spread": x,
        "one direction": 3 + 0.05 * x,  # cosines above 0.999
        "repeated": x[torch.randint(n // 8, (n,), generator=draw)],
        "one point": x[:1].expand(n, -1).contiguous(),
        "coarse": x.sign(),
        "empty rows": x * (torch.rand(n, 1, generator=draw) < 0.7),
    }
    return made[kind]


KINDS = ("spread", "one direction", "repeated", "one point", "coarse", "empty rows")


@pytest.mark.parametrize("classes", [2, 5, 40])
@pytest.mark.parametrize("k", [1, 20, 100])
def test_knn_equals_scikit_learns_weighted_classifier(k: int, classes: int):
    (bank, labels), (queries, _) = (clusters(n, seed=seed, classes=classes) for n, seed in ((700, 0), (300, 1)))
    theirs = KNeighborsClassifier(k, weights=lambda d: np.exp((1 - d) / 0.07), metric="cosine", algorithm="brute")
    theirs.fit(bank.double().numpy(), labels.numpy())
    similar, rows = neighbours(queries, bank, k=k)
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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("product", [torch.bfloat16, torch.float32])
def test_the_search_is_exact_and_blocks_do_not_change_a_bit(
    kind: str, product: torch.dtype, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(knn, "_product_type", lambda device: product)
    bank, queries = crowd(kind, 900, seed=0), crowd(kind, 70, seed=1)
    for k in (1, 6, 50):
        similar, rows = sorted_out(queries, bank, k)
        for budget in (2**28, 2**20, 2**18):
            found = neighbours(queries, bank, k=k, budget=budget)
            assert torch.equal(found[0], similar)
            assert torch.equal(found[1], rows)


@pytest.mark.parametrize("product", [torch.bfloat16, torch.float32])
def test_rows_whose_rounding_errors_add_up_are_not_lost(product: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(knn, "_product_type", lambda device: product)
    queries = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 4)  # bfloat16 holds them, so they lose nothing
    around = queries.repeat(60, 1) + 0.01 * torch.randn(960, 4, generator=torch.Generator().manual_seed(0))
    bank = torch.cat([around, -around])  # centred already
    for k in range(1, 40):
        similar, rows = sorted_out(queries, bank, k)
        found = neighbours(queries, bank, k=k)
        assert torch.equal(found[0], similar)
        assert torch.equal(found[1], rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [3, 24, 768])
def test_the_rough_cosines_are_wrong_by_no_more_than_they_say(kind: str, width: int):
    given = [crowd(kind, n, seed=n, width=width) for n in (200, 100)]
    bank, queries = (knn._side(x, unit_rows(given[0]).mean(0)) for x in given)
    exact = bank.rows @ queries.rows.T
    for product, rounding in ((torch.float32, 0), (torch.bfloat16, 2**-8)):
        tile, offset, slack = knn._rough(queries, bank, torch.empty(208 * 100, dtype=product))
        rough = tile[:200].double()
        assert ((rough + offset - exact).abs() <= slack + rounding * rough.abs()).all()
        assert len(tile) == 208
        assert (tile[200:] == -torch.inf).all()


def test_few_pairs_are_measured_and_whole_products_stay_the_exception(monkeypatch: pytest.MonkeyPatch):
    measured: list[int] = []
    cosines = knn._cosines

    def counted(queries: Tensor, bank: Tensor, query: Tensor, row: Tensor) -> Tensor:
        measured.append(len(query))
        return cosines(queries, bank, query, row)

    monkeypatch.setattr(knn, "_cosines", counted)
    for kind in ("spread", "one direction"):
        measured.clear()
        neighbours(crowd(kind, 100, seed=1, width=384), crowd(kind, 4000, seed=0, width=384), k=10)
        assert 100 * 10 <= sum(measured) < 100 * 40


def test_the_bank_and_the_queries_are_read_in_bounded_blocks():
    class Watched:
        def __init__(self, rows: Tensor) -> None:
            self.rows, self.shape, self.most = rows, rows.shape, 0

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, which: slice | Tensor | np.ndarray) -> Tensor:
            self.most = max(self.most, len(self.rows[which]))
            return self.rows[which]

    most = set()
    for times in (1, 4):
        bank, queries = Watched(crowd("spread", 400 * times, seed=0)), Watched(crowd("spread", 200 * times, seed=1))
        neighbours(queries, bank, k=3, budget=2**19)
        assert bank.most * queries.most * 4 < 2**19
        most.add((bank.most, queries.most))
    assert len(most) == 1


def test_features_on_disk_give_the_same_answers(tmp_path: Path):
    (bank, labels), (queries, truth) = clusters(300, seed=0), clusters(80, seed=1)
    memory = evaluate(PAPER, featured(bank, labels), featured(queries, truth))
    bank, queries = on_disk(bank, tmp_path / "bank"), on_disk(queries, tmp_path / "queries")
    disk = evaluate(PAPER, featured(bank, labels), featured(queries, truth))
    assert memory.keys() == disk.keys()
    assert all((memory[name] == disk[name]).all() for name in memory)


def test_of_equal_rows_the_earlier_one_is_the_nearer():
    bank = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)).repeat(50, 1)
    _, rows = neighbours(bank[:3], bank, k=50)
    assert rows.tolist() == [list(range(first, 150, 3)) for first in range(3)]
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


def test_rows_of_zeros_are_as_near_as_a_right_angle():
    similar, _ = neighbours(torch.zeros(2, 4), crowd("spread", 30, seed=0, width=4), k=30)
    assert (similar == 0).all()


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
    with pytest.raises(BadInput, match="got 5 classes in made and 6"):
        evaluate(QUICK, few, featured(*clusters(10, seed=0), classes=6))
    for change in ({"k": ()}, {"k": (0, 5)}, {"k": (5, 5)}, {"temperature": 0.0}, {"crop_pct": 1.5}):
        with pytest.raises(BadInput, match=f"got {next(iter(change))}"):
            load("knn-quick", Knn, **change)


def test_the_benchmark_compares_like_with_like(capsys: pytest.CaptureFixture[str]):
    sizes = "--bank 300 --queries 20 --width 8 --classes 3 --k 2 7 --linear-classes 3 --steps 4"
    assert main(["--only", "knn", "linear", *sizes.split()]) == 0
    table = capsys.readouterr().out
    assert table.count("20 of 20\n") == 4
    gaps = [float(line.split()[-1]) for line in table.splitlines() if "one by one" in line or "SGD" in line]
    assert len(gaps) == 2
    assert max(gaps) < 1e-5
