"""What the numbers in a picture mean: which level is black and which white, and which channels are colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from evals.datasets.reading import Reading, UnfitFiles

SMALLER = {1: 1, 8: 255, 10: 1023, 12: 4095, 14: 16383}  # usual numbers of bits, and the level of white


class Levels(NamedTuple):
    """The channels of a picture as its file has them."""

    values: np.ndarray  # [H, W, C], of the file's own kind of number
    bits: int  # for which the file has room
    from_white: bool = False  # whether 0 is white
    white: int | None = None  # the level of white where the file tells it and it is not all that the bits hold

    @property
    def kind(self) -> str:
        """In words, as in "16-bit integers"."""
        number = {"u": "integers", "i": "integers with a sign", "f": "floats"}[self.values.dtype.kind]
        return f"{self.bits}-bit {number}" + (f" up to {self.white}" if self.white else "")


class Scale(NamedTuple):
    """The levels of black and white, and what says so."""

    low: float
    high: float
    source: str

    def __str__(self) -> str:
        return f"levels {self.low:g} to {self.high:.10g} ({self.source})"


def scale_of(levels: Levels, reading: Reading, path: Path) -> Scale:
    """By the settings of the set, or else by the kind of number where that is certain; never by the levels."""
    if reading.bits is not None:
        return Scale(0, 2**reading.bits - 1, f"bits: {reading.bits}")
    if reading.range is not None:
        return Scale(*reading.range, f"range: {list(reading.range)}")
    if levels.values.dtype.kind == "f":
        return Scale(0, 1, "floats")
    if levels.values.dtype.kind == "u" and levels.bits <= 16:
        return Scale(0, levels.white or 2**levels.bits - 1, levels.kind)
    low, high = ends(levels.values)
    want = f"want the levels of black and white ({low:g} to {high:.10g} here)"
    raise UnfitFiles(f"got {path} of {levels.kind}: {want}; set range: [BLACK, WHITE]")


def ends(values: np.ndarray) -> tuple[float, float]:
    """The least and the greatest level of grey or colours; what is no number does not count."""
    values = parted(values)[0]
    known = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    return (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)


def refuse_beyond(levels: Levels, scale: Scale, path: Path) -> None:
    """Raises UnfitFiles for a level outside the scale, floats within half of an 8-bit step of it apart."""
    low, high = ends(levels.values)
    spare = (scale.high - scale.low) / 510 if levels.values.dtype.kind == "f" else 0
    if low >= scale.low - spare and high <= scale.high + spare:
        return
    do = f"set range: [{min(low, scale.low):g}, {_above(max(high, scale.high)):.10g}] or what the whole set has"
    cut = "or [BLACK, WHITE] with clip: true, which cuts what lies outside (no data, say)"
    raise UnfitFiles(f"got levels {low:g} to {high:.10g} in {path} ({levels.kind}): want {scale}; {do}, {cut}")


def _above(level: float) -> float:
    """The white of the smallest usual range that holds a level."""
    return next((float(top) for top in (1, *SMALLER.values(), 65535) if level <= top), level)


def ask(tops: dict[Path, float], levels: Levels, *, name: str) -> None:
    """Raises UnfitFiles where whole numbers, by the greatest of each file, all lie within a smaller usual range."""
    path = max(tops, key=lambda one: tops[one])
    smaller = next((bits for bits, top in SMALLER.items() if tops[path] <= top and bits < levels.bits), None)
    smaller = None if levels.white else smaller
    if smaller and tops[path] > 0 and levels.values.dtype.kind == "u" and levels.bits <= 16:
        looked = f"in the {len(tops)} that were looked at" if len(tops) > 1 else "where it was looked at"
        got = f"got images of {levels.kind} in set '{name}' whose levels reach {tops[path]:g} {looked} ({path})"
        want = f"want to know whether white is {SMALLER[smaller]} or {2**levels.bits - 1}"
        raise UnfitFiles(f"{got}: {want}; set bits: {smaller} or bits: {levels.bits}")


def beyond_eight(levels: Levels, path: Path, *, name: str) -> UnfitFiles:
    """What to say of a file of more than 8 bits in a set of which those that were looked at have 8."""
    told = levels.values.dtype.kind == "u" and levels.bits <= 16
    do = f"set bits: {levels.bits}, or what its levels have" if told else "set range: [BLACK, WHITE]"
    got = f"got {path} of {levels.kind} in set '{name}', whose images have 8 bits where they were looked at"
    return UnfitFiles(f"{got}: want to know its levels of black and white; {do}, or convert it to 8 bits")


def refuse_two_scales(scales: dict[Path, Scale]) -> None:
    """Raises UnfitFiles where the kinds of number of a set's files give them different levels of black and white."""
    (one, first), *others = scales.items()
    if differs := next(((path, scale) for path, scale in others if scale[:2] != first[:2]), None):
        got = f"got {one} of {first} beside {differs[0]} of {differs[1]}"
        raise UnfitFiles(
            f"{got}: want one scale in a set; make them one kind, or two sets, each with its bits or range"
        )


def eight_bits(levels: Levels, scale: Scale) -> np.ndarray:
    """uint8 of the same shape, a second or fourth channel of transparency scaled by its room; no number is black."""
    shades, cover = parted(levels.values)
    if levels.from_white:
        scale = Scale(scale.high, scale.low, scale.source)
    if shades.shape[2] == 3 and (shades.dtype, scale.low, scale.high) == (np.uint16, 0, 65535):
        found = (shades >> 8).astype(np.uint8)  # the upper byte, as Pillow takes it of colours
    elif shades.dtype == np.uint16:  # looked up: a picture as float64 takes four times the memory
        found = _scaled(np.arange(65536), scale)[shades]
    else:
        found = _scaled(shades, scale)
    full = Scale(0, 1 if cover.dtype.kind == "f" else 2**levels.bits - 1, "")
    return np.concatenate([found, _scaled(cover, full)], axis=2) if cover.shape[2] else found


def _scaled(values: np.ndarray, scale: Scale) -> np.ndarray:
    shares = (np.nan_to_num(values.astype(np.float64), nan=scale.low) - scale.low) * (255 / (scale.high - scale.low))
    return np.clip(shares + 0.5, 0, 255).astype(np.uint8)


def parted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grey or colours, [H, W, 1 or 3], and their transparency, [H, W, 1 or 0]."""
    count = 3 if values.shape[2] > 2 else 1
    return values[..., :count], values[..., count:]


def chosen(levels: Levels, channels: Sequence[int] | None, path: Path) -> Levels:
    """The channels that a set names, in its order; all where it names none."""
    if channels is None:
        return levels
    if max(channels) > (count := levels.values.shape[2]):
        got = f"got {count} channel{'s' * (count > 1)} in {path}"
        raise UnfitFiles(f"{got}: want {max(channels)}, as channels: {list(channels)} asks; correct channels")
    return levels._replace(values=levels.values[..., [number - 1 for number in channels]])


def on_white(values: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] from uint8 [H, W, C]: grey or colours, the second or fourth channel being transparency."""
    shades, cover = parted(values)
    colours = np.ascontiguousarray(np.broadcast_to(shades, (*shades.shape[:2], 3)))
    if not cover.shape[2]:
        return colours
    picture = Image.fromarray(np.concatenate([colours, cover], axis=2))
    return np.array(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"))
