"""Reading one picture as 8-bit colours, with errors that name the file."""

from __future__ import annotations

import logging
import math
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from common.errors import BadInput, first_line
from evals.datasets.decoding import deep_file
from evals.datasets.decoding.levels import (
    Levels,
    Scale,
    beyond_eight,
    chosen,
    eight_bits,
    on_white,
    other_scale,
    refuse_beyond,
    scale_of,
)
from evals.datasets.decoding.other_file import what_is
from evals.datasets.reading import AS_USUAL, LARGEST, Reading, UnfitFiles

# What others decode can start programs (EPS) or is no photograph; only these decoders ever see a file
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "PPM", "GIF", "JPEG2000", "AVIF")
MISTAKES = (TypeError, AttributeError, NameError, KeyError)  # in a program: a file is not to blame
logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it logs is in its errors too


class NoImage(BadInput):
    """A file that Pillow takes for no picture of `FORMATS`."""


class TooLarge(UnfitFiles):
    """A picture of more pixels than its set allows, which `megapixels` million would."""

    megapixels: int = 0


@contextmanager
def opened(path: Path, *, megapixels: float = LARGEST) -> Iterator[Image.Image]:
    """A picture whose pixels are read within; whatever goes wrong names the file, and nothing reaches the console.

    Raises:
        BadInput: no file, no picture, or one of more than so many million pixels, which its header tells.
    """
    with _named(path), _open(path) as image:
        refuse_large(image.size, path, megapixels)
        yield image


def _open(path: Path) -> Image.Image:
    """A file, or a member of a shard that is opened as one.

    Without Pillow's limit, which is a warning on the console and then an error: `refuse_large` is ours.
    """
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        return Image.open(path if isinstance(path, Path) else path.open("rb"), formats=FORMATS)
    finally:
        Image.MAX_IMAGE_PIXELS = before


@contextmanager
def _named(path: Path) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of doubtful metadata beside sound pixels
        try:
            yield
        except (BadInput, MemoryError):
            raise
        except FileNotFoundError as error:
            raise BadInput(f"got no file {path}: want an image; restore it") from error
        except UnidentifiedImageError as error:
            raise NoImage(_unreadable(path, what_is(path))) from error
        except Exception as error:  # decoders raise anything on files that are damaged on purpose
            if isinstance(error, MISTAKES) and not _decoding(error):
                raise
            reason = error.strerror if isinstance(error, OSError) else None
            raise BadInput(_unreadable(path, reason or first_line(error))) from error


