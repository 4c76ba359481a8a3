"""Pictures as arrays: one basis for an image, fixed scales, what is damaged or missing is told and stops nothing."""

import numpy as np
import pytest

from common.errors import BadInput
from common.palette import UNKNOWN, depth_colours
from evals.results.pictured import ImageKey, Seen, features_path, images_folder, load_known, load_seen, save
from reports.features.maps import Maps
from reports.features.reading import Checkpoint, missing
from reports.features.reading import read as read_pictures
from reports.run_folder import read
from tests.reports.features.conftest import EVALUATIONS, about

FIRST = ImageKey("scenes", "val", "val/000000")


def maps_of(folder):
    run = read(folder)
    return Maps(run, read_pictures(run))


def changed(folder, lane, step, change):
    """Write what a checkpoint makes of images anew."""
    path = features_path(folder / f"{lane}-s0" / f"step_{step:06d}", EVALUATIONS)
    record, seen = load_seen(path)
    save(path, record, {image: change(one) for image, one in seen.items()})


def test_arrays_come_back_as_they_were_saved(pictured):
    folder = pictured()
    path = features_path(folder / "plain-s0" / "step_000040", EVALUATIONS)
    before, (record, seen) = path.read_bytes(), load_seen(path)
    assert seen[FIRST].features.shape == (4, 6, 16)
    assert load_seen(path, {FIRST})[1].keys() == {FIRST}
    save(path, record, seen)
    assert path.read_bytes() == before


def test_equal_features_of_two_arms_have_equal_colours_and_others_have_not(pictured):
    folder = pictured()
    seen = load_seen(features_path(folder / "plain-s0" / "step_000040", EVALUATIONS))[1]
    path = features_path(folder / "anchored-s0" / "step_000040", EVALUATIONS)
    save(path, about([*seen]), seen)
    maps = maps_of(folder)
    plain, anchored, other = (maps.of(Checkpoint(arm, 0, 40), FIRST) for arm in ("plain", "anchored", "renewed"))
    np.testing.assert_array_equal(plain.components.rgb, anchored.components.rgb)
    assert (plain.components.rgb != other.components.rgb).any()
    assert plain.components.rgb.dtype == np.uint8
    assert plain.components.rgb.shape == (4, 6, 3)
    assert plain.components.caption == "components: plain, seed 0, step 40"
    assert [one.rgb.shape for one in plain.similar] == [(4, 6, 3)] * 3


def test_what_moves_all_patches_alike_changes_no_colour(pictured):
    folder = pictured()
    before = maps_of(folder).of(Checkpoint("plain", 0, 40), FIRST).components.rgb
    changed(folder, "plain", 40, lambda one: Seen(one.features + np.float16(8), one.segmentation, one.depth))
    after = maps_of(folder).of(Checkpoint("plain", 0, 40), FIRST).components.rgb
    assert np.abs(before.astype(int) - after).max() <= 3  # half precision is coarser there


def test_the_way_of_an_arm_leads_through_the_trunk(pictured):
    maps = maps_of(pictured())
    way = maps.pictures.way(maps.run, "anchored", 0)
    assert [(at.lane, at.step) for at in way] == [
        ("trunk", 0), ("trunk", 10), ("trunk", 20), ("anchored", 30), ("anchored", 40),
    ]  # fmt: skip


def test_depth_has_one_scale_for_truth_and_predictions_and_grey_where_unknown(pictured):
    maps = maps_of(pictured())
    known = maps.pictures.images[FIRST]
    span = maps.depth_span(FIRST)
    assert span == pytest.approx(np.percentile(known.depth[known.depth > 0].astype(float), (1, 99)))
    shown = depth_colours(np.array([[0, np.nan, 1.0, 2.0]], np.float16), span)
    assert [tuple(pixel) for pixel in shown[0, :2]] == [UNKNOWN] * 2
    assert shown[0, 2].astype(int).sum() > shown[0, 3].astype(int).sum()


def test_without_heads_there_are_features_alone(pictured):
    maps = maps_of(pictured(heads=False))
    shown = maps.of(Checkpoint("plain", 0, 40), FIRST)
    assert (shown.segmentation, shown.depth, maps.truth(FIRST).depth) == (None, None, None)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "kind", "newer"])
def test_a_damaged_file_is_one_line_and_the_others_are_drawn(pictured, damage):
    folder = pictured()
    path = features_path(folder / "plain-s0" / "step_000040", EVALUATIONS)
    whole = path.read_bytes()
    record, seen = load_seen(path)
    if damage == "kind":
        path.write_bytes((images_folder(folder / "plain-s0", EVALUATIONS) / "images-6.npz").read_bytes())
    elif damage == "newer":
        save(path, type(record)(**{**vars(record), "format": 2}), seen)
    else:
        middle = whole.index(b"0/features") + 600
        flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
        path.write_bytes({"cut": whole[:-40], "flipped": flipped, "empty": b""}[damage])
    with pytest.raises(BadInput, match=r"^got (unreadable )?pictures .*features\.npz"):
        load_seen(path)
    maps = maps_of(folder)
    assert maps.of(Checkpoint("plain", 0, 40), FIRST) is None
    assert maps.of(Checkpoint("anchored", 0, 40), FIRST) is not None
    said = [*missing(maps.run, maps.pictures), *maps.damaged]
    assert len(said) == 1
    assert "\n" not in said[0]
    assert "plain-s0/step_000040/pictures/e0/features.npz" in said[0]


def test_what_was_evaluated_without_pictures_is_told_unless_they_are_off(pictured):
    folder = pictured()
    run = read(folder)
    assert missing(run, read_pictures(run)) == []
    features_path(folder / "plain-s0" / "step_000030", EVALUATIONS).unlink()
    (said,) = missing(run, read_pictures(run))
    assert said.startswith("plain-s0: no pictures of features at step 30: evaluated before they were kept")
    run.config["evals"]["pictures"] = 0
    assert missing(run, read_pictures(run)) == []


def test_images_are_those_of_all_files_and_the_first_that_can_be_read_counts(pictured):
    folder = pictured()
    place = images_folder(folder / "plain-s0", EVALUATIONS)
    record, known = load_known(place / "images-6.npz")
    new = ImageKey("scenes", "val", "val/000001")
    save(place / "images-1.npz", about([new]), {new: known[FIRST]})
    (place / "images-6.npz").write_bytes(b"")
    maps = maps_of(folder)
    assert {*maps.images} == {new, *record.images}
    assert len(maps.pictures.damaged) == 1
