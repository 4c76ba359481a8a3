"""Frozen features of a labelled set: extracted once, shared by every task, kept on disk when asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from common.errors import BadInput
from common.progress import Bar
from common.workers import batches
from evals.backbones.backbone import Backbone
from evals.features import frozen, store
from evals.features.matrix import PickedRows, Rows, blocks
from evals.protocols.protocol import Precision, View

if TYPE_CHECKING:
    from evals.datasets.labelled_set import LabelledSet

WAITING = 8  # batches' worth of images of unlike shapes that may wait for company


@dataclass(frozen=True)
class FeatureSet:
    """Features of one set in its order; masks and depth stay in `dataset`, to be read one at a time.

    `tokens` holds the patches of the images one after the other, row-major in each; `starts` says where those of an
    image begin and `grids` how many they are, (h, w). These are None where patches were not kept. All rows are
    float32 on the CPU.
    """

    dataset: LabelledSet
    keys: tuple[str, ...]
    pooled: Rows  # [n D]
    mean: Rows  # [n D], of the patches
    tokens: Rows | None  # [T D]
    lengths: Rows | None  # [T 1], of the patches before the final norm
    grids: Int[Tensor, "n 2"] | None
    starts: Int[Tensor, " n"] | None
    square: bool = False  # every image was square, so that both layouts show the backbone the same pixels

    @classmethod
    def in_memory(
        cls,
        dataset: LabelledSet,
        pooled: Float[Tensor, "n D"],
        *,
        mean: Float[Tensor, "n D"] | None = None,
        tokens: Float[Tensor, "T D"] | None = None,
        grids: Int[Tensor, "n 2"] | None = None,
    ) -> FeatureSet:
        """From tensors, patches in the order of the images; `mean` stands in for `pooled` where it is not given."""
        keys = tuple(dataset.key(i) for i in range(len(dataset)))
        lengths = None if tokens is None else torch.linalg.vector_norm(tokens, dim=1, keepdim=True)
        return cls(dataset, keys, pooled, pooled if mean is None else mean, tokens, lengths, grids, _starts(grids))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """Image classes. Raises BadInput where the set has none."""
        if not self.dataset.classes:
            raise BadInput(
                f"got {self.dataset.name} ({self.dataset.split}) without image classes: want a set with them; "
                "do take knn, linear and logreg off it or name another set"
            )
        return torch.tensor([self.dataset.label(i) for i in range(len(self))], dtype=torch.long)

    def dense(self) -> Rows:
        """All patches. Raises BadInput where they were not kept."""
        if self.tokens is None:
            raise BadInput("got features without patches: want dense features; do extract with dense=True")
        return self.tokens

    def grid(self, index: int) -> tuple[int, int]:
        """Rows and columns of the patches of an image."""
        self.dense()
        height, width = _known(self.grids)[index].tolist()
        return height, width

    def patches(self, index: int) -> Float[Tensor, "P D"]:
        """The patches of an image, row-major."""
        height, width = self.grid(index)
        start = int(_known(self.starts)[index])
        return self.dense()[start : start + height * width]

    def rows(self) -> Int[np.ndarray, " T"]:
        """Where the patches lie in `tokens`, image by image in the set's order and row-major in each."""
        self.dense()
        starts, sizes = _known(self.starts).numpy(), _known(self.grids).numpy().prod(1)
        before = np.cumsum(sizes) - sizes
        return np.repeat(starts - before, sizes) + np.arange(sizes.sum())

    def order(self) -> list[int]:
        """The images in the order in which their patches lie in `tokens`."""
        self.dense()
        return torch.argsort(_known(self.starts), stable=True).tolist()

    def select(self, images: Sequence[int], dataset: LabelledSet) -> FeatureSet:
        """Some of the images, which `dataset` holds in this order."""
        index = np.asarray(images)
        picked = replace(
            self,
            dataset=dataset,
            keys=tuple(self.keys[i] for i in images),
            pooled=PickedRows(self.pooled, index),
            mean=PickedRows(self.mean, index),
        )
        if self.tokens is None or self.lengths is None:
            return picked
        some = replace(picked, grids=_known(self.grids)[index], starts=_known(self.starts)[index])
        rows = some.rows()
        return replace(
            some,
            tokens=PickedRows(self.tokens, rows),
            lengths=PickedRows(self.lengths, rows),
            starts=_starts(some.grids),
        )


