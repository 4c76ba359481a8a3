"""No dead knobs: every scientific setting changes the result, no machinery setting does; every one is either."""

import dataclasses
import re
import typing
from collections.abc import Iterator

import pytest
import torch
import yaml
from safetensors.torch import load_file

from evals.backbones.exported import export
from evals.datasets.catalogue import KINDS
from harness import settings
from harness.checkpoint import export_weights, save_state
from harness.data.pool import Pools
from harness.losses.anchoring import GramTeacher
from harness.losses.dino import Dino
from harness.losses.gram import Gram, GramLevel, Negatives
from harness.losses.head import Head
from harness.losses.ibot import Ibot, IbotPer
from harness.losses.koleo import Koleo
from harness.model import backbone_args
from harness.schedules import at
from harness.settings import Components, Experiment, Precision, Role
from harness.settings import Scaling as Rule
from harness.step import train_step
from harness.train import fresh_state, resume, train

CPU = torch.device("cpu")
STEPS = 3
GRAM = {"gram.weight": 2.0, "gram.start_step": 1}
SMALL = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "init_values": 0.1, "num_reg_tokens": 1}
ROOMS = {name: settings.Set(size=32, count=12, seed=seed) for name, seed in (("some", 0), ("others", 1))}
ONLY = {"data.homogeneous_share": 1.0, "data.sources": ROOMS}

# key: (another value, the context in which it must matter)
KNOBS: dict[str, tuple[object, dict[str, object]]] = {
    "precision": (Precision.bfloat16, {}),
    "trunk.checkpoint": ("other.safetensors", {"trunk.checkpoint": "one.safetensors"}),
    "model.name": ("vit_small_plus_patch16_dinov3_qkvb", {}),
    "model.args": ({**SMALL, "init_values": 0.2}, {}),
    "model.drop_path": (0.5, {}),
    "model.rope_shift": (0.5, {}),
    "model.rope_jitter": (1.5, {}),
    "model.rope_rescale": (None, {}),
    "dino.weight": (0.5, {}),
    "dino.local_weight": (0.5, {}),
    "dino.student_temperature": (0.2, {}),
    "dino.head.hidden": (16, {}),
    "dino.head.bottleneck": (8, {}),
    "dino.head.prototypes": (8, {}),
    "dino.head.unit_prototypes": (True, {}),
    "ibot.weight": (0.5, {}),
    "ibot.student_temperature": (0.2, {}),
    "ibot.mask_probability": (0.25, {}),
    "ibot.mask_ratio_min": (0.4, {}),
    "ibot.mask_ratio_max": (0.2, {}),
    "ibot.per": (IbotPer.masked_crop, {}),
    "ibot.head.hidden": (16, {}),
    "ibot.head.bottleneck": (8, {}),
    "ibot.head.prototypes": (8, {}),
    "ibot.head.unit_prototypes": (True, {}),
    "koleo.weight": (0.5, {}),
    "gram.weight": (1.0, GRAM),
    "gram.start_step": (2, GRAM),
    "gram.warmup_steps": (3, GRAM),
    "gram.teacher": (GramTeacher.ema, GRAM),
    "gram.teacher_step": (0, GRAM),
    "gram.checkpoint": ("other", {**GRAM, "gram.teacher": GramTeacher.checkpoint, "gram.checkpoint": "one"}),
    "gram.update_every": (1, GRAM),
    "gram.resolution": (2.0, GRAM),
    "gram.undistorted": (False, GRAM),
    "gram.level": (GramLevel.batch, GRAM),
    "gram.negatives": (Negatives.clamp, GRAM),
    "optimizer.lr": (2e-3, {}),
    "optimizer.lr_scaling": (Rule.sqrt_wrt_1024, {}),
    "optimizer.warmup_steps": (3, {}),
    "optimizer.weight_decay": (0.4, {}),
    "optimizer.beta1": (0.5, {}),
    "optimizer.beta2": (0.9, {}),
    "optimizer.layer_decay": (0.5, {}),
    "optimizer.patch_embed_lr": (1.0, {}),
    "optimizer.clip": (None, {}),
    "optimizer.freeze_last_layer_steps": (2, {}),
    "teacher.momentum": (0.5, {}),
    "teacher.temperature": (0.05, {}),
    "teacher.temperature_start": (0.05, {"teacher.temperature_warmup_steps": 3}),
    "teacher.temperature_warmup_steps": (3, {}),
    "crops.global_size": (40, {}),
    "crops.local_size": (24, {}),
    "crops.local_count": (1, {}),
    "crops.global_scale_min": (0.5, {}),
    "crops.global_scale_max": (0.5, {}),
    "crops.local_scale_min": (0.1, {}),
    "crops.local_scale_max": (0.2, {}),
    "crops.flip": (0.0, {}),
    "crops.jitter": (0.0, {}),
    "crops.brightness": (0.1, {}),
    "crops.contrast": (0.1, {}),
    "crops.saturation": (0.1, {}),
    "crops.hue": (0.0, {}),
    "crops.grayscale": (0.9, {}),
    "crops.blur_global_1": (0.0, {}),
    "crops.blur_global_2": (1.0, {}),
    "crops.blur_local": (0.0, {}),
    "crops.solarize_global_2": (1.0, {}),
    "data.sources": ({"scenes": settings.Set(size=32, count=23)}, {}),
    "data.components": (Components.source, ONLY),
    "data.homogeneous_share": (1.0, {}),
    "data.batch_size": (3, {}),
}

