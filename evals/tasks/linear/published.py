"""Linear probe as DINOv3 publishes it: a grid of heads, trained on augmented images in one pass.

Source: arXiv 2508.10104 App. D.7 (`linear-paper`) and the published code (`linear-code`). Their files in `protocols/`
tell both step by step.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from common.bounds import (
    About,
    Batch,
    Choices,
    Count,
    NotNegative,
    Positive,
    Range,
    Share,
    ShareBelowOne,
    SomeShare,
    Whole,
)
from common.draws import Stream, pcg64, torch_generator
from common.errors import BadInput
from common.progress import Bar
from common.schema import settings
from common.workers import batches
from evals.backbones.backbone import Backbone, Features
from evals.datasets.labelled_set import LabelledSet, Needs
from evals.features import frozen
from evals.features.view import prepare
from evals.judging.image_classes import learnable
from evals.protocols.protocol import Cropped
from evals.tasks.linear.grid import INPUTS, GridHead, Heads, Input, Judged, cosine, grid, judge

PORTION = 64  # images that the backbone sees at a time: a batch of 1024 at 512 px takes gigabytes

log = logging.getLogger("gramlab")


@settings
class PublishedLinear(Cropped):
    """Settings as `protocols/linear-paper.yaml` and `protocols/linear-code.yaml` explain them.

    Every random draw, of the heads' start, the order and the views, is a function of `seed`.
    """

    method: ClassVar[str] = "linear_live"
    task: ClassVar[str] = "linear"
    needs: ClassVar[Needs] = "image classes"

    seed: Annotated[Whole, About("of the heads' start, the order of the images and their views")]
    crop_area: Annotated[Range[SomeShare], About("share of the image that a random crop covers")]
    crop_aspect: Annotated[Range[Positive], About("width / height of a random crop")]
    flip: Annotated[Share, About("chance of a mirror image")]
    inputs: Annotated[Choices[Input], About("what heads read; class token, mean patch, or both side by side")]
    rates: Annotated[Choices[Positive], About("peak learning rates of the heads, times batch_size / rate_batch")]
    rate_batch: Annotated[Count | None, About("batch size that `rates` are meant for; null does not scale them")]
    decays: Annotated[Choices[NotNegative], About("weight decays of the heads, of weights and biases alike")]
    momentum: Annotated[ShareBelowOne, About("of SGD")]
    init_std: Annotated[NotNegative, About("deviation of the normal distribution that weights start from")]
    epochs: Annotated[Count, About("passes over the training images")]
    epoch_steps: Annotated[Count | None, About("iterations of a pass; null takes as many as see every image")]
    batch_size: Annotated[Batch, About("images of a training step")]

    @property
    def heads(self) -> tuple[GridHead, ...]:
        """The grid, with the rates that are used: `rates` times batch_size / rate_batch."""
        scale = 1 if not self.rate_batch else self.batch_size / self.rate_batch
        return grid(self.inputs, [rate * scale for rate in self.rates], self.decays)

    def steps(self, images: int) -> int:
        """Iterations in all; without `epoch_steps` an epoch has as many as it takes to see every image."""
        return self.epochs * (self.epoch_steps or math.ceil(images / self.batch_size))


class Portion(NamedTuple):
    """Part of a batch as it comes from the loader."""

    images: UInt8[Tensor, "b S S 3"]
    labels: Int[Tensor, " b"]


def metrics(_: PublishedLinear) -> tuple[str, ...]:
    """The names of its metrics, the leading one first."""
    return "top1", "top5"


def evaluate(
    protocol: PublishedLinear,
    backbone: Backbone,
    train: LabelledSet,
    test: LabelledSet,
    *,
    device: str | torch.device = "cpu",
    workers: int = 0,
) -> dict[str, np.ndarray]:
    """Per test image: `correct` and `in_top5`, whether its class is the first guess, and among the first five.

    Args:
        workers: processes that read and augment images; the result does not depend on it.

    Raises:
        BadInput: a size that the backbone refuses, sets without or of unlike classes, a grid that diverges.
    """
    preconditions(protocol, train, test)
    with frozen.lent(backbone, device):
        fitted = fit(protocol, backbone, train, workers=workers)
        judged = judge_on(test, fitted, protocol, backbone, workers=workers)
    best = judged.best()
    log.info("linear probe on %s: %s", train.name, fitted.heads[best])
    keys = np.array([test.key(index) for index in range(len(test))])
    return {"keys": keys, "correct": judged.correct[:, best].numpy(), "in_top5": judged.in_top5[:, best].numpy()}


def fit(protocol: PublishedLinear, backbone: Backbone, train: LabelledSet, *, workers: int = 0) -> Heads:
    """Every head of the grid, trained on the same augmented batches where the backbone is."""
    steps, portions = protocol.steps(len(train)), math.ceil(protocol.batch_size / PORTION)
    made = batches(partial(portion_of, protocol, train), steps * portions, workers=workers)
    seen = _seen(made, protocol, backbone)
    fitted: Heads | None = None
    for step in Bar(range(steps), desc="linear heads", unit="step"):
        parts, labels = zip(*islice(seen, portions), strict=True)
        x = {name: torch.cat([part[name] for part in parts]) for name in protocol.inputs}
        fitted = fitted or _fresh(protocol, x, classes=len(train.classes))
        fitted.step(x, torch.cat(labels), cosine(step, steps))
    assert fitted is not None, "epochs and images are at least one"
    return fitted


def judge_on(
    test: LabelledSet, fitted: Heads, protocol: PublishedLinear, backbone: Backbone, *, workers: int = 0
) -> Judged:
    """All heads on the centre views of a set."""
    count = math.ceil(len(test) / PORTION)
    made = batches(partial(centre_portion, protocol, test), count, workers=workers)
    return judge(fitted, Bar(_seen(made, protocol, backbone), total=count, desc="linear heads, test", unit="batch"))


def portion_of(protocol: PublishedLinear, train: LabelledSet, number: int) -> Portion:
    """Augmented views: the portion of this number, counted from 0 over all batches; a function of it and the seed."""
    step, place = divmod(number, math.ceil(protocol.batch_size / PORTION))
    places = range(protocol.batch_size)[place * PORTION : (place + 1) * PORTION]
    positions = [step * protocol.batch_size + place for place in places]
    order = Stream(len(train), protocol.seed)
    views = [
        augmented(train.image(order[position]), protocol, pcg64(protocol.seed, "views", position))
        for position in positions
    ]
    labels = [train.label(order[position]) for position in positions]
    return Portion(torch.from_numpy(np.stack(views)), torch.tensor(labels))


def centre_portion(protocol: PublishedLinear, test: LabelledSet, number: int) -> Portion:
    """Centre views in the order of the set."""
    indices = range(len(test))[number * PORTION : (number + 1) * PORTION]
    views = [prepare(test.image(index), protocol.view, stride=1) for index in indices]
    return Portion(torch.from_numpy(np.stack(views)), torch.tensor([test.label(index) for index in indices]))


def augmented(
    image: UInt8[np.ndarray, "H W 3"], protocol: PublishedLinear, draws: np.random.Generator
) -> UInt8[np.ndarray, "S S 3"]:
    """A random crop at the protocol's size (bicubic, antialiased), by chance mirrored."""
    mirrored = draws.random() < protocol.flip
    area, aspect = protocol.crop_area, protocol.crop_aspect
    top, left, height, width = crop_box(image.shape[0], image.shape[1], draws, area=area, aspect=aspect)
    piece = Image.fromarray(image[top : top + height, left : left + width])
    view = np.asarray(piece.resize((protocol.size, protocol.size), Image.Resampling.BICUBIC))
    return view[:, ::-1] if mirrored else view


