"""Where shards lie, on a disk or behind an address of fsspec, and how bytes of one are read from there."""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from common.addresses import without_secrets
from common.errors import BadInput, first_line, listing

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

MOST = 10**6  # shards that a pattern may name
WAITS = (0.5, 2.0, 8.0)  # seconds before another try, where an address did not answer
BLOCK = 1 << 20  # bytes that are fetched together while a remote shard is indexed
NETRC = """FSSPEC_HTTPS='{"client_kwargs": {"trust_env": true}}'"""  # with which aiohttp reads ~/.netrc
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


class ShardFault(BadInput):
    """A shard that is gone or changed, or whose store does not answer what was asked: no image in it is to blame."""


@dataclass(frozen=True)
class Shard:
    """One tar file: its path or address, and its name within the set."""

    url: str
    name: str

    @property
    def is_remote(self) -> bool:
        return is_address(self.url)

    def state(self) -> list[Any]:
        """What changes when the file does: its size, and its ETag or times where there are any.

        Raises:
            ShardFault: no such file, or no answer.
        """
        if not self.is_remote:
            try:
                found = Path(self.url).stat()
            except FileNotFoundError as error:
                raise _missing([self.url]) from error
            return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
        info = _asked(self.url, lambda fs, path: fs.info(path))
        if info.get("size") is None:
            raise ShardFault(
                f"got {self.url} from a server that does not tell its size: want one that does; use another"
            )
        times = (info.get(key) for key in ("ETag", "etag", "LastModified", "last_modified", "mtime", "created"))
        return [info["size"], next((str(one) for one in times if one is not None), None)]

    def opened(self) -> IO[bytes]:
        """The file, to be read from its beginning to its end; what reads it raises as `read` does."""
        if self.is_remote:
            return io.BufferedReader(_Ranges(self, self.state()[0]), BLOCK)
        return Path(self.url).open("rb")

    def read(self, start: int, length: int) -> bytes:
        """So many bytes from there, fewer where the file ends. Raises ShardFault; OSError as a disk does."""
        if self.is_remote:
            got = _asked(self.url, lambda fs, path: fs.cat_file(path, start=start, end=start + length))
            if len(got) > length:
                raise ShardFault(f"got all of {self.url} from a server that gives no byte ranges: want one that does")
            return got
        try:
            with Path(self.url).open("rb", buffering=0) as file:
                parts = bytearray()
                while part := os.pread(file.fileno(), length - len(parts), start + len(parts)):
                    parts += part
                return bytes(parts)
        except FileNotFoundError as error:
            raise _missing([self.url]) from error


class _Ranges(io.RawIOBase):
    """A remote shard of so many bytes as a file, of which every part is asked for, and asked again, by itself."""

    def __init__(self, shard: Shard, size: int) -> None:
        self.shard, self.size, self.at = shard, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + (0, self.at, self.size)[whence]
        return self.at

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self.size - self.at)
        part = self.shard.read(self.at, length) if length > 0 else b""
        buffer[: len(part)] = part
        self.at += len(part)
        return len(part)


def is_address(root: str | Path) -> bool:
    """Whether a root is an address of fsspec, as s3://bucket/a.tar, and no path."""
    return re.match(r"[a-z][a-z0-9+.-]+(::[a-z][a-z0-9+.-]+)*://", str(root)) is not None


def about_secrets(root: str) -> str | None:
    """What is said of an address that bears a password or token, which runs would write down; None of any other."""
    if not is_address(root) or (bare := without_secrets(root)) == root:
        return None
    where = (
        f"a line `machine HOST login USER password PASSWORD` of ~/.netrc, and set {NETRC} for it to be read"
        if re.search(r"https?://", root)
        else "the store's own variables or files, or ~/.config/fsspec/NAME.json"
    )
    return f"root={bare!r}: want an address without secrets, which a run writes down; put them into {where}"


def is_pattern(root: str) -> bool:
    """Whether a root names shards one by one, or as an address, and no file or folder."""
    return is_address(root) or (_BRACES.search(root) is not None and not Path(root).exists())


