"""Arms against the baseline: over seeds and images, at equal steps and at equal compute."""

import json
from dataclasses import fields

import numpy as np
import pytest

from evals.results.bootstrap import paired_difference
from evals.results.outcomes import save_outcomes
from evals.results.table import Measurement, Value
from reports.compared import compare, foremost
from reports.compute_pages import reason
from reports.estimates import columns
from reports.pairing import Checkpoint, Kept, paired
from reports.run_folder import read

IMAGES = 60


@pytest.fixture
def judged(bare_run, make_row):
    """Writes a run of one metric from outcomes: (arm, seed, step) → one error per image; and reads it."""

    def write(outcomes, *, curves=None, **record):
        kind = {"eval": "depth", "metric": "rmse", "images": IMAGES}
        rows = {at: make_row(arm=at[0], seed=at[1], step=at[2], value=float(np.mean(x)), **kind)
                for at, x in outcomes.items()}  # fmt: skip
        folder = bare_run([*rows.values()], **record)
        for (arm, seed, step), errors in outcomes.items():
            value = {field.name: getattr(rows[arm, seed, step], field.name) for field in fields(Value)}
            kept = {"keys": np.array([f"{n:03d}" for n in range(IMAGES)]), "rmse": np.asarray(errors)}
            place = folder / f"{arm}-s{seed}" / f"step_{step:06d}" / "outcomes"
            save_outcomes(place, [Measurement(**value, outcomes=kept)])
        for name, points in (curves or {}).items():
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "metrics.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
        return read(folder)

    return write


def test_where_students_are_judged_the_outcomes_of_teachers_in_the_same_segments_are_not_taken_for_theirs(judged):
    rng = np.random.default_rng(1)
    ours = {(arm, seed, 100): errors(seed, (arm == "anchored") * rng.normal(-0.2, 0.05, IMAGES))
            for arm in ("plain", "anchored") for seed in range(3)}  # fmt: skip
    whole, run = only(judged(ours)), judged(ours, config={"evals": {"network": "student"}})
    assert only(run).over == "seeds"
    for teacher in [*run.folder.glob("*/step_000100")]:
        teacher.rename(teacher.with_name("student_000100"))
    assert only(run) == whole


def errors(*offsets):
    return 1.0 + np.random.default_rng(0).normal(0, 0.1, IMAGES) + sum(offsets)


def only(run, measure="steps", arm="anchored"):
    return compare(run)[columns(run)[0], arm, measure]


def test_with_several_seeds_the_interval_is_over_seeds_and_images(judged):
    rng = np.random.default_rng(1)
    found = only(judged({(arm, seed, 100): errors(seed, (arm == "anchored") * rng.normal(-0.2, 0.05, IMAGES))
                         for arm in ("plain", "anchored") for seed in range(3)}))  # fmt: skip
    assert (found.over, found.seeds, found.step) == ("seeds and images", 3, 100)
    assert found.low < found.value < found.high < 0
    assert found.verdict is not None
    assert found.verdict.word == "better"
    assert found.verdict.margin == pytest.approx(0.03 * found.baseline)


def test_one_seed_is_paired_by_image_and_has_too_few_seeds(judged):
    plain, anchored = errors(), errors(np.random.default_rng(2).normal(-0.2, 0.1, IMAGES))
    found = only(judged({("plain", 0, 100): plain, ("anchored", 0, 100): anchored}))
    keys = np.arange(IMAGES)
    oracle = paired_difference("rmse", {"keys": keys, "rmse": plain}, {"keys": keys, "rmse": anchored})
    assert (found.value, found.low, found.high) == pytest.approx(tuple(oracle))
    assert (found.over, found.verdict and found.verdict.word) == ("images", "too few seeds")


def test_without_outcomes_the_interval_is_over_seeds_alone_and_there_is_no_verdict(bare_run, make_row):
    rows = [make_row(arm=arm, seed=seed, value=value) for arm, values in (
        ("plain", [0.2, 0.5, 0.8]), ("anchored", [0.22, 0.53, 0.81])) for seed, value in enumerate(values)]  # fmt: skip
    found = only(read(bare_run(rows)))
    # differences 0.02, 0.03, 0.01: s = 0.01; the spread of 0.3 between seeds must not enter
    assert found.value == pytest.approx(0.02)
    assert found.high - found.value == pytest.approx(4.302653 * 0.01 / np.sqrt(3), rel=1e-6)
    assert (found.over, found.verdict) == ("seeds", None)


