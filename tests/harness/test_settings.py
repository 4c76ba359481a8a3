"""No dead knobs: every scientific setting changes the result, no machinery setting does; every one is either."""

import dataclasses
import itertools
import math
import re
import typing
from collections.abc import Iterator

import pytest
import torch
import yaml
from safetensors.torch import load_file

from common.bounds import core, described
from common.disk import write_json
from common.errors import BadInput
from common.schema import filled, wanted
from evals.backbones.exported import export
from evals.datasets.settings import Set
from harness.beginning import fresh_state, resume
from harness.checkpoint import export_weights, save_state
from harness.config import science
from harness.crop_settings import Sizes
from harness.data.pool import Pools
from harness.lockstep import settled
from harness.losses.gram import RELATIONS, Gram
from harness.losses.table import LOSSES
from harness.model import backbone_args
from harness.schedules import at
from harness.settings import Experiment
from harness.step import train_step
from harness.sweep_settings import Parameter
from harness.train import look_of, train

CPU = torch.device("cpu")
STEPS = 3
GRAM = {"gram.weight": 2.0, "gram.start_step": 1}
WATCHED = {**GRAM, "gram.teacher": "best_dense", "gram.measure": "dse", "gram.measure_every": 1, "gram.ring": 2}
WATCHED |= {"gram.start_step": 2, "gram.measure_images": 8}
# Given weights, which are a candidate at step 0, and the best
RING = {**WATCHED, "gram.measure_images": 24, "teacher.momentum": 0.5, "trunk.checkpoint": "other.safetensors"}
ALARM = {"gram.weight": 2.0, "gram.start": "alarm", "gram.measure": "dse", "gram.measure_every": 1}
ALARM |= {"gram.measure_images": 16}
SMALL = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "init_values": 0.1, "num_reg_tokens": 1}
ROOMS = {name: Set(size=32, count=12, seed=seed) for name, seed in (("some", 0), ("others", 1))}
ONLY = {"data.homogeneous_share": 1.0, "data.sources": ROOMS}
TWO = {"data.homogeneous_share": 0.5, "data.sources": ROOMS}

SIZES = [Sizes(global_size=side, local_size=16, probability=0.5) for side in (32, 48)]

