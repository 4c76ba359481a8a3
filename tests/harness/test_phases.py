"""Phases: arms that begin with the EMA teacher alone, what a plan says that each begins with, and the whole recipe."""

import pytest
import torch
from safetensors.torch import load_file

from common.records import CurvePoint, read_lines
from harness import phases
from harness.job_folder import state_path
from harness.kept import faults
from harness.mending import mend
from harness.schedules import at
from harness.train import train

CPU = torch.device("cpu")
ANEW = {"from": "first", "inherit": "teacher", "steps": 8}
GRAM = {"gram.weight": 2.0, "gram.update_every": 2}


@pytest.fixture
def planned(jobs_of):
    """The jobs by arm of the tiny experiment, whose first arm ends at step 4."""
    return lambda arms, **more: jobs_of({"arms": {"first": {"steps": 4}, **arms}, "steps": 8, **more})


@pytest.fixture
def run(planned, pool):
    """Trains them, mending first."""

    def of(arms, **more):
        found = planned(arms, **more)
        broken = faults([*found.values()])
        for job in found.values():
            mend(job, [fault for fault in broken if fault.job == job], pool, device=CPU)
            train(job, pool, lambda job, step, folder: {}, device=CPU)
        return found

    return of


def state(job, step):
    return load_file(state_path(job, step))


def part(tensors, name):
    return {key.removeprefix(name): value for key, value in tensors.items() if key.startswith(name)}


# --- what it begins with


def test_a_phase_that_inherits_the_teacher_begins_with_two_copies_of_it_and_without_moments(run, same):
    """One step at rate 0 with an EMA of momentum 1 leaves the weights as they began."""
    still = {"optimizer.lr_start": 0.0, "optimizer.warmup_steps": 2, "teacher.momentum_end": 1.0}
    found = run({"second": {**ANEW, **still, "schedule.end_step": 5, "steps": 5, "optimizer.weight_decay": 0.0}})
    before, after = state(found["first"], 4), state(found["second"], 5)
    assert not same(part(before, "student."), part(before, "teacher."))
    assert same(part(after, "student."), part(before, "teacher."))
    assert same(part(after, "teacher."), part(before, "teacher."))
    assert {value.item() for key, value in after.items() if key.startswith("optimizer.step.")} == {1.0}
    assert {value.item() for key, value in before.items() if key.startswith("optimizer.step.")} == {4.0}


def test_its_schedules_begin_anew_and_those_of_what_goes_on_from_it_do_not(planned):
    values = {"optimizer.warmup_steps": 4, "optimizer.freeze_last_layer_steps": 1}
    found = planned({"second": ANEW, "third": {"from": "second", "steps": 12, "koleo.weight": 0.2}}, **values)
    rates = {name: [at(job.settings, step, origin=job.origin).lr for step in range(job.start, job.stop)]
             for name, job in found.items()}  # fmt: skip
    assert rates["second"] == rates["first"] == pytest.approx([0, 2.5e-4, 5e-4, 7.5e-4])
    assert rates["third"] == [1e-3] * 4
    assert [found[name].origin for name in found] == [0, 4, 4]
    assert at(found["second"].settings, 4, origin=4).last_layer_lr == 0


def test_its_gram_loss_begins_with_it_and_is_renewed_by_its_own_count(planned):
    found = planned({"second": {**ANEW, "gram.warmup_steps": 3}}, **{"gram.weight": 2.0, "gram.update_every": 3})
    now = [at(found["second"].settings, step, origin=4) for step in range(4, 8)]
    assert [one.factors["gram"] for one in now] == pytest.approx([0, 1, 2, 2])
    assert [one.renew_gram_teacher for one in now] == [True, False, False, True]


START = {"gram.weight": 2.0, "gram.teacher": "start"}


@pytest.mark.parametrize(
    ("arms", "gram"),
    [
        ({"second": ANEW}, {"gram.weight": 2.0}),
        ({"second": ANEW}, START),
        ({"second": ANEW, "late": {"from": "second", "at": 6, **START}}, {}),
    ],
    ids=["snapshot", "start", "start of an arm that goes on from it"],
)
def test_its_gram_teacher_is_the_weights_that_it_begins_with(run, same, arms, gram):
    """And not the one that its parent had."""
    found = run(arms, **gram)
    own = part(state([*found.values()][-1], 8), "anchor.")
    assert same(own, part(state(found["first"], 4), "teacher.backbone."))


