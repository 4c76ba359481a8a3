"""What protocols on live, augmented features share: keyed draws, batches made ahead, frozen features of any sides.

Everything random is a function of a seed, a purpose and a number, mostly a position: step · batch size + place in the
batch. So batches do not depend on the number of worker processes, and the global random states stay as they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import blake2b
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from evals.backbone import Backbone, Features
from evals.errors import BadInput, NonFiniteFeatures
from evals.protocol import Precision, Protocol

T = TypeVar("T")


@dataclass(frozen=True)
class Stream:
    """An endless stream over `count` images: every epoch has an order of its own, keyed by (seed, epoch)."""

    count: int
    seed: int

    def __getitem__(self, position: int) -> int:
        """The index of the image at this position, counted from 0 over all epochs."""
        epoch, place = divmod(position, self.count)
        return int(_order(self.count, self.seed, epoch)[place])


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return generator(seed, "order", epoch).permutation(count)


def entropy(seed: int, purpose: str, number: int = 0) -> int:
    """128 bits that are a function of these three alone: draws for unlike purposes do not meet."""
    parts = repr((int(seed), purpose, int(number))).encode()
    return int.from_bytes(blake2b(parts, digest_size=16).digest(), "little")


def generator(seed: int, purpose: str, number: int = 0) -> np.random.Generator:
    """A numpy generator of its own for these three."""
    return np.random.default_rng(entropy(seed, purpose, number))


def torch_generator(seed: int, purpose: str, number: int = 0) -> torch.Generator:
    """The same for torch, on the CPU."""
    return torch.Generator().manual_seed(entropy(seed, purpose, number) % 2**63)


def batches(make: Callable[[int], T], steps: int, *, workers: int = 0) -> Iterator[T]:
    """make(0) … make(steps − 1), in order; with `workers`, made ahead in that many processes.

    Raises:
        BadInput: as `make` does, from a worker too.
    """
    loader = DataLoader(
        _Made(make),
        batch_size=None,
        sampler=range(steps),
        num_workers=workers,
        collate_fn=_as_is,
        generator=torch.Generator(),  # the loader draws a seed at its start: not from the global state
    )
    for made in loader:
        if isinstance(made, BadInput):
            raise made
        yield made


class _Made(Dataset[Any]):
    """Hands BadInput over as a value: the loader would wrap what a worker raises in a traceback of many lines."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make

    def __getitem__(self, step: int) -> Any:
        try:
            return self.make(step)
        except BadInput as error:
            return error


def _as_is(item: Any) -> Any:
    return item


