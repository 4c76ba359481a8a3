"""Which jobs an experiment consists of, and what makes two jobs the same run."""

import os
import re
from pathlib import Path

import pytest
import torch

from common.errors import BadInput
from evals.backbones.exported import export
from evals.datasets.settings import Set
from harness.checkpoint import export_weights, save_state
from harness.graph import TRUNK, jobs
from harness.losses.gram import Gram
from harness.model import backbone_args


def fingerprint(data):
    return repr(sorted(data.sources))


@pytest.fixture(scope="module")
def listed(tiny, change):
    """The jobs of the tiny experiment, changed; what depends on no file is listed once."""
    known: dict[str, list] = {}

    def of(**values):
        key = repr(values)
        if key not in known or "checkpoint" in key:
            dotted = {name.replace("__", "."): value for name, value in values.items()}
            known[key] = jobs(change(tiny, dotted), fingerprint=fingerprint)
        return known[key]

    return of


SIZES = [{"global_size": side, "local_size": 16, "probability": 0.5} for side in (32, 72)]
FORKED = {
    "steps": 10,
    "trunk__steps": 4,
    "arms": {
        "plain": {},
        "anchored": {"gram.weight": 2.0, "gram.start_step": 4},
        "early": {"gram.weight": 2.0, "gram.start_step": 5, "gram.teacher_step": 2},
    },
}


def test_without_a_trunk_every_arm_and_seed_starts_at_step_zero(listed):
    found = listed(seeds=[0, 3])
    assert [(job.arm, job.seed, job.start, job.stop, job.parent) for job in found] == [
        ("plain", 0, 0, 6, None),
        ("anchored", 0, 0, 6, None),
        ("plain", 3, 0, 6, None),
        ("anchored", 3, 0, 6, None),
    ]
    assert [job.name for job in found] == ["plain-s0", "anchored-s0", "plain-s3", "anchored-s3"]


def test_arms_fork_from_the_trunk_of_their_seed(listed):
    found = listed(**FORKED, seeds=[0, 1])
    trunks = [job for job in found if job.arm == TRUNK]
    assert [(job.seed, job.start, job.stop) for job in trunks] == [(0, 0, 4), (1, 0, 4)]
    for job in found:
        if job.arm != TRUNK:
            assert job.parent is next(t for t in trunks if t.seed == job.seed)
            assert (job.start, job.stop) == (4, 10)
            assert found.index(job.parent) < found.index(job)


def test_the_trunk_trains_without_gram_and_keeps_the_snapshots_that_arms_need(listed):
    trunk = listed(**FORKED, gram=Gram(weight=2.0, start_step=4))[0]
    assert trunk.settings.gram.weight == 0
    assert trunk.snapshots == (2,)


def test_trunk_overrides_reach_the_trunk_alone(listed):
    trunk, plain, *_ = listed(**FORKED, trunk__overrides={"ibot.weight": 0.5})
    assert (trunk.settings.ibot.weight, plain.settings.ibot.weight) == (0.5, 1.0)


def test_an_arm_changes_what_it_names_and_nothing_else(listed):
    plain, anchored = listed()
    differing = {key for key in plain.science if plain.science[key] != anchored.science[key]}
    assert differing == {"gram"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"arms": {"early": {"gram.weight": 1.0, "gram.start_step": 3}}}, "gram.start_step=3 lies before the fork"),
        ({"arms": {"wide": {"dino.head.prototypes": 8}}}, "arms.wide: dino.head differs from that of the trunk"),
        ({"arms": {"other": {"model.name": "vit_base_patch16_dinov3_qkvb"}}}, "model.name differs"),
        ({"arms": {"trunk": {}}}, "arms.trunk: want another name"),
        ({"arms": {"a/b": {}}}, "arms.a/b: want another name"),
        ({"arms": {"..": {}}}, "want another name"),
    ],
)
def test_arms_that_cannot_fork_are_refused(listed, values, said):
    with pytest.raises(BadInput, match=re.escape(said)) as error:
        listed(**{**FORKED, **values})
    assert "\n" not in str(error.value)


# --- identity


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 100},
        {"name": "other"},
        {"question": "why?"},
        {"cost": "much"},
        {"seeds": [0, 1]},
        {"baseline": "plain"},
        {"runtime__folder": "elsewhere"},
        {"runtime__workers": 3},
        {"runtime__checkpoint_every": 1},
        {"evals__every": 5},
        {"evals__size": 64},
        {"data__sources": {"scenes": Set(root="moved", count=24)}},
    ],
)
def test_length_prose_machinery_and_paths_are_the_same_run(listed, values):
    assert listed(**values)[0].identity == listed()[0].identity


@pytest.mark.parametrize(
    "values",
    [
        {"optimizer__lr": 2e-3},
        {"crops__flip": 0.4},
        {"data__batch_size": 5},
        {"data__sources": {"others": Set()}},
        {"seeds": [1]},
        {"trunk__steps": 1},
    ],
)
def test_science_data_seed_and_trunk_make_another_run(listed, values):
    assert listed(**values)[-1].identity != listed()[-1].identity


