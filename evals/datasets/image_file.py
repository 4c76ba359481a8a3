"""Reading one picture, with errors that name the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from common.errors import BadInput

_ORIENTATION = 0x0112
_ON_ITS_SIDE = (5, 6, 7, 8)
_WIDE = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A picture whose pixels are read within; whatever goes wrong names the file."""
    try:
        with Image.open(path) as image:
            yield image
    except BadInput:
        raise
    except FileNotFoundError as error:
        raise BadInput(f"got no file {path}: want an image; restore it") from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = "no image" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
        reason = "empty" if path.is_file() and path.stat().st_size == 0 else reason
        raise BadInput(f"got unreadable image {path} ({reason}): want a whole image; replace or remove it") from error


def read_rgb(path: Path) -> np.ndarray:
    """uint8 [H, W, 3], turned upright; transparent parts lie on white, deep grey levels are scaled to 8 bits."""
    with opened(path) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode in _WIDE:
            return np.repeat(_eight_bits(np.asarray(upright, dtype=np.float64))[..., None], 3, axis=2)
        if upright.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in upright.info:
            upright = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
        return np.array(upright.convert("RGB"))


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    """Levels of 8 or 16 bits, or shares of one, judged by their maximum."""
    top = grey.max(initial=0)
    factor = 255 if top <= 1 else 1 if top <= 255 else 255 / 65535
    return np.clip(np.nan_to_num(grey) * factor + 0.5, 0, 255).astype(np.uint8)


def upright_size(path: Path) -> tuple[int, int]:
    """(height, width) of a picture once upright, from its header."""
    with opened(path) as image:
        sideways = image.getexif().get(_ORIENTATION) in _ON_ITS_SIDE
        width, height = image.size
    return (width, height) if sideways else (height, width)


def same_size(path: Path, shape: tuple[int, int], image: Path) -> None:
    """Refuses a mask or a depth map that does not fit its image."""
    if (want := upright_size(image)) != shape:
        got = f"got {path} of {shape[1]} x {shape[0]} pixels"
        raise BadInput(f"{got}: want {want[1]} x {want[0]} as {image}; replace one of them")
