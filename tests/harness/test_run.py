"""The main job through its command: a finished run, running it again, and every failing call in one line on stderr."""

import fcntl
import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from common import display, speed
from evals.backbones.exported import export
from evals.compare import main as compare
from evals.results import table as results
from harness.beginning import fresh_state
from harness.model import backbone_args
from harness.run import main
from reports.build import main as build_report
from tests.terminal import Terminal

pytestmark = pytest.mark.slow  # whole runs and whole PDFs

ROOT = Path(__file__).resolve().parents[2]
SETS = {
    "kept": {"size": 32, "count": 24, "split": "val", "name": "rooms"},
    "asked": {"size": 32, "count": 8, "split": "test", "name": "rooms"},
}
EVALS = {"every": 2, "sets": SETS, "tasks": {"knn": {"protocol": "knn", "train": "kept", "test": "asked"}}}
SECTIONS = {
    "steps": 4,
    "trunk": {"steps": 2},
    "question": "Does it run?",
    "arms": {"plain": {}, "anchored": {"gram.weight": 2.0, "gram.start_step": 2}},
    "evals": EVALS,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_text):
    """An experiment that ran to its end on a terminal: its file, its folder."""
    place = tmp_path_factory.mktemp("finished")
    path = place / "tiny.yaml"
    path.write_text(tiny_text(place, **SECTIONS, runtime={"draw": True}))
    with pytest.MonkeyPatch.context() as patch, Terminal(200, 50) as terminal:
        patch.setattr(display, "EVERY", 0.0)
        patch.setattr(display, "SHARE", math.inf)
        patch.setenv("TERM", "xterm-256color")
        with terminal.stderr():
            assert main([str(path)]) == 0
        SEEN[:] = terminal.ended()
    return path, place / "runs" / "tiny"


SEEN = list[str]()  # what the terminal of `finished` showed, one screen after the other


def test_a_terminal_shows_what_is_trained_now_and_keeps_the_log_alone(finished):
    """And log.txt is the one of a run that no terminal shows."""
    log = (finished[1] / "log.txt").read_text().splitlines()
    assert [line for line in SEEN[-1].splitlines() if line.startswith("20")] == log
    assert not any(re.search(r"running|waiting|left", line) for line in SEEN[-1].splitlines())
    assert any("anchored-s0 step 4: knn/rooms/top1" in line for line in log)
    seen = "\n".join(SEEN)
    assert re.search(r"^plain-s0 +[34]/4 ", seen, re.MULTILINE)
    assert re.search(
        r"top-1 accuracy % .*\nanchored-s0 +4/4 .*\nplain-s0 +4/4 .* done .*\n(  .*\n)*tiny: 1 running, 2 done", seen
    )
    assert re.search(r"^  (evaluations|features of \w+ at 32 px): \d+ of \d+, ", seen, re.MULTILINE)