# key: (another value, the context in which it must matter)
KNOBS: dict[str, tuple[object, dict[str, object]]] = {
    "precision": ("bfloat16", {}),
    "trunk.checkpoint": ("other.safetensors", {"trunk.checkpoint": "one.safetensors"}),
    "model.name": ("vit_small_plus_patch16_dinov3_qkvb", {}),
    "model.start_from": ("other", {"model.start_from": "one"}),
    "model.args": ({**SMALL, "init_values": 0.2}, {}),
    "model.drop_path": (0.5, {}),
    "model.untie_local_cls_norm": (True, {}),
    "model.rope_precision": ("bfloat16", {}),
    "model.rope_shift": (0.5, {}),
    "model.rope_jitter": (1.5, {}),
    "model.rope_rescale": (None, {}),
    "dino.weight": (0.5, {}),
    "dino.local_weight": (0.5, {}),
    "dino.local_weight_start": (0.5, {"gram.weight": 1.0, "gram.start_step": 1, "gram.teacher_step": 0}),
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
    "ibot.mask_shift": (True, {}),
    "ibot.per": ("masked_crop", {}),
    "ibot.head.hidden": (16, {}),
    "ibot.head.bottleneck": (8, {}),
    "ibot.head.prototypes": (8, {}),
    "ibot.head.unit_prototypes": (True, {}),
    "koleo.weight": (0.5, {}),
    "koleo.crops": ("first", {}),
    "koleo.group": (2, {}),
    "gram.weight": (1.0, GRAM),
    "gram.start_step": (2, GRAM),
    "gram.warmup_steps": (3, GRAM),
    "gram.teacher": ("ema", GRAM),
    "gram.teacher_step": (0, GRAM),
    "gram.checkpoint": ("other", {**GRAM, "gram.teacher": "checkpoint", "gram.checkpoint": "one"}),
    "gram.start": ("alarm", {**ALARM, "gram.start": "step"}),
    "gram.alarm_drop": (1.0, {**ALARM, "gram.alarm_drop": 1e-9}),
    "gram.measure": ("locality", WATCHED),
    "gram.measure_every": (2, WATCHED),
    "gram.measure_images": (24, WATCHED),
    "gram.ring": (3, RING),
    "gram.update_every": (1, GRAM),
    "gram.first_renewal": (5, {**GRAM, "gram.update_every": 1}),
    "gram.max_renewals": (1, {"gram.weight": 2.0, "gram.start_step": 0, "gram.update_every": 1}),
    "gram.weight_end": (0.5, GRAM),
    "gram.resolution": (2.0, GRAM),
    "gram.resize": ("area", {**GRAM, "gram.resolution": 2.0}),
    "gram.antialias": (True, {**GRAM, "gram.resolution": 2.0}),
    "gram.undistorted": (False, GRAM),
    "gram.student_from_gram_crop": (True, {**GRAM, "gram.resolution": 2.0}),
    "gram.relation": ("cka", GRAM),
    "gram.level": ("batch", GRAM),
    "gram.tokens": ("masked", GRAM),
    "gram.negatives": ("clamp", GRAM),
    "gram.form": ("frobenius", GRAM),
    "gram.temperature": (0.5, {**GRAM, "gram.relation": "affinities"}),
    "optimizer.lr": (2e-3, {}),
    "optimizer.lr_start": (1e-3, {"optimizer.warmup_steps": 3}),
    "optimizer.lr_end": (1e-6, {}),
    "optimizer.lr_scaling": ("sqrt_wrt_1024", {}),
    "optimizer.warmup_steps": (3, {}),
    "optimizer.weight_decay": (0.4, {}),
    "optimizer.decay_tokens": (False, {}),
    "optimizer.weight_decay_end": (0.9, {}),
    "optimizer.beta1": (0.5, {}),
    "optimizer.beta2": (0.9, {}),
    "optimizer.layer_decay": (0.5, {}),
    "optimizer.patch_embed_lr": (1.0, {}),
    "optimizer.backbone_lr": (0.5, {}),
    "optimizer.freeze_backbone_steps": (2, {}),
    "optimizer.clip": (None, {}),
    "optimizer.freeze_last_layer_steps": (2, {}),
    "teacher.momentum": (0.5, {}),
    "teacher.momentum_end": (1.0, {}),
    "teacher.temperature": (0.05, {}),
    "teacher.temperature_start": (0.05, {"teacher.temperature_warmup_steps": 3}),
    "teacher.temperature_warmup_steps": (3, {}),
    "distillation.teacher": ("other", {"distillation.teacher": "one"}),
    "schedule.counts_from": ("segment", {"optimizer.warmup_steps": 3}),
    "schedule.shape": ("linear", {"optimizer.lr_end": 1e-6, "schedule.end_step": 5}),
    "schedule.end_step": (2, {"optimizer.lr_end": 1e-6}),
    "crops.global_size": (40, {}),
    "crops.local_size": (24, {}),
    "crops.sizes": (SIZES, {}),
    "crops.local_count": (1, {}),
    "crops.global_scale_min": (0.5, {}),
    "crops.global_scale_max": (0.5, {}),
    "crops.local_scale_min": (0.1, {}),
    "crops.local_scale_max": (0.2, {}),
    "crops.aspect_min": (1.0, {}),
    "crops.aspect_max": (1.0, {}),
    "crops.locals_within_globals": (True, {}),
    "crops.share_color_jitter": (True, {}),
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
    "data.sources": ({"scenes": Set(size=32, count=23)}, {}),
    "data.components": ("source", ONLY),
    "data.homogeneous_share": (1.0, {}),
    "data.homogeneous": ({"others": 1.0}, TWO),
    "data.mixed": ({"some": 1.0, "others": 9.0}, TWO),
    "data.batch_size": (3, {}),
    "data.augment": ("device", {}),
}

