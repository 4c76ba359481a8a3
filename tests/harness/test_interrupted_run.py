"""A whole run that is stopped again and again, at every stage, and ends as one that nothing disturbed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from common.interrupts import REQUESTS, RESUME
from harness.run import main
from tests.processes import Command

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("signals_heard")]  # the command itself, again and again

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {"size": 32, "split": "val", "name": "rooms"}
SECTIONS = {
    "steps": 40,
    "arms": {"anchored": {"gram.weight": 2.0, "gram.start_step": 2}},
    "evals": {
        "every": 20,
        "sets": {"kept": {**ROOMS, "count": 24}, "asked": {**ROOMS, "count": 8, "split": "test"}},
        "tasks": {"knn": {"protocol": "knn", "train": "kept", "test": "asked"}},
    },
    "runtime": {"checkpoint_every": 3, "workers": 2},
}
GOES_ON = "the same command goes on with"


def started(path: Path) -> Command:
    return Command("harness/run.py", path, folder=path.parent)


def begun_anew(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "harness" / "run.py"), str(path)]
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


def stopped(process: subprocess.Popen[str] | Command, number: signal.Signals, *, group: bool, code: int) -> str:
    """The one line that it ends with, with this code; what the log tells on stderr begins with the time."""
    (os.killpg if group else os.kill)(process.pid, number)
    said = process.communicate(timeout=120)[1].splitlines()
    ended = [line for line in said if not line[:4].isdigit()]
    assert process.returncode == code, said[-2:]
    assert len(ended) == 1, ended
    return ended[0]


def wait_until_it_listens(process: subprocess.Popen[str]) -> None:
    """As the kernel sees it: a handler for SIGTERM is there, which Python itself does not install."""
    status, bit = Path(f"/proc/{process.pid}/status"), 1 << (signal.SIGTERM - 1)
    while (
        not int(next(line for line in status.read_text().splitlines() if line.startswith("SigCgt")).split()[1], 16)
        & bit
    ):
        assert process.poll() is None
        time.sleep(0.01)


def wait_for_steps(process: Command, curve: Path, count: int) -> None:
    while (len(curve.read_text().splitlines()) if curve.exists() else 0) < count:
        assert process.poll() is None
        time.sleep(0.01)


def tensors(folder: Path) -> dict[str, dict[str, bytes]]:
    """All weights and states below a folder, to the bit."""
    return {
        str(path.relative_to(folder)): {name: x.numpy().tobytes() for name, x in load_file(path).items()}
        for path in sorted(folder.rglob("*.safetensors"))
    }


def test_a_run_that_is_stopped_at_every_stage_ends_bit_for_bit_as_one_that_was_not(tmp_path, tiny_text):
    path, calm = tmp_path / "tiny.yaml", tmp_path / "calm.yaml"
    path.write_text(tiny_text(tmp_path, **SECTIONS))
    calm.write_text(tiny_text(tmp_path / "calm", **SECTIONS))
    assert main([str(calm), "name=tiny"]) == 0
    job = tmp_path / "runs" / "tiny" / "anchored-s0"

    process = begun_anew(path)
    wait_until_it_listens(process)
    assert stopped(process, signal.SIGINT, group=True, code=130) == "gramlab: interrupted before anything was begun"
    assert not (tmp_path / "runs").exists()

    process = begun_anew(path)
    assert process.stdout is not None
    assert process.stdout.readline() == "experiment tiny\n"
    assert stopped(process, signal.SIGHUP, group=False, code=129).startswith(
        f"gramlab: interrupted by SIGHUP; {GOES_ON}"
    )

    for number, steps, group in (
        (signal.SIGTERM, 8, True),
        (signal.SIGINT, 17, True),
        (signal.SIGUSR1, 22, True),
        (signal.SIGHUP, 26, False),
        (signal.SIGTERM, 30, False),
    ):
        asked = number in REQUESTS
        process = started(path)
        wait_for_steps(process, job / "metrics.jsonl", steps)
        said = stopped(process, number, group=group, code=RESUME if asked else 128 + number)
        assert said.startswith(f"gramlab: asked to leave by {number.name}; " if asked else "gramlab: interrupted")
        saved = int(said.rpartition(f"; {GOES_ON} anchored-s0 from step ")[2])
        assert (job / "states" / f"step_{saved:06d}.safetensors").exists()
        status = json.loads((job / "status.json").read_text())
        assert status["state"] == "interrupted"
        assert not asked or saved == status["step"]  # nothing is done twice

    assert main([str(path)]) == 0
    assert tensors(tmp_path / "runs") == tensors(tmp_path / "calm" / "runs")
    assert not list(tmp_path.rglob(".partial-*"))


@pytest.mark.parametrize(
    "command",
    [
        "harness/run.py run.yaml",
        "harness/sweep.py run.yaml",
        "harness/cli.py run run.yaml",
        "harness/export_trunk.py a b",
        "evals/run.py random:vit_tiny_patch16_224",
        "evals/compare.py a b",
        "evals/prepare.py",
        "evals/pictures/contact_sheet.py scenes",
        "reports/build.py runs",
        "reports/compare.py runs runs2",
    ],
)
def test_every_command_hears_a_signal_while_it_imports(command, tmp_path):
    script, *words = command.split()
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", str(ROOT / script), *words],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:  # the times of imports: the last one before those that take seconds
        if line.rstrip().endswith(" numpy.version"):
            break
    process.send_signal(signal.SIGTERM)
    said = [line for line in process.communicate()[1].splitlines() if not line.startswith("import time:")]
    assert said == ["gramlab: interrupted by SIGTERM before anything was begun"]
    assert process.returncode == 143
