"""The loop: a run that is cut off, extended or forked is bit for bit the run that was not."""

import hashlib
import json
import re
import shutil
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file

from common.errors import BadInput
from common.interrupts import Leaving, resumable
from common.records import CurvePoint, read_lines
from common.unwritable import Unwritable
from evals.backbones.addresses import load
from evals.backbones.exported import export
from evals.datasets.settings import Set
from evals.results import table
from harness.beginning import fresh_state, resume
from harness.checkpoint import export_weights, save_state
from harness.data.batches import Batches
from harness.eval_settings import EvaluationTask, Role
from harness.evaluate import Evaluator
from harness.graph import jobs
from harness.job_folder import is_done, saved_step, saved_steps, snapshot_folder, state_path, step_folder, whole_steps
from harness.losses.gram import Gram
from harness.model import backbone_args
from harness.step import NonFinite
from harness.train import train
from tests.cut import Cut, dies_at, nothing

pytestmark = pytest.mark.slow  # whole small runs, interrupted and resumed

CPU = torch.device("cpu")
GRAM = {"arms": {"anchored": {}}, "gram": Gram(weight=2.0, start_step=2, update_every=2)}
SETS = {"a": Set(size=32, count=24, split="val"), "b": Set(size=32, count=8, split="test")}
KNN = {
    "evals.sets": SETS,
    "evals.tasks": {"knn": EvaluationTask(protocol="knn", train="a", test="b")},
    "evals.every": 2,
}


def curve(folder):
    rows = read_lines(folder / "metrics.jsonl", CurvePoint).rows
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def final(job):
    return load_file(state_path(job, job.stop))


def leave_at(step, monkeypatch):
    """Ask this process to leave while the batch of the step before that one is made."""
    made = Batches.__getitem__

    def get(batches, index):
        if index == step - 1:
            signal.raise_signal(signal.SIGTERM)
        return made(batches, index)

    monkeypatch.setattr(Batches, "__getitem__", get)


def status(job):
    return json.loads((job.folder / "status.json").read_text())


@pytest.fixture(scope="module")
def whole(tiny, change, pool, tmp_path_factory):
    """An anchored run of six steps that nothing disturbed: its tensors and its curve."""
    folder = tmp_path_factory.mktemp("whole")
    experiment = change(tiny, {"runtime.folder": str(folder), **GRAM})
    (job,) = jobs(experiment, fingerprint=lambda data: "24 rooms")
    train(job, pool, nothing, device=CPU)
    return final(job), curve(job.folder)


@pytest.fixture
def anchored(make_job):
    return lambda values=None, **where: make_job({**GRAM, **(values or {})}, arm="anchored", **where)


@pytest.mark.parametrize(
    "gram",
    [
        Gram(weight=2.0, start_step=2, update_every=2),
        Gram(weight=2.0, start_step=1, resolution=2.0),
        Gram(weight=2.0, start_step=1, teacher="ema"),
        Gram(weight=2.0, start_step=1, undistorted=False),
        Gram(weight=2.0, start_step=1, teacher="ema", undistorted=False),  # needs no crops of its own
    ],
)
def test_the_loop_takes_the_steps_of_the_recipe_on_the_batches_of_the_recipe(
    make_job, pool, take_steps, weights, same, gram
):
    job = make_job({"gram": gram})
    train(job, pool, nothing, device=CPU)
    state, rows = take_steps(job.settings, 6)
    assert [{name: row[name] for name in rows[-1]} for row in curve(job.folder)[-3:]] == rows[-3:]
    assert same(final(job), weights(state))


# --- resume


@pytest.mark.parametrize("step", [1, 2, 5, 6])
def test_a_run_that_died_goes_on_bit_for_bit(anchored, pool, whole, same, step):
    job = anchored({"evals.every": 1})
    with pytest.raises(Cut):
        train(job, pool, dies_at(step), device=CPU)
    assert status(job)["state"] == "failed"
    train(job, pool, nothing, device=CPU)
    assert status(job)["state"] == "done"
    assert same(final(job), whole[0])
    assert curve(job.folder) == whole[1]


