"""The numbers of a mask or a depth map as they are stored, in a picture or in an array of numpy's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import BadInput
from evals.datasets.decoding.array_file import read_array
from evals.datasets.decoding.deep_file import INTEGERS, packing, unscaled
from evals.datasets.decoding.image_file import opened
from evals.datasets.reading import Reading

ARRAYS = (".npy", ".npz")
WHOLE = ("1", "L", "P", *INTEGERS)
KEEP = ("PNG", "TIFF", "BMP", "PPM")  # the formats that hold the very values that were written
BLUR = ("jpeg", "tiff_jpeg", "webp")  # the ways in which a TIFF does not


def stored_values(path: Path, reading: Reading, *, what: str, modes: tuple[str, ...], want: str) -> np.ndarray:
    """The numbers [H, W] of a file: uint8, uint16, int32 or a kind of float. Where there is a palette, its indices.

    Args:
        what: what it should be, for errors.
        modes: those of Pillow's that do.
        want: what an error says of others.
    """
    if path.suffix.lower() in ARRAYS:
        return read_array(path, megapixels=reading.max_megapixels)
    with exact(path, reading, what=what) as image:
        if image.mode not in modes:
            raise BadInput(f"got {path} in mode {image.mode}: {want}")
        return _as_written(image, path)


def _as_written(image: Image.Image, path: Path) -> np.ndarray:
    """The numbers [H, W] of the file, of which Pillow makes a picture from black to white; of one bit, white is 1."""
    top, packed = unscaled(image), packing(image)
    values = np.array(image)
    if top is not None and (here := int(values.max())) > top:
        raise BadInput(f"got value {here} in {path}: want at most {top}, as its header says; replace it")
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if found := re.fullmatch(r"L;?([24]?)(I?)R?", packed):
        step = {"2": 85, "4": 17}.get(found[1], 1)  # between two levels that the file tells apart
        return (255 - values if found[2] else values) // np.uint8(step)
    return values


@contextmanager
def exact(path: Path, reading: Reading, *, what: str) -> Iterator[Image.Image]:
    """A picture that holds the very values that were written, and one alone: JPEG blurs them, GIF numbers them anew.

    Pillow's pixels are these values as far as its mode says so: grey is stretched to go from black to white.
    """
    with opened(path, megapixels=reading.max_megapixels) as image:
        if image.format not in KEEP or image.info.get("compression") in BLUR:
            kind = f"{image.format} of {image.info['compression']}" if image.format in KEEP else image.format
            want = "want a format that keeps values; save it as PNG from the first source"
            raise BadInput(f"got {path}, a {kind}, for {what}: {want}")
        if getattr(image, "is_animated", False):  # which does not count them: they may be without end
            raise BadInput(f"got {path} of several pages for {what}: want one; save that alone")
        yield image
