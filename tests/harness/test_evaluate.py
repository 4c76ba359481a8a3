"""Evaluations while training: made once, made again when they change, and a sick network is its own arm's failure."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import BadInput
from evals.datasets.settings import Set
from evals.results import table
from harness.beginning import fresh_state
from harness.eval_settings import EvaluationTask
from harness.evaluate import Evaluator
from harness.job_folder import step_folder
from harness.step import NonFinite
from harness.train import export_backbone

CPU = torch.device("cpu")
SETS = {"a": Set(size=32, count=24, split="val"), "b": Set(size=32, count=6, split="test")}
KNN = {"evals.sets": SETS, "evals.tasks": {"knn": EvaluationTask(protocol="knn", train="a", test="b")}}


@pytest.fixture
def exported(make_job):
    """A job with the backbone of step 0 in its place, and the state that it came from."""
    job = make_job(KNN)
    state = fresh_state(job.settings, 0, CPU)
    export_backbone(job, state, step_folder(job, 0), which="teacher")
    return job, state


def rows(job):
    path = job.view.parent / "results.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_step_is_evaluated_once(exported):
    job, _ = exported
    evaluate = Evaluator(job.settings, job.view.parent)
    assert evaluate(job, 0, step_folder(job, 0)).keys() == {"knn/b/top1"}
    assert evaluate(job, 0, step_folder(job, 0)) == {}
    assert rows(job) == 1


def test_masks_that_may_count_from_zero_are_asked_about_before_training(make_job, change, tmp_path):
    for split in ("training", "validation"):
        for folder, pixels in (("images", np.zeros((4, 6, 3))), ("annotations", np.arange(24).reshape(4, 6) % 2)):
            (tmp_path / "set" / folder / split).mkdir(parents=True)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "set" / folder / split / "a.png")
    given = {"kind": "ade20k", "root": str(tmp_path / "set"), "classes": ["background", "lesion"]}
    tasks = {"lesions": EvaluationTask(protocol="segmentation", train="train", test="val")}

    def evaluator(**reading):
        sets = {split: Set(split=split, **given, **reading) for split in ("train", "val")}
        return Evaluator(change(make_job().settings, {"evals.sets": sets, "evals.tasks": tasks}), tmp_path)

    with pytest.raises(BadInput, match=r"masks of 'train' \(train\) that may count their 2 classes from 0 or from 1"):
        evaluator()
    assert evaluator(labels="from_zero").tasks["lesions"].test_set.mask(0).tolist() == [[0, 1, 0, 1, 0, 1]] * 4


def test_what_is_there_to_be_judged_is_told_once(make_job, change, caplog):
    caplog.set_level("INFO", logger="gramlab")
    job = make_job(KNN)
    sets = {**SETS, "b": Set(size=32, count=1, split="test")}
    tasks = {"classes": EvaluationTask(protocol="segmentation", train="a", test="b")}
    job = replace(job, settings=change(job.settings, {"evals.sets": sets, "evals.tasks": tasks}))
    evaluate = Evaluator(job.settings, job.view.parent)
    for step in (0, 2):
        folder = step_folder(job, step)
        export_backbone(job, replace(fresh_state(job.settings, 0, CPU), step=step), folder, which="teacher")
        evaluate(job, step, folder)
    notes = [said for said in caplog.messages if "of 11 classes are in none of these masks" in said]
    assert len(notes) == 1
    assert notes[0].startswith("segmentation on b/test: ")


def test_the_network_is_part_of_what_was_evaluated(exported, change):
    job, _ = exported
    other = change(job.settings, {"evals.network": "student"})
    again = change(job.settings, {"evals.every": 7})
    own, theirs, same = (Evaluator(e, job.view.parent).identity for e in (job.settings, other, again))
    assert own == same
    assert own != theirs


def test_rows_and_outcomes_are_on_the_disk_before_the_mark_that_speaks_of_them(exported, synced):
    job, _ = exported
    folder, table = step_folder(job, 0), job.view.parent / "results.jsonl"
    evaluate = Evaluator(job.settings, job.view.parent)
    evaluate(job, 0, folder)
    (mark,) = (number for number, path in enumerate(synced) if path.match("evaluated-*.json"))
    assert {evaluate.outcomes(folder), table, table.parent} <= set(synced[:mark])
    assert synced[mark + 1 :] == [folder]


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", "null", '{"identity": 7}', "\0", '{"a":' * 2000 + "}" * 2000])
def test_a_damaged_mark_is_made_anew(exported, damage):
    job, _ = exported
    evaluate = Evaluator(job.settings, job.view.parent)
    mark = evaluate.mark(step_folder(job, 0))
    mark.write_text(damage)
    assert evaluate(job, 0, step_folder(job, 0)) != {}
    assert json.loads(mark.read_text())["identity"] == evaluate.identity
    assert len(table.load(job.view.parent / "results.jsonl")) == 1


@pytest.fixture
def evaluated(exported):
    """The same, once evaluated: what tries it again as a new process would, and gives what that evaluated."""
    job, _ = exported
    folder = step_folder(job, 0)

    def again():
        return Evaluator(job.settings, job.view.parent)(job, 0, folder)

    assert again().keys() == {"knn/b/top1"}
    return folder, job.view.parent / "results.jsonl", again


def test_rows_that_the_table_lost_come_back_from_the_mark_without_evaluating(evaluated, caplog):
    _, path, again = evaluated
    caplog.set_level("INFO", "gramlab")
    whole = path.read_bytes()
    for damaged in (None, b"", whole[:-30], whole[:-1] + b"\0\0"):
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        caplog.clear()
        assert again() == {}
        assert "was measured before; 1 of its 1 rows added" in caplog.text
        assert table.read(path).rows[0].value == json.loads(whole)["value"]
        assert again() == {}
    path.write_bytes(whole[:-30])
    again()
    assert path.read_bytes() == whole


def test_a_row_that_was_changed_is_evaluated_again(evaluated, caplog):
    _, path, again = evaluated
    whole = path.read_text()
    path.write_text(whole.replace('"value": 0.', '"value": 0.9'))
    assert path.read_text() != whole
    assert again().keys() == {"knn/b/top1"}
    assert "results.jsonl: not as it was when " in caplog.text
    assert path.read_text().splitlines()[1] + "\n" == whole
    assert table.line(table.read(path).rows[0]) + "\n" == whole


@pytest.mark.parametrize("damage", ["gone", "cut", "flipped", "folder"])
def test_outcomes_that_are_not_as_they_were_are_made_again(evaluated, damage, caplog):
    folder, path, again = evaluated
    (outcomes,) = folder.glob("outcomes/*/*.npz")
    whole, rows = outcomes.read_bytes(), path.read_bytes()
    outcomes.unlink()
    if damage == "folder":
        outcomes.parent.rmdir()
    elif damage != "gone":
        outcomes.write_bytes(whole[:-9] if damage == "cut" else whole[:99] + bytes([whole[99] ^ 1]) + whole[100:])
    assert again().keys() == {"knn/b/top1"}
    assert f"{outcomes.name}: not as it was when {folder} was evaluated; evaluating again" in caplog.text
    assert outcomes.read_bytes() == whole
    assert path.read_bytes() == rows
    assert again() == {}


def test_a_mark_from_before_it_held_its_rows_is_made_anew(evaluated, caplog):
    folder, path, again = evaluated
    mark, rows = next(folder.glob("evaluated-*.json")), path.read_bytes()
    new = mark.read_text()
    mark.write_text(json.dumps({"identity": json.loads(new)["identity"]}))
    assert again().keys() == {"knn/b/top1"}
    assert f"{mark.name} cannot be read (outcomes is missing)" in caplog.text
    assert (mark.read_text(), path.read_bytes()) == (new, rows)


def test_what_has_lost_its_weights_keeps_what_it_holds(evaluated, exported, caplog):
    folder, path, again = evaluated
    for name in ("backbone.json", "weights.safetensors"):
        (folder / name).unlink()
    path.unlink()
    assert again() == {}
    assert len(table.read(path).rows) == 1
    next(folder.glob("outcomes/*/*.npz")).unlink()
    assert again() == {}
    assert f"{folder} cannot be evaluated again, since it holds no weights" in caplog.text
    job, _ = exported
    (said,) = Evaluator(job.settings, job.view.parent).lost([job])
    assert said.startswith(f"{job.folder} has no weights of step 0: ")


def test_damaged_lines_of_the_table_are_told_at_the_start(evaluated, exported):
    _, path, _ = evaluated
    path.write_text('{"run": "a"}\n' + path.read_text() + "\0\n")
    job, _ = exported
    (said,) = Evaluator(job.settings, job.view.parent).lost([job])
    assert said == f"{path}:1: eval is missing: left out, and 1 more; what is missing is made again"
    path.unlink()
    path.mkdir()
    with pytest.raises(BadInput, match=r"results.jsonl is no file: .* move away"):
        Evaluator(job.settings, job.view.parent)


def test_outcomes_on_other_sets_of_the_same_names_lie_apart(exported, change):
    """As those of another experiment, which shares the segment."""
    job, _ = exported
    sets = {**SETS, "b": Set(size=32, count=4, split="test")}
    folder, fewer = step_folder(job, 0), change(job.settings, {"evals.sets": sets})
    one, other = (Evaluator(settings, job.view.parent / name) for settings, name in ((job.settings, "1"), (fewer, "2")))
    assert all(evaluate(job, 0, folder) for evaluate in (one, other))
    assert one.holds(job, folder)
    assert other.holds(job, folder)
    assert len([*folder.glob("outcomes/*/*.npz")]) == 2


def test_a_run_without_evaluations_says_so(exported, change, caplog):
    job, _ = exported
    none = change(job.settings, {"evals.tasks": {}})
    with caplog.at_level("INFO", "gramlab"):
        assert Evaluator(none, job.view.parent)(job, 0, step_folder(job, 0)) == {}
    assert "plain-s0 step 0: exported; no evaluation is asked for" in caplog.text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3e38, r"step 0: evaluation knn: .*not finite"),  # a number, but products with it are none
        (float("inf"), r"step 0: got \S+/weights\.safetensors with norm\.weight not finite"),
    ],
)
def test_weights_and_features_that_are_not_finite_are_the_networks_failure(exported, value, said):
    job, state = exported
    with torch.no_grad():
        state.teacher.backbone.norm.weight.fill_(value)
    export_backbone(job, state, step_folder(job, 0), which="teacher")
    with pytest.raises(NonFinite, match=said):
        Evaluator(job.settings, job.view.parent)(job, 0, step_folder(job, 0))
    assert rows(job) == 0
    assert not [*step_folder(job, 0).glob("evaluated*")]


def test_what_every_arm_would_meet_stays_bad_input(exported, change):
    job, _ = exported
    odd = change(job.settings, {"evals.size": 30})
    with pytest.raises(BadInput, match="size 30"):
        Evaluator(odd, job.view.parent)(job, 0, step_folder(job, 0))
