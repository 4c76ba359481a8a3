"""The cross-entropy over many prototypes, their product with the features included: logits are visited once.

Shapes: n samples, K prototypes, d features of a bottleneck, m rows of targets.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from common.products import gradient_of_weight, times_transposed
from harness.losses.precision import at_least_float32
from harness.losses.visits import chunks, in_cache


class Scores(NamedTuple):
    """A head's logits before they are computed: features [..., d], and prototypes [K, d] to multiply each with.

    columns: the prototypes in the type of the features, without gradient, where they have been made; for 65,536 of them
    that is a pass over 100 MB.
    """

    features: Tensor
    prototypes: Tensor
    columns: Tensor | None = None

    @property
    def shape(self) -> list[int]:
        """Of the logits."""
        return [*self.features.shape[:-1], len(self.prototypes)]

    def logits(self) -> Tensor:
        """The product, in the type of the features."""
        made = None if torch.is_grad_enabled() else self.columns
        return F.linear(self.features, self.prototypes.to(self.features.dtype) if made is None else made)


def cross_entropy(
    scores: Scores,
    targets: Float[Tensor, "m K"],
    weights: Float[Tensor, " n"],
    temperature: float,
    *,
    rows: Int[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:
    """Sum over samples of weight · −Σ_k target_k · log softmax_k(logits / temperature), in nats.

    scores: of n samples, [n, K] in all.
    rows: which row of the targets each sample has; its own where None. A row of targets may be several added up, and
    counts as often. Targets and weights get no gradient.

    Gradients are computed on the way forwards, while a chunk of logits is there, and only multiplied on the way back:
    neither logits nor probabilities are kept; without gradient none is computed. That of the prototypes is computed on
    the way back where there are at most d samples: to keep those of their logits takes less. Products are taken in the
    type of `features`, all else in at least float32, and the sum in the wider type of features and weights.
    """
    if not torch.is_grad_enabled():  # a function of autograd is told of inputs alone
        scores = scores._replace(features=scores.features.detach(), prototypes=scores.prototypes.detach())
    weights = weights.to(torch.promote_types(weights.dtype, scores.features.dtype))
    found: Any = _CrossEntropy.apply(*scores, targets, weights, temperature, rows)
    return found


class _CrossEntropy(torch.autograd.Function):
    """As `cross_entropy`."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        prototypes: Tensor,
        columns: Tensor | None,
        targets: Tensor,
        weights: Tensor,
        temperature: float,
        rows: Tensor | None,
    ) -> Tensor:
        asked = any(ctx.needs_input_grad[:2])
        total = torch.zeros((), dtype=weights.dtype, device=weights.device)
        columns = prototypes.to(features.dtype) if columns is None else columns
        of_features, of_logits = torch.empty_like(features), list[Tensor]()
        of_prototypes = None if len(features) else torch.zeros_like(columns)
        few = len(features) <= features.shape[1]
        for part in chunks(len(features), len(prototypes), weights.dtype, features.device):
            logits = at_least_float32(times_transposed(features[part], columns))
            own, at = (targets[part], None) if rows is None else (targets, rows[part])
            total += _visit(logits, own, at, weights[part], temperature, keep=asked)
            if asked:
                gradient = logits.to(features.dtype)
                of_features[part] = times_transposed(gradient, columns.T)
                if few:
                    of_logits.append(gradient)
                else:
                    of_prototypes = _added(of_prototypes, gradient, features[part])
        if asked:
            ctx.save_for_backward(of_features, of_prototypes, features if few else None, *of_logits)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        by = grad_outputs[0]
        of_features, of_prototypes, features, *of_logits = ctx.saved_tensors
        if features is not None:
            parts = features.split([len(one) for one in of_logits])
            for gradient, part in zip(of_logits, parts, strict=True):
                of_prototypes = _added(of_prototypes, gradient, part)
        # in place: they serve once
        return of_features.mul_(by), of_prototypes.mul_(by), None, None, None, None, None


def _added(product: Tensor | None, gradient: Tensor, features: Tensor) -> Tensor:
    """The gradient of the prototypes by that of a chunk of logits, added to that of others."""
    own = at_least_float32(gradient_of_weight(gradient, features))
    return own if product is None else product.add_(own)


def _visit(
    logits: Tensor, targets: Tensor, rows: Tensor | None, weights: Tensor, temperature: float, *, keep: bool
) -> Tensor:
    """The weighted sum over a chunk; with `keep` its gradient takes the place of the logits."""
    total = weights.new_zeros(())
    parts = in_cache(logits)
    room = [torch.empty_like(logits[parts[0]]) for _ in range(2)]
    for part in parts:
        own = at_least_float32(targets[part] if rows is None else targets.index_select(0, rows[part]))
        log_p, product = (one[: len(own)] for one in room)
        torch.ops.aten._log_softmax.out(logits[part].div_(temperature), -1, False, out=log_p)
        total -= (torch.mul(own, log_p, out=product).sum(-1) * weights[part]).sum()
        if keep:
            scale = weights[part, None] / temperature
            torch.mul(log_p.exp_(), own.sum(-1, keepdim=True) * scale, out=logits[part])
            logits[part].addcmul_(own, scale, value=-1)
    return total
