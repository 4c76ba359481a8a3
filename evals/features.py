"""Frozen features of a labelled set: extracted once, shared by every task, kept on disk when asked."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from evals.backbone import Backbone
from evals.errors import BadInput, NonFiniteFeatures
from evals.protocol import Layout

if TYPE_CHECKING:
    from evals.datasets.base import LabelledSet

Precision = Literal["float32", "bfloat16"]
CACHE_VERSION = 2


@dataclass(frozen=True)
class FeatureSet:
    """Features of one set in its order; masks and depth stay in `dataset`, to be read one at a time.

    `tokens` holds the patches of all images one after the other (row-major in each), `grids` their (h, w); both are
    None where only pooled features were kept. Everything lies on the CPU in float32.
    """

    dataset: LabelledSet
    keys: tuple[str, ...]
    pooled: Float[Tensor, "n D"]
    tokens: Float[Tensor, "T D"] | None
    grids: Int[Tensor, "n 2"] | None
    square: bool = False  # every image was square, so that both layouts show the backbone the same pixels

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """Image classes. Raises BadInput where the set has none."""
        if not self.dataset.classes:
            raise BadInput(
                f"got {self.dataset.name} ({self.dataset.split}) without image classes: want a set with them; "
                "do take knn and linear off it or name another set"
            )
        return torch.tensor([self.dataset.label(i) for i in range(len(self))], dtype=torch.long)

    def dense(self) -> tuple[Float[Tensor, "T D"], list[tuple[int, int]]]:
        """All patches and the grid of each image. Raises BadInput where they were not kept."""
        if self.tokens is None or self.grids is None:
            raise BadInput("got features without patches: want dense features; do extract with layout 'whole'")
        return self.tokens, [(int(h), int(w)) for h, w in self.grids]

    def spans(self) -> list[slice]:
        """Where the patches of each image lie in `tokens`."""
        ends = np.cumsum([h * w for h, w in self.dense()[1]])
        return [slice(int(end - h * w), int(end)) for end, (h, w) in zip(ends, self.dense()[1], strict=True)]


@dataclass(frozen=True)
class Scale:
    """Standardisation learnt on a training set: zero mean, unit deviation per feature (dead features stay zero)."""

    mean: Float[Tensor, " D"]
    deviation: Float[Tensor, " D"]

    def __call__(self, x: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
        return (x - self.mean.to(x.device)) / self.deviation.to(x.device)


def fit_scale(x: Float[Tensor, "n D"]) -> Scale:
    """Mean and deviation of each feature, floored so that a constant feature does not become noise."""
    deviation, mean = torch.std_mean(x, 0, correction=0)
    return Scale(mean, deviation.clamp_min(1e-6 * float(deviation.max().clamp_min(1e-12))))


def extract(
    backbone: Backbone,
    dataset: LabelledSet,
    *,
    layout: Layout,
    size: int,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    precision: Precision = "float32",
    cache: Path | None = None,
) -> FeatureSet:
    """Pooled features of every image, and its patches with layout "whole" (`evals.protocol` describes both layouts).

    Args:
        size: short side in pixels, a multiple of the backbone's stride.
        device: where to compute; None leaves the backbone where it is.
        cache: folder of earlier extractions, keyed by weights, data and transform; a damaged file is made again.

    Raises:
        BadInput: a size that does not fit, an empty set, features that are not finite.
    """
    if size < backbone.stride or size % backbone.stride:
        raise BadInput(
            f"got size {size} for {backbone.name}: want a multiple of its stride {backbone.stride}; "
            f"do use {max(round(size / backbone.stride), 1) * backbone.stride}"
        )
    keys = tuple(dataset.key(i) for i in range(len(dataset)))
    if not keys:
        raise BadInput(f"got no images in {dataset.name} ({dataset.split}): want at least one; do check its folder")
    path = None
    if cache is not None:
        path = cache / f"{_address(backbone, dataset, keys, layout, size, precision)}.safetensors"
    tensors = _read(path, len(keys)) if path else None
    if tensors is None:
        with _moved(backbone, backbone.device if device is None else torch.device(device)):
            tensors = _compute(backbone, dataset, layout, size, batch_size, precision)
        if path:
            _write(path, tensors)
    square = bool(tensors["square"])
    return FeatureSet(dataset, keys, tensors["pooled"], tensors.get("tokens"), tensors.get("grids"), square)


def prepare(image: np.ndarray, *, layout: Layout, size: int, stride: int) -> np.ndarray:
    """Resize (bicubic, antialiased) and, with layout "crop", cut the centre square: uint8 [H W 3] to [h w 3]."""
    height, width = image.shape[:2]
    scale = size / min(height, width)
    if layout == "whole":
        target = [max(round(side * scale / stride), 1) * stride for side in (height, width)]
    else:
        target = [size if side == min(height, width) else round(side * scale) for side in (height, width)]
    if target != [height, width]:
        image = np.asarray(Image.fromarray(image).resize((target[1], target[0]), Image.Resampling.BICUBIC))
    if layout == "whole":
        return image
    top, left = ((side - size) // 2 for side in target)
    return image[top : top + size, left : left + size]


def cells(shape: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
    """For each pixel of an [H W] target the row-major index of the patch over its centre."""
    rows, columns = ((np.arange(side) * 2 + 1) * count // (2 * side) for side, count in zip(shape, grid, strict=True))
    return rows[:, None] * grid[1] + columns[None, :]


@contextmanager
def _moved(backbone: Backbone, device: torch.device) -> Iterator[None]:
    home = backbone.device
    if home.type != device.type:
        backbone.to(device)
    try:
        yield
    finally:
        backbone.to(home)


def _compute(
    backbone: Backbone, dataset: LabelledSet, layout: Layout, size: int, batch_size: int, precision: Precision
) -> dict[str, Tensor]:
    pooled: list[Tensor] = [torch.empty(0)] * len(dataset)
    tokens: list[Tensor] = [torch.empty(0)] * len(dataset)
    grids = torch.zeros(len(dataset), 2, dtype=torch.long)
    square = True
    autocast = torch.autocast(backbone.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
    with tqdm(total=len(dataset), desc=f"features of {dataset.name}", unit="image", disable=None, leave=False) as bar:
        for indices, images, squares in _batches(dataset, layout, size, stride=backbone.stride, batch_size=batch_size):
            square = square and squares
            with autocast:
                features = backbone(images.to(backbone.device).permute(0, 3, 1, 2).float() / 255)
            vectors, maps = features.pooled.cpu(), features.patches.flatten(2).mT.contiguous().cpu()
            if not (vectors.isfinite().all() and maps.isfinite().all()):
                raise NonFiniteFeatures(
                    f"got features from {backbone.name} that are not finite: want sound weights; do check it"
                )
            for row, index in enumerate(indices):
                pooled[index] = vectors[row]
                if layout == "whole":
                    tokens[index] = maps[row]
                    grids[index] = torch.tensor(features.patches.shape[2:])
            bar.update(len(indices))
    found = {"pooled": torch.stack(pooled), "square": torch.tensor(square)}
    return found if layout == "crop" else {**found, "tokens": torch.cat(tokens), "grids": grids}


def _batches(
    dataset: LabelledSet, layout: Layout, size: int, *, stride: int, batch_size: int
) -> Iterator[tuple[list[int], Tensor, bool]]:
    """Images of one shape together, so that no padding enters the features; and whether all were square."""
    waiting: dict[tuple[int, ...], list[tuple[int, np.ndarray, bool]]] = {}
    for index in range(len(dataset)):
        given = dataset.image(index)
        image = prepare(given, layout=layout, size=size, stride=stride)
        waiting.setdefault(image.shape, []).append((index, image, given.shape[0] == given.shape[1]))
        if len(waiting[image.shape]) == batch_size:
            yield _stack(waiting.pop(image.shape))
    for group in waiting.values():
        yield _stack(group)


def _stack(group: Sequence[tuple[int, np.ndarray, bool]]) -> tuple[list[int], Tensor, bool]:
    indices, images, squares = zip(*group, strict=True)
    return list(indices), torch.from_numpy(np.stack(images)), all(squares)


def _address(
    backbone: Backbone, dataset: LabelledSet, keys: Sequence[str], layout: Layout, size: int, precision: Precision
) -> str:
    content = [CACHE_VERSION, backbone.fingerprint, dataset.fingerprint(), keys, layout, size, precision]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _read(path: Path, count: int) -> dict[str, Tensor] | None:
    try:
        tensors = load_file(path)
    except (FileNotFoundError, SafetensorError):
        return None
    return tensors if "pooled" in tensors and len(tensors["pooled"]) == count else None


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(tensors, partial)
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)
