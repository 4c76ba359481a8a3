"""A step's batch, wholly determined by (seed, step), and the stream of batches that training reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from common.errors import BadInput
from evals.backbones.weights import IMAGENET_MEAN, IMAGENET_STD
from harness.data import distort
from harness.data.crops import cut, draw_boxes, draw_flips
from harness.data.masks import batch_masks
from harness.data.mixing import Composition, compose
from harness.data.pool import Pool
from harness.settings import Crops, Data, Gram, Ibot


class Batch(NamedTuple):
    """What a step trains on; crops are normalised float32, crop-major."""

    globals: Float[Tensor, "2 B 3 G G"]
    locals: Float[Tensor, "L B 3 S S"]
    gram: Float[Tensor, "2 B 3 R R"] | None  # boxes and flips of `globals`; without distortions if gram.undistorted
    masks: Bool[Tensor, "C P"]  # C = 2B in the order of globals.flatten(0, 1); True = masked
    indices: Int[Tensor, " B"]  # into the pool
    component: str | None  # when all images come from it


class CropView(NamedTuple):
    """One view of every image: its name in the draws, size in pixels, range of areas, and chances of distortions."""

    name: str
    size: int
    scale: tuple[float, float]
    blur: float
    solarize: float


def never(step: int) -> bool:
    """No Gram crops at any step."""
    return False


def gram_size(crops: Crops, gram: Gram, patch: int) -> int:
    """Pixels of a Gram crop: global size × resolution. Raises BadInput unless that is a multiple of the patch."""
    size = crops.global_size * gram.resolution
    if size % patch:
        near = patch * round(size / patch) / crops.global_size
        raise BadInput(
            f"got gram.resolution={gram.resolution:g}, crops of {size:g} pixels with patches of {patch}: "
            f"want a multiple; try {near:g}"
        )
    return round(size)


def refuse_uneven(crops: Crops, patch: int) -> None:
    """Raises BadInput for crops that patches of `patch` pixels do not divide."""
    for key in ("global_size", "local_size"):
        size = getattr(crops, key)
        if size % patch:
            near = max(1, round(size / patch)) * patch
            raise BadInput(f"got crops.{key}={size} with patches of {patch}: want a multiple; try {near}")


def views(crops: Crops) -> tuple[list[CropView], list[CropView]]:
    """The global and the local views of the recipe."""
    scale = (crops.global_scale_min, crops.global_scale_max)
    both = [
        CropView("global/0", crops.global_size, scale, crops.blur_global_1, 0.0),
        CropView("global/1", crops.global_size, scale, crops.blur_global_2, crops.solarize_global_2),
    ]
    scale = (crops.local_scale_min, crops.local_scale_max)
    local = (CropView(f"local/{i}", crops.local_size, scale, crops.blur_local, 0.0) for i in range(crops.local_count))
    return both, list(local)


class Batches(Dataset[Batch]):
    """batches[step] is the batch of that step: a function of the pool, the settings, the seed and the step alone.

    patch: pixels, of the model. needs_gram(step): whether the batch carries Gram crops; they change nothing else.
    Raises BadInput for crops that the patch does not divide, Gram crops only where that loss is on, and, when indexed,
    for an image that cannot be read.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        data: Data,
        crops: Crops,
        ibot: Ibot,
        gram: Gram,
        patch: int,
        seed: int,
        needs_gram: Callable[[int], bool] = never,
    ) -> None:
        refuse_uneven(crops, patch)
        self.pool, self.data, self.crops, self.ibot, self.gram = pool, data, crops, ibot, gram
        self.patch, self.seed, self.needs_gram = patch, seed, needs_gram
        if gram.weight > 0:
            gram_size(crops, gram, patch)  # refuses what would fail at the first step that needs it

    def __getitem__(self, step: int) -> Batch:
        indices, component = self._compose(step)
        images = [Image.fromarray(self.pool.image(index)) for index in indices.tolist()]
        both, local = views(self.crops)
        side = self.crops.local_size
        return Batch(
            globals=torch.stack([self._crop(step, view, images) for view in both]),
            locals=torch.stack([self._crop(step, view, images) for view in local])
            if local
            else torch.empty(0, len(images), 3, side, side),
            gram=torch.stack([self._gram_crop(step, view, images) for view in both]) if self.needs_gram(step) else None,
            masks=self._masks(step, 2 * len(images)),
            indices=torch.from_numpy(indices),
            component=component,
        )

    def is_homogeneous(self, step: int) -> bool:
        """Whether all images of the step's batch come from one component; none of them is read."""
        return self._compose(step).component is not None

    def _compose(self, step: int) -> Composition:
        return compose(
            self.seed,
            step,
            self.pool.components,
            pool_size=len(self.pool),
            batch_size=self.data.batch_size,
            homogeneous_share=self.data.homogeneous_share,
        )

    def _crop(self, step: int, view: CropView, images: list[Image.Image]) -> Float[Tensor, "B 3 S S"]:
        pixels = as_float(self._cut(step, view, images, size=view.size))
        return normalise(distort.distort(pixels, self._plan(step, view, len(images))))

    def _gram_crop(self, step: int, view: CropView, images: list[Image.Image]) -> Float[Tensor, "B 3 R R"]:
        size = gram_size(self.crops, self.gram, self.patch)
        pixels = as_float(self._cut(step, view, images, size=size))
        if not self.gram.undistorted:
            plan = self._plan(step, view, len(images))
            distort.distort(pixels, plan, magnification=size / view.size)
        return normalise(pixels)

    def _cut(self, step: int, view: CropView, images: list[Image.Image], *, size: int) -> np.ndarray:
        extents = np.array([(image.height, image.width) for image in images])
        boxes = draw_boxes(self.seed, step, view.name, sizes=extents, scale=view.scale)
        flips = draw_flips(self.seed, step, view.name, count=len(images), probability=self.crops.flip)
        return cut(images, boxes, flips, size=size)

    def _plan(self, step: int, view: CropView, count: int) -> distort.Distortions:
        return distort.draw(
            self.seed, step, view.name, count=count, crops=self.crops, blur=view.blur, solarize=view.solarize
        )

    def _masks(self, step: int, crops: int) -> Bool[Tensor, "C P"]:
        side = self.crops.global_size // self.patch
        return batch_masks(
            self.seed,
            step,
            crops,
            (side, side),
            probability=self.ibot.mask_probability,
            ratio_min=self.ibot.mask_ratio_min,
            ratio_max=self.ibot.mask_ratio_max,
        )


