"""Every launcher by its name: a function that sees to all jobs of a `Work`."""

from __future__ import annotations

from collections.abc import Callable

from harness.launchers import local, sequential, slurm
from harness.launchers.jobs import Work

# each names the jobs that failed, or could not start since their parent did; None where they go on elsewhere
LAUNCHERS: dict[str, Callable[[Work], set[str] | None]] = {
    "none": sequential.launch,
    "local": local.launch,
    "slurm": slurm.launch,
}
