from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from common.errors import BadInput
from evals.features.matrix import Rows
from evals.fitting import nearest
from evals.fitting.nearest import Neighbours, search, unit_rows


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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("product", [torch.bfloat16, torch.float32])
def test_the_search_is_exact_and_blocks_do_not_change_a_bit(
    kind: str, product: torch.dtype, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(nearest, "_product_type", lambda device: product)
    bank, queries = crowd(kind, 900, seed=0), crowd(kind, 70, seed=1)
    for k in (1, 6, 50):
        similar, rows = sorted_out(queries, bank, k)
        for budget in (2**28, 2**20, 2**18):
            found = neighbours(queries, bank, k=k, budget=budget)
            assert torch.equal(found[0], similar)
            assert torch.equal(found[1], rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("higher", [0.0, 0.05, 3.0])
def test_a_guess_of_how_near_the_nearest_are_changes_no_bit_however_wrong_it_is(
    kind: str, higher: float, monkeypatch: pytest.MonkeyPatch
):
    guess, guesses = nearest._guess, list[Tensor]()

    def worse(*given: Any) -> Tensor:
        guesses.append(guess(*given) + higher)
        return guesses[-1]

    for name, value in (("_guess", worse), ("MANY", 1), ("WORTH", 1000)):
        monkeypatch.setattr(nearest, name, value)
    bank, queries = crowd(kind, 900, seed=0), crowd(kind, 70, seed=1)
    for k in (1, 6):
        similar, rows = sorted_out(queries, bank, k)
        found = neighbours(queries, bank, k=k, budget=2**20)
        assert torch.equal(found[0], similar)
        assert torch.equal(found[1], rows)
    assert len(torch.cat(guesses)) == 2 * len(queries)


@pytest.mark.parametrize("product", [torch.bfloat16, torch.float32])
def test_rows_whose_rounding_errors_add_up_are_not_lost(product: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nearest, "_product_type", lambda device: product)
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
    bank, queries = (nearest._side(x, unit_rows(given[0]).mean(0)) for x in given)
    exact = bank.rows @ queries.rows.T
    for product, rounding in ((torch.float32, 0), (torch.bfloat16, 2**-8)):
        tile, offset, slack = nearest._rough(queries, bank, torch.empty(208 * 100, dtype=product))
        rough = tile[:200].double()
        assert ((rough + offset - exact).abs() <= slack + rounding * rough.abs()).all()
        assert len(tile) == 208
        assert (tile[200:] == -torch.inf).all()


def test_few_pairs_are_measured_and_whole_products_stay_the_exception(monkeypatch: pytest.MonkeyPatch):
    measured: list[int] = []
    cosines = nearest._cosines

    def counted(queries: Tensor, bank: Tensor, query: Tensor, row: Tensor) -> Tensor:
        measured.append(len(query))
        return cosines(queries, bank, query, row)

    monkeypatch.setattr(nearest, "_cosines", counted)
    for kind in ("spread", "one direction"):
        measured.clear()
        neighbours(crowd(kind, 100, seed=1, width=384), crowd(kind, 4000, seed=0, width=384), k=10)
        assert 100 * 10 <= sum(measured) < 100 * 40


def test_of_many_neighbours_in_a_large_bank_few_more_are_measured_than_there_are(monkeypatch: pytest.MonkeyPatch):
    measured, cosines = list[int](), nearest._cosines

    def counted(queries: Tensor, bank: Tensor, query: Tensor, row: Tensor) -> Tensor:
        measured.append(len(query))
        return cosines(queries, bank, query, row)

    monkeypatch.setattr(nearest, "_cosines", counted)
    bank, queries = crowd("spread", 40_000, seed=0, width=16), crowd("spread", 100, seed=1, width=16)
    pairs = []
    for worth in (nearest.WORTH, 0):  # with a guess, and without one
        measured.clear()
        monkeypatch.setattr(nearest, "WORTH", worth)
        found = neighbours(queries, bank, k=200, budget=2**23)
        assert torch.equal(found[1], sorted_out(queries, bank, 200)[1])
        pairs.append(sum(measured) / (100 * 200))
    assert 1 <= pairs[0] < 2.5
    assert pairs[0] < 0.7 * pairs[1]


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


def test_of_equal_rows_the_earlier_one_is_the_nearer():
    bank = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)).repeat(50, 1)
    _, rows = neighbours(bank[:3], bank, k=50)
    assert rows.tolist() == [list(range(first, 150, 3)) for first in range(3)]


@pytest.mark.parametrize("places", [nearest.PLACES, 0])
def test_tables_are_merged_by_nearness_and_then_by_row_whatever_their_width(monkeypatch, places):
    """Against a sort of tuples; −∞ where a query has fewer neighbours, and cosines a little above 1."""
    monkeypatch.setattr(nearest, "PLACES", places)
    draw = torch.Generator().manual_seed(0)
    similar = torch.randint(-3, 4, (20, 30), generator=draw).double() / 3 * (1 + 2**-24)
    similar[torch.rand(20, 30, generator=draw) < 0.3] = -torch.inf
    rows = torch.arange(0, 60, 2).expand(20, 30)
    parts = [Neighbours(*(part.split([0, 7, 23], 1)[n] for part in (similar, rows))) for n in range(3)]
    for k in (1, 8, 30):
        found = nearest._merged(parts, k)
        for query in range(20):
            best = sorted(zip((-similar[query]).tolist(), rows[query].tolist(), strict=True))[:k]
            assert [(-one, row) for one, row in zip(*(part[query].tolist() for part in found), strict=True)] == best
    padded = nearest._merged(parts, 33)
    assert (padded.similar[:, 30:] == -torch.inf).all()


def test_rows_of_zeros_are_as_near_as_a_right_angle():
    similar, _ = neighbours(torch.zeros(2, 4), crowd("spread", 30, seed=0, width=4), k=30)
    assert (similar == 0).all()


def test_more_neighbours_than_rows_are_refused():
    for k in (0, 11):
        with pytest.raises(BadInput, match=f"got k={k} and 10 training images: want 1 <= k <= images"):
            neighbours(torch.ones(2, 4), torch.ones(10, 4), k=k)
