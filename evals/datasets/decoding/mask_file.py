"""Reading one mask of pixel classes: which class each value or colour of it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.errors import BadInput
from evals.datasets.decoding.stored_values import ARRAYS, WHOLE, exact, stored_values
from evals.datasets.labelled_set import IGNORE, BeyondClasses
from evals.datasets.reading import AS_USUAL, UNLABELLED, Reading

_BEYOND = IGNORE - 1  # no class has this number: there are at most 254
_VALUES = 1 << 16


def read_mask(path: Path, names: Sequence[str], reading: Reading = AS_USUAL) -> np.ndarray:
    """uint8 [H, W] from an annotation: the number of each pixel's class among `names`, or `IGNORE`.

    Raises:
        BeyondClasses: a value that no class has.
        BadInput: no mask, or a colour that no class has.
    """
    if reading.palette is not None:
        return _by_colour(path, names, reading)
    values = mask_values(path, reading)
    odd = values[(values < 0) | (values >= _VALUES)] if values.dtype.itemsize > 1 else values[:0]
    if not odd.size:
        found = class_of(names, reading)[values]
        odd = values[found == _BEYOND]
        if not odd.size:
            return found
    top, alone = int(odd.max()), bool((odd == odd[0]).all())
    raise BeyondClasses(f"got value {top} in {path}: {_wanted(names, reading, alone=top if alone else None)}", top)


def mask_values(path: Path, reading: Reading = AS_USUAL) -> np.ndarray:
    """The whole numbers [H, W] that a mask holds, whatever they mean; those of a picture with a palette are indices."""
    want = (
        "want an 8-bit mask of one channel; convert it, or name the colour of each class by palette (docs/my-data.md)"
    )
    values = stored_values(path, reading, what="a mask", modes=WHOLE, want=want)
    if values.dtype.kind == "f":
        raise BadInput(f"got {path} of {values.dtype}: want whole numbers, one for each class; convert it")
    return values


def class_of(names: Sequence[str], reading: Reading) -> np.ndarray:
    """uint8 [65536]: the number of the class that each value of a mask stands for."""
    table = np.full(_VALUES, _BEYOND, dtype=np.uint8)
    if reading.values is not None:
        numbers = {name: number for number, name in enumerate(names)} | {UNLABELLED: IGNORE}
        for value, name in reading.values.items():
            table[value] = numbers[name]
    else:
        first = int(reading.labels != "from_zero")
        table[:first] = IGNORE
        table[first : first + len(names)] = np.arange(len(names))
    for value in ignored(reading):
        table[value] = IGNORE
    return table


def ignored(reading: Reading) -> tuple[int, ...]:
    """The values of `ignore`, by default 255 unless a class has it."""
    if reading.ignore is not None:
        return reading.ignore
    return () if IGNORE in (reading.values or {}) else (IGNORE,)


def told_reading(reading: Reading) -> str:
    """How values become classes, in a few words: "labels from 1; 0 and 255 ignored"."""
    if reading.palette is not None:
        return "classes by palette"
    if reading.values is not None:
        none = {value for value, name in reading.values.items() if name == UNLABELLED}
    else:
        none = set() if reading.labels == "from_zero" else {0}
    values = [str(value) for value in sorted(none | set(ignored(reading)))]
    listed = " and ".join(filter(None, [", ".join(values[:-1]), *values[-1:]])) or "none"
    first = "classes by values" if reading.values is not None else f"labels from {int(reading.labels != 'from_zero')}"
    return f"{first}; {listed} ignored"


def _wanted(names: Sequence[str], reading: Reading, *, alone: int | None) -> str:
    """Which values a mask may have, and what to do about others; `alone` is the one other that it has."""
    besides = "".join(f" or {value}" for value in ignored(reading))
    if reading.values is not None:
        known = ", ".join(str(value) for value in sorted(reading.values))
        return f"want {known}{besides}; add it to values, as `{UNLABELLED}` if no class has it"
    top = len(names) - (reading.labels == "from_zero")
    do = "correct classes, or say by values what each means"
    if alone is not None and reading.labels == "from_zero":
        more = alone if reading.ignore is None else [*reading.ignore, alone]
        do += f", or write `ignore: {more}` if that is what has no label"
    return f"want 0 to {top} (one per class){besides}; {do}"


def _by_colour(path: Path, names: Sequence[str], reading: Reading) -> np.ndarray:
    """uint8 [H, W] of a mask whose classes are colours, each with its number in red · 256² + green · 256 + blue."""
    numbers = {name: number for number, name in enumerate(names)} | {UNLABELLED: IGNORE}
    palette = reading.palette or {}
    coded = sorted((_code(colour), numbers[name]) for name, colours in palette.items() for colour in colours)
    codes, classes = np.array(coded).T
    pixels = _code(np.moveaxis(_colours(path, reading), 2, 0).astype(np.int64))
    places = np.searchsorted(codes, pixels).clip(max=len(codes) - 1)
    if (odd := pixels[codes[places] != pixels]).size:
        code = int(odd[0])
        colour, share = [code >> 16, code >> 8 & 255, code & 255], odd.size / pixels.size
        do = f"add it to palette, as `{UNLABELLED}` if no class has it"
        raise BadInput(f"got colour {colour} in {path} ({share:.2%} of it is of no class): want those of palette; {do}")
    return classes[places].astype(np.uint8)


def _code(colour: Sequence[int] | np.ndarray) -> np.ndarray:
    red, green, blue = colour
    return np.asarray(red << 16 | green << 8 | blue)


def _colours(path: Path, reading: Reading) -> np.ndarray:
    """uint8 [H, W, 3]."""
    if path.suffix.lower() in ARRAYS:
        raise BadInput(f"got {path} for a mask of colours: want a picture, as PNG; convert it, or leave palette out")
    with exact(path, reading, what="a mask") as image:
        if image.mode not in ("1", "L", "P", "RGB", "RGBA"):
            raise BadInput(f"got {path} in mode {image.mode}: want RGB; convert it")
        full = np.array(image.convert("RGBA"))
    if (full[..., 3] < 255).any():
        raise BadInput(f"got {path} with transparent parts: want a colour everywhere; convert it to RGB")
    return full[..., :3]
