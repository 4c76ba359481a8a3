"""When a process is killed: what must lie on the disk for it, and, once it is dead, what it was in the midst of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from common.disk import matching
from common.unwritable import HIDDEN

RENEWED = (5, 8, 11, 14, 17)  # run.yaml: the steps just before which `anchored` and `larger` copy their Gram teacher
RUNS = ("run", "pair", "parts")


class Moment(NamedTuple):
    """A kind of moment.

    commands: which are killed then.
    signs: what lies there, by a name of its own each time, while the moment lasts or just before it.
    wait: seconds at most between a sign and the kill.
    words: what the table calls it.
    """

    commands: tuple[str, ...]
    signs: Callable[[Path], set[str]]
    wait: float
    words: str


def _there(folder: Path, pattern: str) -> set[str]:
    return {str(path) for path in matching(folder, pattern)}


def _segments(folder: Path) -> list[Path]:
    return matching(folder, ".segments/*")


def last_step(segment: Path) -> int:
    """The last step that the curve of a segment tells of, 0 where there is none."""
    path = segment / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith(b"\n")]
    return int(json.loads(whole[-1])["step"]) if whole else 0


def _named(folder: Path, *starts: str) -> set[Path]:
    """The segments of arms whose names begin so."""
    links = matching(folder, "soak/*-s0")
    return {path.resolve() for path in links if path.is_symlink() and path.name.startswith(starts)}


def writes_state(folder: Path) -> set[str]:
    """A training state is being written."""
    return _there(folder, f".segments/*/states/{HIDDEN}*/step_*.safetensors")


def writes_part(folder: Path) -> set[str]:
    """A process writes its part of a state."""
    return _there(folder, f".segments/*/states/{HIDDEN}*/step_*/*")


def writes_export(folder: Path) -> set[str]:
    """A backbone is being written."""
    return _there(folder, f".segments/*/{HIDDEN}*/step_*")


def writes_table(folder: Path) -> set[str]:
    """A record, a report or a table is being written."""
    return _there(folder, f"soak/{HIDDEN}*/*")


def evaluates(folder: Path) -> set[str]:
    """A backbone is there, and not yet what its evaluation leaves last."""
    cards = matching(folder, ".segments/*/step_*/backbone.json")
    return {str(card) for card in cards if not matching(card.parent, "evaluated-*.json")}


def renews(folder: Path) -> set[str]:
    """The step that begins with a renewal of the Gram teacher is next."""
    found = ((segment, last_step(segment)) for segment in _named(folder, "anchored", "larger"))
    return {f"{segment.name} {step}" for segment, step in found if step in RENEWED}


def begins(folder: Path) -> set[str]:
    """A phase has its folder and has saved nothing yet."""
    return {one.name for one in _segments(folder) if not matching(one, "states/step_*.safetensors")}


def tries(folder: Path) -> set[str]:
    """A trial is being trained: a sign for each of its steps."""
    found = ((segment, last_step(segment)) for segment in _named(folder, "trial-"))
    return {f"{segment.name} {step}" for segment, step in found if 0 < step < 16}


def notes_study(folder: Path) -> set[str]:
    """The study grew: a trial was asked for, claimed or told."""
    path = folder / "soak" / "study.journal"
    return {str(path.stat().st_size)} if path.exists() else set()


MOMENTS = {
    "state": Moment(RUNS, writes_state, 0.002, "a state is written"),
    "part": Moment(("parts",), writes_part, 0.002, "parts of a state are written"),
    "export": Moment(RUNS, writes_export, 0.002, "a backbone is written"),
    "evaluation": Moment(RUNS, evaluates, 0.15, "an evaluation"),
    "renewal": Moment(RUNS, renews, 0.03, "a renewal of the Gram teacher"),
    "phase": Moment(RUNS, begins, 0.3, "a phase begins"),
    "tables": Moment(RUNS, writes_table, 0.01, "records and report"),
    "trial": Moment(("sweep",), tries, 0.03, "a trial of a sweep"),
    "study": Moment(("sweep",), notes_study, 0.02, "a study grows"),
}


TOLD = [name for name in MOMENTS if name != "study"]  # by the signs that are left; a study grows all the time


def signs(folder: Path) -> dict[str, set[str]]:
    """The signs that lie there of each kind of moment which can be told from them."""
    return {name: MOMENTS[name].signs(folder) for name in TOLD}


def fell(folder: Path, before: Mapping[str, set[str]]) -> tuple[str, set[str]]:
    """What a killed command left: where it was, in words, and the kinds of moments that this was one of.

    before: the signs of earlier kills, which lay there when it began.
    """
    kinds = {name for name, found in signs(folder).items() if found - before[name]}
    views = sorted((folder / "soak").glob("*-s0"), key=lambda path: not path.name.startswith("trunk"))
    links = {path.resolve(): path.name for path in views if path.is_symlink()}  # an arm's name, not the trunk's
    written = [path for segment in _segments(folder) for path in segment.glob("**/*") if path.is_file()]
    if not written:
        return "before anything was trained", kinds
    newest = max(written, key=lambda path: path.stat().st_mtime_ns)
    segment = folder / ".segments" / newest.relative_to(folder / ".segments").parts[0]
    name = links.get(segment.resolve(), segment.name)
    hidden = sorted(path.name for path in folder.glob(f"**/{HIDDEN}*/*") if path.is_file())
    said = f"{name} step {last_step(segment)}" + (f", half of {', '.join(hidden)}" if hidden else "")
    return said, kinds
