"""A step's batch, wholly determined by (seed, step)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from harness.crop_settings import Crops
from harness.data import distort
from harness.data.buffers import Buffers
from harness.data.crops import cut, draw_boxes, draw_flips, windows
from harness.data.engines import ENGINES
from harness.data.masks import batch_masks
from harness.data.mixing import Composition, mixture
from harness.data.pixels import as_bytes, normalise
from harness.data.pool import Pool
from harness.data.sizes import Sides, drawn, refuse_uneven_crops, sides
from harness.data_settings import Data
from harness.losses.ibot import Ibot

Image = UInt8[Tensor, "H W 3"]
Cut = UInt8[Tensor, "B 3 S S"]
View = Float[Tensor, "B 3 S S"]


class Batch(NamedTuple):
    """What a step trains on, or a part of it: B of its N images, one after the other; crops are normalised float32,
    crop-major."""

    globals: Float[Tensor, "2 B 3 G G"]
    locals: Float[Tensor, "L B 3 S S"]
    gram: Float[Tensor, "2 B 3 R R"] | None  # boxes and flips of `globals`, by `GramCrops`
    masks: Bool[Tensor, "C P"]  # C = 2B in the order of globals.flatten(0, 1); True = masked
    indices: Int[Tensor, " N"]  # into the pool, of all images of the step
    component: str | None  # when all images come from it
    first: int = 0  # place of the first of the B images among the N

    @property
    def own(self) -> Int[Tensor, " B"]:
        """The indices of the images that are here."""
        return self.indices[self.first : self.first + self.globals.shape[1]]

    def parts(self, count: int) -> list[Batch]:
        """The batch in equal parts, one after the other; itself where it is to be one. `count` divides its images."""
        if count == 1:
            return [self]
        views, images = self.globals.shape[:2]
        masks = self.masks.unflatten(0, (views, images))
        return [
            self._replace(
                globals=self.globals[:, own],
                locals=self.locals[:, own],
                gram=None if self.gram is None else self.gram[:, own],
                masks=masks[:, own].flatten(0, 1),
                first=self.first + own.start,
            )
            for start in range(0, images, images // count)
            for own in [slice(start, start + images // count)]
        ]


class Loaded(NamedTuple):
    """A step's decoded images, uint8 [H, W, 3] one after the other in one piece, and what does not hang on pixels."""

    step: int
    pixels: UInt8[Tensor, " N"]
    shapes: list[tuple[int, ...]]
    masks: Bool[Tensor, "C P"]
    indices: np.ndarray
    component: str | None


class CropView(NamedTuple):
    """One view of every image: its name in the draws, size in pixels, range of areas, and chances of distortions."""

    name: str
    size: int
    scale: tuple[float, float]
    blur: float
    solarize: float


class GramCrops(NamedTuple):
    """Crops for the Gram teacher: their side in pixels, one for each of `sizes.sides`; whether they stay undistorted;
    which steps need them; whether the teacher sees the global crops as they are in any case; and whether the student's
    crops are made from them."""

    sizes: Sequence[int]
    undistorted: bool
    needed: Callable[[int], bool]
    sees_globals: bool = False
    student_too: bool = False

    def are_made(self, step: int, which: int, side: int) -> bool:
        """Whether the batch of a step, `which` of all sides, carries them beside global crops of `side` pixels."""
        return self.needed(step) and not (self.sees_globals and self.sizes[which] == side)


def views(crops: Crops, sides: Sides) -> tuple[list[CropView], list[CropView]]:
    """The global and the local views of the recipe, at a step's sides."""
    scale = (crops.global_scale_min, crops.global_scale_max)
    both = [
        CropView("global/0", int(sides.globals), scale, crops.blur_global_1, 0.0),
        CropView("global/1", int(sides.globals), scale, crops.blur_global_2, crops.solarize_global_2),
    ]
    scale = (crops.local_scale_min, crops.local_scale_max)
    local = (CropView(f"local/{i}", int(sides.locals), scale, crops.blur_local, 0.0) for i in range(crops.local_count))
    return both, list(local)


