"""What is to be told of a run, piece by piece, by its files alone: each job with its whole curve, and the report.

A segment that arms share is in the curve of each of them, and so is what another experiment has trained of it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from common.disk import checksum, read_json
from common.errors import BadInput
from common.records import Asked, AskedJob, CurvePoint, read_lines, read_record
from common.steps import KINDS, folders_by_step
from evals.results import pictured
from harness import store
from harness.standings import curve_end, read_status
from harness.trackers.drawn import drawn
from harness.trackers.tracker import Point, State, Tracker, of_training

REPORT = "report"  # a run beside those of the jobs, none of which is called so
DOCUMENTS = ("plan.txt", "plan.pdf", "report.pdf", "report.html", "sweep.pdf")
CURVE = "curve"
AT_ONCE = 200  # points of a curve in one piece

Known = Mapping[str, str]  # which version of each piece was told, by its name


class Piece(NamedTuple):
    """Something to tell, once in each version."""

    name: str
    version: str
    tell: Callable[[Tracker], None]


class Stretch(NamedTuple):
    """The steps after `start` up to `stop` that a segment gives to a curve."""

    segment: Path
    start: int
    stop: int

    def folders(self, kind: str) -> dict[int, Path]:
        """Those of its evaluated steps."""
        found = folders_by_step(self.segment, kind)
        return {step: folder for step, folder in found.items() if self.start < step <= self.stop}

    def points(self, after: int) -> list[Point]:
        """Its points after a step; lines that are damaged, or are still being written, are left out."""
        if after >= self.stop:
            return []
        rows = curve_end(self.segment)
        if rows and rows[0]["step"] > after:
            rows = read_lines(self.segment / "metrics.jsonl", CurvePoint).rows
        return [of_training(row) for row in rows if max(self.start, after) < row["step"] <= self.stop]


@dataclass(frozen=True)
class Lane:
    """A job with all that leads to it, the first stretch first; `evaluations` are those of the run, by their hash."""

    name: str
    about: str
    stretches: Sequence[Stretch]
    kind: str
    evaluations: str

    @property
    def segment(self) -> str:
        """By which the tracker's run is another one where settings have changed under the same name."""
        return self.stretches[-1].segment.name

    @property
    def tags(self) -> dict[str, str]:
        """By which it is looked for among others."""
        arm, _, seed = self.name.rpartition("-s")
        segments = dict.fromkeys(one.segment.name for one in self.stretches)
        return {"arm": arm, "seed": seed, "segment": self.segment, "path": " ".join(segments)}

    def state(self, *, last: bool) -> State | None:
        """How its training ended, by the segment's status, which may speak of more steps; None while it goes on.

        last: nobody tells of what comes later.
        """
        own = self.stretches[-1]
        status = read_status(own.segment)
        if (status.step or 0) >= own.stop and (status.state == "done" or (status.steps or 0) > own.stop):
            return "done"
        if status.state == "failed":
            return "failed"
        return "interrupted" if last else None

    def pieces(self, known: Known) -> Iterator[Piece]:
        """What is new to whoever knows these; asked for one by one, `known` may grow meanwhile."""
        own = self.stretches[-1]
        if (path := own.segment / "identity.json").exists():  # written when it is begun
            plain = read_json(path, remedy="restore it")
            yield from new(known, _settings({**self.tags, "steps": own.stop, **plain}))
        for stretch in self.stretches:
            points = stretch.points(int(known.get(CURVE, 0)))
            yield from (_curve(points[at : at + AT_ONCE]) for at in range(0, len(points), AT_ONCE))
        for stretch in self.stretches:
            for step, folder in stretch.folders(self.kind).items():
                yield from new(known, _evaluated(step, folder / f"evaluated-{self.evaluations}.json"))
                yield from new(known, self._picture(step, folder, stretch.segment))

    def _picture(self, step: int, folder: Path, segment: Path) -> Piece:
        path = pictured.features_path(folder, self.evaluations)

        def tell(tracker: Tracker) -> None:
            if (picture := drawn(path, pictured.images_folder(segment, self.evaluations))) is not None:
                tracker.picture("features", step, picture)

        return Piece(f"features of {folder.name} by {self.evaluations}", _there(path), tell)


