"""The whole demo: wall time from the command to its PDF, processor time, and the verdicts that it ends with.

python benchmarks/demo.py [key=value ...]               # about five minutes on two cores, which it wants for itself
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import torch

from benchmarks.measure import note
from benchmarks.told import Parser
from common.speed import machine_line

EXPERIMENT = ROOT / "experiments" / "gram_ablation.yaml"


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, as steps=200")
    overrides = parser.parse_args(argv).overrides
    print(machine_line(torch.device("cpu")), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "harness" / "run.py"), str(EXPERIMENT)]
        places = [f"runtime.folder={folder}/runs", f"runtime.cache={folder}/cache"]
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([*command, *places, *overrides], cwd=ROOT, capture_output=True, text=True)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:  # a refusal is a line already
        print(done.stderr, end="", file=sys.stderr)
        return done.returncode
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    verdicts = [line for line in done.stdout.splitlines() if " vs " in line]
    print("\n".join([*verdicts, f"{wall:.0f} s, {cpu:.0f} s of the processor"]))
    if not verdicts:
        told = "got a demo that ended without a verdict, so none is noted: want two arms and an evaluation at least"
        print(f"gramlab: {told}; change other settings", file=sys.stderr)
        return 1
    found = {"seconds": wall, "processor_seconds": cpu, "verdicts": verdicts}
    note("demo", " ".join(overrides) or "as it is", found, device=torch.device("cpu"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
