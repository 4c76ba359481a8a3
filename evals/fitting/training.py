"""The training of a head: the loop, and validations that keep the head where it was judged best."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from common.errors import BadInput
from common.progress import Bar
from common.workers import batches
from evals.protocols.protocol import TrainedHead

T = TypeVar("T")


def probe(
    protocol: TrainedHead,
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
    with Bar(total=steps, desc=title, unit="step") as bar:
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
            bar.set_postfix({"loss": number, "lr": float(chosen["lr"]), **shown}, refresh=False)
            bar.update()


def refuse_non_finite(loss: float, step: int, title: str) -> None:
    """Raises BadInput that names the iteration, counted from 0."""
    if not math.isfinite(loss):
        raise BadInput(f"got loss {loss} at iteration {step} of {title}: want a finite one; do lower the learning rate")


def due(step: int, every: int, steps: int) -> bool:
    """Whether the head is judged when this step, counted from 0, is done: each `every` steps, and once at the end."""
    return (step + 1) % every == 0 or step + 1 == steps
