"""What each of several GPUs holds of a model, by hand; and the published hours of the 7B model."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness import gpu_estimate
from harness.config import load
from harness.cost import step_cost
from harness.counted import Cost, at_depth
from harness.gpu_estimate import LIBRARIES_BYTES, Counted, Share, hours, largest_step, lines, parts, share
from harness.graph import jobs

GRAM = {"gram.weight": 1.0, "gram.resolution": 2.0}
ROOT = Path(__file__).resolve().parents[2]
# Ten blocks of 100 numbers and ends of 50; 8 images, of which the step keeps 440 bytes where blocks are recomputed
STEP = Cost(flops=1.0, backward=0.5, weights=4 * 1050, teachers=4 * 1050, activations=1000)
BLOCK = Cost(flops=0.1, backward=0.05, weights=400, teachers=400, activations=80)
MODEL = Counted(STEP, BLOCK, depth=10, recomputed=440)


def test_one_process_holds_what_the_step_was_counted_to_hold_and_what_is_gathered():
    found = share(MODEL, processes=1, recomputed=False)
    assert found.total == STEP.memory + found.gathered + LIBRARIES_BYTES


def test_shards_divide_states_and_teachers_but_not_what_is_gathered():
    one, four = (share(MODEL, processes=n, recomputed=False) for n in (1, 4))
    assert four == Share(one.states / 4, one.teachers / 4, one.gathered, one.activations / 4)
    assert one.states == 16 * 1050  # float32 weights, gradients and two moments
    # two blocks and the ends, all blocks and the ends in half, the gradients of one block twice
    assert one.gathered == 4 * (2 * 100 + 50) + 2 * (10 * 100 + 50) + 2 * 4 * 100
    again = share(MODEL, processes=1, recomputed=True)
    assert one.gathered - again.gathered == 2 * 9 * 100


def test_activations_are_those_of_the_step_that_is_taken():
    kept, again = (share(MODEL, processes=2, recomputed=one) for one in (False, True))
    assert (kept.activations, again.activations) == (500, 220)


@pytest.mark.parametrize(("first_step", "is_on"), [(1, True), (2, False)])
def test_the_largest_step_of_a_job_is_anchored_where_the_job_comes_to_that(tiny, change, first_step, is_on):
    """By the count that the plan's table has of a run that recomputes, and of one that does not."""
    deep = change(at_depth(tiny, 7), {**GRAM, "gram.start_step": first_step, "arms": {"plain": {}}})
    job = replace(jobs(deep, fingerprint=lambda data: "rooms")[0], stop=2)
    assert job.settings.gram.first_step == first_step
    found = largest_step(job)
    assert found.step == step_cost(job.settings, gram=is_on) != step_cost(job.settings, gram=not is_on)
    again = change(job.settings, {"runtime.recompute": True})
    assert found.recomputed == step_cost(again, gram=is_on).activations < found.step.activations
    assert found.depth == 7


def test_parts_in_turn_divide_activations_alone():
    whole, half = (share(MODEL, processes=1, recomputed=True, accumulate=n) for n in (1, 2))
    assert half == whole._replace(activations=whole.activations / 2)


def test_a_batch_is_taken_in_as_few_parts_as_fit(monkeypatch):
    fits = share(MODEL, processes=2, recomputed=True, accumulate=2).total
    monkeypatch.setattr(gpu_estimate, "GPU_BYTES", fits)
    assert parts(MODEL, 8, processes=2) == 2
    monkeypatch.setattr(gpu_estimate, "GPU_BYTES", 1.0)
    assert parts(MODEL, 8, processes=2) is None


def test_a_model_that_fits_one_gpu_has_no_such_lines(tiny):
    assert lines(jobs(tiny, fingerprint=lambda data: "rooms")) == []


def test_both_ways_are_told_alike_whether_the_run_itself_recomputes_or_not(tiny, change, monkeypatch):
    monkeypatch.setattr(gpu_estimate, "GPU_BYTES", 1.0)  # so that the model fits none
    kept, again = (
        lines(jobs(change(at_depth(tiny, 7), {"runtime.recompute": one}), fingerprint=lambda data: "rooms"))
        for one in (False, True)
    )
    assert kept == again
    assert len(kept) > len(tiny.arms)


@pytest.mark.slow
def test_the_published_hours_of_the_7b_model_are_a_plausible_share_of_what_its_gpus_can_do():
    recipe = load(ROOT / "experiments" / "full_recipe.yaml", ["scale=vit7b"])
    pretraining = jobs(recipe, fingerprint=lambda data: "rooms")[0]
    told = lines([pretraining])
    assert [line.split()[:2] for line in told[2:5]] == [["pretraining", "8"], ["64", "64"], ["256", "16"]]
    published = gpu_estimate.PUBLISHED["vit_7b_patch16_dinov3"]
    assert 0.55 < gpu_estimate.UTILISATION * hours(pretraining, recomputed=False) / published < 0.6
    assert told[5].endswith("the published 61,440 would be 57%")
