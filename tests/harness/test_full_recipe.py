"""All phases of the recipe: at every scale with the numbers that it should have, at the nano scale from end to end."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from pypdf import PdfReader
from safetensors.torch import load_file

from common.errors import BadInput
from evals.results import table
from harness.config import load
from harness.cost import refuse_unfit_crops
from harness.data.pool import Pools, fingerprint
from harness.graph import jobs
from harness.job_folder import state_path
from harness.model import build_backbone, sizes_of
from harness.pointless import pointless
from harness.run import main
from harness.schedules import at
from harness.timeline import planned_arms
from harness.train import train

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "experiments" / "full_recipe.yaml"
PHASES = ["pretraining", "refinement", "highres"]
STUDENTS = ["distilled", "distilled_small"]
SCALES = ["nano", "vits", "vitb", "vitl", "vit7b"]


def listed(*overrides):
    """The jobs of the recipe by phase."""
    return {job.arm: job for job in jobs(load(PATH, overrides), fingerprint=lambda data: "rooms")}


# --- the numbers of each scale


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_is_a_chain_of_all_phases_with_nothing_in_it_that_does_nothing(scale):
    found = listed(f"scale={scale}")
    assert [*found] == PHASES + STUDENTS
    assert [job.parent and job.parent.arm for job in found.values()] == [None, *PHASES[:-1], None, None]
    assert [found[name].inherit for name in PHASES] == ["all", "all", "teacher"]
    assert {found[name].taught_by.arm for name in STUDENTS} == {"highres"}
    for job in found.values():
        refuse_unfit_crops(job.settings)
    assert pointless(planned_arms([*found.values()])) == []


@pytest.mark.parametrize(
    ("scale", "parameters"), [("nano", 0.467e6), ("vits", 21.6e6), ("vitb", 85.7e6), ("vitl", 303e6), ("vit7b", 6716e6)]
)
def test_a_scale_has_the_model_of_its_name(scale, parameters):
    model = load(PATH, [f"scale={scale}"]).model
    with torch.device("meta"):
        found = sum(one.numel() for one in build_backbone(model).parameters())
    assert found == pytest.approx(parameters, rel=0.01)


@pytest.mark.parametrize("scale", SCALES)
def test_students_fall_in_size_from_the_teacher_on_and_have_neither_gram_loss_nor_stochastic_depth(scale):
    found = listed(f"scale={scale}")
    with torch.device("meta"):
        sizes = [
            sum(one.numel() for one in build_backbone(found[name].settings.model).parameters())
            for name in ("highres", *STUDENTS)
        ]
    assert sizes == sorted(set(sizes), reverse=True)
    for name in STUDENTS:
        assert (found[name].settings.gram.weight, found[name].settings.model.drop_path) == (0, 0)


@pytest.mark.parametrize("scale", SCALES)
def test_high_resolution_is_the_published_table_in_multiples_of_the_sides_of_pretraining(scale):
    """A local crop of 1.5 times 112 pixels is cut to whole patches of 16."""
    found = listed(f"scale={scale}")
    before, patch = found["pretraining"].settings.crops, sizes_of(found["highres"].settings.model).patch
    sizes = found["highres"].settings.crops.sizes
    times = [(2, 1, 3), (3, 1, 4.5), (3, 1.5, 4.5), (3, 2, 4.5), (3, 3, 4.5)]
    for one, (larger, local, gram) in zip(sizes, times, strict=True):
        assert (one.global_size, one.gram_size) == (larger * before.global_size, gram * before.global_size)
        assert one.local_size == local * before.local_size // patch * patch
    assert [one.probability for one in sizes] == [0.3, 0.3, 0.3, 0.05, 0.05]


# --- the check values of the recipe for the 7B model


@pytest.fixture(scope="module")
def seven():
    return listed("scale=vit7b")


@pytest.fixture
def now(seven):
    """What holds in a step of the 7B run."""

    def of(step):
        job = next(job for job in seven.values() if job.start <= step < job.stop)
        return at(job.settings, step, origin=job.origin, stop=job.stop)

    return of


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0),
        (50_000, 2.0e-4),
        (100_000, 4.0e-4),
        (999_999, 4.0e-4),
        (1_000_000, 2.4e-4),
        (1_199_999, 2.4e-4),
        (1_200_000, 0),
        (1_210_000, 1.25e-5 * 4 * 2**0.5),
        (1_229_999, 7.071e-5),
    ],
)
def test_the_rate_of_the_7b_model_is_that_of_the_recipe_in_every_phase(now, step, rate):
    assert now(step).lr == pytest.approx(rate, rel=1e-4)


@pytest.mark.parametrize(
    ("step", "weight"),
    [
        (999_999, 0),
        (1_000_000, 0),
        (1_000_500, 1.00157),
        (1_000_999, 2.0),
        (1_199_999, 2.0),
        (1_200_000, 1.5),
        (1_229_999, 1.5),
    ],
)
def test_the_gram_weight_of_the_7b_model_is_that_of_the_recipe_in_every_phase(now, step, weight):
    assert now(step).factors["gram"] == pytest.approx(weight, abs=1e-5)


def test_other_values_of_the_7b_model_are_those_of_the_recipe(seven, now):
    assert [now(step).temperature for step in (0, 50_000, 100_000, 1_200_000)] == pytest.approx(
        [0.04, 0.055, 0.07, 0.07]
    )
    assert [now(step).momentum for step in (0, 1_000_000, 1_200_000)] == [0.994, 0.999, 0.999]
    assert [now(step).last_layer_lr > 0 for step in (4999, 5000, 1_200_001)] == [False, True, True]
    locally = [now(step).factors["dino_local"] for step in (0, 1_000_000, 1_000_999, 1_200_000)]
    assert locally == pytest.approx([8 / 9, 8 / 9, 4 / 9, 4 / 9])
    halfway = now(1_000_500)  # both go by the same half-cosine
    assert halfway.factors["dino_local"] == pytest.approx(8 / 9 * (1 - halfway.factors["gram"] / 4))
    assert [job.settings.data.batch_size for job in seven.values()] == [4096, 4096, 2048, 1920, 1920]


def test_students_of_the_7b_model_have_the_values_of_the_recipe(seven):
    for name in STUDENTS:
        settings = seven[name].settings
        assert (settings.optimizer.lr, settings.optimizer.weight_decay, settings.optimizer.layer_decay) == (
            5e-5,
            0.04,
            0.99,
        )
        ends = [at(settings, step, origin=0, stop=seven[name].stop).momentum for step in (0, 999_999)]
        assert ends == pytest.approx([0.994, 1.0], abs=1e-6)


def test_the_gram_teacher_of_the_7b_model_is_early_then_renewed_three_times_then_that_of_the_last_phase(seven, now):
    assert (seven["pretraining"].snapshots, seven["refinement"].earlier) == ((200_000,), (200_000,))
    renewed = [step for step in range(1_000_000, 1_200_000, 1000) if now(step).renew_gram_teacher]
    assert renewed == [1_010_000, 1_020_000, 1_030_000]
    last = seven["highres"]
    assert not last.keeps_gram_teacher
    assert last.earlier == ()
    assert [step for step in range(last.start, last.stop, 1000) if now(step).renew_gram_teacher] == [last.start]


# --- all phases, trained

SMALL = [
    *("arms.pretraining.steps=4", "arms.refinement.steps=8", "arms.highres.steps=11", "data.batch_size=4"),
    *("arms.distilled.steps=3", "arms.distilled_small.steps=3"),
    *("arms.refinement.gram.teacher_step=2", "arms.refinement.gram.warmup_steps=3", "arms.highres.data.batch_size=2"),
    *("arms.refinement.gram.update_every=1", "arms.highres.optimizer.warmup_steps=2", "optimizer.warmup_steps=3"),
    *("data.sources.scenes.count=12", "data.sources.scenes.size=64", "runtime.log_every=1", "device=cpu"),
    *(
        "~evals.tasks.linear",
        "~evals.tasks.depth",
        "evals.every=4",
        "evals.sets.scenes_val.count=24",
        "evals.sets.scenes_test.count=12",
    ),
]
# The parts differ in what has no effect, a warm-up between equal temperatures, so that each is a segment of its own
SPLIT = """
defaults: [full_recipe, _self_]
name: split
arms:
  early: {steps: 3}
  pretraining: {from: early, teacher.temperature_warmup_steps: 2}
  halfway:
    from: pretraining
    steps: 6
    teacher.momentum: 0.999
    dino: {local_weight: 0.5, local_weight_start: 1.0}
    optimizer.lr: 1.2e-3
    gram: {weight: 2.0, resolution: 2.0, teacher_step: 2, warmup_steps: 3, update_every: 1, max_renewals: 3}
  refinement: {from: halfway, teacher.temperature_warmup_steps: 3}
