"""Unpacks chosen files of somebody else's .zip: nowhere but in their place, and no more than its makers published."""

from __future__ import annotations

import io
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from common.errors import BadInput
from evals.datasets.preparing.downloads import Contents, Download
from evals.datasets.preparing.target import BLOCK, Target

ENTRY = 500  # bytes at most of a file's entry in the archive's list: its name and what is noted of it
# bz2 and LZMA are read without a limit on what a block of them becomes in memory; no published archive uses them
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# what zipfile and zlib raise for bytes that make no sense
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, UnicodeError, OverflowError)


def unpack(path: Path, target: Target, *, chosen: Callable[[str], str | None], want: Download) -> list[str]:
    """Unpack the members for which `chosen` gives a place below the target; the places, in the archive's order.

    Raises `BadInput` before anything is written for an archive that is damaged or cut off, holds more than `want`
    does as published, links, or names that lead out of its folder; while writing for a damaged member.
    """
    limits = want.contents
    assert limits is not None
    try:
        with _Listed(path, most=limits.files * ENTRY) as file, zipfile.ZipFile(file) as archive:
            places = _places(archive, path, chosen)
            if not places:
                raise BadInput(f"got no file of the set in {path}: want {want}; fetch that one")
            _refuse_more(places, path, limits)
            target.need_room(sum(i.file_size for name, i in places.items() if not (target.folder / name).exists()))
            _put_all(archive, path, places, target)
    except _DAMAGE as error:
        size = f"{path.stat().st_size:,} bytes"
        raise BadInput(f"got damaged archive {path} ({size}; {error}): want {want}; fetch it again") from error
    return list(places)


class _Listed(io.FileIO):
    """An archive's file; zipfile reads its list of files at once, which is refused where that is longer than `most`."""

    def __init__(self, path: Path, *, most: int) -> None:
        super().__init__(path)
        self._most = max(most, zipfile.ZIP_MAX_COMMENT + BLOCK)

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file."""
        if size is not None and size > self._most:
            raise BadInput(
                f"got a list of files of {size:,} bytes in {self.name}: want at most {self._most:,}; "
                "fetch the archive from its makers"
            )
        return super().read(size)


def _places(archive: zipfile.ZipFile, path: Path, chosen: Callable[[str], str | None]) -> dict[str, zipfile.ZipInfo]:
    places: dict[str, zipfile.ZipInfo] = {}
    alike: dict[str, str] = {}  # on some disks one file
    for info in archive.infolist():
        _refuse_unsafe(info, path)
        place = None if info.filename.endswith("/") else chosen(info.filename)
        if place is None:
            continue
        if not place.isprintable():
            raise BadInput(f"got the name {place!r} in {path}: want letters; fetch the archive from its makers")
        if place in places:
            raise BadInput(f"got {place} twice in {path}: want one file of a name; fetch it again")
        if (other := alike.setdefault(place.casefold(), place)) != place:
            got = f"got {other} and {place} in {path}"
            raise BadInput(f"{got}: want names that differ in more than their case; fetch it again")
        places[place] = info
    return places


def _refuse_unsafe(info: zipfile.ZipInfo, path: Path) -> None:
    """A name that leads out of the folder, a link, a device, a file under a password or of a strange compression."""
    name, mode = info.filename, info.external_attr >> 16
    outside = name.startswith("/") or "\\" in name or re.match(r"[A-Za-z]:", name) or ".." in PurePosixPath(name).parts
    kind = stat.S_IFMT(mode)
    reason = (
        "a name that leads out of its folder"
        if outside
        else "a link or device"
        if kind and kind not in (stat.S_IFREG, stat.S_IFDIR)
        else "a file under a password"
        if info.flag_bits & 1
        else "a compression other than deflate"
        if info.compress_type not in COMPRESSIONS
        else ""
    )
    if reason:
        raise BadInput(f"got {reason} in {path}, {name!r}: want plain files; fetch the archive from its makers")


def _refuse_more(places: dict[str, zipfile.ZipInfo], path: Path, limits: Contents) -> None:
    """Raises `BadInput` for more than was published, by what the archive says of its members."""
    name, largest = max(((name, info.file_size) for name, info in places.items()), key=lambda one: one[1])
    total = sum(info.file_size for info in places.values())
    for got, most, unit in (
        (largest, limits.largest, f"bytes in {name}"),
        (total, limits.total, "bytes in its files"),
        (len(places), limits.files, "files"),
    ):
        if got > most:
            raise BadInput(
                f"got {got:,} {unit} of {path}: want at most {most:,} as published; fetch the archive from its makers"
            )


def _put_all(archive: zipfile.ZipFile, path: Path, places: dict[str, zipfile.ZipInfo], target: Target) -> None:
    total = sum(info.file_size for info in places.values())
    with tqdm(total=total, desc=f"unpacking {path.name}", unit="B", unit_scale=True, disable=None) as bar:
        for name, info in places.items():
            _put(archive, path, info, name, target)
            bar.update(info.file_size)


def _put(archive: zipfile.ZipFile, path: Path, info: zipfile.ZipInfo, name: str, target: Target) -> None:
    def fill(file: IO[bytes]) -> None:
        with archive.open(info) as member:  # gives at most the bytes that the header says
            shutil.copyfileobj(member, file, BLOCK)
        if file.tell() != info.file_size:
            raise EOFError(f"{file.tell():,} bytes, its header says {info.file_size:,}")

    try:
        target.put(name, fill, right=lambda there: _is(there, info))
    except _DAMAGE as error:
        got = f"got damaged {info.filename} in {path} ({error})"
        raise BadInput(f"{got}: want the whole archive; fetch it again") from error


def _is(there: Path, info: zipfile.ZipInfo) -> bool:
    """Whether a file has the size and checksum of a member."""
    if not there.is_file() or there.stat().st_size != info.file_size:
        return False
    total = 0
    with there.open("rb") as file:
        while block := file.read(BLOCK):
            total = zlib.crc32(block, total)
    return total == info.CRC
