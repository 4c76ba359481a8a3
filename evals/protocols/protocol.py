"""What the settings of every evaluation share: name, version, input size, caps, and the hash that stands for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from common import limits
from common.limits import COUNT, NATURAL, POSITIVE, SHARE, Limit
from evals.datasets.labelled_set import Needs
from evals.features.view import Precision, View

Watch = Callable[[int, np.ndarray], None]  # takes an image's number and its predicted pixels: classes, or metres


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Settings of one evaluation; a changed setting changes the hash, a changed meaning must raise the version.

    Values live in the protocol's file, none is a default here. `size` is the short side of the input in pixels, and
    `precision` that in which the backbone computes (features are float32 either way); `train_images` and `test_images`
    cap the sets to evenly spread subsets, None takes all.
    """

    method: ClassVar[str]  # which code carries it out: a key of `evals.tasks.methods.METHODS`
    task: ClassVar[str]  # what it measures: the column `eval` of result rows
    needs: ClassVar[Needs]  # what its sets must have

    name: str
    version: int
    size: int
    precision: Precision
    train_images: int | None
    test_images: int | None

    def __post_init__(self) -> None:
        limits.check(self, dict.fromkeys(("size", "train_images", "test_images"), COUNT))

    @property
    def id(self) -> str:
        return f"{self.name}-v{self.version}"

    @property
    def view(self) -> View:
        """What is extracted for methods on cached features."""
        return View("whole", self.size)

    def hash(self) -> str:
        """Eight hex digits over all settings, the input size among them: values compare only where this agrees."""
        content = json.dumps({"method": self.method, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:8]


@dataclass(frozen=True, kw_only=True)
class Cropped(Protocol):
    """A protocol that sees centre crops: short side to round(`size` / `crop_pct`), then the centre square of `size`."""

    crop_pct: float

    def __post_init__(self) -> None:
        super().__post_init__()
        limits.check(self, {"crop_pct": Limit(low=0, high=1, above=True)})

    @property
    def view(self) -> View:
        return View("crop", self.size, self.crop_pct)


@dataclass(frozen=True, kw_only=True)
class TrainedHead(Protocol):
    """A protocol that trains a head by AdamW on augmented, live features and keeps it where it is judged best.

    `rate` is reached after `warmup` iterations from `warmup_ratio` of it; the head is judged each `validate_every`
    iterations; gradients are clipped to the norm `clip`, None does not clip. Every random draw is a function of `seed`.
    """

    seed: int
    init_std: float
    iterations: int
    batch_size: int
    rate: float
    weight_decay: float
    clip: float | None
    warmup: int
    warmup_ratio: float
    validate_every: int

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = dict.fromkeys(("iterations", "batch_size", "validate_every"), COUNT)
        scales = dict.fromkeys(("init_std", "weight_decay", "warmup"), NATURAL)
        limits.check(self, {**counts, **scales, **dict.fromkeys(("rate", "clip"), POSITIVE), "warmup_ratio": SHARE})
