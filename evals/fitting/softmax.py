"""Softmax regression on shares of classes, solved to the end."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def solve(
    x: Float[Tensor, "n D"], shares: Float[Tensor, "n C"], *, l2: float, iterations: int
) -> tuple[Float[Tensor, "D C"], Float[Tensor, " C"]]:
    """Minimise weighted soft cross-entropy + l2/2 · |W|² (bias free) by L-BFGS from zero; gradient written out."""
    weight = x.new_zeros(x.shape[1], shares.shape[1]).requires_grad_()
    bias = x.new_zeros(shares.shape[1]).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=iterations, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=1e-6
    )
    mass, total = shares.sum(1, keepdim=True), shares.sum()

    @torch.no_grad()
    def closure() -> Tensor:
        log_p = F.log_softmax(torch.addmm(bias, x, weight), dim=1)
        slope = (log_p.exp() * mass - shares) / total
        weight.grad, bias.grad = x.T @ slope + l2 * weight, slope.sum(0)
        return -(shares * log_p).sum() / total + l2 / 2 * weight.square().sum()

    optimizer.step(closure)  # pyright: ignore[reportArgumentType]
    return weight.detach(), bias.detach()
