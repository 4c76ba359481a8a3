"""Every experiment file loads, is planned, and trains two steps of each arm at its own settings, shrunk."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from pypdf import PdfReader

from common.records import CurvePoint, read_lines
from evals.results import table
from harness import curate
from harness.config import load
from harness.curation import settings as curation_settings
from harness.data.pool import Pools, fingerprint
from harness.evaluate import open_tasks
from harness.graph import jobs
from harness.layers import flatten
from harness.plan import estimates, plan
from harness.train import train

ROOT = Path(__file__).resolve().parents[1]
CURATIONS = [ROOT / "experiments" / "curate.yaml"]  # no experiment: what makes a pool for one
FILES = sorted({*(ROOT / "experiments").glob("*.yaml")} - {*CURATIONS})
SMALL_HEADS = [
    f"{part}.head.{key}" for part in ("dino", "ibot") for key in ("hidden=32", "bottleneck=16", "prototypes=64")
]
# one step to the fork and one from it, of two images; 21 are the fewest that 20 neighbours are found among
FEW = [
    *("trunk.steps=1", "gram.start_step=1", "steps=2", "optimizer.warmup_steps=1", "data.batch_size=2"),
    *("evals.sets.scenes_val.count=21", "evals.sets.scenes_test.count=6"),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def path(request, monkeypatch):
    if "GRAMLAB_DATA" in _text(request.param) and "GRAMLAB_DATA" not in os.environ:
        pytest.skip("GRAMLAB_DATA is not set: this experiment reads real images from the folder that it names")
    monkeypatch.chdir(ROOT)
    return request.param


def _text(path: Path) -> str:
    """The file and the groups that it may draw on."""
    own = path.read_text()
    groups = [f for f in (ROOT / "experiments").glob("*/*.yaml") if f"{f.parent.name}: {f.stem}" in own]
    return own + "".join(group.read_text() for group in groups)


def shrunk(path: Path, folder: Path, cache: Path):
    """The experiment with two steps from its fork, two images a step and few images in its sets."""
    whole = load(path)
    fork = min(whole.trunk.steps, 1)
    overrides = [f"trunk.steps={fork}", f"steps={fork + 2}", "data.batch_size=2", "device=cpu", "seeds=[0]"]
    overrides += [f"runtime.folder={folder}", f"runtime.cache={cache}", "runtime.log_every=1", "runtime.workers=0"]
    overrides += [f"data.sources.{name}.count=8" for name in whole.data.sources]
    manifests = {name: one for name, one in whole.data.sources.items() if one.kind == "manifest"}
    overrides += [f"data.sources.{name}.root={curated(Path(str(one.root)), cache)}" for name, one in manifests.items()]
    overrides += [f"evals.sets.{name}.count=32" for name in whole.evals.sets]  # k is 20
    if whole.precision == "auto":  # which a command settles by measuring, before it makes identities
        overrides += ["precision=float32"]
    if whole.model.start_from:  # its size is that of its weights
        overrides += [*SMALL_HEADS, f"optimizer.freeze_backbone_steps={fork}"]
    elif whole.model.args.get("embed_dim", 384) > 128:
        overrides += ["model.args.depth=1", "model.args.embed_dim=48", "model.args.num_heads=2", *SMALL_HEADS]
        overrides += ["trunk.checkpoint=null"]
    written = yaml.safe_load(path.read_text())["arms"]  # a grid by its one name
    ends: dict[str, int] = {}
    for arm, own in written.items():  # phases take two steps each
        ends[arm] = ends.get(own.get("from"), fork) + 2
        begins = "null" if own.get("from") in ends else fork
        overrides += [f"arms.{arm}.gram.start_step={begins}", f"arms.{arm}.gram.teacher_step=null"]
        given = {key for key, value in flatten(whole.arms.get(arm, {})).items() if isinstance(value, int)}
        small = {"steps": ends[arm], "data.batch_size": 2}
        overrides += [f"arms.{arm}.{key}={value}" for key, value in small.items() if key in given]
    return load(path, [*overrides, f"gram.start_step={fork}", "gram.teacher_step=null"])


def curated(manifest: Path, cache: Path) -> Path:
    """A manifest as the curation that it is named after makes it, of few images and by a small backbone."""
    name, folder = manifest.parent.name, cache / "curated"
    path = ROOT / "experiments" / f"{name}.yaml"
    small = [f"data.sources.{source}.count=12" for source in curation_settings.load(path).data.sources]
    small += [f"folder={folder}", "backbone=random:test_vit", "size=160", "levels=[{clusters:6}]", "duplicates=null"]
    small += ["clustering.target=20", "retrieval.seeds.imagenette_val.count=4", "device=cpu"]
    if not (folder / name / manifest.name).exists():
        assert curate.main([str(path), *small]) == 0
    return folder / name / manifest.name


def test_there_are_experiments():
    assert FILES


def test_an_experiment_says_what_it_asks_and_costs(path):
    experiment = load(path)
    for key in ("question", "source", "expected", "cost"):
        assert getattr(experiment, key), f"{path.name}: {key} is empty"
    assert experiment.name == path.stem
    assert experiment.arms
    assert path.read_text().startswith("#")


@pytest.mark.parametrize("path", CURATIONS, ids=lambda path: path.stem)
def test_a_curation_says_what_it_asks_and_costs(path, monkeypatch):
    monkeypatch.setenv("GRAMLAB_DATA", "/data")
    curation = curation_settings.load(path)
    assert all(getattr(curation, key) for key in ("question", "source", "expected", "cost"))
    assert curation.name == path.stem
    assert path.read_text().startswith("#")


@pytest.mark.slow
def test_an_experiment_is_planned_and_trains_two_steps_of_every_arm(path, cache, tmp_path):
    experiment = shrunk(path, tmp_path, cache)
    pools = Pools(cache)
    found = jobs(experiment, fingerprint=lambda data: fingerprint(pools(data)))
    assert {job.arm for job in found} - {"trunk"} == set(experiment.arms)
    tasks, cpu = open_tasks(experiment), torch.device("cpu")
    text = plan(experiment, found, tasks, cpu, expected=estimates(experiment, found, tasks, cpu))
    assert all(f" {arm} " in text for arm in experiment.arms)
    for job in found:
        train(job, pools(job.settings.data), lambda job, step, folder: {}, device=torch.device("cpu"))
        rows = read_lines(job.folder / "metrics.jsonl", CurvePoint).rows
        own = [row["step"] for row in rows if row["step"] > job.start]  # the trunk's are in the same segment as plain's
        assert own == list(range(job.start + 1, job.stop + 1))
        gram = job.settings.gram
        assert ("gram" in rows[-1]) == (gram.weight > 0 and gram.start == "step")  # no alarm is raised in two steps


@pytest.mark.slow
def test_the_vit_s_smoke_run_goes_the_whole_way_below_eight_gib(tmp_path, cache):
    command = [sys.executable, "harness/run.py", "experiments/vits_smoke.yaml", "device=cpu"]
    command += [f"runtime.folder={tmp_path}", f"runtime.cache={cache}", *FEW]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    report = tmp_path / "vits_smoke" / "report.pdf"
    assert ran.stdout.splitlines()[-1] == str(report)
    assert len(PdfReader(report).pages) >= 5
    rows = table.load(report.with_name("results.jsonl"))
    assert set(rows["metric"]) == {"top1", "miou", "pixel_accuracy", "rmse", "delta1"}
    assert set(zip(rows["arm"], rows["step"], strict=True)) == {
        ("trunk", 0), ("trunk", 1), ("plain", 2), ("anchored", 2), ("highres", 2),
    }  # fmt: skip
    assert rows["value"].between(0, 10).all()
    statuses = [json.loads(path.read_text()) for path in tmp_path.glob("vits_smoke/*/status.json")]
    assert {status["state"] for status in statuses} == {"done"}
    assert max(status["peak_memory_gib"] for status in statuses) < 8
    first = read_lines(tmp_path / "vits_smoke" / "trunk-s0" / "metrics.jsonl", CurvePoint).rows[0]
    assert first["dino_global"] == pytest.approx(math.log(65536), rel=0.05)