@dataclass(frozen=True)
class Report:
    """What is told of a run as a whole: its settings and documents."""

    folder: Path
    about: str
    config: Mapping[str, Any]
    name: str = REPORT
    segment: str = ""

    @property
    def tags(self) -> dict[str, str]:
        """None: it is of no arm."""
        return {}

    def state(self, *, last: bool) -> State | None:
        """As long as anybody tells of the run, there may be another report."""
        return "done" if last else None

    def pieces(self, known: Known) -> Iterator[Piece]:
        """What is new to whoever knows these."""
        yield from new(known, _settings(self.config))
        for path in (self.folder / name for name in DOCUMENTS):
            if path.is_file():
                yield from new(known, _document(path))


def subjects(folder: Path, *, only: Sequence[str] | None = None) -> Iterator[Lane | Report]:
    """All that trackers have runs for; of jobs these alone where they are named, and then no report.

    Nothing where the run has no record yet. Raises `BadInput` for one that is damaged.
    """
    path = folder / "experiment.json"
    if not path.exists():
        return
    record = read_record(path, Asked, remedy="the experiment's command writes it anew")
    jobs, arms, config = record.get("jobs", {}), record.get("arms", {}), dict[str, Any](record.get("config", {}))
    kind = KINDS[config.get("evals", {}).get("network", "teacher")]
    for name in (name for name in jobs if only is None or name in only):
        about = arms.get(name.rpartition("-s")[0], {}).get("summary", "")
        way = [*_way(folder.parent / store.FOLDER, jobs, name)]
        yield Lane(name, about, way, kind, record.get("evaluations", ""))
    if only is None:
        yield Report(folder, record.get("question", ""), config)


def _way(segments: Path, jobs: Mapping[str, AskedJob], name: str) -> Iterator[Stretch]:
    """The stretches that lead to a job, its own the last; ancestors end where the next one forks from them.

    The step of a fork is the parent's; that which the first one begins with is its own.
    """
    job, first = jobs[name], -1
    if (parent := job["parent"]) is not None and parent in jobs:
        first = job["start"]
        yield from (one._replace(stop=min(one.stop, first)) for one in _way(segments, jobs, parent))
    yield Stretch(segments / job["segment"], first, job["stop"])


def new(known: Known, piece: Piece) -> Iterator[Piece]:
    """The piece, unless it was told as it is now, or is not there."""
    if piece.version not in ("", known.get(piece.name)):
        yield piece


def values(mark: Path) -> dict[str, float]:
    """What a step's evaluations gave, by evaluation, data set and metric; where these are not enough, by all else.

    Raises `BadInput` for a file that is damaged.
    """
    try:
        rows = json.loads(mark.read_bytes())["rows"]
        names = [f"evals/{row['eval']}/{row['dataset']}/{row['metric']}" for row in rows]
        more = [f" {row['split']} {row['protocol']} {row['size']} px" for row in rows]
        often = Counter(names)
        return {
            (name + rest if often[name] > 1 else name): float(row["value"])
            for name, rest, row in zip(names, more, rows, strict=True)
            if row["value"] is not None
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{mark} cannot be read ({error}): want what was written; evaluating again") from error


def _settings(plain: Mapping[str, Any]) -> Piece:
    version = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    return Piece("settings", version if plain else "", lambda tracker: tracker.settings(plain))


def _curve(points: Sequence[Point]) -> Piece:
    return Piece(CURVE, str(points[-1][0]), lambda tracker: tracker.scalars(points))


def _evaluated(step: int, mark: Path) -> Piece:
    name = f"{mark.parent.name}/{mark.name}"
    return Piece(name, _there(mark), lambda tracker: tracker.scalars([(step, values(mark))]))


def _there(path: Path) -> str:
    """The one version of what never changes once it is there."""
    return "told" if path.is_file() else ""


def _document(path: Path) -> Piece:
    def tell(tracker: Tracker) -> None:
        if path.suffix == ".txt":
            tracker.text(path.stem, path.read_text(encoding="utf-8"))
        else:
            tracker.file(path)

    return Piece(path.name, checksum(path), tell)
