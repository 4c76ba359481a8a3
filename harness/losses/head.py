"""Settings of the projection head that a loss on prototypes looks through."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Le

from common.bounds import About, Count, Flag, Width
from common.schema import settings


@settings
class Head:
    """A projection head: three linear layers, unit-length bottleneck, prototypes without bias (§3.2)."""

    hidden: Annotated[Width, About("width of the two hidden layers", "official code")] = 2048
    bottleneck: Annotated[Width, About("width of the unit-length bottleneck", "official code")] = 256
    prototypes: Annotated[Count, Le(2**24), About("number of prototypes, K", "official code")] = 65536
    unit_prototypes: Annotated[
        Flag,
        About(
            "scale every prototype to unit length, so that logits are cosines",
            "Gramlab; the normalised last layer of DINO, arXiv 2104.14294",
        ),
    ] = False
