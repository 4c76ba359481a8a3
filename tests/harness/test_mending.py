"""What a run has kept and is damaged is found by the plan, and made again by the same command with the same bits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from evals.backbones.addresses import load
from harness.run import main

pytestmark = pytest.mark.slow  # whole small runs

SETS = {
    "kept": {"size": 32, "count": 24, "split": "val", "name": "rooms"},
    "asked": {"size": 32, "count": 8, "split": "test", "name": "rooms"},
}
ARMS = {"plain": {"koleo.weight": 0.2}, "anchored": {"gram.weight": 2.0, "gram.start_step": 4, "gram.teacher_step": 1}}
SECTIONS = {
    "steps": 6,
    "trunk": {"steps": 4},
    "evals": {"every": 2, "sets": SETS, "tasks": {"knn": {"protocol": "knn", "train": "kept", "test": "asked"}}},
    "runtime": {"checkpoint_every": 1},
}


def command(place: Path, tiny_text: Callable[..., str], *words: str, arms: Any = ARMS) -> int:
    place.mkdir(exist_ok=True)
    path = place / "tiny.yaml"
    path.write_text(tiny_text(place, **SECTIONS, arms=arms))
    return main([str(path), *words])


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_text) -> Path:
    """The folder of a run that nothing disturbed."""
    place = tmp_path_factory.mktemp("finished")
    assert command(place, tiny_text) == 0
    return place / "runs" / "tiny"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be damaged."""
    shutil.copytree(finished.parent, tmp_path / "runs", symlinks=True)
    return tmp_path / "runs" / "tiny"


@pytest.fixture
def again(tmp_path: Path, tiny_text, capsys) -> Callable[..., tuple[str, str]]:
    """Gives the command again; what it prints, and what it logs."""

    def of(*words: str, arms: Any = ARMS) -> tuple[str, str]:
        capsys.readouterr()
        assert command(tmp_path, tiny_text, *words, arms=arms) == 0
        captured = capsys.readouterr()
        return captured.out, captured.err

    return of


def forget(arm: Path) -> None:
    """As if an arm had not begun."""
    shutil.rmtree(arm.resolve())
    arm.unlink()


