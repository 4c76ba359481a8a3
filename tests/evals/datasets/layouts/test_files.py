import hashlib
import os
import shutil
from pathlib import Path

import pytest

from common.errors import BadInput, listing
from evals.datasets.layouts.files import digest, images_below, split_folder, stamp


def test_hidden_files_and_circles_of_links_are_passed_over(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    for name in ("z.PNG", "a/b/x.jpeg", ".hidden/h.png", "a/._x.jpg", "a/notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in images_below(tmp_path)] == ["a/b/x.jpeg", "z.PNG"]


def test_customary_names_of_a_split_are_understood(tmp_path):
    assert split_folder(tmp_path, "train") is None
    (tmp_path / "training").mkdir()
    assert split_folder(tmp_path, "train") == tmp_path / "training"
    (tmp_path / "train").mkdir()
    assert split_folder(tmp_path, "train") == tmp_path / "train"
    with pytest.raises(BadInput, match=r"got split 'val' for .*: want one of train, training"):
        split_folder(tmp_path, "val")


def test_the_digest_changes_with_files_and_settings(tmp_path):
    path = tmp_path / "a"
    path.write_text("1")
    first = digest([path], "x")
    assert digest([path], "x") == first != digest([path], "y")
    path.write_text("22")
    assert digest([path], "x") != first


def plain_hash(paths, settings, facts):
    """The digest by its definition: every path is resolved on its own."""
    total = hashlib.sha256(repr(settings).encode())
    real = [path.resolve() for path in paths]
    shared = Path(os.path.commonpath([path.parent for path in real])) if real else Path()
    for path in real:
        told = "\0".join(str(getattr(path.stat(), fact)) for fact in facts)
        total.update(f"{path.relative_to(shared)}\0{told}\n".encode())
    return total.hexdigest()


@pytest.fixture
def linked(tmp_path):
    """Files as they are, links to files beside them and elsewhere, and files below linked folders."""
    for number, name in enumerate(("set/a/1.png", "set/a/2.png", "set/b/deep/3.png", "other/4.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x" * number)
    (tmp_path / "set" / "a" / "link.png").symlink_to("1.png")
    (tmp_path / "set" / "far.png").symlink_to(tmp_path / "other" / "4.png")
    (tmp_path / "set" / "again.png").symlink_to("far.png")
    (tmp_path / "set" / "folder").symlink_to("b", target_is_directory=True)
    return tmp_path / "set"


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["a/1.png"],
        ["a/2.png", "a/1.png"],
        ["a/1.png", "b/deep/3.png", "a/link.png"],
        ["folder/deep/3.png", "a/../a/1.png"],
        ["a/1.png", "far.png", "again.png"],
        ["far.png"],
    ],
)
def test_digest_and_stamp_are_those_of_the_files_behind_all_links(linked, names, monkeypatch):
    monkeypatch.chdir(linked)
    sizes, all_facts = ["st_size"], ["st_size", "st_mtime_ns", "st_ctime_ns", "st_ino"]
    for paths in ([linked / name for name in names], [Path(name) for name in names]):
        assert digest(paths, "x", 1) == plain_hash(paths, ("x", 1), sizes)
        assert stamp(paths, "x", 1) == plain_hash(paths, ("x", 1), all_facts)


def test_a_fingerprint_looks_at_each_file_once(tmp_path, monkeypatch):
    paths = [tmp_path / f"{number}.png" for number in range(50)]
    for path in paths:
        path.touch()
    looks = []
    plain, resolve = os.lstat, os.stat
    monkeypatch.setattr(os, "lstat", lambda *given, **how: looks.append(given) or plain(*given, **how))
    monkeypatch.setattr(os, "stat", lambda *given, **how: looks.append(given) or resolve(*given, **how))
    digest(paths)
    assert len(looks) < 2 * len(paths)


def test_the_stamp_tells_a_file_replaced_by_one_of_its_size_and_date(tmp_path):
    path = tmp_path / "a"
    path.write_text("1")
    before, digested = stamp([path], "x"), digest([path], "x")
    assert stamp([path], "x") == before != stamp([path], "y")
    dates = path.stat().st_atime_ns, path.stat().st_mtime_ns
    (tmp_path / "b").write_text("2")
    (tmp_path / "b").replace(path)
    os.utime(path, ns=dates)
    assert digest([path], "x") == digested
    assert stamp([path], "x") != before


def test_the_stamp_tells_a_copy_from_its_original(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a").write_text("1")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    places = [tmp_path / folder / "a" for folder in ("here", "there")]
    assert len({digest([place]) for place in places}) == 1
    assert len({stamp([place]) for place in places}) == 2


def test_a_listing_is_cut_short():
    assert listing(["a", "b", "c"]) == "a, b, c"
    assert listing(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
