"""The store of segments below a folder of runs: what lies where in it, what is kept of a segment while it is trained.

Imports no torch.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from common.disk import locked, remove, sweep, write_text
from common.errors import BadInput
from common.steps import files_by_step, step_name
from common.unwritable import writing

FOLDER = ".segments"
NEWEST = 2  # states of a segment: the last, and the one before in case that is damaged
PIN = ".keep"  # beside a state
MARKS = "evaluated-*.json"  # in an exported backbone's folder, one for each set of tasks


def pin(states: Path, steps: Iterable[int]) -> None:
    """Keep the states of these steps, whether they are there already or come later: arms begin with them."""
    for step in steps:
        if not (mark := states / f"{step_name(step)}{PIN}").exists():
            write_text(mark, "")


def is_pinned(states: Path, step: int) -> bool:
    """Whether the state of a step is kept; asked after each step, so it looks at one file."""
    return (states / f"{step_name(step)}{PIN}").exists()


def prune(states: Path, *, newest: int) -> None:
    """Remove all states but the newest, up to that step, and those that are pinned.

    What lies there of a later step could not be read, or training would go on from it: it would pass for the newest.
    """
    for step, path in files_by_step(states, ".safetensors").items():
        if step > newest:
            remove(path)
    for path in prunable(states, keep=set(files_by_step(states, PIN))):
        remove(path)


def prunable(states: Path, *, keep: set[int]) -> list[Path]:
    """The states that are neither among the newest nor of a step in `keep`."""
    older = [*files_by_step(states, ".safetensors").items()][:-NEWEST]
    return [path for step, path in older if step not in keep]


def link(view: Path, segment: Path) -> None:
    """Make an experiment's link to a segment, unless it is there."""
    with writing(view):
        view.parent.mkdir(parents=True, exist_ok=True)
        if not view.is_symlink():
            view.symlink_to(os.path.relpath(segment, view.parent), target_is_directory=True)


def used(store: Path) -> AbstractContextManager[None]:
    """Nothing is removed from the store meanwhile; any number of processes may use it at once."""
    return locked(store, fcntl.LOCK_SH)


@contextmanager
def swept(store: Path) -> Iterator[None]:
    """No other process uses the store meanwhile. Raises `BadInput` where one does."""
    try:
        with locked(store, fcntl.LOCK_EX | fcntl.LOCK_NB):
            sweep(store)  # what was left of a segment by one that was killed while it removed it
            yield
    except BlockingIOError:
        raise BadInput(f"{store} is in use by a run: want none at work in it; try again once it has ended") from None
