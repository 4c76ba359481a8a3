import os

import numpy as np
import pytest
from PIL import Image

from common.errors import BadInput
from evals.datasets.catalogue import open_named, open_set
from evals.datasets.checking.depth_look import refuse_misread_depth
from evals.datasets.reading import Reading

ROOM = np.linspace(0.5, 5.0, 40).reshape(4, 10)  # metres


def put(root, *maps):
    for number, depth in enumerate(maps):
        for folder, pixels in (("images", np.zeros((*depth.shape, 3), np.uint8)), ("depth", depth.astype(np.uint16))):
            path = root / folder / "training" / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return root


def opened(root, **reading):
    return open_set("nyu", root=root, reading=Reading(**reading))


def look(dataset, low=0.001, high=10.0):
    refuse_misread_depth(dataset, low=low, high=high)


def told(dataset):
    with pytest.raises(BadInput) as caught:
        look(dataset)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_wrong_scale_is_refused_and_the_right_one_is_read(tmp_path):
    root = put(tmp_path / "tum", ROOM * 5000, ROOM * 5000)
    message = told(opened(root))
    assert "got 68% of the known depth of 'tum' (train) outside 0.001 to 10 m, where it does not count (m" in message
    assert "(median 13.75 m over 2 maps): want metres, in a room 1 to 4 m at the median; write" in message
    right = opened(root, depth_scale=5000)
    look(right)
    assert np.allclose(right.depth(0), ROOM, atol=1e-3)


def test_a_value_for_unknown_is_named_and_once_said_is_unknown(tmp_path):
    depth = ROOM * 1000
    depth[0] = 65535
    root = put(tmp_path / "sensor", depth, depth)
    message = told(opened(root))
    assert "got 25% of the known depth" in message
    assert "does not count, most of it the one depth of 65.535 m (median" in message
    assert "which mean unknown, depth_unknown (write `depth_unknown: 65535` if that is no depth), or" in message
    right = opened(root, depth_unknown=65535)
    look(right)
    assert right.depth(0)[0].tolist() == [0] * 10


def test_a_few_pixels_outside_are_no_wrong_scale(tmp_path):
    depth = ROOM * 1000
    depth[0, :3] = 20_000
    look(opened(put(tmp_path, depth)))


def test_another_valid_range_is_the_protocols(tmp_path):
    street = opened(put(tmp_path / "street", ROOM * 10_000), depth_scale=1000)
    assert "got 88% of the known depth" in told(street)
    look(street, high=80.0)


@pytest.mark.parametrize(("scale", "median"), [(100, "0.27"), (3200, "8.80")])
def test_a_median_that_no_room_has_is_asked_about(tmp_path, scale, median):
    root = put(tmp_path / "odd", ROOM * scale)
    with pytest.raises(BadInput, match=rf"got depth of 'odd' \(train\) whose median is {median} m, a room's is"):
        look(opened(root), high=80.0)
    look(opened(root, depth_scale=1000), high=80.0)  # as it is, but said
    assert np.allclose(opened(root, depth_scale=scale).depth(0), ROOM, atol=1e-2)


def test_rooms_pass_and_maps_without_known_depth_are_refused(tmp_path):
    look(opened(put(tmp_path / "room", ROOM * 0, ROOM * 1000)))
    assert "got no known depth in 1 maps of 'empty' (train)" in told(opened(put(tmp_path / "empty", ROOM * 0)))
    look(open_set("scenes", size=8, count=1))


@pytest.mark.skipif("GRAMLAB_DATA" not in os.environ, reason="GRAMLAB_DATA is not set")
@pytest.mark.parametrize("split", ["train", "val"])
def test_the_rooms_of_gramlab_data_pass(split):
    look(open_named("nyuv2", split=split, needs="depth"))