def crop_box(
    height: int,
    width: int,
    draws: np.random.Generator,
    *,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> tuple[int, int, int, int]:
    """A random box as (top, left, height, width): torchvision's `RandomResizedCrop` (Szegedy et al., 1409.4842 §6).

    Its share of the image is even over `area`, the logarithm of its width / height over that of `aspect`. If none of
    ten boxes fits, the largest one in the centre within `aspect`.
    """
    for _ in range(10):
        size, ratio = height * width * draws.uniform(*area), math.exp(draws.uniform(*np.log(aspect)))
        rows, columns = round(math.sqrt(size / ratio)), round(math.sqrt(size * ratio))
        if 0 < rows <= height and 0 < columns <= width:
            return int(draws.integers(height - rows + 1)), int(draws.integers(width - columns + 1)), rows, columns
    ratio = min(max(width / height, aspect[0]), aspect[1])
    rows, columns = min(height, round(width / ratio)), min(width, round(height * ratio))
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def _seen(
    made: Iterator[Portion], protocol: PublishedLinear, backbone: Backbone
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    for images, labels in made:
        pixels = frozen.floats(images.to(backbone.device))
        padded, _ = frozen.pad_to_stride(pixels, backbone.stride, colour=backbone.mean)
        found = frozen.features(backbone, padded, precision=protocol.precision)
        yield read(found, protocol.inputs), labels.to(backbone.device)


def read(features: Features, inputs: Sequence[str]) -> dict[str, Float[Tensor, "B D"]]:
    """What heads of these inputs read. Padding is less than a patch, so every patch holds a part of the image."""
    parts = {"pooled": features.pooled, "mean": features.patches.mean((2, 3))}
    return {name: torch.cat([parts[part] for part in INPUTS[name]], 1) for name in inputs}


def _fresh(protocol: PublishedLinear, like: dict[str, Tensor], *, classes: int) -> Heads:
    """All heads of one input start alike: only rate and decay tell them apart."""
    start = {
        name: protocol.init_std
        * torch.randn(x.shape[1], classes, generator=torch_generator(protocol.seed, f"start/{name}"))
        for name, x in like.items()
    }
    return Heads(protocol.heads, like, classes=classes, momentum=protocol.momentum, start=start)


def preconditions(_: PublishedLinear, train: LabelledSet, test: LabelledSet) -> None:
    """Raises BadInput for what `evaluate` refuses, as far as names and counts tell."""
    for dataset in (train, test):
        if not dataset.classes or not len(dataset):
            what = "images" if dataset.classes else "image classes"
            raise BadInput(f"got {dataset.name} ({dataset.split}) without {what}: want a set with them; do name one")
    learnable(train, test)
