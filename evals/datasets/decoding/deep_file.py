"""The numbers in pictures of more than 8 bits a channel, and in TIFF that Pillow does not read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, PpmImagePlugin, TiffImagePlugin

from evals.datasets.decoding.levels import Levels
from evals.datasets.reading import UnfitFiles

INTEGERS = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow's modes of whole numbers beyond 8 bits
WIDE = (*INTEGERS, "F")
WIDTH, HEIGHT, BITS, PHOTOMETRIC, SAMPLES, PLANAR, EXTRA, FORMAT = 256, 257, 258, 262, 277, 284, 338, 339
ORIENTATION, ON_ITS_SIDE = 274, (5, 6, 7, 8)
KINDS = {1: "u", 2: "i", 3: "f"}  # by FORMAT
READ = "1, 3 or 4 interleaved channels of 8 or 16-bit integers or 32-bit floats"


def tags_of(image: Image.Image) -> Mapping[int, Any]:
    """The tags of a TIFF; none of another format."""
    return image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}


def tags_in(path: Path) -> Mapping[int, Any]:
    """The tags of a TIFF that Pillow does not identify; none where the file is no TIFF."""
    with path.open("rb") as file:
        start = file.read(16)
        if start[:4] not in (b"II*\0", b"MM\0*"):
            return {}
        found = TiffImagePlugin.ImageFileDirectory_v2(start[:8])
        file.seek(found.next)
        found.load(file)
    return found if all(isinstance(found.get(tag), int) for tag in (WIDTH, HEIGHT)) else {}


def upright_size(tags: Mapping[int, Any]) -> tuple[int, int]:
    """(height, width) of a TIFF once upright."""
    size = (tags[HEIGHT], tags[WIDTH])
    return size[::-1] if tags.get(ORIENTATION) in ON_ITS_SIDE else size


def is_deep(image: Image.Image) -> bool:
    """Whether a channel has more than 8 bits of which Pillow does not make 8 by what the file itself declares."""
    if tags := tags_of(image):
        return max(tags.get(BITS, (1,))) > 8
    if image.format == "PNG":
        return image.mode in WIDE or re.match(r"(LA|RGBA?);16", packing(image)) is not None
    return image.mode in WIDE


def channels_of(image: Image.Image) -> int:
    """How many channels a picture stores; of a table of colours those that it stands for."""
    if count := tags_of(image).get(SAMPLES):
        return int(count) if image.mode not in ("P", "PA") else 4
    if image.mode in ("P", "PA") or "transparency" in image.info:
        return 4
    return 2 if packing(image).startswith("LA;16") else len(image.getbands())


def packing(image: Image.Image) -> str:
    """How Pillow calls the order of the bits of a picture that is not decoded yet, as in "RGB;16B"."""
    tiles = getattr(image, "tile", ())
    args = tiles[0].args if tiles else ""
    return str(args[0] if isinstance(args, tuple) else args)


def unscaled(image: Image.Image) -> int | None:
    """Lets a PGM that is not decoded yet be decoded as it is stored: the white that its header tells; else None.

    Pillow stretches its levels to 255 or 65535, unless white is that.
    """
    if not isinstance(image, PpmImagePlugin.PpmImageFile) or image.mode not in ("L", "I"):
        return None
    (tile,) = image.tile
    if not isinstance(tile.args, tuple):
        return 255 if image.mode == "L" else 65535
    white, full, raw = tile.args[1], *((255, "L") if image.mode == "L" else (65535, "I;16B"))
    plain = tile.codec_name == "ppm_plain"  # in digits
    image.tile = [tile._replace(args=(tile.args[0], full))] if plain else [tile._replace(codec_name="raw", args=raw)]
    return white


def levels_of(image: Image.Image, path: Path, channels: Sequence[int] | None = None) -> Levels:
    """The channels of an opened picture, upright: those that it shows, or at least those of these numbers."""
    tags, bands = tags_of(image), len(image.getbands())
    if tags.get(SAMPLES, 1) == 1 and image.mode in WIDE:
        return _grey(image, tags)
    if is_deep(image) or (tags.get(SAMPLES, 1) > bands and max(channels or (1,)) > bands):
        found = by_opencv(path, tags)
        if channels_of(image) == 2:  # OpenCV repeats the grey
            found, bands = found._replace(values=found.values[..., [0, 3]]), 2
        found = found if tags else _upright(found, image)
        return found if channels else found._replace(values=found.values[..., :bands])
    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("P", "PA", "1") or "transparency" in upright.info:
        upright = upright.convert("L" if upright.mode == "1" else "RGBA")
    values = np.asarray(upright)
    return Levels(values if values.ndim == 3 else values[..., None], 8)


def _grey(image: Image.Image, tags: Mapping[int, Any]) -> Levels:
    white = unscaled(image)
    bits = white.bit_length() if white else _room(tags)
    image.load()
    values = np.asarray(ImageOps.exif_transpose(image))
    number = _number(tags) if tags else "f" if image.mode == "F" else "u"
    if number == "u" and bits <= 16:
        values = values.astype(np.uint16)
    white = white if white != 2**bits - 1 else None
    return Levels(values[..., None], bits, from_white=tags.get(PHOTOMETRIC) == 0, white=white)


def _number(tags: Mapping[int, Any]) -> str:
    return KINDS.get((tags.get(FORMAT) or (1,))[0], "?")


def _room(tags: Mapping[int, Any]) -> int:
    return max(tags.get(BITS, (16,)))


def by_opencv(path: Path, tags: Mapping[int, Any]) -> Levels:
    """The channels of a PNG (`tags` empty) as they are stored, or of a TIFF, upright; red before blue.

    Raises:
        UnfitFiles: what OpenCV reads otherwise than the header says.
        ValueError, cv2.error: what it cannot decode.
    """
    import cv2

    samples, bits = tags.get(SAMPLES, 1), _room(tags)
    kind = f"{_number(tags)}{bits // 8}"
    apart = tags.get(PLANAR) == 2 and samples > 1
    told = not tags or (tags.get(PHOTOMETRIC) in (0, 1, 2) and tags.get(EXTRA) != (1,))
    if not told or apart or bits % 8 or kind not in ("u1", "u2", "i2", "i4", "f4", "f8") or samples not in (1, 3, 4):
        raise UnfitFiles(_told(path, tags))
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        found = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    finally:
        cv2.utils.logging.setLogLevel(before)
    if found is None:
        raise ValueError("damaged, or of a compression that OpenCV does not know")
    values = found if found.ndim == 3 else found[..., None]
    shape = (*upright_size(tags), samples) if tags else values.shape
    if values.shape != shape or values.dtype != np.dtype(kind):
        raise UnfitFiles(_told(path, tags))
    order = [2, 1, 0, 3][: values.shape[2]] if values.shape[2] > 2 else [0]
    return Levels(values[..., order], bits, from_white=tags.get(PHOTOMETRIC) == 0)


def _told(path: Path, tags: Mapping[int, Any]) -> str:
    """What an odd TIFF holds, and into what to convert it."""
    apart = " in planes of their own" if tags.get(PLANAR) == 2 else ""
    number = {"u": "integers", "i": "integers with a sign", "f": "floats"}
    kind = number.get(_number(tags), "other numbers")
    count = tags.get(SAMPLES, 1)
    got = f"got {path} of {count} channel{'s' * (count > 1)}{apart}, {_room(tags)}-bit {kind}"
    return f"{got}: want {READ}; convert it, as by gdal_translate -b 3 -b 2 -b 1 -co INTERLEAVE=PIXEL"


def _upright(levels: Levels, image: Image.Image) -> Levels:
    """What is stored, turned by the orientation that the header tells."""
    turn = image.getexif().get(ORIENTATION)
    values = levels.values
    if turn in ON_ITS_SIDE:
        values = values.swapaxes(0, 1)
    if turn in (2, 3, 6, 7):
        values = values[:, ::-1]
    if turn in (3, 4, 7, 8):
        values = values[::-1]
    return levels._replace(values=values)
