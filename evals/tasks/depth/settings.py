"""The settings of the published depth protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from annotated_types import Le

from common.bounds import About, Count, Flag, Natural, NotNegative, Positive, Range, Share, ShareBelowOne
from common.schema import settings
from evals import mmseg_bridge
from evals.datasets.labelled_set import Needs
from evals.protocols.protocol import TrainedHead

Box = tuple[Natural, Natural, Natural, Natural]


@settings
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

    frame: Annotated[tuple[Count, Count], About("height and width of images that have the borders of the camera")]
    box: Annotated[Box, About("left, top, right, bottom of what training cuts out of a frame")]
    eigen: Annotated[Box, About("top, bottom, left, right of where errors count in a frame")]
    min_depth: Annotated[Positive, About("metres, exclusive; pixels that are not farther do not count")]
    max_depth: Annotated[Positive, About("metres, exclusive; pixels that are not nearer do not count")]
    rotate: Annotated[Share, About("chance of a rotation")]
    degrees: Annotated[NotNegative, Le(180), About("largest rotation, either way")]
    flip: Annotated[Share, About("chance of a mirror image")]
    crop: Annotated[tuple[Count, Count], About("height and width of a random crop, in pixels of the frame")]
    recolour: Annotated[Share, About("chance of other colours")]
    gamma: Annotated[Range[Positive], About("powers that values of 0 to 1 are raised to")]
    brightness: Annotated[Range[NotNegative], About("factors of all channels")]
    colour: Annotated[Range[NotNegative], About("factors of each channel by itself")]
    bins: Annotated[Count, About("depths that the head's weighted mean is over")]
    bin_floor: Annotated[Positive, About("least weight of a bin, before weights are made to sum to 1")]
    mean_weight: Annotated[NotNegative, About("weight of the squared mean of the log-errors in the loss")]
    log_shift: Annotated[NotNegative, About("metres added before logarithms are taken")]
    plain_iterations: Annotated[Natural, About("first iterations, whose loss leaves the variance out")]
    final_ratio: Annotated[Share, About("share of `rate` at which the schedule ends")]
    warmup_beta1: Annotated[ShareBelowOne, About("AdamW's first beta during the warm-up")]
    beta1: Annotated[tuple[ShareBelowOne, ShareBelowOne], About("AdamW's first beta after the warm-up and at the end")]
    beta2: Annotated[ShareBelowOne, About("AdamW's second beta")]
    flip_average: Annotated[Flag, About("the final test takes the mean with the prediction from the mirror image")]

    def conflicts(self) -> Iterator[str]:
        """No depth in between, boxes that leave the frame, a crop of no pixel."""
        if self.min_depth >= self.max_depth:
            yield f"min_depth={self.min_depth}: want below max_depth={self.max_depth}"
        (height, width), (left, top, right, bottom) = self.frame, self.box
        if not (left < right <= width and top < bottom <= height):
            yield f"box={list(self.box)}: want left, top, right, bottom in that order inside frame={list(self.frame)}"
        top, bottom, left, right = self.eigen
        if not (left < right <= width and top < bottom <= height):
            yield (
                f"eigen={list(self.eigen)}: want top, bottom, left, right in that order inside frame={list(self.frame)}"
            )
        if not min(self.views.crop):
            yield f"crop={list(self.crop)}: want a pixel at least at size={self.size}"

    @property
    def views(self) -> mmseg_bridge.DepthViews:
        height, width = (round(side * self.size / min(self.frame)) for side in self.crop)
        return mmseg_bridge.DepthViews(rotate=self.rotate, degrees=self.degrees, flip=self.flip, crop=(height, width))
