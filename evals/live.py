"""What protocols on live, augmented features share: frozen features of a batch, endless batches, the loop of a head.

Everything random is a function of a seed, a purpose and a number, mostly the position = step · batch size + place in the
batch: batches do not depend on the number of worker processes, and the global random states stay as they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from evals.backbone import Backbone, Features
from evals.errors import BadInput, NonFiniteFeatures
from evals.features import Precision

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
    return Features(found.pooled.float(), found.patches.float())


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


@contextmanager
def progress(total: int, title: str) -> Iterator[Callable[..., None]]:
    """A bar with rate and time left; call what it gives once a step, with the numbers to show (`loss=0.7`)."""
    with tqdm(total=total, desc=title, unit="it", disable=None, leave=False) as bar:

        def tick(**shown: float) -> None:
            bar.set_postfix({name: f"{value:.3g}" for name, value in shown.items()}, refresh=False)
            bar.update()

        yield tick


def fit(
    optimizer: torch.optim.Optimizer,
    batches: Iterable[T],
    loss: Callable[[int, T], Tensor],
    *,
    steps: int,
    options: Callable[[int], Mapping[str, Any]],
    title: str,
    clip: float | None = None,
    after: Callable[[int], Mapping[str, float] | None] = lambda step: None,
) -> None:
    """One optimizer step per batch: options, loss, gradient, clipping, step, `after`.

    Args:
        options: from the step, counted from 0, to what it sets in the optimizer's groups ("lr", "betas").
        clip: the largest norm of all gradients together.
        after: called when a step is done, as with validation; the numbers that it gives are shown from there on.

    Raises:
        BadInput: a loss that is not finite, before it reaches the weights.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    shown: dict[str, float] = {}
    with progress(steps, title) as tick:
        for step, batch in zip(range(steps), batches, strict=True):
            chosen = options(step)
            for group in optimizer.param_groups:
                group.update(chosen)
            value = loss(step, batch)
            number = float(value.detach())
            refuse_non_finite(number, step, title)
            optimizer.zero_grad()
            value.backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
            shown.update(after(step) or {})
            tick(loss=number, lr=float(chosen["lr"]), **shown)


def refuse_non_finite(loss: float, step: int, title: str) -> None:
    """Raises BadInput that names the iteration, counted from 0."""
    if not math.isfinite(loss):
        raise BadInput(f"got loss {loss} at iteration {step} of {title}: want a finite one; do lower the learning rate")


def due(step: int, every: int, steps: int) -> bool:
    """Whether the head is judged when this step, counted from 0, is done: each `every` steps, and once at the end."""
    return (step + 1) % every == 0 or step + 1 == steps
