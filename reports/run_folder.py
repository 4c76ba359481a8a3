"""What a run's folder holds, read once: the experiment, the result rows, the training curves, the state of each run.

Only tables are read, never weights. A line torn by a killed process is skipped, a missing file leaves a gap that
`Run.gaps` names; only a folder that cannot give any report at all is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evals.errors import BadInput
from evals.results import load

TRUNK = "trunk"


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
class Run:
    """One experiment as its tables tell it; `curves` and `status` are keyed by (arm, seed)."""

    folder: Path
    name: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    baseline: str
    rows: pd.DataFrame
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
    chance: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[tuple[str, int], pd.DataFrame] = field(default_factory=dict)
    status: Mapping[tuple[str, int], Status] = field(default_factory=dict)

    @property
    def has_trunk(self) -> bool:
        return self.trunk_steps > 0 or bool((self.rows["arm"] == TRUNK).any())

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
    rows = _numbers(load(path)) if path.is_file() else pd.DataFrame()
    if rows.empty:
        raise BadInput(f"got no result rows in {path}: want at least one evaluated step; run the experiment first")
    arms = _mapping(record.get("arms"))
    names = tuple(arms) or tuple(arm for arm in rows["arm"].unique() if arm != TRUNK)
    seeds = tuple(record.get("seeds") or sorted(int(seed) for seed in rows["seed"].unique()))
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
        chance=_mapping(record.get("chance")),
        curves={lane: curve for lane in lanes if not (curve := _curve(_lane_folder(folder, *lane))).empty},
        status={lane: _status(_lane_folder(folder, *lane)) for lane in lanes},
    )


def gaps(run: Run) -> list[str]:
    """One sentence for each arm and seed that is not finished, and for each that has no evaluation rows."""
    found = []
    seen = set(zip(run.rows["arm"], run.rows["seed"], strict=True))
    for lane in run.lanes:
        for seed in run.seeds:
            who = f"{lane}, seed {seed}" if len(run.seeds) > 1 else lane
            status, has_rows = run.status.get((lane, seed), Status()), (lane, seed) in seen
            sentence = _unfinished(status, has_rows)
            if sentence and not (lane == TRUNK and status.state == "absent"):
                found.append(f"{who}: {sentence}")
    return found


def _unfinished(status: Status, has_rows: bool) -> str:
    rows = "" if has_rows else "; no evaluation rows"
    progress = f" at step {status.step} of {status.steps}" if status.step is not None else ""
    if status.state == "absent":
        return "no record of its end" if has_rows else "not started"
    if status.state == "done":
        return "" if has_rows else "done, but without evaluation rows"
    return f"{status.state}{progress}{rows}" + (f" ({_first_line(status.error)})" if status.error else "")


def _first_line(text: str) -> str:
    line = text.strip().splitlines()[0] if text.strip() else "no message"
    return line if len(line) <= 140 else line[:139] + "…"


def _experiment(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise BadInput(f"got no folder {folder}: want the folder of a run; give runs/<experiment>")
    path = folder / "experiment.json"
    if not path.is_file():
        raise BadInput(f"got no experiment.json in {folder}: want the folder of a run; give runs/<experiment>")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"got unreadable {path} ({error}): want JSON; run the experiment again") from error
    if not isinstance(record, dict):
        raise BadInput(f"got a {type(record).__name__} in {path}: want an object; run the experiment again")
    return record


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _events(entries: Any) -> tuple[Event, ...]:
    events = [Event(int(entry["step"]), str(entry["kind"])) for entry in entries or ()]
    return tuple(sorted(events, key=lambda event: (event.step, event.kind)))


def _lane_folder(folder: Path, arm: str, seed: int) -> Path:
    return folder / f"{arm}-s{seed}"


def _numbers(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with numeric columns as floats and ints, whatever JSON made of nulls and NaNs."""
    if rows.empty:
        return rows
    numeric = {key: pd.to_numeric(rows[key], errors="coerce") for key in ("value", "low", "high", "images")}
    rows = rows.assign(**numeric).astype({"seed": int, "step": int})
    return rows.assign(protocol_hash=rows["protocol_hash"].fillna("").astype(str)).reset_index(drop=True)


def _status(folder: Path) -> Status:
    path = folder / "status.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return Status()
    known = {key: value for key, value in _mapping(record).items() if key in Status.__dataclass_fields__}
    return Status(**known)


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict) and "step" in record:
            yield record


def _curve(folder: Path) -> pd.DataFrame:
    """The training curve: one row per logged step, later lines replace earlier ones of the same step."""
    path = folder / "metrics.jsonl"
    frame = pd.DataFrame(list(_json_lines(path)) if path.is_file() else [])
    if frame.empty:
        return frame
    frame = frame.apply(pd.to_numeric, errors="coerce").dropna(axis=1, how="all")
    frame = frame.replace([np.inf, -np.inf], np.nan).dropna(subset=["step"])
    return frame.drop_duplicates("step", keep="last").sort_values("step").reset_index(drop=True)
