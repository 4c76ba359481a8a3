"""How far two Gram matrices are apart, between patches or, where these are many, between channels.

With patches x, y (Q × D), d = x − y and s = x + y, xxᵀ − yyᵀ = ½(dsᵀ + sdᵀ), and therefore

    ‖xxᵀ − yyᵀ‖² = ½(⟨dᵀd, sᵀs⟩ + ⟨sᵀd, (sᵀd)ᵀ⟩),

where every matrix has D × D entries. Both forms keep their digits in float32 where the student is close to its teacher,
since they take the difference first; the textbook form ‖xᵀx‖² − 2‖xᵀy‖² + ‖yᵀy‖² loses all of them there. Where the
student's patches are the teacher's turned by a rotation, d is large though the matrices are equal: the form in channel
space is then right to about 1e-9, not to so many digits.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss

PAYS = 2  # patches for each channel above which channels take less time and less memory: benchmarks/gram.py


def in_channels(patches: int | float, width: int | float, other: int | None = None) -> bool:
    """Whether matrices between channels are taken in place of those between `patches`.

    other: the teacher's width, where it may not be the student's. There is no difference of patches of two widths, and
    zeros beside the narrower ones would make one that is large however near the matrices are: so never then.
    """
    return patches > PAYS * width and other in (None, width)


def gram_difference(ours: Float[Tensor, "N Q D"], theirs: Float[Tensor, "N Q E"]) -> Float[Tensor, ""]:
    """Mean squared difference of the entries of ours·oursᵀ and theirs·theirsᵀ, over N sets of Q patches.

    Time grows as Q²·(D + E), memory as Q²; in channel space (`in_channels`) as Q·D² and D².
    """
    if not in_channels(ours.shape[1], ours.shape[2], theirs.shape[2]):
        return mse_loss(ours @ ours.mT, (theirs @ theirs.mT).to(ours.dtype))
    sets, patches, _ = ours.shape
    squares: Any = _InChannels.apply(ours, theirs.detach().to(ours.dtype))
    return squares / (sets * patches**2)


class _InChannels(torch.autograd.Function):
    """Sum over sets of ‖xxᵀ − yyᵀ‖², with the gradient of x alone.

    x stands in both d and s, so that is d·(sᵀs + sᵀd) + s·(dᵀd + dᵀs): two products, where autograd would make six.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        d, s = x - y, x + y
        dd, ss, sd = d.mT @ d, s.mT @ s, s.mT @ d
        ctx.save_for_backward(d, s, ss + sd, dd + sd.mT)
        return ((dd * ss).sum() + (sd * sd.mT).sum()) / 2

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        d, s, of_d, of_s = ctx.saved_tensors
        return gradients[0] * (d @ of_d + s @ of_s), None
