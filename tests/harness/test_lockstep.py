"""Students of one teacher side by side: the teacher runs once for a batch, and each student is as if it were alone."""

import json
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from common.interrupts import Interrupted, Leaving, resumable
from harness import checkpoint, cost, distillation
from harness.cost import LIBRARIES_GIB, step_cost, teacher_flops
from harness.data.pool import Pools
from harness.evaluate import Evaluator
from harness.job_folder import state_path
from harness.launchers.jobs import Work
from harness.launchers.slurm import need_of
from harness.lockstep import side_by_side
from harness.plan import Estimate, estimates, students
from harness.run import main
from harness.standings import read_status, standings
from harness.step import NonFinite
from harness.train import train, train_together

CPU = torch.device("cpu")
STUDENT = {"distillation.teacher": "large"}
ARMS = {
    "large": {"steps": 2},
    "small": {**STUDENT, "model.args": {"embed_dim": 16, "depth": 1}},
    "deep": {**STUDENT, "model.args": {"depth": 3}, "optimizer.lr": 2e-3},
    "anchored": {**STUDENT, "gram.weight": 2.0, "gram.start_step": 1},
}
STEPS = 4


def nothing(job, step, folder):
    return {}


@pytest.fixture
def plan_jobs(jobs_of):
    """The jobs of the tiny experiment with these arms, by arm; every state is kept."""
    return lambda arms=ARMS, **more: jobs_of({"steps": STEPS, "runtime.checkpoint_every": 1, "arms": arms, **more})


@pytest.fixture
def taught(plan_jobs, pool):
    """The jobs, the teacher trained."""
    found = plan_jobs()
    train(found["large"], pool, nothing, device=CPU)
    return found


@pytest.fixture
def forwards(monkeypatch):
    """Counts how often a frozen teacher looks at a batch."""
    seen = []
    real = distillation.answers

    def counted(network, batch, *args, **named):
        seen.append(batch.globals)
        return real(network, batch, *args, **named)

    monkeypatch.setattr(distillation, "answers", counted)
    return seen


def evaluated_often(job):
    """The job with evaluations after every second step."""
    return replace(job, settings=replace(job.settings, evals=replace(job.settings.evals, every=2)))


def end(job, step=STEPS):
    return load_file(state_path(job, step))