SETS = {"scenes": Set(size=32, count=4)}
MACHINERY: dict[str, object] = {
    "device": "auto",
    "trackers": ["mlflow"],
    "data.unreadable": "skip",
    "data.unreadable_share": 0.5,
    "runtime.folder": "elsewhere",
    "runtime.cache": "another",
    "runtime.cache_gib": None,
    "runtime.store_gib": 1.0,
    "runtime.workers": 1,
    "runtime.threads": 2,
    "runtime.checkpoint_every": 1,
    "runtime.log_every": 3,
    "runtime.draw": False,
    "runtime.recompute": True,
    "runtime.bad_steps": 0,
    "launcher.name": "local",
    "launcher.workers": 2,
    "launcher.stage": "elsewhere",
    "launcher.account": "another",
    "launcher.partition": "another",
    "launcher.qos": "another",
    "launcher.minutes": 1,
    "launcher.grace": 10,
    "launcher.flags": {"gres": "gpu:1"},
    "evals.every": 2,
    "evals.size": 64,
    "evals.batch_size": 3,
    "evals.pictures": 0,
    "evals.network": "student",
    "evals.sets": SETS,
    "evals.tasks": {},
    "sweep.objectives": ["hours"],
    "sweep.space": {"gram.weight": Parameter(low=0.1, high=1.0)},
    "sweep.trials": 3,
    "sweep.sampler.name": "RandomSampler",
    "sweep.sampler.args": {},
    "sweep.pruner.name": "MedianPruner",
    "sweep.pruner.args": {"n_startup_trials": 1},
    "sweep.pruner.by": "knn.top1",
    "sweep.storage": "sqlite:///study.db",
    "sweep.heartbeat": 1,
}

# what is asked and which jobs there are; test_graph, test_plan and test_record cover these
PROSE = {"name", "question", "source", "expected", "cost", "margins", "headline"}
# Machinery that sums in another order; test_split covers it, and test_compiled
ROUNDING = {"runtime.accumulate", "runtime.compile", "runtime.shard"}
GRAPH = {"seeds", "steps", "arms", "largest_grid", "baseline", "trunk.steps", "trunk.overrides"}