SETS = {"scenes": settings.Set(size=32, count=4)}
MACHINERY: dict[str, object] = {
    "device": settings.Device.auto,
    "runtime.folder": "elsewhere",
    "runtime.cache": "another",
    "runtime.workers": 1,
    "runtime.threads": 2,
    "runtime.checkpoint_every": 1,
    "runtime.log_every": 3,
    "evals.every": 2,
    "evals.size": 64,
    "evals.batch_size": 3,
    "evals.network": Role.student,
    "evals.sets": SETS,
    "evals.tasks": {},
}

# what is asked and which jobs there are; test_graph, test_plan and test_record cover these
PROSE = {"name", "question", "source", "expected", "cost"}
GRAPH = {"seeds", "steps", "arms", "baseline", "trunk.steps", "trunk.overrides"}


def leaves(kind: type, prefix: str = "") -> Iterator[str]:
    for key, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from leaves(hint, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_every_setting_is_listed_as_science_or_as_machinery():
    listed = [*KNOBS, *MACHINERY, *PROSE, *GRAPH]
    assert len(listed) == len(set(listed))
    assert set(leaves(Experiment)) == set(listed)


@pytest.fixture(scope="module")
def pools():
    return Pools()


@pytest.fixture(scope="module")
def places(tiny, change, take_steps, tmp_path_factory):
    """Real files for the settings that hold a path."""
    folder = tmp_path_factory.mktemp("places")
    for seed, name in ((1, "one"), (2, "other")):
        state = take_steps(tiny, 1, seed=seed)[0]
        save_state(state, folder / "state.safetensors", identity="x")
        export_weights(folder / "state.safetensors", folder / f"{name}.safetensors", dtype=torch.float32)
        export(state.teacher.backbone, folder / name, timm_name=tiny.model.name, timm_args=backbone_args(tiny.model))
    return folder


@pytest.fixture(scope="module")
def outcome(tiny, change, pools, places, make_batches, weights):
    """What a few steps leave under these settings, each combination trained once: the curve and all weights."""
    known: dict[str, tuple] = {}

    def of(values):
        given = {k: str(places / v) if k.endswith("checkpoint") and v else v for k, v in values.items()}
        if repr(given) not in known:
            experiment = change(tiny, {**given, "runtime.folder": str(places / "runs")})
            known[repr(given)] = taken(experiment, pools(experiment.data))
        return known[repr(given)]

    def taken(experiment, pool):
        from harness.graph import Job

        job = Job("plain", 0, 0, STEPS, places / "runs" / "job", experiment, {})
        state = resume(job, CPU)
        batches = make_batches(experiment, pool=pool)
        rows = [train_step(state, batches[step], at(experiment, step), experiment, seed=0) for step in range(STEPS)]
        return [{name: float(value) for name, value in row.items()} for row in rows], weights(state)

    return of


@pytest.mark.parametrize("key", KNOBS)
def test_changing_this_setting_changes_the_result(outcome, same, key):
    value, context = KNOBS[key]
    (curve, before), (other_curve, after) = outcome(context), outcome({**context, key: value})
    assert not same(before, after)
    assert curve != other_curve


@pytest.mark.parametrize("negatives", [Negatives.keep, Negatives.clamp])
def test_clamping_the_teacher_alone_is_a_choice_of_its_own(outcome, same, negatives):
    clamped = outcome({**GRAM, "gram.negatives": Negatives.clamp_teacher})
    assert not same(clamped[1], outcome({**GRAM, "gram.negatives": negatives})[1])


def test_the_same_settings_give_the_same_result_bit_for_bit(tiny, take_steps, weights, same):
    (one, rows), (two, again) = (take_steps(tiny, STEPS) for _ in range(2))
    assert rows == again
    assert same(weights(one), weights(two))


def test_the_seed_changes_the_result(tiny, take_steps, weights, same):
    (one, rows), (two, again) = (take_steps(tiny, STEPS, seed=seed) for seed in (0, 1))
    assert rows[0] != again[0]
    assert not same(weights(one), weights(two))


def trained(make_job, pool, folder, values):
    """All tensors and the curve of a whole job, run as users run it."""
    job = make_job({"steps": STEPS, **values}, folder=folder)
    train(job, pool, lambda job, step, folder: {}, device=CPU)
    rows = [yaml.safe_load(line) for line in (job.folder / "metrics.jsonl").read_text().splitlines()]
    kept = {row["step"]: {k: v for k, v in row.items() if k != "seconds"} for row in rows}
    return load_file(job.folder / "states" / f"step_{STEPS:06d}.safetensors"), kept


@pytest.fixture(scope="module")
def usual(tiny, change, pool, tmp_path_factory):
    from harness.graph import jobs

    folder = tmp_path_factory.mktemp("usual")
    experiment = change(tiny, {"runtime.folder": str(folder), "steps": STEPS})
    job = jobs(experiment, fingerprint=lambda data: "24 rooms")[0]
    return trained(lambda values, folder: job, pool, folder, {})


@pytest.mark.parametrize("key", MACHINERY)
def test_changing_machinery_does_not_change_the_result(make_job, pool, usual, same, tmp_path, key):
    value = MACHINERY[key]
    folder = tmp_path / value if key == "runtime.folder" else tmp_path
    tensors, rows = trained(make_job, pool, folder, {} if key == "runtime.folder" else {key: value})
    assert same(tensors, usual[0])
    assert all(row == usual[1][step] for step, row in rows.items())


IMPOSSIBLE = [
    (settings.Model, {"drop_path": 1.0}, "model.drop_path"),
    (settings.Model, {"rope_rescale": 0.5}, "model.rope_rescale"),
    (settings.Model, {"rope_jitter": 0.0}, "model.rope_jitter"),
    (Head, {"prototypes": 0}, "prototypes"),
    (Dino, {"weight": -1.0}, "dino.weight"),
    (Dino, {"student_temperature": 0.0}, "dino.student_temperature"),
    (Ibot, {"mask_probability": 1.5}, "ibot.mask_probability"),
    (Ibot, {"mask_ratio_min": 0.6}, "ibot.mask_ratio_min=0.6, ibot.mask_ratio_max=0.5"),
    (Koleo, {"weight": -0.1}, "koleo.weight"),
    (Gram, {"weight": -1.0}, "use 0 to switch it off"),
    (Gram, {"update_every": 0}, "gram.update_every=0"),
    (Gram, {"resolution": 0.5}, "gram.resolution"),
    (Gram, {"start_step": -1}, "gram.start_step"),
    (Gram, {"weight": 1.0, "start_step": 5, "teacher_step": 6}, "gram.teacher_step=6"),
    (Gram, {"weight": 1.0, "teacher": GramTeacher.ema, "update_every": 5}, "gram.teacher=ema is renewed"),
    (Gram, {"weight": 1.0, "teacher": GramTeacher.ema, "teacher_step": 0}, "gram.teacher_step"),
    (Gram, {"weight": 1.0, "teacher": GramTeacher.checkpoint}, "gram.checkpoint="),
    (Gram, {"weight": 1.0, "checkpoint": "x"}, "gram.checkpoint is set but gram.teacher=snapshot"),
    (settings.Optimizer, {"lr": 0.0}, "optimizer.lr"),
    (settings.Optimizer, {"beta2": 1.0}, "optimizer.beta2"),
    (settings.Optimizer, {"clip": 0.0}, "optimizer.clip"),
    (settings.Teacher, {"momentum": 1.0}, "teacher.momentum"),
    (settings.Teacher, {"temperature": 0.0}, "teacher.temperature"),
    (settings.Crops, {"global_scale_min": 0.0}, "crops.global_scale_min"),
    (settings.Crops, {"flip": 1.1}, "crops.flip"),
    (settings.Crops, {"local_count": -1}, "crops.local_count"),
    (settings.Crops, {"hue": 0.7}, "crops.hue"),
    (settings.Set, {"kind": "folder"}, "root"),
    (settings.Set, {"kind": "foldr"}, f"want one of {', '.join(KINDS)}; did you mean 'folder'?"),
    (settings.Set, {"count": 0}, "count=0"),
    (settings.Data, {"homogeneous_share": 1.01}, "data.homogeneous_share=1.01"),
    (settings.Data, {"batch_size": 0}, "data.batch_size"),
    (settings.Evals, {"every": 0}, "evals.every"),
    (settings.Evals, {"tasks": {"knn": settings.EvaluationTask("knn", "a", "b")}}, "evals.tasks.knn.train='a'"),
    (settings.Trunk, {"steps": -1}, "trunk.steps"),
    (settings.Runtime, {"workers": -1}, "runtime.workers"),
    (settings.Runtime, {"log_every": 0}, "runtime.log_every"),
    (settings.Experiment, {"steps": 0}, "steps=0"),
    (settings.Experiment, {"steps": 5, "trunk": settings.Trunk(steps=6)}, "trunk.steps=6"),
    (settings.Experiment, {"steps": 5, "gram": Gram(weight=1.0, start_step=5)}, "the run ends at steps=5"),
    (settings.Experiment, {"seeds": []}, "seeds"),
    (settings.Experiment, {"seeds": [1, 1]}, "each seed once"),
    (settings.Experiment, {"baseline": "plian", "arms": {"plain": {}}}, "plain"),
]


@pytest.mark.parametrize(("kind", "values", "said"), IMPOSSIBLE)
def test_an_impossible_setting_is_refused_where_it_is_filled(kind, values, said):
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        kind(**values)
    assert "\n" not in str(error.value)


def test_gram_settings_of_an_arm_that_is_off_are_not_checked_against_each_other():
    Gram(weight=0.0, checkpoint="x", teacher_step=9)


def test_settings_cannot_be_changed_in_place(tiny):
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny.steps = 7


def test_a_fresh_state_is_a_teacher_equal_to_its_student(tiny):
    state = fresh_state(tiny, 0, CPU)
    pairs = zip(state.student.parameters(), state.teacher.parameters(), strict=True)
    assert all(torch.equal(mine, theirs) and mine is not theirs for mine, theirs in pairs)