def test_a_run_whose_crops_a_device_makes_goes_on_bit_for_bit_with_any_workers(
    tiny, change, pool, take_steps, weights, same, anchored
):
    own = {"data.augment": "device", "evals.every": 1}
    job = anchored(own)
    with pytest.raises(Cut):
        train(job, pool, dies_at(3), device=CPU)
    train(anchored(own | {"runtime.workers": 1}), pool, nothing, device=CPU)
    state, _ = take_steps(change(tiny, {**GRAM, "data.augment": "device"}), 6)
    assert same(final(job), weights(state))


def test_a_run_that_died_between_checkpoints_repeats_the_steps_and_their_rows(anchored, pool, whole, same, monkeypatch):
    from harness import bad_steps as module

    job = anchored({"runtime.checkpoint_every": 2})
    real = module.train_step

    def dies(state, *given, **named):
        if state.step == 5:
            raise Cut
        return real(state, *given, **named)

    monkeypatch.setattr(module, "train_step", dies)
    with pytest.raises(Cut):
        train(job, pool, nothing, device=CPU)
    monkeypatch.undo()
    assert (saved_step(job), curve(job.folder)[-1]["step"]) == (4, 5)
    train(job, pool, nothing, device=CPU)
    assert same(final(job), whole[0])
    assert curve(job.folder) == whole[1]


def test_a_run_that_found_no_room_says_where_it_goes_on_and_does_so_bit_for_bit(
    anchored, pool, whole, same, files_at_most
):
    """From the third step on nothing can be written."""
    with ExitStack() as disk:

        def fills(job, step, folder):
            if step == 2:
                disk.enter_context(files_at_most(0))
            return {}

        job = anchored({"evals.every": 2, "runtime.checkpoint_every": 1, "runtime.log_every": 6})
        with pytest.raises(Unwritable) as error:
            train(job, pool, fills, device=CPU)
    assert str(error.value).startswith(f"cannot write {state_path(job, 3)} (File too large): ")
    assert error.value.__notes__ == ["the same command goes on with anchored-s0 from step 2"]
    assert (status(job)["state"], saved_step(job)) == ("running", 2)
    assert not list(job.folder.rglob(".partial-*"))
    train(job, pool, nothing, device=CPU)
    assert same(final(job), whole[0])


def test_a_folder_that_was_removed_while_it_was_trained_ends_the_run_and_stays_away(anchored, pool):
    def removes(job, step, folder):
        if step == 2:
            shutil.rmtree(job.folder)
        return {}

    job = anchored({"evals.every": 2})
    with pytest.raises(Unwritable, match=rf"/metrics.jsonl: .*{job.identity} was removed, moved or replaced since"):
        train(job, pool, removes, device=CPU)
    assert not job.folder.exists()


@pytest.mark.parametrize("first", [3, 5])
def test_asking_for_more_steps_continues_the_run_as_if_asked_at_once(anchored, pool, whole, same, first):
    short, job = anchored({"steps": first}), anchored()
    train(short, pool, nothing, device=CPU)
    assert short.identity == job.identity
    assert not is_done(job)
    train(job, pool, nothing, device=CPU)
    assert same(final(job), whole[0])
    assert curve(job.folder) == whole[1]


def test_an_interruption_by_hand_is_noted_and_goes_on(anchored, pool, whole, same):
    def interrupts(job, step, folder):
        if step == 4:
            raise KeyboardInterrupt
        return {}

    job = anchored({"evals.every": 2})
    with pytest.raises(KeyboardInterrupt):
        train(job, pool, interrupts, device=CPU)
    assert status(job)["state"] == "interrupted"
    train(job, pool, nothing, device=CPU)
    assert same(final(job), whole[0])


