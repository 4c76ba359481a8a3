import numpy as np
import pytest
from PIL import Image

from common.palette import UNLABELLED, colours
from evals.datasets.catalogue import open_set
from evals.datasets.labelled_set import IGNORE
from evals.pictures import contact_sheet
from evals.pictures.sheet import style


def test_the_command_draws_images_masks_and_depth(tmp_path, capsys):
    path = tmp_path / "sheet.png"
    given = ["scenes", "--size", "16", "--count", "5", "--columns", "3", "--rows", "1", "--out", str(path)]
    assert contact_sheet.main(given) == 0
    assert capsys.readouterr().out.strip() == str(path)
    assert np.asarray(Image.open(path).convert("RGB")).std() > 20
    assert list(tmp_path.iterdir()) == [path]


def test_rooms_are_drawn_with_all_that_is_known_of_them():
    rooms = open_set("scenes", size=16, count=2)
    figure = contact_sheet.draw(rooms, columns=2, rows=1)
    image, mask, _, normals, parts = (np.asarray(axis.images[0].get_array()) for axis in figure.axes[1::2])
    np.testing.assert_array_equal(image, rooms.image(1))
    np.testing.assert_allclose(normals, rooms.surfaces(1).normals * [0.5, 0.5, -0.5] + 0.5, atol=1e-6)
    drawn = {tuple(colour) for colour in parts.reshape(-1, 3)}
    assert len(drawn) == len(np.unique(rooms.surfaces(1).parts))
    assert not drawn & {tuple(colour) for colour in mask.reshape(-1, 3)}


def test_a_set_without_masks_is_drawn_too(tmp_path):
    Image.new("RGB", (8, 6), "red").save(tmp_path / "a.png")
    figure = contact_sheet.draw(open_set("folder", root=tmp_path), columns=2)
    assert [len(axis.images) for axis in figure.axes] == [1, 0]


def test_a_known_set_is_found_by_its_name_below_gramlab_data_or_at_its_root(tmp_path, capsys, monkeypatch):
    for folder in ("images", "annotations"):
        (tmp_path / "camvid" / folder / "test").mkdir(parents=True)
        mode = "RGB" if folder == "images" else "L"
        Image.new(mode, (8, 6)).save(tmp_path / "camvid" / folder / "test" / "a.png")
    path = tmp_path / "sheet.pdf"
    monkeypatch.setenv("GRAMLAB_DATA", str(tmp_path))
    assert contact_sheet.main(["camvid", "--split", "val", "--out", str(path)]) == 0
    monkeypatch.delenv("GRAMLAB_DATA")
    found = path.read_bytes()
    assert contact_sheet.main(["camvid", "--split", "val", "--root", str(tmp_path / "camvid"), "--out", str(path)]) == 0
    assert path.read_bytes() == found
    assert (
        contact_sheet.main(["ade20k", "--split", "test", "--root", str(tmp_path / "camvid"), "--out", str(path)]) == 0
    )


@pytest.mark.parametrize("columns", [1, 4, 12])
def test_the_legend_stays_on_the_page_and_off_the_panels(columns):
    with style():
        figure = contact_sheet.draw(open_set("scenes", size=16, count=3), columns=columns, rows=1)
        figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.width
    assert legend.y1 <= min(axes.get_window_extent().y0 for axes in figure.axes)


def test_every_class_has_a_colour_and_ignore_is_black():
    for count in (11, 39, 150):
        table = colours(count)
        assert len({tuple(row) for row in table[:count]}) == count
        assert table[IGNORE].tolist() == table[UNLABELLED].tolist() == [0, 0, 0]
    assert IGNORE == UNLABELLED


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["scens"],
            "gramlab: got data set 'scens': want scenes, folder, ade20k, nyu, manifest, shards, nyuv2, camvid,",
        ),
        (
            ["imagenete"],
            "gramlab: got data set 'imagenete': want scenes, folder, ade20k, nyu, manifest, shards, nyuv2, camvid,",
        ),
        (["camvid"], "gramlab: got no folder for data set 'camvid' (GRAMLAB_DATA is not set): want --root FOLDER, or"),
        (["nyuv2", "--root", ".", "--size", "8"], "gramlab: got --size or --seed for nyuv2: want none, they belong to"),
        (
            ["nyu", "--root", ".", "--size", "8"],
            "gramlab: got size for a set of kind 'nyu': want none, its images are",
        ),
        (
            ["scenes", "--out", "nowhere/sheet.png"],
            "gramlab: got --out nowhere/sheet.png: want a file in an existing folder",
        ),
        (["scenes", "--out", "sheet.txt"], "gramlab: got --out sheet.txt"),
        (["scenes", "--rows", "0"], "gramlab: got 8 columns and 0 rows: want at least 1"),
    ],
)
def test_bad_input_ends_in_one_line_and_code_2(given, message, capsys, monkeypatch):
    monkeypatch.delenv("GRAMLAB_DATA", raising=False)
    assert contact_sheet.main(given) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1
