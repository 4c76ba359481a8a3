"""The plan says what would happen: which steps, which evaluations, how long, and what is there already."""

import re

import pytest
import torch

from common.errors import BadInput
from harness.graph import jobs
from harness.losses.gram import Gram
from harness.plan import Estimate, duration, estimates, job_cost, plan
from harness.train import train

CPU = torch.device("cpu")
ARMS = {
    "plain": {},
    "renewed": {"gram.weight": 2.0, "gram.start_step": 3, "gram.update_every": 1, "gram.resolution": 2.0},
}


@pytest.fixture
def planned(tiny, change, tmp_path):
    """The experiment of a trunk and two arms, its jobs, and its plan."""

    def of(values=None):
        base = {"runtime.folder": str(tmp_path), "trunk.steps": 3, "steps": 8, "arms": ARMS, "question": "Why?"}
        experiment = change(tiny, {**base, **(values or {})})
        found = jobs(experiment, fingerprint=lambda data: "24 rooms")
        return experiment, found, plan(experiment, found, {}, CPU, expected=estimates(experiment, found, {}, CPU))

    return of


def test_the_plan_lists_every_job_with_its_steps_and_gram(planned):
    _, _, text = planned({"evals.every": 2})
    assert text.startswith("experiment tiny: Why?\n2 arms × 1 seed, cpu, float32, batch 4")
    assert re.search(r"^  trunk +0–3 +3 +0 s +\d\.\d GiB +off +new$", text, re.M)
    assert re.search(r"^  ├ plain +3–8 +3 .* off +new$", text, re.M)
    assert re.search(r"└ renewed .*EMA of step \d+ ×2, renewed every 1, weight 2 from step 3 +new$", text, re.M)
    assert "  renewed: gram.weight=2.0, gram.start_step=3, gram.update_every=1, gram.resolution=2.0" in text
    assert "  plain: the settings as they are" in text
    assert "left to do: about" in text


def test_what_arms_change_stands_as_yaml_writes_it(planned):
    own = {"optimizer": {"lr_end": None}, "data.components": "source", "gram.undistorted": False}
    _, _, text = planned({"arms": {"a": own}})
    said = "  a: optimizer.lr_end=null, data.components=source, gram.undistorted=false\n"
    assert said in text


def test_an_arm_that_stands_for_trials_costs_as_many_times_as_are_left(planned):
    experiment, found, _ = planned({"arms": {"trial": {}}, "seeds": [0, 1]})
    expected = {job.name: Estimate(3600.0 if job.arm == "trunk" else 7200.0, 0.0, 1e9) for job in found}

    def left(**repeats):
        return plan(experiment, found, {}, CPU, expected=expected, **repeats).splitlines()[-1]

    assert left().startswith("left to do: about 6.0 h (from operations")
    many = "left to do: about 22.0 h with 5 trials, less where they are pruned or equal (from operations"
    assert left(repeats={"trial": 5}).startswith(many)
    assert left(repeats={"trial": 0}).startswith("left to do: about 2.0 h with 0 trials")


def test_the_plan_says_what_was_left_to_the_machine(planned):
    experiment, found, _ = planned()
    choices = ["threads: 1, on one core", "precision: float32, chosen"]
    text = plan(experiment, found, {}, CPU, expected=estimates(experiment, found, {}, CPU), choices=choices)
    assert text.splitlines()[2:4] == ["threads: 1, on one core", "precision: float32, chosen"]


def test_the_plan_knows_what_is_done_and_where_the_rest_goes_on(planned, pool):
    _, found, _ = planned({"runtime.checkpoint_every": 1})
    trunk, plain, _ = found
    train(trunk, pool, lambda *given: {}, device=CPU)

    def dies(job, step, folder):
        if step == 5:
            raise KeyboardInterrupt
        return {}

    _, (_, again, _), _ = planned({"evals.every": 5})
    with pytest.raises(KeyboardInterrupt):
        train(again, pool, dies, device=CPU)
    _, _, text = planned()
    assert re.search(r"^  trunk .* done$", text, re.M)
    assert re.search(r"^  ├ plain .* from step 5$", text, re.M)
    assert re.search(r"^  └ renewed .* new$", text, re.M)
    assert plain.identity == again.identity


@pytest.mark.parametrize(
    ("every", "trunk", "arm"), [(2, [0, 2, 3], [4, 6, 8]), (5, [0, 3], [5, 8]), (100, [0, 3], [8])]
)
def test_evaluated_steps_are_those_that_training_evaluates(planned, pool, every, trunk, arm):
    _, found, _ = planned({"evals.every": every})
    assert ([*found[0].evaluations], [*found[1].evaluations]) == (trunk, arm)
    seen = {job.arm: [] for job in found}
    for job in found[:2]:
        train(job, pool, lambda job, step, folder: seen[job.arm].append(step) or {}, device=CPU)
    assert (seen["trunk"], seen["plain"]) == (trunk, arm)


def test_a_run_without_an_end_in_sight_is_planned_at_once(planned):
    _, found, text = planned({"steps": 10**9, "evals.every": 1, "arms": {"plain": {}}})
    assert len(found[1].evaluations) == 10**9 - 3
    assert " 3–1000000000 " in text


def test_a_job_costs_its_plain_and_its_anchored_steps(make_job):
    from harness.cost import step_cost

    job = make_job({"gram": Gram(weight=1.0, start_step=4), "arms": {"plain": {}}})
    plain, anchored = (step_cost(job.settings, gram=gram) for gram in (False, True))
    seconds, memory = job_cost(job, rate=1e9)
    assert seconds == pytest.approx((4 * plain.flops + 2 * anchored.flops) / 1e9)
    assert memory == max(plain.memory, anchored.memory)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (3600, "60 min"),
        (5400, "1.5 h"),
        (90000, "25.0 h"),
        (3.6e9, "1,000,000 h"),
    ],
)
def test_durations_are_in_readable_units(seconds, words):
    assert duration(seconds) == words


def test_crops_that_the_patch_does_not_divide_are_told_together_with_the_arm_that_sets_them(planned):
    with pytest.raises(BadInput) as error:
        planned({"crops.global_size": 30, "crops.local_size": 12})
    assert str(error.value).splitlines() == [
        "got crops.global_size=30 with patches of 8: want a multiple; try 32",
        "got crops.local_size=12 with patches of 8: want a multiple; try 16",
    ]
    with pytest.raises(BadInput, match=r"^arms\.odd: got crops\.global_size=30 with patches of 8"):
        planned({"arms": {"plain": {}, "odd": {"crops.global_size": 30}}})
