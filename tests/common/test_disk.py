"""Files and folders written whole and synced, whatever kills their writer; and read with what to do about damage."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from common import disk
from common.disk import append, fragment, matching, put, read_json, whole, write_json, write_text
from common.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("file", "folder")


def content(path: Path) -> list[str]:
    """What a file holds, or the files of a folder."""
    return [part.read_text() for part in sorted(path.iterdir())] if path.is_dir() else [path.read_text()]


def fill(kind: str, place: Path, text: str) -> None:
    if kind == "folder":
        place.mkdir()
        place = place / "a.txt"
    place.write_text(text)


def test_a_file_takes_its_place_when_it_is_complete(tmp_path: Path):
    path = tmp_path / "new" / "table.csv"
    with whole(path) as fragment:
        fragment.write_text("all of it")
        assert fragment.name == path.name
        assert fragment.parent.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "all of it"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_takes_its_place_when_it_is_complete(tmp_path: Path):
    folder = tmp_path / "new" / "step.000100"
    with whole(folder) as new:
        fill("folder", new, "all of it")
        assert new.parent.parent == folder.parent
        assert not folder.exists()
    assert content(folder) == ["all of it"]
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("was_there", [True, False])
def test_an_error_leaves_what_was_there_and_no_fragment(tmp_path: Path, kind: str, was_there: bool):
    path = tmp_path / "table.csv"
    if was_there:
        fill(kind, path, "old")

    def interrupted() -> None:
        with whole(path) as new:
            fill(kind, new, "half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert list(tmp_path.iterdir()) == ([path] if was_there else [])
    assert not was_there or content(path) == ["old"]


@pytest.mark.parametrize("kind", KINDS)
def test_two_writers_at_once_do_not_mix(tmp_path: Path, kind: str):
    path = tmp_path / "table.csv"
    with whole(path) as first:
        fill(kind, first, "one")
        with whole(path) as second:
            fill(kind, second, "two")
        assert content(path) == ["two"]
    assert content(path) == ["one"]
    assert list(tmp_path.iterdir()) == [path]


def test_many_writers_of_two_threads_leave_one_whole_file(tmp_path: Path):
    path = tmp_path / "table.csv"

    def write(letter: str) -> None:
        for _ in range(50):
            write_text(path, letter * 10_000)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content(path)[0] in ("a" * 10_000, "b" * 10_000)
    assert list(tmp_path.iterdir()) == [path]


WRITER = """
import sys, time
from pathlib import Path
from common.disk import whole
kind, path = sys.argv[1], Path(sys.argv[2])
with whole(path) as new:
    if kind == "folder":
        new.mkdir()
        new = new / "a.txt"
    with new.open("w") as file:
        file.write("half")
        file.flush()
        print("half-way", flush=True)
        time.sleep(600)
"""


@pytest.fixture
def writing() -> Iterator[Callable[[str, Path], subprocess.Popen]]:
    """Starts a process that is half-way through writing to a path, and stays there."""
    begun: list[subprocess.Popen] = []

    def begin(kind: str, path: Path) -> subprocess.Popen:
        command = [sys.executable, "-c", WRITER, kind, str(path)]
        begun.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        assert begun[-1].stdout
        assert begun[-1].stdout.readline() == "half-way\n"
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_writer_leaves_the_old_whole_and_the_next_writer_cleans_up(tmp_path: Path, writing, kind: str):
    path, other = tmp_path / "table.csv", tmp_path / "other.csv"
    fill(kind, path, "old")
    killed = writing(kind, path)
    killed.kill()
    killed.wait()
    assert content(path) == ["old"]
    (left,) = tmp_path.glob(".partial-*/*")
    assert content(left) == ["half"]
    writing(kind, path)  # the next writer, itself not done yet
    (its,) = tmp_path.glob(".partial-*")
    assert its != left.parent
    write_text(other, "elsewhere in the folder")
    assert sorted(tmp_path.iterdir()) == sorted([path, its, other])
    with whole(path) as new:
        fill(kind, new, "new")
    assert content(path) == ["new"]


DIES_WHILE_REPLACING = """
import os, sys
from pathlib import Path
from common.disk import whole
rename, names = Path.rename, []
def dying(self, target):
    names.append(self.name)
    if len(names) == 2:
        os._exit(9)
    return rename(self, target)
