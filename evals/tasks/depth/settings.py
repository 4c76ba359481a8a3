"""The settings of the published depth protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from common import limits
from common.limits import COUNT, NATURAL, POSITIVE, SHARE, Limit
from evals import mmseg_bridge
from evals.datasets.labelled_set import Needs
from evals.protocols.protocol import TrainedHead

_BETA = Limit(low=0, high=1, below=True)


_LIMITS = {
    **dict.fromkeys(("frame", "crop"), COUNT.list_of(2)),
    **dict.fromkeys(("box", "eigen"), NATURAL.list_of(4)),
    "gamma": POSITIVE.list_of(2, rising=True),
    **dict.fromkeys(("brightness", "colour"), NATURAL.list_of(2, rising=True)),
    "beta1": _BETA.list_of(2),
    **dict.fromkeys(("beta2", "warmup_beta1"), _BETA),
    "degrees": Limit(low=0, high=180),
    **dict.fromkeys(("rotate", "flip", "recolour", "final_ratio"), SHARE),
    **dict.fromkeys(
        (
            "min_depth",
            "max_depth",
            "bin_floor",
        ),
        POSITIVE,
    ),
    **dict.fromkeys(("bins",), COUNT),
    **dict.fromkeys(
        (
            "mean_weight",
            "log_shift",
            "plain_iterations",
        ),
        NATURAL,
    ),
}


@dataclass(frozen=True, kw_only=True)
class PublishedDepth(TrainedHead):
    """Settings as `protocols/depth-standard.yaml` explains them.

    Images of exactly `frame` (height, width) still have the borders of the camera: training cuts `box` out of them and
    errors count inside `eigen`. Images of any other size are taken to be without borders: they are used whole on both
    sides. All are resized so that the short side of the whole image is `size`; `crop` is in pixels of the frame and
    resized with it.
    """

    method: ClassVar[str] = "depth_live"
    task: ClassVar[str] = "depth"
    needs: ClassVar[Needs] = "depth"

    frame: tuple[int, ...]
    box: tuple[int, ...]
    eigen: tuple[int, ...]
    min_depth: float
    max_depth: float
    rotate: float
    degrees: float
    flip: float
    crop: tuple[int, ...]
    recolour: float
    gamma: tuple[float, ...]
    brightness: tuple[float, ...]
    colour: tuple[float, ...]
    bins: int
    bin_floor: float
    mean_weight: float
    log_shift: float
    plain_iterations: int
    final_ratio: float
    warmup_beta1: float
    beta1: tuple[float, ...]
    beta2: float
    flip_average: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        limits.check(self, _LIMITS)
        if self.min_depth >= self.max_depth:
            limits.refuse(self, "min_depth", f"below max_depth ({self.max_depth})")
        (height, width), (left, top, right, bottom) = self.frame, self.box
        if not (left < right <= width and top < bottom <= height):
            limits.refuse(self, "box", f"left, top, right, bottom in that order inside the frame {list(self.frame)}")
        top, bottom, left, right = self.eigen
        if not (left < right <= width and top < bottom <= height):
            limits.refuse(self, "eigen", f"top, bottom, left, right in that order inside the frame {list(self.frame)}")
        if not min(self.views.crop):
            limits.refuse(self, "crop", f"a pixel at least at size {self.size}")

    @property
    def views(self) -> mmseg_bridge.DepthViews:
        height, width = (round(side * self.size / min(self.frame)) for side in self.crop)
        return mmseg_bridge.DepthViews(rotate=self.rotate, degrees=self.degrees, flip=self.flip, crop=(height, width))