class Batches:
    """batches[step] is the batch of that step: a function of the pool, the settings, the seed and the step alone.

    patch: pixels, of the model. gram: the crops for a Gram teacher; they change nothing else in a batch. part: which of
    how many equal parts of each batch is made, as `Batch.parts` would give it.
    Raises BadInput for crops that the patch does not divide, for components that the pool has not and, when indexed,
    for an image that cannot be read.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        data: Data,
        crops: Crops,
        ibot: Ibot,
        patch: int,
        seed: int,
        gram: GramCrops | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        refuse_uneven_crops(crops, patch)
        self.pool, self.data, self.crops, self.ibot, self.gram = pool, data, crops, ibot, gram
        self.patch, self.seed = patch, seed
        self.own = range(*(data.batch_size * at // part[1] for at in (part[0], part[0] + 1)))  # places of what is made
        self._buffers = Buffers()
        self.mixture, self.sides, self.engine = mixture(pool, data), sides(crops), ENGINES[data.augment]

    def __getitem__(self, step: int) -> Batch:
        composed = self.composition(step)
        return self._made(step, self._images(composed), self._masks(step), composed)

    def loaded(self, step: int) -> Loaded:
        """What `made` makes the same batch of, on any device."""
        composed = self.composition(step)
        images = self._images(composed)
        pixels = torch.cat([image.flatten() for image in images])
        return Loaded(step, pixels, [tuple(image.shape) for image in images], self._masks(step), *composed)

    def made(self, loaded: Loaded, device: torch.device) -> Batch:
        """The batch of that step, its images on the device; masks stay on the CPU."""
        parts = loaded.pixels.to(device, non_blocking=True).split([math.prod(shape) for shape in loaded.shapes])
        images = [part.view(shape) for part, shape in zip(parts, loaded.shapes, strict=True)]
        return self._made(loaded.step, images, loaded.masks, Composition(loaded.indices, loaded.component))

    def composition(self, step: int) -> Composition:
        """Which images the step's batch holds; none of them is read."""
        return self.mixture.compose(self.seed, step)

    def _images(self, composed: Composition) -> list[Image]:
        return [torch.from_numpy(self.pool.image(index)) for index in composed.indices[self.own].tolist()]

    def _made(self, step: int, images: list[Image], masks: Tensor, composed: Composition) -> Batch:
        seen = self._jittered(step, images) if self.crops.share_color_jitter else images
        which = drawn(self.sides, self.seed, step)
        both, local = views(self.crops, self.sides[which])
        made = self.gram if self.gram and self.gram.are_made(step, which, both[0].size) else None
        larger = made.sizes[which] if made else None
        cuts = [self._cut_global(step, view, seen, larger) for view in both]
        on_cpu = images[0].device.type == "cpu"
        empty = self._buffers.empty if on_cpu else partial(images[0].new_empty, dtype=torch.float32)
        whole, parts = (
            empty(len(those), len(images), 3, int(size), int(size))
            for those, size in ((both, self.sides[which].globals), (local, self.sides[which].locals))
        )
        for view, own, out in zip(both, cuts, whole, strict=True):
            self._global(step, view, own, seen, larger, out=out)
        for number, (view, out) in enumerate(zip(local, parts, strict=True)):
            self._local(step, number, view, seen, cuts, out=out)
        gram = empty(len(both), len(images), 3, larger, larger) if made and larger else None
        for view, out in zip(both, gram if gram is not None else (), strict=gram is not None):
            self._gram(step, view, images if made and made.undistorted else seen, out=out)
        indices, first = torch.from_numpy(composed.indices), self.own.start
        return Batch(whole, parts, gram, masks, indices, composed.component, first)

    def _jittered(self, step: int, images: list[Image]) -> list[Image]:
        """Whole images with the colours that all their crops share."""
        plan = self._drawn(step, "image", self.crops)
        planes = [image.movedim(-1, 0)[None] for image in images]
        found = [self.engine.distorted(own, plan.of(at), normalised=False) for at, own in enumerate(planes)]
        return [as_bytes(image[0]).movedim(0, -1) for image in found]

    def _cut_global(self, step: int, view: CropView, images: list[Image], larger: int | None) -> Cut:
        """A global view before its distortions, by way of the Gram crop where the settings ask for it."""
        if larger is not None and self.gram is not None and self.gram.student_too:
            return self.engine.resized(self._cut(step, view, images, size=larger), view.size)
        return self._cut(step, view, images, size=view.size)

    def _global(
        self, step: int, view: CropView, cut: Cut, images: list[Image], larger: int | None, *, out: View
    ) -> None:
        """A global view; where it comes from a distorted Gram crop, it has that one's distortions."""
        from_gram = self.gram is not None and self.gram.student_too and not self.gram.undistorted
        if larger is None or larger == view.size or not from_gram:
            self._distorted(step, view, cut, out=out)
            return
        large = out.new_empty(len(images), 3, larger, larger)
        self._gram(step, view, images, out=large, normalised=False)
        how = {"mode": "bicubic", "antialias": True, "align_corners": False}
        normalise(out.copy_(interpolate(large, size=(view.size,) * 2, **how)).clamp_(0, 1))

    def _local(
        self, step: int, number: int, view: CropView, images: list[Image], cuts: list[Cut], *, out: View
    ) -> None:
        if self.crops.locals_within_globals:
            whole = cuts[2 * number // self.crops.local_count]
            cut = windows(self.seed, step, view.name, whole, size=view.size, patch=self.patch, first=self.own.start)
        else:
            cut = self._cut(step, view, images, size=view.size)
        self._distorted(step, view, cut, out=out)

    def _distorted(self, step: int, view: CropView, cut: Cut, *, out: View) -> None:
        self.engine.distorted(cut, self._plan(step, view), out=out)

    def _gram(self, step: int, view: CropView, images: list[Image], *, out: View, normalised: bool = True) -> None:
        assert self.gram is not None
        size, count = out.shape[-1], len(images)
        cut = self._cut(step, view, images, size=size)
        plan = distort.nothing(count) if self.gram.undistorted else self._plan(step, view)
        self.engine.distorted(cut, plan, magnification=size / view.size, normalised=normalised, out=out)

    def _cut(self, step: int, view: CropView, images: list[Image], *, size: int) -> Cut:
        extents = np.array([image.shape[:2] for image in images])
        ratio, at = (self.crops.aspect_min, self.crops.aspect_max), {"first": self.own.start}
        boxes = draw_boxes(self.seed, step, view.name, sizes=extents, scale=view.scale, ratio=ratio, **at)
        flips = draw_flips(self.seed, step, view.name, count=len(images), probability=self.crops.flip, **at)
        return cut(images, boxes, flips, size=size, resized=self.engine.resized)

    def _plan(self, step: int, view: CropView) -> distort.Distortions:
        own = self.crops
        if own.share_color_jitter:  # which the whole image has had
            own = replace(own, jitter=0.0, grayscale=0.0)
        return self._drawn(step, view.name, own, blur=view.blur, solarize=view.solarize)

    def _drawn(
        self, step: int, name: str, crops: Crops, *, blur: float = 0.0, solarize: float = 0.0
    ) -> distort.Distortions:
        count, first = len(self.own), self.own.start
        return distort.draw(self.seed, step, name, count=count, first=first, crops=crops, blur=blur, solarize=solarize)

    def _masks(self, step: int) -> Bool[Tensor, "C P"]:
        side = int(self.sides[drawn(self.sides, self.seed, step)].globals) // self.patch
        images = self.data.batch_size
        return batch_masks(
            self.seed,
            step,
            2 * images,
            (side, side),
            probability=self.ibot.mask_probability,
            ratio_min=self.ibot.mask_ratio_min,
            ratio_max=self.ibot.mask_ratio_max,
            shift=self.ibot.mask_shift,
            own=[view * images + place for view in range(2) for place in self.own],
        )