def leaves(kind: type, prefix: str = "") -> Iterator[str]:
    for key, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from leaves(hint, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_every_setting_is_listed_as_science_or_as_machinery():
    listed = [*KNOBS, *MACHINERY, *ROUNDING, *PROSE, *GRAPH]
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
        run = folder / f"{name}-s{seed}"  # a run, as far as a teacher is one
        save_state(state, run / "states" / "step_000001.safetensors", identity=name)
        write_json(run / "identity.json", science(tiny, data_fingerprint="24 rooms"))
    return folder


@pytest.fixture(scope="module")
def outcome(tiny, change, pools, places, make_batches, weights):
    """What a few steps leave under these settings, each combination trained once: the curve and all weights."""
    known: dict[str, tuple] = {}

    def of(values):
        given = {k: str(places / v) if k.endswith(("checkpoint", "start_from")) and v else v for k, v in values.items()}
        if name := given.get("distillation.teacher"):
            given["distillation.teacher"] = str(next(places.glob(f"{name}-s*/states/*.safetensors")))
        if repr(given) not in known:
            experiment = change(tiny, {**given, "runtime.folder": str(places / "runs")})
            known[repr(given)] = taken(experiment, pools(experiment.data))
        return known[repr(given)]

    def taken(experiment, pool):
        from harness.graph import Job

        job = Job("plain", 0, 0, STEPS, experiment, {})
        state = resume(job, CPU)
        batches = make_batches(experiment, pool=pool)
        # As if the job had forked from a trunk of one step
        origin = -1 if experiment.schedule.counts_from == "segment" else 0
        now = [at(experiment, step, origin=origin, stop=STEPS) for step in range(STEPS)]
        look, rows = look_of(job, pool), []
        for step in range(STEPS):
            look(state.seen, state.teacher.backbone, step)
            own = settled(job, state)
            if own != experiment:  # an alarm was raised
                batches, now[step] = make_batches(own, pool=pool), at(own, step, origin=origin, stop=STEPS)
            rows.append(train_step(state, batches[step], now[step], own, seed=0))
        return [{name: float(value) for name, value in row.items()} for row in rows], weights(state)

    return of


@pytest.mark.parametrize("key", KNOBS)
def test_changing_this_setting_changes_the_result(outcome, same, key):
    value, context = KNOBS[key]
    (curve, before), (other_curve, after) = outcome(context), outcome({**context, key: value})
    assert not same(before, after)
    assert curve != other_curve


@pytest.mark.parametrize("negatives", ["keep", "clamp"])
def test_clamping_the_teacher_alone_is_a_choice_of_its_own(outcome, same, negatives):
    clamped = outcome({**GRAM, "gram.negatives": "clamp_teacher"})
    assert not same(clamped[1], outcome({**GRAM, "gram.negatives": negatives})[1])


@pytest.mark.parametrize("level", ["image", "batch"])
def test_masked_and_unmasked_patches_are_choices_of_their_own(outcome, same, level):
    masked, unmasked = (
        outcome({**GRAM, "gram.level": level, "gram.tokens": tokens}) for tokens in ("masked", "unmasked")
    )
    assert not same(masked[1], unmasked[1])


def test_every_relation_trains_to_a_result_of_its_own(outcome, same):
    found = [outcome({**GRAM, "gram.relation": name})[1] for name in RELATIONS]
    assert not any(same(one, other) for one, other in itertools.combinations(found, 2))


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
    {"model.drop_path": 1.0},
    {"model.rope_rescale": 0.5},
    {"model.rope_jitter": 0.0},
    {"dino.head.prototypes": 0},
    {"ibot.head.hidden": 0},
    {"dino.weight": -1.0},
    {"dino.local_weight": -1.0},
    {"dino.student_temperature": 0.0},
    {"ibot.mask_probability": 1.5},
    {"ibot.mask_ratio_min": 0.6, "ibot.mask_ratio_max": 0.5},
    {"koleo.weight": -0.1},
    {"koleo.group": 1},
    {"gram.weight": -1.0},
    {"gram.update_every": 0},
    {"gram.max_renewals": 0},
    {"gram.ring": 0},
    {"gram.ring": 1},
    {"gram.ring": None, "gram.weight": 1.0, "gram.teacher": "best_dense", "gram.measure": "dse"},
    {"gram.teacher": "best_dense", "gram.weight": 1.0, "gram.ring": 4},
    {"gram.start": "alarm", "gram.weight": 1.0},
    {"gram.teacher_step": 2, "gram.weight": 1.0, "gram.start": "alarm", "gram.measure": "dse"},
    {"gram.alarm_drop": 0.0},
    {"gram.weight_end": -1.0},
    {"gram.first_renewal": 5, "gram.weight": 1.0, "gram.start_step": 5},
    {"gram.resolution": 0.5},
    {"gram.start_step": -1},
    {"gram.teacher_step": 6, "gram.weight": 1.0, "gram.start_step": 5},
    {"gram.update_every": 5, "gram.weight": 1.0, "gram.teacher": "ema"},
    {"gram.teacher_step": 0, "gram.weight": 1.0, "gram.teacher": "ema"},
    {"gram.checkpoint": None, "gram.weight": 1.0, "gram.teacher": "checkpoint"},
    {"gram.checkpoint": "x", "gram.weight": 1.0, "gram.teacher": "snapshot"},
    {"gram.tokens": "masked", "gram.weight": 1.0, "ibot.mask_probability": 0.001},
    {"optimizer.lr": 0.0},
    {"optimizer.lr_end": 1e-3, "optimizer.lr": 1e-4},
    {"optimizer.lr_start": -1e-3},
    {"optimizer.weight_decay_end": -0.1},
    {"distillation.teacher": "timm:vit_small_patch16_dinov3"},
    {"distillation.teacher": "plian", "arms": {"plain": {}}},
    {"schedule.end_step": 0},
    {"schedule.counts_from": "arm"},
    {"schedule.shape": "constant"},
    {"optimizer.beta2": 1.0},
    {"optimizer.layer_decay": 0.0},
    {"optimizer.backbone_lr": 0.0},
    {"optimizer.freeze_backbone_steps": 1, "dino.weight": 0.0, "ibot.weight": 0.0},
    {"optimizer.freeze_backbone_steps": 1, "dino.weight": 0.0, "ibot.mask_probability": 0.0},
    {"optimizer.clip": 0.0},
    {"teacher.momentum": 1.0},
    {"teacher.momentum_end": 1.1},
    {"teacher.temperature": 0.0},
    {"crops.global_size": 4},
    {"crops.global_scale_min": 0.0},
    {"crops.local_scale_min": 0.4, "crops.local_scale_max": 0.3},
    {"crops.flip": 1.1},
    {"crops.sizes": []},
    {"crops.aspect_min": 2.0},
    {"crops.local_size": 64, "crops.global_size": 32, "crops.locals_within_globals": True},
    {"crops.local_count": -1},
    {"crops.hue": 0.7},
    {"data.sources.a.root": None, "data.sources.a.kind": "folder"},
    {"data.sources.a.kind": "foldr"},
    {"evals.sets.a.count": 0},
    {"data.homogeneous_share": 1.01},
    {"data.homogeneous": {}},
    {"data.mixed": {}},
    {"data.homogeneous.a": 0.0},
    {"data.mixed.a": -1.0},
    {"data.batch_size": 0},
    {"evals.every": 0},
    {"evals.pictures": 257},
    {"evals.tasks.knn.test": "b"},
    {"trunk.steps": -1},
    {"runtime.workers": -1},
    {"runtime.log_every": 0},
    {"steps": 0},
    {"gram.start_step": 1000, "gram.weight": 1.0},
    {"seeds": []},
    {"seeds": [1, 1]},
    {"baseline": "plian", "arms": {"plain": {}}},
]


