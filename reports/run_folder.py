"""What a run's folder holds, read once: the experiment, the result rows, the training curves, the state of each run.

Only tables are read, never weights. A line torn by a killed process is skipped, a missing file leaves a gap that
`Run.gaps` names; only a folder that cannot give any report at all is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.disk import read_json, read_rows
from common.errors import BadInput, first_line
from evals.results.table import Row, load

TRUNK = "trunk"
COLUMN_KEYS = ("eval", "dataset", "split", "metric", "protocol", "protocol_hash", "size")


@dataclass(frozen=True)
class Status:
    """State of one arm with one seed: "done", "running", "failed", "interrupted", or "absent" where no file tells."""

    state: str = "absent"
    step: int | None = None
    steps: int | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    peak_memory_gib: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Event:
    """Something that happened to an arm at a step: "fork", "gram_start" or "gram_update"."""

    step: int
    kind: str


@dataclass(frozen=True)
class Term:
    """A term of the training loss: how it is called, and whether it is kept to a Gram teacher (off where it is 0)."""

    title: str
    anchored: bool = False


class Line(NamedTuple):
    """A logged series without gaps: steps [n] and values [n]."""

    steps: np.ndarray
    values: np.ndarray


Curve = Mapping[str, Line]


@dataclass(frozen=True)
class Run:
    """One experiment as its tables tell it; `curves` and `status` are keyed by (arm, seed)."""

    folder: Path
    name: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
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
    chance: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[tuple[str, int], Curve] = field(default_factory=dict)
    status: Mapping[tuple[str, int], Status] = field(default_factory=dict)

    @property
    def has_trunk(self) -> bool:
        return self.trunk_steps > 0 or any(row.arm == TRUNK for row in self.rows)

    @cached_property
    def by_column(self) -> dict[tuple[Any, ...], list[Row]]:
        """The rows apart by what they measure: the values of `COLUMN_KEYS`."""
        groups: dict[tuple[Any, ...], list[Row]] = {}
        for row in self.rows:
            groups.setdefault(tuple(getattr(row, key) for key in COLUMN_KEYS), []).append(row)
        return groups

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
    record = _experiment(folder)
    path = folder / "results.jsonl"
    rows = _rows(path)
    if not rows:
        raise BadInput(f"got no result rows in {path}: want at least one evaluated step; run the experiment first")
    arms = _mapping(record.get("arms"))
    names = tuple(arms) or tuple(dict.fromkeys(row.arm for row in rows if row.arm != TRUNK))
    seeds = tuple(record.get("seeds") or sorted({row.seed for row in rows}))
    if not names:
        raise BadInput(f"got no arm in {folder / 'experiment.json'}: want at least one; run the experiment again")
    baseline = str(record.get("baseline") or names[0])
    if baseline not in names:
        raise BadInput(f"got baseline '{baseline}' in {folder / 'experiment.json'}: want one of {', '.join(names)}")
    lanes = [(arm, seed) for arm in (TRUNK, *names) for seed in seeds]
    return Run(
        folder=folder,
        name=str(record.get("name") or folder.name),
        arms=names,
        seeds=seeds,
        baseline=baseline,
        rows=rows,
        **{key: str(record.get(key) or "") for key in ("question", "source", "expected", "cost")},
        steps=record.get("steps"),
        trunk_steps=int(record.get("trunk_steps") or 0),
        summaries={arm: str(_mapping(entry).get("summary") or "") for arm, entry in arms.items()},
        overrides={arm: _mapping(_mapping(entry).get("overrides")) for arm, entry in arms.items()},
        events={arm: _events(entries) for arm, entries in _mapping(record.get("events")).items()},
        config=_mapping(record.get("config")),
        environment=_mapping(record.get("environment")),
        notes=tuple(str(note) for note in record.get("notes") or ()),
        losses={name: _term(name, entry) for name, entry in _mapping(record.get("losses")).items()},
        chance=_mapping(record.get("chance")),
        curves={lane: curve for lane in lanes if (curve := _curve(_lane_folder(folder, *lane)))},
        status={lane: _status(_lane_folder(folder, *lane)) for lane in lanes},
    )


def gaps(run: Run) -> list[str]:
    """What is not finished or has no evaluation rows, a sentence for each state with the arms and seeds in it."""
    found: dict[str, list[str]] = {}
    seen = {(row.arm, row.seed) for row in run.rows}
    for lane in run.lanes:
        for seed in run.seeds:
            who = f"{lane} seed {seed}" if len(run.seeds) > 1 else lane
            status, has_rows = run.status.get((lane, seed), Status()), (lane, seed) in seen
            sentence = _unfinished(status, has_rows)
            if sentence and not (lane == TRUNK and status.state == "absent"):
                found.setdefault(sentence, []).append(who)
    return [f"{', '.join(who)}: {sentence}" for sentence, who in found.items()]


def _term(name: str, entry: Any) -> Term:
    known = _mapping(entry)
    return Term(str(known.get("title") or name), anchored=bool(known.get("anchored")))


def _unfinished(status: Status, has_rows: bool) -> str:
    rows = "" if has_rows else "; no evaluation rows"
    progress = f" at step {status.step} of {status.steps}" if status.step is not None else ""
    if status.state == "absent":
        return "no record of its end" if has_rows else "not started"
    if status.state == "done":
        return "" if has_rows else "done, but without evaluation rows"
    return f"{status.state}{progress}{rows}" + (f" ({first_line(status.error, 140)})" if status.error else "")


def _experiment(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise BadInput(f"got no folder {folder}: want the folder of a run; give runs/<experiment>")
    path = folder / "experiment.json"
    if not path.is_file():
        raise BadInput(f"got no experiment.json in {folder}: want the folder of a run; give runs/<experiment>")
    return read_json(path, remedy="run the experiment again")


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _events(entries: Any) -> tuple[Event, ...]:
    events = [Event(int(entry["step"]), str(entry["kind"])) for entry in entries or ()]
    return tuple(sorted(events, key=lambda event: (event.step, event.kind)))


def _lane_folder(folder: Path, arm: str, seed: int) -> Path:
    return folder / f"{arm}-s{seed}"


def _rows(path: Path) -> tuple[Row, ...]:
    records = load(path).to_dict("records") if path.is_file() else []
    return tuple(_row({str(key): value for key, value in record.items()}) for record in records)


def _row(record: dict[str, Any]) -> Row:
    """A row with the types it declares, whatever JSON's nulls have become."""
    numbers: dict[str, Any] = {key: _finite(record[key]) for key in ("value", "low", "high")}
    counts: dict[str, Any] = {
        "seed": int(record["seed"]),
        "step": int(record["step"]),
        "size": int(record["size"]),
        "images": int(np.nan_to_num(_finite(record["images"]))),
    }
    texts = ("run", "arm", "eval", "protocol", "protocol_hash", "dataset", "metric", "split", "data")
    fields: dict[str, Any] = {key: _text(record[key]) for key in texts}
    return Row(**fields, **counts, **numbers)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _finite(value: Any) -> float:
    """The number, or NaN for anything that is no finite number."""
    number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else float("nan")
    return number if math.isfinite(number) else float("nan")


def _status(folder: Path) -> Status:
    try:
        record = read_json(folder / "status.json", remedy="remove it")
    except (OSError, BadInput):
        return Status()
    return Status(**{key: value for key, value in record.items() if key in Status.__dataclass_fields__})


def _curve(folder: Path) -> Curve:
    """The training curve by name; later lines replace earlier ones of the same step."""
    rows = read_rows(folder / "metrics.jsonl")
    records = {int(row["step"]): row for row in rows if math.isfinite(_finite(row.get("step")))}
    names = dict.fromkeys(name for record in records.values() for name in record)
    curve = {name: {step: _finite(records[step].get(name)) for step in sorted(records)} for name in names}
    lines = {
        name: {step: value for step, value in line.items() if math.isfinite(value)} for name, line in curve.items()
    }
    return {
        name: Line(np.array([*line], dtype=float), np.array([*line.values()])) for name, line in lines.items() if line
    }
