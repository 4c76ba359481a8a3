"""How many jobs run at once, and on how many threads each."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from common import machine
from harness.launchers.crew import Crew, crew
from harness.memory import most_held
from harness.settings import Experiment

CPU = torch.device("cpu")


@pytest.fixture
def many(tiny: Experiment, change: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """Six jobs for a machine of 8 cores, where nobody named threads."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine, "cores", lambda: 8)
    return change(tiny, {"launcher.name": "local", "seeds": [0, 1, 2]})


def test_as_many_jobs_run_as_there_are_and_the_cores_are_divided_among_them(many):
    found = crew(many, CPU, record={})
    assert (found.workers, found.share) == (6, (1, "of 8 cores for 6 jobs at once"))


def test_threads_that_are_named_leave_room_for_fewer(many, change, monkeypatch):
    assert crew(change(many, {"runtime.threads": 4}), CPU, record={}).workers == 2
    assert crew(many, CPU, record={"environment": {"threads": 2}}).workers == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert crew(many, CPU, record={}).workers == 6


def test_memory_allows_no_more_than_the_estimate_says(many, monkeypatch):
    monkeypatch.setattr(machine, "memory_bytes", lambda device: int(2.5 * most_held(many, split=False)))
    assert crew(many, CPU, record={}).workers == 2
    monkeypatch.setattr(machine, "memory_bytes", lambda device: 1)
    assert crew(many, CPU, record={}).workers == 1


def test_a_number_in_the_settings_counts(many, change):
    assert crew(change(many, {"launcher.workers": 3}), CPU, record={}).workers == 3


def test_other_launchers_run_one_here_or_leave_it_to_slurm(many, change):
    assert crew(change(many, {"launcher.name": "none"}), CPU, record={}) == Crew()
    slurm = change(many, {"launcher.name": "slurm", "launcher.flags": {"cpus-per-task": 4}})
    assert crew(slurm, CPU, record={}).share == (4, "by launcher.flags.cpus-per-task, or 1")
