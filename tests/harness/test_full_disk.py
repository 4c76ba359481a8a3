"""A run on a small file system that fills up while a checkpoint is written, and goes on once it is larger."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.soaking.equal import differences, left
from harness.run import main

ROOT = Path(__file__).resolve().parents[2]
PLAN = 250_000  # bytes that what is planned and logged takes at most
# in a name space of its own, which takes the file system with it when it ends
SCRIPT = """
mount -t tmpfs -o size="$2" none "$1" || exit 1
"$3" "$4" "$5" runtime.folder="$1/runs"; echo "first $?" >&2
mount -o remount,size=256m "$1"
"$3" "$4" "$5" runtime.folder="$1/runs"; echo "second $?" >&2
cp -a "$1/runs" "$6"
"""


def may_mount(folder: Path) -> bool:
    """Whether a file system can be mounted in a name space of its own."""
    try:
        command = ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.slow  # the command itself, twice
def test_a_disk_that_is_full_in_a_checkpoint_ends_in_one_line_and_the_same_command_goes_on_with_room(
    tmp_path, write_tiny
):
    small = tmp_path / "small"
    small.mkdir()
    if not may_mount(small):
        pytest.skip("may not mount a small file system: unshare -rm")
    path = write_tiny(arms={"plain": {}}, evals={"every": 6}, runtime={"checkpoint_every": 1})
    assert main([str(path), f"runtime.folder={tmp_path / 'calm'}"]) == 0
    states = next(tmp_path.glob("calm/.segments/*/states"))
    size = next(states.glob("*.safetensors")).stat().st_size
    export = sum(file.stat().st_size for file in states.parent.glob("step_000000/*"))
    room = int(2.5 * size) + export + PLAN
    words = [small, str(room), sys.executable, ROOT / "harness" / "run.py", path, tmp_path / "runs"]
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", SCRIPT, "sh", *words],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if not line[:4].isdigit()]
    assert [line for line in said if line.startswith(("first", "second"))] == ["first 2", "second 0"], done.stderr
    (ended,) = (line for line in said if line.startswith("gramlab: "))
    full = re.search(
        r"cannot write \S+/states/step_00000\d.safetensors \(No space left on device, .* free\): make room", ended
    )
    assert full, ended
    assert re.search(r"; the same command goes on with plain-s0 from step [1-9]$", ended), ended
    assert differences(left(tmp_path / "runs"), left(tmp_path / "calm")) == []