def as_float(views: np.ndarray) -> Float[Tensor, "B 3 S S"]:
    """uint8 [B, S, S, 3] -> [0, 1]."""
    return torch.from_numpy(views).movedim(-1, 1).to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def normalise(images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B 3 S S"]:
    """ImageNet mean and standard deviation, in place."""
    mean, std = (images.new_tensor(value).view(3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
    return images.sub_(mean).div_(std)


class _Reported(Dataset[Batch | BadInput]):
    """Hands BadInput over as a value: the loader would wrap what a worker raises in a traceback of many lines."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> Batch | BadInput:
        try:
            return self.batches[step]
        except BadInput as error:
            return error


def _as_is(item: Any) -> Any:
    return item


def _in_worker(worker: int) -> None:
    info = get_worker_info()
    if info is not None and isinstance(info.dataset, _Reported):
        info.dataset.batches.pool.keep_no_more()


def stream(batches: Batches, start: int, stop: int, workers: int = 0) -> Iterator[Batch]:
    """The batches of steps start … stop − 1, in order and the same for any number of worker processes.

    With workers, images are decoded beforehand, into shared memory, when the run is long enough to use most of them.
    Raises BadInput as `Batches` does, also from a worker.
    """
    if workers and (stop - start) * batches.data.batch_size >= len(batches.pool):
        batches.pool.preload()
    loader = DataLoader(
        _Reported(batches),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        collate_fn=_as_is,
        worker_init_fn=_in_worker,
        generator=torch.Generator(),  # the loader draws a seed at its start; not from the run's own generator
    )
    for item in loader:
        if isinstance(item, BadInput):
            raise item
        yield item
