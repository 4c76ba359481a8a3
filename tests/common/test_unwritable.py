"""What keeps a file from being written is told in one line, whichever library was writing."""

from __future__ import annotations

import errno
import json
import os
import pickle
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import save_file

from common.disk import append, whole, write_json
from common.errors import BadInput
from common.unwritable import Unwritable, in_cache, staying, writing

NOISE = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
MOST = 40_000  # bytes; every writer below wants more


def drawn(path: Path) -> None:
    figure = Figure()
    figure.subplots().imshow(NOISE)
    figure.savefig(path)


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.safetensors": lambda path: save_file({"x": torch.zeros(MOST)}, path),
    "a.npy": lambda path: np.save(path, np.zeros(MOST)),
    "a.npz": lambda path: np.savez_compressed(path, x=NOISE),
    "a.pdf": drawn,
    "a.png": lambda path: Image.fromarray(NOISE).save(path),
    "a.csv": lambda path: pd.DataFrame({"x": np.arange(MOST)}).to_csv(path),
    "a.txt": lambda path: path.write_text("x" * 2 * MOST),
}


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], capture_output=True).returncode:
        pytest.skip("no right to mount a small disk here; the limit on file sizes shows the same, below")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_finds_no_room_is_named_with_the_reason_and_nothing_of_it_stays(
    tmp_path: Path, files_at_most, name: str
):
    with files_at_most(MOST), pytest.raises(Unwritable) as error, whole(tmp_path / name) as new:
        WRITERS[name](new)
    said = str(error.value)
    assert said.startswith(f"cannot write {tmp_path / name} (")
    assert name == "a.npy" or "(File too large): raise the limit on the size of files" in said
    assert "\n" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_told_with_what_it_has_left(full: Path, name: str):
    with pytest.raises(Unwritable, match=r" MB free\): make room there$") as error, whole(full / name) as new:
        WRITERS[name](new)
    assert str(error.value).startswith(f"cannot write {full / name} (")
    assert name == "a.npy" or "(No space left on device, " in str(error.value)
    assert list(full.iterdir()) == []
    with whole(full / "small.txt") as new:
        new.write_text("there is room for this")


def test_a_table_on_a_full_disk_is_named(full: Path):
    append(full / "rows.jsonl", "1\n")
    with pytest.raises(Unwritable, match=r"cannot write .*/rows.jsonl \(No space left on device, 0.0 MB free\)"):
        append(full / "rows.jsonl", "x" * 100_000)


def test_the_numberless_error_of_numpy_is_told_with_what_the_disk_has_left(tmp_path: Path, files_at_most):
    with (
        files_at_most(MOST),
        pytest.raises(Unwritable, match=r"\(40000 requested and \d+ written, [\d.]+ [GM]B free\): make room there$"),
        whole(tmp_path / "a.npy") as new,
    ):
        np.save(new, np.zeros(MOST))


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room there"),
        (errno.EDQUOT, "make room in your quota"),
        (errno.EROFS, "make that place writable, or name another"),
        (errno.EACCES, "make that place writable, or name another"),
        (errno.EIO, "check that disk"),
        (errno.ENFILE, "close programs that hold many files open"),
        (errno.ESTALE, "mend that"),
    ],
)
def test_every_reason_has_its_remedy(tmp_path: Path, number: int, remedy: str):
    def fails() -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(Unwritable) as error, whole(tmp_path / "a.txt"):
        fails()
    assert str(error.value).startswith(f"cannot write {tmp_path / 'a.txt'} ({os.strerror(number)}")
    assert str(error.value).endswith(f"): {remedy}")


def test_too_many_open_files_are_told(tmp_path: Path):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4, before[1]))
    try:
        with pytest.raises(Unwritable) as error:
            write_json(tmp_path / "a.json", {})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert str(error.value) == f"cannot write {tmp_path}/a.json (Too many open files): raise the limit on open files " \
        "(ulimit -n)"  # fmt: skip


