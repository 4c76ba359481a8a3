"""The settings of the label-free measures of health."""

from __future__ import annotations

from typing import Annotated, ClassVar

from common.bounds import About, Count, Flag, Positive, Real, Seed
from common.schema import settings
from evals.datasets.labelled_set import Needs
from evals.features.view import View
from evals.protocols.protocol import Protocol


@settings
class Health(Protocol):
    """Settings of the label-free measures; the file of the protocol says what each is for."""

    method: ClassVar[str] = "health"
    task: ClassVar[str] = "health"
    needs: ClassVar[Needs] = "images"

    group_size: Annotated[Count, About("images of a group whose patches are clustered together in DSE")]
    image_clusters: Annotated[Count, About("clusters of the patches of one image in DSE")]
    group_clusters: Annotated[Count, About("clusters of the patches of a group in DSE")]
    rounds: Annotated[Count, About("rounds of k-means, at most")]
    positions: Annotated[Count | None, About("patches of each image that M_dim looks at; null takes all")]
    dim_weight: Annotated[Real, About("weight of M_dim in DSE")]
    unit_length: Annotated[Flag, About("brings patches to length 1 in DSE")]
    outlier_factor: Annotated[Positive, About("times the median norm beyond which a patch is an outlier")]
    seed: Annotated[Seed, About("of groups, starts of k-means and positions")]

    @property
    def view(self) -> View:
        """The centre square, so that all images have one grid of patches."""
        return View("crop", self.size)
