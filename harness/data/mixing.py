"""Which images make up a step's batch: a mixture of the pool, or images of one component only (DINOv3 §3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np

from common import draws
from common.errors import BadInput, listing
from harness.data.pool import Pool
from harness.data_settings import Data

NEAR = 3  # known names that a refusal lists


class Composition(NamedTuple):
    """Indices into the pool, int64 [B], and the component they all come from, or None for a mixture."""

    indices: np.ndarray
    component: str | None


class Part(NamedTuple):
    """Images of the pool, by sorted indices, and how often they are drawn: in proportion to all weights."""

    members: np.ndarray
    weight: float


@dataclass(frozen=True)
class Mixture:
    """How batches are composed: with probability `share` from one part of `alone`, else from all parts of `mixed`."""

    alone: Mapping[str, Part]
    mixed: Mapping[str, Part]
    share: float
    batch_size: int

    def compose(self, seed: int, step: int) -> Composition:
        """The batch of a step.

        Without replacement within the batch, unless a part has fewer images than are taken of it. A mixed batch is the
        same whatever the share, so that runs with different shares agree on the steps that both mix.
        """
        if draws.uniforms(seed, step, "mixing/share", 1)[0] >= self.share:
            return Composition(self._mix(seed, step), None)
        (which,) = _drawn([*self.alone.values()], draws.uniforms(seed, step, "mixing/component", 1))
        name = list(self.alone)[which]
        members = self.alone[name].members
        return Composition(members[_take(seed, step, "mixing/members", len(members), self.batch_size)], name)

    def _mix(self, seed: int, step: int) -> np.ndarray:
        """Each place of the batch draws its part, and each part its images."""
        parts = [*self.mixed.values()]
        which = _drawn(parts, draws.uniforms(seed, step, "mixing/parts", self.batch_size))
        indices = np.empty(self.batch_size, np.int64)
        for number, part in enumerate(parts):
            here = which == number
            taken = _take(seed, step, "mixing/pool", len(part.members), int(here.sum()), number)
            indices[here] = part.members[taken]
        return indices

    def expected(self, members: np.ndarray) -> float:
        """The share of all images that is asked of `members`, sorted indices into the pool."""
        ways = ((self.alone, self.share), (self.mixed, 1 - self.share))
        return sum(share * _share_within(parts, members) for parts, share in ways if share)


def mixture(pool: Pool, data: Data) -> Mixture:
    """What the settings ask of a pool. Raises BadInput for names that it has not, and for images that would come twice.

    Where no names are given, any component may be homogeneous, in proportion to its size, and mixed batches are drawn
    from the pool as a whole.
    """
    alone = {name: Part(members, len(members)) for name, members in pool.components.items()}
    mixed = {"": Part(np.arange(len(pool)), 1.0)}
    if data.homogeneous is not None:
        alone = _named(pool, "data.homogeneous", data.homogeneous)
    if data.mixed is not None:
        mixed = _named(pool, "data.mixed", data.mixed)
        _refuse_overlap(mixed)
    return Mixture(alone, mixed, data.homogeneous_share, data.batch_size)


def named(pool: Pool) -> dict[str, np.ndarray]:
    """All that settings may name: sources as a whole, and components, sorted indices of each."""
    return pool.components | pool.whole_sources


def _named(pool: Pool, key: str, weights: Mapping[str, float]) -> dict[str, Part]:
    known = named(pool)
    if faults := [_unknown(key, name, [*known]) for name in weights if name not in known]:
        raise BadInput("\n".join(faults))
    return {name: Part(known[name], weight) for name, weight in weights.items()}


def _unknown(key: str, name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=NEAR)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {listing(known, most=NEAR)}"
    return f"got {key}.{name}: want a source, or one of its components; {hint}"


def _refuse_overlap(parts: Mapping[str, Part]) -> None:
    """A batch that took an image from two parts would hold it twice."""
    seen: dict[str, np.ndarray] = {}
    for name, part in parts.items():
        for other, members in seen.items():
            if np.intersect1d(part.members, members, assume_unique=True).size:
                raise BadInput(f"got data.mixed.{name}: {other} has images of it too: want each image in one of them")
        seen[name] = part.members


def _drawn(parts: Sequence[Part], uniforms: np.ndarray) -> np.ndarray:
    """Which part each uniform number falls on, in proportion to their weights."""
    ends = np.cumsum([part.weight for part in parts])
    return np.searchsorted(ends, uniforms * ends[-1], side="right")


def _share_within(parts: Mapping[str, Part], members: np.ndarray) -> float:
    total = sum(part.weight for part in parts.values())
    return sum(
        part.weight / total * np.intersect1d(part.members, members, assume_unique=True).size / len(part.members)
        for part in parts.values()
    )


def _take(seed: int, step: int, purpose: str, population: int, count: int, index: int = 0) -> np.ndarray:
    return draws.philox(seed, step, purpose, index).choice(population, count, replace=population < count)