@dataclass(frozen=True)
class Scale:
    """Standardisation learnt on a training set: zero mean, unit deviation per feature (dead features stay zero)."""

    mean: Float[Tensor, " D"]
    deviation: Float[Tensor, " D"]

    def __call__(self, x: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
        return (x - self.mean.to(x.device)) / self.deviation.to(x.device)


def fit_scale(rows: Rows, *, block: int = 16384) -> Scale:
    """Mean and deviation of each feature, in one pass over blocks and in float64; the deviation is floored so that a
    constant feature does not become noise."""
    count, mean, square = 0, torch.zeros(rows.shape[1]).double(), torch.zeros(rows.shape[1]).double()
    for _, part in blocks(rows, block):
        part = part.double()
        ours, shift = len(part), part.mean(0) - mean
        square += (part - part.mean(0)).square().sum(0) + shift.square() * (count * ours / (count + ours))
        mean += shift * (ours / (count + ours))
        count += ours
    deviation = (square / max(count, 1)).sqrt().float()
    return Scale(mean.float(), deviation.clamp_min(1e-6 * float(deviation.max().clamp_min(1e-12))))


def extract(
    backbone: Backbone,
    dataset: LabelledSet,
    view: View,
    *,
    dense: bool = False,
    batch_size: int = 64,
    precision: Precision = "float32",
    cache: Path | None = None,
    workers: int = 0,
) -> FeatureSet:
    """Pooled features and mean patches of every image and, if `dense`, all its patches.

    Args:
        view: what the backbone sees; its size must be a multiple of the backbone's stride.
        cache: folder of earlier extractions, keyed by weights, data and transform; a damaged entry is made again.
            With it features live on disk and are read in blocks, without it in memory.
        workers: processes that read the images; 0 reads them here. Changes no feature.

    Raises:
        BadInput: a size that does not fit, an empty set, an unreadable image, features that are not finite.
    """
    refuse_uneven(view.size, backbone)
    keys = tuple(dataset.key(i) for i in range(len(dataset)))
    if not keys:
        raise BadInput(f"got no images in {dataset.name} ({dataset.split}): want at least one; do check its folder")
    entry = store.Entry.at(cache, backbone=backbone, dataset=dataset, keys=keys, view=view, precision=precision)
    found = entry.read(dense=dense)
    if found is None:
        with entry.write(dense) as new:
            show = partial(_show, dataset, view, backbone.stride)
            images = batches(show, len(dataset), workers=workers)
            title = f"{dataset.name} at {view.size} px"
            _compute(backbone, _batches(images, batch_size), new, precision, title=title)
        found = new.found
    return FeatureSet(dataset, keys, **vars(found))


def refuse_uneven(size: int, backbone: Backbone) -> None:
    """Raises BadInput for a size that the backbone's stride does not divide, naming the nearest that it does."""
    stride = backbone.stride
    if size < stride or size % stride:
        raise BadInput(
            f"got size {size} for {backbone.name}: want a multiple of its stride {stride}; do use "
            f"{nearest_multiple(size, stride)}"
        )


def nearest_multiple(side: float, stride: int) -> int:
    """The multiple of the stride that a side in pixels comes nearest to, at least one."""
    return max(round(side / stride), 1) * stride


def prepare(image: np.ndarray, view: View, *, stride: int) -> np.ndarray:
    """What the view shows of an image: uint8 [H W 3] to [h w 3]."""
    height, width = image.shape[:2]
    short = min(height, width)
    if view.layout == "whole":
        target = [nearest_multiple(side * view.size / short, stride) for side in (height, width)]
    else:
        # The sides and the corner are torchvision's (Resize, CenterCrop), with which numbers are published
        goal = round(view.size / view.crop_pct)
        target = [goal if side == short else int(goal * side / short) for side in (height, width)]
    if target != [height, width]:
        image = np.asarray(Image.fromarray(image).resize((target[1], target[0]), Image.Resampling.BICUBIC))
    if view.layout == "whole":
        return image
    top, left = (round((side - view.size) / 2) for side in target)
    return image[top : top + view.size, left : left + view.size]


def cells(shape: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
    """For each pixel of an [H W] target the row-major index of the patch over its centre."""
    rows, columns = ((np.arange(side) * 2 + 1) * count // (2 * side) for side, count in zip(shape, grid, strict=True))
    return rows[:, None] * grid[1] + columns[None, :]


def _known(x: Tensor | None) -> Tensor:
    assert x is not None, "grids and starts come with the tokens"
    return x


def _starts(grids: Tensor | None) -> Tensor | None:
    return None if grids is None else grids.prod(1).cumsum(0) - grids.prod(1)


def _compute(
    backbone: Backbone, batches: Iterator[list[Shown]], new: store.Writer, precision: Precision, *, title: str
) -> None:
    with Bar(total=new.count, desc=f"features of {title}", unit="image") as bar:
        for batch in batches:
            images = torch.from_numpy(np.stack([shown.image for shown in batch]))
            features = frozen.features(backbone, images, precision=precision)
            pooled, maps = features.pooled.cpu(), features.patches.flatten(2).mT.contiguous().cpu()
            lengths = features.lengths.flatten(1).cpu()
            grid = (features.patches.shape[2], features.patches.shape[3])
            for row, shown in enumerate(batch):
                new.put(shown.index, pooled[row], maps[row], lengths[row], grid=grid, square=shown.square)
            bar.update(len(batch))


@dataclass(frozen=True)
class Shown:
    """One image as the backbone sees it, and whether it was square before."""

    index: int
    image: np.ndarray
    square: bool


def _show(dataset: LabelledSet, view: View, stride: int, index: int) -> Shown:
    image = dataset.image(index)
    return Shown(index, prepare(image, view, stride=stride), square=image.shape[0] == image.shape[1])


def _batches(images: Iterator[Shown], size: int) -> Iterator[list[Shown]]:
    """Images of one shape together, so that no padding enters the features; few wait for company at a time."""
    waiting: dict[tuple[int, ...], list[Shown]] = {}
    for shown in images:
        group = waiting.setdefault(shown.image.shape, [])
        group.append(shown)
        if len(group) < size and sum(map(len, waiting.values())) < WAITING * size:
            continue
        yield waiting.pop(max(waiting, key=lambda shape: len(waiting[shape])))
    yield from waiting.values()
