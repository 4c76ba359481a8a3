"""Linear segmentation as DINOv3 publishes it: a head trained on augmented images, judged by sliding windows.

Source: arXiv 2508.10104 §6.1 and App. D. `protocols/segmentation-standard.yaml` tells it step by step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Le
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from common import draws
from common.bounds import About, Count, Natural, NotNegative, Positive, Range, Share, ShareBelowOne
from common.schema import settings
from evals import mmseg_bridge
from evals.backbones.backbone import Backbone
from evals.datasets.labelled_set import IGNORE, LabelledSet, Needs
from evals.features import frozen
from evals.fitting import augmented, linear_head, training
from evals.fitting.augmented import AugmentedBatch
from evals.fitting.linear_head import LinearHead, Readout
from evals.judging.pixel_classes import areas, classes_at, no_labels, same_segments
from evals.protocols.protocol import TrainedHead, Watch
from evals.results import bootstrap
from evals.tasks.segmentation.sliding import slide


@settings
class PublishedSegmentation(TrainedHead):
    """Settings as `protocols/segmentation-standard.yaml` explains them; lengths are shares of `size`.

    Every random draw, of the head's start, the order, the views and the dropout, is a function of `seed`.
    """

    method: ClassVar[str] = "segmentation_live"
    task: ClassVar[str] = "segmentation"
    needs: ClassVar[Needs] = "pixel classes"

    scale: Annotated[Range[Positive], About("short side of a view before its crop, in shares of `size`")]
    crop: Annotated[Positive, About("side of the square that is cut out, in shares of `size`")]
    category_cap: Annotated[Share, About("share of a crop's labelled pixels from which one class is too much of it")]
    flip: Annotated[Share, About("chance of a mirror image")]
    brightness: Annotated[Natural, About("largest change of the brightness of 255, either way")]
    contrast: Annotated[Range[NotNegative], About("factors of the contrast")]
    saturation: Annotated[Range[NotNegative], About("factors of the saturation")]
    hue: Annotated[Count, Le(180), About("largest change of the hue, of OpenCV's 180 for the circle, either way")]
    dropout: Annotated[ShareBelowOne, About("chance that a whole feature of an image is dropped")]
    betas: Annotated[tuple[ShareBelowOne, ShareBelowOne], About("of AdamW")]
    window: Annotated[Positive, About("side of the sliding window, in shares of `size`")]
    window_stride: Annotated[Positive, About("from one window to the next, in shares of `size`")]

    def conflicts(self) -> Iterator[str]:
        """Lengths of no pixel, and windows that leave gaps."""
        for name in ("crop", "window", "window_stride"):
            if not round(getattr(self, name) * self.size):
                yield f"{name}={getattr(self, name)}: want a pixel of size={self.size} at least"
        if self.window_stride > self.window:
            yield f"window_stride={self.window_stride}: want at most window={self.window}, so that every pixel is seen"

    @property
    def views(self) -> mmseg_bridge.SegmentationViews:
        return mmseg_bridge.SegmentationViews(
            short_side=self.size,
            scale=self.scale,
            crop=round(self.crop * self.size),
            category_cap=self.category_cap,
            flip=self.flip,
            brightness=self.brightness,
            contrast=self.contrast,
            saturation=self.saturation,
            hue=self.hue,
        )


def metrics(_: PublishedSegmentation) -> tuple[str, ...]:
    """The names of its metrics, the leading one first."""
    return "miou", "pixel_accuracy", "mean_accuracy", "fscore", "precision", "recall", "dice"


def evaluate(
    protocol: PublishedSegmentation,
    backbone: Backbone,
    train: LabelledSet,
    test: LabelledSet,
    *,
    device: str | torch.device = "cpu",
    workers: int = 0,
    watch: Watch | None = None,
) -> dict[str, np.ndarray]:
    """Per test image: right, predicted and true pixels by class, `intersect`, `predicted`, `truth` [n C].

    Args:
        workers: processes that read and augment images; the result does not depend on it.
        watch: also told the pixel classes [H W] that the head in the end predicts, image by image: this takes one more
            validation, since those of all validations do not fit in memory.

    Raises:
        BadInput: sets without masks, with unlike class lists or without labelled pixels; a loss that is not finite.
    """
    same_segments(train, test)
    for dataset in (train, test):
        if not any((dataset.mask(index) != IGNORE).any() for index in range(len(dataset))):
            raise no_labels(dataset)
    with frozen.lent(backbone, device) as place:
        head = fresh_head(protocol, backbone, len(train.segments)).to(place)
        outcomes = fit(protocol, backbone, head, train, test, workers=workers)
        return judge(protocol, backbone, head, test, watch=watch) if watch else outcomes


def fresh_head(protocol: PublishedSegmentation, backbone: Backbone, classes: int) -> LinearHead:
    """The head as it starts: a function of the seed alone."""
    width = linear_head.width(backbone, protocol.size)
    return LinearHead(width, classes, init_std=protocol.init_std, seed=protocol.seed)


def fit(
    protocol: PublishedSegmentation,
    backbone: Backbone,
    head: LinearHead,
    train: LabelledSet,
    test: LabelledSet,
    *,
    workers: int = 0,
) -> dict[str, np.ndarray]:
    """Trains the head where it is, on to its best validation, and returns the outcomes there; see `evaluate`."""
    return training.probe(
        protocol,
        head,
        make=partial(batch_of, train, protocol),
        loss=partial(loss_of, protocol, backbone, head),
        options=partial(options_at, protocol),
        judge=partial(judge, protocol, backbone, head, test),
        score=partial(bootstrap.value, "miou"),
        title="segmentation",
        workers=workers,
    )


def options_at(protocol: PublishedSegmentation, step: int) -> dict[str, Any]:
    """Rate and betas of a step counted from 0."""
    return {"lr": rate_at(protocol, step), "betas": protocol.betas}


def rate_at(protocol: PublishedSegmentation, step: int) -> float:
    """The learning rate of a step counted from 0: over the warm-up a linear ramp times a linear decay over the whole
    length, then a half cosine over the whole length, entered where the warm-up ends."""
    part = step / protocol.iterations
    if step >= protocol.warmup:
        return protocol.rate * 0.5 * (1 + math.cos(math.pi * part))
    ramp = 1 - (1 - step / protocol.warmup) * (1 - protocol.warmup_ratio)
    return protocol.rate * ramp * (1 - part)


def batch_of(train: LabelledSet, protocol: PublishedSegmentation, step: int) -> AugmentedBatch:
    """The augmented views of one iteration: a function of the seed and the step alone."""
    views = protocol.views

    def view(index: int, seed: int) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
        return mmseg_bridge.segmentation_view(train.image(index), train.mask(index), views, seed=seed)

    return augmented.batch(
        step,
        view,
        seed=protocol.seed,
        batch_size=protocol.batch_size,
        images=len(train),
        shape=(views.crop, views.crop),
        fill=IGNORE,
    )


def loss_of(
    protocol: PublishedSegmentation, backbone: Backbone, head: Readout, step: int, batch: AugmentedBatch
) -> Float[Tensor, ""]:
    """The loss of the head on one batch; the dropout is a function of the seed and the step."""
    images = augmented.pictures(batch.images, batch.sides, backbone)
    patches, to_pixels = frozen.encode(backbone, images, precision=protocol.precision)
    patches = drop_channels(patches, protocol.dropout, draws.torch_generator(protocol.seed, "dropout", step))
    return pixel_loss(head(patches), batch.targets.to(images.device), to_pixels)


def drop_channels(
    patches: Float[Tensor, "B D h w"], chance: float, generator: torch.Generator
) -> Float[Tensor, "B D h w"]:
    """Dropout2d with its own generator: whole features of an image are zero, the others larger by 1 / (1 − chance)."""
    kept = torch.rand(*patches.shape[:2], 1, 1, generator=generator) >= chance
    return patches * (kept.to(patches) / (1 - chance))


def pixel_loss(
    logits: Float[Tensor, "B C h w"], masks: UInt8[Tensor, "B H W"], to_pixels: Callable[[Tensor], Tensor]
) -> Float[Tensor, ""]:
    """Cross-entropy at the pixels, summed over the labelled ones and divided by the number of all.

    Image by image and computed anew for the gradient: the logits of a whole batch at its pixels (16 × 150 × 512 × 512)
    take gigabytes.
    """

    def of_one(one: Tensor, mask: Tensor) -> Tensor:
        return F.cross_entropy(to_pixels(one), mask.long(), ignore_index=IGNORE, reduction="sum")

    losses = [
        checkpoint(of_one, logits[i : i + 1], masks[i : i + 1], use_reentrant=False, preserve_rng_state=False)
        for i in range(len(logits))
    ]
    return torch.stack(losses).sum() / masks.numel()  # pyright: ignore[reportArgumentType]


def judge(
    protocol: PublishedSegmentation, backbone: Backbone, head: Readout, test: LabelledSet, *, watch: Watch | None = None
) -> dict[str, np.ndarray]:
    """The outcomes of a head on every test image, areas by mmsegmentation's IoUMetric; see `evaluate`."""

    def guess(index: int, shape: tuple[int, int]) -> Int[np.ndarray, "H W"]:
        return predict_segmentation(backbone, head, test.image(index), protocol, shape=shape)

    guesses = ((index, partial(guess, index)) for index in range(len(test)))
    return areas(test, guesses, title="validation", watch=watch)


@torch.no_grad()
def predict_segmentation(
    backbone: Backbone,
    head: Readout,
    image: UInt8[np.ndarray, "H W 3"],
    protocol: PublishedSegmentation,
    *,
    shape: tuple[int, int],
) -> Int[np.ndarray, "h w"]:
    """The class of each pixel of an image's mask of this shape.

    The short side becomes `size` (mmsegmentation's resize); windows are seen one by one, in the centre of a multiple of
    the stride where they do not fit it; logits are averaged where windows overlap and go bilinearly to the shape.
    """
    picture = augmented.picture(backbone, image, protocol.size)
    window, stride = (round(share * protocol.size) for share in (protocol.window, protocol.window_stride))
    see = partial(linear_head.see, backbone, head, precision=protocol.precision)
    with linear_head.judging(head):
        logits = slide(see, picture, window=window, stride=stride)
    return classes_at(logits, shape).cpu().numpy()
