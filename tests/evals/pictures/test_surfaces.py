from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from evals.datasets.scenes.scenes import Scenes
from evals.pictures.palette import facing
from evals.pictures.sheet import write
from evals.pictures.surfaces import (
    BoundarySample,
    NormalSample,
    boundaries_figure,
    boundaries_score,
    normals_figure,
    normals_score,
)

ROOMS = Scenes("val", size=24, count=2)
CELLS = np.linspace(0, 1, 16).reshape(4, 4)


def shown(figure: Figure, column: int) -> np.ma.MaskedArray:
    return np.ma.asarray(figure.axes[column].images[-1].get_array())


def facing_sample(*, turned: bool = False) -> NormalSample:
    truth = ROOMS.surfaces(0).normals
    return NormalSample("val/0", ROOMS.image(0), truth, -truth if turned else truth)


def bounded(index: int = 0, prediction: np.ndarray = CELLS) -> BoundarySample:
    return BoundarySample("val/0", ROOMS.image(index), ROOMS.surfaces(index).parts, prediction)


def test_truth_and_prediction_share_their_colours_and_the_angle_between_them_is_drawn():
    figure = normals_figure([facing_sample(turned=True)], title="t")
    truth = ROOMS.surfaces(0).normals
    np.testing.assert_allclose(shown(figure, 1), facing(truth))
    np.testing.assert_allclose(shown(figure, 2), 1 - facing(truth), atol=1e-6)
    np.testing.assert_allclose(shown(figure, 3), 180)
    assert normals_score(facing_sample()) == "mean angle 0.0°, within 11.25° 100%"
    assert normals_score(facing_sample(turned=True)) == "mean angle 180.0°, within 11.25° 0%"


def test_what_is_unknown_is_grey_and_counts_nowhere():
    one = facing_sample()
    truth, guess = one.truth.copy(), one.prediction.copy()
    truth[:4], guess[:4] = 0, np.nan
    part = NormalSample("val/0", one.image, truth, guess)
    figure = normals_figure([part], title="t")
    np.testing.assert_array_equal(shown(figure, 3).mask[:, 0], np.arange(24) < 4)
    np.testing.assert_array_equal(shown(figure, 2)[:4], 0.5)
    assert normals_score(part) == "mean angle 0.0°, within 11.25° 100%"
    assert normals_score(NormalSample("", one.image, 0 * truth, guess)) == "no normal known"


def test_cells_with_a_boundary_stand_beside_their_probability():
    figure = boundaries_figure([bounded()], title="t")
    cells = ROOMS.surfaces(0).parts.reshape(4, 6, 4, 6).transpose(0, 2, 1, 3).reshape(4, 4, 36)
    np.testing.assert_array_equal(shown(figure, 2), (cells != cells[..., :1]).any(-1))
    np.testing.assert_array_equal(shown(figure, 3), CELLS)
    right = (cells != cells[..., :1]).any(-1)
    assert boundaries_score(bounded(prediction=right.astype(float))) == f"AP 100%, by chance {right.mean():.0%}"
    flat = BoundarySample("val/0", ROOMS.image(0), np.zeros((24, 24), np.uint8), CELLS)
    assert boundaries_score(flat) == "all cells are alike"


def test_cells_without_a_pixel_are_grey():
    figure = boundaries_figure([bounded(prediction=np.zeros((48, 48)))], title="t")
    assert shown(figure, 2).mask.mean() == 0.75


def test_pages_are_written_whole(tmp_path: Path):
    for name, figure in (
        ("normals", normals_figure([facing_sample(), facing_sample(turned=True)], title="a title")),
        ("boundaries", boundaries_figure([bounded(), bounded(1)], title="a title")),
    ):
        path = write(tmp_path, name, figure)
        assert np.asarray(Image.open(path).convert("RGB")).std() > 20
