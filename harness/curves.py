"""What a job leaves besides weights: training curves, status and provenance; append-only or replaced whole."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import timm
import torch
from torch.utils.tensorboard import SummaryWriter

from common.errors import BadInput
from harness.settings import Device, Experiment


class Curves:
    """The training curve of one job: `metrics.jsonl` and TensorBoard scalars, cut back to `step` when resumed."""

    def __init__(self, folder: Path, *, step: int):
        self.path = folder / "metrics.jsonl"
        rows = [row for row in read_rows(self.path) if row["step"] <= step]
        if self.path.exists():
            write_text(self.path, "".join(json.dumps(row) + "\n" for row in rows))
        self.steps_logged = int(rows[-1]["step"]) if rows else 0
        self.seconds_logged = float(rows[-1]["seconds"]) if rows else 0.0
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, row: dict[str, float]) -> None:
        """Append one logged step."""
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.steps_logged, self.seconds_logged = int(row["step"]), float(row["seconds"])
        for key, value in row.items():
            if key != "step":
                self.board.add_scalar(f"train/{key}", value, int(row["step"]))

    def add_evaluation(self, step: int, values: dict[str, float]) -> None:
        """Show evaluation results in TensorBoard, beside the losses."""
        for key, value in values.items():
            self.board.add_scalar(f"evals/{key}", value, step)

    def close(self) -> None:
        """Flush TensorBoard."""
        self.board.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file; a last line that a crash cut short is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def read_json(path: Path, *, remedy: str) -> dict[str, Any]:
    """A JSON object. Raises `BadInput`, naming the file and the remedy, when it is empty, damaged or no object."""
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise BadInput(f"{path} cannot be read ({error}): want the JSON object that was written; {remedy}") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} holds a {type(content).__name__}: want the JSON object that was written; {remedy}")
    return content


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file whole."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a text file whole: a crash, or a loss of power, leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def pick_device(device: Device) -> torch.device:
    """The device asked for; `auto` takes CUDA when there is one."""
    if device is Device.cuda and not torch.cuda.is_available():
        raise BadInput("device=cuda: this machine has no CUDA device that torch can use; set device=cpu or device=auto")
    return torch.device("cuda" if device is not Device.cpu and torch.cuda.is_available() else "cpu")


def environment(experiment: Experiment, device: torch.device) -> dict[str, Any]:
    """Versions and machine, for the report's last page."""
    return {
        "gramlab": _version("gramlab"),
        "git": _git_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "numpy": np.__version__,
        "mmsegmentation": _version("mmsegmentation"),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "precision": experiment.precision.value,
    }


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


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
