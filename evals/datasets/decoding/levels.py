"""What the numbers in a picture mean: which level is black and which white, and which channels are colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from evals.datasets.reading import Reading, UnfitFiles

SMALLER = {1: 1, 8: 255, 10: 1023, 12: 4095, 14: 16383}  # usual numbers of bits, and the level of white
FEW = 0.25  # of the scale of floats: fewer levels than 14 bits are of 16, the least that is asked about there
BULK = (1, 99)  # percentiles between which a picture lies, its glints and dead pixels apart
NO_DATA = (-9999, -99999, -32767, -32768)  # what programs write where nothing was measured
HUGE = 1e20  # beyond it lie those of floats, as -3.4e38


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


def scale_of(levels: Levels, reading: Reading, path: Path, *, looked: Sequence[Levels] = ()) -> Scale:
    """By the settings of the set, or else by the kind of number where that is certain; never by the levels.

    What it offers to set where neither tells is what all that were `looked` at hold.
    """
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
    offers = _offers(together(looked or [levels]), levels, None)
    raise UnfitFiles(f"got {path} of {levels.kind}: {want}; set {offers}")


def ends(values: np.ndarray) -> tuple[float, float]:
    """The least and the greatest level of grey or colours; what is no number does not count."""
    values = parted(values)[0]
    known = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    return (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)


def together(several: Sequence[Levels]) -> np.ndarray:
    """The levels of grey or colours of some pictures in a row; what is no number does not count."""
    values = np.concatenate([parted(levels.values)[0].ravel() for levels in several])
    return values[~np.isnan(values)] if values.dtype.kind == "f" else values


def refuse_beyond(levels: Levels, scale: Scale, path: Path, *, looked: Sequence[Levels] = ()) -> None:
    """Raises UnfitFiles for a level outside the scale, floats within half of an 8-bit step of it apart.

    What it offers to set is what all that were `looked` at hold.
    """
    low, high = ends(levels.values)
    spare = (scale.high - scale.low) / 510 if levels.values.dtype.kind == "f" else 0
    if low >= scale.low - spare and high <= scale.high + spare:
        return
    offers = _offers(together(looked or [levels]), levels, scale)
    raise UnfitFiles(f"got levels {low:g} to {high:.10g} in {path} ({levels.kind}): want {scale}; set {offers}")


def _offers(values: np.ndarray, levels: Levels, scale: Scale | None) -> str:
    """Ranges that fit the levels [N] of some pictures, none of which takes no data for black or white."""
    empty = np.isin(values, NO_DATA) | (np.abs(values.astype(np.float64)) > HUGE)
    known = values[~empty] if not empty.all() else np.array([0.0, 1.0])
    low, high = (float(level) for level in np.percentile(known, BULK))
    cut = [f"range: {_range(low, high, levels, scale)}, clip: true"]
    if scale and scale.source.startswith(("bits", "range")):
        if not empty.any() or (known.min() >= scale.low and known.max() <= scale.high):
            cut = [f"clip: true beside {scale.source}"]
    elif scale and 0 < known.max() <= FEW:
        cut.append(f"range: {_range(low, high, levels, None)}, clip: true")
    if empty.any():
        odd = float(values[empty][0])
        return f"{' or '.join(cut)}, which cuts what lies outside ({odd:g} looks like no data)"
    whole = _range(float(known.min()), float(known.max()), levels, scale)
    return f"range: {whole} or what the whole set has, or {cut[0]}, which cuts what lies outside (no data, say)"


def _range(low: float, high: float, levels: Levels, scale: Scale | None) -> str:
    """Round levels of black and white around two levels, and around a scale that they overlap."""
    if levels.values.dtype.kind == "u":
        low, high = 0.0, _above(high)
    else:
        low, high = rounded(low, high)
    if scale and low < scale.high and high > scale.low:
        low, high = min(low, scale.low), max(high, scale.high)
        high = _above(high) if levels.values.dtype.kind == "u" else high
    return f"[{low:.10g}, {high:.10g}]"


def rounded(low: float, high: float) -> tuple[float, float]:
    """Two levels moved apart to round ones, black to 0 where the lower is nearer to it than to the upper."""
    low = 0.0 if 0 <= low < high - low else low
    step = 10.0 ** np.floor(np.log10(max(high - low, abs(high) / 100, 1e-30) / 5))
    first, last = np.floor(low / step + 1e-3), np.ceil(high / step - 1e-3)
    return float(f"{first * step:.10g}"), float(f"{max(last, first + 1) * step:.10g}")


def _above(level: float) -> float:
    """The white of the smallest usual range of whole numbers that holds a level."""
    return next((float(top) for top in (*SMALLER.values(), 65535) if level <= top), level)


def ask(deep: Mapping[Path, Levels], *, name: str) -> None:
    """Raises UnfitFiles where the levels of all files lie within a small part of what their kind of number holds.

    For whole numbers that is a smaller usual number of bits, for floats a quarter, as 14 bits are of 16.
    """
    tops = {path: ends(levels.values)[1] for path, levels in deep.items()}
    path = max(tops, key=lambda one: tops[one])
    top, levels = tops[path], next(iter(deep.values()))
    kind = levels.values.dtype.kind
    if top <= 0 or levels.white or (kind != "f" and (kind != "u" or levels.bits > 16)):
        return
    if kind == "f":
        white = rounded(0, float(np.percentile(together(list(deep.values())), BULK[1])))[1]
        whites, small = (f"{white:g}", "1"), top <= FEW
        do = f"range: [0, {white:g}], clip: true or range: [0, 1]"
    else:
        bits = next((bits for bits, most in SMALLER.items() if top <= most and bits < levels.bits), levels.bits)
        whites, small = (f"{2**bits - 1}", f"{2**levels.bits - 1}"), bits < levels.bits
        do = f"bits: {bits} or bits: {levels.bits}"
    if small:
        looked = f"in the {len(tops)} that were looked at" if len(tops) > 1 else "where it was looked at"
        got = f"got images of {levels.kind} in set '{name}' whose levels reach {top:g} {looked} ({path})"
        want = f"want to know whether white is {' or '.join(whites)}"
        third = "or range: [0, WHITE], clip: true where other sets of their kind reach further"
        raise UnfitFiles(f"{got}: {want}; set {do}, {third}")


def beyond_eight(levels: Levels, path: Path, *, name: str) -> UnfitFiles:
    """What to say of a file of more than 8 bits in a set of which those that were looked at have 8."""
    told = levels.values.dtype.kind == "u" and levels.bits <= 16
    do = f"set bits: {levels.bits}, or what its levels have" if told else "set range: [BLACK, WHITE]"
    got = f"got {path} of {levels.kind} in set '{name}', whose images have 8 bits where they were looked at"
    return UnfitFiles(f"{got}: want to know its levels of black and white; {do}, or convert it to 8 bits")


def other_scale(scale: Scale, looked: Scale, path: Path) -> UnfitFiles:
    """What to say of a file whose kind of number has another scale than those of its set that were looked at."""
    got = f"got {path} of {scale} in a set of {looked} where it was looked at"
    return UnfitFiles(f"{got}: want one scale in a set; make them one kind, or two sets, each with its bits or range")


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
    known = np.nan_to_num(values.astype(np.float64), nan=scale.low)
    with np.errstate(over="ignore"):  # of infinity
        shares = (known - scale.low) * (255 / (scale.high - scale.low))
    return np.clip(shares + 0.5, 0, 255).astype(np.uint8)


def parted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grey or colours, [H, W, 1 or 3], and their transparency, [H, W, 1 or 0]."""
    count = 3 if values.shape[2] > 2 else 1
    return values[..., :count], values[..., count:]


def chosen(levels: Levels, channels: Sequence[int] | None, path: Path) -> Levels:
    """The channels that a set names, in its order; all where it names none."""
    if channels is None:
        return levels
    refuse_missing(channels, levels.values.shape[2], path)
    return levels._replace(values=levels.values[..., [number - 1 for number in channels]])


def refuse_missing(channels: Sequence[int], count: int, path: Path) -> None:
    """Raises UnfitFiles for channels beyond those of a file."""
    if max(channels) > count:
        got = f"got {count} channel{'s' * (count > 1)} in {path}"
        raise UnfitFiles(f"{got}: want {max(channels)}, as channels: {list(channels)} asks; correct channels")


def on_white(values: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] from uint8 [H, W, C]: grey or colours, the second or fourth channel being transparency."""
    shades, cover = parted(values)
    colours = np.ascontiguousarray(np.broadcast_to(shades, (*shades.shape[:2], 3)))
    if not cover.shape[2]:
        return colours
    picture = Image.fromarray(np.concatenate([colours, cover], axis=2))
    return np.array(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"))