def features(
    backbone: Backbone, images: UInt8[Tensor, "B H W 3"] | Float[Tensor, "B 3 H W"], *, precision: Precision = "float32"
) -> Features:
    """Frozen float32 features of a batch, on the backbone's device, without gradient.

    Args:
        images: RGB, either uint8 with channels last as data sets give them, or floating in [0, 1] with channels first;
            sides are multiples of the backbone's stride (`pad_to_stride`).
        precision: "bfloat16" computes under autocast.

    Raises:
        NonFiniteFeatures: the backbone gives NaN or infinity.
    """
    images = images.to(backbone.device)
    if images.dtype == torch.uint8:
        images = images.permute(0, 3, 1, 2).float() / 255
    with torch.autocast(backbone.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        found = backbone(images)
    if not (found.pooled.isfinite().all() and found.patches.isfinite().all()):
        raise NonFiniteFeatures(
            f"got features from {backbone.name} that are not finite: want sound weights; do check it"
        )
    return Features(*(x.float() for x in found))


@contextmanager
def lent(backbone: Backbone, device: str | torch.device) -> Iterator[torch.device]:
    """The backbone on this device inside the block, and back where it was behind it."""
    home, device = backbone.device, torch.device(device)
    backbone.to(device)
    try:
        yield device
    finally:
        backbone.to(home)


def pad_to_stride(
    images: Float[Tensor, "B 3 H W"], stride: int, *, colour: Sequence[float]
) -> tuple[Float[Tensor, "B 3 h w"], tuple[int, int]]:
    """Images in the centre of sides that are multiples of the stride, and the (top, left) that they begin at.

    What is added has this RGB colour; with the mean that the backbone takes off, it is zero inside.
    """
    height, width = images.shape[2:]
    rows, columns = (-height % stride, -width % stride)
    top, left = rows // 2, columns // 2
    if not (rows or columns):
        return images, (0, 0)
    padded = images.new_tensor(colour).view(1, 3, 1, 1).repeat(len(images), 1, height + rows, width + columns)
    padded[:, :, top : top + height, left : left + width] = images
    return padded, (top, left)


def upsample(
    maps: Float[Tensor, "B C h w"], padded: Sequence[int], corner: tuple[int, int], shape: Sequence[int]
) -> Float[Tensor, "B C H W"]:
    """Patch maps at the pixels of the images: bilinear (align_corners False) to the padded size, padding cut off."""
    full = F.interpolate(maps, size=tuple(padded), mode="bilinear", align_corners=False)
    (top, left), (height, width) = corner, shape
    return full[:, :, top : top + height, left : left + width]


def encode(
    backbone: Backbone, images: Float[Tensor, "B 3 H W"], *, precision: Precision = "float32"
) -> tuple[Float[Tensor, "B D h w"], Callable[[Tensor], Tensor]]:
    """Frozen patches of images in [0, 1] of any sides, and what brings patch maps [B C h w] to their pixels."""
    padded, corner = pad_to_stride(images, backbone.stride, colour=backbone.mean)
    patches = features(backbone, padded, precision=precision).patches
    return patches, partial(upsample, padded=padded.shape[2:], corner=corner, shape=images.shape[2:])


def stack(views: Sequence[np.ndarray], shape: tuple[int, int], *, fill: int) -> Tensor:
    """Views [h w ...] of one shape after filling them up at the right and at the bottom: [B H W ...]."""
    full = np.full((len(views), *shape, *views[0].shape[2:]), fill, dtype=views[0].dtype)
    for whole, view in zip(full, views, strict=True):
        whole[: view.shape[0], : view.shape[1]] = view
    return torch.from_numpy(full)


def pictures(
    images: UInt8[Tensor, "B H W 3"],
    sides: Int[Tensor, "B 2"],
    backbone: Backbone,
    *,
    alter: Callable[[Tensor], Tensor] = lambda images: images,
) -> Float[Tensor, "B 3 H W"]:
    """Stacked views in [0, 1] on the backbone's device; beyond the (height, width) of each, zero when normalised.

    Args:
        alter: what else happens to the images [B 3 H W] in [0, 1], before that.
    """
    device, (height, width) = backbone.device, images.shape[1:3]
    rows, columns = (torch.arange(side, device=device) for side in (height, width))
    sides = sides.to(device)
    inside = (rows < sides[:, :1])[:, :, None] & (columns < sides[:, 1:])[:, None, :]
    found = alter(images.to(device).permute(0, 3, 1, 2).float() / 255)
    return torch.where(inside[:, None], found, found.new_tensor(backbone.mean).view(1, 3, 1, 1))


@contextmanager
def progress(total: int, title: str) -> Iterator[Callable[..., None]]:
    """A bar with rate and time left; call what it gives once a step, with the numbers to show (`loss=0.7`)."""
    with tqdm(total=total, desc=title, unit="it", disable=None, leave=False) as bar:

        def tick(**shown: float) -> None:
            bar.set_postfix({name: f"{value:.3g}" for name, value in shown.items()}, refresh=False)
            bar.update()

        yield tick


def refuse_non_finite(loss: float, step: int, title: str) -> None:
    """Raises BadInput that names the iteration, counted from 0."""
    if not math.isfinite(loss):
        raise BadInput(f"got loss {loss} at iteration {step} of {title}: want a finite one; do lower the learning rate")


def due(step: int, every: int, steps: int) -> bool:
    """Whether the head is judged when this step, counted from 0, is done: each `every` steps, and once at the end."""
    return (step + 1) % every == 0 or step + 1 == steps


def pair(values: Sequence[float]) -> tuple[float, float]:
    first, second = values
    return first, second


def check(protocol: Protocol, *, lengths: Mapping[str, int], shares: Sequence[str], counts: Sequence[str]) -> None:
    """Raises BadInput where a list has another length, a share leaves [0, 1] or a count is below 1."""

    def refuse(name: str, want: str) -> NoReturn:
        raise BadInput(f"got {name} {getattr(protocol, name)} in {protocol.name}: want {want}; do correct it")

    for name, length in lengths.items():
        if len(getattr(protocol, name)) != length:
            refuse(name, f"{length} numbers")
    for name in shares:
        if not 0 <= getattr(protocol, name) <= 1:
            refuse(name, "0 to 1")
    for name in counts:
        if getattr(protocol, name) < 1:
            refuse(name, "at least 1")
