"""The linear head that says depth as a mean over bins, and the loss that it is trained with."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from evals.fitting.linear_head import LinearHead


class BinsHead(nn.Module):
    """Depth as the mean of evenly spaced bin centres from `low` to `high`, weighted by relu(logit) + `floor`.

    Source: the depth bins of AdaBins (Bhat et al., arXiv 2011.14141 §3.2), spaced evenly, with the linear weighting
    that DINOv2 and DINOv3 probe with (arXiv 2508.10104 §6.1).
    """

    def __init__(
        self, width: int, bins: int, *, low: float, high: float, floor: float, init_std: float, seed: int
    ) -> None:
        super().__init__()
        self.logits = LinearHead(width, bins, init_std=init_std, seed=seed)
        self.floor = floor
        self.centres = nn.Buffer(torch.linspace(low, high, bins))

    def forward(self, patches: Float[Tensor, "B D h w"]) -> Float[Tensor, "B 1 h w"]:
        """Metres."""
        weights = self.logits(patches).relu() + self.floor
        return torch.einsum("bchw,c->bhw", weights / weights.sum(1, keepdim=True), self.centres)[:, None]


def sig_loss(
    prediction: Float[Tensor, " n"],
    truth: Float[Tensor, " n"],
    *,
    mean_weight: float,
    shift: float,
    variance: bool = True,
) -> Float[Tensor, ""]:
    """sqrt(var(g) + mean_weight · mean(g)²), g = ln(prediction + shift) − ln(truth + shift), of valid pixels in metres.

    The variance is the unbiased one; without `variance` its term is left out. Fewer than two pixels teach nothing: 0.
    Source: the scale-invariant loss of Eigen et al. (NIPS 2014 §3.2) in the form of AdaBins (arXiv 2011.14141, eq. 4).
    """
    if len(truth) < 2:
        return prediction.sum() * 0
    gap = (prediction + shift).log() - (truth + shift).log()
    spread = gap.var() if variance else 0
    # a perfect prediction has no slope: the root's own there is infinite
    return (spread + mean_weight * gap.mean().square()).clamp_min(torch.finfo(gap.dtype).tiny).sqrt()
