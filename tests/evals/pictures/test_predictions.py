from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from evals.pictures.predictions import (
    DepthSample,
    SegmentationSample,
    depth_figure,
    depth_score,
    segmentation_figure,
    segmentation_score,
)
from evals.pictures.sheet import write

SEGMENTS = ("wall", "floor", "ceiling", "lamp")
IMAGE = np.full((40, 60, 3), 128, np.uint8)


def halves(left: int, right: int, *, shape: tuple[int, int] = (40, 60)) -> np.ndarray:
    mask = np.full(shape, left, np.uint8)
    mask[:, shape[1] // 2 :] = right
    return mask


def shown(figure: Figure, column: int) -> np.ndarray:
    return np.asarray(figure.axes[column].images[-1].get_array())


def segmentation(truth: np.ndarray, prediction: np.ndarray) -> SegmentationSample:
    return SegmentationSample("val/room.jpg", IMAGE, truth, prediction)


def test_equal_classes_have_equal_colours_in_truth_and_prediction_and_others_differ():
    figure = segmentation_figure([segmentation(halves(0, 1), halves(1, 0))], SEGMENTS, title="t")
    truth, prediction = shown(figure, 1), shown(figure, 2)
    np.testing.assert_array_equal(truth[0, 0], prediction[0, -1])
    np.testing.assert_array_equal(truth[0, -1], prediction[0, 0])
    assert (truth[0, 0] != truth[0, -1]).any()


def test_the_legend_names_what_occurs_and_nothing_else():
    samples = [segmentation(halves(0, 255), halves(0, 0)), segmentation(halves(1, 1), halves(1, 3))]
    figure = segmentation_figure(samples, SEGMENTS, title="t")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["wall", "floor", "lamp", "not labelled"]
    np.testing.assert_array_equal(shown(figure, 1)[0, -1], [0, 0, 0])


def test_wrong_pixels_are_orange_and_unlabelled_ones_black():
    truth = halves(0, 1)
    truth[:10] = 255
    figure = segmentation_figure([segmentation(truth, halves(0, 0))], SEGMENTS, title="t")
    marked = shown(figure, 3)
    np.testing.assert_array_equal(marked[..., 3] > 0, (truth == 1) | (truth == 255))
    np.testing.assert_array_equal((marked[..., :3] == 0).all(2) & (marked[..., 3] > 0), truth == 255)


def test_names_are_written_inside_their_own_area_where_they_fit():
    figure = segmentation_figure([segmentation(halves(0, 1), halves(2, 2))], SEGMENTS, title="t")
    places = {text.get_text(): text.get_position() for text in figure.axes[1].texts}
    assert places["wall"][0] < 30 < places["floor"][0]
    assert [text.get_text() for text in figure.axes[2].texts] == ["ceiling"]
    thin = halves(0, 0)
    thin[:, 20:22] = 1
    figure = segmentation_figure([segmentation(thin, thin)], SEGMENTS, title="t")
    assert [text.get_text() for text in figure.axes[1].texts] == ["wall"]


def test_masks_of_another_size_than_the_image_lie_over_it():
    small = halves(0, 1, shape=(20, 30))
    figure = segmentation_figure([segmentation(small, small)], SEGMENTS, title="t")
    assert {tuple(axes.images[-1].get_extent()) for axes in figure.axes} == {(0, 60, 40, 0)}


def test_scores_of_a_segmentation_are_those_of_the_labelled_pixels():
    truth = np.array([[0, 0, 1, 255]], np.uint8)
    one = segmentation(truth, np.array([[0, 1, 1, 2]]))
    assert segmentation_score(one) == "mIoU 50%, pixel accuracy 67%"
    assert segmentation_score(segmentation(np.full((1, 4), 255), np.zeros((1, 4), int))) == "nothing labelled"


def test_scores_of_a_depth_map_are_those_of_the_known_pixels():
    truth, guess = np.array([[1.0, 2.0, 0.0]]), np.array([[1.0, 4.0, 9.0]])
    assert depth_score(DepthSample("a", IMAGE, truth, guess)) == "RMSE 1.41 m, δ1 50%"
    assert depth_score(DepthSample("a", IMAGE, np.zeros((1, 3)), guess)) == "no depth known"


def depths() -> list[DepthSample]:
    ramp = np.linspace(1, 4, 40 * 60, dtype=np.float32).reshape(40, 60)
    holed = ramp.copy()
    holed[:5] = 0
    return [DepthSample("near", IMAGE, holed, ramp + 0.2), DepthSample("far", IMAGE, ramp * 2, ramp)]


def test_true_and_predicted_depth_share_a_scale_in_each_row_and_errors_share_one():
    figure = depth_figure(depths(), title="t")
    scales = [figure.axes[place].images[0].get_clim() for place in (1, 2, 4, 7, 8, 10)]
    assert scales[0] == scales[1] != scales[3] == scales[4]
    assert scales[2] == scales[5]
    assert scales[2][0] == -scales[2][1] < -3.5  # the far room is taken for half as far, up to 4 m too near


def test_unknown_depth_is_masked_in_the_truth_and_in_the_error_but_not_in_the_prediction():
    figure = depth_figure(depths(), title="t")
    truth, guess, error = (figure.axes[place].images[0].get_array() for place in (1, 2, 4))
    assert truth.mask[:5].all()
    assert not truth.mask[5:].any()
    assert error.mask[:5].all()
    assert not np.ma.getmaskarray(guess).any()
    np.testing.assert_allclose(error.compressed(), 0.2, atol=1e-5)


def test_pixels_that_were_not_judged_leave_the_prediction_in_the_scales():
    one = depths()[0]
    guess = 2 * one.prediction
    holed = guess.copy()
    holed[0, 0] = holed[20, 20] = np.nan
    whole, torn = (depth_figure([DepthSample("a", IMAGE, one.truth, x)], title="t") for x in (guess, holed))
    for place in (1, 2, 4):
        np.testing.assert_allclose(torn.axes[place].images[0].get_clim(), whole.axes[place].images[0].get_clim(), 0.01)
    assert torn.axes[2].images[0].get_clim()[1] > 8  # the truth ends at 4 m
    assert np.ma.getmaskarray(torn.axes[2].images[0].get_array())[20, 20]


def test_a_set_without_any_known_depth_is_drawn(tmp_path: Path):
    for guess in (1.0, np.nan):
        one = DepthSample("a", IMAGE, np.zeros((4, 6)), np.full((4, 6), guess))
        assert write(tmp_path, "empty", depth_figure([one], title="t")).is_file()


@pytest.mark.parametrize("kind", ["segmentation", "depth"])
def test_pages_say_what_they_show_and_files_are_written_whole(kind: str, tmp_path: Path):
    if kind == "depth":
        figure = depth_figure(depths(), title="Depth of rooms")
        headings = {"Depth of rooms", "Image", "True depth", "Predicted depth", "Prediction − truth", "m"}
    else:
        figure = segmentation_figure([segmentation(halves(0, 1), halves(0, 2))], SEGMENTS, title="Rooms")
        headings = {"Rooms", "Image", "Truth", "Prediction", "Wrong pixels"}
        headings.add("val/room.jpg  (mIoU 33%, pixel accuracy 50%)")
    assert headings <= {text.get_text() for text in figure.texts}
    path = write(tmp_path / "plots", f"{kind}-scenes", figure)
    assert path.name == f"{kind}-scenes.png"
    assert list((tmp_path / "plots").iterdir()) == [path]
    assert np.asarray(Image.open(path).convert("RGB")).std() > 20
