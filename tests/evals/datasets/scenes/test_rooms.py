from collections import Counter

from evals.datasets.scenes.rooms import SEGMENTS, compose, draws, shape_of
from evals.datasets.scenes.solids import SHAPES


def test_every_run_of_six_scenes_holds_every_shape_once():
    for block in range(50):
        run = [shape_of(7, "train", 6 * block + place) for place in range(6)]
        assert sorted(run) == list(range(6))


def test_shapes_come_in_no_fixed_order():
    orders = Counter(tuple(shape_of(0, "val", 6 * block + place) for place in range(6)) for block in range(60))
    assert len(orders) > 40


def test_the_large_object_is_of_the_class():
    for index in range(30):
        large = compose(2, "test", index).bodies[0]
        assert SEGMENTS[large.segment] == SHAPES[shape_of(2, "test", index)]


def test_seed_split_and_index_each_change_the_scene():
    base = compose(0, "train", 4)
    others = [compose(1, "train", 4), compose(0, "val", 4), compose(0, "train", 5)]
    assert all(other.camera != base.camera and other.tones != base.tones for other in others)


def test_a_scene_does_not_depend_on_what_was_composed_before():
    alone = compose(0, "train", 17)
    for index in (3, 400, 17):
        again = compose(0, "train", index)
    assert again == alone


def test_draws_fill_their_range_evenly():
    draw = draws(0, "train", 0)
    values = [draw(2.0, 4.0) for _ in range(4000)]
    assert min(values) >= 2
    assert max(values) < 4
    assert abs(sum(values) / 4000 - 3) < 0.05


def test_bodies_stand_inside_the_room_and_apart():
    for index in range(200):
        room = compose(11, "train", index)
        for body in room.bodies:
            assert room.low[0] < body.x - body.radius
            assert body.x + body.radius < room.high[0]
            assert body.z + body.radius < room.high[2]
            assert body.height < room.high[1]
        large, *clutter = room.bodies
        for body in clutter:
            assert (body.x - large.x) ** 2 + (body.z - large.z) ** 2 > large.radius**2
