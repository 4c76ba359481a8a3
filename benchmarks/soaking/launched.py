"""A command's module in several processes, as by `torchrun --standalone`, whose agent forks them here.

python benchmarks/soaking/launched.py PROCESSES MODULE [WORD ...]
"""

from __future__ import annotations

import ctypes
import os
import sys
from importlib import import_module
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def launch(processes: int, module: str, words: list[str]) -> int:
    """The exit code that torchrun would have."""
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id="soak", max_restarts=0,
        rdzv_backend="c10d", rdzv_endpoint="localhost:0", start_method="fork",
    )  # fmt: skip
    try:
        elastic_launch(config, share)(module, words)
    except ChildFailedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def share(module: str, words: list[str]) -> None:
    """In each process that the agent has forked: as in one that it has begun anew, of which it is not the father."""
    os.setsid()
    ctypes.CDLL(None).prctl(1, 0)  # PR_SET_PDEATHSIG: torch has asked that such a process hears of its father's end
    if code := import_module(module).main(words):
        sys.exit(code)


if __name__ == "__main__":
    sys.exit(launch(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