def test_the_results_table_of_a_run_that_died_is_that_of_one_that_did_not(make_job, pool, tmp_path):
    tables = []
    for name, death in (("a", None), ("b", 4)):
        job = make_job(KNN, folder=tmp_path / name)
        evaluator = Evaluator(job.settings, job.view.parent)
        if death is not None:
            with pytest.raises(Cut):
                train(job, pool, lambda j, s, f: dies_at(4)(j, s, f) or evaluator(j, s, f), device=CPU)  # noqa: B023
        train(job, pool, evaluator, device=CPU)
        tables.append(table.load(job.view.parent / "results.jsonl"))
    assert tables[0].equals(tables[1])
    assert tables[0]["step"].unique().tolist() == [0, 2, 4, 6]


def test_a_damaged_newest_state_gives_way_to_the_one_before(anchored, pool, whole, same, caplog):
    job = anchored({"runtime.checkpoint_every": 2})
    with pytest.raises(Cut):
        train(anchored({"runtime.checkpoint_every": 2, "evals.every": 4}), pool, dies_at(4), device=CPU)
    newest = state_path(job, 4)
    newest.write_bytes(newest.read_bytes()[:-100])
    assert resume(job, CPU).step == 2
    assert "step_000004.safetensors" in caplog.text
    train(job, pool, nothing, device=CPU)
    assert same(final(job), whole[0])
    assert curve(job.folder) == whole[1]


def test_a_damaged_newest_state_does_not_cost_the_whole_one_before(anchored, pool, monkeypatch):
    job = anchored({"runtime.checkpoint_every": 2})
    with pytest.raises(Cut):
        train(anchored({"runtime.checkpoint_every": 2, "evals.every": 4}), pool, dies_at(4), device=CPU)
    newest = state_path(job, 4)
    newest.write_bytes(newest.read_bytes()[:-100])
    leave_at(3, monkeypatch)
    with resumable(), pytest.raises(Leaving) as left:
        train(job, pool, nothing, device=CPU)
    assert left.value.__notes__ == ["the same command goes on with anchored-s0 from step 3"]
    assert [*whole_steps(job)] == saved_steps(job) == [3, 2]


def test_a_run_that_is_told_to_leave_at_the_step_of_a_damaged_state_saves_it_anew(anchored, pool, monkeypatch):
    job = anchored({"runtime.checkpoint_every": 2})
    with pytest.raises(Cut):
        train(anchored({"runtime.checkpoint_every": 2, "evals.every": 4}), pool, dies_at(4), device=CPU)
    state_path(job, 4).write_bytes(b"")
    leave_at(4, monkeypatch)
    with resumable(), pytest.raises(Leaving):
        train(job, pool, nothing, device=CPU)
    assert [*whole_steps(job)] == [4, 2]


def test_a_state_that_was_read_is_not_written_again(anchored, pool, monkeypatch):
    job = anchored({"runtime.checkpoint_every": 2})
    with pytest.raises(Cut):
        train(anchored({"runtime.checkpoint_every": 2, "evals.every": 4}), pool, dies_at(4), device=CPU)
    written = state_path(job, 4).stat().st_ino
    leave_at(5, monkeypatch)
    with resumable(), pytest.raises(Leaving):
        train(job, pool, nothing, device=CPU)
    assert saved_steps(job) == [5, 4]
    assert state_path(job, 4).stat().st_ino == written


def test_when_every_state_is_damaged_the_run_begins_again_and_ends_as_one_that_was_not(
    anchored, pool, whole, same, caplog
):
    job = anchored({"evals.every": 2})
    with pytest.raises(Cut):
        train(job, pool, dies_at(4), device=CPU)
    for path in (job.folder / "states").iterdir():
        path.write_bytes(b"")
    train(job, pool, nothing, device=CPU)
    assert same(final(job), whole[0])
    assert curve(job.folder) == whole[1]
    assert [name in caplog.text for name in ("step_000002.safetensors", "step_000004.safetensors")] == [True, True]


