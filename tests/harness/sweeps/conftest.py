"""A tiny sweep: real trials that train in a second or so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOMS = {"size": 32, "split": "val", "name": "rooms"}
SECTIONS: dict[str, Any] = {
    "name": "tiny",
    "trunk": {"steps": 2},
    "gram": {"start_step": 2},
    "arms": {"plain": {}},
    "evals": {
        "every": 2,
        "sets": {"kept": {**ROOMS, "count": 24}, "asked": {**ROOMS, "count": 8, "split": "test"}},
        "tasks": {
            "knn": {"protocol": "knn", "train": "kept", "test": "asked"},
            "segmentation": {"protocol": "segmentation", "train": "kept", "test": "asked"},
            "health": {"protocol": "health", "test": "asked"},
        },
    },
    "runtime": {"threads": 1},
}
SWEEP: dict[str, Any] = {
    "objectives": ["miou", "hours"],
    "trials": 3,
    "space": {
        "gram.weight": {"low": 0.1, "high": 10.0, "log": True},
        "gram.teacher": {"choices": ["snapshot", "ema"]},
        "gram.update_every": {"choices": [None, 2], "only_if": {"gram.teacher": "snapshot"}},
    },
}


@pytest.fixture
def write_sweep(write_tiny: Callable[..., Path]) -> Callable[..., Path]:
    """Writes the tiny sweep, its section `sweep` changed, as a file in the test's folder."""

    def write(sections: dict[str, Any] | None = None, **sweep: Any) -> Path:
        return write_tiny(**{**SECTIONS, "sweep": {**SWEEP, **sweep}, **(sections or {})})

    return write


@pytest.fixture
def record(tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """What `sweep.json` of the tiny sweep says."""
    return lambda: json.loads((tmp_path / "runs" / "tiny" / "sweep.json").read_text())
