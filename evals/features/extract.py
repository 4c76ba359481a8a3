"""Frozen features of a labelled set: extracted once, shared by every task, kept on disk when asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from common.errors import BadInput
from common.progress import Bar
from common.workers import batches
from evals.backbones.backbone import Backbone
from evals.features import frozen, store
from evals.features.feature_set import FeatureSet
from evals.features.view import Precision, View, prepare, refuse_uneven

if TYPE_CHECKING:
    from evals.datasets.labelled_set import LabelledSet

WAITING = 8  # batches' worth of images of unlike shapes that may wait for company


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
    refuse_uneven(f"size {view.size} for {backbone.name}", view.size, backbone.stride)
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
