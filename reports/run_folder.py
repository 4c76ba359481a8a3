"""What a run's folder holds, read once: the experiment, the result rows, the training curves, the state of each run.

Only tables are read, never weights. A damaged line is skipped and told in `Run.damaged`, a missing file leaves a gap
that `gaps` names; only a folder that cannot give any report at all is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from common.errors import BadInput, first_line
from common.records import Asked, BadStep, Happening, LossTerm, Status, read_record
from common.skips import Skip
from common.steps import KINDS, job_name, step_name
from common.timeline import Timeline
from evals.results import table
from evals.results.table import Row
from reports.lane_files import bad_steps_of, curve_of, plan_of, skipped_of, status_of, watched_of
from reports.parts import Curve, Part, ended, own
from reports.parts import parts as parts_of

TRUNK = "trunk"
COMPONENTS = "components"  # above the columns of each component in a training curve
AS_ASKED = ("question", "source", "expected", "cost", "steps", "trunk_steps")  # what a run has as its record says it
AS_ASKED += ("config", "environment", "trained", "chance", "evaluations")
COLUMN_KEYS = ("eval", "dataset", "split", "metric", "protocol", "protocol_hash", "size")


@dataclass(frozen=True)
class Event:
    """Something that happened to an arm at a step: "fork", "gram_start" or "gram_update"; "alarm", which started it."""

    step: int
    kind: str


@dataclass(frozen=True)
class Term:
    """A term of the training loss: how it is called, and whether it is kept to a Gram teacher (off where it is 0)."""

    title: str
    anchored: bool = False


@dataclass(frozen=True)
class Run:
    """One experiment as its tables tell it; `curves`, `status` and `parts` are keyed by (arm, seed).

    `seeds` are those of `asked_seeds` that were evaluated, or all of them where none was. `compute` holds each lane's
    operations of a step, with the step that they are counted from. `headline` holds of each measure that the report
    begins with evaluation, data set, split, metric and protocol hash. `watched` holds what runs measured of their Gram
    teachers to be and decided by it. `bad_steps` were passed over, images of `skipped` could not be read. `damaged`
    names each file, or line of one, that could not be read.
    """

    folder: Path
    name: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    asked_seeds: tuple[int, ...]
    baseline: str
    rows: tuple[Row, ...]
    question: str = ""
    source: str = ""
    expected: str = ""
    cost: str = ""
    steps: int | None = None
    trunk_steps: int = 0
    summaries: Mapping[str, str] = field(default_factory=dict)
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    events: Mapping[str, tuple[Event, ...]] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    losses: Mapping[str, Term] = field(default_factory=dict)
    trained: Mapping[str, Sequence[str]] = field(default_factory=dict)
    chance: Mapping[str, float] = field(default_factory=dict)
    evaluations: str = ""
    margins: Mapping[str, float] = field(default_factory=dict)
    headline: tuple[tuple[str, ...], ...] = ()
    parts: Mapping[tuple[str, int], Part] = field(default_factory=dict)
    compute: Mapping[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    curves: Mapping[tuple[str, int], Curve] = field(default_factory=dict)
    status: Mapping[tuple[str, int], Status] = field(default_factory=dict)
    watched: Mapping[tuple[str, int], tuple[Happening, ...]] = field(default_factory=dict)
    bad_steps: Mapping[tuple[str, int], tuple[BadStep, ...]] = field(default_factory=dict)
    skipped: Mapping[tuple[str, int], tuple[Skip, ...]] = field(default_factory=dict)
    plan: Timeline | None = None
    damaged: tuple[str, ...] = ()

    @cached_property
    def has_trunk(self) -> bool:
        return self.trunk_steps > 0 or TRUNK in self.evaluated

    @cached_property
    def evaluated(self) -> dict[str, int]:
        """The last step that rows tell of, by lane."""
        last: dict[str, int] = {}
        for row in self.rows:
            last[row.arm] = max(row.step, last.get(row.arm, 0))
        return last

    @property
    def judges_students(self) -> bool:
        """Whether students were evaluated, not their EMA teachers."""
        return self.config.get("evals", {}).get("network") == "student"

    @property
    def step_kind(self) -> str:
        """How the folders of evaluated steps are called, see `KINDS`."""
        return KINDS["student" if self.judges_students else "teacher"]

    def step_folder(self, lane: str, seed: int, step: int) -> Path:
        """Where what was evaluated of a lane after a step lies."""
        return self.folder / job_name(lane, seed) / step_name(step, self.step_kind)

    def part(self, lane: str, seed: int) -> Part:
        """What a lane trains by itself; where no record tells, arms fork from the end of the trunk."""
        if (lane, seed) in self.parts:
            return self.parts[lane, seed]
        if lane == TRUNK or not self.has_trunk:
            return Part(0, self.trunk_steps or None if lane == TRUNK else None, None)
        ends = [row.step for row in self.rows if row.arm == TRUNK]
        return Part(self.trunk_steps or max(ends), None, TRUNK)

    @cached_property
    def forks(self) -> tuple[int, ...]:
        """The steps at which arms leave the trunk or one another."""
        parts = (self.part(arm, seed) for arm in self.arms for seed in self.seeds)
        return tuple(sorted({part.start for part in parts if part.parent is not None and part.start}))

    @cached_property
    def by_column(self) -> dict[tuple[Any, ...], list[Row]]:
        """The rows apart by what they measure: the values of `COLUMN_KEYS`."""
        groups: dict[tuple[Any, ...], list[Row]] = {}
        for row in self.rows:
            groups.setdefault(tuple(getattr(row, key) for key in COLUMN_KEYS), []).append(row)
        return groups

    def who(self, lane: str, seed: int) -> str:
        """How a lane with a seed is called in a sentence."""
        return f"{lane} seed {seed}" if len(self.asked_seeds) > 1 else lane

    @property
    def lanes(self) -> tuple[str, ...]:
        """The trunk, if there is one, then the arms."""
        return ((TRUNK,) if self.has_trunk else ()) + self.arms

    @property
    def others(self) -> tuple[str, ...]:
        """The arms that are compared with the baseline."""
        return tuple(arm for arm in self.arms if arm != self.baseline)


def read(folder: Path) -> Run:
    """Read `runs/<experiment>`; BadInput when the folder, its experiment.json or every result row is missing."""
    asked = _asked(folder)
    rows, told = _rows(folder)
    names, seeds, baseline = _arms(asked, rows, folder / "experiment.json")
    lanes = {(arm, seed): folder / job_name(arm, seed) for arm in (TRUNK, *names) for seed in seeds}
    parts = parts_of(asked)
    curves = {lane: curve for lane, place in lanes.items() if (curve := own(curve_of(place, told), parts.get(lane)))}
    watched = {lane: found for lane, place in lanes.items() if (found := watched_of(place, told))}
    return Run(
        folder=folder,
        name=asked.get("name") or folder.name,
        arms=names,
        seeds=tuple(seed for seed in seeds if any(row.seed == seed for row in rows)) or seeds,
        asked_seeds=seeds,
        baseline=baseline,
        rows=rows,
        **_as_asked(asked),
        events={
            arm: _events(entries, [one for seed in seeds for one in watched.get((arm, seed), ())])
            for arm, entries in asked.get("events", {}).items()
        },
        parts=parts,
        curves=curves,
        status={
            lane: ended(status_of(place, told), parts.get(lane), curves.get(lane)) for lane, place in lanes.items()
        },
        watched=watched,
        bad_steps={lane: bad for lane, place in lanes.items() if (bad := bad_steps_of(place, parts.get(lane), told))},
        skipped={lane: found for lane, place in lanes.items() if (found := skipped_of(place, told))},
        plan=plan_of(folder, told),
        damaged=tuple(said.replace(f"{folder}/", "") for said in told),
    )


def _arms(asked: Asked, rows: Sequence[Row], record: Path) -> tuple[tuple[str, ...], tuple[int, ...], str]:
    """Arms, seeds and baseline, by the rows where the record does not tell."""
    names = tuple(asked.get("arms", {})) or tuple(dict.fromkeys(row.arm for row in rows if row.arm != TRUNK))
    if not names:
        raise BadInput(f"got no arm in {record}: want at least one; run the experiment again")
    baseline = asked.get("baseline") or names[0]
    if baseline not in names:
        raise BadInput(f"got baseline '{baseline}' in {record}: want one of {', '.join(names)}")
    return names, tuple(asked.get("seeds") or sorted({row.seed for row in rows})), baseline


def _as_asked(asked: Asked) -> dict[str, Any]:
    """The fields of a run that say what its record says, each in the form that `Run` has."""
    arms, compute = asked.get("arms", {}), asked.get("compute", {})
    same = dict[str, Any]({key: value for key, value in asked.items() if key in AS_ASKED})
    return same | {
        "summaries": {arm: entry.get("summary", "") for arm, entry in arms.items()},
        "overrides": {arm: entry.get("overrides", {}) for arm, entry in arms.items()},
        "notes": tuple(asked.get("notes", ())),
        "losses": {name: _term(name, entry) for name, entry in asked.get("losses", {}).items()},
        "margins": asked.get("config", {}).get("margins", {}),
        "headline": tuple(map(tuple, asked.get("headline", []))),
        "compute": {lane: tuple((at["from"], at["flops"]) for at in steps) for lane, steps in compute.items()},
    }


def gaps(run: Run) -> list[str]:
    """What is not finished, has no evaluation rows or is damaged; a sentence for each state with the arms in it."""
    found: dict[str, list[str]] = {}
    seen = {(row.arm, row.seed) for row in run.rows}
    for lane in run.lanes:
        for seed in run.asked_seeds:
            status, has_rows = run.status.get((lane, seed), Status()), (lane, seed) in seen
            sentence = _unfinished(status, has_rows) or _unlogged(status, run.curves.get((lane, seed), {}))
            if sentence and not (lane == TRUNK and status.state == "absent"):
                found.setdefault(sentence, []).append(run.who(lane, seed))
    return [*(f"{', '.join(who)}: {sentence}" for sentence, who in found.items()), *run.damaged]


def _unfinished(status: Status, has_rows: bool) -> str:
    rows = "" if has_rows else "; no evaluation rows"
    progress = f" at step {status.step} of {status.steps}" if status.step is not None else ""
    if status.state == "absent":
        return "no record of its end" if has_rows else "not started"
    if status.state == "done":
        return "" if has_rows else "done, but without evaluation rows"
    return f"{status.state}{progress}{rows}" + (f" ({first_line(status.error, 140)})" if status.error else "")


def _unlogged(status: Status, curve: Curve) -> str:
    """What a finished job's training curve lacks at its end, which is always logged."""
    if status.state != "done" or status.step is None:
        return ""
    last = int(curve["step"].steps[-1]) if curve else 0
    ends = f"ends at step {last} of {status.step}" if last else "is lost"
    return f"done, but its training curve (metrics.jsonl) {ends}" if last < status.step else ""


