import numpy as np
import pytest
from PIL import Image

from evals.datasets import contact_sheet
from evals.datasets.catalogue import open_set


def test_the_command_draws_images_masks_and_depth(tmp_path, capsys):
    path = tmp_path / "sheet.png"
    given = ["scenes", "--size", "16", "--count", "5", "--columns", "3", "--rows", "1", "--out", str(path)]
    assert contact_sheet.main(given) == 0
    assert capsys.readouterr().out.strip() == str(path)
    assert np.asarray(Image.open(path).convert("RGB")).std() > 20
    assert list(tmp_path.iterdir()) == [path]


def test_a_set_without_masks_is_drawn_too(tmp_path):
    Image.new("RGB", (8, 6), "red").save(tmp_path / "a.png")
    figure = contact_sheet.draw(open_set("folder", root=tmp_path), columns=2)
    assert [len(axis.images) for axis in figure.axes] == [1, 0]


def test_every_class_has_a_colour_and_ignore_is_black():
    for count in (11, 39, 150):
        table = contact_sheet.colours(count)
        assert len({tuple(row) for row in table[:count]}) == count
        assert table[255].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["scens"], "gramlab: got data set kind 'scens'"),
        (
            ["scenes", "--out", "nowhere/sheet.png"],
            "gramlab: got --out nowhere/sheet.png: want a file in an existing folder",
        ),
        (["scenes", "--out", "sheet.txt"], "gramlab: got --out sheet.txt"),
        (["scenes", "--rows", "0"], "gramlab: got 8 columns and 0 rows: want at least 1"),
    ],
)
def test_bad_input_ends_in_one_line_and_code_2(given, message, capsys):
    assert contact_sheet.main(given) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1
