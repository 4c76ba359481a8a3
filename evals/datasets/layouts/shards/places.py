"""Where shards lie, on a disk or behind an address of fsspec, and how bytes of one are read from there."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from common.errors import BadInput, first_line, listing

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

MOST = 10**6  # shards that a pattern may name
WAITS = (0.5, 2.0, 8.0)  # seconds before another try, where an address did not answer
BLOCK = 1 << 20  # bytes that are fetched together while a remote shard is indexed
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


class Unanswered(BadInput):
    """An address that does not answer, or not what was asked: no image is to blame."""


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
            BadInput: no such file; `Unanswered`.
        """
        if not self.is_remote:
            try:
                found = Path(self.url).stat()
            except FileNotFoundError as error:
                raise _missing([self.url]) from error
            return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
        info = _asked(self.url, lambda fs, path: fs.info(path))
        if info.get("size") is None:
            raise Unanswered(
                f"got {self.url} from a server that does not tell its size: want one that does; use another"
            )
        times = (info.get(key) for key in ("ETag", "etag", "LastModified", "last_modified", "mtime", "created"))
        return [info["size"], next((str(one) for one in times if one is not None), None)]

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """The file, to be read from its beginning to its end."""
        if not self.is_remote:
            with Path(self.url).open("rb") as file:
                yield file
            return
        with _asked(self.url, lambda fs, path: fs.open(path, "rb", block_size=BLOCK)) as file:
            yield file

    def read(self, start: int, length: int) -> bytes:
        """So many bytes from there, fewer where the file ends. Raises OSError of a disk, `Unanswered` of an address."""
        if self.is_remote:
            got = _asked(self.url, lambda fs, path: fs.cat_file(path, start=start, end=start + length))
            if len(got) > length:
                raise Unanswered(f"got all of {self.url} from a server that gives no byte ranges: want one that does")
            return got
        with Path(self.url).open("rb", buffering=0) as file:
            parts = bytearray()
            while part := os.pread(file.fileno(), length - len(parts), start + len(parts)):
                parts += part
            return bytes(parts)


def is_address(root: str | Path) -> bool:
    """Whether a root is an address of fsspec, as s3://bucket/a.tar, and no path."""
    return re.match(r"[a-z][a-z0-9+.-]+(::[a-z][a-z0-9+.-]+)*://", str(root)) is not None


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


def _missing(urls: Sequence[str], of: int = 1) -> BadInput:
    share = f"{len(urls):,} of {of:,} shards" if of > 1 else "no shard"
    gone = f"that are missing ({listing(urls)})" if of > 1 else urls[0]
    return BadInput(f"got {share} {gone}: want files; finish the download, or correct root")


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
        BadInput: no such file, or no such file system; `Unanswered`.
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
                raise Unanswered(
                    f"{got}: want it within reach; see to that, and give the same command again"
                ) from error
            time.sleep(wait)
    raise AssertionError
