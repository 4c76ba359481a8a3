from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from common.errors import BadInput
from evals.datasets.set_file import is_set_file, read_set
from evals.datasets.settings import Set
from evals.pictures import contact_sheet
from evals.request import Wanted, open_task
from evals.tasks.methods import protocol_of


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Splits train, val and test of pictures of cats and dogs."""
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (8, 6), (number, 0, 0)).save(tmp_path / "pets" / split / name / f"{number}.png")
    return tmp_path / "pets"


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def knn_on(file: Path, data: str = "mine", classes: str | None = None):
    given = {data: classes} if classes else {}
    wanted = Wanted(f"knn@{data}", "knn", data)
    return open_task(wanted, protocol_of("knn"), roots={data: str(file)}, classes=given, cache=None)


def test_a_file_names_kind_and_root_and_the_root_counts_from_its_folder(pets, monkeypatch):
    path = written(pets.parent / "sets" / "mine.yaml", "kind: folder\nroot: ../pets\ncount: 4\n")
    assert read_set(path, called="mine", split="val") == Set(
        kind="folder", root=str(pets.parent / "sets" / ".." / "pets"), split="val", count=4
    )
    monkeypatch.setenv("PLACE", str(pets))
    there = written(path, "root: ${oc.env:PLACE}\n")
    assert read_set(there, called="mine", split="val") == Set(kind="folder", root=str(pets), split="val")


def test_a_silent_file_of_a_known_set_takes_its_kind_and_classes(tmp_path):
    (tmp_path / "camvid").mkdir()
    path = written(tmp_path / "here.yaml", "root: camvid\n")
    found = read_set(path, called="camvid", split="test")
    assert (found.kind, found.classes, found.split) == ("ade20k", ["camvid"], "test")


def test_an_evaluation_fits_on_train_and_judges_on_val_or_on_the_split_of_the_file(pets):
    silent = knn_on(written(pets.parent / "a.yaml", "{kind: folder, root: pets}"))
    assert [(one.split, one.name, len(one)) for one in (silent.train_set, silent.test_set)] == [
        ("train", "mine", 6),
        ("val", "mine", 4),
    ]
    told = knn_on(written(pets.parent / "b.yaml", "{kind: folder, root: pets, split: test, name: pets}"))
    assert [(one.split, one.name, len(one)) for one in (told.train_set, told.test_set)] == [
        ("train", "pets", 6),
        ("test", "pets", 2),
    ]


def test_classes_of_the_command_line_win_over_those_of_the_file(pets):
    path = written(pets.parent / "a.yaml", "{kind: folder, root: pets, classes: [dog, cat]}")
    assert knn_on(path).test_set.classes == ("dog", "cat")
    assert knn_on(path, classes="cat").test_set.classes == ("cat",)


def test_data_of_a_task_bears_the_name_of_its_file(pets):
    path = written(pets.parent / "animals.yaml", "{kind: folder, root: pets}")
    assert knn_on(path, data="knn").test_set.name == "animals"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "kind: floder\nroot: pets\n",
            "a.yaml: kind='floder': want one of scenes, folder, ade20k, nyu, manifest, shards; did you mean",
        ),
        ("kind: folder\n", "a.yaml: root=null: want the folder of a set of kind=folder"),
        ("count: 3\n", "a.yaml: got neither kind nor root: want kind: one of scenes, folder"),
        ("root: pets\nclass: [cat]\n", "a.yaml: unknown setting 'class'; did you mean classes"),
        ("root: pets\ncount: 0\n", "a.yaml: count=0: want a whole number, at least 1"),
        ("- pets\n", "a.yaml: without settings: want a mapping"),
        ("root: [\n", "a.yaml: line 2: expected the node content"),
        ("root: ${oc.env:NOWHERE_AT_ALL}\n", "NOWHERE_AT_ALL.*: want a folder; set the variable"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_its_name(pets, text, said):
    with pytest.raises(BadInput, match=said):
        read_set(written(pets.parent / "a.yaml", text), called="mine", split="val")


def test_a_missing_file_is_refused_and_a_folder_of_such_a_name_is_a_folder(tmp_path):
    with pytest.raises(BadInput, match=r"got no file .*none\.yaml: want a set's YAML with kind and root"):
        read_set(tmp_path / "none.yaml", called="none", split="val")
    (tmp_path / "odd.yaml").mkdir()
    assert not is_set_file(tmp_path / "odd.yaml")


def test_a_sheet_is_drawn_of_the_set_of_a_file(pets, tmp_path, capsys):
    path = written(pets.parent / "mine.yaml", "{kind: folder, root: pets}")
    assert contact_sheet.main([str(path), "--split", "val", "--out", str(tmp_path / "sheet.png")]) == 0
    assert (tmp_path / "sheet.png").stat().st_size
    assert contact_sheet.main([str(path), "--root", str(pets), "--out", str(tmp_path / "sheet.png")]) == 2
    assert "want the root that the file names" in capsys.readouterr().err