def flip(path: Path) -> None:
    """One bit in the middle of a file's data."""
    content = bytearray(path.read_bytes())
    content[-len(content) // 3] ^= 4
    path.write_bytes(content)


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def weights(run: Path) -> dict[str, str]:
    """Fingerprints of every export and snapshot, and of both networks of every state."""
    folders = {str(p.relative_to(run)): p for p in run.glob("*/step_*")}
    states = {
        f"{p.relative_to(run)}:{word}": f"{p}:{word}"
        for p in run.glob("*/states/*.safetensors")
        for word in ("teacher", "student")
    }
    return {name: load(str(address)).fingerprint for name, address in (folders | states).items()}


def curves(run: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        p.parent.name: [{k: v for k, v in row.items() if k != "seconds"} for row in read_rows(p)]
        for p in run.glob("*/metrics.jsonl")
    }


def values(run: Path) -> dict[tuple[str, int, str], float]:
    rows = read_rows(run / "results.jsonl")
    return {(row["arm"], row["step"], row["metric"]): row["value"] for row in rows}


def assert_as_if_nothing_had_been(run: Path, finished: Path) -> None:
    assert weights(run) == weights(finished)
    assert curves(run) == curves(finished)
    assert values(run) == values(finished)
    assert all(json.loads(p.read_text())["state"] == "done" for p in run.glob("*/status.json"))


DAMAGE = {
    "flipped": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_end_of_a_trunk_is_made_again_from_the_state_before_it(run, finished, again, damage):
    forget(run / "plain-s0")
    end = run / "trunk-s0" / "states" / "step_000004.safetensors"
    DAMAGE[damage](end)
    plan, _ = again("--plan")
    (line,) = (line for line in plan.splitlines() if "damaged: " in line)
    assert str(end.resolve()) in line
    assert line.endswith("made again by steps 3–4 of trunk-s0")
    _, log = again()
    assert line.removeprefix("  damaged: ") in log
    assert_as_if_nothing_had_been(run, finished)


def test_an_end_of_a_trunk_without_a_state_before_it_is_made_again_from_the_start(run, finished, again):
    forget(run / "plain-s0")
    forget(run / "anchored-s0")
    for path in (run / "trunk-s0" / "states").glob("*.safetensors"):
        flip(path)
    plan, _ = again("--plan")
    assert "made again by steps 0–4 of trunk-s0" in plan
    again()
    # the state of step 3, which nothing needs, stays as it was
    shutil.copy(finished / "trunk-s0/states/step_000003.safetensors", run / "trunk-s0/states/step_000003.safetensors")
    assert_as_if_nothing_had_been(run, finished)


def test_an_end_of_a_trunk_that_was_removed_is_made_again(run, finished, again):
    """As the advice was, which led into a refusal."""
    forget(run / "plain-s0")
    (run / "trunk-s0" / "states" / "step_000004.safetensors").unlink()
    plan, _ = again("--plan")
    assert "step_000004.safetensors is missing; made again by steps 3–4 of trunk-s0" in plan
    again()
    assert_as_if_nothing_had_been(run, finished)


@pytest.mark.parametrize("name", ["weights.safetensors", "backbone.json"])
def test_a_damaged_snapshot_is_found_before_any_arm_starts_and_made_again(run, finished, again, name):
    forget(run / "plain-s0")
    forget(run / "anchored-s0")
    flip(run / "trunk-s0" / "step_000001" / name)
    plan, _ = again("--plan")
    assert "step_000001" in plan
    assert "made again by steps 0–1 of trunk-s0" in plan
    _, log = again()
    assert log.index("made again") < log.index("plain-s0 step 6")
    assert_as_if_nothing_had_been(run, finished)


def test_a_damaged_export_is_made_again_from_the_state_of_its_step_and_keeps_its_results(run, finished, again):
    folder = run / "plain-s0" / "step_000006"
    flip(folder / "weights.safetensors")
    before = {p.name: p.read_bytes() for p in folder.glob("outcomes/*/*.npz")}
    rows = len(read_rows(run / "results.jsonl"))
    plan, _ = again("--plan")
    assert "made again from the state of that step" in plan
    again()
    assert {p.name: p.read_bytes() for p in folder.glob("outcomes/*/*.npz")} == before
    assert len(read_rows(run / "results.jsonl")) == rows
    assert_as_if_nothing_had_been(run, finished)


def test_weights_that_are_made_again_are_not_called_gone(run, finished, again):
    """Exports that were removed: the last is asked for and made again, those on the way are not."""
    for gone in ("trunk-s0/step_000002", "plain-s0/step_000006"):
        shutil.rmtree(run / gone)
    plan, _ = again("--plan")
    assert f"{(run / 'trunk-s0').resolve()} has no weights of step 2: " in plan
    assert plan.count("has no weights of") == 1
    assert "step_000006 is not kept; made again from the state of that step" in plan
    again()
    assert (run / "plain-s0" / "step_000006" / "weights.safetensors").is_file()
    forget(run / "anchored-s0")  # nothing of it is left: it is trained again from its start
    plan, _ = again("--plan")
    assert plan.count("has no weights of") == 1


def test_an_evaluated_export_without_its_state_is_told_and_left_until_its_mark_is_gone(run, finished, again):
    folder = run / "trunk-s0" / "step_000002"
    flip(folder / "weights.safetensors")
    plan, log = again()
    said = "its results stand; without its evaluated-*.json it would be made again by steps 0–2"
    assert said in plan
    assert said in log
    next(folder.glob("evaluated-*.json")).unlink()
    plan, _ = again()
    assert "made again by steps 0–2 of trunk-s0" in plan
    assert_as_if_nothing_had_been(run, finished)


def test_a_damaged_export_is_not_evaluated_again_and_stops_nothing(run, again):
    flip(run / "trunk-s0" / "step_000002" / "weights.safetensors")
    _, log = again("evals.size=48")
    assert "trunk-s0 step 2: not evaluated again (" in log
    sizes = [(row["arm"], row["step"]) for row in read_rows(run / "results.jsonl") if row["size"] == 48]
    assert sorted(sizes) == [("anchored", 6), ("plain", 6), ("trunk", 0), ("trunk", 4)]


def test_a_damaged_newest_state_is_told_by_the_plan_with_the_step_that_the_arm_goes_on_from(run, finished, again):
    arm = run / "plain-s0"
    shutil.rmtree(arm / "step_000006")
    flip(arm / "states" / "step_000006.safetensors")
    plan, _ = again("--plan")
    assert "plain-s0 goes on from step 5" in plan
    assert "from step 5" in next(line for line in plan.splitlines() if line.startswith("  ├ plain "))
    again()
    assert_as_if_nothing_had_been(run, finished)


def test_a_last_export_that_is_ahead_of_the_state_is_made_again(run, finished, again):
    arm = run / "plain-s0"
    next(arm.glob("step_000006/evaluated-*.json")).unlink()
    (arm / "states" / "step_000006.safetensors").unlink()
    flip(arm / "step_000006" / "weights.safetensors")
    plan, _ = again()
    assert "made again by steps 5–6 of plain-s0" in plan
    state = "states/step_000006.safetensors"
    shutil.copy(finished / "plain-s0" / state, arm / state)
    assert_as_if_nothing_had_been(run, finished)


def test_an_export_is_made_again_whatever_has_become_of_the_snapshot_that_its_arm_began_with(run, finished, again):
    snapshot = run / "trunk-s0" / "step_000001" / "weights.safetensors"
    flip(snapshot)
    flip(run / "anchored-s0" / "step_000006" / "weights.safetensors")
    plan, _ = again()
    assert "step_000001" not in plan
    shutil.copy(finished / "trunk-s0" / "step_000001" / "weights.safetensors", snapshot)
    assert_as_if_nothing_had_been(run, finished)


def test_an_arm_that_lost_all_but_an_export_begins_again_for_it(run, finished, again):
    """Its trunk's end and its snapshot are damaged too, and come first."""
    arm = run / "anchored-s0"
    shutil.rmtree(arm / "states")
    next(arm.glob("step_000006/evaluated-*.json")).unlink()
    flip(arm / "step_000006" / "weights.safetensors")
    flip(run / "trunk-s0" / "step_000001" / "weights.safetensors")
    flip(run / "trunk-s0" / "states" / "step_000004.safetensors")
    plan, _ = again()
    assert [line.rpartition("; ")[2] for line in plan.splitlines() if "damaged: " in line] == [
        "made again by steps 3–4 of trunk-s0",
        "made again by steps 0–1 of trunk-s0",
        "made again by steps 4–6 of anchored-s0",
    ]
    shutil.copytree(finished / "anchored-s0" / "states", arm / "states")
    assert_as_if_nothing_had_been(run, finished)


def test_what_nothing_needs_any_more_is_left_alone(run, again, checksums):
    flip(run / "trunk-s0" / "states" / "step_000004.safetensors")
    flip(run / "trunk-s0" / "step_000001" / "weights.safetensors")
    before = checksums(run / "trunk-s0")
    plan, _ = again()
    assert "damaged" not in plan
    assert checksums(run / "trunk-s0") == before


def test_foreign_names_beside_the_real_ones_are_passed_over(run, finished, again, checksums):
    arm, states = run / "plain-s0", run / "plain-s0" / "states"
    state = states / "step_000006.safetensors"
    for name in (
        "step_000006 (copy).safetensors",
        "step_000006.safetensors.bak",
        "step_x.safetensors",
        "step_.safetensors",
    ):
        shutil.copy(state, states / name)
    (states / "step_000099.safetensors").mkdir()
    for name in ("step_000006 (copy)", "step_000006.bak", "step_x", "student_x"):
        shutil.copytree(arm / "step_000006", arm / name)
        (arm / name / "backbone.json").write_text("{")
    (arm / "status.json").unlink()
    (arm / "states" / "step_000006.safetensors").unlink()
    before = {name: text for name, text in checksums(arm).items() if "copy" in name or "bak" in name or "_x" in name}
    plan, _ = again()
    assert "damaged" not in plan
    assert before.items() <= checksums(arm).items()
    assert values(run) == values(finished)
    assert curves(run) == curves(finished)


def test_a_run_of_the_old_form_goes_on(run, finished, again):
    forget(run / "anchored-s0")
    for path in run.glob("*/states/*.safetensors"):
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
        save_file(load_file(path), path, metadata={k: v for k, v in header.items() if k != "digest"})
    for path in run.glob("*/*/backbone.json"):
        card = json.loads(path.read_text())
        del card["digest"]
        path.write_text(json.dumps(card))
    plan, log = again()
    assert "damaged" not in plan
    assert log.count("states/step_000004.safetensors has no digest") == 1
    assert log.count("step_000001 has no digest") == 1
    assert_as_if_nothing_had_been(run, finished)


def test_a_given_gram_teacher_that_is_damaged_is_refused_before_any_arm_starts(run, tmp_path, tiny_text, capsys):
    given = tmp_path / "given"
    shutil.copytree(run / "trunk-s0" / "step_000004", given)
    gram = {"gram.weight": 2.0, "gram.start_step": 4, "gram.teacher": "checkpoint", "gram.checkpoint": str(given)}
    flip(given / "weights.safetensors")
    before = sorted(p.name for p in run.iterdir())
    capsys.readouterr()
    assert command(tmp_path, tiny_text, arms={"given": gram, **ARMS}) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"gramlab: gram.checkpoint={given}: got {given} with content that is not what was written")
    assert said.count("\n") == 1
    assert sorted(p.name for p in run.iterdir()) == before
