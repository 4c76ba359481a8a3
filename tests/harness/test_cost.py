"""The cost of a step, counted before it runs, against a count by hand and against the step that really runs."""

import re
from math import prod

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from common.errors import BadInput
from harness import gram_teacher
from harness.beginning import fresh_state
from harness.cost import flops, forward_flops, machine_rate, step_cost, watch_flops
from harness.counted import shapes
from harness.forward import forward
from harness.graph import jobs
from harness.losses.gram import Gram
from harness.schedules import at

WIDTH, DEPTH, PATCH, BATCH = 32, 2, 8, 4
HIDDEN, BOTTLENECK, PROTOTYPES = 24, 16, 16


def backbone(side: int) -> int:
    """Multiply-adds of one forward of one image: embedding; per block 12 D² a token and two products of N² D."""
    patches = (side // PATCH) ** 2
    tokens = patches + 2
    block = 12 * tokens * WIDTH**2 + 2 * tokens**2 * WIDTH
    return patches * 3 * PATCH**2 * WIDTH + DEPTH * block


def spared(side: int, crops: int, asked: int) -> int:
    """Multiply-adds of the last MLP on tokens of these crops beyond those that are asked for."""
    return 8 * WIDTH**2 * (crops * ((side // PATCH) ** 2 + 2) - asked)


def head(tokens: int) -> int:
    return tokens * (WIDTH * HIDDEN + HIDDEN * HIDDEN + HIDDEN * BOTTLENECK + BOTTLENECK * PROTOTYPES)


def by_hand(masked: int) -> int:
    """Operations of a plain step: the teacher forward, the student forward and twice that backward."""
    globals_ = 2 * BATCH * backbone(32) - spared(32, 2 * BATCH, 2 * BATCH + masked)
    locals_ = 2 * BATCH * backbone(16) - spared(16, 2 * BATCH, 2 * BATCH)
    teacher = globals_ + head(2 * BATCH) + head(masked)
    student = globals_ + locals_ + head(4 * BATCH) + head(masked)
    pixels = 2 * BATCH * (16 + 4) * 3 * PATCH**2 * WIDTH  # which get no gradient
    return 2 * (teacher + 3 * student - pixels)


def test_a_plain_step_costs_what_its_products_cost(tiny):
    masked = int(shapes(tiny, PATCH).masks.sum())
    assert masked == 4 * 4
    assert step_cost(tiny, gram=False).flops == pytest.approx(by_hand(masked), rel=0.05)


def test_the_count_is_that_of_the_step_which_really_runs(tiny, change, make_batches):
    settings = change(tiny, {"ibot.mask_ratio_min": 0.25, "ibot.mask_ratio_max": 0.25})
    state = fresh_state(settings, 0, torch.device("cpu"))
    batch = make_batches(settings)[0]
    assert batch.masks.sum() == shapes(settings, PATCH).masks.sum()
    by_onednn = {torch.ops.mkldnn._linear_pointwise: lambda x, w, *_, **__: 2 * prod(x) * w[0]}
    with FlopCounterMode(display=False, custom_mapping=by_onednn) as counter:
        total, *_ = forward(state, batch, at(settings, 0), settings, seed=0)
        total.backward()
    assert step_cost(settings, gram=False).flops == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_gram_adds_a_teacher_forward_and_a_larger_one_costs_more(tiny, change):
    plain = step_cost(tiny, gram=False)
    once, twice = (step_cost(change(tiny, {"gram": Gram(weight=1.0, resolution=r)}), gram=True) for r in (1.0, 2.0))
    assert plain.flops < once.flops < twice.flops
    masked = int(shapes(tiny, PATCH).masks.sum())
    whole = 3 * spared(32, 2 * BATCH, 2 * BATCH + masked)  # all of the student's patches are asked for
    assert once.flops - plain.flops == pytest.approx(2 * (2 * BATCH * backbone(32) + whole), rel=0.05)
    assert twice.flops - plain.flops == pytest.approx(2 * (2 * BATCH * backbone(64) + whole), rel=0.05)
    assert plain.memory < once.memory


def test_the_live_teacher_needs_no_third_network(tiny, change):
    given, live = (
        step_cost(change(tiny, {"gram": Gram(weight=1.0, teacher=teacher)}), gram=True)
        for teacher in ("snapshot", "ema")
    )
    network = sum(p.numel() * 4 for p in fresh_state(tiny, 0, torch.device("cpu")).student.backbone.parameters())
    assert given.memory - live.memory == network


def test_a_gram_step_of_a_plain_arm_is_counted_without_gram(tiny, change):
    anchored = change(tiny, {"gram": Gram(weight=1.0, start_step=3)})
    assert step_cost(anchored, gram=False) == step_cost(tiny, gram=False)


@pytest.mark.parametrize(
    "values",
    [
        {"data.batch_size": 8},
        {"crops.local_count": 6},
        {"crops.global_size": 64},
        {"dino.head.prototypes": 4096},
        {"ibot.mask_ratio_max": 0.9},
    ],
)
def test_more_of_anything_costs_more(tiny, change, values):
    less, more = step_cost(tiny, gram=False), step_cost(change(tiny, values), gram=False)
    assert more.flops > less.flops
    assert more.memory > less.memory


def test_half_the_bytes_take_less_memory(tiny, change):
    half = step_cost(change(tiny, {"precision": "bfloat16"}), gram=False)
    assert half.memory < step_cost(tiny, gram=False).memory
    assert half.flops == step_cost(tiny, gram=False).flops


def test_memory_holds_at_least_weights_moments_gradients_and_a_teacher(tiny):
    weights = sum(p.numel() * 4 for p in fresh_state(tiny, 0, torch.device("cpu")).student.parameters())
    assert step_cost(tiny, gram=False).memory > 5 * weights


def test_a_forward_costs_what_its_products_cost(tiny):
    assert forward_flops(tiny, 32) == pytest.approx(2 * backbone(32), rel=0.02)


@pytest.mark.parametrize("size", [36, 4])
def test_a_size_that_patches_do_not_divide_is_refused(tiny, size):
    with pytest.raises(BadInput, match=re.escape(f"evals.size={size} with patches of 8")):
        forward_flops(tiny, size)


def test_this_machine_multiplies_at_some_rate(tiny):
    assert 1e8 < machine_rate(tiny, torch.device("cpu")) < 1e15


def test_a_step_of_a_frozen_backbone_costs_a_forward_and_the_heads(tiny, change):
    settings = change(tiny, {"optimizer.freeze_backbone_steps": 4, "gram": Gram(weight=1.0, start_step=2)})
    frozen, free = (step_cost(settings, gram=False, frozen=one) for one in (True, False))
    masked = int(shapes(settings, PATCH).masks.sum())
    forward = 2 * BATCH * (backbone(32) + backbone(16))
    forward -= spared(32, 2 * BATCH, 2 * BATCH + masked) + spared(16, 2 * BATCH, 2 * BATCH)
    backward = 2 * 2 * forward  # which is left out: twice the student's forward
    assert free.flops - frozen.flops == pytest.approx(backward, rel=0.15)
    assert frozen.memory < free.memory
    both = step_cost(settings, gram=True, frozen=True), step_cost(settings, gram=True)
    assert flops(settings, 0, 6, origin=0) == 2 * frozen.flops + 2 * both[0].flops + 2 * both[1].flops


@pytest.mark.parametrize("counts_from", ["run", "segment"])
def test_frozen_steps_are_counted_where_training_has_them(tiny, change, counts_from):
    """Against the schedule of every step, in a trunk, in arms, and in an arm that goes on with a segment."""
    arms = {
        "plain": {},
        "longer": {"from": "plain", "steps": 14},
        "late": {"from": "plain", "at": 5, "gram.weight": 2.0},
    }
    own = {"optimizer.freeze_backbone_steps": 4, "schedule.counts_from": counts_from, "trunk.steps": 3, "steps": 9}
    frozen = []
    for job in jobs(change(tiny, {**own, "arms": arms}), fingerprint=lambda data: "24 rooms"):
        taken = range(job.start, job.stop)
        now = [at(job.settings, step, origin=job.origin, stop=job.stop) for step in taken]
        steps = [
            step_cost(job.settings, gram=gram_teacher.is_on(job.settings.gram, one.step), frozen=one.backbone_frozen)
            for one in now
        ]
        assert flops(job.settings, job.start, job.stop, origin=job.origin) == pytest.approx(
            sum(one.flops for one in steps)
        ), job.name
        frozen.append(sum(one.backbone_frozen for one in now))
    assert frozen == {"run": [3, 1, 0, 0], "segment": [3, 4, 4, 4]}[counts_from]


def test_the_ring_of_measured_teachers_is_held_beside_the_gram_teacher(tiny, change):
    own = {"gram.weight": 1.0, "gram.teacher": "best_dense", "gram.measure": "dse"}
    less, more = (step_cost(change(tiny, {**own, "gram.ring": ring}), gram=True) for ring in (2, 7))
    network = sum(p.numel() * 4 for p in fresh_state(tiny, 0, torch.device("cpu")).student.backbone.parameters())
    assert more.memory - less.memory == 5 * network


def test_measuring_costs_a_forward_pass_of_its_images_each_time(tiny, change):
    own = {"gram.weight": 1.0, "gram.start": "alarm", "gram.measure": "dse", "gram.measure_every": 10}
    watched = change(tiny, {**own, "gram.measure_images": 12, "gram.start_step": 15, "steps": 100})
    assert watch_flops(watched, 0, 100) == 9 * 12 * forward_flops(watched, 32)  # steps 20, 30 … 100
    assert watch_flops(watched, 30, 49) == 2 * 12 * forward_flops(watched, 32)
    assert watch_flops(tiny, 0, 100) == 0
