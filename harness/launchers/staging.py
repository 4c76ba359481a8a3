"""Data sets copied to a node's own disk: once, whoever asks, and read from there in place of where they lie.

A set's fingerprint is by names and sizes of its files, so that a copy is the same set.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.disk import alone, whole
from common.errors import BadInput
from evals.datasets.layouts.shards.places import is_pattern

log = logging.getLogger("gramlab")


def staged(plain: Any, stage: str) -> Any:
    """Plain settings whose `root`s, in sections and in dotted overrides, lie in the folder `stage`, copied if need be;
    patterns of shards and addresses are read from where they are.

    Raises:
        BadInput: a variable in `stage` that this node has not, a root that cannot be read, no room.
    """
    folder = Path(os.path.expandvars(stage))
    if unknown := re.search(r"\$\{?(\w+)", str(folder)):
        raise BadInput(f"launcher.stage={stage}: the node has no variable {unknown[1]}: want a folder of its own disk")
    return _replaced(plain, folder)


def _replaced(plain: Any, folder: Path) -> Any:
    if isinstance(plain, list):
        return [_replaced(one, folder) for one in plain]
    if not isinstance(plain, dict):
        return plain
    return {
        key: str(copied(Path(value), folder))
        if key.rpartition(".")[2] == "root" and isinstance(value, str) and not is_pattern(value)
        else _replaced(value, folder)
        for key, value in plain.items()
    }


def copied(root: Path, folder: Path) -> Path:
    """Where the copy of a set lies; one of files that have changed since is another."""
    try:
        listing = sorted(_listed(root))
    except OSError as error:
        raise BadInput(
            f"{root} cannot be copied to {folder} ({error.strerror}): want a set that can be read"
        ) from error
    name = hashlib.sha256(f"{root.absolute()} {listing}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
    target = folder / name / "copy" / root.name
    with alone(folder / name):  # of two that ask at once, one copies and the other waits
        if not target.exists():
            log.info("copies %s to %s, %.1f GB", root, target, sum(size for _, size, _ in listing) / 1e9)
            with whole(target, sync=False) as new:
                if root.is_dir():
                    shutil.copytree(root, new)
                else:
                    shutil.copy2(root, new)
    return target


def _listed(root: Path) -> Iterator[tuple[str, int, int]]:
    """Every file of a set: its name below the root, its size, and when it was changed."""
    if not root.is_dir():
        state = root.stat()
        yield "", state.st_size, state.st_mtime_ns
    for place, _, names in os.walk(root, followlinks=True):
        for name in names:
            path = Path(place, name)
            state = path.stat()
            yield str(path.relative_to(root)), state.st_size, state.st_mtime_ns
