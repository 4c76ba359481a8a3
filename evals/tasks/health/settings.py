"""The settings of the label-free measures of health."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from common import limits
from common.limits import COUNT, FINITE, NATURAL, POSITIVE
from evals.datasets.labelled_set import Needs
from evals.features.view import View
from evals.protocols.protocol import Protocol

_LIMITS = {
    **dict.fromkeys(("group_size", "image_clusters", "group_clusters", "rounds", "positions"), COUNT),
    "dim_weight": FINITE,
    "outlier_factor": POSITIVE,
    "seed": NATURAL,
}


@dataclass(frozen=True, kw_only=True)
class Health(Protocol):
    """Settings of the label-free measures; the file of the protocol says what each is for."""

    method: ClassVar[str] = "health"
    task: ClassVar[str] = "health"
    needs: ClassVar[Needs] = "images"

    group_size: int
    image_clusters: int
    group_clusters: int
    rounds: int
    positions: int | None
    dim_weight: float
    unit_length: bool
    outlier_factor: float
    seed: int

    def __post_init__(self) -> None:
        super().__post_init__()
        limits.check(self, _LIMITS)

    @property
    def view(self) -> View:
        """The centre square, so that all images have one grid of patches."""
        return View("crop", self.size)
