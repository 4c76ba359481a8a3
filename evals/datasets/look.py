"""A look at a few pictures of a set when it is opened: what they leave open is asked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import BadInput
from evals.datasets.deep_file import is_deep
from evals.datasets.files import spread
from evals.datasets.image_file import NoImage, opened, read_levels, refuse_unclear, undecided_channels
from evals.datasets.levels import Levels, Scale, ask, ends, refuse_beyond, refuse_two_scales, scale_of
from evals.datasets.reading import WHERE, Reading, UnfitFiles

LOOKED = 8  # pictures of a set
ALPHA = ("RGBA", "LA")


class Look(NamedTuple):
    """What a few pictures tell of a set: the scale of those of more than 8 bits, and notes on others."""

    scale: Scale | None = None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join([*([str(self.scale)] if self.scale else []), *self.notes])


class _Seen(NamedTuple):
    deep: Levels | None  # its values only the least and the greatest
    animated: bool
    veiled: bool  # whether its transparency looks like something else


def look(images: Sequence[Path], reading: Reading, *, name: str) -> Look:
    """Evenly spread pictures of a set, those of more than 8 bits or with transparency decoded.

    What cannot be read is passed over here: who reads it is told.

    Raises:
        UnfitFiles: what has two readings of which `reading` chooses none, or is other than it says.
    """
    try:
        return _look(images, reading, name=name)
    except UnfitFiles as error:
        raise UnfitFiles(f"{error} ({WHERE})") from error


def _look(images: Sequence[Path], reading: Reading, *, name: str) -> Look:
    looked = [(path, seen) for path in spread(images, LOOKED) if (seen := _seen(path, reading))]
    deep = {path: seen.deep for path, seen in looked if seen.deep}
    scales = {path: scale_of(levels, reading, path) for path, levels in deep.items()}
    if scales and reading.bits is None and reading.range is None:
        refuse_two_scales(scales)
        ask({path: float(levels.values.max()) for path, levels in deep.items()}, next(iter(deep.values())), name=name)
    for path, scale in scales.items():
        if not reading.clip:
            refuse_beyond(deep[path], scale, path)
    veils = [path for path, seen in looked if seen.veiled]
    if veils and all(seen.veiled for _, seen in looked):
        raise undecided_channels(veils[0], 4)
    animated = ["the first frame of animated images"] if any(seen.animated for _, seen in looked) else []
    idle = [f"8 bits where looked at, so without {key}" for key in ("bits", "range") if getattr(reading, key)]
    return Look(next(iter(scales.values()), None), tuple(animated if deep else animated + idle))


def _seen(path: Path, reading: Reading) -> _Seen | None:
    channels = tuple(reading.channels) if reading.channels else None
    try:
        state = path.stat()
        about = (state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        return _of_file(path, channels, reading.max_megapixels, about)
    except UnfitFiles:
        raise
    except (BadInput, OSError):
        return None


@lru_cache(maxsize=1024)
def _of_file(path: Path, channels: tuple[int, ...] | None, megapixels: float, about: tuple[int, ...]) -> _Seen:
    """`about` makes a file that was replaced another one; many tasks may open one set."""
    reading = Reading(channels=list(channels) if channels else None, max_megapixels=megapixels)
    animated = veiled = False
    with suppress(NoImage), opened(path, megapixels=megapixels) as image:
        refuse_unclear(image, path, reading)
        animated = image.format not in ("TIFF", "MPO") and getattr(image, "is_animated", False)
        deep = is_deep(image)
        veiled = image.mode in ALPHA and channels is None and _is_veil(np.asarray(image.getchannel("A")))
        if not deep:
            return _Seen(None, animated, veiled)
    found = read_levels(path, reading, stored=True)
    if not isinstance(found, Levels) or found.bits <= 8:
        return _Seen(None, animated, veiled)
    low, high = ends(found.values)
    values = np.array([[[low], [high]]], dtype=found.values.dtype)
    return _Seen(found._replace(values=values), animated, veiled)


def _is_veil(alpha: np.ndarray) -> bool:
    """Whether a transparency [H, W] is likely something else: most neither clear nor opaque, or nothing opaque."""
    return int(alpha.max()) < 128 or float(((alpha > 0) & (alpha < alpha.max())).mean()) > 0.5