def curve(job):
    rows = map(json.loads, (job.folder / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def alone(job, pool):
    """The state and the curve of a job that is trained by itself; its folder is left as it was before."""
    train(job, pool, nothing, device=CPU)
    found = end(job), curve(job)
    shutil.rmtree(job.folder)
    return found


def test_the_teacher_looks_at_each_batch_once_whatever_the_number_of_its_students(taught, pool, forwards):
    for arms in (["small"], ["small", "deep"]):
        for arm in arms:
            shutil.rmtree(taught[arm].folder, ignore_errors=True)
        train_together([taught[arm] for arm in arms], pool, nothing, device=CPU)
        assert len(forwards) == STEPS
        forwards.clear()


def test_a_student_in_a_family_is_bit_for_bit_the_one_that_is_trained_alone(taught, pool, same):
    family = [taught[arm] for arm in ("small", "deep", "anchored")]
    before = [alone(job, pool) for job in family]
    assert train_together(family, pool, nothing, device=CPU) == {}
    for job, (state, rows) in zip(family, before, strict=True):
        assert same(end(job), state), job.name
        assert curve(job) == rows, job.name


@pytest.mark.parametrize("together", [True, False])
def test_a_student_that_was_cut_off_catches_up_with_its_family_or_alone(taught, pool, same, forwards, together):
    family = [taught["small"], taught["deep"]]
    before = [alone(job, pool)[0] for job in family]

    def leaving(job, step, folder):
        if job.arm == "small" and step == 2:
            raise Interrupted(15)
        return {}

    every = [evaluated_often(job) for job in family]
    with pytest.raises(Interrupted):
        train_together(every, pool, leaving, device=CPU)
    assert {read_status(job.folder).state for job in family} == {"interrupted"}
    train(every[1], pool, nothing, device=CPU)  # which is at its end, while the other one is not
    forwards.clear()
    if together:
        assert train_together(every, pool, nothing, device=CPU) == {}
    else:
        train(every[0], pool, nothing, device=CPU)
    assert len(forwards) == 2
    for job, state in zip(family, before, strict=True):
        assert same(end(job), state), job.name


def test_who_is_behind_is_brought_up_before_both_go_on(taught, pool, forwards):
    small, deep = taught["small"], taught["deep"]
    train(deep, pool, nothing, device=CPU)
    state_path(deep, STEPS).unlink()
    for folder in deep.folder.glob(f"*_{STEPS:06d}"):
        shutil.rmtree(folder)
    forwards.clear()
    train_together([deep, small], pool, nothing, device=CPU)
    assert len(forwards) == STEPS  # the first three for `small` alone, the last for both
    assert curve(small)[-1]["step"] == curve(deep)[-1]["step"] == STEPS


def test_a_student_that_blows_up_leaves_the_others_going(taught, pool, same):
    small, deep = taught["small"], taught["deep"]
    before = alone(small, pool)[0]

    def evaluate(job, step, folder):
        if job.arm == "deep":
            raise NonFinite("step 0: features are not finite")
        return {}

    failed = train_together([deep, small], pool, evaluate, device=CPU)
    assert {*failed} == {"deep-s0"}
    assert read_status(deep.folder).state == "failed"
    assert same(end(small), before)


def test_all_leave_with_their_states_when_they_are_asked_to(taught, pool):
    family = [evaluated_often(taught[arm]) for arm in ("small", "deep")]

    def evaluate(job, step, folder):
        if step == 2:
            signal.raise_signal(signal.SIGUSR1)
        return {}

    with pytest.raises(Leaving) as left, resumable():
        train_together(family, pool, evaluate, device=CPU)
    for job in family:
        status = read_status(job.folder)
        assert status.state == "interrupted"
        assert status.step in (1, 2)
        assert f"the same command goes on with {job.name} from step {status.step}" in left.value.__notes__
        assert checkpoint.verified_step(state_path(job, status.step), identity=job.identity) == status.step


def test_students_that_differ_in_what_the_teacher_sees_are_no_family(plan_jobs):
    own = ARMS["small"]
    others = {
        "same": {**own, "optimizer.lr": 5e-4, "dino.head.hidden": 12, "model.drop_path": 0.2},
        "crops": {**own, "crops.global_size": 48},
        "masks": {**own, "ibot.mask_probability": 0.25},
        "data": {**own, "data.batch_size": 3},
        "patch": {**own, "model.args": {"patch_size": 16}},
        "longer": {**own, "steps": 5},
        "teacher": {**own, "distillation.teacher": "other"},
        "alarm": {**own, "gram.weight": 2.0, "gram.start": "alarm", "gram.measure": "dse"},
        "plain": {},
    }
    found = plan_jobs({**ARMS, "other": {"steps": 3}, **others})
    family = side_by_side(found["small"], found.values())
    assert [job.arm for job in family] == ["small", "deep", "same"]
    assert [job.arm for job in side_by_side(found["plain"], found.values())] == ["plain"]


def test_arms_of_equal_content_are_one_student(plan_jobs):
    found = plan_jobs({**ARMS, "again": ARMS["small"]})
    assert [job.arm for job in side_by_side(found["small"], found.values())] == ["small", "deep"]


@pytest.mark.parametrize("launcher", ["none", "local"])
def test_a_command_trains_a_family_in_one_process_and_goes_on_where_one_is_lost(
    write_tiny, tmp_path, same, launcher, capsys
):
    arms = {name: ARMS[name] for name in ("large", "deep", "small")}
    path = write_tiny(arms=arms, steps=3, launcher={"name": launcher})
    assert main([str(path)]) == 0
    runs = tmp_path / "runs" / "tiny"
    holders = {(runs / f"{arm}-s0" / ".lock").read_text() for arm in ("deep", "small")}
    assert len(holders) == 1
    before = load_file(runs / "small-s0" / "states" / "step_000003.safetensors")
    shutil.rmtree((runs / "small-s0").resolve())
    assert main([str(path)]) == 0
    assert same(load_file(runs / "small-s0" / "states" / "step_000003.safetensors"), before)


def test_on_slurm_what_goes_on_from_a_student_waits_for_the_end_of_the_family_whichever_of_it_fails(
    plan_jobs, tmp_path
):
    found = plan_jobs({**ARMS, "cooled": {"from": "small", "steps": 6, "optimizer.lr": 1e-4}})
    experiment, teacher = found["large"].settings, {"large-s0": "7"}
    evaluator = Evaluator(experiment, tmp_path)
    work = Work(experiment, tmp_path, [*found.values()], [], Pools(), evaluator, CPU)
    family = teacher | dict.fromkeys(("small-s0", "deep-s0"), "8")
    assert need_of([found["small"], found["deep"]], work, teacher)["dependency"] == "afterok:7"
    assert need_of([found["cooled"]], work, family)["dependency"] == "afterany:8,afterok:7"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["none", "local"])
def test_a_command_one_of_whose_students_blows_up_ends_with_code_1_and_trains_all_that_does_not_need_it(
    write_tiny, tmp_path, launcher
):
    wild = {**ARMS["deep"], "optimizer.lr": 1e30, "optimizer.clip": None}
    behind = {"cooled": {"from": "small", "steps": 3, "optimizer.lr": 1e-4}, "lost": {"from": "wild", "steps": 3}}
    arms = {"large": {"steps": 1}, "wild": wild, "small": ARMS["small"], **behind}
    path = write_tiny(arms=arms, steps=2, launcher={"name": launcher}, runtime={"bad_steps": 0})
    assert main([str(path)]) == 1
    found = {job.name.removesuffix("-s0"): job.state for job in standings(tmp_path / "runs" / "tiny")}
    assert found == {"large": "done", "wild": "failed", "small": "done", "cooled": "done", "lost": "blocked"}


def test_the_plan_counts_a_teacher_once_and_says_what_each_student_is(write_tiny, capsys):
    def of(**arms):
        path = write_tiny(arms={"large": ARMS["large"], **arms}, steps=STEPS)
        assert main([str(path), "--plan"]) == 0
        return [line for line in capsys.readouterr().out.splitlines() if "from large" in line]

    small, deep = (ARMS[name] for name in ("small", "deep"))
    (line,) = of(small=small, deep=deep)
    assert line.startswith("  small (0.0064 M), deep (0.045 M): from large, EMA of step 2 (0.032 M), which takes ")
    assert "once for all of them, which hold " in line
    apart = of(small=small, deep={**deep, "data.batch_size": 3})
    assert len(apart) == 2
    assert not any("once for all" in line for line in apart)


def test_each_of_a_family_is_expected_to_take_its_share_of_the_teachers_time(plan_jobs):
    found = plan_jobs()
    experiment, device = found["large"].settings, CPU
    both = [found[arm] for arm in ("small", "deep")]
    shares = estimates(experiment, both, {}, device)
    (own,) = estimates(experiment, both[:1], {}, device).values()
    steps, flops = STEPS, teacher_flops(both[0].teacher)
    for one in (*shares.values(), own):
        assert one.training > one.teaching > 0
    rate = own.training / cost.flops(both[0].settings, 0, steps, origin=0, teacher=both[0].teacher)
    assert own.teaching == pytest.approx(rate * steps * flops)
    assert 0 < flops < step_cost(both[0].settings, gram=False, teacher=both[0].teacher).flops
    assert shares["small-s0"].teaching == shares["deep-s0"].teaching


def test_the_plan_holds_a_teacher_once_for_all_of_a_family(plan_jobs):
    """Two students of 1 GiB each, half of which is a teacher with 2²³ prototypes of 16 channels."""
    found = plan_jobs(**{"dino.head.prototypes": 2**23})
    both = [found[arm] for arm in ("small", "deep")]
    (line,) = students(both, dict.fromkeys((job.name for job in both), Estimate(1.0, 0.0, 2.0**30)))
    assert line.endswith(f"once for all of them, which hold {LIBRARIES_GIB + 1.5:.1f} GiB in one process")
