"""What is set side by side: which arms, with which seed, early and late, and from where they began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from reports.compared import Differences, foremost_of
from reports.estimates import primary
from reports.features.maps import Maps
from reports.pairing import Checkpoint
from reports.run_folder import Run

MOST_ARMS = 8  # side by side on a page


class Stage(NamedTuple):
    """A row of panels: its name, the step that most arms have there, and each arm's own checkpoint nearest to it."""

    name: str
    step: int
    by_arm: Mapping[str, Checkpoint]


class Sides(NamedTuple):
    """What pages set side by side: arms, of one seed, at one or two stages, and what all of them began with, if any."""

    arms: tuple[str, ...]
    left_out: int
    seed: int
    stages: tuple[Stage, ...]
    start: Checkpoint | None

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """All that stand in rows."""
        return [at for stage in self.stages for at in stage.by_arm.values()]


def sides(maps: Maps, compared: Differences) -> Sides | None:
    """None where no arm has pictures."""
    run = maps.run
    pictured = {seed: [arm for arm in run.arms if _own(maps, arm, seed)] for seed in run.seeds}
    seed = max(run.seeds, key=lambda seed: len(pictured[seed]), default=0)
    if not pictured.get(seed) or not maps.images:
        return None
    chosen = by_difference(run, compared, pictured[seed], most=MOST_ARMS)
    own = {arm: _own(maps, arm, seed) for arm in chosen}
    steps = [at.step for found in own.values() for at in found]
    usual = [step for step in {*steps} if 2 * steps.count(step) >= len(chosen)] or steps
    first, last = min(usual), max(usual)
    late = Stage("late", last, {arm: _at_most(found, last) for arm, found in own.items()})
    early = Stage("early", first, {arm: _at_least(found, first) for arm, found in own.items()})
    begun = {_before(maps, arm, own[arm]) for arm in chosen}
    stages = (late,) if early.by_arm == late.by_arm else (early, late)
    return Sides(chosen, len(pictured[seed]) - len(chosen), seed, stages, _shared(maps, begun))


def by_difference(run: Run, compared: Differences, arms: Sequence[str], *, most: int) -> tuple[str, ...]:
    """The arms in the run's order; of more than `most` the baseline and those that differ most from it in the leading
    dense measure."""
    if len(arms) <= most:
        return tuple(arms)
    gaps = dict(gap_by_arm(run, compared))
    ranked = sorted(arms, key=lambda arm: (arm != run.baseline, -gaps.get(arm, -1.0), arms.index(arm)))
    return tuple(arm for arm in arms if arm in ranked[:most])


def gap_by_arm(run: Run, compared: Differences) -> list[tuple[str, float]]:
    """How far each arm is from the baseline in the leading dense measure, either way, where that is known."""
    column = primary(run, "dense")
    found = [] if column is None else foremost_of(run, compared, column)
    return [(one.arm, abs(one.value)) for one in found if np.isfinite(one.value)]


def _own(maps: Maps, arm: str, seed: int) -> list[Checkpoint]:
    """The checkpoints that have learnt what sets the arm apart."""
    start = maps.run.part(arm, seed).start
    return sorted(at for at in maps.pictures.files if (at.lane, at.seed) == (arm, seed) and at.step > start)


def _before(maps: Maps, arm: str, own: Sequence[Checkpoint]) -> Checkpoint | None:
    """The last checkpoint on the arm's way before its own."""
    earlier = [at for at in maps.pictures.way(maps.run, arm, own[0].seed) if at not in own]
    return earlier[-1] if earlier else None


def _at_most(found: Sequence[Checkpoint], step: int) -> Checkpoint:
    return max((at for at in found if at.step <= step), default=found[0])


def _at_least(found: Sequence[Checkpoint], step: int) -> Checkpoint:
    return min((at for at in found if at.step >= step), default=found[-1])


def _shared(maps: Maps, begun: set[Checkpoint | None]) -> Checkpoint | None:
    """What all arms began with, where it makes the same of the first image."""
    known = [at for at in begun if at is not None]
    if not known or len(known) < len(begun):
        return None
    seen = [maps.seen(at, maps.images[0]) for at in sorted(known)]
    first = seen[0]
    alike = [one is not None and first is not None and np.array_equal(one.features, first.features) for one in seen]
    return min(known) if all(alike) else None
