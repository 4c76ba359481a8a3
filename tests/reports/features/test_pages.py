"""Pages of pictures: which images, arms and steps are shown, by rule, and that all of it fits the sheet."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from common.drawing import make_drawable
from evals.results.outcomes import load_outcomes
from evals.results.pictured import ImageKey, features_path
from reports.compared import compare
from reports.estimates import primary
from reports.features.differ import cases
from reports.features.maps import Maps
from reports.features.pages import feature_pages, spread_over_sets
from reports.features.reading import Checkpoint
from reports.features.reading import read as read_pictures
from reports.features.stages import MOST_ARMS, gap_by_arm, sides
from reports.front_page import front_pages
from reports.page import looks, style
from reports.pairing import outcomes_path
from reports.pdf import as_pdf
from reports.run_folder import read
from tests.reports.features.conftest import EVALUATIONS

TWO = {"plain": {}, "anchored": {"gram.weight": 2.0, "gram.start_step": 20}}
NINE = {f"a_rather_long_arm_name_number_{n}": {"gram.weight": float(n), "gram.start_step": 20} for n in range(9)}


def drawn(folder):
    with style():
        run = read(folder)
        return run, feature_pages(run, compare(run, at=("steps",)), looks(run.arms, run.baseline))


def texts(page):
    make_drawable(page.figure)
    FigureCanvasAgg(page.figure).draw()
    written = [*page.figure.texts, *(text for axes in page.figure.axes for text in axes.texts)]
    return [(text.get_text(), text.get_window_extent()) for text in written if text.get_text().strip()]


@pytest.mark.parametrize(
    ("how", "pages"), [({}, 4), ({"heads": False}, 3), ({"arms": NINE}, 4), ({"arms": {"plain": {}}}, 3)]
)
def test_no_text_leaves_the_sheet_and_each_page_says_how_to_read_it(pictured, how, pages):
    run, found = drawn(pictured(**how))
    assert len(found) == pages
    for page in found:
        width, height = page.figure.bbox.size
        for text, box in texts(page):
            assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= 0, text
        words = " ".join(text for text, _ in texts(page))
        assert "Read it so" in words
        assert "By rule" in words
        assert ("of 9 arms the baseline and the 7 furthest from it in" in words) == (
            len(run.arms) > MOST_ARMS and "differ most" not in words
        )


def test_a_run_without_pictures_has_no_such_page(ablation):
    assert drawn(ablation)[1] == []


def test_of_many_arms_those_are_shown_that_differ_most(pictured):
    run = read(pictured(arms=NINE))
    maps, compared = Maps(run, read_pictures(run)), compare(run, at=("steps",))
    beside = sides(maps, compared)
    gaps = dict(gap_by_arm(run, compared))
    (left_out,) = set(run.arms) - set(beside.arms)
    assert gaps[left_out] == min(gaps.values())
    assert beside.left_out == 1
    assert run.baseline in beside.arms


def test_early_and_late_are_the_ends_of_what_most_arms_have(pictured):
    folder = pictured()
    features_path(folder / "renewed-s0" / "step_000040", EVALUATIONS).unlink()
    run = read(folder)
    maps = Maps(run, read_pictures(run))
    beside = sides(maps, compare(run, at=("steps",)))
    assert [(stage.name, stage.step) for stage in beside.stages] == [("early", 30), ("late", 40)]
    assert beside.stages[1].by_arm["renewed"] == Checkpoint("renewed", 0, 30)
    assert beside.stages[1].by_arm["plain"] == Checkpoint("plain", 0, 40)
    assert beside.start == Checkpoint("trunk", 0, 20)


def test_the_images_where_two_arms_differ_most_are_those_of_an_oracle(pictured):
    run = read(pictured(arms=TWO, images=[f"val/{n:06d}" for n in range(0, 240, 9)]))
    maps, column = Maps(run, read_pictures(run)), primary(run, "dense", metric="rmse")
    pair = [Checkpoint(arm, 0, 40) for arm in ("plain", "anchored")]
    errors = []
    for at in pair:
        path = outcomes_path(run.folder / f"{at.lane}-s0" / "step_000040", column, evaluations="")
        kept = load_outcomes(path)
        errors.append(dict(zip(kept["keys"].tolist(), kept["rmse"].tolist(), strict=True)))
    gain = sorted((errors[0][image.key] - errors[1][image.key], image.key) for image in maps.images)
    found = cases(maps, column, *pair)
    assert [one.words for one in found] == ["largest gain", "median", "largest loss"]
    assert [one.image.key for one in found] == [gain[-1][1], gain[len(gain) // 2][1], gain[0][1]]
    assert found[0].baseline == pytest.approx(errors[0][gain[-1][1]])


def test_one_image_is_one_case_and_no_common_image_none(pictured):
    for images, count in ((["val/000003"], 1), (["elsewhere"], 0)):
        run = read(pictured(name=f"run{count}", arms=TWO, images=images))
        maps = Maps(run, read_pictures(run))
        pair = [Checkpoint(arm, 0, 40) for arm in ("plain", "anchored")]
        assert len(cases(maps, primary(run, "dense"), *pair)) == count


def test_images_are_spread_over_the_sets():
    images = [ImageKey(name, "val", str(n)) for name in ("a", "b") for n in range(6)]
    assert [(one.dataset, one.key) for one in spread_over_sets(images, 4)] == [
        ("a", "0"), ("b", "0"), ("a", "3"), ("b", "3"),
    ]  # fmt: skip
    assert spread_over_sets(images[:2], 4) == images[:2]


def test_the_pages_are_the_same_bytes_each_time(pictured):
    folder = pictured(arms=TWO)
    assert len({as_pdf(drawn(folder)[1], title="x") for _ in range(2)}) == 1


def test_what_is_damaged_or_missing_is_told_on_page_one(pictured):
    folder = pictured(arms=TWO)
    path = features_path(folder / "plain-s0" / "step_000040", EVALUATIONS)
    path.write_bytes(path.read_bytes()[:-40])
    features_path(folder / "anchored-s0" / "step_000030", EVALUATIONS).unlink()
    with style():
        run = read(folder)
        (page, *_) = front_pages(run, compare(run, at=("steps",)), looks(run.arms, run.baseline))
        said = " ".join(text for text, _ in texts(page))
    assert "plain-s0/step_000040/pictures/e0/features.npz" in said
    assert "anchored-s0: no pictures of features at step 30" in said
    assert drawn(folder)[1]


def test_marks_stand_in_the_middle_of_the_patch_whose_cosines_are_shown(pictured):
    page = drawn(pictured(arms=TWO))[1][1]
    canvas = page.figure.axes[0]
    marks = [text.get_position() for text in canvas.texts if text.get_text() == "+"]
    assert marks
    photo = min(canvas.images, key=lambda one: one.get_extent()[0] + one.get_extent()[3])
    left, right, low, high = photo.get_extent()
    share = [(x - left) / (right - left) for x, y in marks if left <= x <= right and high <= y <= low]
    assert np.isclose(share, (3 + 0.5) / 6).any()