def test_a_state_of_other_settings_is_never_passed_over(anchored, pool, checksums):
    job = anchored({"evals.every": 2})
    with pytest.raises(Cut):
        train(job, pool, dies_at(4), device=CPU)
    state = resume(job, CPU)
    save_state(state, state_path(job, state.step), identity="another")
    before = checksums(job.folder)
    with pytest.raises(BadInput, match="written under other settings"):
        train(job, pool, nothing, device=CPU)
    assert checksums(job.folder) == before


def test_fewer_steps_than_a_segment_has_leave_it_as_it_is(anchored, pool, checksums):
    job = anchored({"runtime.checkpoint_every": 1, "evals.every": 5})
    with pytest.raises(Cut):
        train(job, pool, dies_at(5), device=CPU)
    shorter = anchored({"steps": 4})
    assert is_done(shorter)
    before = checksums(job.folder)
    train(shorter, pool, nothing, device=CPU)
    assert checksums(job.folder) == before


def test_a_finished_run_is_skipped_untouched(anchored, pool, checksums):
    job = anchored()
    train(job, pool, nothing, device=CPU)
    before = checksums(job.folder)
    for again in (job, anchored({"steps": 4})):
        assert is_done(again)
        asked = []
        train(again, pool, lambda job, step, folder: asked.append(step) or {}, device=CPU)  # noqa: B023
        assert asked == [0, 6][: 1 + (again is job)]  # each kept step once: the evaluations know what they have done
    assert checksums(job.folder) == before


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"optimizer.lr": 5e-4}, "optimizer.lr was 0.001, is 0.0005"),
        ({"gram": Gram(weight=3.0, start_step=2, update_every=2)}, "gram.weight was 2.0, is 3.0"),
        ({"seeds": [1]}, None),
    ],
)
def test_a_folder_of_other_settings_is_refused_untouched(anchored, pool, checksums, values, named):
    job = anchored()
    train(job, pool, nothing, device=CPU)
    before = checksums(job.folder)
    other = anchored(values)
    if named is None:  # another seed has another folder
        assert other.folder != job.folder
        return
    with pytest.raises(BadInput, match=re.escape(named)) as error:
        train(other, pool, nothing, device=CPU)
    assert "\n" not in str(error.value)
    assert "name=" in str(error.value)
    assert checksums(job.folder) == before


def test_only_the_newest_two_states_are_kept(anchored, pool):
    job = anchored({"runtime.checkpoint_every": 1})
    train(job, pool, nothing, device=CPU)
    assert sorted(path.name for path in (job.folder / "states").iterdir()) == [
        "step_000005.safetensors",
        "step_000006.safetensors",
    ]


def test_a_loss_that_is_not_finite_fails_the_run_and_keeps_its_last_good_state(make_job, pool):
    job = make_job({"optimizer.lr": 1e38, "runtime.checkpoint_every": 1})
    with pytest.raises(NonFinite, match=r"step \d: .*=nan"):
        train(job, pool, nothing, device=CPU)
    found = status(job)
    assert found["state"] == "failed"
    assert re.match(r"step \d: dino_global=", found["error"])
    assert re.search(r"; images \d+, .* of the pool: (scenes/train/\d{6}(, )?){4}; weights of the st", found["error"])
    assert not is_done(job)
    assert saved_step(job) == found["step"] == curve(job.folder)[-1]["step"]


@pytest.mark.parametrize(
    ("error", "state", "said"),
    [
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
        (OSError("no space left\non device"), "failed", "no space left"),
        (SystemExit(3), "failed", "3"),
        (Cut(), "failed", "Cut"),
    ],
)
def test_whatever_ends_a_run_is_its_status(anchored, pool, error, state, said):
    def ends(job, step, folder):
        if step == 4:
            raise error
        return {}

    job = anchored({"evals.every": 2})
    with pytest.raises(type(error)) as raised:
        train(job, pool, ends, device=CPU)
    assert raised.value is error
    found = status(job)
    assert (found["state"], found["step"], found["error"]) == (state, 4, said)


