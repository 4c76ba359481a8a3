"""Files that are read once in the life of a process, and again when they have changed."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import lru_cache, wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from common.errors import BadInput

P = ParamSpec("P")
T = TypeVar("T")


def until_changed(*names: str) -> Callable[[Callable[Concatenate[Path, P], T]], Callable[Concatenate[Path, P], T]]:
    """Makes a function of a path read it once in the life of this process, and again when the file has changed.

    What it returned, or the `BadInput` that it raised, is kept; its other arguments must be hashable.

    Args:
        names: of the files in the folder that the path is; none where the path itself is the file, or a folder of
            files that all count.
    """

    def kept(read: Callable[Concatenate[Path, P], T]) -> Callable[Concatenate[Path, P], T]:
        @lru_cache(maxsize=1024)
        def answer(path: Path, about: tuple[int, ...], *given: P.args, **named: P.kwargs) -> tuple[T] | BadInput:
            try:
                return (read(path, *given, **named),)
            except BadInput as error:
                return error

        @wraps(read)
        def reading(path: Path, *given: P.args, **named: P.kwargs) -> T:
            files = [path / name for name in names] or [path, *(sorted(path.iterdir()) if path.is_dir() else ())]
            found = answer(path, tuple(fact for file in files for fact in _facts(file)), *given, **named)
            if isinstance(found, BadInput):
                raise copy(found) from found  # each bears its own notes
            return found[0]

        return reading

    return kept


def _facts(path: Path) -> tuple[int, ...]:
    """Size, times and inode of a file, which change when it is replaced or written; () where there is none."""
    try:
        state = path.stat()
    except OSError:
        return ()
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino
