"""The Gram teacher: when it is on and renewed, which crops it needs, what is said of it, and its sources as a table."""

from dataclasses import replace
from typing import get_args

import pytest
import torch

from common.errors import BadInput
from harness import gram_teacher
from harness.config import science
from harness.crop_settings import Crops, Sizes
from harness.gram_teacher import SOURCES, events, is_inherited, is_on, is_renewed, words
from harness.gram_view import crops, resize_patches
from harness.losses.anchoring import GramTeacher
from harness.losses.gram import Gram

PAPER = Gram(
    weight=2.0, start_step=1_000_000, warmup_steps=1000, teacher_step=200_000, update_every=10_000, resolution=2.0
)


def cubic(x: float, a: float = -0.5) -> float:
    """The cubic kernel; torch antialiases with a = −0.5, and interpolates with −0.75 otherwise."""
    x = abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def steps_that_renew(gram: Gram, stop: int) -> list[int]:
    return [step for step in range(stop) if is_renewed(gram, step)]


# --- when


def test_the_stage_two_gram_weight_rises_in_half_a_cosine():
    steps = (0, 999_999, 1_000_000, 1_000_500, 1_000_999, 1_001_000, 1_200_000)
    expected = [0, 0, 0, 1.00157, 2.0, 2.0, 2.0]
    assert [PAPER.weight_at(step) for step in steps] == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize("warmup", [0, 1])
def test_without_a_warm_up_the_gram_weight_is_full_at_once(warmup):
    gram = Gram(weight=2.0, start_step=5, warmup_steps=warmup)
    assert [gram.weight_at(step) for step in (4, 5, 6)] == [0.0, 2.0, 2.0]


def test_the_gram_loss_is_computed_from_its_first_step_even_at_weight_zero():
    assert [is_on(PAPER, step) for step in (999_999, 1_000_000)] == [False, True]
    assert not is_on(Gram(), 10)


@pytest.mark.parametrize(
    ("gram", "expected"),
    [
        ({"start_step": 4}, [4]),
        ({"start_step": 4, "teacher_step": 1}, [1]),
        ({"start_step": 4, "teacher_step": 0, "update_every": 3}, [0, 7, 10]),
        ({"start_step": 4, "update_every": 3}, [4, 7, 10]),
        ({"start_step": 0, "update_every": 5}, [0, 5, 10]),
        ({"start_step": 4, "teacher": "ema"}, []),
        ({"start_step": 4, "teacher": "checkpoint", "checkpoint": "x"}, []),
        ({"start_step": 4, "teacher": "checkpoint", "checkpoint": "x", "update_every": 4}, [8]),
        ({"start_step": 4, "update_every": 3, "weight": 0.0}, []),
        ({"start_step": 4, "update_every": 2, "max_renewals": 2}, [4, 6, 8]),
        ({"start_step": 4, "update_every": 3, "first_renewal": 5}, [4, 5, 8, 11]),
        ({"start_step": 4, "update_every": 3, "first_renewal": 5, "max_renewals": 1}, [4, 5]),
        ({"start_step": 4, "first_renewal": 5, "max_renewals": 1}, [4]),
    ],
)
def test_the_gram_teacher_is_renewed_at_exactly_these_steps(gram, expected):
    assert steps_that_renew(Gram(**{"weight": 1.0, **gram}), 12) == expected


def test_the_papers_gram_teacher_is_the_early_snapshot_then_three_updates_in_forty_thousand_steps():
    found = [step for step in range(0, 1_040_000, 10_000) if is_renewed(PAPER, step)]
    assert found == [200_000, 1_010_000, 1_020_000, 1_030_000]


