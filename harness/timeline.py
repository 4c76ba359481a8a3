"""The timeline of a plan: what happens when, and every scheduled value, in each arm and in what it forks from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.records import Asked
from common.timeline import Curve, Lane, Timeline
from harness import gram_teacher
from harness.arms import TRUNK
from harness.data.sizes import mean, sides
from harness.job import Job
from harness.losses.table import titles
from harness.record import baseline, taught
from harness.schedules import At, at, ends
from harness.settings import Experiment

MOST = 200_000  # values of one series, over all arms
SPREAD, WITHIN = 200, 24  # steps of a run, and of a stretch in which something moves, that are looked at
Value = Callable[[Experiment, At], float | None]
Taken = Mapping[str, Sequence[tuple[Experiment, At]]]  # the steps of each arm that are looked at


@dataclass(frozen=True)
class PlannedArm:
    """The trunk, or an arm, as it is planned for every seed alike: its own steps, from `start` to `stop`.

    begin: the step at which the step counter begins.
    origin: the step that its schedules count from: that one, or its own first.
    parent: the name of the one that it goes on from, at its `start`.
    evaluations, snapshots: steps after which it is evaluated, and its EMA backbone kept for an arm.
    """

    name: str
    settings: Experiment
    begin: int
    origin: int
    start: int
    stop: int
    parent: str | None = None
    evaluations: Sequence[int] = ()
    snapshots: Sequence[int] = ()

    def at(self, step: int) -> At:
        """Every scheduled value at one of its steps."""
        return at(self.settings, step, origin=self.origin, stop=self.stop)


def planned_arms(jobs: Sequence[Job]) -> list[PlannedArm]:
    """Those of one seed's jobs, parents first."""
    return [
        PlannedArm(
            name=job.arm,
            settings=job.settings,
            begin=job.beginning.start,
            origin=job.origin,
            start=job.start,
            stop=job.stop,
            parent=job.parent.arm if job.parent else None,
            evaluations=job.evaluations,
            snapshots=job.snapshots,
        )
        for job in jobs
        if job.seed == jobs[0].seed
    ]


def timeline(experiment: Experiment, found: Sequence[PlannedArm], *, record: Asked) -> Timeline:
    """What `reports/timeline.py` draws.

    Args:
        found: parents before what forks from them.
        record: what the run's folder holds of earlier starts, whose arms the report names before others.
    """
    steps = looked_at(found)
    taken = {
        one.name: [(one.settings, one.at(step)) for step in steps if one.start <= step < one.stop] for one in found
    }
    constants, changing = list[str](), dict[str, tuple[Curve, ...]]()
    for title, value in series(taken).items():
        curves = curves_of(value, found, taken)
        values = {one for curve in curves for one in curve.values} - {None}
        if len(values) > 1:
            changing[title] = curves
        elif values:
            constants.append(f"{title} {values.pop():.4g}")
    arms, first = {**record.get("arms", {}), **experiment.arms}, baseline(experiment, record)
    return Timeline(
        experiment.name,
        experiment.question,
        arms=tuple(sorted(arms, key=lambda arm: arm != first)),
        lanes=tuple(map(lane, below(None, found))),
        constants=tuple(constants),
        changing=changing,
    )


def below(parent: str | None, found: Sequence[PlannedArm]) -> Iterator[PlannedArm]:
    """What forks from there, each followed by what forks from it in its turn."""
    for one in found:
        if one.parent == parent:
            yield one
            yield from below(one.name, found)


# --- what happens


def lane(one: PlannedArm) -> Lane:
    """When what happens in an arm."""
    gram, every = one.settings.gram, one.settings.runtime.checkpoint_every
    events = gram_teacher.events(gram, one.start, one.stop)
    return Lane(
        name=one.name,
        parent=one.parent,
        start=one.start,
        stop=one.stop,
        evaluations=one.evaluations,
        states=range(one.start - one.start % every + every, one.stop + 1, every),
        words=taught(one.settings) + gram_teacher.phrase(gram, one.settings.crops),
        gram_start=gram.first_step if gram.weight > 0 else None,
        renewals=[event["step"] for event in events if event["kind"] == "gram_update"],
        frozen=one.snapshots,
    )


# --- what moves