def shards_of(root: str, split: str) -> list[Shard]:
    """The shards that a root names: a pattern such as train-{000000..000012}.tar, or all .tar files of a folder.

    Raises:
        BadInput: no shard there, or some of a pattern that are missing.
    """
    if is_address(root):
        urls = expanded(root)
    else:
        folder = Path(root)
        urls = _in_folder(folder, split) if folder.is_dir() else expanded(root)
        if missing := [url for url in urls if not Path(url).is_file()]:
            raise _missing(missing, len(urls))
    return [Shard(url, name) for url, name in zip(urls, _names(urls), strict=True)]


def _in_folder(folder: Path, split: str) -> list[str]:
    from evals.datasets.layouts.files import split_folder

    inside = split_folder(folder, split) or folder
    found = sorted(str(path) for path in inside.glob("*.tar") if path.is_file() and not path.name.startswith("."))
    if not found:
        raise BadInput(f"got no .tar file in {inside}: want shards there; correct root, or name them as a-{{0..9}}.tar")
    return found


def _missing(urls: Sequence[str], of: int = 1) -> ShardFault:
    share = f"{len(urls):,} of {of:,} shards" if of > 1 else "no shard"
    gone = f"that are missing ({listing(urls)})" if of > 1 else urls[0]
    return ShardFault(f"got {share} {gone}: want files; finish the download, or correct root")


def expanded(pattern: str) -> list[str]:
    """Every name that a pattern with braces stands for, as a shell and WebDataset have them: {000..012}, {a,b}."""
    texts, braces = _BRACES.split(pattern)[::2], _BRACES.findall(pattern)
    choices = [_choices(inside, pattern) for inside in braces]
    count = 1
    for one in choices:
        count *= len(one)
    if count > MOST:
        raise BadInput(f"got {pattern}, which names {count:,} shards: want at most {MOST:,}; correct the numbers")
    return ["".join(part for pair in zip(texts, (*own, ""), strict=True) for part in pair) for own in product(*choices)]


def _choices(inside: str, pattern: str) -> Sequence[str]:
    if numbers := _RANGE.fullmatch(inside):
        first, last = (int(number) for number in numbers.groups())
        if last < first or last - first >= MOST:
            raise BadInput(f"got {{{inside}}} in {pattern}: want a first number and a last one, as {{000000..000012}}")
        width = len(numbers[1]) if numbers[1].startswith("0") else 0
        return [f"{number:0{width}d}" for number in range(first, last + 1)]
    if "," in inside:
        return inside.split(",")
    raise BadInput(f"got {{{inside}}} in {pattern}: want numbers as {{000000..000012}}, or names as {{train,val}}")


def _names(urls: Sequence[str]) -> list[str]:
    """The names below the folder that all share, each once."""
    if len({*urls}) < len(urls):
        again = next(url for at, url in enumerate(urls) if url in urls[:at])
        raise BadInput(f"got {again} twice: want each shard once; correct root")
    folder = os.path.commonpath([PurePosixPath(url).parent for url in urls])
    return [PurePosixPath(url).relative_to(folder).as_posix() for url in urls]


@lru_cache(maxsize=64)
def _system(protocol: str, process: int) -> AbstractFileSystem:
    """The file system of a protocol, one for each process: what talks to a server does not survive a fork."""
    import fsspec

    return fsspec.filesystem(protocol.split("::")[0], skip_instance_cache=protocol != "memory")


def _asked(url: str, ask: Any) -> Any:
    """What a file system answers, asked again where it does not.

    Raises:
        BadInput: no such file system.
        ShardFault: no such file, or no answer.
    """
    try:
        fs = _system(url.partition("://")[0], os.getpid())
        path = fs._strip_protocol(url)
    except (ImportError, ValueError) as error:
        raise BadInput(f"got {url} ({first_line(error)}): want an address that fsspec reads; install that") from error
    for wait in (*WAITS, None):
        try:
            return ask(fs, path)
        except FileNotFoundError as error:
            raise _missing([url]) from error
        except Exception as error:  # each protocol has errors of its own
            if wait is None:
                got = f"got no answer for {url} ({first_line(error)})"
                do = "no image is at fault: give the same command again once it answers, which goes on"
                raise ShardFault(f"{got}: want its store within reach; {do}") from error
            time.sleep(wait)
    raise AssertionError
