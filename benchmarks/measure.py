"""Times taken in turns, and the file of what was measured: for benchmarks of steps and of products.

A line of that file is a JSON object: `bench`, `case`, what was measured by name, and `machine`, `versions`, `commit`
and `when`. Ratios are of one run, in turns, so that they hold on a machine that does other things beside.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from common import machine
from common.products import times_transposed

LEDGER = Path("benchmarks.jsonl")  # where one stands


def in_turns(
    runs: Mapping[str, Callable[[], object]],
    *,
    seconds: float,
    device: torch.device | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """The least time of each by the clock, in seconds: once before to warm up, then in turns, once at least and until
    each has had `seconds`.
    """
    best, spent = dict.fromkeys(runs, float("inf")), dict.fromkeys(runs, 0.0)
    for run in runs.values():
        run()
    while min(spent.values()) < seconds or not all(spent.values()):
        for name, run in runs.items():
            wait(device)
            start = clock()
            run()
            wait(device)
            taken = clock() - start
            best[name], spent[name] = min(best[name], taken), spent[name] + taken
    return best


def wait(device: torch.device | None) -> None:
    """Until the device has done what it was given."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_rate(device: torch.device, precision: str) -> float:
    """Operations a second of a large product in this precision, the most that a step could have."""
    product, operations = large_product(device, precision)
    return operations / in_turns({"product": product}, seconds=1, device=device)["product"]


def large_product(device: torch.device, precision: str) -> tuple[Callable[[], object], int]:
    """What multiplies two large matrices, and the operations that it takes."""
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    side = 2048 if device.type == "cpu" else 8192
    x, y = (torch.ones(side, side, device=device, dtype=kind) for _ in range(2))
    return lambda: times_transposed(x, y), 2 * side**3


def resident(key: str) -> float:
    """MiB that this process has ("VmRSS"), or had at most ("VmHWM"), by Linux's account of it alone: getrusage would
    also count the process that started it.
    """
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(rf"{key}:\s*(\d+) kB", text)[0]) / 1024


def note(bench: str, case: str, found: Mapping[str, Any], *, device: torch.device, ledger: Path = LEDGER) -> str:
    """Append what was measured; returns how it compares with the last line of the same case on the same machine."""
    about = machine.environment(device, precision="")
    here = {name: about[name] for name in ("cpu", "cores", "threads", "device")}
    versions = {name: about[name] for name in ("gramlab", "python", "torch", "timm", "numpy")}
    when = datetime.now(UTC).isoformat(timespec="seconds")
    row = {"bench": bench, "case": case, **found, "machine": here, "versions": versions, "commit": about["git"]}
    before = _last(ledger, bench, case, here)
    with ledger.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**row, "when": when}) + "\n")
    if before is None or "ratio" not in found or "ratio" not in before:
        return ""
    return f"{found['ratio'] / before['ratio']:.2f} of the ratio on {before['when'][:10]} ({before['commit']})"


def _last(ledger: Path, bench: str, case: str, here: Mapping[str, Any]) -> dict[str, Any] | None:
    if not ledger.exists():
        return None
    rows = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines() if line.strip()]
    same = [row for row in rows if (row["bench"], row["case"], row["machine"]) == (bench, case, here)]
    return same[-1] if same else None