def test_without_outcomes_one_seed_gives_a_difference_and_no_interval(bare_run, make_row):
    found = only(read(bare_run([make_row(value=0.5), make_row(arm="anchored", value=0.6)])))
    assert (found.over, found.verdict) == ("", None)
    assert np.isnan(found.low)
    assert found.value == pytest.approx(0.1)


def test_a_damaged_file_of_outcomes_costs_the_verdict_of_its_arm_alone(judged):
    run = judged({(arm, seed, 100): errors(seed) for arm in ("plain", "anchored", "third") for seed in range(2)})
    next((run.folder / "third-s1").rglob("*.npz")).write_bytes(b"half")
    assert only(run).over == "seeds and images"
    assert (only(run, arm="third").over, only(run, arm="third").verdict) == ("seeds", None)


def test_equal_steps_are_the_last_that_both_arms_have(bare_run, make_row):
    rows = [make_row(step=50, value=0.2), make_row(step=100, value=0.9)]
    rows += [make_row(arm="anchored", step=50, value=0.3), make_row(arm="anchored", step=75, value=0.8)]
    found = only(read(bare_run(rows)))
    assert (found.step, found.baseline_step) == (50, 50)
    assert found.value == pytest.approx(0.1)


def test_a_margin_of_the_experiment_takes_the_place_of_the_default(judged):
    rng = np.random.default_rng(1)
    outcomes = {
        (arm, seed, 100): errors(seed, (arm == "anchored") * rng.normal(0, 0.01, IMAGES))
        for arm in ("plain", "anchored")
        for seed in range(2)
    }
    found = only(judged(outcomes, config={"margins": {"rmse": 0.5}}))
    assert found.verdict is not None
    assert (found.verdict.margin, found.verdict.word) == (0.5, "no worse than the margin")


FORK = {
    "trunk-s0": {"segment": "0", "start": 0, "stop": 20, "parent": None},
    "plain-s0": {"segment": "0", "start": 20, "stop": 60, "parent": "trunk-s0"},
    "anchored-s0": {"segment": "1", "start": 20, "stop": 60, "parent": "trunk-s0"},
}
COMPUTE = {
    "trunk": [{"from": 0, "flops": 1.0}],
    "plain": [{"from": 20, "flops": 1.0}],
    "anchored": [{"from": 20, "flops": 1.0}, {"from": 30, "flops": 2.0}],
}


def test_at_equal_flops_the_dearer_arm_is_read_where_it_had_used_as_much(judged):
    """The baseline has used 60 by step 60; the arm 30 by step 30 and two a step from there, so 60 by step 45."""
    outcomes = {("trunk", 0, 20): errors()} | {("plain", 0, step): errors() for step in (40, 60)}
    outcomes |= {("anchored", 0, step): errors(-0.01 * step) for step in (40, 60)}
    found = only(judged(outcomes, jobs=FORK, compute=COMPUTE, trunk_steps=20), "flops")
    assert (found.step, found.baseline_step, found.budget) == (45, 60, 60)
    assert found.value == pytest.approx(-0.45)  # on the line from −0.4 at step 40 to −0.6 at step 60
    assert found.over == "images"


def test_a_step_before_all_training_is_none_in_common(judged):
    """A student that was evaluated at other steps than its teacher, say, which is the baseline."""
    jobs = {f"{arm}-s0": {"segment": arm, "start": 0, "stop": stop, "parent": None}
            for arm, stop in (("plain", 6), ("anchored", 40))}  # fmt: skip
    outcomes = {("plain", 0, 0): errors(), ("plain", 0, 6): errors()}
    outcomes |= {("anchored", 0, step): errors(-0.4) for step in (0, 10, 40)}
    run = judged(outcomes, jobs=jobs, compute={arm: [{"from": 0, "flops": 1.0}] for arm in ("plain", "anchored")})
    found = foremost(run, compare(run), columns(run)[0], "anchored")
    assert (found.measure, found.step, found.baseline_step) == ("flops", 6, 6)
    untrained = judged({(arm, 0, 0): errors() for arm in ("plain", "anchored")})
    assert compare(untrained) == {}