def test_the_official_schedule_of_the_7b_model_renews_three_times_from_step_1_010_000():
    """Recipe §6.3: after its step `it`, where it + 1 ≥ 1,010,000 and a multiple of 10,000, at most three times."""
    official, done = [], 0
    for step in range(0, 1_200_000, 10):
        if step >= 1_010_000 and step % 10_000 == 0 and done < 3:
            official.append(step)
            done += 1
    stage = {"weight": 2.0, "start_step": 1_000_000, "update_every": 10_000, "max_renewals": 3}
    for more in ({}, {"first_renewal": 1_010_000}):
        gram = Gram(**stage, **more)
        assert [step for step in range(0, 1_200_000, 10) if is_renewed(gram, step)] == [1_000_000, *official]
        assert [event["step"] for event in events(gram, 0, 1_200_000)][1:] == official


def test_what_does_nothing_without_renewals_is_named_and_left_out_of_the_identity(tiny, change):
    def held(**gram):
        return science(change(tiny, {"gram": Gram(weight=1.0, **gram)}), data_fingerprint="x")["gram"]

    assert set(Gram(weight=1.0).unused()) >= {"first_renewal", "max_renewals"}
    assert held(first_renewal=7, max_renewals=2) == held()
    assert held(update_every=3, max_renewals=2) == {**held(update_every=3), "max_renewals": 2}


# --- from where


def test_every_source_of_the_settings_is_in_the_table():
    assert set(SOURCES) == set(get_args(GramTeacher))


@pytest.mark.parametrize(
    ("gram", "expected"),
    [
        ({"start_step": 6}, ()),
        ({"start_step": 6, "teacher_step": 3}, (3,)),
        ({"start_step": 6, "teacher_step": 4}, ()),
        ({"start_step": 6, "teacher": "ema"}, ()),
        ({"start_step": 6, "teacher_step": 3, "weight": 0.0}, ()),
    ],
)
def test_a_trunk_keeps_the_ema_of_a_step_before_the_fork_that_an_arm_anchors_to(gram, expected):
    assert gram_teacher.earlier_steps(Gram(**{"weight": 1.0, **gram}), 4) == expected


@pytest.mark.parametrize(
    ("first", "ring", "expected"),
    [
        (40, 2, (30,)),
        (40, 3, (20, 30)),
        (45, 3, (30,)),  # 40 and 45 are the arm's own
        (30, 2, (30,)),  # the loss was on at the fork, where the arm chooses
        (40, 9, (0, 10, 20, 30)),
    ],
)
def test_a_trunk_keeps_what_an_arm_chooses_its_best_from(first, ring, expected):
    own = {"teacher": "best_dense", "measure": "dse", "measure_every": 10, "ring": ring}
    assert gram_teacher.earlier_steps(Gram(weight=1.0, start_step=first, **own), 40) == expected
    assert gram_teacher.earlier_steps(Gram(weight=1.0, start_step=first, start="alarm", **own), 40) == ()
    learnt = gram_teacher.earlier_steps(Gram(weight=1.0, start_step=first, **own), 40, learnt=1)
    assert learnt == tuple(step for step in expected if step > 0)  # a network that has learnt nothing is none of them


@pytest.mark.parametrize("every", [1, 3, 10])
@pytest.mark.parametrize("ring", [2, 3, 5])
def test_no_more_is_measured_for_a_choice_than_it_is_made_among(every, ring):
    own = Gram(weight=1.0, teacher="best_dense", measure="dse", measure_every=every, ring=ring)
    for choice in range(60, 75):
        first = own.measured_from(choice)
        measured = {*range(first, choice, every), choice}
        assert len(measured) == ring
        assert all(step % every == 0 for step in measured - {choice})
        assert {step for step in range(first, choice) if step % every == 0} == measured - {choice}


def test_a_given_backbone_matters_only_where_the_loss_is_on(tmp_path):
    given = {"teacher": "checkpoint", "checkpoint": str(tmp_path)}
    assert gram_teacher.given_folder(Gram(weight=1.0, **given)) == tmp_path
    assert gram_teacher.given_folder(Gram(weight=0.0, **given)) is None
    assert gram_teacher.content(Gram(weight=0.0, **given)) == {}
    with pytest.raises(BadInput, match=r"gram.checkpoint=.*: no exported backbone there"):
        gram_teacher.content(Gram(weight=1.0, **given))


# --- what it sees


