"""Weights & Biases: offline, into files that `wandb sync` uploads, unless `WANDB_MODE` says otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # before the import: nothing is told to its makers

import wandb  # pyright: ignore[reportMissingImports]
from PIL.Image import Image

from harness.trackers.tracker import Point, Run, State

ENDS = {"done": 0, "failed": 1, "interrupted": 255}
# What is measured of this machine and this code by wandb would be that of a process that only mirrors files
QUIET = {
    "console": "off",
    "silent": True,
    "disable_git": True,
    "disable_code": True,
    "save_code": False,
    "x_disable_stats": True,
    "x_disable_meta": True,
}


class WandB:
    """A run of the group that is called as the experiment."""

    def __init__(self, run: Run) -> None:
        own: dict[str, tuple[str, Any]] = {  # where the environment does not say it
            "WANDB_PROJECT": ("project", "gramlab"),
            "WANDB_RUN_GROUP": ("group", run.experiment),
            "WANDB_DIR": ("dir", str(run.folder)),
            "WANDB_MODE": ("mode", "offline"),
        }
        self.run = wandb.init(
            **dict(given for variable, given in own.items() if not os.environ.get(variable)),
            id=run.id,
            name=run.name,
            notes=run.about or None,
            config=dict(run.tags),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(**QUIET),
        )
        self.run.define_metric("*", step_metric="step")

    def scalars(self, points: Sequence[Point]) -> None:
        """Values with their step as one of them: wandb's own counter takes nothing of an earlier step."""
        for step, values in points:
            self.run.log({"step": step, **values})

    def settings(self, plain: Mapping[str, Any]) -> None:
        """The run's config, nested."""
        self.run.config.update(dict(plain), allow_val_change=True)

    def text(self, name: str, text: str) -> None:
        """A text file of the run."""
        self._keep(f"{name}.txt", text.encode())

    def picture(self, name: str, step: int, image: Image) -> None:
        """A picture in the history of the run."""
        self.run.log({"step": step, name: wandb.Image(image)})

    def file(self, path: Path) -> None:
        """A copy among the run's files."""
        self._keep(path.name, path.read_bytes())

    def _keep(self, name: str, content: bytes) -> None:
        path = Path(self.run.dir) / name
        path.write_bytes(content)
        self.run.save(str(path), base_path=self.run.dir, policy="now")

    def close(self, state: State) -> None:
        """Say how it ended."""
        self.run.finish(exit_code=ENDS[state])