def test_a_folder_is_not_bound_by_a_call_that_could_not_start(tiny, take_steps, make_job, pool, tmp_path):
    wrong, right = (
        given(tiny, take_steps, tmp_path / name, **args) for name, args in (("a", {"patch_size": 4}), ("b", {}))
    )
    first, second = (make_job({"gram": gram, "arms": {"plain": {}}}, folder=tmp_path) for gram in (wrong, right))
    assert first.identity != second.identity
    with pytest.raises(BadInput, match="of patch 4"):
        train(first, pool, nothing, device=CPU)
    assert not first.folder.exists()
    train(second, pool, nothing, device=CPU)
    assert status(second)["state"] == "done"


def test_new_evaluations_reach_the_earlier_steps_of_a_run_that_is_continued(make_job, pool):
    short = make_job({**KNN, "evals.tasks": {}, "steps": 4})
    train(short, pool, Evaluator(short.settings, short.view.parent), device=CPU)
    assert len(list(short.folder.glob("step_*/evaluated-*.json"))) == 3
    job = make_job(KNN)
    train(job, pool, Evaluator(job.settings, job.view.parent), device=CPU)
    assert sorted(table.load(job.view.parent / "results.jsonl")["step"]) == [0, 2, 4, 6]


def test_the_share_of_homogeneous_batches_is_logged_for_each_interval_also_across_a_resume(
    make_job, pool, make_batches, tmp_path
):
    values = {"data.homogeneous_share": 0.5, "runtime.log_every": 4, "steps": 11}
    job = make_job({**values, "evals.every": 3}, folder=tmp_path / "cut")
    with pytest.raises(Cut):
        train(job, pool, dies_at(6), device=CPU)
    train(job, pool, nothing, device=CPU)
    batches = make_batches(job.settings)
    drawn = [batches[step].component is not None for step in range(11)]
    expected = {4: sum(drawn[:4]) / 4, 8: sum(drawn[4:8]) / 4, 11: sum(drawn[8:]) / 3}
    assert len(set(expected.values())) > 1
    assert {row["step"]: row["homogeneous_share"] for row in curve(job.folder)} == expected
    whole = make_job(values, folder=tmp_path / "whole")
    train(whole, pool, nothing, device=CPU)
    assert curve(whole.folder) == curve(job.folder)


# --- forks


FORK = {"trunk.steps": 3, "arms": {"plain": {}}}
OTHER = {"koleo.weight": 0.2}


def run_all(tiny, change, pool, folder, values, evaluate=nothing):
    experiment = change(tiny, {"runtime.folder": str(folder), **values})
    found = {job.arm: job for job in jobs(experiment, fingerprint=lambda data: "24 rooms")}
    for job in found.values():
        train(job, pool, evaluate, device=CPU)
    return found


def test_an_arm_that_changes_nothing_continues_bit_for_bit_as_the_trunk_would(tiny, change, pool, tmp_path, same):
    forked = run_all(tiny, change, pool, tmp_path / "forked", FORK)
    straight = run_all(tiny, change, pool, tmp_path / "straight", {"trunk.steps": 6, "arms": {}})
    alone = run_all(tiny, change, pool, tmp_path / "alone", {"arms": {"plain": {}}})
    expected = final(straight["trunk"])
    assert same(final(forked["plain"]), expected)
    assert same(final(alone["plain"]), expected)
    assert forked["plain"].folder == forked["trunk"].folder
    assert curve(forked["plain"].folder) == curve(straight["trunk"].folder) == curve(alone["plain"].folder)


