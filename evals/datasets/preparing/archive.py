"""Unpacks chosen files of a .zip that somebody else made, so that it can write nowhere but in its place."""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from common.errors import BadInput
from evals.datasets.preparing.target import BLOCK, Target


def unpack(path: Path, target: Target, *, chosen: Callable[[str], str | None], want: str) -> list[str]:
    """Unpack the members for which `chosen` gives a place below the target; the places, in the archive's order.

    `want` says what the archive should be. Raises `BadInput` before anything is written for an archive that is
    damaged or cut off, holds links, or names that lead out of its folder; while writing for a damaged member.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            places = _places(archive, path, chosen)
            if not places:
                raise BadInput(f"got no file of the set in {path}: want {want}; fetch that one")
            target.need_room(sum(i.file_size for name, i in places.items() if not (target.folder / name).exists()))
            with tqdm(
                total=sum(info.file_size for info in places.values()),
                desc=f"unpacking {path.name}",
                unit="B",
                unit_scale=True,
                disable=None,
            ) as bar:
                for name, info in places.items():
                    _put(archive, path, info, name, target)
                    bar.update(info.file_size)
    except zipfile.BadZipFile as error:
        size = f"{path.stat().st_size:,} bytes"
        raise BadInput(f"got damaged archive {path} ({size}; {error}): want {want}; fetch it again") from error
    return list(places)


def _places(archive: zipfile.ZipFile, path: Path, chosen: Callable[[str], str | None]) -> dict[str, zipfile.ZipInfo]:
    places: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        _refuse_unsafe(info, path)
        place = None if info.is_dir() else chosen(info.filename)
        if place is None:
            continue
        if place in places:
            raise BadInput(f"got {place} twice in {path}: want one file of a name; fetch it again")
        places[place] = info
    return places


def _refuse_unsafe(info: zipfile.ZipInfo, path: Path) -> None:
    """A name that leads out of the folder, a link, a device or a file under a password."""
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
        else ""
    )
    if reason:
        raise BadInput(f"got {reason} in {path}, {name!r}: want plain files; fetch the archive from its makers")


def _put(archive: zipfile.ZipFile, path: Path, info: zipfile.ZipInfo, name: str, target: Target) -> None:
    def fill(file: IO[bytes]) -> None:
        with archive.open(info) as member:
            shutil.copyfileobj(member, file, BLOCK)

    try:
        target.put(name, fill, right=lambda there: _is(there, info))
    # NotImplementedError is zipfile's word for a compression that it does not know
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
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