def _asked(folder: Path) -> Asked:
    if not folder.is_dir():
        raise BadInput(f"got no folder {folder}: want the folder of a run; give runs/<experiment>")
    path = folder / "experiment.json"
    if not os.path.lexists(path):
        raise BadInput(f"got no experiment.json in {folder}: want the folder of a run; give runs/<experiment>")
    return read_record(path, Asked, remedy="move it away and run the experiment again, which writes it anew")


def _rows(folder: Path) -> tuple[tuple[Row, ...], list[str]]:
    """The result rows, and what is damaged in their table."""
    path = folder / "results.jsonl"
    found = table.read(path)
    if not found.rows:
        said = "".join(f" ({line})" for line in found.told())
        raise BadInput(f"got no result rows in {path}{said}: want at least one evaluated step; run the experiment")
    return tuple(found.rows), found.told()


def _term(name: str, entry: LossTerm) -> Term:
    return Term(entry.get("title", name), entry.get("anchored", False))


def _events(entries: Sequence[Happening], watched: Sequence[Happening]) -> tuple[Event, ...]:
    """What was to happen, and what the runs decided by themselves: a start that was not planned was an alarm's."""
    decided = [one for one in watched if one["kind"] != "measured"]
    events = {Event(entry["step"], entry["kind"]) for entry in [*entries, *decided]}
    if not any(entry["kind"] == "gram_start" for entry in entries):
        events |= {Event(one["step"], "alarm") for one in decided if one["kind"] == "gram_start"}
    return tuple(sorted(events, key=lambda event: (event.step, event.kind)))
