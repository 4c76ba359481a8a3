"""Hostile archives through the command: one line, nothing outside the target, no more bytes than were published."""

from __future__ import annotations

import io
import random
import shutil
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from common.errors import BadInput
from evals.datasets.preparing.ade20k import place_of
from evals.datasets.preparing.archive import ENTRY, unpack
from evals.datasets.preparing.downloads import SCENE_PARSING
from evals.datasets.preparing.target import Target
from evals.prepare import main

TOP = "ADEChallengeData2016"
FIRST = f"{TOP}/images/training/ADE_train_00000001.jpg"
CONTENTS = SCENE_PARSING.contents
assert CONTENTS is not None


def sound() -> dict[str, bytes]:
    """A small set as it is published."""
    found = {}
    for split, short in (("training", "train"), ("validation", "val")):
        for folder, suffix, kind in (("images", "jpg", "JPEG"), ("annotations", "png", "PNG")):
            pixels = np.ones((8, 8, 3) if kind == "JPEG" else (8, 8), np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, kind)
            found[f"{TOP}/{folder}/{split}/ADE_{short}_00000001.{suffix}"] = buffer.getvalue()
    return found


def add(archive: zipfile.ZipFile, name: str, data: bytes = b"x", **about: int) -> zipfile.ZipInfo:
    """A member whose list entry says of itself what `about` says, whatever it is."""
    info = zipfile.ZipInfo("placeholder")
    info.filename, info.compress_type = name, zipfile.ZIP_DEFLATED
    info.external_attr = about.pop("mode", 0) << 16
    archive.writestr(info, data)
    for key, value in about.items():
        setattr(info, key, value)
    return info


def many(archive: zipfile.ZipFile) -> None:
    for number in range(CONTENTS.files + 1):
        archive.writestr(f"{TOP}/images/training/{number}.jpg", b"")


def sixty_four(archive: zipfile.ZipFile) -> None:
    """Each member within its limit, by sizes that only zip64 can hold all of them too large."""
    for number in range(200):
        add(archive, f"{TOP}/images/training/{number}.jpg", b"\0" * 10, file_size=CONTENTS.largest)


KINDS: dict[str, tuple[Callable[[zipfile.ZipFile], object], str]] = {
    "a name above the folder": (lambda z: add(z, "../escaped.jpg"), "a name that leads out of its folder"),
    "a name above it, further in": (lambda z: add(z, f"{TOP}/images/training/../../../../e.jpg"), "leads out of its"),
    "an absolute name": (lambda z: add(z, "/escaped.jpg"), "a name that leads out of its folder"),
    "a drive": (lambda z: add(z, "C:escaped.jpg"), "a name that leads out of its folder"),
    "backslashes": (lambda z: add(z, "images\\..\\..\\escaped.jpg"), "a name that leads out of its folder"),
    "a link": (lambda z: add(z, f"{TOP}/l", b"/etc/passwd", mode=stat.S_IFLNK | 0o777), "a link or device"),
    "a link to a folder": (lambda z: add(z, f"{TOP}/images", b"/tmp", mode=stat.S_IFLNK | 0o777), "a link or device"),
    "a device": (lambda z: add(z, f"{TOP}/d", mode=stat.S_IFCHR | 0o666), "a link or device"),
    "a pipe": (lambda z: add(z, f"{TOP}/p", mode=stat.S_IFIFO | 0o666), "a link or device"),
    "a password": (lambda z: add(z, f"{TOP}/secret.jpg", flag_bits=1), "a file under a password"),
    "one name twice": (lambda z: add(z, FIRST), "got images/training/ADE_train_00000001.jpg twice in"),
    "one name in two folders": (lambda z: add(z, f"copy/{FIRST}"), "got images/training/ADE_train_00000001.jpg twice"),
    "names that differ in case": (
        lambda z: add(z, FIRST.replace("ADE_", "ade_")),
        "that differ in more than their case",
    ),
    "a name of two lines": (lambda z: add(z, f"{TOP}/images/training/a\nb.jpg"), "got the name 'images/training/a"),
    "a bomb": (
        lambda z: add(z, f"{TOP}/images/training/b.jpg", bytes(CONTENTS.largest + 1)),
        "got 16,000,001 bytes in images/training/b.jpg of",
    ),
    "a bomb of bz2": (lambda z: z.writestr(f"{TOP}/b.jpg", bytes(10**6), zipfile.ZIP_BZIP2), "other than deflate"),
    "a bomb of LZMA": (lambda z: z.writestr(f"{TOP}/b.jpg", bytes(10**6), zipfile.ZIP_LZMA), "other than deflate"),
    "a size of three gigabytes": (
        lambda z: add(z, f"{TOP}/images/training/b.jpg", file_size=3 * 2**30),
        "got 3,221,225,472 bytes in images/training/b.jpg of",
    ),
    "a size that only zip64 holds": (
        lambda z: add(z, f"{TOP}/images/training/b.jpg", file_size=2**45),
        "got 35,184,372,088,832 bytes in images/training/b.jpg of",
    ),
    "many large members": (sixty_four, "bytes in its files of"),
    "too many members": (many, "got 44,505 files of"),
    "a size that says too little": (
        lambda z: add(z, f"{TOP}/images/training/b.jpg", bytes(10**6), file_size=10),
        f"got damaged {TOP}/images/training/b.jpg",
    ),
    "a size that says too much": (
        lambda z: add(z, f"{TOP}/images/training/b.jpg", bytes(10), file_size=10**6),
        f"got damaged {TOP}/images/training/b.jpg",
    ),
    "a name that is another in its place": (
        lambda z: setattr(add(z, f"{TOP}/images/training/b.jpg"), "filename", f"{TOP}/images/training/c.jpg"),
        f"got damaged {TOP}/images/training/c.jpg",
    ),
    "an archive called an image": (
        lambda z: add(z, f"{TOP}/images/training/b.jpg", zipped({"../escaped.jpg": b"x"})),
        "b.jpg",
    ),
}


