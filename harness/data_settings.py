"""Settings of the images that a network is trained on: sources, components, and how batches are composed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Annotated, Literal

from common.bounds import About, Batch, Label, Positive, Share
from common.schema import settings
from evals.datasets.settings import Set

Components = Literal["image_class", "source"]
Unreadable = Literal["stop", "skip"]
Augment = Literal["cpu", "device"]


@settings
class Data:
    """Training images: named sources, their components, and how batches of `batch_size` images are composed (§3.1)."""

    sources: dict[Label, Set] = field(default_factory=dict)
    components: Annotated[
        Components,
        About(
            "what a homogeneous batch is drawn from; `image_class` (each class of each source) or `source`",
            "DINOv3 §3.1",
        ),
    ] = "image_class"
    homogeneous_share: Annotated[
        Share, About("share of steps whose batch comes from one component alone", "DINOv3 §3.1 (0.1)")
    ] = 0.0
    homogeneous: Annotated[
        dict[Label, Positive] | None,
        About(
            "which components a homogeneous batch may come from, and how often, in proportion to their weights; "
            "`{imagenet: 1.0}`: a source as a whole, or `source/class`. null = all components by their sizes",
            "DINOv3 §3.1 (ImageNet-1k alone)",
        ),
    ] = None
    mixed: Annotated[
        dict[Label, Positive] | None,
        About(
            "which sources or components the images of all other batches come from, in proportion to their weights; "
            "null = the pool as a whole",
            "DINOv3 §3.1 (all other parts)",
        ),
    ] = None
    batch_size: Annotated[Batch, About("images in a step")] = 64
    augment: Annotated[
        Augment,
        About(
            "who makes crops of decoded images: `cpu`, which is the training process or its `runtime.workers`, or "
            "`device`, where these cannot feed a GPU; the same crops, but for rounding"
        ),
    ] = "cpu"
    unreadable: Annotated[
        Unreadable,
        About(
            "what to do about a training image that turns out to be unreadable: `stop`, or `skip` it: the next image "
            "of its component is taken wherever it is drawn, as with `exclude`, so that the run ends as one that "
            "excluded it from the start; machinery ([runs.md](runs.md#identity-what-makes-a-run-the-same-run))"
        ),
    ] = "stop"
    unreadable_share: Annotated[
        Share,
        About("share of all training images that `unreadable: skip` may skip; one more stops the run; machinery"),
    ] = 0.001

    def conflicts(self) -> Iterator[str]:
        """Batches from nowhere."""
        for name in ("homogeneous", "mixed"):
            if getattr(self, name) == {}:
                yield f"{name}={{}}: want one component at least, or null"
