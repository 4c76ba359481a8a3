"""Names that are no UTF-8, or hold letters that no font of ours has, pass through every command of the evaluations."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import printable
from evals.datasets.catalogue import open_set
from evals.datasets.layouts.files import digest
from evals.pictures import contact_sheet
from evals.results import outcomes, table
from evals.run import main

CLASSES = (b"caf\xe9", b"caf\xe8", "猫".encode(), "a\tb 🦊".encode())
SHOWN = ("caf\\xe8", "caf\\xe9", "a\tb 🦊", "猫")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four classes of one colour each, with names of bytes in the folder of the set, of classes and of files."""
    root = tmp_path / os.fsdecode(b"ph\xf6tos")
    for split, count in (("train", 6), ("val", 2)):
        for number, name in enumerate(CLASSES):
            folder = root / split / os.fsdecode(name)
            folder.mkdir(parents=True)
            for image in range(count):
                picture = np.full((16, 16, 3), 40 + 50 * number, dtype=np.uint8)
                Image.fromarray(picture).save(folder / os.fsdecode(b"\xff%d.png" % image))
    return root


def test_names_of_utf8_are_hashed_as_ever_and_others_too(tmp_path):
    for name in ("é.png", os.fsdecode(b"\xe9.png")):
        (tmp_path / name).write_bytes(b"12345")
    settings = repr(("folder",)).encode()
    for name in (b"\xc3\xa9.png", b"\xe9.png"):
        wanted = hashlib.sha256(settings + name + b"\x005\n").hexdigest()
        assert digest([tmp_path / os.fsdecode(name)], "folder") == wanted


def test_names_become_text_that_stays_distinct(photos):
    assert printable("ö/猫.png") == "ö/猫.png"
    dataset = open_set("folder", root=photos)
    assert dataset.name == "ph\\xf6tos"
    assert sorted(dataset.classes) == sorted(SHOWN)
    keys = [dataset.key(index) for index in range(len(dataset))]
    assert len(set(keys)) == 24
    assert "train/caf\\xe9/\\xff0.png" in keys
    "".join(keys).encode()


def test_an_evaluation_of_such_names_ends_with_rows_outcomes_and_pictures(photos, tmp_path, capfd):
    out = tmp_path / os.fsdecode(b"o\xfct")
    given = ["random:test_vit", "knn", "--data", f"knn={photos}", "--sizes", "64", "--cache", str(tmp_path / "cache")]
    assert main([*given, "--validate"]) == 0
    assert "ph\\xf6tos/val: 8 images, all readable" in capfd.readouterr().out
    assert main([*given, "--out", str(out), "--plot"]) == 0
    assert "knn on ph\\xf6tos/val at 64 px, 8 images" in capfd.readouterr().out
    assert table.load(out / "results.jsonl")["dataset"].tolist() == ["ph\\xf6tos"]
    found = outcomes.load_outcomes(next((out / "outcomes").iterdir()))
    assert "val/caf\\xe9/\\xff0.png" in list(found["keys"])
    assert len(list((out / "plots").glob("*.png"))) == 1


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_letters_that_the_font_lacks_are_drawn_as_their_numbers(photos, tmp_path, capfd, suffix):
    path = tmp_path / f"sheet{suffix}"
    assert contact_sheet.main(["folder", "--root", str(photos), "--out", str(path)]) == 0
    assert capfd.readouterr() == (f"{path}\n", "")
    titles = [axes.get_title() for axes in contact_sheet.draw(open_set("folder", root=photos)).axes]
    assert set(SHOWN) <= set(titles)