def test_each_seed_has_a_trunk_of_its_own(listed):
    trunks = [job for job in listed(**FORKED, seeds=[0, 1]) if job.arm == TRUNK]
    assert trunks[0].identity != trunks[1].identity


def test_the_trunks_own_settings_are_part_of_its_arms(listed):
    plain, other = (
        next(job for job in listed(**FORKED, trunk__overrides=own) if job.arm == "plain")
        for own in ({}, {"ibot.weight": 0.5})
    )
    assert plain.identity != other.identity


def test_gram_settings_do_not_count_while_gram_is_off(listed):
    off = listed(gram=Gram(weight=0.0, start_step=3))[0]
    assert off.identity == listed()[0].identity


def test_an_arm_that_changes_nothing_is_the_same_run_under_any_name(listed):
    first, second = listed(arms={"plain": {}, "again": {"ibot.weight": 1.0}})
    assert first.identity == second.identity


def test_weights_to_start_from_count_by_content(tiny, take_steps, listed, tmp_path: Path):
    path = tmp_path / "w.safetensors"
    identities = []
    for seed in (0, 0, 1):
        save_state(take_steps(tiny, 1, seed=seed)[0], tmp_path / "state.safetensors", identity="x")
        export_weights(tmp_path / "state.safetensors", path, dtype=torch.float32)
        identities.append(listed(trunk__checkpoint=str(path))[0].identity)
    assert identities[0] == identities[1] != identities[2]
    moved = tmp_path / "moved.safetensors"
    path.rename(moved)
    assert listed(trunk__checkpoint=str(moved))[0].identity == identities[2]
    with pytest.raises(BadInput, match=re.escape(f"trunk.checkpoint={path}")):
        listed(trunk__checkpoint=str(path))


def test_a_choice_that_came_later_counts_where_it_is_not_as_it_was(listed):
    """What runs had before there was a choice stays in their identity as it was: not at all."""
    usual, other = (listed(gram=Gram(weight=1.0, relation=name), arms={"plain": {}})[0] for name in ("gram", "cka"))
    assert "relation" not in usual.science["gram"]
    assert other.science["gram"].keys() - usual.science["gram"].keys() == {"relation"}
    assert usual.identity != other.identity


@pytest.mark.parametrize(
    ("own", "more", "between"),
    [
        ({"level": "batch"}, {}, "channels"),  # 8 crops of 16 patches for 32 channels
        ({"level": "batch"}, {"data__batch_size": 2}, "patches"),  # 64 patches are no more than twice as many
        ({"level": "batch", "negatives": "clamp"}, {}, "patches"),
        ({"level": "batch", "relation": "distances"}, {}, "patches"),
        ({}, {}, "patches"),
        ({}, {"crops__global_size": 72}, "channels"),
        ({}, {"crops__sizes": SIZES}, "channels"),  # in some steps
        ({"weight": 0.0, "level": "batch"}, {}, "patches"),
    ],
)
def test_a_gram_loss_between_channels_is_another_run_than_one_between_patches(listed, own, more, between):
    """It rounds otherwise, and runs had been trained before there was this form."""
    found = listed(gram=Gram(**{"weight": 1.0, **own}), arms={"plain": {}}, **more)[0].science["gram"]
    assert found.get("matrices", "patches") == between


def test_a_given_gram_teacher_counts_by_content(tiny, take_steps, listed, tmp_path: Path):
    backbone = take_steps(tiny, 1)[0].teacher.backbone
    for name in ("here", "there"):
        export(backbone, tmp_path / name, timm_name=tiny.model.name, timm_args=backbone_args(tiny.model))
    with torch.no_grad():
        backbone.cls_token.add_(1)
    export(backbone, tmp_path / "other", timm_name=tiny.model.name, timm_args=backbone_args(tiny.model))

    def identity(name):
        gram = Gram(weight=1.0, teacher="checkpoint", checkpoint=str(tmp_path / name))
        return listed(gram=gram, arms={"plain": {}})[0].identity

    assert identity("here") == identity("there") != identity("other")
    with pytest.raises(BadInput, match=r"gram\.checkpoint=.*no exported backbone") as error:
        identity("nowhere")
    assert os.linesep not in str(error.value)


def test_weights_to_start_from_of_another_kind_are_refused_before_anything_is_made(listed, tmp_path: Path):
    path = tmp_path / "w.safetensors"
    for content in (b"", b"root:x:0:0\n" * 9, b"\x80\x02}q\x00."):
        path.write_bytes(content)
        with pytest.raises(BadInput, match=re.escape(f"trunk.checkpoint={path}: {path}, which is no safetensors file")):
            listed(trunk__checkpoint=str(path))
