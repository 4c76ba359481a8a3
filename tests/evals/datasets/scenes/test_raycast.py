import numpy as np
import pytest

from evals.datasets.scenes import raycast
from evals.datasets.scenes.rooms import SEGMENTS, Body, Camera, Room, compose
from evals.datasets.scenes.solids import SOLIDS, Box, Lathe

GREY = (0.5, 0.5, 0.5)


def level_room(*bodies, tilt=(1.0, 0.0), camera_height=1.2):
    """A camera that looks along z, tilted down by (cosine, sine), in a room of 6 x 2.5 x 6.4 m."""
    cosine, sine = tilt
    camera = Camera(camera_height, (1.0, 0.0, 0.0), (0.0, cosine, sine), (0.0, -sine, cosine), 0.6)
    return Room(
        low=(-3.0, 0.0, -0.4),
        high=(3.0, 2.5, 6.0),
        camera=camera,
        light=(0.5, 2.3, 1.0),
        ambient=0.4,
        bodies=bodies,
        window=None,
        wall_texture="plain",
        floor_texture="plain",
        tones=(GREY,) * 8,
    )


def body(shape, *, z, height=1.0):
    texture, solids, radius = SOLIDS[shape](height)
    segment = SEGMENTS.index(shape)
    return Body(segment, texture, solids, 0.0, z, 1.0, 0.0, radius, height, 1.0, (GREY, GREY))


def pixel_rays(size, half_view=0.6):
    """Directions (x right, y up, z ahead) in float64, each [size, size]."""
    across = ((np.arange(size) + 0.5) / size * 2 - 1) * half_view
    x, y = np.meshgrid(across, -across)
    return np.stack([x, y, np.ones_like(x)])


def world_points(room, depth):
    """Where each pixel's ray ends, float64 [3, n, n]."""
    camera = room.camera
    rays = pixel_rays(depth.shape[0], camera.half_view)
    turned = np.tensordot(np.array([camera.right, camera.up, camera.forward]).T, rays, axes=1)
    return turned * depth + np.array([0.0, camera.height, 0.0])[:, None, None]


def outside(solid, point):
    """Negative inside a solid, zero on its surface; lengths or squared lengths."""
    x, y, z = point
    if isinstance(solid, Box):
        sides = [
            np.maximum(low - at, at - high) for at, low, high in zip((x, y, z), solid.low, solid.high, strict=True)
        ]
        return np.maximum(np.maximum(*sides[:2]), sides[2])
    mantle = x * x + z * z - solid.a - solid.b * y - solid.c * y * y
    return np.maximum(mantle, np.maximum(-y, y - solid.top))


def outside_body(body, point):
    x, z = point[0] - body.x, point[2] - body.z
    local = (x * body.cosine - z * body.sine, point[1], x * body.sine + z * body.cosine)
    return np.min([outside(solid, local) for solid in body.solids], axis=0)


def test_a_wall_ahead_is_as_deep_as_it_is_far_at_every_pixel():
    segments, depth = raycast.truth(level_room(), 33)
    ahead = np.zeros((33, 33), dtype=bool)
    ahead[14:19, 14:19] = True
    assert (segments[ahead] == SEGMENTS.index("wall")).all()
    np.testing.assert_allclose(depth[ahead], 6.0, rtol=1e-6)


def test_the_floor_at_the_centre_ray_lies_where_the_tilt_meets_it():
    segments, depth = raycast.truth(level_room(tilt=(0.6, 0.8)), 33)
    assert segments[16, 16] == SEGMENTS.index("floor")
    np.testing.assert_allclose(depth[16, 16], 1.2 / 0.8, rtol=1e-6)


def test_ceiling_and_side_walls_are_where_the_room_ends():
    segments, depth = raycast.truth(level_room(), 33)
    rays = pixel_rays(33)
    ceiling = segments == SEGMENTS.index("ceiling")
    assert ceiling.any()
    np.testing.assert_allclose(depth[ceiling], 1.3 / rays[1][ceiling], rtol=1e-5)
    np.testing.assert_allclose(depth[16, 0], 3.0 / abs(rays[0, 16, 0]), rtol=1e-5)


def test_a_ball_is_where_the_quadratic_formula_puts_it():
    segments, depth = raycast.truth(level_room(body("ball", z=3.0), camera_height=0.5), 65)
    rays = pixel_rays(65)
    square, along = (rays**2).sum(0), 3.0 * rays[2]  # |r|², r · centre; the ball's radius is 0.5
    root = along**2 - square * (9.0 - 0.25)
    hit = root > 1e-3
    expected = (along - np.sqrt(np.maximum(root, 0))) / square
    assert (segments[hit] == SEGMENTS.index("ball")).all()
    assert (segments[root < -1e-3] != SEGMENTS.index("ball")).all()
    np.testing.assert_allclose(depth[hit], expected[hit], rtol=1e-4)
    assert depth[32, 32] == pytest.approx(2.5, rel=1e-5)