def _decoding(error: Exception) -> bool:
    """Whether it was raised while Pillow or `deep_file` took a file apart, which raise such of damaged ones too."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(name.startswith("PIL.") or name == deep_file.__name__ for name in modules)


def _unreadable(path: Path, reason: str) -> str:
    return f"got unreadable image {path} ({reason}): want a whole image; replace or remove it"


def refuse_large(size: tuple[int, int], path: Path, megapixels: float) -> None:
    """Raises TooLarge for a (width, height) of more than so many million pixels, before they take the memory."""
    if (here := size[0] * size[1] / 1e6) > megapixels:
        got = f"got image {path} of {size[0]} x {size[1]} pixels, {here:,.0f} million"
        do = f"set max_megapixels: {math.ceil(here)} for the set, or shrink or remove it"
        error = TooLarge(f"{got}: want at most {megapixels:,.0f} million; {do}")
        error.megapixels = math.ceil(here)
        raise error


def read_rgb(
    path: Path, reading: Reading = AS_USUAL, *, shallow: str | None = None, looked: Scale | None = None
) -> np.ndarray:
    """uint8 [H, W, 3], turned upright; transparent parts lie on white, deeper levels are scaled to 8 bits.

    Args:
        shallow: its set's name where no file of more than 8 bits was looked at, so that their scale is not known.
        looked: the scale of the files of its set that were looked at.

    Raises:
        BadInput: as `opened`.
        UnfitFiles: levels or channels of which `reading` does not say what they mean, or other than it says.
    """
    untold = reading.bits is None and reading.range is None
    upper = looked is None or looked[:2] == (0, 65535)  # the upper 8 bits are on the scale of the set
    found = read_levels(path, reading, stored=shallow is not None or not upper)
    if isinstance(found, np.ndarray):
        return found
    if found.bits == 8:
        return on_white(found.values)
    if shallow is not None and untold:
        raise beyond_eight(found, path, name=shallow)
    scale = scale_of(found, reading, path)
    if looked and untold and scale[:2] != looked[:2]:
        raise other_scale(scale, looked, path)
    if not reading.clip:
        refuse_beyond(found, scale, path)
    return on_white(eight_bits(found, scale))


def read_levels(path: Path, reading: Reading, *, stored: bool = False) -> Levels | np.ndarray:
    """The channels as the file has them where their meaning is a matter of `reading`, else `shown`.

    `stored` asks for those of more than 8 bits even where the upper 8 are what `reading` wants.
    """
    try:
        with opened(path, megapixels=reading.max_megapixels) as image:
            refuse_unclear(image, path, reading)
            usual = not deep_file.is_deep(image) or (not stored and _by_upper_byte(image, reading))
            if usual and reading.channels is None:
                return shown(image)
            return chosen(deep_file.levels_of(image, path, reading.channels), reading.channels, path)
    except NoImage:
        if (found := _foreign_tiff(path, reading)) is None:
            raise
        return found


def _foreign_tiff(path: Path, reading: Reading) -> Levels | None:
    """The channels of a TIFF that Pillow does not identify; None where the file is no TIFF."""
    with _named(path):
        if not (tags := deep_file.tags_in(path)):
            return None
        refuse_large((tags[deep_file.WIDTH], tags[deep_file.HEIGHT]), path, reading.max_megapixels)
        found = deep_file.by_opencv(path, tags)
        if found.values.shape[2] == 4 and reading.channels is None and tags.get(deep_file.EXTRA) != (2,):
            raise undecided_channels(path, 4)
        return chosen(found, reading.channels, path)


def undecided_channels(path: Path, count: int) -> UnfitFiles:
    """What to say of channels whose meaning the file does not tell."""
    first = "[1] or channels: [2]" if count == 2 else "[1, 2, 3]"
    want = f"want to know whether the last of them is transparency; set channels: {first} if it is none"
    return UnfitFiles(f"got {count} channels in {path}: {want}, or channels: {list(range(1, count + 1))} if it is")


def refuse_unclear(image: Image.Image, path: Path, reading: Reading) -> None:
    """Raises UnfitFiles for two channels of which nothing is told, and for a TIFF of several pages of one size.

    These are a volume, a film or channels apart; a smaller page behind the first is a preview.
    """
    if image.format != "TIFF":
        return
    if deep_file.tags_of(image).get(deep_file.SAMPLES) == 2 and image.mode == "L" and reading.channels is None:
        raise undecided_channels(path, 2)
    if getattr(image, "is_animated", False):
        first = image.size
        image.seek(1)
        if image.size == first:
            raise UnfitFiles(f"got several pages in {path}: want one picture in a file; write each page out as a file")
        image.seek(0)


def _by_upper_byte(image: Image.Image, reading: Reading) -> bool:
    """Whether Pillow makes 8 bits of deep colours as their scale wants it."""
    whole = reading.bits in (None, 16) and reading.range is None
    return whole and image.mode not in deep_file.WIDE and deep_file.tags_of(image).get(deep_file.PLANAR) != 2


def shown(image: Image.Image) -> np.ndarray:
    """uint8 [H, W, 3] of a picture of 8 bits, upright, its transparent parts on white."""
    image.load()
    ImageOps.exif_transpose(image, in_place=True)  # no copy: it may be large
    upright = image
    if upright.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in upright.info:
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    return np.array(upright if upright.mode == "RGB" else upright.convert("RGB"))


def upright_size(path: Path) -> tuple[int, int]:
    """(height, width) of a picture once upright, from its header."""
    try:
        with opened(path, megapixels=float("inf")) as image:
            sideways = image.getexif().get(deep_file.ORIENTATION) in deep_file.ON_ITS_SIDE
            width, height = image.size
    except NoImage:
        with _named(path):
            tags = deep_file.tags_in(path)
        if not tags:
            raise
        return deep_file.upright_size(tags)
    return (width, height) if sideways else (height, width)


def same_size(path: Path, shape: tuple[int, int], image: Path) -> None:
    """Refuses a mask or a depth map that does not fit its image."""
    if (want := upright_size(image)) != shape:
        got = f"got {path} of {shape[1]} x {shape[0]} pixels"
        raise BadInput(f"{got}: want {want[1]} x {want[0]} as {image}; replace one of them")