@pytest.mark.parametrize(
    ("size", "resolution", "patch", "want"),
    [(224, 2.0, 16, 448), (224, 1.5, 16, 336), (32, 1.25, 8, 40)],
)
def test_crops_are_larger_by_the_resolution(size, resolution, patch, want):
    found = crops(Gram(weight=1.0, resolution=resolution, undistorted=False), Crops(global_size=size), patch)
    assert (found.sizes, found.undistorted) == ([want], False)


def test_a_resolution_whose_crops_the_patch_does_not_divide_is_refused_with_the_nearest():
    with pytest.raises(BadInput, match=r"gram.resolution=1.2, crops of 38.4 pixels .* try 1.25"):
        crops(Gram(weight=1.0, resolution=1.2), Crops(global_size=32), 8)


def test_an_odd_resolution_matters_only_where_the_gram_loss_is_on():
    assert crops(Gram(resolution=1.2), Crops(global_size=32), 8) is None


@pytest.mark.parametrize(
    ("gram", "needed"),
    [
        ({}, True),
        ({"undistorted": False}, True),
        ({"teacher": "ema"}, True),
        ({"teacher": "ema", "undistorted": False, "resolution": 2.0}, True),
        ({"teacher": "ema", "undistorted": False}, False),
    ],
)
def test_only_a_live_teacher_on_the_crops_that_it_sees_anyway_needs_none(gram, needed):
    found = crops(Gram(**{"weight": 1.0, "start_step": 3, **gram}), Crops(global_size=32), 8)
    assert [found.are_made(step, 0, 32) for step in (2, 3, 9)] == [False, needed, needed]


def test_a_live_teacher_needs_larger_crops_in_the_steps_alone_that_have_them():
    own = [Sizes(global_size=32, local_size=16, gram_size=size, probability=0.5) for size in (32, 48)]
    found = crops(Gram(weight=1.0, teacher="ema", undistorted=False), Crops(sizes=own), 8)
    assert [found.are_made(0, which, 32) for which in (0, 1)] == [False, True]


def test_resizing_is_bicubic_without_antialiasing_and_keeps_row_major_order():
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    patches = torch.stack([rows, columns], dim=-1).flatten(0, 1)[None]
    small = resize_patches(patches, 8, 4)
    assert small.shape == (1, 16, 2)
    inner = small[0].unflatten(0, (4, 4))[1:-1, 1:-1]
    expected = torch.tensor([2.5, 4.5])  # a bicubic filter keeps lines straight, away from the border
    torch.testing.assert_close(inner[:, 0, 0], expected)
    torch.testing.assert_close(inner[0, :, 1], expected)
    spike = torch.zeros(1, 64, 1)
    spike[0, 0] = 1.0
    # (1 + 0.75·…)-weights of the cubic kernel with a = −0.75 at half a sample: −0.09375, 0.59375, 0.59375, −0.09375
    torch.testing.assert_close(resize_patches(spike, 8, 4)[0, 0, 0].item(), (0.59375 - 0.09375) ** 2)


