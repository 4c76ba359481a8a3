"""Time and memory of the Gram loss between patches and between channels, and from where the second pays.

    python benchmarks/gram.py [--widths 96 384 768] [--ratios 1 1.5 2 3 4 8] [--seconds 1] [--device cuda]

Loss and gradient of the same made-up patches, in turns; on a CPU one thread, and CPU time is counted.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch import Tensor
from torch.distributed._tools.mem_tracker import MemTracker

from benchmarks.measure import in_turns, note
from benchmarks.told import Parser
from common.speed import machine_line
from harness.losses.gram import gram_loss
from harness.losses.relations import difference

FORMS = {"patches": float("inf"), "channels": 0}  # `difference.PAYS` that asks for this form


def step(student: Tensor, teacher: Tensor, form: str) -> None:
    """Loss and gradient in one form."""
    with mock.patch.object(difference, "PAYS", FORMS[form]):
        gram_loss(student, teacher).backward()
    student.grad = None


def peak(run: Callable[[], None], device: torch.device) -> float:
    """MiB that it takes at once, above what there is before."""
    tracker = MemTracker()
    with tracker:
        run()
    return tracker.get_tracker_snapshot("peak")[device]["Total"] / 2**20


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[96, 384, 768], help="D (default: %(default)s)")
    parser.add_argument(
        "--ratios", type=float, nargs="+", default=[1, 1.5, 2, 3, 4, 8], help="P / D (default: %(default)s)"
    )
    parser.add_argument("--images", type=int, default=1, help="matrices at once (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each number (default: %(default)s)")
    parser.add_argument("--device", type=torch.device, default="cpu", help="default: %(default)s")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    print(machine_line(given.device))
    print(f"{'':16}{'ms':>22}{'':>8}{'MiB':>22}")
    print(
        f"{'D':>8}{'P':>8}{'patches':>11}{'channels':>11}{'ratio':>8}{'patches':>11}{'channels':>11}{'ratio':>8}  taken"
    )
    for width in given.widths:
        for ratio in given.ratios:
            patches = round(width * ratio)
            print(f"{width:8}{patches:8}{row(patches, width, given)}", flush=True)
    return 0


def row(patches: int, width: int, given: argparse.Namespace) -> str:
    """Both forms at one size."""
    draws = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(given.images, patches, width, generator=draws).to(given.device) for _ in range(2))
    student.requires_grad_()
    runs = {form: partial(step, student, teacher, form) for form in FORMS}
    clock = time.perf_counter if given.device.type == "cuda" else time.process_time
    slow, fast = in_turns(runs, seconds=given.seconds, device=given.device, clock=clock).values()
    large, small = (peak(run, student.device) for run in runs.values())
    taken = "channels" if difference.in_channels(patches, width) else "patches"
    found = {"patches_ms": slow * 1e3, "channels_ms": fast * 1e3, "patches_mib": large, "channels_mib": small}
    case = f"D {width}, P {patches}, {given.images} at once"
    note("gram", case, {**found, "ratio": slow / fast, "taken": taken}, device=given.device)
    times = f"{slow * 1e3:11.2f}{fast * 1e3:11.2f}{slow / fast:8.2f}"
    return f"{times}{large:11.2f}{small:11.2f}{large / small:8.2f}  {taken}"


if __name__ == "__main__":
    sys.exit(main())
