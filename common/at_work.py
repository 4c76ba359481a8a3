"""Whether a process is at work in a folder, which it then has locked."""

from __future__ import annotations

import fcntl
from pathlib import Path


def is_held(folder: Path) -> bool:
    """Whether a process is at work in the folder: it has its lock."""
    try:
        with (folder / ".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file: nobody ever was
        return False
    return False
