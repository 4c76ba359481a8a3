"""Steps that are not finite: passed over, written down, and passed over again by whoever takes the steps once more."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable, Iterator

import pytest
import torch
from safetensors.torch import load_file

from common.errors import BadInput
from harness import schedules
from harness.bad_steps import FILE, recorded
from harness.beginning import first_state
from harness.data.batches import Batch, Batches
from harness.job_folder import state_path
from harness.lockstep import batches_of
from harness.losses.gram import Gram
from harness.mending import advance
from harness.run import main
from harness.step import NonFinite, pass_over, train_step
from harness.train import scheduled, train, train_together
from reports.cautions import passed_over
from reports.run_folder import read
from tests.cut import Cut, dies_at, nothing

CPU = torch.device("cpu")
STEPS = 6
EVERY = {"runtime.checkpoint_every": 1}
GRAM = {"arms": {"anchored": {}}, "gram": Gram(weight=2.0, start_step=1, update_every=2)}


@pytest.fixture
def poison(monkeypatch) -> Iterator[Callable[..., None]]:
    """`poison(2, 4)`: the batches of these steps, and of no others from then on, have a pixel that is not finite."""
    real = Batches.__getitem__
    bad = set[int]()

    def getitem(self: Batches, step: int) -> Batch:
        batch = real(self, step)
        if step in bad:
            batch.globals[0, 0, 0, 0, 0] = math.inf
        return batch

    monkeypatch.setattr(Batches, "__getitem__", getitem)

    def these(*steps: int) -> None:
        bad.clear()
        bad.update(steps)

    return these


def curve(job):
    rows = map(json.loads, (job.folder / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def end(job, step=STEPS):
    return load_file(state_path(job, step))


def test_a_step_that_is_not_finite_is_passed_over_and_written_down_with_its_images(make_job, pool, poison, caplog):
    job = make_job({"runtime.log_every": 1})
    poison(2)
    with caplog.at_level(logging.WARNING, "gramlab"):
        train(job, pool, nothing, device=CPU)
    (bad,) = recorded(job.folder)
    batch = batches_of(job, pool, first_state(job, CPU))[2]
    assert (bad.step, bad.images) == (2, [pool.key(place) for place in batch.indices.tolist()])
    assert {"dino_global", "koleo", "grad_norm"} <= {*bad.terms}
    assert "plain-s0: step 2 passed over without learning from it, since dino_global, " in caplog.text
    assert "(1 of at most 3): scenes/train/" in caplog.text
    rows = curve(job)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert ["loss" in row for row in rows] == [True, True, False, True, True, True]
    assert rows[2]["lr"] > 0


def test_schedules_go_on_and_nothing_else_moves(make_job, pool, poison):
    """By hand: the batches around the step, each with the schedule of its own number."""
    values = {**EVERY, "optimizer.warmup_steps": 5}
    job = make_job(values)
    state, batches = first_state(job, CPU), batches_of(job, pool, first_state(job, CPU))
    for step in range(STEPS):
        now = scheduled(job, state, step)
        if step == 2:
            pass_over(state, now, job.settings)
        else:
            train_step(state, batches[step], now, job.settings, seed=0)
    poison(2)
    train(job, pool, nothing, device=CPU)
    found = end(job)
    assert found["optimizer.step.backbone.cls_token"] == STEPS - 1
    for name, weight in state.student.state_dict().items():
        assert torch.equal(found[f"student.{name}"], weight), name
    for name, weight in state.teacher.state_dict().items():
        assert torch.equal(found[f"teacher.{name}"], weight), name


def test_the_gram_teacher_is_renewed_on_a_step_that_is_passed_over(tiny, change, take_steps):
    settings = change(tiny, GRAM)
    state, _ = take_steps(settings, 3)
    teacher = {name: weight.clone() for name, weight in state.teacher.backbone.state_dict().items()}
    now = schedules.at(settings, 3)
    assert now.renew_gram_teacher
    pass_over(state, now, settings)
    assert state.step == 4
    assert state.gram_teacher is not None
    for name, weight in state.gram_teacher.state_dict().items():
        assert torch.equal(weight, teacher[name]), name


@pytest.mark.parametrize("values", [{}, GRAM], ids=["plain", "gram"])
def test_the_list_decides_when_steps_are_taken_again(make_job, pool, poison, same, tmp_path, values):
    """Also where the step would be finite now, and where no state is left: as another device rounds, say."""
    arm = "anchored" if values else "plain"
    calm = make_job({**EVERY, **values}, arm=arm, folder=tmp_path / "calm")
    poison(1, 3)
    train(calm, pool, nothing, device=CPU)
    cut = make_job({**EVERY, **values, "evals.every": 4}, arm=arm, folder=tmp_path / "cut")
    with pytest.raises(Cut):
        train(cut, pool, dies_at(4), device=CPU)
    poison()
    shutil.rmtree(cut.folder / "states")
    train(cut, pool, nothing, device=CPU)
    assert [one.step for one in recorded(cut.folder)] == [1, 3]
    assert same(end(cut), end(calm))
    assert curve(cut) == curve(calm)


def test_a_run_that_is_cut_off_before_it_could_write_the_list_finds_the_step_again(
    make_job, pool, poison, same, tmp_path
):
    jobs = [make_job(EVERY, folder=tmp_path / name) for name in ("calm", "cut")]
    poison(3)
    for job in jobs:
        train(job, pool, nothing, device=CPU)
    (jobs[1].folder / FILE).unlink()
    for path in (*jobs[1].folder.glob("step_*"), state_path(jobs[1], 6), state_path(jobs[1], 5)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    train(jobs[1], pool, nothing, device=CPU)
    assert recorded(jobs[1].folder) == recorded(jobs[0].folder)
    assert same(end(jobs[1]), end(jobs[0]))


def test_what_is_made_again_passes_over_the_same_steps_and_no_others(make_job, pool, poison):
    job = make_job(EVERY)
    poison(1, 3)
    train(job, pool, nothing, device=CPU)
    for now_bad in ((), (1, 3)):
        poison(*now_bad)
        state = first_state(job, CPU)
        advance(job, state, pool, STEPS)
        for name, weight in state.student.state_dict().items():
            assert torch.equal(end(job)[f"student.{name}"], weight), name
    poison(4)
    with pytest.raises(NonFinite, match=rf"(?m)it was finite before, for .*/{FILE} does not name it$"):
        advance(job, first_state(job, CPU), pool, STEPS)
    assert [one.step for one in recorded(job.folder)] == [1, 3]


def test_one_more_than_the_settings_allow_ends_the_run_and_a_larger_number_goes_on(
    make_job, pool, poison, same, tmp_path
):
    poison(1, 3, 4)
    whole = make_job({**EVERY, "runtime.bad_steps": 3}, folder=tmp_path / "whole")
    train(whole, pool, nothing, device=CPU)
    most = [make_job({**EVERY, "runtime.bad_steps": most}, folder=tmp_path / "less") for most in (2, 3)]
    assert most[0].identity == most[1].identity == whole.identity
    with pytest.raises(
        NonFinite, match=r"(?m)^step 4: .*=nan.* 2 were passed over before; runtime.bad_steps=2 allows no more$"
    ):
        train(most[0], pool, nothing, device=CPU)
    status = json.loads((most[0].folder / "status.json").read_text())
    assert (status["state"], status["step"]) == ("failed", 4)
    train(most[1], pool, nothing, device=CPU)
    assert [one.step for one in recorded(whole.folder)] == [1, 3, 4]
    assert same(end(most[1]), end(whole))


def test_with_none_allowed_the_first_ends_the_run(make_job, pool, poison):
    poison(2)
    with pytest.raises(NonFinite, match=r"(?m)scenes/train/\d{6}; runtime.bad_steps=0 allows no more$"):
        train(job := make_job({"runtime.bad_steps": 0}), pool, nothing, device=CPU)
    assert not (job.folder / FILE).exists()


def test_no_batch_is_blamed_for_weights_that_are_not_finite(make_job, pool):
    job = make_job({"optimizer.lr": 1e38})
    with pytest.raises(NonFinite, match=r"(?m)weights of the student are not finite either: no batch is to blame$"):
        train(job, pool, nothing, device=CPU)
    assert not (job.folder / FILE).exists()


def test_students_of_one_teacher_each_pass_over_a_step_and_are_as_if_alone(jobs_of, pool, poison, same):
    student = {"distillation.teacher": "large"}
    arms = {
        "large": {"steps": 2},
        "small": {**student, "model.args": {"embed_dim": 16}},
        "deep": {**student, "optimizer.lr": 2e-3},
    }
    found = jobs_of({"steps": STEPS, **EVERY, "arms": arms})
    train(found["large"], pool, nothing, device=CPU)
    family = [found["small"], found["deep"]]
    poison(2)
    before = []
    for job in family:
        train(job, pool, nothing, device=CPU)
        before.append((end(job), curve(job)))
        shutil.rmtree(job.folder)
    assert train_together(family, pool, nothing, device=CPU) == {}
    for job, (state, rows) in zip(family, before, strict=True):
        assert [one.step for one in recorded(job.folder)] == [2]
        assert same(end(job), state), job.name
        assert curve(job) == rows, job.name


def test_a_list_that_is_damaged_is_refused(make_job, pool, poison):
    job = make_job()
    poison(2)
    train(job, pool, nothing, device=CPU)
    (job.folder / FILE).write_text('{"steps": [{"step": -1}]}')
    for path in (*job.folder.glob("step_*"), *job.folder.glob("states/*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(
        BadInput, match=rf"{FILE} cannot be read \(steps.0.step=-1: .* restore it or move the folder away"
    ):
        train(job, pool, nothing, device=CPU)


def test_a_gradient_that_overflows_is_named(make_job, pool):
    """Every term is finite, the gradient of their sum is not."""
    job = make_job({"koleo.weight": 1e38})
    with pytest.raises(NonFinite, match=r"3 were passed over before"):
        train(job, pool, nothing, device=CPU)
    assert [(one.step, one.terms) for one in recorded(job.folder)] == [(step, ["grad_norm"]) for step in range(3)]


@pytest.mark.slow
def test_a_whole_run_says_on_page_one_which_steps_of_which_arm_were_passed_over(write_tiny, tmp_path, poison, capsys):
    """In the trunk's part of the way and in the arms', which see the same batches."""
    rooms = {"size": 32, "split": "val", "name": "rooms"}
    sets = {"kept": {**rooms, "count": 24}, "asked": {**rooms, "count": 8, "split": "test"}}
    knn = {"protocol": "knn", "train": "kept", "test": "asked"}
    arms = {"plain": {}, "anchored": {"gram.weight": 2.0}}
    path = write_tiny(trunk={"steps": 3}, arms=arms, evals={"every": 3, "sets": sets, "tasks": {"knn": knn}})
    poison(1, 4)
    assert main([str(path), "runtime.draw=true"]) == 0
    run = tmp_path / "runs" / "tiny"
    found = read(run)
    assert {lane: [one.step for one in bad] for lane, bad in found.bad_steps.items()} == {
        ("trunk", 0): [1],
        ("plain", 0): [4],
        ("anchored", 0): [4],
    }
    (said,) = passed_over(found)
    assert said in " ".join((run / "report.html").read_text(encoding="utf-8").split())
    assert (run / "log.txt").read_text().count("passed over without learning from it") == 3