def nested(dotted):
    """Dotted keys as the sections of a file."""
    found = {}
    for key, value in dotted.items():
        *above, leaf = key.split(".")
        place = found
        for part in above:
            place = place.setdefault(part, {})
        place[leaf] = value
    return found


@pytest.mark.parametrize("values", IMPOSSIBLE, ids=str)
def test_an_impossible_setting_is_refused_by_its_full_path(values):
    with pytest.raises(BadInput, match=rf"^file: {re.escape(next(iter(values)))}=.*: want ") as error:
        filled(Experiment, nested(values), where="file")
    assert "\n" not in str(error.value)


def test_a_run_that_could_learn_nothing_is_refused():
    alone = [name for name, loss in LOSSES.items() if not loss.anchored]
    off = {f"{name}.weight": 0.0 for name in alone if name != "ibot"}
    for more, said in (({"ibot.weight": 0.0}, f"{', '.join(f'{name}.weight' for name in alone)} are all 0"),
                       ({"ibot.mask_probability": 0.001}, "ibot.mask_probability=0.001: want more")):  # fmt: skip
        with pytest.raises(BadInput, match=said):
            filled(Experiment, nested({**off, **more}), where="file")
    assert filled(Experiment, nested({**off, "gram.weight": 1.0}), where="file").ibot.weight == 1


HINTS = {setting.key.replace("NAME", "a"): setting.hint for setting in described(Experiment)}
LEAVES = [(key, core(hint)) for key, hint in HINTS.items()]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("key", [key for key, kind in LEAVES if kind is float])
def test_what_is_not_finite_is_refused_for_every_number(key, value):
    with pytest.raises(BadInput, match=rf"^file: {re.escape(key)}={value}: want a number"):
        filled(Experiment, nested({key: value}), where="file")


WRONG = {int: ("7", True, 7.5, [7]), float: ("seven", True, [7.0]), bool: (1, "true"), dict: (5, None, ["a"])}
WRONG |= {tuple: ("seven", False, {"a": 1})}  # of which one value may stand for a list of one


@pytest.mark.parametrize(("key", "kind"), LEAVES, ids=[key for key, _ in LEAVES])
def test_a_value_of_another_type_is_refused_for_every_setting(key, kind):
    for wrong in WRONG.get(typing.get_origin(kind) or kind, (7, False, {"a": 1})):
        if wrong is None and "or null" in wanted(HINTS[key]):
            continue
        with pytest.raises(BadInput, match=rf"^file: {re.escape(key)}(\[0\])?=.*: want "):
            filled(Experiment, nested({key: wrong}), where="file")


def test_gram_settings_of_an_arm_that_is_off_are_not_checked_against_each_other():
    Gram(weight=0.0, checkpoint="x", teacher_step=9)
    Gram(weight=0.0, relation="cka", negatives="clamp")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"relation": "cka", "negatives": "clamp"}, "negatives=clamp: want keep with relation=cka, or relation=gram"),
        ({"relation": "cka", "form": "frobenius"}, "form=frobenius: want mean with relation=cka, or relation=gram"),
        ({"temperature": 0.2}, "temperature=0.2: want 0.1 with relation=gram, or relation=affinities"),
        (
            {"relation": "features", "level": "batch"},
            "level=batch: want image with relation=features, or relation=gram, cka, distances, affinities",
        ),
    ],
    ids=str,
)
def test_what_belongs_to_another_relation_is_refused_in_one_line(given, said):
    with pytest.raises(BadInput) as error:
        Gram(weight=1.0, **given)
    assert str(error.value) == f"Gram: {said}"


def test_settings_cannot_be_changed_in_place(tiny):
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny.steps = 7


def test_a_fresh_state_is_a_teacher_equal_to_its_student(tiny):
    state = fresh_state(tiny, 0, CPU)
    pairs = zip(state.student.parameters(), state.teacher.parameters(), strict=True)
    assert all(torch.equal(mine, theirs) and mine is not theirs for mine, theirs in pairs)
