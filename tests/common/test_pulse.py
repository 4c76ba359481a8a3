"""Signs of life of several processes: who is gone without a word ends those that wait for it, and nobody else."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch.distributed as dist

from common import pulse
from common.command import answer
from common.disk import write_text
from common.pulse import Pulse
from common.ranks import started
from tests import processes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pulses():
    """Those of three processes, which look and beat when they are told to."""
    store = dist.HashStore()
    return [Pulse(store, rank=rank, world=3) for rank in range(3)]


def looks(one, seconds):
    for _ in range(int(seconds / pulse.LOOK)):
        one.look()


def test_who_is_silent_for_long_is_lost_and_named_by_the_first_who_hears_all(pulses):
    first, other, _ = pulses
    for _ in range(4):
        looks(first, pulse.SILENCE / 3)
        looks(other, pulse.SILENCE / 3)
        for one in (first, other):
            one.beat()
    assert first.lost is not None
    assert first.lost.startswith(f"got no sign of life from process 2 of torchrun for {pulse.SILENCE:.0f} s: want")
    assert other.lost is None
    looks(other, pulse.SILENCE)
    assert other.lost is not None
    assert "from process 0 of" in other.lost


def test_who_has_left_is_not_missed_and_who_ends_in_an_error_is(pulses):
    first, well, badly = pulses
    well.end(well=True)
    badly.end(well=False)
    first.beat()
    looks(first, 2 * pulse.SILENCE)
    assert first.lost is not None
    assert "from process 2 of" in first.lost


def brief(work, grace=1.0):
    """In a process: what `work` makes of two processes, with little patience."""
    pulse.BEAT, pulse.LOOK, pulse.SILENCE, pulse.GRACE = 0.05, 0.05, 0.5, grace

    def act():
        with started() as ranks:
            return work(ranks)

    return answer(act)


def in_the_store(signs, ranks):
    """The first process waits for a word of the other, which waits for one of it."""
    here(signs, ranks)
    if ranks.first:
        ranks.made(lambda: None)
    ranks.agreed(0)


def in_a_collective(signs, ranks):
    """Each waits for something else of the other."""
    here(signs, ranks)
    if ranks.first:
        ranks.gathered(0)
    ranks.agreed(0)


def here(signs, ranks):
    """Leave word of this process and of what has started it."""
    write_text(signs / f"here-{ranks.rank}", f"{os.getpid()} {os.getppid()}")


def both_here(signs):
    """The processes, and what has started each, once they wait."""
    words = [signs / f"here-{rank}" for rank in range(2)]
    while not all(word.exists() for word in words):
        time.sleep(0.01)
    return [[int(number) for number in word.read_text().split()] for word in words]


# A process that is stopped says nothing and closes no connection
@pytest.mark.parametrize(("wait", "stopped"), [(in_the_store, 0), (in_the_store, 1), (in_a_collective, 1)])
def test_a_process_that_says_nothing_any_more_ends_the_other_wherever_that_waits(tmp_path, wait, stopped):
    both = processes.started(2, partial(brief, partial(wait, tmp_path)), tmp_path)
    both_here(tmp_path)
    os.kill(both[stopped].pid or 0, signal.SIGSTOP)
    both[1 - stopped].join(30)
    both[stopped].kill()
    waiting = processes.ended(both, tmp_path)[1 - stopped]
    assert waiting.code == (2 if stopped else 1)
    said = "gramlab: got no sign of life from process 1 of torchrun for 0 s: want those of all"
    assert [line.startswith(said) for line in waiting.err.splitlines()] == [True] * stopped


def alone(signs, ranks):
    """The first process works for long, and the other waits for it."""
    here(signs, ranks)
    if ranks.first:
        time.sleep(60)
    ranks.agreed(0)


def launched(signs):
    """What torchrun does, as far as these processes can tell."""
    os.environ["TORCHELASTIC_RUN_ID"] = "1"
    processes.started(2, partial(brief, partial(alone, signs), grace=30), signs)
    time.sleep(60)


def test_processes_whose_torchrun_is_killed_leave_too(tmp_path):
    torchrun = multiprocessing.get_context("fork").Process(target=launched, args=(tmp_path,))
    torchrun.start()
    both_here(tmp_path)
    torchrun.kill()
    torchrun.join()
    began = time.monotonic()
    while not (said := (tmp_path / "0.err").read_text()):
        assert time.monotonic() < began + 30
        time.sleep(0.05)
    assert said.startswith("gramlab: interrupted by SIGTERM")


BEGINS = """
import os, sys, time
from pathlib import Path
sys.path[0] = {root!r}
from common.interrupts import listen
listen()
signs = Path({signs!r})
(signs / f"here-{{os.environ['RANK']}}").write_text(f"{{os.getpid()}} {{os.getppid()}}")
while not (signs / "go").exists():  # as it imports
    time.sleep(0.01)
from common.command import answer
from common.ranks import started

def join():
    with started():
        return 0

sys.exit(answer(join))
"""


@pytest.mark.slow
def test_processes_whose_torchrun_is_killed_before_they_join_do_not_wait_for_it(tmp_path):
    begins = tmp_path / "begins.py"
    begins.write_text(BEGINS.format(root=str(ROOT), signs=str(tmp_path)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", begins]
    err = tmp_path / "err"
    with err.open("w") as file:
        torchrun = subprocess.Popen(command, stderr=file, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    both = [pid for pid, _ in both_here(tmp_path)]
    torchrun.kill()
    torchrun.wait()
    (tmp_path / "go").touch()
    began = time.monotonic()
    while any(Path(f"/proc/{pid}").exists() for pid in both):
        assert time.monotonic() < began + 60
        time.sleep(0.05)
    said = [line for line in err.read_text().splitlines() if line.startswith("gramlab:")]
    assert said == [f"gramlab: {pulse.ORPHANED}; the same command goes on"]


ACT = """
import os, sys
from pathlib import Path
sys.path[0] = {root!r}
from common import pulse
from common.command import answer
from common.disk import write_text
from common.ranks import started

def waits():
    with started() as ranks:
        write_text(Path({signs!r}) / f"here-{{ranks.rank}}", f"{{os.getpid()}} {{os.getppid()}}")
        if ranks.first:
            ranks.made(lambda: None)
        ranks.agreed(0)

pulse.BEAT, pulse.SILENCE = 0.1, 2
sys.exit(answer(waits))
"""


@pytest.mark.slow
def test_of_two_nodes_the_first_ends_where_the_other_is_gone_for_which_it_waits(tmp_path):
    act = tmp_path / "act.py"
    act.write_text(ACT.format(root=str(ROOT), signs=str(tmp_path)))
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{processes.free_port()}"]
    usual = {"env": {**os.environ, "OMP_NUM_THREADS": "1"}, "text": True, "stderr": subprocess.PIPE}
    hosts = [["--rdzv-conf", f"is_host={host}"] for host in (1, 0)]  # of their store, which is to outlive the other
    nodes = {one.pid: one for one in (subprocess.Popen([*command, *one, act], **usual) for one in hosts)}
    (_, own), (other, others) = both_here(tmp_path)
    assert own == min(nodes), "of nodes on one machine the older process is the first"
    for pid in (others, other):
        os.kill(pid, signal.SIGKILL)
    nodes[others].communicate(timeout=60)
    _, err = nodes[own].communicate(timeout=60)
    said = [line for line in err.splitlines() if line.startswith("gramlab:")]
    assert len(said) == 1, err
    assert said[0].startswith("gramlab: got no sign of life from process 1 of torchrun for 2 s")
