"""Crops of mixed sizes: drawn for each step, the same whoever draws, and plain ones where there is nothing to draw."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from common.errors import BadInput
from harness import gram_teacher, gram_view
from harness.cost import step_cost
from harness.crop_settings import Crops, Sizes
from harness.data.sizes import drawn, mean, most_seen, refuse_uneven_crops, sides
from harness.data.stream import stream
from harness.graph import jobs
from harness.memory import held, most_held, sizes
from harness.pointless import pointless
from harness.timeline import planned_arms
from harness.train import train

CPU = torch.device("cpu")
PAPER = [(512, 112, 768, 0.3), (768, 112, 1152, 0.3), (768, 168, 1152, 0.3), (768, 224, 1152, 0.05),
         (768, 336, 1152, 0.05)]  # fmt: skip
SMALL = [(32, 16, 32, 0.25), (48, 16, 64, 0.5), (64, 24, 96, 0.25)]
GRAM = {"gram.weight": 2.0, "gram.start_step": 1, "gram.teacher_step": 0}


def table(rows):
    return [
        Sizes(global_size=whole, local_size=local, gram_size=gram, probability=chance)
        for whole, local, gram, chance in rows
    ]


@pytest.fixture(scope="module")
def mixed(tiny, change):
    return change(tiny, {**GRAM, "crops.sizes": table(SMALL)})


def shapes(batch):
    gram = None if batch.gram is None else batch.gram.shape[-1]
    return batch.globals.shape[-1], batch.locals.shape[-1], gram


def test_triples_come_as_often_as_their_probabilities_say():
    found = sides(Crops(sizes=table(PAPER)))
    counts = np.bincount([drawn(found, 0, step) for step in range(6000)], minlength=5) / 6000
    assert counts == pytest.approx([0.3, 0.3, 0.3, 0.05, 0.05], abs=0.02)
    assert [drawn(found, 0, step) for step in range(50)] != [drawn(found, 1, step) for step in range(50)]


def test_all_crops_of_a_step_and_its_masks_have_the_sides_of_one_triple(mixed, make_batches):
    batches = make_batches(mixed)
    seen = set()
    for step in range(1, 14):
        batch = batches[step]
        assert shapes(batch) in [row[:3] for row in SMALL]
        assert batch.masks.shape == (8, (batch.globals.shape[-1] // 8) ** 2)
        seen.add(shapes(batch))
    assert seen == {row[:3] for row in SMALL}


@pytest.mark.parametrize("workers", [0, 2])
def test_sizes_are_the_same_for_any_start_and_number_of_workers(mixed, make_batches, workers):
    batches = make_batches(mixed)
    want = [batches[step] for step in range(2, 7)]
    got = list(stream(make_batches(mixed), 2, 7, workers=workers))
    assert [shapes(batch) for batch in got] == [shapes(batch) for batch in want]
    assert all(
        torch.equal(a.globals, b.globals) and torch.equal(a.gram, b.gram) for a, b in zip(got, want, strict=True)
    )


@pytest.mark.parametrize("gram_size", [64, None])
def test_one_triple_that_is_certain_trains_as_plain_sizes_do_bit_for_bit(
    tiny, change, take_steps, weights, same, gram_size
):
    plain = change(tiny, {**GRAM, "gram.resolution": 2.0})
    certain = change(plain, {"crops.sizes": table([(32, 16, gram_size, 1.0)]), "crops.global_size": 128})
    (one, rows), (other, others) = take_steps(plain, 3), take_steps(certain, 3)
    assert rows == others
    assert same(weights(one), weights(other))


def test_training_on_mixed_sizes_that_was_cut_off_goes_on_bit_for_bit(make_job, pool, same, tmp_path):
    class Cut(Exception):
        pass

    def dies(job, step, folder):
        if step == 2:
            raise Cut
        return {}

    values = {**GRAM, "crops.sizes": table(SMALL), "steps": 5, "evals.every": 2}
    cut, whole = (make_job(values, folder=tmp_path / name) for name in ("cut", "whole"))
    with pytest.raises(Cut):
        train(cut, pool, dies, device=CPU)
    for job in (cut, whole):
        train(job, pool, lambda job, step, folder: {}, device=CPU)
    states = [load_file(job.folder / "states" / "step_000005.safetensors") for job in (cut, whole)]
    assert same(*states)


def test_a_step_of_mixed_sizes_costs_the_mean_and_holds_the_largest(mixed, change):
    single = [step_cost(change(mixed, {"crops.sizes": table([(*row[:3], 1.0)])}), gram=True) for row in SMALL]
    cost = step_cost(mixed, gram=True)
    assert cost.flops == pytest.approx(sum(row[3] * one.flops for row, one in zip(SMALL, single, strict=True)))
    assert cost.memory == max(one.memory for one in single)
    assert single[0].flops < cost.flops < single[2].flops


def test_the_memory_that_is_foreseen_is_that_of_the_largest_triple(mixed, change):
    one_arm = change(mixed, {"arms": {"plain": {}}})
    found = [held(sizes(one_arm, number), "this machine", split=False, half=False) for number in range(len(SMALL))]
    plain = change(
        one_arm, {"crops.sizes": None, "crops.global_size": 64, "crops.local_size": 24, "gram.resolution": 1.5}
    )
    assert max(found) == held(sizes(plain), "this machine", split=False, half=False)
    assert most_held(one_arm, split=False) == pytest.approx(max(found))
    assert found[0] < max(found)


@pytest.mark.parametrize(
    ("rows", "side"),
    [
        (PAPER, 768),  # in 0.7 of the steps, though no triple has it in more than 0.3
        (SMALL, 48),
        ([(64, 16, None, 0.1), (48, 16, None, 0.2), (48, 24, None, 0.2), (32, 16, None, 0.5)], 32),
        ([(32, 16, None, 0.5), (64, 16, None, 0.2), (64, 24, None, 0.1), (64, 32, None, 0.2)], 64),  # of equals
    ],
)
def test_the_side_that_most_steps_have_is_a_side_over_all_its_triples(rows, side):
    assert most_seen(sides(Crops(sizes=table(rows)))) == side


def test_sides_of_plain_crops_are_those_of_the_settings():
    (one,) = sides(Crops(global_size=64, local_size=24), resolution=1.5)
    assert one == (64, 24, 96, 1)
    assert mean(sides(Crops(sizes=table(SMALL)))) == (48, 18, 64, 1)


def test_the_plan_says_how_much_larger_gram_crops_are(mixed):
    assert gram_teacher.words(mixed.gram, mixed.crops) == "EMA of step 0 ×1–1.5, weight 2 from step 1"
    equal = dataclasses.replace(mixed.crops, sizes=table([(32, 16, 48, 0.5), (64, 16, 96, 0.5)]))
    assert "×1.5," in gram_teacher.words(mixed.gram, equal)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(30, 16, 64, 1.0)], "got crops.sizes[0].global_size=30 with patches of 8: want a multiple; try 32"),
        ([(32, 16, 64, 0.5), (64, 20, 64, 0.5)], "got crops.sizes[1].local_size=20 with patches of 8: want a multiple"),
    ],
)
def test_sides_that_the_patch_does_not_divide_are_refused_by_their_place(rows, said):
    with pytest.raises(BadInput) as error:
        refuse_uneven_crops(Crops(sizes=table(rows)), 8)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_gram_crops_that_the_patch_does_not_divide_are_refused_by_their_place(mixed):
    odd = Crops(sizes=table([(32, 16, 64, 0.5), (32, 16, 60, 0.5)]))
    with pytest.raises(BadInput, match=r"^got crops\.sizes\[1\]\.gram_size=60 with patches of 8: want .*; try 64$"):
        gram_view.crops(mixed.gram, odd, 8)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "sizes=[]: want probabilities that sum to 1, not to 0"),
        ([(32, 16, None, 0.3), (64, 16, None, 0.6)], "sizes=[0.3, 0.6]: want probabilities that sum to 1, not to 0.9"),
    ],
)
def test_probabilities_that_do_not_sum_to_one_are_refused(rows, said):
    with pytest.raises(BadInput) as error:
        Crops(sizes=table(rows))
    assert said in str(error.value)


def test_a_gram_crop_that_shows_less_than_the_students_is_refused():
    with pytest.raises(BadInput, match=r"gram_size=32: want at least global_size=64, or null"):
        table([(64, 16, 32, 1.0)])


def test_gram_crops_for_no_teacher_are_refused_and_a_control_without_one_may_share_the_sizes(tiny, change):
    def notes(arms):
        settings = change(tiny, {"crops.sizes": table([(32, 16, 64, 1.0)]), "arms": arms})
        return pointless(planned_arms(jobs(settings, fingerprint=lambda data: "24 rooms")))

    with pytest.raises(BadInput) as error:
        notes({"plain": {}})
    assert str(error.value) == (
        "crops.sizes[0].gram_size=64: no arm has a Gram teacher to see it; want gram.weight above 0, or null"
    )
    notes({"plain": {}, "anchored": {"gram.weight": 2.0, "gram.start_step": 2}})
