"""Where what each arm was trained with came from: forks, shared segments, what lay in the store, how far each came."""

from __future__ import annotations

from typing import NamedTuple

from common.errors import listing
from common.timeline import Lane
from reports.run_folder import TRUNK, Run


class Stretch(NamedTuple):
    """A lane as it was trained: what its plan draws, and the steps that seeds reached; `notes` say what it shares.

    found: the step up to which it lay in the store with every seed before the experiment began; None where nothing
    tells, or it lay there with none.
    """

    lane: Lane
    reached: int
    found: int | None
    notes: tuple[str, ...]


def stretches(run: Run) -> list[Stretch]:
    """The lanes in the order of a tree: what forks from a lane stands below it."""
    return [_stretch(run, name) for name in _below(run, None)]


def segments(run: Run) -> tuple[int, int]:
    """How many jobs (lanes with a seed) there are, and how many segments they were trained in; 0 where none is told."""
    found = [part.segment for part in run.parts.values() if part.segment]
    return len(found), len(set(found))


def _below(run: Run, parent: str | None) -> list[str]:
    seed = run.seeds[0]
    own = [lane for lane in run.lanes if run.part(lane, seed).parent == parent and lane != parent]
    if parent is None:  # a record by hand may name a parent that is no lane
        own = [lane for lane in run.lanes if run.part(lane, seed).parent not in run.lanes]
    return [name for lane in own for name in (lane, *_below(run, lane))]


def _stretch(run: Run, name: str) -> Stretch:
    own = [row.step for row in run.rows if row.arm == name]
    parts = [run.part(name, seed) for seed in run.seeds]
    stops = [part.stop for part in parts if part.stop is not None]
    stop = max([*stops, *own, parts[0].start])
    events = run.events.get(name, ())
    starts = [event.step for event in events if event.kind == "gram_start"]
    lane = Lane(
        name=name, parent=parts[0].parent, start=parts[0].start, stop=stop, evaluations=sorted(set(own)), states=[],
        words=run.summaries.get(name, "shared start of all arms" if name == TRUNK else ""),
        gram_start=min(starts, default=None),
        renewals=[event.step for event in events if event.kind == "gram_update"], frozen=[],
    )  # fmt: skip
    known = [status.step for seed in run.seeds if (status := run.status.get((name, seed))) and status.step is not None]
    reached = max([*(min(step, stop) for step in known), *own], default=lane.start)
    found = [part.found for part in parts if part.found is not None and part.found > part.start]
    return Stretch(lane, reached, min(found) if len(found) == len(parts) else None, _notes(run, name, len(found)))


def _notes(run: Run, name: str, found: int) -> tuple[str, ...]:
    seed = run.seeds[0]
    part, said = run.part(name, seed), []
    if part.segment:
        others = [lane for lane in run.lanes if lane != name and run.part(lane, seed).segment == part.segment]
        if others:
            said.append(f"one segment with {listing(others, most=3)}")
    if part.taught_by:
        said.append(f"taught by {part.taught_by}")
    if found:
        said.append(f"from the store: {found} of {len(run.seeds)} seeds" if len(run.seeds) > 1 else "from the store")
    return tuple(said)
