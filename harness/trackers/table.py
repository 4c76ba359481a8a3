"""Every tracker by its name, which is that of the package and of the extra that it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec

from common.errors import BadInput
from harness.trackers.tracker import Run, Tracker

# TensorBoard is not among them: it is always on, and each job writes its files as it goes
TRACKERS = {
    "mlflow": ("harness.trackers.mlflow_tracker", "MLflow"),
    "wandb": ("harness.trackers.wandb_tracker", "WandB"),
}


def tracker(name: str) -> Callable[[Run], Tracker]:
    """The class of a tracker; imports what it needs."""
    module, its_name = TRACKERS[name]
    return getattr(import_module(module), its_name)


def refuse_missing(names: Sequence[str]) -> None:
    """Raises `BadInput` where a tracker is asked for whose package is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise BadInput(
                f"trackers: {name} is not installed: want it here; pip install 'gramlab[{name}]', or leave it out"
            )
