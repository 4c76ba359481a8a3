"""Crops on the CPU: each goes through all of its distortions while it is in the cache, in OpenCV's operations.

The same operations in the same order as `distort`, equal to them within the rounding of float32; the number of threads
and the other images of a batch change no bit. Brightness, contrast, saturation, grey and the normalisation are all one
thing, a 3 × 4 matrix.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from evals.backbones.weights import IMAGENET_MEAN, IMAGENET_STD
from harness.data.distort import KERNEL, LUMA, Distortions, odd

cv2.setNumThreads(1)  # a crop is too small to be shared

LIGHTEST = 255.0
REACH = 5.8  # in σ: what is farther has less than 2⁻²⁴ of the weight in the middle, which float32 does not see


def resized(images: UInt8[Tensor, "N 3 H W"], size: int) -> UInt8[Tensor, "N 3 S S"]:
    """Bicubic, antialiased, in whole numbers: by Pillow's algorithm, rarely one or two levels off its."""
    return interpolate(images, size=(size, size), mode="bicubic", antialias=True, align_corners=False)


def distorted(
    views: UInt8[Tensor, "N 3 H W"],
    plan: Distortions,
    *,
    magnification: float = 1.0,
    normalised: bool = True,
    out: Float[Tensor, "N 3 H W"] | None = None,
) -> Float[Tensor, "N 3 H W"]:
    """The plan carried out, then normalised, or in [0, 1]; magnification: as in `distort.distort`; out: where to."""
    height, width = views.shape[-2:]
    kernel = odd(KERNEL * magnification, limit=min(height, width))
    out = torch.empty(views.shape) if out is None else out
    picture = Picture(height, width)
    for view, planes, (jitter, order, factors, grey, blur, sigma, solarize) in zip(
        views.numpy(), out.numpy(), _each(plan), strict=True
    ):
        picture.take(view)
        for kind in order if jitter else ():
            JITTER[kind](picture, factors[kind])
        if grey:
            picture.grayscale()
        if blur:
            picture.blur(sigma * magnification, kernel)
        if solarize:
            picture.solarize()
        picture.give(planes, NORMALISED if normalised else UNIT)
    return out


def _each(plan: Distortions) -> Iterator[tuple]:
    """What happens to each image, as plain numbers."""
    return zip(*(column.tolist() for column in plan), strict=True)


class Picture:
    """Colours of one image, float32 [H, W, 3] from 0 to 255, in one of two buffers that take turns."""

    def __init__(self, height: int, width: int) -> None:
        self._bytes = np.empty((height, width, 3), np.uint8)
        self.colours, self._other = np.empty((2, height, width, 3), np.float32)

    def take(self, view: np.ndarray) -> None:
        """Begin with an image, uint8 [3, H, W]."""
        cv2.merge([*view], self._bytes)
        np.copyto(self.colours, self._bytes)

    def give(self, planes: np.ndarray, matrix: np.ndarray) -> None:
        """Write what a last matrix makes of it to float32 [3, H, W]."""
        self._mix(matrix)
        cv2.split(self.colours, [*planes])

    def brightness(self, factor: float) -> None:
        """Scaled by `factor`."""
        self._away(factor, np.zeros((3, 4)))

    def contrast(self, factor: float) -> None:
        """Away from (factor > 1) or towards the mean grey."""
        mean = np.zeros((3, 4))
        mean[:, 3] = np.dot(LUMA, cv2.mean(self.colours)[:3])
        self._away(factor, mean)

    def saturation(self, factor: float) -> None:
        """Away from (factor > 1) or towards each pixel's grey."""
        self._away(factor, GREY)

    def grayscale(self) -> None:
        """Each pixel's grey."""
        self._mix(GREY)

    def hue(self, turns: float) -> None:
        """Colours turned around the grey axis of HSV."""
        turned = UNCHANGED.copy()
        turned[0, 3] = turns % 1 * 360  # OpenCV takes degrees beyond 360 for what they are
        cv2.cvtColor(self.colours, cv2.COLOR_RGB2HSV, self._other)
        cv2.transform(self._other, turned, self.colours)
        cv2.cvtColor(self.colours, cv2.COLOR_HSV2RGB, self._other)
        self._turn()

    def blur(self, sigma: float, kernel: int) -> None:
        """Gaussian of `sigma` pixels cut off after `kernel` (odd) taps per axis, edges reflected."""
        taps = min(kernel, 2 * math.ceil(REACH * sigma) + 1)
        cv2.GaussianBlur(self.colours, (taps, taps), sigma, self._other, borderType=cv2.BORDER_REFLECT_101)
        self._turn()

    def solarize(self) -> None:
        """Inverted where the inverse is darker, which is from the middle upwards."""
        np.subtract(LIGHTEST, self.colours, out=self._other)
        cv2.min(self.colours, self._other, self.colours)

    def _away(self, factor: float, other: np.ndarray) -> None:
        """factor · colours + (1 − factor) · other, as both are matrices."""
        self._mix(factor * UNCHANGED + (1 - factor) * other)
        if factor > 1:  # what lies between two colours is one
            np.clip(self.colours, 0, LIGHTEST, out=self.colours)

    def _mix(self, matrix: np.ndarray) -> None:
        cv2.transform(self.colours, matrix, self._other)
        self._turn()

    def _turn(self) -> None:
        self.colours, self._other = self._other, self.colours


JITTER = (Picture.brightness, Picture.contrast, Picture.saturation, Picture.hue)  # as OPERATIONS of `distort`
UNCHANGED = np.eye(3, 4)
GREY = np.tile([*LUMA, 0.0], (3, 1))
UNIT = UNCHANGED / LIGHTEST
NORMALISED = np.column_stack([np.diag(1 / np.array(IMAGENET_STD)) / LIGHTEST, -np.divide(IMAGENET_MEAN, IMAGENET_STD)])
