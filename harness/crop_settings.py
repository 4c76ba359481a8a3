"""Settings of the crops that a network is trained on: their sides, boxes and colours."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated

from annotated_types import Ge, Le

from common.bounds import About, Flag, Natural, NotNegative, Positive, Real, Share, SomeShare, Whole
from common.schema import settings, shown

Side = Annotated[Whole, Ge(5), Le(2**15)]  # pixels: blur needs them
Area = SomeShare

OFFICIAL = "official code"
VERSION = 2  # raise when a change in harness/data changes a pixel: it is in the identity of every run


@settings
class Sizes:
    """Sides of all crops of a step, and how probable it is that a step has them (§3.3)."""

    global_size: Annotated[Side, About("side of a global crop")]
    local_size: Annotated[Side, About("side of a local crop")]
    gram_size: Annotated[
        Side | None, About("side of a crop for the Gram teacher; null = `gram.resolution` times the global one")
    ] = None
    probability: Annotated[SomeShare, About("chance that a step has these sizes")]

    def conflicts(self) -> Iterator[str]:
        """A Gram teacher that sees less than the student."""
        if self.gram_size is not None and self.gram_size < self.global_size:
            yield f"gram_size={self.gram_size}: want at least global_size={self.global_size}, or null"


@settings
class Crops:
    """Multi-crop augmentation (§8 of the recipe; the order crop, flip, colour, blur, solarise)."""

    global_size: Annotated[Side, About("side of a global crop", "official code (224; 256 for 7B)")] = 224
    local_size: Annotated[Side, About("side of a local crop", "official code (96; 112 for 7B)")] = 96
    sizes: Annotated[
        list[Sizes] | None,
        About(
            "sides that are drawn for each step, in place of `crops.global_size`, `crops.local_size` and "
            "`gram.resolution`; such as `[{global_size: 512, local_size: 112, gram_size: 768, probability: 0.3}, …]`, "
            "probabilities that sum to 1 ([training.md](training.md#high-resolution)); null = always the same",
            "DINOv3 §3.3; official code (five triples)",
        ),
    ] = None
    local_count: Annotated[Natural, Le(1000), About("local crops of an image", OFFICIAL)] = 8
    global_scale_min: Annotated[Area, About("smallest area of a global crop", OFFICIAL)] = 0.32
    global_scale_max: Annotated[Area, About("largest area of a global crop", OFFICIAL)] = 1.0
    local_scale_min: Annotated[Area, About("smallest area of a local crop", OFFICIAL)] = 0.05
    local_scale_max: Annotated[Area, About("largest area of a local crop", OFFICIAL)] = 0.32
    aspect_min: Annotated[Positive, About("smallest width of a crop's box over its height", OFFICIAL)] = 3 / 4
    aspect_max: Annotated[Positive, About("largest width of a crop's box over its height", OFFICIAL)] = 4 / 3
    locals_within_globals: Annotated[
        Flag,
        About(
            "local crops are windows of the global ones on the grid of patches, half of them of either, each distorted "
            "by itself; then their own areas and flips have no part in it",
            "official code (`localcrops_subset_of_globalcrops`, off)",
        ),
    ] = False
    flip: Annotated[Share, About("chance of a mirror image", "official code (0 for 7B)")] = 0.5
    share_color_jitter: Annotated[
        Flag,
        About(
            "one colour jitter and one choice of grey for all crops of an image, made before they are cut; undistorted "
            "Gram crops stay without",
            "official code (off)",
        ),
    ] = False
    jitter: Annotated[Share, About("chance of colour jitter, its four parts in random order", OFFICIAL)] = 0.8
    brightness: Annotated[
        NotNegative, About("colour jitter: factor of the brightness, from 1 − b to 1 + b", OFFICIAL)
    ] = 0.4
    contrast: Annotated[NotNegative, About("colour jitter: factor of the contrast, from 1 − c to 1 + c", OFFICIAL)] = (
        0.4
    )
    saturation: Annotated[
        NotNegative, About("colour jitter: factor of the saturation, from 1 − s to 1 + s", OFFICIAL)
    ] = 0.2
    hue: Annotated[
        Real, Ge(0), Le(0.5), About("colour jitter: largest turn of the hue either way; 0.5 is every hue", OFFICIAL)
    ] = 0.1
    grayscale: Annotated[Share, About("chance of grey", OFFICIAL)] = 0.2
    blur_global_1: Annotated[
        Share,
        About(
            "chance of Gaussian blur (9 pixels, σ from 0.1 to 2) of the first global crop",
            "as declared; the official code applies the complement, 0",
        ),
    ] = 1.0
    blur_global_2: Annotated[
        Share, About("chance of blur of the second global crop", "as declared; the official code applies 0.9")
    ] = 0.1
    blur_local: Annotated[Share, About("chance of blur of a local crop", OFFICIAL)] = 0.5
    solarize_global_2: Annotated[Share, About("chance that the second global crop is solarised", OFFICIAL)] = 0.2

    def conflicts(self) -> Iterator[str]:
        """No area in between."""
        for kind in ("global", "local"):
            low, high = (getattr(self, f"{kind}_scale_{end}") for end in ("min", "max"))
            if low > high:
                yield f"{kind}_scale_min={low}: want at most {kind}_scale_max={high}"
        if self.aspect_min > self.aspect_max:
            yield f"aspect_min={self.aspect_min}: want at most aspect_max={self.aspect_max}"
        if self.locals_within_globals:
            yield from self._windows_too_large()
        total = 1.0 if self.sizes is None else sum(one.probability for one in self.sizes)
        if not math.isclose(total, 1, abs_tol=1e-6):
            chances = [one.probability for one in self.sizes or ()]
            yield f"sizes={shown(chances)}: want probabilities that sum to 1, not to {total:.6g}"

    def _windows_too_large(self) -> Iterator[str]:
        want = "want at most {}, the side of a global crop, or locals_within_globals=false"
        if self.sizes is None and self.local_size > self.global_size:
            yield f"local_size={self.local_size}: {want.format(self.global_size)}"
        for number, one in enumerate(self.sizes or ()):
            if one.local_size > one.global_size:
                yield f"sizes[{number}].local_size={one.local_size}: {want.format(one.global_size)}"