def series(taken: Taken) -> dict[str, Value]:
    """Every value that a page may show, by its title; rates of a part where they are others than that of the heads."""
    frozen = any(now.last_layer_lr != now.lr for path in taken.values() for _, now in path)
    apart = any(backbone_lr(own, now) != now.lr for path in taken.values() for own, now in path)
    terms = titles([own for path in taken.values() for own, _ in path[:1]])
    drawn = any(own.crops.sizes is not None for path in taken.values() for own, _ in path)
    pixels = "pixels, mean of what is drawn" if drawn else "pixels"
    return {
        "Learning rate": lambda own, now: now.lr,
        **({"Learning rate of the backbone": backbone_lr} if apart else {}),
        **({"Learning rate of the prototypes": lambda own, now: now.last_layer_lr} if frozen else {}),
        "Weight decay": lambda own, now: now.weight_decay,
        "Teacher temperature": lambda own, now: now.temperature,
        "EMA momentum": lambda own, now: now.momentum,
        **{f"Weight of {title}": lambda own, now, term=term: now.factors[term] for term, title in terms.items()},
        f"Global crops ({pixels})": lambda own, now: mean(sides(own.crops)).globals,
        f"Local crops ({pixels})": lambda own, now: mean(sides(own.crops)).locals,
        "Local crops (number)": lambda own, now: own.crops.local_count,
        f"Gram teacher's crops ({pixels})": gram_side,
        "Homogeneous batches (share)": lambda own, now: own.data.homogeneous_share,
        "Images in a step": lambda own, now: own.data.batch_size,
    }


def backbone_lr(own: Experiment, now: At) -> float:
    """Rate of the backbone's last block but for layer decay: 0 while it is frozen."""
    return 0.0 if now.backbone_frozen else now.lr * own.optimizer.backbone_lr


def gram_side(own: Experiment, now: At) -> float | None:
    """Side of the crops that the Gram teacher sees, where its loss is on."""
    on = gram_teacher.is_on(own.gram, now.step)
    return mean(sides(own.crops, resolution=own.gram.resolution)).gram if on else None


def curves_of(value: Value, found: Sequence[PlannedArm], taken: Taken) -> tuple[Curve, ...]:
    """The value along the path of every arm, arms that agree throughout in one curve."""
    known = {name: [(now.step, value(own, now)) for own, now in path] for name, path in taken.items()}
    parents = {one.name: one for one in found}
    together = dict[tuple, list[PlannedArm]]()
    for arm in (one for one in found if one.name != TRUNK or len(found) == 1):
        path, child = known[arm.name], arm
        while child.parent is not None:
            path = [pair for pair in known[child.parent] if pair[0] < child.start] + path
            child = parents[child.parent]
        together.setdefault((arm.stop, *path), []).append(arm)
    return tuple(
        Curve(
            arms=tuple(arm.name for arm in arms),
            begin=min(arm.start for arm in arms),
            stop=stop,
            steps=tuple(step for step, _ in path),
            values=tuple(one for _, one in path),
        )
        for (stop, *path), arms in together.items()
    )


def looked_at(found: Sequence[PlannedArm]) -> list[int]:
    """Steps that show how every value moves: some everywhere, more where something moves, all around a jump."""
    chosen = {*spread(min(one.start for one in found), max(one.stop for one in found), SPREAD)}
    for begin, stop in {pair for one in found for pair in moving(one)}:
        chosen |= {*spread(begin, stop, WITHIN), begin - 1, begin + 1, stop - 2, stop}
    fewer = -(-len(chosen) * len(found) // MOST)
    return sorted(chosen)[::fewer]


def moving(one: PlannedArm) -> Iterator[tuple[int, int]]:
    """From which step to before which one something moves, or is as it is."""
    own, begin, gram = one.settings, one.origin, one.settings.gram
    yield one.start, one.stop
    for length in (
        own.optimizer.warmup_steps,
        own.optimizer.freeze_last_layer_steps,
        own.optimizer.freeze_backbone_steps,
        own.teacher.temperature_warmup_steps,
    ):
        yield begin, begin + length
    if ends(own):
        yield begin + own.optimizer.warmup_steps, own.schedule.end_step or one.stop
    if gram.weight > 0:
        yield gram.first_step, gram.first_step + gram.warmup_steps
    if gram.weight > 0 and gram.weight_end is not None:
        yield gram.warm_step, own.schedule.end_step or one.stop


def spread(start: int, stop: int, count: int) -> list[int]:
    """At most so many steps from `start` to before `stop`, both ends among them."""
    return [math.floor(step) for step in np.linspace(start, max(stop - 1, start), min(count, max(stop - start, 1)))]
