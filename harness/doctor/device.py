"""What the machine is: processors with what they do a second, memory, room on the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from common.machine import cores, cpu_name, memory_bytes
from common.speed import choose_precision, precision_rates
from harness.doctor.finding import Finding

GIB = 2**30
LITTLE = 2.0  # GiB, of memory and of disk: what the demo takes


def findings() -> Iterator[Finding]:
    """All of it; takes about two seconds for each processor."""
    yield Finding("processor", f"{cpu_name()}, {cores()} cores, {torch.get_num_threads()} threads in torch")
    yield speed(torch.device("cpu"), "one thread")
    yield from gpus()
    yield memory(psutil.virtual_memory().available / GIB, memory_bytes(torch.device("cpu")) / GIB)
    yield disk(Path.cwd(), shutil.disk_usage(Path.cwd()).free / GIB)


def speed(device: torch.device, what: str) -> Finding:
    """What a processor does a second in the matrix products of a block, and what that means for `precision: auto`."""
    rates = precision_rates(device)
    each = " and ".join(f"{rate / 1e9:.3g} GFLOP/s in {name}" for name, rate in rates.items())
    return Finding("speed", f"{what}: {each}; precision: auto takes {choose_precision(rates)[0]}")


def gpus() -> Iterator[Finding]:
    """Every GPU that torch sees, with its speed, or why there may be none."""
    if not torch.cuda.is_available():
        yield no_gpu(driver=shutil.which("nvidia-smi") is not None)
        return
    for number in range(torch.cuda.device_count()):
        device = torch.device("cuda", number)
        free, total = (size / GIB for size in torch.cuda.mem_get_info(device))
        name = torch.cuda.get_device_name(device)
        yield Finding("GPU", f"cuda:{number}, {name}, {free:.1f} of {total:.1f} GiB free")
        yield speed(device, f"cuda:{number}")


def no_gpu(*, driver: bool) -> Finding:
    """That there is no GPU, which is a fault only where there seems to be one.

    driver: whether the tools of a driver are installed.
    """
    if not driver:
        return Finding("GPU", "none: everything runs on the processor")
    do = "compare the driver's version in nvidia-smi with torch.version.cuda; install a torch built for it"
    return Finding("GPU", f"torch {torch.__version__} sees none, though nvidia-smi is there", "lacks", do)


def memory(free: float, total: float) -> Finding:
    """Memory in GiB; little of it is told with what to do."""
    told = f"{free:.1f} of {total:.1f} GiB free"
    if free >= LITTLE:
        return Finding("memory", told)
    return Finding(
        "memory", f"{told}: the demo wants {LITTLE:g}", "lacks", "end other programs, or train fewer jobs at once"
    )


def disk(folder: Path, free: float) -> Finding:
    """Room in GiB where runs go when commands are given here."""
    if not os.access(folder, os.W_OK):
        return Finding("disk", f"{folder} cannot be written", "lacks", "give commands in a folder of your own")
    told = f"{free:.1f} GiB free in {folder}"
    if free >= LITTLE:
        return Finding("disk", told)
    do = "gramlab clean frees what no experiment asks for; runtime.folder=FOLDER trains elsewhere"
    return Finding("disk", f"{told}: the demo wants {LITTLE:g}", "lacks", do)
