"""The machine that a command runs on: its device, its memory, its versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from common.errors import BadInput


def pick_device(name: str) -> torch.device:
    """The device asked for, "cpu" or "cuda"; "auto" takes CUDA when there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise BadInput("got device cuda, but torch sees no GPU here: want cpu or auto; do choose one of them")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def environment(device: torch.device, *, precision: str) -> dict[str, Any]:
    """Versions and machine, for the report's last page."""
    return {
        "gramlab": _version("gramlab"),
        "git": _git_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": _version("timm"),
        "numpy": np.__version__,
        "mmsegmentation": _version("mmsegmentation"),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(memory_bytes(torch.device("cpu")) / 2**30, 1),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "precision": precision,
    }


def memory_bytes(device: torch.device) -> int:
    """All memory of the machine, or of a CUDA device."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().total


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The CPU's name as its maker gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def cpu_maker() -> str:
    """Whose processor it is, as it tells itself: "GenuineIntel", "AuthenticAMD"; "" where nothing tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("vendor_id")), "")


def reset_peak_memory(device: torch.device) -> None:
    """Begin the peak of a new job, where the device keeps one; that of a process cannot be taken back."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_gib(device: torch.device) -> float:
    """Most memory held: on a CUDA device since `reset_peak_memory`; on the CPU resident since the process began.

    So on the CPU it is at least the peak of every earlier job of the same command. Linux counts KiB, macOS bytes.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _git_commit() -> str:
    """Commit of the code, with a mark when the tree differs from it."""
    folder = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=10"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