@pytest.mark.parametrize(
    ("how", "antialias", "kernel"),
    [
        # halving: samples lie between two patches; antialiasing stretches the kernel to twice its width
        ("bilinear", False, [0.5, 0.5]),
        ("bilinear", True, [0.125, 0.375, 0.375, 0.125]),
        ("area", False, [0.5, 0.5]),
        ("bicubic", False, [-0.09375, 0.59375, 0.59375, -0.09375]),
        ("bicubic", True, [cubic(x / 4) / 2 for x in (-7, -5, -3, -1, 1, 3, 5, 7)]),
    ],
)
def test_each_way_of_resizing_has_the_weights_of_its_kernel(how, antialias, kernel):
    """Away from the border, along one axis; each patch's weight is read from a grid that holds a one there."""
    spikes = torch.eye(16)[:, None, :].expand(16, 16, 16).reshape(16, 256, 1)  # grid i holds ones in column i
    found = resize_patches(spikes, 16, 8, how=how, antialias=antialias).unflatten(1, (8, 8))[:, 4, 4, 0]
    half = len(kernel) // 2
    expected = torch.zeros(16)
    expected[9 - half : 9 + half] = torch.tensor(kernel)
    torch.testing.assert_close(found, expected / expected.sum(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("how", ["bicubic", "bilinear", "area"])
@pytest.mark.parametrize("side", [6, 7, 12])
def test_resizing_any_grid_keeps_what_is_constant(how, side):
    flat = torch.full((2, side * side, 3), 1.7)
    torch.testing.assert_close(resize_patches(flat, side, 4, how=how), torch.full((2, 16, 3), 1.7))


def test_how_equal_grids_are_resized_is_no_part_of_the_identity():
    assert {"resize", "antialias"} <= set(Gram(weight=1.0).unused())
    larger = Gram(weight=1.0, resolution=2.0)
    assert not {"resize", "antialias"} & set(larger.unused())
    assert "antialias" in Gram(weight=1.0, resolution=2.0, resize="area").unused()


def test_an_equal_grid_is_left_as_it_is():
    patches = torch.randn(1, 16, 3)
    assert resize_patches(patches, 4, 4) is patches


# --- what is said of it


@pytest.mark.parametrize(
    ("gram", "expected"),
    [
        (Gram(weight=0.0), []),
        (Gram(weight=1.0, start_step=6), [6]),
        (Gram(weight=1.0, start_step=6, update_every=2), [6, 8]),
        (Gram(weight=1.0, start_step=4, update_every=3), [4, 7]),
        (Gram(weight=1.0, start_step=4, teacher="ema"), [4]),
    ],
)
def test_events_are_the_start_and_the_renewals_that_happen(gram, expected):
    found = events(gram, 4, 10)
    assert [event["step"] for event in found] == expected
    assert [event["kind"] for event in found] == (["gram_start"] + ["gram_update"] * 9)[: len(expected)]


def test_events_are_the_steps_at_which_the_schedule_renews():
    gram = Gram(weight=1.0, start_step=5, teacher_step=2, update_every=4)
    updates = [event["step"] for event in events(gram, 0, 30) if event["kind"] == "gram_update"]
    assert updates == [step for step in range(5, 30) if is_renewed(gram, step)]


def test_an_arm_that_inherits_the_loss_has_its_renewals_and_not_its_start():
    gram = Gram(weight=1.0, start_step=4, update_every=3)
    assert events(gram, 9, 18) == [{"step": step, "kind": "gram_update"} for step in (10, 13, 16)]


@pytest.mark.parametrize(
    ("own", "inherits"),
    [
        ({}, True),
        ({"weight": 1.0, "update_every": 2, "resolution": 2.0}, True),
        ({"weight": 0.0}, False),
        ({"teacher": "ema"}, False),
        ({"teacher_step": 3}, False),
        ({"teacher": "checkpoint", "checkpoint": "x"}, False),
    ],
)
def test_an_arm_inherits_the_gram_teacher_where_both_name_the_same_first_one(own, inherits):
    gram = {"weight": 2.0, "start_step": 4}
    assert is_inherited(Gram(**{**gram, **own}), Gram(**gram)) is inherits
    assert is_inherited(Gram(**gram), Gram(**{**gram, **own})) is inherits


def test_its_words_name_source_resolution_renewal_weight_and_start():
    assert words(Gram()) == "off"
    live = Gram(weight=0.5, start_step=2, teacher="ema")
    assert words(live) == "ema ×1, weight 0.5 from step 2"
    assert words(replace(live, relation="cka")) == "CKA of ema ×1, weight 0.5 from step 2"
    paper = "EMA of step 200000 ×2, renewed every 10000, weight 2 from step 1000000"
    assert words(PAPER) == paper
    ends = {"update_every": 10, "first_renewal": 15, "max_renewals": 3, "weight_end": 0.5}
    ends = Gram(weight=1.0, start_step=4, **ends)
    assert words(ends) == "EMA of step 4 ×1, renewed every 10 from 15, 3 times, weight 1 from step 4, going to 0.5"
