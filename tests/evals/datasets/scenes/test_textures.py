import numpy as np
import pytest

from evals.datasets.scenes.rooms import SEGMENTS, Body, compose
from evals.datasets.scenes.solids import SOLIDS
from evals.datasets.scenes.textures import TEXTURES, around, odd


def points(shape, count=20000):
    """Points spread over the mantle of a body of height 1, and their normals' rough direction."""
    random = np.random.default_rng(0)
    angle, y = random.random(count) * 2 * np.pi, random.random(count)
    _, _, radius = SOLIDS[shape](1.0)
    return (np.cos(angle) * radius, y, np.sin(angle) * radius), (np.cos(angle), np.zeros(count), np.sin(angle))


def test_odd_is_the_parity_of_the_whole_part():
    values = np.array([0, 0.9, 1, 1.5, 2, 3.99, 4, 101.2], dtype=np.float32)
    assert odd(values).tolist() == [False, False, True, True, False, True, False, True]


def test_the_stand_in_for_the_angle_grows_with_the_angle():
    angle = np.linspace(-np.pi / 2 + 0.01, 3 * np.pi / 2 - 0.01, 400)
    place = around((np.cos(angle), angle, np.sin(angle)))
    assert (np.diff(place) > 0).all()
    assert 0 <= place.min() < place.max() <= 4


@pytest.mark.parametrize("shape", SOLIDS)
def test_each_large_object_is_dark_on_about_half_of_itself(shape):
    texture, solids, radius = SOLIDS[shape](1.0)
    body = Body(SEGMENTS.index(shape), texture, solids, 0, 0, 1, 0, radius, 1.0, 1.0, ((1, 1, 1), (0, 0, 0)))
    share = TEXTURES[texture](body, *points(shape)).mean()
    assert 0.35 < share < 0.65


def test_every_object_has_a_texture_of_its_own():
    assert len({SOLIDS[shape](1.0)[0] for shape in SOLIDS}) == len(SOLIDS)
    assert {body.texture for index in range(12) for body in compose(0, "train", index).bodies} <= set(TEXTURES)
