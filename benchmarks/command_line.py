"""How long `gramlab` takes to answer what needs no command: help, mistakes, completion; and Python to begin at all.

    python benchmarks/command_line.py [--turns 5]

Each in a new process, in turns; the best time of each, by the clock and by the processor.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from benchmarks.told import Parser
from common.command import columns
from common.speed import machine_line
from harness.cli import COMMANDS

CLI = str(Path(__file__).resolve().parents[1] / "harness" / "cli.py")
LIMIT = 0.5  # seconds


def questions() -> dict[str, tuple[list[str], dict[str, str]]]:
    """What is asked: the words of a command and its environment."""
    found = {f"gramlab {' '.join(words)}": (words, {}) for words in ([], ["--version"], ["ran"], ["run"])}
    found |= {f"gramlab {name} --help": ([name, "--help"], {}) for name in COMMANDS}
    found["gramlab run --settings"] = (["run", "--settings"], {})
    for line in ("gramlab ", "gramlab run x.yaml gram."):
        asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
        found[f"{line}<TAB>"] = ([], asked | {"_ARGCOMPLETE_STDOUT_FILENAME": os.devnull})
    return found


def seconds(command: list[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Of one process: by the clock, and of the processor."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=os.environ | environment, capture_output=True, check=False)
    taken, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the machine and the table."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5, help="how often each is asked")
    turns = parser.parse_args().turns
    asked = {name: ([sys.executable, CLI, *words], given) for name, (words, given) in questions().items()}
    asked = {"python -c pass": ([sys.executable, "-c", "pass"], {}), **asked}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in asked}
    for _ in range(turns):
        for name, (command, given) in asked.items():
            found[name].append(seconds(command, given))
    print(machine_line(torch.device("cpu")))
    best = {name: [min(times) for times in zip(*taken, strict=True)] for name, taken in found.items()}
    print(columns([("what", "clock, s", "processor, s"), *((n, *(f"{x:.2f}" for x in b)) for n, b in best.items())]))
    late = [name for name, (_, spent) in best.items() if spent > LIMIT]
    print(f"above {LIMIT} s of the processor: {', '.join(late) or 'none'}")


if __name__ == "__main__":
    main()
