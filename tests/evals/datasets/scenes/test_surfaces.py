from __future__ import annotations

import hashlib

import numpy as np
import pytest

from evals.datasets.scenes import raycast
from evals.datasets.scenes.rooms import SEGMENTS, compose
from evals.datasets.scenes.scenes import Scenes
from evals.datasets.scenes.surfaces import FIRST_SOLID, _seen_by_camera, surfaces
from tests.evals.datasets.scenes.test_raycast import body, level_room, outside, pixel_rays, world_points

WALLS = {"left": 0, "right": 1, "far": 3, "floor": 4, "ceiling": 5}
GOLDEN = {  # (seed, split, index, size): of normals and parts; new values need a new scenes.VERSION
    (0, "train", 0, 64): "fd2c150c446747c3e0b128c9de35f3e7b10dce8110ef5e89024d878a84f2a0dd",
    (0, "val", 2, 128): "f5529825edcac2b3dd62516d57feef1332c956e5062c81a8a498729637460b39",
    (7, "test", 123456, 33): "e57128ce0323509f23515f70a72b691b7d0cada10255b1c4067727293bfb02e5",
}


def angles(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Degrees between unit vectors [..., 3], in float64."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(one, other), axis=-1), (one * other).sum(-1)))


def by_differences(depth: np.ndarray, half_view: float) -> np.ndarray:
    """Normals [n-2, n-2, 3] of the inner pixels in the camera's frame: central differences of where the rays end."""
    point = np.moveaxis(pixel_rays(len(depth), half_view) * depth.astype(np.float64), 0, -1)
    across = point[1:-1, 2:] - point[1:-1, :-2]
    upwards = point[:-2, 1:-1] - point[2:, 1:-1]
    normal = np.cross(upwards, across)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return normal * -np.sign((normal * point[1:-1, 1:-1]).sum(-1, keepdims=True))


def smooth(normals: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """bool [n-2, n-2]: all eight neighbours are of the same part, and face within 20 degrees of the pixel's way."""
    inner = (slice(1, -1), slice(1, -1))
    found = np.ones(parts[inner].shape, dtype=bool)
    for down in (0, 1, 2):
        for right in (0, 1, 2):
            moved = (slice(down, len(parts) - 2 + down), slice(right, len(parts) - 2 + right))
            found &= (parts[moved] == parts[inner]) & (angles(normals[moved], normals[inner]) < 20)
    return found


def test_the_sides_of_a_level_room_face_inwards_along_the_axes_of_the_camera():
    normals, parts = surfaces(level_room(), 65)
    expected = {"left": (1, 0, 0), "right": (-1, 0, 0), "far": (0, 0, -1), "floor": (0, 1, 0), "ceiling": (0, -1, 0)}
    for name, normal in expected.items():
        here = parts == WALLS[name]
        assert here.sum() > 100, name
        np.testing.assert_array_equal(normals[here], np.broadcast_to(np.float32(normal), (here.sum(), 3)))
    assert sorted(np.unique(parts)) == sorted(WALLS.values())


def test_a_camera_that_looks_down_sees_the_floor_rise_and_turn_towards_it():
    normals, parts = surfaces(level_room(tilt=(0.6, 0.8)), 33)
    floor = normals[parts == WALLS["floor"]]
    assert len(floor) > 500
    np.testing.assert_allclose(floor, np.broadcast_to([0, 0.6, -0.8], floor.shape), atol=1e-6)


def test_a_ball_faces_away_from_its_centre():
    room = level_room(body("ball", z=3.0), camera_height=0.5)
    normals, parts = surfaces(room, 65)
    _, depth = raycast.truth(room, 65)
    ball = parts == FIRST_SOLID
    outward = (np.moveaxis(pixel_rays(65) * depth, 0, -1) - [0, 0, 3.0])[ball] / 0.5
    assert ball.sum() > 200
    np.testing.assert_allclose(normals[ball], outward, atol=1e-3)


@pytest.mark.parametrize("index", range(6))
def test_normals_are_the_slopes_of_the_depth_map_away_from_edges(index: int):
    room = compose(3, "train", index)  # every shape once
    normals, parts = surfaces(room, 160)
    _, depth = raycast.truth(room, 160)
    even = smooth(normals, parts)
    assert even.mean() > 0.9
    off = angles(by_differences(depth, room.camera.half_view), normals[1:-1, 1:-1])[even]
    assert np.median(off) < 0.02
    assert np.quantile(off, 0.99) < 1.0


@pytest.mark.parametrize("index", range(6))
def test_normals_have_unit_length_and_face_the_camera(index: int):
    room = compose(5, "val", index)
    normals, _ = surfaces(room, 64)
    assert (normals.dtype, normals.shape) == (np.float32, (64, 64, 3))
    np.testing.assert_allclose(np.linalg.norm(normals.astype(np.float64), axis=-1), 1, atol=2e-7)
    assert (normals * np.moveaxis(pixel_rays(64, room.camera.half_view), 0, -1)).sum(-1).max() < 1e-3


@pytest.mark.parametrize("index", range(12))
def test_each_part_is_the_solid_or_the_side_of_the_room_on_which_its_pixels_lie(index: int):
    room = compose(3, "train", index)
    _, parts = surfaces(room, 48)
    segments, depth = raycast.truth(room, 48)
    point = world_points(room, depth)
    solids = [(one, solid) for one in room.bodies for solid in one.solids]
    for number, (one, solid) in enumerate(solids, FIRST_SOLID):
        here = parts == number
        assert (segments[here] == one.segment).all()
        x, z = point[0][here] - one.x, point[2][here] - one.z
        local = (x * one.cosine - z * one.sine, point[1][here], x * one.sine + z * one.cosine)
        np.testing.assert_allclose(outside(solid, local), 0, atol=2e-4)
    for number, (axis, end) in enumerate(((0, room.low), (0, room.high), (2, room.low), (2, room.high))):
        here = parts == number
        assert (segments[here] == SEGMENTS.index("wall")).all()
        np.testing.assert_allclose(point[axis][here], end[axis], atol=1e-4)
    for name, number in (("floor", 4), ("ceiling", 5), ("window", 6)):
        np.testing.assert_array_equal(parts == number, segments == SEGMENTS.index(name))


def test_the_legs_and_the_lintel_of_an_arch_are_three_parts_and_a_corner_divides_two_walls():
    _, parts = surfaces(level_room(body("arch", z=3.0), camera_height=0.5), 65)
    assert set(np.unique(parts)) == {*WALLS.values(), 7, 8, 9}
    _, empty = surfaces(level_room(), 65)
    assert empty[32, 0] == WALLS["left"]
    assert empty[32, 32] == WALLS["far"]


def test_the_mirror_image_of_a_room_faces_the_mirrored_way():
    normals, parts = surfaces(level_room(body("vase", z=3.0)), 64)
    swapped = np.where(parts < 2, 1 - parts.astype(int), parts)
    np.testing.assert_array_equal(swapped[:, ::-1], parts)
    np.testing.assert_allclose(normals[:, ::-1] * [-1, 1, 1], normals, atol=1e-5)


def test_a_point_that_faces_nowhere_is_unknown():
    nothing = np.zeros((2, 2), np.float32)
    with np.errstate(all="ignore"):
        assert not _seen_by_camera(level_room(), (nothing, nothing, nothing)).any()


def test_surfaces_are_the_very_same_bytes_as_when_they_were_made():
    found = {}
    for seed, split, index, size in GOLDEN:
        one = Scenes(split, seed=seed, size=size, count=10**7).surfaces(index)
        content = np.ascontiguousarray(one.normals).tobytes() + np.ascontiguousarray(one.parts).tobytes()
        found[seed, split, index, size] = hashlib.sha256(content).hexdigest()
    assert found == GOLDEN


def test_surfaces_have_a_cache_file_of_their_own_and_leave_the_others_as_they_are(tmp_path):
    cached, plain = Scenes(size=16, count=5, cache=tmp_path), Scenes(size=16, count=5)
    for index in range(5):
        np.testing.assert_array_equal(cached.depth(index), plain.depth(index))
    before = {path: path.read_bytes() for path in tmp_path.glob("*.npy")}
    for index in range(5):
        for one, other in zip(cached.surfaces(index), plain.surfaces(index), strict=True):
            np.testing.assert_array_equal(one, other)
            one[:] = 0  # which changes no later reading
    np.testing.assert_array_equal(cached.surfaces(4).normals, plain.surfaces(4).normals)
    assert {path: path.read_bytes() for path in before} == before
    assert [path.name.rsplit("-")[-1] for path in tmp_path.glob("*.npy") if path not in before] == ["surfaces.npy"]