def test_a_phase_split_in_two_is_the_phase_as_one_bit_for_bit(run, same, tmp_path):
    """Warm-up and Gram loss are still on their way where it is split."""
    own = {**GRAM, "gram.warmup_steps": 4, "optimizer.warmup_steps": 4}
    inert = {"teacher.temperature_warmup_steps": 1}  # another segment, and past its first step the same training
    whole = run({"second": {**ANEW, **own}}, **{"runtime.folder": str(tmp_path / "whole")})
    split = run({"second": {**ANEW, **own, "steps": 6}, "third": {"from": "second", "steps": 8, **inert}})
    assert split["second"].identity == whole["second"].identity != split["third"].identity
    assert same(state(split["third"], 8), state(whole["second"], 8))


def test_a_phase_that_was_cut_off_and_whose_beginning_was_lost_ends_with_the_same_bits(run, same, tmp_path):
    gram = {"gram.weight": 2.0, "gram.teacher": "start"}
    whole = run(
        {"second": ANEW, "late": {"from": "second", "at": 6, **gram}}, **{"runtime.folder": str(tmp_path / "a")}
    )
    short = run({"second": {**ANEW, "steps": 6}}, **{"runtime.checkpoint_every": 1})
    for path in short["first"].folder.glob("states/*"):
        path.unlink()
    again = run({"second": ANEW, "late": {"from": "second", "at": 6, **gram}})
    assert again["second"].identity == whole["second"].identity
    for name in ("second", "late"):
        assert same(state(again[name], 8), state(whole[name], 8)), name


def test_images_are_counted_on_over_phases_with_other_batches(run):
    """Four steps of 4 images, then of 2, then of 3; the record of a run may begin in between."""
    found = run({"second": {**ANEW, "data.batch_size": 2}, "third": {"from": "second", "at": 6, "data.batch_size": 3}})
    assert [found[name].images(found[name].stop) for name in found] == [16, 24, 26]
    rows = read_lines(found["third"].folder / "metrics.jsonl", CurvePoint).rows
    assert [(row["step"], row["images"]) for row in rows] == [(7, 23), (8, 26)]


# --- what it is


def test_what_is_inherited_is_a_part_of_what_an_arm_is(planned):
    on = {"from": "first", "steps": 8}
    found = planned({"all": {**on, "inherit": "all"}, "none_said": on, "teacher": ANEW})
    assert found["first"].identity == found["all"].identity == found["none_said"].identity
    assert found["teacher"].identity != found["all"].identity
    assert found["teacher"].science["parent"] == {"identity": found["first"].identity, "step": 4, "inherit": "teacher"}


def test_the_plan_says_what_each_begins_with(planned):
    found = planned(
        {
            "gram": {"from": "first", **GRAM, "steps": 6},
            "more": {"from": "gram", "steps": 8, "optimizer.lr": 5e-4},
            "anew": {"from": "gram", "inherit": "teacher", "steps": 8},
            "clock": {"from": "first", "steps": 8, "schedule.counts_from": "segment"},
            "plain": {"from": "first", "steps": 8},
            "other": {"from": "first", "steps": 8, "koleo.weight": 0.2},
        }
    )
    assert [*phases.lines([*found.values()])] == [
        "first: random weights, a new optimizer, the step counter at 0; no Gram teacher",
        "gram: student, EMA teacher, optimizer and step counter of first at step 4; Gram teacher: EMA of step 4",
        "more: student, EMA teacher, optimizer and step counter of gram at step 6; the Gram teacher of gram",
        "anew: the EMA teacher of gram at step 6 as student and as EMA teacher, a new optimizer, schedules from their "
        "beginning; Gram teacher: EMA of step 6",
        "clock: student, EMA teacher and optimizer of first at step 4, schedules from their beginning; no Gram teacher",
        "plain, other: student, EMA teacher, optimizer and step counter of first at step 4; no Gram teacher",
    ]
