"""A worker as whoever starts it sees it: a program, and the settled experiment that it is given on its stdin.

Light, since a Slurm job loads it before the worker loads the rest.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

PROGRAM = str(Path(__file__).with_name("worker.py"))


def send(config: Mapping[str, Any], process: subprocess.Popen[bytes]) -> None:
    """Give a worker the settled experiment; one that has ended already has told why.

    It goes past the pipe's buffer, in which what nobody reads would be an error once more when the pipe is closed.
    """
    assert process.stdin is not None
    left = json.dumps(config).encode() + b"\n"
    with suppress(BrokenPipeError):
        while left:
            left = left[os.write(process.stdin.fileno(), left) :]
