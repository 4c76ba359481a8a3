"""Shards: what a folder holds, read from tar files by ranges, and every way in which such a file can be wrong."""

import io
import re
import shutil
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from common.errors import BadInput
from evals.datasets.catalogue import open_set
from evals.datasets.layouts.image_folder import ImageFolder
from evals.datasets.layouts.shards import index as index_file
from evals.datasets.layouts.shards.places import expanded
from evals.datasets.set_file import read_set
from evals.datasets.settings import Set, open_one
from harness.data.pool import open_pool
from harness.data_settings import Data


def packed(path, members):
    """A tar file of named contents, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def png(shade, size=(9, 7)):
    draw = np.random.default_rng(shade)
    file = io.BytesIO()
    Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Six images in two classes, and the same in two shards."""
    shards = [[], []]
    for number in range(6):
        title, content = ("cat", "dog")[number // 3], png(number)
        path = tmp_path / "photos" / title / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        shards[number // 3] += [
            (f"{number}.png", content),
            (f"{number}.cls", title.encode()),
            (f"{number}.json", b"{}"),
        ]
    for number, members in enumerate(shards):
        packed(tmp_path / "shards" / f"train-{number:06d}.tar", members)
    return tmp_path


def pattern(folder):
    return str(folder / "shards" / "train-{000000..000001}.tar")


def same_images(one, other):
    return len(one) == len(other) and all(np.array_equal(one.image(at), other.image(at)) for at in range(len(one)))


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("root", [pattern, lambda folder: folder / "shards"])
def test_shards_hold_what_their_folder_holds(folder, root, cached):
    cache = folder / "cache" if cached else None
    for _ in range(2):  # the second time from the index in the cache
        found = open_set("shards", root=root(folder), cache=cache)
        photos = ImageFolder(folder / "photos")
        assert same_images(found, photos)
        assert found.classes == photos.classes == ("cat", "dog")
        assert [found.label(at) for at in range(6)] == [photos.label(at) for at in range(6)]
        assert [found.key(at) for at in (0, 5)] == ["train-000000.tar/0.png", "train-000001.tar/5.png"]
        assert str(found.found().remarks[0]) == "2 shards"


def test_a_shard_of_a_folder_as_tar_packs_it_has_its_classes(tmp_path):
    packed(tmp_path / "a.tar", [("./0.png", png(0)), ("0.cls", b"cat"), ("a//1.png", png(1)), ("./a/1.cls", b"dog")])
    found = open_set("shards", root=tmp_path / "a.tar")
    assert (found.classes, list(found.labels), found.found().skipped) == (("cat", "dog"), [0, 1], {})


def test_any_order_of_draws_gives_the_same_images(folder):
    found = open_set("shards", root=pattern(folder))
    in_order = [found.image(at) for at in range(6)]
    for at in np.random.default_rng(0).integers(0, 6, 30).tolist():
        assert np.array_equal(found.image(at), in_order[at])


def test_classes_are_chosen_ordered_and_left_out(folder):
    dogs = open_set("shards", root=pattern(folder), classes=["dog"])
    assert (len(dogs), dogs.classes, dogs.key(0), dogs.label(0)) == (3, ("dog",), "train-000001.tar/3.png", 0)
    turned = open_set("shards", root=pattern(folder), classes=["dog", "cat"], count=2)
    assert [turned.label(at) for at in range(2)] == [1, 0]
    assert open_set("shards", root=pattern(folder), classes=[]).classes == ()
    with pytest.raises(BadInput, match=r"got class 'dogs' for .*: want one of cat, dog; did you mean 'dog'"):
        open_set("shards", root=pattern(folder), classes=["dogs"])


def test_numbers_as_classes_are_ordered_as_numbers(tmp_path):
    members = [pair for n in (10, 9, 2) for pair in ((f"{n}.png", png(n)), (f"{n}.cls", str(n).encode()))]
    found = open_set("shards", root=packed(tmp_path / "a.tar", members))
    assert found.classes == ("2", "9", "10")
    assert [found.label(at) for at in range(3)] == [2, 1, 0]


def test_a_fingerprint_is_of_names_and_sizes_wherever_shards_lie(folder, tmp_path):
    own = open_set("shards", root=pattern(folder))
    shutil.copytree(folder / "shards", tmp_path / "copy" / "shards")
    copy = open_set("shards", root=tmp_path / "copy" / "shards")
    assert own.fingerprint() == copy.fingerprint()
    assert own.stamp() != copy.stamp()
    assert open_set("shards", root=pattern(folder), count=3).fingerprint() != own.fingerprint()
    assert open_set("shards", root=pattern(folder), classes=[]).fingerprint() != own.fingerprint()
    packed(folder / "shards" / "train-000001.tar", [("3.png", png(9)), ("3.cls", b"cat")])
    assert open_set("shards", root=pattern(folder)).fingerprint() != own.fingerprint()


def test_an_index_is_read_once_and_anew_where_its_shard_has_changed(folder, monkeypatch):
    scans = []
    real = index_file._scanned
    monkeypatch.setattr(index_file, "_scanned", lambda shard, size: scans.append(shard.name) or real(shard, size))
    for _ in range(2):
        open_set("shards", root=pattern(folder), cache=folder / "cache")
    assert scans == ["train-000000.tar", "train-000001.tar"]
    packed(folder / "shards" / "train-000001.tar", [("7.png", png(7)), ("7.cls", b"dog")])
    found = open_set("shards", root=pattern(folder), cache=folder / "cache")
    assert scans[2:] == ["train-000001.tar"]
    assert "1 changed since indexed before, so indexed anew (train-000001.tar)" in found.found().remarks
    assert open_set("shards", root=pattern(folder), cache=folder / "cache").found().remarks == ("2 shards",)
    assert (len(found), found.key(3)) == (4, "train-000001.tar/7.png")
    for path in (folder / "cache" / "shards").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert len(open_set("shards", root=pattern(folder), cache=folder / "cache")) == 4


def test_a_shard_that_changes_under_an_open_set_is_no_image_of_it(folder):
    found = open_set("shards", root=pattern(folder))
    packed(folder / "shards" / "train-000000.tar", [(f"{n}.png", png(n + 20)) for n in range(3)])
    with pytest.raises(BadInput, match=r"got other bytes in \S+train-000000\.tar where 2\.png was when .* was indexed"):
        found.image(2)
    (folder / "shards" / "train-000000.tar").write_bytes(b"")
    with pytest.raises(BadInput, match="got other bytes"):
        found.image(0)


def test_an_image_that_is_broken_in_its_shard_is_named_and_may_be_excluded(folder):
    packed(
        folder / "shards" / "train-000001.tar",
        [("3.png", png(3)[:60]), ("3.cls", b"dog"), ("4.png", png(4)), ("4.cls", b"dog")],
    )
    found = open_one("x", Set(kind="shards", root=pattern(folder)), cache=None)
    with pytest.raises(BadInput, match=r"got unreadable image \S+/train-000001\.tar/3\.png \("):
        found.image(3)
    less = open_one("x", Set(kind="shards", root=pattern(folder), exclude=("train-000001.tar/3.png",)), cache=None)
    assert (len(less), less.key(3)) == (4, "train-000001.tar/4.png")


def link(info):
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"


def hard_link(info):
    info.type, info.linkname = tarfile.LNKTYPE, "0.png"


def device(info):
    info.type = tarfile.CHRTYPE


def negative(info):
    info.size = -700


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("../0.png", None, r"got the name \.\./0\.png in \S+, which leads out"),
        ("a/../../0.png", None, "which leads out"),
        ("/etc/0.png", None, r"got the name /etc/0\.png"),
        ("..\\0.png", None, "which leads out"),
        ("b.png", link, r"got a link, b\.png, in "),
        ("b.png", hard_link, r"got a link, b\.png, in "),
        ("b.png", device, r"got something that is no plain file, b\.png, in "),
        ("0.png", None, r"got 0\.png twice in "),
        ("./0.png", None, r"got \./0\.png twice in "),
        ("b.png", negative, r"got b\.png of -700 bytes in "),
        ("./0.jpg", None, r"got two images of sample 0 in \S+ \(0\.png, \./0\.jpg\)"),
        ("0.jpg", None, r"got two images of sample 0 in \S+ \(0\.png, 0\.jpg\)"),
    ],
)
def test_what_is_no_file_of_a_sample_is_refused_by_name(tmp_path, name, spoil, said):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for own in ("0.png", name):
            info = tarfile.TarInfo(own)
            if own == name and spoil:
                spoil(info)
                tar.addfile(info)
            else:
                info.size = len(png(0))
                tar.addfile(info, io.BytesIO(png(0)))
    with pytest.raises(BadInput, match=said) as error:
        open_set("shards", root=path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("cut", [100, 512, 700, 1024, 1536])
def test_a_shard_that_is_cut_off_anywhere_is_refused(tmp_path, cut):
    path = packed(tmp_path / "a.tar", [("0.png", png(0)), ("1.png", png(1))])
    with tarfile.open(path) as tar:
        end = tar.getmembers()[-1].offset_data + tar.getmembers()[-1].size
    whole = path.read_bytes()
    assert cut < -(-end // 512) * 512
    path.write_bytes(whole[:cut])
    with pytest.raises(BadInput, match=r"got \S+a\.tar.*: want a whole tar file"):
        open_set("shards", root=path)
    path.write_bytes(whole[: -(-end // 512) * 512])  # all images are there, but not its end
    with pytest.raises(BadInput, match="broken off at"):
        open_set("shards", root=path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "want a whole tar file"),
        (b"no tar" * 500, "want a whole tar file"),
        (b"\x1f\x8b" + bytes(2000), "want a whole"),
    ],
)
def test_what_is_no_tar_file_is_refused(tmp_path, content, said):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(BadInput, match=said):
        open_set("shards", root=tmp_path / "a.tar")


def test_a_compressed_shard_is_refused_with_what_to_do(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("0.png")
        info.size = len(png(0))
        tar.addfile(info, io.BytesIO(png(0)))
    with pytest.raises(BadInput, match="that is not compressed; unpack it"):
        open_set("shards", root=tmp_path / "a.tar.gz")


def test_missing_shards_of_a_pattern_are_named(folder):
    with pytest.raises(
        BadInput, match=r"got 2 of 4 shards that are missing \(\S+train-000002\.tar, \S+train-000003\.tar\)"
    ):
        open_set("shards", root=folder / "shards" / "train-{000000..000003}.tar")
    with pytest.raises(BadInput, match=r"got no shard \S+none\.tar: want files"):
        open_set("shards", root=folder / "none.tar")
    with pytest.raises(BadInput, match=r"got no \.tar file in \S+photos"):
        open_set("shards", root=folder / "photos")


def test_samples_without_an_image_and_a_shard_without_any_are_told(tmp_path):
    path = packed(tmp_path / "a.tar", [("0.png", png(0)), ("1.json", b"{}"), ("d/2.txt", b"a cat")])
    assert open_set("shards", root=path).found().skipped == {"sample without an image": ["1", "d/2"]}
    with pytest.raises(BadInput, match="got no image in "):
        open_set("shards", root=packed(tmp_path / "b.tar", [("1.json", b"{}")]))


def test_other_pictures_of_a_sample_are_no_images(tmp_path):
    path = packed(tmp_path / "a.tar", [("d/0.seg.png", png(1)), ("d/0.PNG", png(0)), ("d/.hidden.png", b"")])
    found = open_set("shards", root=path)
    assert [found.key(at) for at in range(len(found))] == ["a.tar/d/0.PNG"]


def test_classes_that_some_lack_or_that_are_none_are_refused(tmp_path):
    some = packed(tmp_path / "a.tar", [("0.png", png(0)), ("0.cls", b"3"), ("1.png", png(1))])
    with pytest.raises(BadInput, match=r"got 1 of 2 images of \S+ with a \.cls: want all or none"):
        open_set("shards", root=some)
    assert len(open_set("shards", root=some, classes=[])) == 2
    for content in (b"", b"\xff\xfe", b"a\nb", b"1" * 5000):
        path = packed(tmp_path / "b.tar", [("0.png", png(0)), ("0.cls", content)])
        with pytest.raises(BadInput, match=r"got no class in 0\.cls of "):
            open_set("shards", root=path)


def test_settings_of_masks_and_of_other_kinds_are_refused(folder):
    with pytest.raises(BadInput, match=r"got depth_scale for \S+: want none, shards are read for their images"):
        open_one("x", Set(kind="shards", root=pattern(folder), depth_scale=5.0), cache=None)
    with pytest.raises(
        BadInput, match=r"got address s3://a/b for a set of kind 'folder': want a folder, or kind: shards"
    ):
        open_set("folder", root="s3://a/b")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("a-{9..11}.tar", ["a-9.tar", "a-10.tar", "a-11.tar"]),
        ("{a,b}/{0..1}.tar", ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]),
        ("plain.tar", ["plain.tar"]),
    ],
)
def test_patterns_stand_for_what_a_shell_makes_of_them(text, names):
    assert expanded(text) == names


@pytest.mark.parametrize("text", ["a-{3..1}.tar", "a-{x}.tar", "a-{}.tar", "a-{0..99999999}.tar", "{0..9999}{0..9999}"])
def test_patterns_that_stand_for_nothing_or_too_much_are_refused(text):
    with pytest.raises(BadInput, match="want"):
        expanded(text)


@pytest.fixture
def in_memory(folder):
    """The shards behind fsspec's own memory."""
    fs = fsspec.filesystem("memory")
    for path in (folder / "shards").iterdir():
        fs.pipe(f"/bucket/{path.name}", path.read_bytes())
    yield "memory://bucket/train-{000000..000001}.tar"
    fs.store.clear()


def test_shards_behind_an_address_are_those_of_the_disk(folder, in_memory):
    for cache in (None, folder / "cache", folder / "cache"):
        found = open_set("shards", root=in_memory, cache=cache)
        assert same_images(found, ImageFolder(folder / "photos"))
        assert found.fingerprint() == open_set("shards", root=pattern(folder)).fingerprint()
    with pytest.raises(BadInput, match=r"got no shard memory://bucket/none\.tar"):
        open_set("shards", root="memory://bucket/none.tar")


def test_an_address_stays_what_it_is_in_a_sets_file(folder, in_memory):
    path = folder / "photos.yaml"
    path.write_text(f"kind: shards\nroot: '{in_memory}'\n")
    assert read_set(path, called="photos", split="train").root == in_memory
    path.write_text("kind: shards\nroot: 'shards/train-{000000..000001}.tar'\n")
    relative = read_set(path, called="photos", split="train").root
    assert relative is not None
    assert len(open_set("shards", root=relative)) == 6
    assert Path(relative).parent == folder / "shards"


def test_an_address_that_no_file_system_reads_is_refused():
    with pytest.raises(BadInput, match=r"got nosuch://a/b\.tar \(.*\): want an address that fsspec reads"):
        open_set("shards", root="nosuch://a/b.tar")


@pytest.mark.parametrize(
    ("root", "bare", "where"),
    [
        ("https://me:p@ss/w@host/a-{0..1}.tar", "https://…@host/a-{0..1}.tar", "~/.netrc, and set FSSPEC_HTTPS="),
        ("http://s3cret@host:80/a.tar", "http://…@host:80/a.tar", "~/.netrc"),
        ("simplecache::https://me:s3cret@host/a.tar", "simplecache::https://…@host/a.tar", "~/.netrc"),
        ("ftp://me:s3cret@host/a.tar", "ftp://…@host/a.tar", "the store's own variables or files"),
        ("s3://b/a.tar?x=1&X-Amz-Signature=s3cret&y=2", "s3://b/a.tar?x=1&X-Amz-Signature=…&y=2", "the store's own"),
        ("https://host/a.tar?sig=s3cret", "https://host/a.tar?sig=…", "~/.netrc"),
    ],
)
def test_an_address_with_a_secret_is_refused_without_it(root, bare, where):
    with pytest.raises(BadInput) as told:
        Set(kind="shards", root=root)
    assert re.search("s3cret|p@ss", str(told.value)) is None
    assert f"root={bare!r}: want an address without secrets" in str(told.value)
    assert where in str(told.value)


@pytest.mark.parametrize(
    "root",
    [
        "https://host:8080/a@b.tar",
        "https://[::1]:80/a@b.tar",
        "sftp://me@host/a.tar",
        "abfs://box@me.dfs.core.windows.net/a.tar",
        "hf://datasets/me/photos@main/a.tar",
        "https://host/a.tar?download=true",
        "/data/a:b@c/a.tar",
    ],
)
def test_an_address_without_a_secret_is_taken(root):
    assert Set(kind="shards", root=root).root == root


def test_a_shard_that_changed_or_is_gone_is_not_blamed_on_an_image(folder):
    pool = open_pool(Data(sources={"photos": Set(kind="shards", root=pattern(folder))}))
    packed(folder / "shards" / "train-000000.tar", [(f"{n}.png", png(n + 20)) for n in range(3)])
    with pytest.raises(BadInput, match=r"got other bytes .*; put it back, or begin another run with the new one$"):
        pool.image(2)
    (folder / "shards" / "train-000000.tar").unlink()
    with pytest.raises(BadInput, match=r"got no shard \S+train-000000\.tar: want files; finish .* or correct root$"):
        pool.image(2)