def test_forks_leave_their_trunk_alone(tiny, change, pool, tmp_path, checksums):
    only = {**FORK, "arms": {}}
    trunk = run_all(tiny, change, pool, tmp_path, only)["trunk"]
    before = checksums(trunk.folder)
    run_all(tiny, change, pool, tmp_path, {**FORK, "arms": {"other": OTHER}})
    after = checksums(trunk.folder)
    assert after.pop("states/step_000003.keep") == hashlib.sha256(b"").hexdigest()
    assert after == before


def test_a_fork_that_died_before_its_first_state_forks_again(tiny, change, pool, tmp_path, same):
    values = {**FORK, "arms": {"other": OTHER}, "evals.every": 4}
    with pytest.raises(Cut):
        run_all(tiny, change, pool, tmp_path / "a", values, dies_at(4))
    path = tmp_path / "a" / "tiny" / "other-s0" / "states" / "step_000004.safetensors"
    path.unlink()
    again = run_all(tiny, change, pool, tmp_path / "a", values)
    whole = run_all(tiny, change, pool, tmp_path / "b", values)
    assert same(final(again["other"]), final(whole["other"]))


@pytest.mark.parametrize("network", get_args(Role))
def test_the_snapshot_is_the_trunks_ema_of_that_step_bit_for_bit(tiny, change, pool, tmp_path, take_steps, network):
    anchored = {"gram.weight": 2.0, "gram.start_step": 3, "gram.teacher_step": 2}
    values = {**FORK, "arms": {"anchored": anchored}, "evals.every": 2, "evals.network": network}
    found = run_all(tiny, change, pool, tmp_path, values)
    expected = take_steps(tiny, 2)[0].teacher.backbone.state_dict()
    kept = load(str(snapshot_folder(found["trunk"], 2))).model.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in expected.items())
    anchor = {k.removeprefix("anchor."): v for k, v in final(found["anchored"]).items() if k.startswith("anchor.")}
    assert anchor.keys() == expected.keys()
    assert all(torch.equal(anchor[name], tensor) for name, tensor in expected.items())


def test_a_snapshot_at_the_fork_is_the_ema_that_the_arm_starts_from(tiny, change, pool, tmp_path):
    values = {**FORK, "arms": {"anchored": {"gram.weight": 2.0, "gram.start_step": 3}}}
    found = run_all(tiny, change, pool, tmp_path, values)
    trunk, arm = final(found["trunk"]), final(found["anchored"])
    names = [name.removeprefix("anchor.") for name in arm if name.startswith("anchor.")]
    assert len(names) > 20
    assert all(torch.equal(arm[f"anchor.{name}"], trunk[f"teacher.backbone.{name}"]) for name in names)
    assert not torch.equal(arm["anchor.norm.weight"], arm["teacher.backbone.norm.weight"])


