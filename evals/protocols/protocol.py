"""What the settings of every evaluation share: name, version, input size, caps, and the hash that stands for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, ClassVar

import numpy as np

from common.bounds import (
    About,
    Batch,
    Count,
    Name,
    Natural,
    NotNegative,
    Pixels,
    Positive,
    Share,
    SomeShare,
    Whole,
)
from common.schema import settings
from evals.datasets.labelled_set import Needs
from evals.features.view import Precision, View

Watch = Callable[[int, np.ndarray], None]  # takes an image's number and what a task predicts of its pixels or cells


@settings
class Protocol:
    """Settings of one evaluation; a changed setting changes the hash, a changed meaning must raise the version.

    Values live in the protocol's file, none is a default here.
    """

    method: ClassVar[str]  # which code carries it out: a key of `evals.tasks.methods.METHODS`
    task: ClassVar[str]  # what it measures: the column `eval` of result rows
    needs: ClassVar[Needs]  # what its sets must have

    name: Annotated[Name, About("its name, that of its file")]
    version: Annotated[Count, About("raised when the meaning changes, not only the values")]
    size: Annotated[Pixels, About("short side of the input in pixels")]
    precision: Annotated[Precision, About("in which the backbone computes; features are float32 either way")]
    train_images: Annotated[Count | None, About("at most so many training images, evenly spread; null takes all")]
    test_images: Annotated[Count | None, About("at most so many test images, evenly spread; null takes all")]

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


@settings
class Cropped(Protocol):
    """A protocol that sees centre crops: short side to round(`size` / `crop_pct`), then the centre square of `size`."""

    crop_pct: Annotated[SomeShare, About("`size` as a share of the short side that the centre square is cut from")]

    @property
    def view(self) -> View:
        return View("crop", self.size, self.crop_pct)


@settings
class TrainedHead(Protocol):
    """A protocol that trains a head by AdamW on augmented, live features and keeps it where it is judged best.

    Every random draw is a function of `seed`.
    """

    seed: Annotated[Whole, About("of every random draw: the head's start, the order, the views")]
    init_std: Annotated[NotNegative, About("deviation of the normal distribution that the head's weights start from")]
    iterations: Annotated[Count, About("training steps in all")]
    batch_size: Annotated[Batch, About("images of a training step")]
    rate: Annotated[Positive, About("learning rate that the warm-up leads to")]
    weight_decay: Annotated[NotNegative, About("AdamW's, of all parameters of the head")]
    clip: Annotated[Positive | None, About("largest norm of the gradient; null does not clip")]
    warmup: Annotated[Natural, About("iterations of the warm-up")]
    warmup_ratio: Annotated[Share, About("share of `rate` at which the warm-up begins")]
    validate_every: Annotated[Count, About("iterations between two judgements of the head, the best of which is kept")]