Path.rename = dying
with whole(Path(sys.argv[1])) as new:
    new.mkdir()
    (new / "a.txt").write_text("new")
"""


def test_a_folder_whose_writer_was_killed_while_replacing_it_comes_back(tmp_path: Path):
    folder = tmp_path / "step_000004"
    fill("folder", folder, "old")
    done = subprocess.run([sys.executable, "-c", DIES_WHILE_REPLACING, str(folder)], cwd=ROOT, check=False)
    assert done.returncode == 9
    assert not folder.exists()
    write_text(tmp_path / "b.csv", "the next writer")
    assert content(folder) == ["old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.csv", "step_000004"]


REPLACES = """
import sys
from pathlib import Path
from common.disk import whole
for _ in range(40):
    with whole(Path(sys.argv[1])) as new:
        new.mkdir()
        for name in "ab":
            (new / name).write_text(sys.argv[2])
"""


def test_processes_that_replace_one_folder_do_so_one_after_the_other(tmp_path: Path):
    folder = tmp_path / "shared"
    command = [sys.executable, "-c", REPLACES, str(folder)]
    running = [subprocess.Popen([*command, text], cwd=ROOT) for text in ("one", "two", "three")]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert content(folder) in (["one"] * 2, ["two"] * 2, ["three"] * 2)
    assert list(tmp_path.iterdir()) == [folder]


def test_what_another_has_put_there_stays_where_it_is_good(tmp_path: Path):
    path = tmp_path / "entry"
    fill("folder", path, "another's")
    with fragment(path) as new:
        fill("folder", new, "mine")
        put(new, path, unless=lambda: content(path) == ["another's"])
    assert content(path) == ["another's"]


def test_a_link_that_is_replaced_leaves_what_it_points_to(tmp_path: Path):
    target, folder = tmp_path / "elsewhere", tmp_path / "step"
    fill("folder", target, "old")
    folder.symlink_to(target)
    with whole(folder) as new:
        fill("folder", new, "new")
    assert (content(folder), content(target)) == (["new"], ["old"])
    assert sorted(tmp_path.iterdir()) == [target, folder]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int):
    folder = tmp_path / "out"
    fill("folder", folder, "old")
    renames: list[str] = []
    rename = Path.rename

    def failing_once(self: Path, target: Path) -> Path:
        renames.append(self.name)
        if len(renames) == failing:
            raise OSError("no space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing_once)
    with pytest.raises(OSError, match="no space"), whole(folder) as new:
        fill("folder", new, "new")
    assert content(folder) == ["old"]
    assert list(tmp_path.iterdir()) == [folder]


def test_what_is_not_put_in_place_is_removed(tmp_path: Path):
    kept, dropped = tmp_path / "kept.csv", tmp_path / "dropped.csv"
    with fragment(kept) as one, fragment(dropped) as other:
        one.write_text("wanted")
        other.write_text("not wanted any more")
        put(one, kept)
    assert list(tmp_path.iterdir()) == [kept]
    assert content(kept) == ["wanted"]


def test_appended_lines_are_synced_and_what_was_there_stays(tmp_path: Path, synced: list[Path]):
    path = tmp_path / "new" / "rows.jsonl"
    append(path, "1\n")
    append(path, "2\n3\n")
    assert path.read_text() == "1\n2\n3\n"
    assert synced == [path, path.parent] * 2


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "status.json"
    write_json(path, {"state": "running"})
    with pytest.raises(TypeError):
        write_json(path, {"state": object()})
    assert json.loads(path.read_text()) == {"state": "running"}
    assert [p.name for p in path.parent.iterdir()] == ["status.json"]


def test_what_was_written_is_read_and_what_is_damaged_is_named(tmp_path):
    path = tmp_path / "status.json"
    write_json(path, {"state": "done", "steps": 6})
    assert read_json(path, remedy="remove it") == {"state": "done", "steps": 6}
    whole = path.read_bytes()
    for damage in (b"", whole[:-5], b"\x00\xff", b'["done"]', b"null"):
        path.write_bytes(damage)
        with pytest.raises(BadInput) as error:
            read_json(path, remedy="do this")
        assert str(error.value).startswith(str(path))
        assert str(error.value).endswith("do this")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_all_reaches_the_disk_before_it_takes_the_place_of_the_old_and_the_new_name_after(
    tmp_path: Path, synced: list[Path], kind: str
):
    path = tmp_path / "table.csv"
    with whole(path) as new:
        fill(kind, new, "all of it")
        assert synced == []
    inside = [new / "a.txt"] if kind == "folder" else []
    assert synced == [*inside, new, tmp_path]


def test_a_file_is_as_long_as_it_gets_when_it_reaches_the_disk(tmp_path, monkeypatch):
    path, seen = tmp_path / "status.json", []
    real = os.fsync

    def fsync(descriptor):
        seen.append((os.fstat(descriptor).st_size, path.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_json(path, {"state": "done"})
    assert seen[0] == (path.stat().st_size, False)
    assert [exists for _, exists in seen] == [False, True]


def test_one_of_thousands_need_not_wait_for_the_disk(tmp_path: Path, synced: list[Path]):
    with whole(tmp_path / "image.png", sync=False) as new:
        new.write_text("pixels")
    assert content(tmp_path / "image.png") == ["pixels"]
    assert synced == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_system_that_cannot_sync_writes_all_the_same(tmp_path: Path, monkeypatch, kind: str, number: int):
    def unable(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", unable)
    with whole(tmp_path / "table.csv") as new:
        fill(kind, new, "all of it")
    assert content(tmp_path / "table.csv") == ["all of it"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_while_syncing_leaves_the_old_file(tmp_path: Path, monkeypatch, number: int):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def failing(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match=os.strerror(number)):
        write_text(path, "new")
    assert content(path) == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_fragment_that_is_swept_away_before_it_is_locked_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real, swept = os.open, []

    def opened(path: Path, *given: int) -> int:
        if not swept and Path(path).name.startswith(".partial-"):
            swept.append(path)
            Path(path).rmdir()
        return real(path, *given)

    monkeypatch.setattr(os, "open", opened)
    with whole(tmp_path / "a.txt") as new:
        new.write_text("all of it")
    assert (tmp_path / "a.txt").read_text() == "all of it"
    assert len(swept) == 1


def test_a_folder_whose_removal_is_cut_off_is_gone_and_its_rest_goes_with_the_next_sweep(tmp_path: Path, monkeypatch):
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "part").write_text("x")

    def cut_off(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as now:
        now.setattr(disk, "_remove", cut_off)
        with pytest.raises(KeyboardInterrupt):
            disk.remove(folder)
    assert not folder.exists()
    disk.sweep.cache_clear()
    disk.sweep(tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("pattern", "names"), [("*/*.npz", ["a/x", "b/x"]), ("**/*.npz", ["a/x", "b/x", "c"])])
def test_a_folder_that_goes_while_others_are_looked_for_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, names: list[str]
):
    for name in ("b", ".partial-1", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.npz").touch()
    (tmp_path / "c.npz").touch()

    def scandir(path: str | Path, listed=os.scandir) -> Iterator[os.DirEntry[str]]:
        if ".partial" in str(path) and Path(path).exists():
            Path(path).rename(tmp_path / "z")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert matching(tmp_path, pattern) == [tmp_path / f"{name}.npz" for name in names]
    assert matching(tmp_path / "gone", "*") == []


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_file_may_be_read_by_those_whom_the_mask_lets_whoever_wrote_it(
    tmp_path: Path, kind: str, mask: int, mode: int
):
    before = os.umask(mask)
    try:
        with whole(tmp_path / "a") as new:
            inside = new if kind == "file" else new / "b"
            inside.parent.mkdir(exist_ok=True)
            save_file({"x": np.zeros(3)}, inside)
    finally:
        os.umask(before)
    (written,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert written.stat().st_mode & 0o777 == mode


def test_a_file_that_has_another_name_elsewhere_keeps_its_rights(tmp_path: Path):
    (tmp_path / "a").touch()
    (tmp_path / "a").chmod(0o600)
    with whole(tmp_path / "b") as new:
        new.mkdir()
        (new / "a").hardlink_to(tmp_path / "a")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
