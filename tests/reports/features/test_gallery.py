"""Pictures of features in the twin."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from reports.compared import compare
from reports.features.maps import Maps
from reports.features.reading import read as read_pictures
from reports.run_folder import read
from reports.twin import gallery as of_gallery
from reports.twin import page as of_page
from reports.twin.gallery import gallery
from reports.twin.page import twin


def of(folder, **how):
    run = read(folder)
    return gallery(run, compare(run), **how)


def images_in(page):
    content = re.search(r'<script type="application/json" id="twin">(.*?)</script>', page, re.DOTALL)[1]
    return len(json.loads(content)["gallery"]["images"])


def pixels(url):
    head, _, content = url.partition(",")
    assert head == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))


def test_an_arm_s_pictures_are_those_of_its_way_and_hold_every_colour(pictured):
    folder = pictured()
    found, maps = of(folder), Maps(read(folder), read_pictures(read(folder)))
    assert found.arms == ("plain", "anchored", "renewed")
    captions = {maps.truth(image).image.caption: image for image in maps.images}
    assert {one["caption"] for one in found.images} == set(captions)
    for one in found.images:
        image = captions[one["caption"]]
        for arm in found.arms:
            way = maps.pictures.way(maps.run, arm, 0)
            assert [step for step, _ in one["arms"][arm]] == [at.step for at in way] == [0, 10, 20, 30, 40]
            for at, (_, kinds) in zip(way, one["arms"][arm], strict=True):
                shown = maps.of(at, image)
                assert np.array_equal(pixels(kinds["components"]), shown.components.rgb)
                assert np.array_equal(pixels(kinds["similar1"]), shown.similar[1].rgb)
                assert np.array_equal(pixels(kinds["segmentation"]), shown.segmentation.rgb)
                assert np.array_equal(pixels(kinds["depth"]), shown.depth.rgb)
        assert np.array_equal(pixels(one["truth"]["depth"]), maps.truth(image).depth.rgb)


def test_without_heads_there_are_no_predictions_to_choose(pictured):
    found = of(pictured(heads=False))
    assert [*found.kinds] == ["components", "similar0", "similar1", "similar2"]
    assert all(one["truth"] == {} for one in found.images)


def test_more_images_than_the_page_has_room_for_are_left_out_and_that_is_said(pictured):
    folder = pictured()
    of_one = len(json.dumps(of(folder).images[0]))
    found = of(folder, room=int(2.5 * of_one))
    assert len(found.images) == 2
    assert "2 of the 6 images that are kept" in found.note
    assert len(of(folder, room=0).images) == 1


def test_a_page_that_is_full_of_numbers_has_room_for_fewer_images(pictured, monkeypatch):
    run = read(pictured())
    whole = images_in(twin(run, compare(run)))
    monkeypatch.setattr(of_page, "MOST_BUT_VEGA", 0)
    assert (whole, images_in(twin(run, compare(run)))) == (6, 1)


def test_of_many_steps_a_few_are_kept_and_the_last_always(pictured, monkeypatch):
    monkeypatch.setattr(of_gallery, "MOST_STEPS", 3)
    steps = [step for step, _ in of(pictured()).images[0]["arms"]["plain"]]
    assert len(steps) == 3
    assert steps[-1] == 40


def test_classes_are_named_in_the_colours_of_the_map(pictured):
    one = of(pictured()).images[0]
    named = dict(one["legends"]["segmentation"])
    assert set(named) == {"wall", "floor", "猫", "not labelled"}
    drawn = {f"#{bytes(colour).hex()}" for colour in pixels(one["truth"]["segmentation"]).reshape(-1, 3)}
    assert drawn == set(named.values())


@pytest.mark.parametrize("heads", [True, False])
def test_the_page_has_a_place_for_each_arm(pictured, heads):
    run = read(pictured(heads=heads))
    page = twin(run, compare(run))
    assert [page.count(f'data-map="{arm}"') for arm in run.arms] == [1, 1, 1]
