"""Settings of every loss that is kept to a Gram teacher; `harness/gram_teacher.py` is what they steer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from common.limits import require


class GramTeacher(Enum):
    snapshot = "snapshot"
    ema = "ema"
    checkpoint = "checkpoint"


@dataclass(frozen=True)
class Anchoring:
    """A loss that holds a relation between patches to that of an earlier teacher (§4.2): how much, when, to whom."""

    weight: float = 0.0
    start_step: int = 0
    warmup_steps: int = 0
    teacher: GramTeacher = GramTeacher.snapshot
    teacher_step: int | None = None
    checkpoint: str | None = None
    update_every: int | None = None
    resolution: float = 1.0
    undistorted: bool = True

    def __post_init__(self) -> None:
        require(self.weight >= 0, f"gram.weight={self.weight}: use 0 to switch it off")
        require(self.start_step >= 0, f"gram.start_step={self.start_step}: want 0 or more")
        require(
            self.update_every is None or self.update_every >= 1,
            f"gram.update_every={self.update_every}: want at least 1 step, or null for never",
        )
        require(self.warmup_steps >= 0, f"gram.warmup_steps={self.warmup_steps}: want 0 or more")
        require(self.resolution >= 1, f"gram.resolution={self.resolution}: want 1.0 or more")
        if self.weight == 0:
            return
        if self.teacher is GramTeacher.checkpoint:
            require(
                self.checkpoint is not None, "gram.teacher=checkpoint: want gram.checkpoint=<exported backbone folder>"
            )
        else:
            require(
                self.checkpoint is None,
                f"gram.checkpoint is set but gram.teacher={self.teacher.value}: set gram.teacher=checkpoint or drop it",
            )
        if self.teacher is not GramTeacher.snapshot:
            require(
                self.teacher_step is None,
                f"gram.teacher_step is set but gram.teacher={self.teacher.value}: it belongs to gram.teacher=snapshot",
            )
        if self.teacher is GramTeacher.ema:
            require(
                self.update_every is None,
                "gram.update_every is set but gram.teacher=ema is renewed at every step: set it to null",
            )
        require(
            self.teacher_step is None or 0 <= self.teacher_step <= self.start_step,
            f"gram.teacher_step={self.teacher_step}: want a step from 0 to gram.start_step={self.start_step}",
        )

    def weight_at(self, step: int) -> float:
        """Zero before `start_step`, a half-cosine to the weight over `warmup_steps` (ends included), then constant."""
        if step < self.start_step:
            return 0.0
        done = step - self.start_step
        if done >= self.warmup_steps - 1:
            return self.weight
        return self.weight * (1 - math.cos(math.pi * done / (self.warmup_steps - 1))) / 2