"""


@pytest.mark.slow
def test_all_phases_train_from_end_to_end_and_are_the_same_bits_in_other_parts(tmp_path, same):
    places = [f"runtime.folder={tmp_path}", f"runtime.cache={tmp_path / 'cache'}"]
    assert main([str(PATH), *SMALL, *places]) == 0
    folder = tmp_path / "full_recipe"
    assert len(PdfReader(folder / "report.pdf").pages) >= 4
    rows = table.load(folder / "results.jsonl")
    assert Counter(zip(rows["arm"], rows["step"], strict=True)).keys() == {
        ("pretraining", 0), ("pretraining", 4), ("refinement", 8), ("highres", 11),
        *((name, step) for name in STUDENTS for step in (0, 3)),
    }  # fmt: skip
    (tmp_path / "split.yaml").write_text(SPLIT)
    apart = f"runtime.folder={tmp_path / 'split'}"
    whole, parts = load(PATH, [*SMALL, *places]), load(tmp_path / "split.yaml", [*SMALL, *places, apart])
    pools = Pools(tmp_path / "cache")
    first, second = (
        {job.arm: job for job in jobs(one, fingerprint=lambda data: fingerprint(pools(data)))} for one in (whole, parts)
    )
    for job in second.values():
        train(job, pools(job.settings.data), lambda job, step, folder: {}, device=torch.device("cpu"))
    assert [*second] == ["early", "pretraining", "halfway", "refinement", "highres", *STUDENTS]
    for name in PHASES + STUDENTS:
        ends = [load_file(state_path(one[name], one[name].stop)) for one in (first, second)]
        assert first[name].identity != second[name].identity, name
        assert same(*ends), name


# --- refusals


def test_crops_that_the_patch_of_a_scale_does_not_divide_are_refused_by_phase_in_one_line_each(tmp_path, capsys):
    words = ["scale=nano", "model.args.patch_size=16", f"runtime.folder={tmp_path}", f"runtime.cache={tmp_path}"]
    small = [
        "data.sources.scenes.count=8",
        "evals.tasks={}",
        "arms.highres.crops.sizes=[{global_size: 96, local_size: 40, probability: 1.0}]",
    ]
    assert main([str(PATH), "--plan", *words, *small]) == 2
    said = capsys.readouterr().err
    assert "arms.highres: got crops.sizes[0].local_size=40 with patches of 16: want a multiple" in said
    assert len(said.strip().splitlines()) == 1


def test_a_scale_that_there_is_not_is_refused_with_those_that_there_are():
    with pytest.raises(BadInput, match=r"no scale/vitg\.yaml; known: nano, one_gpu, vit7b, vitb, vitl, vits"):
        load(PATH, ["scale=vitg"])
