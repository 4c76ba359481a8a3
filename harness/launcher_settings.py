"""Settings of the launcher, which says by whom the jobs of an experiment are trained: machinery."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Le

from common.bounds import About, Count, Flag, Label, Place, Real, Whole
from common.schema import settings

OWN = {  # what sbatch calls our settings, and what is the launcher's to say
    "account": "account",
    "partition": "partition",
    "qos": "qos",
    "time": "minutes",
    "signal": "grace",
}
TAKEN = {"dependency", "kill-on-invalid-dep", "requeue", "job-name", "output", "error", "open-mode"}


@settings
class Launcher:
    """How jobs are spread over processes and machines; nothing here may change a result."""

    name: Annotated[
        Literal["none", "local", "slurm"],
        About(
            "`none` (one job after the other), `local` (several at once on this machine) or `slurm` (a Slurm job each, "
            "by submitit); on the command line `launcher=local` will do"
        ),
    ] = "none"
    workers: Annotated[
        Annotated[Count, Le(1024)] | None,
        About("`local`: jobs at once; null = as many as cores and memory allow by the plan, or one for each GPU"),
    ] = None
    stage: Annotated[
        Place | None,
        About(
            "`slurm`: a folder on the node's own disk, such as `$TMPDIR`, that data sets are copied to once, and read "
            "from; null = they are read where they lie"
        ),
    ] = None
    account: Annotated[Label | None, About("`slurm`: who pays; null = Slurm's default, as for the next two")] = None
    partition: Annotated[Label | None, About("`slurm`: the partition")] = None
    qos: Annotated[Label | None, About("`slurm`: the quality of service")] = None
    minutes: Annotated[
        Count,
        About("`slurm`: time limit of a job; one that takes longer saves its state there and puts itself in the queue"),
    ] = 24 * 60
    grace: Annotated[
        Count, About("`slurm`: seconds before that limit at which a job is told to save its state and leave")
    ] = 120
    flags: Annotated[
        dict[Label, Flag | Whole | Real | str],
        About("`slurm`: any other options of sbatch, as `{gres: gpu:1, mem: 16G, exclusive: true}`"),
    ] = field(default_factory=dict)

    def conflicts(self) -> Iterator[str]:
        """Options of sbatch that are settings of their own, or that the launcher itself must say."""
        if self.name == "slurm" and self.grace >= 60 * self.minutes:
            yield f"grace={self.grace}: want fewer seconds than minutes={self.minutes} has"
        for flag in self.flags:
            if flag in OWN:
                yield f"flags.{flag}: want launcher.{OWN[flag]} in its place"
            elif flag in TAKEN or not re.fullmatch(r"[a-z][a-z-]*", flag):
                yield f"flags.{flag}: want a long option of sbatch that the launcher does not give, such as gres"
        if not isinstance(count := self.flags.get("cpus-per-task", 1), int) or count < 1:
            yield f"flags.cpus-per-task={count!r}: want a number of cores, 1 or more"