def test_a_trunk_may_start_from_weights_alone(tiny, change, pool, tmp_path, take_steps):
    source = take_steps(tiny, 3, seed=4)[0]
    save_state(source, tmp_path / "state.safetensors", identity="x")
    export_weights(tmp_path / "state.safetensors", tmp_path / "w.safetensors", dtype=torch.float32)
    experiment = change(tiny, {**FORK, "trunk.checkpoint": str(tmp_path / "w.safetensors")})
    trunk = jobs(change(experiment, {"runtime.folder": str(tmp_path)}), fingerprint=lambda data: "24 rooms")[0]
    state = resume(trunk, CPU)
    assert state.step == 0
    pairs = zip(state.teacher.parameters(), source.teacher.parameters(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)


# --- a given Gram teacher


def given(tiny, take_steps, folder: Path, *, own=None, **args):
    from dataclasses import replace

    model = replace(tiny.model, args={**tiny.model.args, **args})
    backbone = fresh_state(replace(tiny, model=model), 7, CPU).teacher.backbone
    export(backbone, folder, timm_name=model.name, timm_args=backbone_args(model))
    return Gram(weight=2.0, start_step=1, teacher="checkpoint", checkpoint=str(folder), **(own or {}))


@pytest.mark.parametrize("args", [{}, {"embed_dim": 48}, {"depth": 1}])
def test_a_run_with_a_given_gram_teacher_of_any_width_goes_on_bit_for_bit(
    tiny, take_steps, make_job, pool, same, args, tmp_path
):
    gram = given(tiny, take_steps, tmp_path / "anchor", **args)
    values = {"gram": gram, "arms": {"plain": {}}, "evals.every": 2}
    whole, cut = (make_job(values, folder=tmp_path / name) for name in ("whole", "cut"))
    train(whole, pool, nothing, device=CPU)
    with pytest.raises(Cut):
        train(cut, pool, dies_at(4), device=CPU)
    assert resume(cut, CPU).step == 4
    train(cut, pool, nothing, device=CPU)
    assert same(final(cut), final(whole))


@pytest.mark.parametrize(
    ("args", "own", "said"),
    [
        ({"patch_size": 4}, {}, "of patch 4: want the student's 8"),
        ({"embed_dim": 48}, {"update_every": 2}, "gram.update_every=null"),
        ({"embed_dim": 48}, {"relation": "features"}, "of width 48: want the student's 32 with gram.relation=features"),
    ],
)
def test_a_given_gram_teacher_that_cannot_serve_is_refused(tiny, take_steps, make_job, pool, tmp_path, args, own, said):
    gram = given(tiny, take_steps, tmp_path / "anchor", own=own, **args)
    with pytest.raises(BadInput, match=said):
        train(make_job({"gram": gram, "arms": {"plain": {}}}), pool, nothing, device=CPU)


# --- what a run leaves


def test_evaluations_come_at_their_cadence_and_at_both_ends(tiny, change, pool, tmp_path):
    seen = []

    def evaluate(job, step, folder):
        seen.append((job.arm, step))
        assert (folder / "backbone.json").is_file()
        return {"knn/scenes/top1": 0.5}

    run_all(tiny, change, pool, tmp_path, {**FORK, "steps": 7, "evals.every": 2}, evaluate)
    assert seen == [("trunk", 0), ("trunk", 2), ("trunk", 3), ("plain", 4), ("plain", 6), ("plain", 7)]


@pytest.mark.parametrize("network", get_args(Role))
def test_the_exported_backbone_is_the_evaluated_network(make_job, pool, network):
    job = make_job({"evals.network": network})
    train(job, pool, nothing, device=CPU)
    backbone = load(str(step_folder(job, 6)))
    tensors = final(job)
    assert all(
        torch.equal(value, tensors[f"{network}.backbone.{name}"]) for name, value in backbone.model.state_dict().items()
    )
    told = {"step": 6, "seed": 0, "identity": job.identity, "network": network}
    assert backbone.extra == told
    assert load(str(job.view / step_folder(job, 6).name)).extra == {**told, "arm": "plain"}


def test_the_curve_has_a_row_for_each_logged_step_with_every_term(anchored, pool):
    job = anchored({"runtime.log_every": 4})
    train(job, pool, nothing, device=CPU)
    rows = read_lines(job.folder / "metrics.jsonl", CurvePoint).rows
    assert [row["step"] for row in rows] == [4, 6]
    assert [row["images"] for row in rows] == [16, 24]
    terms = {"loss", "dino_global", "dino_local", "ibot", "koleo", "gram", "grad_norm", "target_entropy"}
    schedule = {"lr", "temperature", "gram_weight", "seconds", "student_entropy"}
    assert terms | schedule <= rows[0].keys()
    assert 0 < rows[0]["seconds"] <= rows[1]["seconds"]


def test_the_status_tells_how_far_and_how_fast(anchored, pool):
    job = anchored()
    train(job, pool, nothing, device=CPU)
    found = status(job)
    assert (found["state"], found["step"], found["steps"]) == ("done", 6, 6)
    assert found["images_per_second"] > 0
    assert found["peak_memory_gib"] > 0
