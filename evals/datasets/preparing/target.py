"""The folder that a set is prepared in: what is right there stays, nothing is overwritten or left half written."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from common.disk import whole
from common.errors import BadInput, listing

BLOCK = 1 << 20
JPEG_QUALITY = 95  # OpenCV's default, with which BTS writes


class Target:
    """Puts files below `folder` and counts those written, those that were there already, and those that differ."""

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise BadInput(f"got --to {folder} (a file): want a folder; correct --to")
        self.folder = folder
        self.written = self.kept = 0
        self.differing: list[str] = []

    def put(self, name: str, fill: Callable[[IO[bytes]], None], *, right: Callable[[Path], bool]) -> None:
        """Write what `fill` writes as a whole file, unless there is one; that one is kept, `right` or not."""
        path = self.folder / name
        if os.path.lexists(path):
            self._compare(name, right(path))
            return
        with self._whole(path) as file:
            fill(file)
        self.written += 1

    def put_bytes(self, name: str, data: bytes, *, alike: Callable[[bytes, bytes], bool] = bytes.__eq__) -> None:
        """Write a file of this content; `alike` may count another content as the same."""
        self.put(name, lambda file: _write(file, data), right=lambda path: alike(path.read_bytes(), data))

    def put_picture(self, name: str, pixels: np.ndarray) -> None:
        """Write pixels as .png, or as .jpg of BTS's quality; the same picture written by other software is kept."""
        self.put_bytes(name, encoded(pixels, Path(name).suffix), alike=_same_picture)

    def link(self, name: str, source: Path) -> None:
        """Let a file of another folder be here too: by a hard link, or copied where the disk has none."""
        path = self.folder / name
        if os.path.lexists(path):
            self._compare(name, path.samefile(source) or same_content(path, source))
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(source.resolve())
        except OSError:
            with self._whole(path) as file, source.open("rb") as origin:
                shutil.copyfileobj(origin, file, BLOCK)
        self.written += 1

    def count_missing(self, names: Sequence[str]) -> int:
        """How many of the files are not there yet."""
        return sum(not (self.folder / name).exists() for name in names)

    def need_room(self, size: int) -> None:
        """Refuse to start where the disk has not this many bytes left."""
        there = next(part for part in (self.folder, *self.folder.absolute().parents) if part.exists())
        if (free := shutil.disk_usage(there).free) < size:
            got = f"got {free / 1e9:.1f} GB free for {self.folder}"
            raise BadInput(f"{got}: want about {size / 1e9:.1f} GB; free some, or choose another --to")

    def finish(self) -> str:
        """What was done, once it is on the disk; `BadInput` names the files that were there with other content."""
        os.sync()
        if self.differing:
            got = f"got {len(self.differing)} files of other content in {self.folder} ({listing(self.differing)})"
            raise BadInput(f"{got}: want those of the download, or none; move them away, or choose another --to")
        return f"{self.written} files written, {self.kept} were there"

    def _compare(self, name: str, right: bool) -> None:
        if right:
            self.kept += 1
        else:
            self.differing.append(name)

    @contextmanager
    def _whole(self, path: Path) -> Iterator[IO[bytes]]:
        """A file that appears once it is complete."""
        with whole(path, sync=False) as new, new.open("xb") as file:
            yield file


def encoded(pixels: np.ndarray, suffix: str) -> bytes:
    """A picture as the bytes of a .png or .jpg file; 16-bit grey stays 16 bits in the former."""
    buffer = io.BytesIO()
    if suffix == ".png":
        Image.fromarray(pixels).save(buffer, "PNG")
    else:
        Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def same_content(one: Path, other: Path) -> bool:
    """Whether two files hold the same bytes."""
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        while block := first.read(BLOCK):
            if block != second.read(BLOCK):
                return False
    return True


def _write(file: IO[bytes], data: bytes) -> None:
    file.write(data)


def _same_picture(old: bytes, new: bytes) -> bool:
    """Compressors differ in bytes, JPEG's also by a level here and there."""
    if old == new:
        return True
    try:
        pictures = [Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) for data in (old, new)]
        if pictures[0].size != pictures[1].size:  # what lies there may claim any size
            return False
        one, other = (np.asarray(picture).astype(np.int64) for picture in pictures)
    except (OSError, SyntaxError, ValueError):
        return False
    limit = 1.0 if new.startswith(b"\xff\xd8") else 0.0
    return one.shape == other.shape and float(np.abs(one - other).mean()) <= limit
