"""Reading one array of numpy's (.npy, or .npz with one alone): the rows and columns of a mask or a depth map."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from common.errors import BadInput, first_line
from evals.datasets.decoding.image_file import refuse_large


def read_array(path: Path, *, megapixels: float) -> np.ndarray:
    """The numbers [H, W], of yes and no as uint8; nothing is unpickled, and nothing reaches the console.

    Raises:
        BadInput: no file, a damaged one, several arrays, none of rows and columns of numbers, or one of more than so
            many million, which its header tells before they take the memory.
    """
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # numpy's, of headers in an old style
            if file.read(2) != b"PK":
                file.seek(0)
                return _numbers(file, path, megapixels)
            with zipfile.ZipFile(file) as archive, archive.open(_only_one(archive, path)) as member:
                return _numbers(member, path, megapixels)
    except (BadInput, MemoryError):
        raise
    except FileNotFoundError as error:
        raise BadInput(f"got no file {path}: want an array; restore it") from error
    except Exception as error:  # damage is a dozen kinds of error in zipfile, zlib, tokenize and numpy
        reason = "empty" if path.is_file() and path.stat().st_size == 0 else " ".join(first_line(error).split())
        raise BadInput(f"got unreadable array {path} ({reason}): want a whole one; replace it") from error


def _numbers(file: IO[bytes], path: Path, megapixels: float) -> np.ndarray:
    shape, dtype = _header(file)
    sides = [side for side in shape if side != 1] if len(shape) == 3 else shape
    if len(sides) != 2 or min(sides) < 1 or dtype.kind not in "buif":
        got = f"got {path} of {' x '.join(map(str, shape))} values of {dtype}"
        raise BadInput(f"{got}: want rows and columns of numbers; convert it")
    refuse_large((sides[1], sides[0]), path, megapixels)
    file.seek(0)
    values = npy.read_array(file, allow_pickle=False)
    found = values.squeeze() if values.ndim == 3 else values
    return found.astype(np.uint8) if found.dtype.kind == "b" else found


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and kind of number. Raises all kinds of errors where they are not told."""
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        shape, _, dtype = read(file)
    except MemoryError as error:  # of the parser, whatever memory there is
        raise ValueError("a header that is none") from error
    if dtype.hasobject:
        raise ValueError("objects in place of numbers")
    return shape, dtype


def _only_one(archive: zipfile.ZipFile, path: Path) -> str:
    names = archive.namelist()
    if len(names) != 1:
        held = f"{len(names)} arrays ({', '.join(name.removesuffix('.npy') for name in names)})"
        raise BadInput(f"got {path} of {held}: want one; store that alone")
    return names[0]