def test_a_name_that_is_too_long_is_told(tmp_path: Path):
    with pytest.raises(Unwritable, match=r"\(File name too long\): choose shorter names"):
        write_json(tmp_path / ("a" * 300), {})


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path):
    (tmp_path / "runs").write_text("mine")
    for write in (lambda path: write_json(path, {}), lambda path: append(path, "1\n")):
        with pytest.raises(Unwritable, match=r"cannot write .*/runs/a/b \(Not a directory\)"):
            write(tmp_path / "runs" / "a" / "b")
    assert (tmp_path / "runs").read_text() == "mine"


def test_a_disk_that_became_read_only_is_told(full: Path):
    subprocess.run(["mount", "-o", "remount,ro", full], check=True)
    with pytest.raises(Unwritable, match=r"\(Read-only file system\): make that place writable, or name another$"):
        write_json(full / "a.json", {})


def test_errors_about_other_files_and_of_other_kinds_pass_as_they_are(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="nowhere"), whole(tmp_path / "a.txt"):
        Path("/nowhere/at/all").read_text()
    with pytest.raises(json.JSONDecodeError), writing(tmp_path / "a.txt"):
        json.loads("{")
    with pytest.raises(OSError, match="image file is truncated") as error, whole(tmp_path / "a.txt"):
        raise OSError("image file is truncated")
    assert not isinstance(error.value, Unwritable)


def test_what_a_worker_could_not_write_comes_back_whole(tmp_path: Path):
    error = Unwritable("cannot write a (full): make room there")
    error.add_note("a note")
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), back.__notes__) == (Unwritable, str(error), ["a note"])


def test_a_cache_may_lie_elsewhere_which_is_said_once(tmp_path: Path):
    words = r"\): make room there, or name another cache \(runtime.cache="
    with pytest.raises(Unwritable, match=words) as error, in_cache(), in_cache(), whole(tmp_path / "features"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (str(error.value).count("cannot write"), str(error.value).count("another cache")) == (1, 1)


def test_a_folder_that_was_removed_is_not_made_anew(tmp_path: Path):
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    with staying(run):
        write_json(run / "job" / "status.json", {})
        shutil.rmtree(run)
        for write in (lambda path: write_json(path, {}), lambda path: append(path, "1\n")):
            with pytest.raises(Unwritable, match=rf"cannot write .*: {run} was removed, moved or replaced since"):
                write(run / "job" / "status.json")
        write_json(tmp_path / "runs" / "b" / "status.json", {})
        assert not run.exists()
    write_json(run / "job" / "status.json", {})


def test_a_folder_that_was_removed_in_the_midst_of_a_write_is_told_as_such(tmp_path: Path):
    def removes(path: Path) -> None:
        with whole(path) as new:
            shutil.rmtree(path.parent)
            new.write_text("x")

    run = tmp_path / "a"
    run.mkdir()
    words = rf"^cannot write {run}/b: {run} was removed, moved or replaced since this command began"
    with staying(run), pytest.raises(Unwritable, match=words):
        removes(run / "b")
    with pytest.raises(Unwritable, match=r"\(No such file or directory\): put its folder back$"):
        removes(tmp_path / "c" / "d")


def test_bad_input_inside_passes_whatever_it_says(tmp_path: Path):
    with pytest.raises(BadInput, match=r"^weights cannot be read \(os error 5\)$"), whole(tmp_path / "a"):
        raise BadInput("weights cannot be read (os error 5)")


def test_a_folder_that_another_has_replaced_is_not_written_to(tmp_path: Path):
    run = tmp_path / "a"
    run.mkdir()
    with staying(run):
        run.rename(tmp_path / "moved")
        run.mkdir()
        with pytest.raises(Unwritable, match="was removed, moved or replaced"):
            append(run / "rows.jsonl", "1\n")
        assert list(run.iterdir()) == []
        run.rmdir()
        (tmp_path / "moved").rename(run)
        append(run / "rows.jsonl", "1\n")
    assert (run / "rows.jsonl").read_text() == "1\n"
