"""A step's batch, wholly determined by (seed, step)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from evals.backbones.weights import IMAGENET_MEAN, IMAGENET_STD
from harness.crop_settings import Crops
from harness.data import distort
from harness.data.crops import cut, draw_boxes, draw_flips, resized, windows
from harness.data.masks import batch_masks
from harness.data.mixing import Composition, mixture
from harness.data.pool import Pool
from harness.data.sizes import Sides, drawn, refuse_uneven_crops, sides
from harness.data_settings import Data
from harness.losses.ibot import Ibot


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

    patch: pixels, of the model. gram: the crops for a Gram teacher; they change nothing else in a batch.
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
    ) -> None:
        refuse_uneven_crops(crops, patch)
        self.pool, self.data, self.crops, self.ibot, self.gram = pool, data, crops, ibot, gram
        self.patch, self.seed = patch, seed
        self.mixture, self.sides = mixture(pool, data), sides(crops)

    def __getitem__(self, step: int) -> Batch:
        indices, component = self.composition(step)
        images = [Image.fromarray(self.pool.image(index)) for index in indices.tolist()]
        seen = self._jittered(step, images) if self.crops.share_color_jitter else images
        which = drawn(self.sides, self.seed, step)
        both, local = views(self.crops, self.sides[which])
        made = self.gram if self.gram and self.gram.are_made(step, which, both[0].size) else None
        larger = made.sizes[which] if made else None
        cuts = [self._cut_global(step, view, seen, larger) for view in both]
        side = int(self.sides[which].locals)
        whole = [self._global(step, view, own, seen, larger) for view, own in zip(both, cuts, strict=True)]
        parts = [self._local(step, number, view, seen, cuts) for number, view in enumerate(local)]
        gram = None
        if made and larger:
            source = images if made.undistorted else seen
            gram = torch.stack([normalise(self._gram(step, view, source, larger)) for view in both])
        return Batch(
            globals=torch.stack(whole),
            locals=torch.stack(parts) if parts else torch.empty(0, len(images), 3, side, side),
            gram=gram,
            masks=self._masks(step, 2 * len(images), both[0].size),
            indices=torch.from_numpy(indices),
            component=component,
        )

    def composition(self, step: int) -> Composition:
        """Which images the step's batch holds; none of them is read."""
        return self.mixture.compose(self.seed, step)

    def _jittered(self, step: int, images: list[Image.Image]) -> list[Image.Image]:
        """Whole images with the colours that all their crops share."""
        plan = distort.draw(self.seed, step, "image", count=len(images), crops=self.crops)
        return [
            Image.fromarray(as_bytes(distort.distort(as_float(np.array(image)[None]), plan.of(number)))[0])
            for number, image in enumerate(images)
        ]

    def _cut_global(self, step: int, view: CropView, images: list[Image.Image], larger: int | None) -> np.ndarray:
        """A global view before its distortions, by way of the Gram crop where the settings ask for it."""
        if larger is not None and self.gram is not None and self.gram.student_too:
            return resized(self._cut(step, view, images, size=larger), view.size)
        return self._cut(step, view, images, size=view.size)

    def _global(
        self, step: int, view: CropView, cut: np.ndarray, images: list[Image.Image], larger: int | None
    ) -> Float[Tensor, "B 3 S S"]:
        """A global view; where it comes from a distorted Gram crop, it has that one's distortions."""
        if larger is None or self.gram is None or self.gram.undistorted or not self.gram.student_too:
            return self._distorted(step, view, cut)
        how = {"mode": "bicubic", "antialias": True, "align_corners": False}
        return normalise(interpolate(self._gram(step, view, images, larger), size=(view.size,) * 2, **how).clamp_(0, 1))

    def _local(
        self, step: int, number: int, view: CropView, images: list[Image.Image], cuts: list[np.ndarray]
    ) -> Float[Tensor, "B 3 S S"]:
        if self.crops.locals_within_globals:
            whole = cuts[2 * number // self.crops.local_count]
            cut = windows(self.seed, step, view.name, whole, size=view.size, patch=self.patch)
        else:
            cut = self._cut(step, view, images, size=view.size)
        return self._distorted(step, view, cut)

    def _distorted(self, step: int, view: CropView, cut: np.ndarray) -> Float[Tensor, "B 3 S S"]:
        return normalise(distort.distort(as_float(cut), self._plan(step, view, len(cut))))

    def _gram(self, step: int, view: CropView, images: list[Image.Image], size: int) -> Float[Tensor, "B 3 R R"]:
        """In [0, 1]."""
        assert self.gram is not None
        pixels = as_float(self._cut(step, view, images, size=size))
        if not self.gram.undistorted:
            distort.distort(pixels, self._plan(step, view, len(images)), magnification=size / view.size)
        return pixels

    def _cut(self, step: int, view: CropView, images: list[Image.Image], *, size: int) -> np.ndarray:
        extents = np.array([(image.height, image.width) for image in images])
        ratio = (self.crops.aspect_min, self.crops.aspect_max)
        boxes = draw_boxes(self.seed, step, view.name, sizes=extents, scale=view.scale, ratio=ratio)
        flips = draw_flips(self.seed, step, view.name, count=len(images), probability=self.crops.flip)
        return cut(images, boxes, flips, size=size)

    def _plan(self, step: int, view: CropView, count: int) -> distort.Distortions:
        own = self.crops
        if own.share_color_jitter:  # which the whole image has had
            own = replace(own, jitter=0.0, grayscale=0.0)
        return distort.draw(self.seed, step, view.name, count=count, crops=own, blur=view.blur, solarize=view.solarize)

    def _masks(self, step: int, crops: int, size: int) -> Bool[Tensor, "C P"]:
        side = size // self.patch
        return batch_masks(
            self.seed,
            step,
            crops,
            (side, side),
            probability=self.ibot.mask_probability,
            ratio_min=self.ibot.mask_ratio_min,
            ratio_max=self.ibot.mask_ratio_max,
            shift=self.ibot.mask_shift,
        )


def as_float(views: np.ndarray) -> Float[Tensor, "B 3 S S"]:
    """uint8 [B, S, S, 3] -> [0, 1]."""
    return torch.from_numpy(views).movedim(-1, 1).to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def as_bytes(images: Float[Tensor, "B 3 H W"]) -> np.ndarray:
    """[0, 1] -> uint8 [B, H, W, 3]."""
    return (images * 255).round().to(torch.uint8).movedim(1, -1).contiguous().numpy()


def normalise(images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B 3 S S"]:
    """ImageNet mean and standard deviation, in place."""
    mean, std = (images.new_tensor(value).view(3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
    return images.sub_(mean).div_(std)
