"""Exact nearest neighbours by cosine in a bank of features, with queries and bank read a block at a time.

The answer does not depend on blocks, threads or device: unit rows are rounded to a grid on which a float64 sum of
products loses nothing, whatever its order, so equal rows tie to the bit and the lower index wins. Since few rows of a
bank can be among the nearest, a bfloat16 product whose error is bounded finds those that can, and only they are
measured on the grid. How near the nearest are is guessed from a sample of a large bank; what was guessed too high is
searched again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.linalg import vector_norm

from common.errors import BadInput
from common.progress import Bar
from evals.features.matrix import Rows, blocks

BUDGET = 256 * 2**20  # bytes that the search may use beyond what it returns
GRID = 2.0**24  # unit rows are multiples of 1/GRID: a product of two takes 48 of float64's 53 bits
GROUP = 16  # bank rows whose largest similarity is looked at first
LIMIT = 12  # measuring one pair takes as long as this many in a whole float64 product
SAMPLE = 4096  # rows of a large bank by which it is guessed how near the k-th nearest is
WIDE = 2  # times k columns of a table of neighbours, from which on only the best k are kept
PLACES = 2**13  # in such a table, for a whole number of 63 bits that tells which of two is the better
WORTH = 2.2  # times k rows of the bank, that a guess may let pass; without one it is more
MANY = 6  # blocks from which on a bank is large
Pairs = tuple[Tensor, Tensor]  # [m] queries, ascending, and [m] rows of the bank, ascending for each query


class Neighbours(NamedTuple):
    """Rows of a bank for each query, the most similar first and the lower index first among equals; −∞ where none."""

    similar: Float[Tensor, "q k"]  # float64
    rows: Int[Tensor, "q k"]


def search(
    queries: Rows, bank: Rows, *, k: int, device: str | torch.device = "cpu", budget: int = BUDGET
) -> Iterator[tuple[int, Float[Tensor, "q k"], Int[Tensor, "q k"]]]:
    """The k nearest rows of `bank` by cosine, a block of queries at a time: (first query, cosines, indices) on the CPU.

    The rounding to the grid moves a cosine by less than 2⁻²³ √D. The memory in use stays near `budget` bytes, however
    many rows there are on either side; it decides how often the bank is read, never the answer.

    Raises:
        BadInput: k outside 1 … rows of the bank.
    """
    if not 1 <= k <= len(bank):
        raise BadInput(f"got k={k} and {len(bank)} training images: want 1 <= k <= images; do change one")
    kind = _product_type(torch.device(device))
    plan = _plan(queries, bank, k=k, budget=budget, bytes_each=kind.itemsize)
    some = torch.cat([bank[start : start + GROUP] for start in range(0, len(bank), max(len(bank) // 64, GROUP))])
    centre = unit_rows(some.to(device)).mean(0)
    room = torch.empty(plan.queries * plan.bank, dtype=kind, device=device)
    through = partial(_through, bank=bank, k=k, plan=plan, room=room, centre=centre)
    rows, rank = _sample(bank, k=k, most=plan.bank)
    sample = None if rows is None else _side(rows.to(device), centre)
    with Bar(total=len(queries) * len(bank), desc="kNN", unit_scale=True) as bar:
        for start, part in blocks(queries, plan.queries):
            asked = _side(part.to(device), centre)
            guess = None if sample is None else _guess(asked, sample, rank, room)
            best = through(asked, guess, tell=bar.update)
            if guess is not None and (short := best.similar[:, k - 1] < guess).any():  # it was too high for these
                again = through(_side(part.to(device)[short], centre), None, tell=lambda pairs: None)
                best.similar[short], best.rows[short] = again
            yield start, best.similar.cpu(), best.rows.cpu()


def _through(
    asked: Side,
    guess: Tensor | None,
    *,
    bank: Rows,
    k: int,
    plan: SearchPlan,
    room: Tensor,
    centre: Tensor,
    tell: Callable[[int], object],
) -> Neighbours:
    """The k nearest of all the bank; where there is a guess, those of them that are as near, and perhaps others."""
    count = len(asked.rows)
    best = Neighbours(asked.rows.new_empty(count, 0), asked.rows.new_empty(count, 0).long())
    found = list[Neighbours]()
    for first, held in blocks(bank, plan.bank):
        side = _side(held.to(room.device), centre)
        new = _best_of(asked, side, best, guess, k=k, plan=plan, room=room)
        found.append(Neighbours(new.similar, new.rows + first))
        if guess is None or sum(part.rows.shape[1] for part in found) > WIDE * k:
            best, found = _merged([best, *found], k), []
        tell(count * len(held))
    return _merged([best, *found], k) if found else best


def _sample(bank: Rows, *, k: int, most: int) -> tuple[Tensor | None, int]:
    """Rows from all over a large bank, and which of them by nearness is likely to be further than the k-th nearest of
    all: the rank that this has among them, and four deviations more. None where it would let more pass than it spares.
    """
    step = -(-len(bank) // min(SAMPLE, most))
    share = 1 / step
    rank = round(k * share + 4 * (k * share) ** 0.5 + 2)
    if len(bank) < MANY * most or rank > WORTH * k * share or rank * GROUP > len(bank) * share:
        return None, 0
    return bank[::step], rank


def _guess(queries: Side, sample: Side, rank: int, room: Tensor) -> Float[Tensor, " q"]:
    """About the cosine of each query with the row of the sample that has this rank; float64."""
    tile, offset, _ = _rough(queries, sample, room)
    highest = tile.unflatten(0, (-1, GROUP)).amax(1)
    return offset + highest.T.float().contiguous().topk(rank, dim=1).values[:, -1]


class SearchPlan(NamedTuple):
    """Rows to hold at once: of the queries, the bank, the queries in a whole float64 product; and pairs to measure."""

    queries: int
    bank: int
    chunk: int
    pairs: int


def _plan(queries: Rows, bank: Rows, *, k: int, budget: int, bytes_each: int) -> SearchPlan:
    """A quarter of the budget for the bank's side; the rest for queries, their similarities and about 2k pairs each."""
    row = 32 * bank.shape[1]  # bytes
    many = min(budget // (4 * row), len(bank) + GROUP - 1, 8192) // GROUP * GROUP or GROUP
    few = min(3 * budget // (4 * (row + 320 * k + bytes_each * many)), len(queries), 8192)
    return SearchPlan(max(few, 1), many, max(budget // (4 * 32 * many), 1), budget // 256)


def unit_rows(x: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
    """Rows of length one, rounded to multiples of 1/GRID; a row of zeros stays."""
    norm = vector_norm(x, dim=1, keepdim=True, dtype=torch.float64).clamp_min(1e-30)
    return (x / norm.float()).mul_(GRID).round_().div_(GRID)


class Side(NamedTuple):
    """Unit rows of the queries or the bank, and the same less a centre c in bfloat16."""

    rows: Float[Tensor, "n D"]  # float64
    short: Float[Tensor, "n D"]  # bfloat16
    length: Float[Tensor, " n"]  # of row − c
    lost: Float[Tensor, " n"]  # length of what the rounding to bfloat16 took
    along: Float[Tensor, " n"]  # row · c, float64
    centre: Float[Tensor, " D"]  # float64


def _side(x: Tensor, centre: Tensor) -> Side:
    rows = unit_rows(x)
    apart = rows - centre
    short, rows, centre = apart.bfloat16(), rows.double(), centre.double()
    return Side(rows, short, vector_norm(apart, dim=1), vector_norm(apart - short, dim=1), rows @ centre, centre)


def _merged(parts: Sequence[Neighbours], k: int) -> Neighbours:
    """The best k of all; where there are fewer, −∞ and row 0 behind them. Rows of the bank ascend among equals, from
    part to part as well, and the first is the better.

    One whole number stands for both, so that no two are equal: a cosine is a multiple of 2⁻⁴⁸ and little above 1.
    """
    similar, rows = (torch.cat(columns, 1) for columns in zip(*parts, strict=True))
    width = rows.shape[1]
    if width <= PLACES:
        places = torch.arange(width, device=rows.device)
        order = (similar.clamp(min=-2) * GRID**2).long().mul_(PLACES).sub_(places)
        order = order.topk(min(k, width), dim=1).values.neg_() & (PLACES - 1)
    else:
        order = similar.sort(dim=1, descending=True, stable=True).indices[:, :k]
    lack = max(k - width, 0)
    return Neighbours(
        F.pad(similar.gather(1, order), (0, lack), value=-torch.inf), F.pad(rows.gather(1, order), (0, lack))
    )


def _best_of(
    queries: Side, bank: Side, best: Neighbours, guess: Tensor | None, *, k: int, plan: SearchPlan, room: Tensor
) -> Neighbours:
    """At least those of the k nearest of a block of the bank that can still be among the k nearest of all, and are as
    near as was guessed; −∞ where a query has fewer than another."""
    pairs = _candidates(queries, bank, best, guess, k=k, most=plan.pairs, room=room)
    if pairs is None:
        parts = [_nearest_of_all(part, bank.rows, min(k, len(bank.rows))) for part in queries.rows.split(plan.chunk)]
        return Neighbours(torch.cat([part.similar for part in parts]), torch.cat([part.rows for part in parts]))
    return _ranked(*pairs, _cosines(queries.rows, bank.rows, *pairs), k=k, count=len(queries.rows))


def _nearest_of_all(queries: Tensor, bank: Tensor, k: int) -> Neighbours:
    """By the whole product in float64; exactly k for each query, in the order of rows."""
    similar = queries @ bank.T
    least = similar.topk(k, dim=1).values[:, -1:]
    above, level = similar > least, similar == least
    chosen = above | (level & (level.cumsum(1) <= k - above.sum(1, keepdim=True)))
    rows = chosen.nonzero()[:, 1].view(-1, k)
    return Neighbours(similar.gather(1, rows), rows)


def _cosines(queries: Tensor, bank: Tensor, query: Tensor, row: Tensor) -> Tensor:
    """Float64 products of chosen pairs, queries in ascending order; nothing is gathered."""
    ends, zeros = F.pad(query.bincount(minlength=len(queries)).cumsum(0), (1, 0)), queries.new_zeros(len(row))
    if not len(row):
        return zeros
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        chosen = torch.sparse_csr_tensor(ends, row, zeros, (len(queries), len(bank)), check_invariants=False)
    return torch.sparse.sampled_addmm(chosen, queries, bank.T, beta=0.0).values()


def _ranked(query: Tensor, row: Tensor, similar: Tensor, *, k: int, count: int) -> Neighbours:
    """Pairs, in the order of queries and then of rows, as a table of each query's; its best k where some have many."""
    place = torch.arange(len(query), device=query.device) - torch.searchsorted(query, query)
    width = int(place.max()) + 1 if len(place) else 0
    if width > WIDE * k:
        # one whole number for both: a cosine is a multiple of 2⁻⁴⁸ and little above 1, a query is below 2¹³
        order = ((query << 50) - (similar * GRID**2).long()).argsort(stable=True)
        kept = place < k
        query, place, row, similar, width = query[kept], place[kept], row[order[kept]], similar[order[kept]], k
    found = Neighbours(similar.new_full((count, width), -torch.inf), row.new_zeros(count, width))
    found.similar[query, place] = similar
    found.rows[query, place] = row
    return found


def _candidates(
    queries: Side, bank: Side, best: Neighbours, guess: Tensor | None, *, k: int, most: int, room: Tensor
) -> Pairs | None:
    """All that can reach the k-th best cosine of a query so far, and the guess; None where they are more than `most`,
    or than pay.

    Before there is either, the k-th largest of the groups' maxima stands for it: k rows at least come as near.
    """
    floor = best.similar[:, k - 1] if best.similar.shape[1] == k else guess
    if floor is not None and guess is not None:
        floor = floor.maximum(guess)
    if floor is None and len(bank.rows) < k * GROUP:
        return None
    tile, offset, slack = _rough(queries, bank, room)
    most = min(most, tile.numel() // LIMIT)
    groups = tile.unflatten(0, (-1, GROUP))
    highest = groups.amax(1)
    if floor is None:
        seen = highest.T.float().contiguous().topk(k, dim=1).values[:, -1]
        floor = offset + (seen - seen.abs() * 2**-8 - slack)  # bfloat16 rounds by up to 2⁻⁸ of the value
    # rounding keeps the order, so a similarity that reached the floor before it was rounded still does
    need = (floor - offset - slack).float().to(tile.dtype)
    group, query = (highest >= need).nonzero(as_tuple=True)
    if len(group) > most:
        return None
    hit, member = (groups[group, :, query] >= need[query, None]).nonzero(as_tuple=True)
    if len(hit) > most:
        return None
    order = query[hit].argsort(stable=True)
    return query[hit][order], (group[hit] * GROUP + member)[order]


def _rough(queries: Side, bank: Side, room: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Similarities up to an error, into `room`: before that is rounded, |tile[b, q] + offset[q] − cosine| ≤ slack[q].

    With a centre c, q·b = (q − c)·(b − c) + (b − c)·c + q·c. The first term is taken between rows rounded to bfloat16:
    centred rows are short where features crowd in one direction, and so are their errors. The second rides along as
    three columns of bfloat16, which hold a float32 to the bit; the third is the offset. By Cauchy–Schwarz, rounding x
    to x' and y to y' moves x·y by at most |x − x'| |y| + |x'| |y − y'|; a sum of n products in float32 by at most
    n 2⁻²⁴ of the sum of their sizes, which is doubled here.
    """
    bias = bank.along - bank.centre @ bank.centre
    right, lost = bank.length.max(), bank.lost.max()
    left = queries.length + queries.lost
    terms = left * (right + lost) + 3 * bias.abs().max()
    slack = queries.lost * right + left * lost + (bank.rows.shape[1] + GROUP) * 2.0**-23 * terms
    thirds = [bias.bfloat16()]
    thirds.append((bias - thirds[0]).bfloat16())
    thirds.append((bias - thirds[0] - thirds[1]).bfloat16())
    spare = -len(bias) % GROUP  # a last group is filled up with rows that are nobody's neighbour
    rows = F.pad(torch.cat([bank.short, torch.stack(thirds, 1)], 1), (0, 5, 0, spare)).to(room.dtype)
    columns = F.pad(F.pad(queries.short, (0, 3), value=1), (0, 5)).to(room.dtype)
    tile = torch.mm(rows, columns.T, out=room[: len(rows) * len(columns)].view(len(rows), len(columns)))
    if spare:
        tile[-spare:] = -torch.inf
    return tile, queries.along, slack.double()


def _product_type(device: torch.device) -> torch.dtype:
    """bfloat16 on CPUs that multiply it natively, with sums in float32; elsewhere its values as float32."""
    able = getattr(torch.cpu, "get_capabilities", dict)()
    native = device.type == "cpu" and (able.get("avx512_bf16") or able.get("amx_bf16"))
    return torch.bfloat16 if native else torch.float32
