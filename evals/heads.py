"""Heads on frozen, live features: the linear one, and the training that keeps a head where it was judged best."""

from __future__ import annotations

import logging
import math
import time
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from evals.backbone import Backbone
from evals.draws import torch_generator
from evals.errors import BadInput
from evals.live import encode
from evals.loader import batches
from evals.protocol import Precision

T = TypeVar("T")
Head = Callable[[Tensor], Tensor]  # patches [B D h w] -> maps [B C h w]

log = logging.getLogger("gramlab")
SILENCE = 30.0  # seconds


class LinearHead(nn.Module):
    """Batch norm and a 1 × 1 convolution, weights from N(0, `init_std`²) by the seed, bias 0.

    One process trains it, so that batch norm over the batch is what synchronised batch norm is over all processes.
    """

    def __init__(self, width: int, outputs: int, *, init_std: float, seed: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        drawn = torch.randn(outputs, width, 1, 1, generator=torch_generator(seed, "head"))
        self.weight, self.bias = nn.Parameter(init_std * drawn), nn.Parameter(torch.zeros(outputs))

    def forward(self, patches: Float[Tensor, "B D h w"]) -> Float[Tensor, "B C h w"]:
        return F.conv2d(self.norm(patches), self.weight, self.bias)


def width(backbone: Backbone, size: int) -> int:
    """How many features a patch has, as seen on one grey image of this size."""
    return encode(backbone, torch.full((1, 3, size, size), 0.5, device=backbone.device))[0].shape[1]


def see(
    backbone: Backbone, head: Head, images: Float[Tensor, "B 3 H W"], *, precision: Precision = "float32"
) -> Float[Tensor, "B C H W"]:
    """What a head says at the pixels of images in [0, 1] of any sides."""
    patches, to_pixels = encode(backbone, images, precision=precision)
    return to_pixels(head(patches))


class Schedule(typing.Protocol):
    """What `probe` asks of a protocol."""

    @property
    def iterations(self) -> int: ...
    @property
    def validate_every(self) -> int: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def clip(self) -> float | None: ...


def probe(
    protocol: Schedule,
    head: nn.Module,
    *,
    make: Callable[[int], T],
    loss: Callable[[int, T], Tensor],
    options: Callable[[int], Mapping[str, Any]],
    judge: Callable[[], dict[str, np.ndarray]],
    score: Callable[[dict[str, np.ndarray]], float],
    title: str,
    workers: int = 0,
) -> dict[str, np.ndarray]:
    """`fit` by AdamW with a validation each `validate_every` iterations and once at the end; the head ends, in
    evaluation mode, where its score was highest.

    Args:
        make: the batch of a step, made ahead in `workers` processes.
        judge: the outcomes of the head as it is.
        score: one number of these, the higher the better.

    Returns: the outcomes where the score was highest.
    """
    best_score, outcomes, state = -math.inf, {}, {}
    optimizer = torch.optim.AdamW(head.parameters(), weight_decay=protocol.weight_decay)

    def validate(step: int) -> dict[str, float] | None:
        nonlocal best_score, outcomes, state
        if not due(step, protocol.validate_every, protocol.iterations):
            return None
        found = judge()
        value = score(found)
        if value > best_score or not state:
            best_score, outcomes = value, found
            state = {name: tensor.detach().clone() for name, tensor in head.state_dict().items()}
        return {"best": best_score}

    made = batches(make, protocol.iterations, workers=workers)
    fit(optimizer, made, loss, steps=protocol.iterations, options=options, clip=protocol.clip, title=title,
        after=validate)  # fmt: skip
    head.load_state_dict(state)
    head.eval()
    return outcomes


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


@contextmanager
def judging(head: object) -> Iterator[None]:
    """A head that is a module in evaluation mode inside the block, and as it was behind it."""
    if not isinstance(head, nn.Module):
        yield
        return
    training = head.training
    head.eval()
    try:
        yield
    finally:
        head.train(training)


@contextmanager
def progress(total: int, title: str) -> Iterator[Callable[..., None]]:
    """A bar with rate and time left; call what it gives once a step, with the numbers to show (`loss=0.7`).

    Where no terminal shows the bar, a line of the log every half minute stands in.
    """
    begun = told = time.monotonic()
    done = 0
    with tqdm(total=total, desc=title, unit="it", disable=None, leave=False) as bar:

        def tick(**shown: float) -> None:
            nonlocal told, done
            numbers = {name: f"{value:.3g}" for name, value in shown.items()}
            bar.set_postfix(numbers, refresh=False)
            bar.update()
            done, now = done + 1, time.monotonic()
            if bar.disable and now - told >= SILENCE:
                told = now
                left = tqdm.format_interval((total - done) * (now - begun) / done)
                log.info("%s: %d of %d, %s left, %s", title, done, total, left, numbers)

        yield tick


def refuse_non_finite(loss: float, step: int, title: str) -> None:
    """Raises BadInput that names the iteration, counted from 0."""
    if not math.isfinite(loss):
        raise BadInput(f"got loss {loss} at iteration {step} of {title}: want a finite one; do lower the learning rate")


def due(step: int, every: int, steps: int) -> bool:
    """Whether the head is judged when this step, counted from 0, is done: each `every` steps, and once at the end."""
    return (step + 1) % every == 0 or step + 1 == steps
