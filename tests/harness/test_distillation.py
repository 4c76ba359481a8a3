"""Distillation: students learn from a frozen teacher of another size, which may be an arm or another run's state."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from common.errors import BadInput
from evals.backbones.exported import export
from harness import distillation, phases
from harness.beginning import fresh_state, frozen_teacher, resume
from harness.checkpoint import export_weights, save_state
from harness.forward import masked_positions, study, teach
from harness.job_folder import state_path
from harness.losses.sinkhorn import sinkhorn_knopp
from harness.model import backbone_args, encode
from harness.noise import student_noise
from harness.record import asked_job, summary
from harness.run import main
from harness.schedules import at
from harness.timeline import lane, planned_arms
from harness.train import train

CPU = torch.device("cpu")
SMALL = {"embed_dim": 16, "depth": 1}
ARMS = {
    "large": {"steps": 2},
    "small": {"distillation.teacher": "large", "model.args": SMALL},
    "deep": {"distillation.teacher": "large", "model.args": {"depth": 3}, "dino.head.hidden": 12},
}


def nothing(job, step, folder):
    return {}


@pytest.fixture
def plan_jobs(jobs_of):
    """The jobs of the tiny experiment with these arms, by arm; every state is kept."""
    return lambda arms=ARMS, **more: jobs_of({"steps": 4, "runtime.checkpoint_every": 1, "arms": arms, **more})


@pytest.fixture
def taught(plan_jobs, pool):
    """The jobs, the teacher trained."""
    found = plan_jobs()
    train(found["large"], pool, nothing, device=CPU)
    return found


def test_what_is_learnt_are_the_frozen_teachers_assignments(taught, make_batches):
    job = taught["small"]
    state, batch = resume(job, CPU), make_batches(job.settings)[0]
    (targets,) = teach(state, [batch], at(job.settings, 0), job.settings)
    kept = load_file(state_path(taught["large"], 2))
    teacher = frozen_teacher(job, CPU).network
    assert all(torch.equal(kept[f"teacher.{name}"], tensor) for name, tensor in teacher.state_dict().items())
    tokens = encode(teacher.backbone, batch.globals.flatten(0, 1))
    picked = tokens.patches[batch.masks]
    temperature = at(job.settings, 0).temperature
    scores = teacher.dino_head(tokens.cls).logits(), teacher.ibot_head(picked).logits()
    dino, ibot = (sinkhorn_knopp(logits, temperature) for logits in scores)
    torch.testing.assert_close(targets.dino.flatten(0, 1), dino, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(targets.ibot, ibot, rtol=1e-5, atol=1e-7)


def test_the_student_sees_every_patch_and_answers_for_the_sampled_ones(taught, make_batches):
    job = taught["small"]
    student, batch = resume(job, CPU).student, make_batches(job.settings)[0]
    noise = student_noise(0, 0, batch, job.settings, depth=1)
    outputs = study(student, batch, masked_positions(batch), noise, job.settings, whole=True)
    whole = encode(student.backbone, batch.globals.flatten(0, 1), draws=noise["global"]).patches
    assert batch.masks.any()
    assert torch.equal(outputs.patches, whole)
    assert torch.equal(outputs.ibot.logits(), student.ibot_head(whole[batch.masks]).logits())


def test_students_of_any_size_train_and_keep_an_ema_of_their_own_while_the_teacher_stays(taught, pool):
    for arm in ("small", "deep"):
        job = taught[arm]
        train(job, pool, nothing, device=CPU)
        held = load_file(state_path(job, 4))
        assert {key.split(".")[0] for key in held} == {"student", "teacher", "optimizer"}
        width = held["teacher.backbone.cls_token"].shape[-1]
        assert width == job.settings.model.args["embed_dim"]
        moved = [key for key in held if key.startswith("student.") and "mask_token" not in key]
        assert any(not torch.equal(held[key], held["teacher." + key.removeprefix("student.")]) for key in moved)


def test_an_arm_and_the_state_that_it_leaves_are_one_teacher(taught, plan_jobs):
    elsewhere = {"small": {**ARMS["small"], "distillation.teacher": str(state_path(taught["large"], 2))}}
    (job,) = plan_jobs(elsewhere).values()
    assert job.identity == taught["small"].identity
    assert job.taught_by is None


def test_another_teacher_or_another_step_of_it_is_another_student(plan_jobs):
    def identity(**teacher):
        return plan_jobs({**ARMS, "large": {**ARMS["large"], **teacher}})["small"].identity

    assert len({identity(), identity(steps=3), identity(**{"koleo.weight": 0.2})}) == 3


def test_a_teacher_comes_before_its_students_and_keeps_the_state_that_they_need(plan_jobs):
    found = plan_jobs(dict(reversed(ARMS.items())))
    assert next(iter(found)) == "large"
    assert found["large"].forks == (2,)
    assert [need.arm for need in found["small"].needs] == ["large"]


def test_the_trunk_may_be_the_teacher_and_learns_from_itself(plan_jobs):
    arms = {"small": {"from": None, "distillation.teacher": "trunk", "model.args": SMALL}}
    found = plan_jobs(arms, **{"trunk.steps": 2})
    assert found["small"].taught_by.arm == "trunk"
    assert found["trunk"].settings.distillation.teacher is None


def test_a_chain_of_students_goes_on_with_the_same_teacher(taught, plan_jobs, pool):
    found = plan_jobs({**ARMS, "cooled": {"from": "small", "steps": 6, "optimizer.lr": 1e-4}})
    train(found["small"], pool, nothing, device=CPU)
    train(found["cooled"], pool, nothing, device=CPU)
    assert found["cooled"].taught_by.arm == "large"
    assert state_path(found["cooled"], 6).exists()


def test_a_teacher_needs_no_norm_for_local_crops_though_it_was_trained_with_one(plan_jobs, pool):
    """As both published columns of the recipe train it."""
    found = plan_jobs({**ARMS, "large": {**ARMS["large"], "model.untie_local_cls_norm": True}})
    train(found["large"], pool, nothing, device=CPU)
    assert "teacher.local_cls_norm.weight" in load_file(state_path(found["large"], 2))
    train(found["small"], pool, nothing, device=CPU)
    assert state_path(found["small"], 4).exists()


def test_an_arm_may_turn_gram_on_for_a_student(taught, plan_jobs, pool):
    gram = {"gram.weight": 2.0, "gram.start_step": 1}
    more = {"snapshot": gram, "ema": {**gram, "gram.teacher": "ema", "gram.undistorted": False}}
    found = plan_jobs({**ARMS, **{name: {**ARMS["small"], **own} for name, own in more.items()}})
    for arm in more:
        train(found[arm], pool, nothing, device=CPU)
        rows = [json.loads(line) for line in (found[arm].folder / "metrics.jsonl").read_text().splitlines()]
        assert rows[-1]["gram"] > 0


def test_a_step_of_the_gram_ema_of_a_student_is_kept_to_its_own_ema_not_to_the_teacher(taught, change, make_batches):
    gram = {"gram.weight": 2.0, "gram.start_step": 0, "gram.teacher": "ema", "gram.undistorted": False}
    settings = change(taught["small"].settings, gram)
    job = dataclasses.replace(taught["small"], settings=settings)
    state, batch = resume(job, CPU), make_batches(settings)[0]
    (targets,) = teach(state, [batch], at(settings, 0), settings)
    assert batch.gram is None
    assert torch.equal(targets.gram, encode(state.teacher.backbone, batch.globals.flatten(0, 1)).patches)


def test_what_was_cut_off_goes_on_bit_for_bit(taught, plan_jobs, pool, same, tmp_path):
    job = taught["small"]
    train(job, pool, nothing, device=CPU)
    whole = load_file(state_path(job, 4))
    for step in (3, 4):
        state_path(job, step).unlink()
    for folder in job.folder.glob("*_000004"):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    train(job, pool, nothing, device=CPU)
    assert same(load_file(state_path(job, 4)), whole)


def test_a_backbone_without_heads_gets_them_from_an_arm_and_is_then_a_teacher(plan_jobs, tiny, pool, tmp_path):
    released = tmp_path / "released"
    backbone = fresh_state(tiny, 7, CPU).teacher.backbone
    export(backbone, released, timm_name=tiny.model.name, timm_args=backbone_args(tiny.model))
    heads = {"model.start_from": str(released), "steps": 3, "optimizer.freeze_backbone_steps": 3}
    found = plan_jobs({"heads": heads, "small": {"distillation.teacher": "heads", "model.args": SMALL}})
    train(found["heads"], pool, nothing, device=CPU)
    teacher = frozen_teacher(found["small"], CPU).network
    assert all(torch.equal(teacher.backbone.state_dict()[key], one) for key, one in backbone.state_dict().items())
    began = fresh_state(found["heads"].settings, 0, CPU).teacher.dino_head.prototypes.weight
    assert not torch.equal(began, teacher.dino_head.prototypes.weight)
    train(found["small"], pool, nothing, device=CPU)
    assert state_path(found["small"], 4).exists()


def test_a_student_does_not_begin_with_the_weights_of_the_trunk(plan_jobs, take_steps, tiny, pool, tmp_path):
    save_state(take_steps(tiny, 1)[0], tmp_path / "state.safetensors", identity="x")
    export_weights(tmp_path / "state.safetensors", tmp_path / "start.safetensors", dtype=torch.float32)
    given = {"trunk.steps": 2, "trunk.checkpoint": str(tmp_path / "start.safetensors")}
    arms = {"small": {"from": None, "distillation.teacher": "trunk", "model.args": SMALL}}
    found = plan_jobs(arms, **given)
    assert found["trunk"].science["weights"] is not None
    assert found["small"].science["weights"] is None
    assert [found[name].settings.first_trained for name in ("trunk", "small")] == [0, 1]
    assert phases.inherited(found["small"]).startswith("random weights, ")
    for job in found.values():
        train(job, pool, nothing, device=CPU)
    assert load_file(state_path(found["small"], 4))["student.backbone.cls_token"].shape[-1] == SMALL["embed_dim"]


def test_report_status_and_timeline_are_told_who_teaches_an_arm(plan_jobs):
    found = plan_jobs()
    assert [asked_job(found[arm])["taught_by"] for arm in ("large", "small")] == [None, "large-s0"]
    for name, said in (("small", "learns from large; Gram off"), ("large", "Gram off")):
        (planned,) = planned_arms([found[name]])
        assert summary(found[name]) == lane(planned).words == said


# --- refusals


REFUSED = [
    ({"distillation.teacher": "lrage"}, "distillation.teacher='lrage': want one of large, small"),
    ({"distillation.teacher": "timm:vit_small_patch16_dinov3"}, "since a backbone has no heads to learn from"),
    ({"distillation.teacher": "runs/exported/teacher_000100"}, "since a backbone has no heads to learn from"),
    ({"distillation.teacher": "nowhere.safetensors"}, "no file nowhere.safetensors"),
    ({"gram.weight": 1.0, "gram.tokens": "masked"}, "gram.tokens=masked: want all, since a student of a frozen"),
    ({"dino.head.prototypes": 8}, "dino.head.prototypes=8: want 16, as many as the teacher large has"),
    ({"ibot.head.prototypes": 8}, "ibot.head.prototypes=8: want 16, as many as the teacher large has"),
    ({"distillation.teacher": "small"}, "small needs small, a circle"),
    ({"model.args": {**SMALL, "patch_size": 4}, "crops.global_size": 36, "crops.local_size": 16},
     "crops.global_size=36: the teacher large has patches of 8"),
    ({"model.args": {**SMALL, "patch_size": 7}, "crops.local_size": 14}, "got crops.global_size=32 with patches of 7"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_a_student_that_cannot_learn_from_its_teacher_is_refused_in_one_line(
    write_tiny, values, said, capsys, tmp_path
):
    path = write_tiny(arms={"large": {"steps": 2}, "small": {**ARMS["small"], **values}})
    assert main([str(path)]) == 2
    error = capsys.readouterr().err
    assert re.search(re.escape(said), error)
    assert "arms" in error, error
    assert error.count("\n") == 1, error
    assert not (tmp_path / "runs" / "tiny").exists()


def test_a_state_without_the_settings_beside_it_is_refused(tiny, tmp_path):
    (tmp_path / "states").mkdir()
    (tmp_path / "states" / "step_000002.safetensors").touch()
    state = str(tmp_path / "states" / "step_000002.safetensors")
    with pytest.raises(BadInput, match=r"no file .*identity\.json: want a state where training left it"):
        distillation.read(Path(state), tiny, CPU)