def zipped(members: dict[str, bytes], more: Callable[[zipfile.ZipFile], object] = lambda _: None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        more(archive)
    return buffer.getvalue()


@pytest.fixture
def refused(tmp_path, capsys):
    """Prepares from an archive of these bytes; the one line of refusal, nothing having escaped or grown too large."""

    def refuse(content: bytes) -> str:
        downloads = tmp_path / "downloads"
        downloads.mkdir()
        (downloads / "ADEChallengeData2016.zip").write_bytes(content)
        code = main(["ade20k", "--from", str(downloads), "--to", str(tmp_path / "set")])
        said = [line for line in capsys.readouterr().err.splitlines() if "%|" not in line]
        assert (code, len(said), said[0][:9]) == (2, 1, "gramlab: ")
        assert {path.name for path in tmp_path.iterdir()} <= {"downloads", "set"}
        written = [path for path in (tmp_path / "set").rglob("*") if not path.is_dir()]
        assert all(path.is_file() and not path.is_symlink() for path in written)
        assert not [path for path in written if ".partial" in str(path)]
        assert sum(path.stat().st_size for path in written) <= sum(map(len, sound().values())) + 1000
        return said[0]

    return refuse


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_hostile_archive_is_refused_in_one_line_and_writes_nothing_but_the_set(refused, kind):
    spoil, said = KINDS[kind]
    assert said in refused(zipped(sound(), spoil))


def test_a_tar_called_a_zip_is_refused(refused):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in sound().items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    assert "File is not a zip file): want ADEChallengeData2016.zip, ADE20K scene parsing" in refused(buffer.getvalue())


def test_an_archive_in_an_archive_is_not_opened(refused):
    assert "got no file of the set in" in refused(zipped({"ADEChallengeData2016.zip": zipped(sound())}))


def test_a_list_of_files_that_would_fill_the_memory_is_refused_unread(refused):
    """The end of the archive says that its list is long; the file is, since nothing of it takes room on the disk."""
    long = CONTENTS.files * ENTRY + 1
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, long, 0, 0)
    assert f"got a list of files of {long:,} bytes in" in refused(bytes(long) + end)


def test_an_archive_as_published_is_unpacked_and_a_member_without_a_name_passed_over(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped(sound(), lambda archive: add(archive, "")))
    places = unpack(tmp_path / "a.zip", Target(tmp_path / "set"), chosen=place_of, want=SCENE_PARSING)
    assert places == [name.removeprefix(f"{TOP}/") for name in sound()]
    for name, data in sound().items():
        assert (tmp_path / "set" / name.removeprefix(f"{TOP}/")).read_bytes() == data


def test_whatever_byte_of_an_archive_is_wrong_the_answer_is_one_line(tmp_path):
    content, path, draw, said = zipped(sound()), tmp_path / "a.zip", random.Random(0), []
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(draw.choice((1, 2, 5))):
            damaged[draw.randrange(len(damaged))] = draw.choice((0, 255, draw.randrange(256)))
        path.write_bytes(damaged)
        try:
            unpack(path, Target(tmp_path / "set"), chosen=place_of, want=SCENE_PARSING)
        except BadInput as error:
            said.append(str(error))
        shutil.rmtree(tmp_path / "set", ignore_errors=True)
    assert len(said) > 100
    assert not [one for one in said if "\n" in one]
    assert [found.name for found in tmp_path.iterdir()] == ["a.zip"]