def test_an_arm_that_was_trained_to_equal_compute_is_judged_there_first(judged):
    outcomes = {("trunk", 0, 20): errors()} | {("plain", 0, step): errors() for step in (40, 60)}
    outcomes |= {("anchored", 0, step): errors(-0.01 * step) for step in (40, 45)}
    for steps, measure in ((45, "steps"), ("equal_compute", "flops")):
        arms = {"plain": {"overrides": {}}, "anchored": {"overrides": {"steps": steps}}}
        run = judged(outcomes, jobs=FORK, compute=COMPUTE, trunk_steps=20, arms=arms)
        assert foremost(run, compare(run), columns(run)[0], "anchored").measure == measure


def test_a_budget_that_ends_before_the_first_evaluation_of_the_arm_begins_at_its_fork(judged):
    compute = COMPUTE | {"anchored": [{"from": 20, "flops": 8.0}]}
    outcomes = {("trunk", 0, 20): errors(), ("plain", 0, 60): errors(), ("anchored", 0, 60): errors(-0.4)}
    found = only(judged(outcomes, jobs=FORK, compute=compute, trunk_steps=20), "flops")
    assert (found.step, found.baseline_step) == (25, 60)  # 20 + 40 / 8
    assert found.value == pytest.approx(-0.05)


@pytest.mark.parametrize("baseline", ["first", "last"])
def test_phases_are_compared_at_the_end_of_each_and_not_where_they_were_still_one(judged, baseline):
    """Whichever of them is the baseline; and so is the phase after the next."""
    phases = [("first", 0, 20), ("second", 20, 40), ("last", 40, 60)]
    parents = {"first": None, "second": "first-s0", "last": "second-s0"}
    jobs = {f"{name}-s0": {"segment": name, "start": start, "stop": stop, "parent": parents[name]}
            for name, start, stop in phases}  # fmt: skip
    compute = {name: [{"from": start, "flops": 1.0}] for name, start, _ in phases}
    outcomes = {(name, 0, stop): errors(-0.01 * stop) for name, _, stop in phases}
    run = judged(outcomes, jobs=jobs, compute=compute, baseline=baseline)
    found = compare(run)
    ends = {name: stop for name, _, stop in phases}
    base = ends.pop(baseline)
    assert {(arm, where): (one.step, one.baseline_step) for (_, arm, where), one in found.items()} == {
        (arm, "ends"): (stop, base) for arm, stop in ends.items()
    }
    for arm, stop in ends.items():
        assert only(run, "ends", arm).value == pytest.approx(-0.01 * (stop - base))
        assert only(run, "ends", arm).over == "images"
        assert reason(run, arm, "flops", chained=True) == "none in common: one goes on from the end of the other"


def test_an_arm_that_goes_on_from_the_baselines_end_and_was_not_evaluated_is_not_compared_with_it(judged):
    jobs = {
        "plain-s0": {"segment": "0", "start": 0, "stop": 20, "parent": None},
        "anchored-s0": {"segment": "1", "start": 20, "stop": 60, "parent": "plain-s0"},
    }
    compute = {arm: [{"from": 0, "flops": 1.0}] for arm in ("plain", "anchored")}
    run = judged({("plain", 0, 20): errors()}, jobs=jobs, compute=compute, arms={"plain": {}, "anchored": {}})
    assert compare(run) == {}


def test_equal_seconds_are_those_of_training_alone_with_what_both_share(judged):
    """A segment's curve goes on beyond the arm's part, and may have begun before it."""

    def curve(steps, rate):
        return [{"step": step, "images": 8 * step, "seconds": rate * step} for step in steps]

    curves = {
        "trunk-s0": curve(range(10, 100, 10), 1.0),
        "plain-s0": curve(range(10, 100, 10), 1.0),
        "anchored-s0": [{"step": step, "images": 8 * step, "seconds": 4.0 * (step - 20)} for step in range(30, 80, 10)],
    }
    outcomes = {("trunk", 0, 20): errors(), ("plain", 0, 60): errors(), ("anchored", 0, 60): errors(-0.4)}
    run = judged(outcomes, jobs=FORK, curves=curves, trunk_steps=20)
    found = only(run, "seconds")
    assert (found.budget, found.step, found.baseline_step) == (60, 30, 60)  # 20 + 40 / 4
    assert only(run, "images").value == pytest.approx(-0.4)
    assert run.curves["plain", 0]["step"].steps.tolist() == [30, 40, 50, 60]


