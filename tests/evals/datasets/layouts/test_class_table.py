from __future__ import annotations

import pytest
from PIL import Image

from common.errors import BadInput
from evals.datasets.catalogue import open_set
from evals.datasets.inventory import line
from evals.datasets.layouts.class_table import read_table
from evals.datasets.reading import Reading
from evals.datasets.settings import Set

TABLE = Reading(table="labels.csv")


@pytest.fixture
def scans(tmp_path):
    """A folder for each patient, which is no class."""
    for number, name in enumerate(("p1/a.png", "p1/b.png", "p2/c.png", "p3/d.png", "p3/e.png")):
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 6), number).save(path)
    return tmp_path / "scans"


def table(scans, *lines, between=","):
    (scans / "labels.csv").write_text("\n".join(lines).replace(",", between), encoding="utf-8")


def read(scans, split="train", **given):
    found = open_set("folder", root=scans, split=split, reading=TABLE, **given)
    return {found.key(index): found.classes[found.label(index)] for index in range(len(found))}


@pytest.mark.parametrize("between", [",", ";", "\t", ", "])
def test_a_table_names_class_and_split_of_each_image(scans, between):
    lines = ["file,class,split,age", "p1/a.png,ill,train,7", "p1/b.png,well,train,7", "p3/d.png,ill,validation,8"]
    table(scans, *lines, between=between)
    assert read(scans) == {"p1/a.png": "ill", "p1/b.png": "well"}
    assert read(scans, "val") == {"p3/d.png": "ill"}
    told = line("scans/train", open_set("folder", root=scans, reading=TABLE).found())
    assert told == (
        "scans/train: 2 images, 2 classes; skipped 3: 1 no picture by its suffix (labels.csv), 2 not in the table "
        "(p2/c.png)"
    )
    with pytest.raises(BadInput, match=r"got split 'test' for .*labels\.csv: want one of train, validation"):
        read(scans, "test")


def test_without_a_column_folders_tell_the_splits_or_there_are_none(scans):
    table(scans, "file,class", "p1/a.png,ill", "p3/e.png,well")
    assert read(scans) == read(scans, "val") == {"p1/a.png": "ill", "p3/e.png": "well"}
    assert open_set("folder", root=scans, reading=TABLE).found().remarks == (
        "no splits in labels.csv or folders, so 'train' is all of it",
    )
    (scans / "p1").rename(scans / "train")
    (scans / "p3").rename(scans / "val")
    (scans / "p2" / "c.png").unlink()
    table(scans, "file,class", "train/a.png,ill", "val/e.png,well")
    assert (read(scans), read(scans, "val")) == ({"train/a.png": "ill"}, {"val/e.png": "well"})


def test_classes_choose_and_order_those_of_the_table(scans):
    table(scans, "file,class", "p1/a.png,ill", "p1/b.png,odd", "p3/e.png,well")
    chosen = open_set("folder", root=scans, reading=TABLE, classes=["well", "ill"])
    assert [chosen.label(index) for index in range(2)] == [1, 0]
    with pytest.raises(BadInput, match=r"got class 'wel' for .*labels\.csv: want one of ill, odd, well; did you mean"):
        open_set("folder", root=scans, reading=TABLE, classes=["wel"])


def test_other_classes_in_the_table_are_another_set(scans):
    prints = []
    for label in ("ill", "odd", "ill"):
        table(scans, "file,class", "p1/a.png,ill", "p1/b.png,odd", f"p3/e.png,{label}")
        prints.append(open_set("folder", root=scans, reading=TABLE).fingerprint())
    assert prints[0] == prints[2] != prints[1]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            ["image,class", "p1/a.png,ill"],
            r"got the columns image, class in .*labels\.csv: want a header with file and",
        ),
        (["file,Class", "p1/a.png,ill"], r"did you mean 'Class'\?"),
        (["file,class", "p1/a.png,"], r"got line 2 of .*labels\.csv without class"),
        (["file,class", "p1/a.png,ill", "p9/x.png,ill"], r"got no image for 1 of the 2 lines of .*\(p9/x\.png\): want"),
        (["file,class", "../a.png,ill"], r"got \.\./a\.png in line 2 .*: want names below the set's root"),
        (
            ["file,class", "p1/a.png,ill", "p1/a.png,odd"],
            r"got the classes ill and odd for p1/a\.png in .*: want one; ",
        ),
        (["file,class"], r"got no image for split 'train' in .*labels\.csv: want lines of it"),
    ],
)
def test_a_table_that_is_wrong_is_refused_by_its_line(scans, lines, said):
    table(scans, *lines)
    with pytest.raises(BadInput, match=said):
        read(scans)


def test_no_table_and_no_text_are_named(scans):
    with pytest.raises(BadInput, match=r"got no table .*labels\.csv: want a header with file and class"):
        read(scans)
    (scans / "labels.csv").write_bytes(b"file,class\np1/a.png,\xff\n")
    with pytest.raises(BadInput, match=r"got unreadable table .*labels\.csv .*: want UTF-8"):
        read(scans)


def test_a_table_beside_settings_that_deny_it_is_refused(scans):
    with pytest.raises(BadInput, match=r"classes=\[\]: want none beside table"):
        Set(kind="folder", root=str(scans), table="labels.csv", classes=[])
    with pytest.raises(BadInput, match=r"table='labels\.csv': want it for kind=folder alone"):
        Set(kind="nyu", root=str(scans), table="labels.csv")


def test_a_quote_that_nobody_closes_is_refused_by_its_line(tmp_path):
    path = tmp_path / "labels.csv"
    rows = "".join(f"{number}.png,cat\n" for number in range(20_000))
    path.write_text('file,class\na.png,cat\n"b.png,dog\n' + rows)
    with pytest.raises(BadInput, match=r"got line 3 of .*labels\.csv .*: want quotes in pairs; correct it"):
        read_table(path)


def test_any_name_stands_in_a_table(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text('file,class\n"a,\u2028b.png",cat\n', encoding="utf-8")
    assert [row.file for row in read_table(path)] == ["a,\u2028b.png"]
