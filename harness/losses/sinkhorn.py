"""Sinkhorn-Knopp centering of the teacher's logits, which begins in the log domain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from harness.losses.precision import (
    at_least_float32,
    guarded,
    refuse_cold,
    refuse_non_float,
    refuse_unless,
    shape,
)
from harness.losses.visits import in_cache

Reduce = Callable[[Tensor, Literal["sum", "max"]], Tensor]


def alone(x: Tensor, op: Literal["sum", "max"]) -> Tensor:
    """The reduction over one process: nothing to add."""
    return x


def _refuse(
    logits: Tensor, temperature: float, iterations: int = 3, reduce: Reduce = alone, overwrite: bool = False
) -> None:
    ok = logits.ndim == 2 and logits.shape[1] > 0
    refuse_unless(ok, f"got logits {shape(logits)}: want [n, K] with K > 0; flatten the samples into one axis")
    refuse_non_float(logits=logits)
    refuse_cold(temperature)
    refuse_unless(iterations >= 1, f"got {iterations} Sinkhorn iterations: want at least 1; the recipe uses 3")


@torch.no_grad()
@guarded(_refuse)
def sinkhorn_knopp(
    logits: Float[Tensor, "n K"],
    temperature: float,
    iterations: int = 3,
    reduce: Reduce = alone,
    overwrite: bool = False,
) -> Float[Tensor, "n K"]:
    """Assigns n samples to K prototypes so that each sample has mass 1 and prototypes have nearly equal mass.

    logits: the teacher's scores, any finite size: the exponential is only taken of numbers at or below 0.
    temperature: divides the logits; iterations: rounds of (prototypes, then samples).
    reduce(tensor, "sum" | "max"): over the processes that share the samples; the identity for one process.
    overwrite: whether the logits are no longer needed, so that their memory can hold the answer.
    Returns probabilities, rows summing to 1, without gradient; float64 for float64 logits, else float32.
    Raises BadInput for another rank of tensor, integer logits, temperature <= 0, iterations < 1.

    The published form divides by the total, by K and by the number of samples as well. All three are constants that
    the division of each sample by its own sum removes again, so they are left out.
    Source: SwAV, arXiv 2006.09882, as DINOv3 §3.2 (arXiv 2508.10104) uses it.
    """
    scores = at_least_float32(logits)
    q = scores if overwrite or scores is not logits else torch.empty_like(scores)
    parts = in_cache(scores)
    mass = _log_mass(scores, temperature, parts, reduce)
    # From here on as plain numbers: the largest of each prototype is 1 / n or more before a sample is divided by its
    # sum, of at most K, so that no prototype's mass gets lost
    later = torch.zeros_like(mass)
    for part in parts:
        later += torch.softmax(scores[part] / temperature - mass, -1, out=q[part]).sum(0, keepdim=True)
    for _ in range(iterations - 1):
        mass, later = reduce(later, "sum"), torch.zeros_like(later)
        for part in parts:
            own = q[part].div_(mass)
            later += own.div_(own.sum(1, keepdim=True)).sum(0, keepdim=True)
    return q


def _log_mass(
    scores: Float[Tensor, "n K"], temperature: float, parts: Sequence[slice], reduce: Reduce
) -> Float[Tensor, "1 K"]:
    """log of each prototype's mass over the samples of all processes; a process may have no sample."""
    top = scores.amax(0, keepdim=True) if len(scores) else scores.new_full((1, scores.shape[1]), -torch.inf)
    top = reduce(top / temperature, "max")
    mass = torch.zeros_like(top)
    for part in parts:
        mass += (scores[part] / temperature - top).exp_().sum(0, keepdim=True)
    return top + reduce(mass, "sum").log()
