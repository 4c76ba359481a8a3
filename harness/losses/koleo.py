"""The KoLeo regulariser: spreads the class tokens of a batch."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from jaxtyping import Float, Int
from torch import Tensor

from common.bounds import About, Batch, NotNegative
from common.schema import settings
from harness.losses.inputs import Outputs, Targets
from harness.losses.precision import guarded, refuse_non_float, refuse_unless, shape, unit_length

EPSILON = 1e-8

KoleoCrops = Literal["both", "first"]
CROPS: dict[KoleoCrops, int] = {"both": 2, "first": 1}  # of the global crops, how many


@settings
class Koleo:
    """The KoLeo regulariser on class tokens of global crops (§3.2)."""

    weight: Annotated[
        NotNegative,
        About("factor of KoLeo, added once for each crop that is spread, 0 switches it off", "DINOv3 §3.2 (0.1)"),
    ] = 0.1
    crops: Annotated[
        KoleoCrops,
        About(
            "whose class tokens are spread; `both`: those of the two global crops, each by itself; `first`: those of "
            "the first global crop alone",
            "`first`: DINOv3 §3.2; `both`: official code",
        ),
    ] = "both"
    group: Annotated[
        Annotated[Batch, Ge(2)] | None,
        About(
            "images of a step among which a class token has its nearest neighbour, in the order of the batch; the last "
            "group may be smaller, and counts as much; null = all of them",
            "DINOv3 §3.2 (16)",
        ),
    ] = None


def _refuse(tokens: Tensor) -> None:
    ok = tokens.ndim == 2 and tokens.numel() > 0
    refuse_unless(ok, f"got tokens {shape(tokens)}: want [B, D], not empty; pass one token per image")
    refuse_non_float(tokens=tokens)


@guarded(_refuse)
def koleo_loss(tokens: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Minus the mean log of the distance of each unit-length token to its nearest neighbour in the batch.

    Equal tokens add their value, large but finite, and no gradient: there is no direction that would part them.
    A batch of one has no neighbour: 0, with a graph. Raises BadInput unless `tokens` is a filled [B, D].
    Source: Sablayrolles et al., arXiv 1806.03198 §3; DINOv2 §4, arXiv 2304.07193.
    """
    units = unit_length(tokens)
    if len(units) == 1:
        return units.sum() * 0
    gaps = units - units[_nearest(units)]
    gaps = torch.where((gaps == 0).all(1, keepdim=True), gaps.detach(), gaps)
    return -((gaps + EPSILON).norm(dim=1) + EPSILON).log().mean()


@torch.no_grad()
def _nearest(units: Float[Tensor, "B D"]) -> Int[Tensor, " B"]:
    """Index of the nearest other token. −inf on the diagonal, not −1: opposite tokens have that cosine themselves."""
    return (units @ units.T).fill_diagonal_(-torch.inf).argmax(1)


TITLES = {"koleo": "KoLeo"}


def terms(own: Koleo, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
    """The mean over the crops that are spread and their groups, each spread by itself."""
    if own.weight == 0:
        return {}
    crops = outputs.cls[: CROPS[own.crops]]
    if not is_local(own, crops.shape[1]):
        crops = outputs.ranks.together(crops, axis=1)
    groups = [group for crop in crops for group in crop.split(own.group or len(crop))]
    return {"koleo": torch.stack([koleo_loss(group) for group in groups]).mean()}


def is_local(own: Koleo, images: int) -> bool:
    """Whether no group of a step's images reaches out of a part of `images` of them."""
    return own.group is not None and images % own.group == 0


def factors(own: Koleo, weight: float, local_crops: int) -> dict[str, float]:
    """The weight times the number of crops that are spread: the official code adds the term of each of both."""
    return {"koleo": CROPS[own.crops] * weight}
