"""What lies where in a shard: read once from all of its headers, kept in the cache, and read from there as needed.

An index is an Arrow file that is mapped into memory, a row for each image: `image`, its name; `at` and `size`, the
bytes that hold it; `header`, the CRC-32 of the 512 bytes before them, which tell whether they still are what was
indexed; `label`, the text of its .cls, where there is one. A sample is all files that share a name up to the first dot
of its last part, as WebDataset has it.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pyarrow as pa

from common.bounded import used
from common.disk import whole
from common.errors import BadInput, first_line, printable
from common.unwritable import in_cache
from evals.datasets.layouts.files import suffixes
from evals.datasets.layouts.shards.places import Shard

VERSION = 1  # raise when an index holds something else
BLOCK = 512  # bytes of a header, and what all parts of a tar file are filled up to
LONGEST = 4096  # bytes of a .cls
KEY = b"gramlab"
SCHEMA = pa.schema(
    [("image", pa.string()), ("at", pa.int64()), ("size", pa.int64()), ("header", pa.uint32()), ("label", pa.string())]
)


@dataclass(frozen=True)
class Index:
    """The images of a shard; `digest` is a hash of their names and sizes, `alone` names samples without an image.

    anew: the shard has changed since it was indexed before.
    """

    rows: pa.Table
    digest: str
    alone: tuple[str, ...]
    anew: bool = False


def indexed(shard: Shard, cache: Path | None) -> Index:
    """The index of a shard as it is now: as it is kept, or made anew where there is none or the shard has changed.

    Raises:
        BadInput: a shard that is missing, cut off or no tar file, or holds what is no file of a sample.
    """
    state = shard.state()
    kept = None if cache is None else cache / "shards" / f"{hashlib.sha256(shard.url.encode()).hexdigest()[:32]}.arrow"
    if cache is not None and kept is not None:
        used(cache, kept)
    found = None if kept is None else _kept(kept)
    if found is not None and found[0]["state"] == state:
        about, rows = found
        return Index(rows, about["digest"], tuple(about["alone"]))
    rows, alone = _scanned(shard, state[0])
    about = {"version": VERSION, "url": shard.url, "state": state, "digest": _digest(rows), "alone": alone}
    if kept is not None:
        with in_cache(), whole(kept) as new, pa.OSFile(str(new), "wb") as file:
            schema = SCHEMA.with_metadata({KEY: json.dumps(about).encode()})
            with pa.ipc.new_file(file, schema) as writer:
                writer.write_table(rows)
        rows = (_kept(kept) or (about, rows))[1]
    return Index(rows, about["digest"], tuple(alone), anew=found is not None)


def _kept(path: Path) -> tuple[dict[str, Any], pa.Table] | None:
    """What the cache holds, mapped into memory; None where it holds nothing of this version that is whole."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        about = json.loads((table.schema.metadata or {})[KEY])
        return (about, table) if about["version"] == VERSION and table.schema.equals(SCHEMA) else None
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError):
        return None


def _digest(rows: pa.Table) -> str:
    found = hashlib.sha256()
    for batch in rows.to_batches():
        found.update(json.dumps([batch.column(name).to_pylist() for name in ("image", "size", "label")]).encode())
    return found.hexdigest()


def _scanned(shard: Shard, size: int) -> tuple[pa.Table, list[str]]:
    """All images of a shard, and the samples that have none."""
    images, labels = dict[str, tuple[str, int, int, int]](), dict[str, str | None]()
    try:
        with shard.opened() as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in _members(tar, shard):
                sample, kind = _parted(member.name)
                labels.setdefault(sample, None)
                if f".{kind}" in suffixes():
                    if sample in images:
                        got = f"got two images of sample {sample} in {shard.url} ({images[sample][0]}, {member.name})"
                        raise BadInput(f"{got}: want one, and each sample once; write the shard again")
                    header = zlib.crc32(_at(file, member.offset_data - BLOCK, BLOCK))
                    images[sample] = (member.name, member.offset_data, member.size, header)
                elif kind == "cls":
                    labels[sample] = _label(_at(file, member.offset_data, min(member.size, LONGEST)), member, shard)
            _refuse_cut(file, tar.offset, size, shard)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise _no_tar(shard, error) from error
    rows = [(*row, labels[sample]) for sample, row in images.items()]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(SCHEMA)
    return pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA), sorted(labels.keys() - images.keys())


def _members(tar: tarfile.TarFile, shard: Shard) -> Iterator[tarfile.TarInfo]:
    """The files of an archive.

    Raises:
        BadInput: a link or device, a negative size, a name that leads out of the archive or comes twice.
    """
    seen = set[str]()
    while (member := tar.next()) is not None:
        tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]: which would hold all of them
        name = printable(member.name)
        if member.size < 0:
            raise BadInput(f"got {name} of {member.size} bytes in {shard.url}: want a whole tar file; write it again")
        if member.isdir():
            continue
        if not member.isreg() or member.issparse():
            kind = "a link" if member.issym() or member.islnk() else "something that is no plain file"
            raise BadInput(f"got {kind}, {name}, in {shard.url}: want files alone; write the shard again without it")
        if member.name.startswith("/") or ".." in PurePosixPath(member.name).parts or "\\" in member.name:
            raise BadInput(
                f"got the name {name} in {shard.url}, which leads out of it: want names within; make it again"
            )
        if (place := str(PurePosixPath(member.name))) in seen:  # ./a.jpg is a.jpg
            raise BadInput(f"got {name} twice in {shard.url}: want each name once; write the shard again")
        seen.add(place)
        if not PurePosixPath(member.name).name.startswith("."):
            member.name = name
            yield member


def _parted(name: str) -> tuple[str, str]:
    """A member's sample, and what of it it is: a/0001 and seg.png of a/0001.seg.png and of ./a/0001.seg.png."""
    folder, _, last = str(PurePosixPath(name)).rpartition("/")
    key, _, kind = last.partition(".")
    return f"{folder}/{key}" if folder else key, kind.lower()


def _label(content: bytes, member: tarfile.TarInfo, shard: Shard) -> str:
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        text = ""
    if not text or "\n" in text or member.size > LONGEST:
        raise BadInput(f"got no class in {member.name} of {shard.url}: want a number or a name as text; write it again")
    return text


def _at(file: IO[bytes], start: int, length: int) -> bytes:
    file.seek(start)
    return file.read(length)


def _refuse_cut(file: IO[bytes], end: int, size: int, shard: Shard) -> None:
    """Raises `BadInput` where the zeros are missing with which every tar file ends."""
    if size < end + BLOCK or _at(file, end, BLOCK).strip(b"\0"):
        raise BadInput(
            f"got {shard.url}, broken off at {end:,} of {size:,} bytes: want a whole tar file; fetch it again"
        )


def _no_tar(shard: Shard, error: Exception) -> BadInput:
    packed = shard.url.endswith((".gz", ".tgz", ".bz2", ".xz", ".zst"))
    do = "unpack it, since members of a compressed one cannot be read by themselves" if packed else "fetch it again"
    return BadInput(f"got {shard.url} ({first_line(error)}): want a whole tar file that is not compressed; {do}")


def told_alone(indices: list[Index]) -> dict[str, list[str]]:
    """Samples that have no image, for the line of the set."""
    names = [name for index in indices for name in index.alone]
    return {"sample without an image": names} if names else {}
