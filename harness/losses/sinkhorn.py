"""Sinkhorn-Knopp centering of the teacher's logits, in the log domain."""

from __future__ import annotations

from collections.abc import Callable
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

Reduce = Callable[[Tensor, Literal["sum", "max"]], Tensor]


def alone(x: Tensor, op: Literal["sum", "max"]) -> Tensor:
    """The reduction over one process: nothing to add."""
    return x


def _refuse(logits: Tensor, temperature: float, iterations: int = 3, reduce: Reduce = alone) -> None:
    ok = logits.ndim == 2 and logits.shape[1] > 0
    refuse_unless(ok, f"got logits {shape(logits)}: want [n, K] with K > 0; flatten the samples into one axis")
    refuse_non_float(logits=logits)
    refuse_cold(temperature)
    refuse_unless(iterations >= 1, f"got {iterations} Sinkhorn iterations: want at least 1; the recipe uses 3")


def _log_mass(log_q: Float[Tensor, "n K"], reduce: Reduce) -> Float[Tensor, "1 K"]:
    """log of each prototype's mass over the samples of all processes; a process may have no sample."""
    rows = log_q.shape[0]
    top = log_q.amax(0, keepdim=True) if rows else log_q.new_full((1, log_q.shape[1]), -torch.inf)
    top = reduce(top, "max")
    return top + reduce((log_q - top).exp().sum(0, keepdim=True), "sum").log()


@torch.no_grad()
@guarded(_refuse)
def sinkhorn_knopp(
    logits: Float[Tensor, "n K"], temperature: float, iterations: int = 3, reduce: Reduce = alone
) -> Float[Tensor, "n K"]:
    """Assigns n samples to K prototypes so that each sample has mass 1 and prototypes have nearly equal mass.

    logits: the teacher's scores, any finite size: the exponential is only taken of numbers at or below 0.
    temperature: divides the logits; iterations: rounds of (prototypes, then samples).
    reduce(tensor, "sum" | "max"): over the processes that share the samples; the identity for one process.
    Returns probabilities, rows summing to 1, without gradient; float64 for float64 logits, else float32.
    Raises BadInput for another rank of tensor, integer logits, temperature <= 0, iterations < 1.

    The published form divides by the total, by K and by the number of samples as well. All three are constants that
    the division of each sample by its own sum removes again, so they are left out.
    Source: SwAV, arXiv 2006.09882, as DINOv3 §3.2 (arXiv 2508.10104) uses it.
    """
    log_q = at_least_float32(logits) / temperature
    for _ in range(iterations):
        log_q -= _log_mass(log_q, reduce)
        log_q -= log_q.logsumexp(1, keepdim=True)
    return log_q.exp_()
