"""What `make cluster` starts is a real Slurm and a real PostgreSQL, and both are gone when it ends."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SERVICES = Path(__file__).with_name("services.py")
started = pytest.mark.skipif("GRAMLAB_SLURM" not in os.environ, reason="`make cluster` starts Slurm and PostgreSQL")


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@started
def test_slurm_runs_a_job_on_its_one_node():
    assert said("srun", "--ntasks=1", "sh", "-c", "echo $SLURM_JOB_NODELIST") == "localhost"


@started
def test_postgresql_answers_by_its_address():
    assert said("psql", os.environ["GRAMLAB_POSTGRES"], "-tAc", "select 6 * 7") == "42"


@started
def test_services_that_are_told_to_end_leave_no_process_and_no_file():
    command = [sys.executable, str(SERVICES), "sh", "-c", "exec sleep 100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().split()[-1])
        assert folder.is_dir()
        process.send_signal(signal.SIGTERM)
    assert process.returncode != 0
    assert not folder.exists()
    assert [line for line in said("ps", "-eo", "args").splitlines() if str(folder) in line] == []


def test_where_nothing_may_be_installed_it_says_so_and_succeeds(tmp_path):
    """A copy of the file that looks for its programs in an empty folder alone."""
    text = SERVICES.read_text(encoding="utf-8")
    places = next(line for line in text.splitlines() if line.startswith("PLACES = "))
    alone = tmp_path / "services.py"
    alone.write_text(text.replace(places, f"PLACES = ['{tmp_path}']"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(alone), shutil.which("false") or "false"],
        capture_output=True,
        text=True,
        env={"PATH": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("skipped: no munged, slurmctld, slurmd, postgres here")
    assert done.stdout.count("\n") == 1