def test_the_front_of_a_box_has_one_depth():
    segments, depth = raycast.truth(level_room(body("box", z=3.0), camera_height=0.5), 65)
    np.testing.assert_allclose(depth[segments == SEGMENTS.index("box")], 3.0 - 0.42, rtol=1e-5)


def test_a_drum_a_cone_and_a_vase_meet_the_centre_ray_at_their_radius():
    for shape, radius in (("drum", 0.13**0.5), ("cone", 0.25), ("vase", 0.15)):
        _, depth = raycast.truth(level_room(body(shape, z=3.0), camera_height=0.5), 33)
        assert depth[16, 16] == pytest.approx(3.0 - radius, rel=1e-5), shape


def test_one_looks_through_an_arch():
    segments, depth = raycast.truth(level_room(body("arch", z=3.0), camera_height=0.5), 65)
    assert segments[32, 32] == SEGMENTS.index("wall")
    assert depth[32, 32] == pytest.approx(6.0)
    assert (segments == SEGMENTS.index("arch")).sum() > 100


@pytest.mark.parametrize("index", range(12))
def test_every_pixel_of_a_body_lies_on_its_surface_and_nothing_stands_before_it(index):
    room = compose(3, "train", index)
    segments, depth = raycast.truth(room, 48)
    point = world_points(room, depth)
    solid = segments >= SEGMENTS.index("clutter")
    nearest = np.min([outside_body(body, point) for body in room.bodies], axis=0)
    np.testing.assert_allclose(nearest[solid], 0, atol=2e-4)
    for share in np.linspace(0.3, 0.99, 24):
        before = world_points(room, depth * share)
        assert np.min([outside_body(body, before) for body in room.bodies]) > -1e-4
    walls = np.stack(
        [point[axis] - room.low[axis] for axis in range(3)] + [room.high[axis] - point[axis] for axis in range(3)]
    )
    np.testing.assert_allclose(np.abs(walls).min(0)[~solid], 0, atol=1e-4)


def test_depth_stays_between_a_hand_and_ten_metres():
    depths = [raycast.truth(compose(1, "val", index), 16)[1] for index in range(300)]
    assert np.min(depths) > 0.25
    assert np.max(depths) < 10
    for index in range(300):
        room = compose(1, "val", index)
        assert np.linalg.norm(np.subtract(room.high, room.low)) < 10


def test_the_frame_around_a_body_cuts_nothing_off(monkeypatch):
    rooms = [compose(5, "train", index) for index in range(12)]
    framed = [raycast.picture(room, 40) for room in rooms]
    monkeypatch.setattr(raycast, "_frame", lambda room, body, size: (slice(0, size), slice(0, size)))
    for room, picture in zip(rooms, framed, strict=True):
        np.testing.assert_array_equal(raycast.picture(room, 40), picture)


def test_twice_the_size_shows_the_same_scene():
    for index in range(6):
        room = compose(0, "train", index)
        small, large = raycast.picture(room, 32).astype(float), raycast.picture(room, 64).astype(float)
        linear = (large / 255) ** 2  # means are taken before the gamma
        mean = np.sqrt(linear.reshape(32, 2, 32, 2, 3).mean((1, 3))) * 255
        assert np.abs(mean - small).mean() < 4
        (segments, depth), (fine, deep) = raycast.truth(room, 32), raycast.truth(room, 64)
        same = segments.repeat(2, 0).repeat(2, 1) == fine
        assert same.mean() > 0.93
        assert np.abs(depth.repeat(2, 0).repeat(2, 1) - deep)[same].mean() < 0.06


def test_the_lamp_lights_what_faces_it():
    picture = raycast.picture(level_room(body("drum", z=3.0)), 64)
    segments, _ = raycast.truth(level_room(body("drum", z=3.0)), 64)
    columns = np.nonzero((segments == SEGMENTS.index("drum")).any(0))[0]
    assert picture[40, columns[-6]].mean() > picture[40, columns[2]].mean() + 5  # the lamp hangs to the right


def test_a_lathe_without_a_lid_in_sight_is_closed_by_one_from_above():
    room = level_room(body("drum", z=1.5, height=0.8), tilt=(0.8, 0.6), camera_height=1.9)
    segments, depth = raycast.truth(room, 64)
    top = world_points(room, depth)[1][segments == SEGMENTS.index("drum")]
    assert isinstance(room.bodies[0].solids[0], Lathe)
    assert (np.abs(top - 0.8) < 1e-4).sum() > 20