def test_equal_seconds_do_not_ask_that_a_fork_was_logged(judged):
    """Logged every 20 steps: neither the end of the trunk nor the fork of the late arm is."""
    jobs = FORK | {"anchored-s0": {"segment": "1", "start": 45, "stop": 60, "parent": "plain-s0"}}
    together = [{"step": step, "images": 8 * step, "seconds": 1.0 * step} for step in (40, 60)]
    late = [{"step": 60, "images": 480, "seconds": 45.0}]  # 3 s a step
    jobs["plain-s0"], jobs["trunk-s0"] = jobs["plain-s0"] | {"start": 15}, jobs["trunk-s0"] | {"stop": 15}
    outcomes = {("plain", 0, step): errors() for step in (40, 60)} | {("anchored", 0, 60): errors(-0.4)}
    curves = {"trunk-s0": together, "plain-s0": together, "anchored-s0": late}
    run = judged(outcomes, jobs=jobs, curves=curves, trunk_steps=15)
    found = only(run, "seconds")
    assert (found.budget, found.step, found.baseline_step) == (60, 50, 60)  # 45 + 15 / 3
    assert found.value == pytest.approx(-0.2)  # on the line from 0 at step 40 to −0.4 at step 60


def test_seconds_that_no_curve_tells_are_not_compared_and_the_page_says_whose(judged):
    whole = [{"step": step, "images": 8 * step, "seconds": 1.0 * step} for step in (20, 40, 60)]
    jobs = FORK | {"anchored-s0": {"segment": "1", "start": 40, "stop": 60, "parent": "plain-s0"}}
    curves = {
        "trunk-s0": whole,
        "plain-s0": [whole[0], whole[1] | {"step": 30, "images": 240}],
        "anchored-s0": whole[2:],
    }
    run = judged({(arm, 0, 60): errors() for arm in ("plain", "anchored")}, jobs=jobs, curves=curves, trunk_steps=20)
    assert {measure for _, _, measure in compare(run)} == {"steps", "images"}
    assert reason(run, "anchored", "seconds") == "not recorded: metrics.jsonl does not tell of all steps of plain"
    assert reason(run, "anchored", "flops").endswith("experiment.json does not tell what costs a step of trunk")


def test_what_no_record_tells_is_left_out(judged):
    outcomes = {(arm, 0, step): errors() for arm in ("plain", "anchored") for step in (0, 60)}
    assert {measure for _, _, measure in compare(judged(outcomes))} == {"steps"}


def test_an_arm_of_an_arm_has_used_what_its_parents_had_by_then(judged):
    jobs = FORK | {"anchored-s0": {"segment": "0", "start": 40, "stop": 60, "parent": "plain-s0"}}
    compute = COMPUTE | {"anchored": [{"from": 40, "flops": 2.0}]}
    outcomes = {("trunk", 0, 20): errors(), ("anchored", 0, 60): errors(-0.4)}
    outcomes |= {("plain", 0, step): errors() for step in (40, 60)}
    found = only(judged(outcomes, jobs=jobs, compute=compute, trunk_steps=20), "flops")
    assert (found.step, found.budget) == (50, 60)
    assert found.value == pytest.approx(-0.2)


def test_a_record_whose_parents_go_in_a_circle_still_gives_a_report(judged):
    stretch = {"segment": "0", "start": 20, "stop": 60}
    jobs = {"plain-s0": {**stretch, "parent": "anchored-s0"}, "anchored-s0": {**stretch, "parent": "plain-s0"}}
    found = compare(judged({(arm, 0, 60): errors() for arm in ("plain", "anchored")}, jobs=jobs))
    assert {measure for _, _, measure in found} == {"steps"}


def test_what_else_is_compared_changes_no_bit_of_a_difference(judged):
    """Which checkpoints count at equal seconds depends on the times of a run."""
    steps = range(100, 900, 100)
    run = judged({(arm, 0, step): errors(np.random.default_rng(step).normal(0, 0.1, IMAGES))
                  for arm in ("plain", "anchored") for step in steps})  # fmt: skip

    def between(arm, first, second, share):
        return {Checkpoint(arm, 0, first): 1 - share, Checkpoint(arm, 0, second): share}

    asked = {"flops": {0: (between("anchored", 200, 700, 0.3), between("plain", 300, 800, 1 / 7))}}
    others = {f"seconds {step}": {0: (between("anchored", 100, step, 0.1), between("plain", 100, step, 0.7))}
              for step in steps if step > 100}  # fmt: skip
    alone, beside = (paired(Kept(run.folder), columns(run)[0], one) for one in (asked, {**asked, **others}))
    assert beside["flops"] == alone["flops"]
