"""Frozen features of a labelled set: extracted once, shared by every task, kept on disk when asked."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
import torch

from common.errors import BadInput
from common.progress import Bar
from common.ranks import ALONE, Ranks
from common.workers import batches
from evals.backbones.backbone import Backbone
from evals.features import frozen, store
from evals.features.feature_set import FeatureSet
from evals.features.view import Precision, View, prepare, prepared_sides, refuse_uneven

if TYPE_CHECKING:
    from evals.datasets.labelled_set import LabelledSet

T = TypeVar("T")
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
    ranks: Ranks = ALONE,
) -> FeatureSet:
    """Pooled features and mean patches of every image and, if `dense`, all its patches.

    Args:
        view: what the backbone sees; its size must be a multiple of the backbone's stride.
        cache: folder of earlier extractions, keyed by weights, data and transform; a damaged entry is made again.
            With it features live on disk and are read in blocks, without it in memory.
        workers: processes that read the images; 0 reads them here. Changes no feature.
        ranks: processes that all call this alike: batches are dealt to them, and the first one writes. Several need a
            cache, by which they share the features. Changes no feature either.

    Raises:
        BadInput: a size that does not fit, an empty set, an unreadable image, features that are not finite.
    """
    refuse_uneven(f"size {view.size} for {backbone.name}", view.size, backbone.stride)
    keys = tuple(dataset.key(i) for i in range(len(dataset)))
    if not keys:
        raise BadInput(f"got no images in {dataset.name} ({dataset.split}): want at least one; do check its folder")
    about = {"backbone": backbone, "dataset": dataset, "keys": keys, "view": view, "precision": precision}
    entry = ranks.made_by_all(lambda: store.Entry.at(cache, **about))[0]
    source = Source(backbone, dataset, view, precision, dense)
    found = _stored(entry, source, batch_size=batch_size, workers=workers, ranks=ranks)
    return FeatureSet(dataset, keys, **vars(found))


@dataclass(frozen=True)
class Source:
    """What is extracted: what a backbone makes of a set through a view, with its patches if `dense`."""

    backbone: Backbone
    dataset: LabelledSet
    view: View
    precision: Precision
    dense: bool

    def features(self, batch: Sequence[Shown]) -> store.BatchFeatures:
        """Of images of one shape."""
        images = torch.from_numpy(np.stack([shown.image for shown in batch]))
        found = frozen.features(self.backbone, images, precision=self.precision)
        maps, lengths = found.patches.flatten(2).mT.contiguous().cpu(), found.lengths.flatten(1).cpu()
        kept = slice(None if self.dense else 0)
        return store.BatchFeatures(
            indices=torch.tensor([shown.index for shown in batch]),
            square=torch.tensor([shown.square for shown in batch]),
            grid=torch.tensor(found.patches.shape[2:]),
            pooled=found.pooled.cpu(),
            mean=torch.stack([patches.mean(0) for patches in maps]),
            tokens=maps[kept],
            lengths=lengths[kept],
        )


def _stored(entry: store.Entry, source: Source, *, batch_size: int, workers: int, ranks: Ranks) -> store.StoredFeatures:
    """What the first process finds in the entry, or what all of them put there."""
    found = ranks.led(lambda: entry.read(dense=source.dense))
    if ranks.agreed(found is None):
        with ExitStack() as stack:
            new = ranks.led(lambda: stack.enter_context(entry.write(source.dense)))
            features = _features(source, batch_size=batch_size, workers=workers, ranks=ranks)
            made = stack.enter_context(closing(features))  # whose loaders end now whatever comes
            title = f"features of {source.dataset.name} at {source.view.size} px"
            with Bar(total=len(source.dataset), desc=title, unit="image") as bar:
                for some in made:
                    cast(store.Writer, new).put(some)
                    bar.update(len(some.indices))
            ranks.made(stack.close)
        found = new.found if new else None
    return cast(store.StoredFeatures, ranks.agreed(found))


def _features(
    source: Source, *, batch_size: int, workers: int, ranks: Ranks
) -> Generator[store.BatchFeatures, None, None]:
    """Features of all batches in their order; of several processes, which take them in turn, in the first one alone.

    Batches are those of one process, whoever computes them, so that features are the same to the bit.
    """
    look = Look(source.dataset, source.view, source.backbone.stride)
    if ranks.world == 1:
        with closing(batches(look, len(source.dataset), workers=workers)) as shown:
            yield from map(source.features, of_one_shape(shown, batch_size, shape=lambda one: one.image.shape))
        return
    shapes = _shapes(look, workers=workers, ranks=ranks)
    whole = [*of_one_shape(range(len(shapes)), batch_size, shape=shapes.__getitem__)]
    mine = whole[ranks.rank :: ranks.world]
    with closing(batches(partial(_picked, look, [*chain(*mine)]), sum(map(len, mine)), workers=workers)) as shown:
        made = (source.features([*islice(shown, len(batch))]) for batch in mine)
        for _ in range(0, len(whole), ranks.world):
            own = ranks.made(lambda: next(made, ()))
            yield from (store.BatchFeatures(*tensors) for tensors in ranks.collected(own) if tensors)


@dataclass(frozen=True)
class Shown:
    """One image as the backbone sees it, and whether it was square before."""

    index: int
    image: np.ndarray
    square: bool


@dataclass(frozen=True)
class Look:
    """Shows the images of a set, without the backbone, for processes that read them ahead."""

    dataset: LabelledSet
    view: View
    stride: int

    def __call__(self, index: int) -> Shown:
        image = self.dataset.image(index)
        return Shown(index, prepare(image, self.view, stride=self.stride), square=image.shape[0] == image.shape[1])

    def sides(self, index: int) -> tuple[int, int]:
        """Of an image as it will be shown."""
        return prepared_sides(self.dataset.image(index).shape, self.view, stride=self.stride)


def _picked(look: Look, order: Sequence[int], place: int) -> Shown:
    return look(order[place])


def _shapes(look: Look, *, workers: int, ranks: Ranks) -> list[tuple[int, int]]:
    """Height and width of all images as they will be shown; images that are not cut are read for that, each process
    a part of them."""
    view, count = look.view, len(look.dataset)
    if view.layout == "crop":
        return [(view.size, view.size)] * count
    first, stop = (count * rank // ranks.world for rank in (ranks.rank, ranks.rank + 1))
    told = ranks.made_by_all(lambda: [*batches(look.sides, stop, first=first, workers=workers)])
    return [*chain(*told)]


def of_one_shape(items: Iterable[T], size: int, *, shape: Callable[[T], tuple[int, ...]]) -> Iterator[list[T]]:
    """Images of one shape together, so that no padding enters the features; few wait for company at a time."""
    waiting: dict[tuple[int, ...], list[T]] = {}
    for item in items:
        group = waiting.setdefault(shape(item), [])
        group.append(item)
        if len(group) < size and sum(map(len, waiting.values())) < WAITING * size:
            continue
        yield waiting.pop(max(waiting, key=lambda shape: len(waiting[shape])))
    yield from waiting.values()
