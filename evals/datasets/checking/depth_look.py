"""What evenly spread depth maps of a set tell before it is used: whether they are in metres."""

from __future__ import annotations

import numpy as np

from common.errors import BadInput
from common.spread import spread
from evals.datasets.decoding.depth_file import MILLIMETRES
from evals.datasets.labelled_set import LabelledSet
from evals.datasets.layouts.file_set import FileSet
from evals.datasets.layouts.nyu.mat import NyuMat
from evals.datasets.reading import WHERE

LOOKED = 200  # maps of a set
PIXELS = 10_000  # of each of them, at most
MOST = 0.1  # of the known depth that may lie outside the valid range
USUAL = (1.0, 4.0)  # metres: where the median depth of most rooms lies
ROOM = "{:g} to {:g} m".format(*USUAL)
MOST_OF_16 = 65535  # what many sensors store for unknown
NEAR, FAR = 0.4, 8.0  # metres: a median beyond these is odd for rooms


def refuse_misread_depth(dataset: LabelledSet, *, low: float, high: float) -> None:
    """Raises BadInput where more than `MOST` of the known depth is not between `low` and `high` metres.

    Such pixels count nowhere, so that a wrong scale would leave the near ones alone, and these are easy. A median that
    no room has is told in the log.
    """
    if not (dataset.has_depth and isinstance(dataset, FileSet | NyuMat)):  # rendered ones are in metres
        return
    indices = spread(range(len(dataset)), LOOKED)
    known = np.concatenate([_some(dataset.depth(index)) for index in indices])
    if not known.size:
        raise no_known_depth(dataset, len(indices))
    outside = known[(known <= low) | (known >= high)]
    if outside.size <= MOST * known.size:
        _ask_unit(dataset, float(np.median(known)))
        return
    values, counts = np.unique(outside, return_counts=True)
    one = counts.max() > outside.size / 2 and len(indices) > 1
    alone = f", most of it the one depth of {values[counts.argmax()]:g} m" if one else ""
    share, median = outside.size / known.size, np.median(known)
    way = unknown_way(dataset, float(values[-1]))
    unknown = f"depth_unknown ({way})" if way else "depth_unknown"
    raise BadInput(
        f"got {share:.0%} of the known depth of '{dataset.name}' ({dataset.split}) outside {low:g} to {high:g} m, "
        f"where it does not count{alone} (median {median:.2f} m over {len(indices)} maps): want metres, in a room "
        f"{ROOM} at the median; write in the set's settings ({WHERE}) what values are divided by, depth_scale (5000 in "
        f"TUM RGB-D, 256 in KITTI), or which mean unknown, {unknown}, or take a protocol of another max_depth"
    )


def no_known_depth(dataset: LabelledSet, maps: int) -> BadInput:
    """The error for so many maps of a set that hold no known depth."""
    want = "want metres, 0 where unknown; correct depth_unknown or the files"
    return BadInput(f"got no known depth in {maps} maps of '{dataset.name}' ({dataset.split}): {want}")


def _ask_unit(dataset: LabelledSet, median: float) -> None:
    if odd_median(median) and isinstance(dataset, FileSet) and dataset.reading.depth_scale is None:
        raise BadInput(
            f"got depth of '{dataset.name}' ({dataset.split}) whose median is {median:.2f} m, a room's is about "
            f"{ROOM}: want to know its unit; write in the set's settings ({WHERE}) depth_scale, what values are "
            "divided by to be metres: 1000 for millimetres, 100 for centimetres, 1 for metres"
        )


def unknown_way(dataset: LabelledSet, farthest: float) -> str:
    """What to write where the farthest depth, in metres, is the greatest number of 16 bits; else ""."""
    if not isinstance(dataset, FileSet):
        return ""
    stored = farthest * (dataset.reading.depth_scale or MILLIMETRES)
    return f"write `depth_unknown: {MOST_OF_16}` if that is no depth" if round(stored, 2) == MOST_OF_16 else ""


def is_rooms(median: float) -> bool:
    """Whether most rooms have such a median depth, in metres."""
    return USUAL[0] <= median <= USUAL[1]


def odd_median(median: float) -> str:
    """What to say of a median in metres; "" where a room may have it."""
    if NEAR <= median <= FAR:
        return ""
    return f"the median depth is {median:.2f} m, a room's about {ROOM}: if the unit is wrong, say depth_scale"


def _some(depth: np.ndarray) -> np.ndarray:
    """Known pixels of a map, at most `PIXELS` of them."""
    known = depth[depth > 0]
    return known[:: -(-known.size // PIXELS) or 1]
