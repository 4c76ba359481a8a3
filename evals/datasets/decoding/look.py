"""A look at a few pictures of a set when it is opened: what they leave open is asked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import BadInput
from common.spread import spread
from evals.datasets.decoding.deep_file import channels_of, is_deep
from evals.datasets.decoding.image_file import NoImage, opened, read_levels, refuse_unclear, undecided_channels
from evals.datasets.decoding.levels import (
    Levels,
    Scale,
    ask,
    ends,
    parted,
    refuse_beyond,
    refuse_missing,
    refuse_two_scales,
    scale_of,
    together,
)
from evals.datasets.reading import WHERE, Reading, UnfitFiles

LOOKED = 8  # pictures of a set
ALPHA = ("RGBA", "LA")
KEPT = 257  # levels of a picture, evenly spread over its sorted ones
SORTED = 1 << 18  # levels of a picture from which they are taken


class Look(NamedTuple):
    """What a few pictures tell of a set: the scale of those of more than 8 bits, and notes on others."""

    scale: Scale | None = None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join([*([str(self.scale)] if self.scale else []), *self.notes])


class _Seen(NamedTuple):
    channels: int
    deep: Levels | None  # its values only `KEPT`, from the least to the greatest
    animated: bool
    veiled: bool  # whether its transparency looks like something else
    unknown: float = 0  # share of its levels that are no number


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
    levels = list(deep.values())
    scales = {path: scale_of(one, reading, path, looked=levels) for path, one in deep.items()}
    untold = reading.bits is None and reading.range is None
    if scales and untold:
        refuse_two_scales(scales)
    for path, scale in scales.items():
        if not reading.clip:
            refuse_beyond(deep[path], scale, path, looked=levels)
    if scales and untold:
        ask(deep, name=name)
    if looked and all(seen.veiled for _, seen in looked):
        path, seen = looked[0]
        raise undecided_channels(path, seen.channels)
    unknown = [seen.unknown for _, seen in looked if seen.deep]
    floats = [one for one in levels if one.values.dtype.kind == "f"] if not reading.bits else []
    told = [f"up to {ends(together(floats)[:, None, None])[1]:.3g} where looked at"] if floats else []
    told += [f"{100 * np.mean(unknown):.3g}% NaN there, which is black"] if any(unknown) else []
    animated = ["the first frame of animated images"] if any(seen.animated for _, seen in looked) else []
    chosen = [f"channels {', '.join(map(str, reading.channels))}"] if reading.channels else []
    told += ["8-bit images as they are"] if len(deep) not in (0, len(looked)) else []
    idle = [f"8 bits where looked at, so without {key}" for key in ("bits", "range") if getattr(reading, key)]
    return Look(
        next(iter(scales.values()), None), tuple(told + chosen + animated if deep else chosen + animated + idle)
    )


def _seen(path: Path, reading: Reading) -> _Seen | None:
    try:
        return _of_file(path, reading)
    except UnfitFiles:
        raise
    except (BadInput, OSError):
        return None


def _of_file(path: Path, reading: Reading) -> _Seen:
    channels = reading.channels
    animated = veiled = False
    count = 0
    with suppress(NoImage), opened(path, megapixels=reading.max_megapixels) as image:
        refuse_unclear(image, path, reading)
        animated = image.format not in ("TIFF", "MPO") and getattr(image, "is_animated", False)
        deep, count = is_deep(image), channels_of(image)
        veiled = image.mode in ALPHA and channels is None and _is_veil(np.asarray(image.getchannel("A")))
        if not deep:
            if channels:
                refuse_missing(channels, count, path)
            return _Seen(count, None, animated, veiled)
    found = read_levels(path, reading, stored=True)
    if not isinstance(found, Levels) or found.bits <= 8:
        return _Seen(count, None, animated, veiled)
    kept = _spread(found)
    unknown = float(np.isnan(parted(found.values)[0]).mean()) if found.values.dtype.kind == "f" else 0.0
    return _Seen(found.values.shape[2], found._replace(values=kept), animated, veiled, unknown)


def _spread(levels: Levels) -> np.ndarray:
    """[KEPT, 1, 1] levels, sorted, the least and the greatest among them; [0, 1, 1] where none is a number."""
    known = together([levels])
    if not known.size:
        return known[:, None, None]
    some = np.sort(np.append(known[:: known.size // SORTED + 1], [known.min(), known.max()]))
    return some[np.linspace(0, some.size - 1, KEPT).round().astype(int), None, None].astype(known.dtype)


def _is_veil(alpha: np.ndarray) -> bool:
    """Whether a transparency [H, W] is likely something else: most neither clear nor opaque, or nothing opaque."""
    return int(alpha.max()) < 128 or float(((alpha > 0) & (alpha < alpha.max())).mean()) > 0.5