def refused(capsys, *arguments: str) -> str:
    """The one line that a failing call leaves on stderr."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("gramlab: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


# --- names


def test_names_that_are_no_utf8_or_that_no_font_has_pass_through_training_and_report(
    tmp_path, write_tiny, capfd, monkeypatch
):
    root = tmp_path / os.fsdecode(b"ph\xf6tos")
    for split in ("train", "val"):
        for number, name in enumerate((b"caf\xe9", b"caf\xe8", "猫".encode())):
            folder = root / split / os.fsdecode(name)
            folder.mkdir(parents=True)
            for image in range(8 if split == "train" else 5):
                picture = np.full((40, 40, 3), 60 * number + image, dtype=np.uint8)
                Image.fromarray(picture).save(folder / os.fsdecode(b"\xff%d.png" % image))
    monkeypatch.setenv("PHOTOS", str(root))
    photos = {"kind": "folder", "root": "${oc.env:PHOTOS}"}
    sets = {split: {**photos, "split": split} for split in ("train", "val")}
    tasks = {"knn": {"protocol": "knn", "train": "train", "test": "val"}}
    path = write_tiny(
        steps=2,
        question="哪个更好?",
        arms={"朴素": {}, "anchored": {"gram.weight": 2.0}},
        baseline="朴素",
        data={"batch_size": 4, "sources": {"photos": photos}},
        evals={"every": 2, "sets": sets, "tasks": tasks},
    )
    text = yaml.safe_load(path.read_text())
    del text["data"]["sources"]["scenes"]
    path.write_text(yaml.safe_dump(text, allow_unicode=True), encoding="utf-8")
    assert main([str(path), "runtime.draw=true"]) == 0
    told = capfd.readouterr()
    assert "Warning" not in told.err + told.out
    assert "knn/val/top1" in told.err
    outcomes = np.load(next((tmp_path / "runs" / "tiny").glob("*/*/outcomes/*/*.npz")), allow_pickle=False)
    assert "val/caf\\xe9/\\xff0.png" in outcomes["keys"].tolist()
    assert (tmp_path / "runs" / "tiny" / "report.pdf").read_bytes().startswith(b"%PDF")
    assert main([str(path)]) == 0  # what was written is read again
    assert "done" in capfd.readouterr().out


# --- a finished run


def test_a_run_leaves_its_tables_curves_backbones_and_report(finished):
    _, folder = finished
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF")
    assert (folder / "results.csv").is_file()
    assert "trunk-s0 step 0:" in (folder / "log.txt").read_text()
    for job in ("trunk-s0", "plain-s0", "anchored-s0"):
        status = json.loads((folder / job / "status.json").read_text())
        assert status["state"] == "done"
        assert (folder / job / "metrics.jsonl").is_file()
    assert (folder / "anchored-s0" / "step_000004" / "backbone.json").is_file()
    assert any((folder / "anchored-s0" / "step_000004" / "outcomes").iterdir())


def test_a_run_without_drawings_leaves_all_else_and_its_report_can_be_drawn_later(finished, tmp_path, capsys):
    path, drawn = finished
    assert main([str(path), f"runtime.folder={tmp_path}", "runtime.draw=false"]) == 0
    folder = tmp_path / "tiny"
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "results.csv")
    drawings, names = {"plan.pdf", "report.pdf", "report.html"}, {one.name for one in folder.iterdir()}
    assert {one.name for one in drawn.iterdir()} - names == drawings
    assert (folder / "results.csv").read_bytes() == (drawn / "results.csv").read_bytes()
    assert build_report([str(folder), "--tables"]) == 0
    assert not drawings & {one.name for one in folder.iterdir()}
    assert build_report([str(folder)]) == 0
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF")


def test_the_table_has_a_row_for_each_evaluated_step(finished):
    table = results.load(finished[1] / "results.jsonl")
    found = set(zip(table["arm"], table["step"], strict=True))
    assert found == {("trunk", 0), ("trunk", 2), ("plain", 4), ("anchored", 4)}
    assert set(table["run"]) == {"tiny"}
    assert set(table["metric"]) == {"top1"}
    assert table["value"].between(0, 1).all()


def test_the_record_tells_what_was_asked_and_when_things_happened(finished):
    record = json.loads((finished[1] / "experiment.json").read_text())
    assert (record["name"], record["question"], record["baseline"]) == ("tiny", "Does it run?", "plain")
    assert (record["seeds"], record["steps"], record["trunk_steps"]) == ([0], 4, 2)
    assert record["arms"]["anchored"]["overrides"] == {"gram.weight": 2.0, "gram.start_step": 2}
    assert record["events"]["anchored"] == [{"step": 2, "kind": "fork"}, {"step": 2, "kind": "gram_start"}]
    assert any("prove nothing" in note for note in record["notes"])
    assert record["config"]["optimizer"]["lr"] == 1e-3
    assert {"python", "torch", "timm", "numpy", "cpu", "cores", "device", "precision", "git"} <= set(
        record["environment"]
    )


def test_running_again_trains_nothing_and_says_done(finished, capsys, checksums):
    path, folder = finished
    before = checksums(folder)
    assert main([str(path)]) == 0
    captured = capsys.readouterr()
    assert captured.out.count(" done") == 3
    assert "skipped" in captured.err
    assert captured.out.rstrip().endswith("report.pdf")
    after = checksums(folder)
    changing = {"log.txt", "plan.txt", "experiment.json", "launch.json", "report.pdf", "report.html", ".lock"}
    assert sum(name.startswith("tensorboard/") for name in after) == 1  # the plan, in place of the one before
    changing |= {name for name in (*before, *after) if name.startswith("tensorboard/")}
    assert {k: v for k, v in after.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }


def test_a_plan_trains_nothing_and_writes_its_drawing_alone(write_tiny, capsys, tmp_path):
    path = write_tiny(**SECTIONS)
    assert main([str(path), "--plan"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"└ anchored +2–4 .*EMA of step 2 ×1, weight 2 from step 2 +new", out)
    assert "left to do: about" in out
    (drawing,) = (path for path in (tmp_path / "runs").rglob("*") if path.is_file())
    assert drawing.name == "plan.pdf"
    assert drawing.read_bytes().startswith(b"%PDF")
    assert out.endswith(f"\ntimeline: {drawing}\n")


def test_a_look_at_other_arms_leaves_the_drawing_of_the_run_alone(write_tiny, capsys, tmp_path, checksums):
    path = write_tiny(steps=1, evals={"every": 1}, arms={"plain": {}, "other": {"koleo.weight": 0.2}})
    assert main([str(path), "runtime.draw=true"]) == 0
    folder = tmp_path / "runs" / "tiny"
    before = checksums(tmp_path / "runs")
    capsys.readouterr()
    assert main([str(path), "--plan", "--arms", "other", "steps=9"]) == 0
    look = folder / "plan-only.pdf"
    assert capsys.readouterr().out.endswith(f"\ntimeline: {look}\n")
    assert look.read_bytes() != (folder / "plan.pdf").read_bytes()
    look.unlink()
    assert checksums(tmp_path / "runs") == before


def test_a_plan_notes_what_has_no_effect_and_refuses_what_cannot_be(write_tiny, capsys, tmp_path):
    path = write_tiny(**SECTIONS)
    assert main([str(path), "--plan", "optimizer.warmup_steps=90"]) == 0
    assert "note: every arm: optimizer.warmup_steps=90: optimizer.lr=0.001 is never reached" in capsys.readouterr().out
    (tmp_path / "runs" / "tiny" / "plan.pdf").unlink()
    words = ["optimizer.lr_end=0", "schedule.end_step=9", "optimizer.warmup_steps=90"]
    assert "every arm: optimizer.warmup_steps=90: want fewer than the 9 steps until" in refused(capsys, path, *words)
    assert not any(path.is_file() for path in (tmp_path / "runs").rglob("*"))


def test_a_run_goes_on_with_the_threads_that_its_start_chose(write_tiny, capsys, tmp_path, monkeypatch):
    path = write_tiny(steps=1, arms={"plain": {}}, evals={"every": 1})
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(speed, "thread_rates", lambda **_: {1: 5.0, 2: 4.0})
    assert main([str(path)]) == 0
    assert "\nthreads: 1, measured: 2 at 0.8 times its rate\n" in capsys.readouterr().out
    assert json.loads((tmp_path / "runs" / "tiny" / "experiment.json").read_text())["environment"]["threads"] == 1
    monkeypatch.setattr(speed, "thread_rates", lambda **_: pytest.fail("a run that goes on measures nothing"))
    assert main([str(path), "steps=2"]) == 0
    assert "\nthreads: 1, as this run had before" in capsys.readouterr().out


def test_a_run_under_auto_is_one_under_what_auto_chose(write_tiny, capsys, tmp_path, monkeypatch):
    path = write_tiny(steps=1, arms={"plain": {}}, evals={"every": 1}, precision="auto")
    monkeypatch.setattr(speed, "precision_rates", lambda *_, **__: {"float32": 1e11, "bfloat16": 1e9})
    assert main([str(path)]) == 0
    assert "\nprecision: float32, chosen by auto: bfloat16 runs at 0.01 times" in capsys.readouterr().out
    record = json.loads((tmp_path / "runs" / "tiny" / "experiment.json").read_text())
    assert record["config"]["precision"] == record["environment"]["precision"] == "float32"
    assert main([str(path), "precision=float32"]) == 0
    assert "done" in capsys.readouterr().out
    monkeypatch.setattr(speed, "precision_rates", lambda *_, **__: pytest.fail("a run that goes on measures nothing"))
    assert main([str(path), "steps=2"]) == 0
    assert "\nprecision: float32, as this run had before\n" in capsys.readouterr().out
    monkeypatch.setattr(speed, "precision_rates", lambda *_, **__: {"float32": 1e11, "bfloat16": 3e11})
    assert "precision was float32, is bfloat16" in refused(
        capsys, path, "arms.plain.precision=auto", "precision=float32"
    )


def test_auto_of_an_arm_and_of_the_trunk_stays_what_it_was_when_the_run_goes_on(write_tiny, capsys, monkeypatch):
    own = {"precision": "auto"}
    path = write_tiny(steps=2, arms={"plain": own}, trunk={"steps": 1, "overrides": own}, evals={"every": 1})
    monkeypatch.setattr(speed, "precision_rates", lambda *_, **__: {"float32": 1e11, "bfloat16": 1e9})
    assert main([str(path), "precision=float32"]) == 0
    assert "chosen by auto" in capsys.readouterr().out
    monkeypatch.setattr(speed, "precision_rates", lambda *_, **__: pytest.fail("a run that goes on measures nothing"))
    assert main([str(path), "steps=3"]) == 0
    assert "\nprecision: float32, as this run had before\n" in capsys.readouterr().out


def test_other_settings_under_the_same_name_are_refused_and_change_no_file(finished, capsys, checksums):
    path, folder = finished
    before = checksums(folder)
    said = refused(capsys, path, "optimizer.lr=0.5")
    assert "optimizer.lr was 0.001, is 0.5" in said
    assert "name=" in said
    assert checksums(folder) == before


def test_a_folder_that_another_process_works_in_names_it(finished, capsys, checksums):
    path, folder = finished
    with (folder / ".lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write("4242")
        file.flush()
        before = checksums(folder)
        assert "in use by process 4242" in refused(capsys, path)
        assert checksums(folder) == before


def test_more_steps_and_another_arm_join_a_finished_run(write_tiny, capsys, tmp_path):
    path = write_tiny(**{**SECTIONS, "evals": {"every": 2}})  # no evaluations: nothing to report, and no failure
    assert main([str(path), "arms=[plain]", "steps=3"]) == 0
    folder = tmp_path / "runs" / "tiny"
    first = load_file(folder / "plain-s0" / "states" / "step_000003.safetensors")
    assert main([str(path)]) == 0
    assert capsys.readouterr().out.rstrip().endswith(str(folder))
    kept = load_file(folder / "plain-s0" / "states" / "step_000003.safetensors")
    assert all(torch.equal(first[name], kept[name]) for name in first)
    for job in ("plain-s0", "anchored-s0"):
        status = json.loads((folder / job / "status.json").read_text())
        assert (status["state"], status["step"]) == ("done", 4)
    record = json.loads((folder / "experiment.json").read_text())
    assert list(record["arms"]) == ["plain", "anchored"]


def test_an_arm_that_fails_leaves_the_others_to_go_on(write_tiny, capsys, tmp_path):
    arms = {"wild": {"optimizer.lr": 1e38}, "plain": {}}
    path = write_tiny(steps=4, arms=arms, evals=EVALS)
    assert main([str(path), "runtime.draw=true"]) == 1
    assert re.search(r"wild-s0: stopped.*step \d: dino_global=", capsys.readouterr().err)
    states = {
        arm: json.loads((tmp_path / "runs" / "tiny" / f"{arm}-s0" / "status.json").read_text())["state"] for arm in arms
    }
    assert states == {"wild": "failed", "plain": "done"}
    assert (tmp_path / "runs" / "tiny" / "report.pdf").is_file()


def test_weights_that_are_not_finite_fail_their_arm_alone(write_tiny, capsys, tmp_path):
    """Weights that a far too high rate has blown up, and an evaluation before the next loss would tell."""
    arms = {"wild": {"optimizer.lr": 1e38}, "plain": {}}
    path = write_tiny(steps=2, arms=arms, teacher={"momentum": 0.0}, evals={**EVALS, "every": 1})
    assert main([str(path)]) == 1
    assert re.search(
        r"wild-s0: stopped.*step 1: got \S+/weights\.safetensors with .* not finite", capsys.readouterr().err
    )
    folder = tmp_path / "runs" / "tiny"
    states = {arm: json.loads((folder / f"{arm}-s0" / "status.json").read_text())["state"] for arm in arms}
    assert states == {"wild": "failed", "plain": "done"}
    assert set(results.load(folder / "results.jsonl")["arm"]) == {"wild", "plain"}


# --- failing calls


def test_a_call_that_could_not_start_leaves_the_name_to_the_corrected_one(write_tiny, capsys, tiny, tmp_path):
    for name, patch in (("wrong", 4), ("right", 8)):
        model = replace(tiny.model, args={**tiny.model.args, "patch_size": patch})
        backbone = fresh_state(replace(tiny, model=model), 7, torch.device("cpu")).teacher.backbone
        export(backbone, tmp_path / name, timm_name=model.name, timm_args=backbone_args(model))
    gram = {"weight": 1.0, "teacher": "checkpoint", "checkpoint": str(tmp_path / "wrong")}
    path = write_tiny(steps=2, arms={"plain": {}}, gram=gram)
    capsys.readouterr()
    for command in ([str(path), "--plan"], [str(path)]):  # before any arm trains
        assert main(command) == 2
        said = f"gramlab: gram.checkpoint={tmp_path}/wrong: a Gram teacher of patch 4: want the student's 8\n"
        assert capsys.readouterr().err == said
    assert main([str(path), f"gram.checkpoint={tmp_path}/right"]) == 0


def as_of_old(arm: Path) -> None:
    """A folder in the place of the link, as runs were before there was a store."""
    content = arm.resolve()
    arm.unlink()
    shutil.copytree(content, arm)


@pytest.mark.parametrize(
    ("spoil", "overrides", "said"),
    [
        (lambda f: (f / "experiment.json").write_text(""), [], "experiment.json cannot be read"),
        (lambda f: (f / "anchored-s0" / "identity.json").write_text("{"), [], "identity.json cannot be read"),
        (lambda f: None, ["arms.anchored.gram.weight=3"], "gram.weight was 2.0, is 3.0"),
        (lambda f: as_of_old(f / "anchored-s0"), [], "is no link into .segments: an earlier version wrote it"),
    ],
)
def test_what_speaks_against_the_last_job_is_said_before_the_first_is_touched(
    finished, tmp_path, capsys, checksums, spoil, overrides, said
):
    path, folder = finished
    copy = tmp_path / "runs" / "tiny"
    shutil.copytree(folder.parent, copy.parent, symlinks=True)
    spoil(copy)
    before = checksums(copy)
    assert said in refused(capsys, path, f"runtime.folder={tmp_path}/runs", *overrides)
    assert checksums(copy) == before


DAMAGES = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[:-20],
    "UTF-16": lambda content: content.decode().encode("utf-16"),
    "a list": lambda content: b"[1]\n",
    "nested": lambda content: b'{"a":' * 2000 + b"}" * 2000 + b"\n",
}
BINDING = ("experiment.json", "plain-s0/identity.json")  # refused, with what to do


@pytest.mark.parametrize(
    "names",
    [
        *((name,) for name in BINDING),
        ("results.jsonl",),
        ("plain-s0/status.json",),
        ("trunk-s0/status.json", "plain-s0/metrics.jsonl", "anchored-s0/step_000004/evaluated-*.json"),  # of three jobs
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_records_are_answered_in_one_line_and_made_anew_by_the_same_command(
    finished, tmp_path, capsys, names, damage
):
    path, sound = finished
    folder = tmp_path / "runs" / "tiny"
    shutil.copytree(sound.parent, folder.parent, symlinks=True)
    for name in names:
        (record,) = folder.glob(name)
        record.write_bytes(DAMAGES[damage](record.read_bytes()))
    arguments = [str(path), f"runtime.folder={tmp_path}/runs", "runtime.draw=false"]
    if (report := build_report([str(folder)])) != 0:
        assert (report, capsys.readouterr().err.count("\n")) == (2, 1)
    if names[0] in BINDING:
        assert "remove it" in refused(capsys, *arguments)
        (folder / names[0]).unlink()  # as the line says
    assert main(arguments) == 0
    assert "Traceback" not in capsys.readouterr().err
    assert (folder / "results.csv").read_bytes() == (sound / "results.csv").read_bytes()
    rows = {row.identity: results.line(row) for row in results.read(sound / "results.jsonl").rows}
    assert {row.identity: results.line(row) for row in results.read(folder / "results.jsonl").rows} == rows
    steps = [str(folder / f"{arm}-s0" / "step_000004") for arm in ("plain", "anchored")]
    assert compare(steps) == 0


def test_a_missing_file_is_one_line_and_exit_code_two_without_a_traceback(tmp_path):
    command = [sys.executable, str(ROOT / "harness" / "run.py"), "missing.yaml"]
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("gramlab: no experiment file missing.yaml: want a YAML")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["crops.global_size=30"], "crops.global_size=30 with patches of 8"),
        (["crops.local_size=20"], "crops.local_size=20 with patches of 8"),
        (["arms.plain.gram.weight=1", "gram.resolution=1.2"], "gram.resolution=1.2"),
        (["evals.size=30"], "evals.size=30"),
        (["model.name=vit_huge"], "model.name='vit_huge'"),
        (["data.sources={}"], "no training source"),
        (["data.sources.scenes.split=tset"], "tset"),
        (["evals.tasks.knn.protocol=kn"], "kn"),
        (["trunk.checkpoint=nowhere.safetensors"], "nowhere.safetensors"),
        (["arms.plain.gram.weight=1", "arms.plain.gram.teacher=checkpoint", "arms.plain.gram.checkpoint=void"], "void"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(write_tiny, capsys, tmp_path, overrides, said):
    path = write_tiny(steps=4, arms={"plain": {}}, evals=EVALS)
    arguments = [o for o in overrides if o != "data.sources={}"]
    if "data.sources={}" in overrides:
        text = yaml.safe_load(path.read_text())
        text["data"]["sources"] = {}
        path.write_text(yaml.safe_dump(text))
    assert said in refused(capsys, path, *arguments)
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def photos(tmp_path):
    """Six small photographs in two classes."""
    rng = np.random.default_rng(0)
    for number in range(6):
        folder = tmp_path / "photos" / "train" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 48, 3), np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def on_photos(write_tiny, photos):
    source = {"kind": "folder", "root": str(photos)}
    path = write_tiny(steps=3, arms={"plain": {}}, evals={"every": 2})
    text = yaml.safe_load(path.read_text())
    text["data"]["sources"] = {"photos": source}
    path.write_text(yaml.safe_dump(text))
    return path


def test_ones_own_folder_of_images_trains(on_photos, tmp_path):
    assert main([str(on_photos)]) == 0
    status = json.loads((tmp_path / "runs" / "tiny" / "plain-s0" / "status.json").read_text())
    assert (status["state"], status["step"]) == ("done", 3)


def test_a_missing_data_folder_is_named(on_photos, capsys, tmp_path):
    assert "void" in refused(capsys, on_photos, f"data.sources.photos.root={tmp_path}/void")
    assert not (tmp_path / "runs").exists()


def test_an_empty_class_is_named(on_photos, photos, capsys, tmp_path):
    (photos / "train" / "bird").mkdir()
    assert "bird" in refused(capsys, on_photos)
    assert not (tmp_path / "runs").exists()


def test_an_unreadable_image_is_named_and_nothing_is_lost(on_photos, photos, capsys, checksums, tmp_path):
    assert main([str(on_photos), "steps=1"]) == 0
    broken = photos / "train" / "dog" / "3.png"
    was = broken.stat()
    broken.write_bytes(b"x" * was.st_size)
    os.utime(broken, ns=(was.st_atime_ns, was.st_mtime_ns))
    kept = checksums(photos)
    folder = tmp_path / "runs" / "tiny"
    before = {k: v for k, v in checksums(folder).items() if "step_" in k}
    capsys.readouterr()
    assert main([str(on_photos), "steps=30"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gramlab: ")]
    assert len(lines) == 1
    assert "dog/3.png" in lines[0]
    assert checksums(photos) == kept
    assert before.items() <= checksums(folder).items()


def test_cuda_is_refused_where_there_is_none(write_tiny, capsys):
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    assert "got device cuda" in refused(capsys, write_tiny(), "device=cuda")


# --- the whole way


def test_the_whole_way_with_every_evaluation_ends_in_a_report(write_tiny, tmp_path):
    names = ("knn", "linear", "segmentation", "depth")
    tasks = {name: {"protocol": name, "train": "kept", "test": "asked"} for name in names}
    path = write_tiny(**{**SECTIONS, "evals": {**EVALS, "tasks": tasks}})
    command = [sys.executable, str(ROOT / "harness" / "run.py"), str(path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[-1]).is_file()
    table = results.load(tmp_path / "runs" / "tiny" / "results.jsonl")
    assert set(table["eval"]) == set(names)
    assert {"top1", "miou", "rmse", "delta1"} <= set(table["metric"])
    assert all(math.isfinite(value) for value in table["value"])


def test_an_experiment_without_arms_is_refused(tmp_path, capsys):
    path = tmp_path / "empty.yaml"
    path.write_text("steps: 3\n")
    assert main([str(path), f"runtime.folder={tmp_path / 'runs'}"]) == 2
    said = "neither the file nor the command line names an arm: want at least one, for example arms: {plain: {}}"
    assert capsys.readouterr().err == f"gramlab: empty: {said}\n"
    assert not (tmp_path / "runs").exists()
