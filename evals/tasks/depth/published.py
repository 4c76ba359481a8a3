"""Linear depth as DINOv3 publishes it: a head over depth bins, trained on augmented images, judged in the Eigen crop.

Source: arXiv 2508.10104 §6.1 and App. D. `protocols/depth-standard.yaml` tells it step by step.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from evals.backbones.backbone import Backbone
from evals.datasets.labelled_set import LabelledSet
from evals.features import frozen
from evals.fitting import augmented, linear_head, training
from evals.fitting.augmented import AugmentedBatch
from evals.fitting.linear_head import Readout
from evals.protocols.protocol import Watch
from evals.tasks.depth import errors
from evals.tasks.depth.bins import BinsHead, sig_loss
from evals.tasks.depth.settings import PublishedDepth
from evals.tasks.depth.views import batch_of, recolour


def metrics(_: PublishedDepth) -> tuple[str, ...]:
    """The names of its metrics, the leading one first."""
    return errors.NAMES


def evaluate(
    protocol: PublishedDepth,
    backbone: Backbone,
    train: LabelledSet,
    test: LabelledSet,
    *,
    device: str | torch.device = "cpu",
    workers: int = 0,
    watch: Watch | None = None,
) -> dict[str, np.ndarray]:
    """For each test image that has valid depth: its errors [n] by `evals.tasks.depth.errors`, metres and shares.

    Args:
        workers: processes that read and augment images; the result does not depend on it.
        watch: also told the metres [H W] that the head in the end predicts for each of these images, NaN where it is
            not judged: outside the valid range of the truth and, in whole frames, outside the Eigen crop.

    Raises:
        BadInput: sets without depth or without a valid one; a loss that is not finite.
    """
    errors.refuse_without_depth(train, test)
    for dataset in (train, test):
        if not any(judged(protocol, dataset.depth(index)).any() for index in range(len(dataset))):
            raise errors.no_depth(dataset)
    with frozen.lent(backbone, device) as place:
        head = fresh_head(protocol, backbone).to(place)
        outcomes = fit(protocol, backbone, head, train, test, workers=workers)
        if not (protocol.flip_average or watch):
            return outcomes
        return judge(protocol, backbone, head, test, flip=protocol.flip_average, watch=watch)


def fresh_head(protocol: PublishedDepth, backbone: Backbone) -> BinsHead:
    """The head as it starts: a function of the seed alone."""
    return BinsHead(
        linear_head.width(backbone, protocol.size),
        protocol.bins,
        low=protocol.min_depth,
        high=protocol.max_depth,
        floor=protocol.bin_floor,
        init_std=protocol.init_std,
        seed=protocol.seed,
    )


def fit(
    protocol: PublishedDepth,
    backbone: Backbone,
    head: BinsHead,
    train: LabelledSet,
    test: LabelledSet,
    *,
    workers: int = 0,
) -> dict[str, np.ndarray]:
    """Trains the head where it is, on to its best validation, and returns the outcomes there, without mirror images."""
    return training.probe(
        protocol,
        head,
        make=partial(batch_of, train, protocol),
        loss=partial(loss_of, protocol, backbone, head),
        options=partial(options_at, protocol),
        judge=partial(judge, protocol, backbone, head, test),
        score=lambda found: -float(found["rmse"].mean()),
        title="depth",
        workers=workers,
    )


def options_at(protocol: PublishedDepth, step: int) -> dict[str, Any]:
    """Rate and betas of a step counted from 0.

    Rate: the peak times a half cosine over the whole length, in the warm-up times a linear ramp from 0 and on top of
    `warmup_ratio` of the peak, behind it down to `final_ratio` of the peak. β1: `warmup_beta1` in the warm-up, then a
    half cosine from the first value of `beta1` to the second.
    """
    cosine = 0.5 * (1 + math.cos(math.pi * step / protocol.iterations))
    if step < protocol.warmup:
        share, beta1 = protocol.warmup_ratio + step / protocol.warmup * cosine, protocol.warmup_beta1
    else:
        share = protocol.final_ratio + (1 - protocol.final_ratio) * cosine
        part = (step - protocol.warmup) / max(protocol.iterations - protocol.warmup, 1)
        first, last = protocol.beta1
        beta1 = last + (first - last) * 0.5 * (1 + math.cos(math.pi * part))
    return {"lr": protocol.rate * share, "betas": (beta1, protocol.beta2)}


def loss_of(
    protocol: PublishedDepth, backbone: Backbone, head: Readout, step: int, batch: AugmentedBatch
) -> Float[Tensor, ""]:
    """The loss of the head on one batch; its colours are a function of the seed and the step."""
    images = augmented.pictures(batch.images, batch.sides, backbone, alter=partial(recolour, protocol, step))
    prediction = linear_head.see(backbone, head, images, precision=protocol.precision)[:, 0]
    truth = batch.targets.to(prediction.device)
    valid = (truth > protocol.min_depth) & (truth < protocol.max_depth)
    return sig_loss(
        prediction[valid],
        truth[valid],
        mean_weight=protocol.mean_weight,
        shift=protocol.log_shift,
        variance=step >= protocol.plain_iterations,
    )


def judge(
    protocol: PublishedDepth,
    backbone: Backbone,
    head: Readout,
    test: LabelledSet,
    *,
    flip: bool = False,
    watch: Watch | None = None,
) -> dict[str, np.ndarray]:
    """The outcomes of a head on every test image that has valid depth; see `evaluate`."""

    def guess(index: int, shape: tuple[int, int]) -> Float[np.ndarray, "h w"]:
        return predict_depth(backbone, head, test.image(index), protocol, shape=shape, flip=flip)

    limits, valid = (protocol.min_depth, protocol.max_depth), partial(judged, protocol)
    return errors.judge(test, guess, valid=valid, limits=limits, title="validation", watch=watch)


def judged(protocol: PublishedDepth, truth: Float[np.ndarray, "H W"]) -> np.ndarray:
    """Which pixels count: those of valid depth, in a whole frame those inside the Eigen crop."""
    valid = errors.within(truth, protocol.min_depth, protocol.max_depth)
    if truth.shape == protocol.frame:
        top, bottom, left, right = protocol.eigen
        inside = np.zeros_like(valid)
        inside[top:bottom, left:right] = True
        valid &= inside
    return valid


@torch.no_grad()
def predict_depth(
    backbone: Backbone,
    head: Readout,
    image: UInt8[np.ndarray, "H W 3"],
    protocol: PublishedDepth,
    *,
    shape: tuple[int, int],
    flip: bool = False,
) -> Float[np.ndarray, "h w"]:
    """Metres at each pixel of a map of this shape, clamped to the valid range.

    The whole image is seen at once, short side `size`, in the centre of multiples of the stride; with `flip`, the mean
    with what is seen in its mirror image. The map goes bilinearly to the shape.
    """
    picture = augmented.picture(backbone, image, protocol.size)[None]
    see = partial(linear_head.see, backbone, head, precision=protocol.precision)
    with linear_head.judging(head):
        found = see(picture)
        if flip:
            found = (found + see(picture.flip(3)).flip(3)) / 2
    full = nn.functional.interpolate(found, size=shape, mode="bilinear", align_corners=False)
    return full[0, 0].clamp(protocol.min_depth, protocol.max_depth).cpu().numpy()
