"""What speaks against going on in a folder is said in one line, before anything is written."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from common.errors import BadInput
from common.records import Status
from harness.crop_settings import VERSION
from harness.graph import jobs
from harness.job_folder import (
    check,
    is_done,
    kept_steps,
    lost,
    saved_step,
    saved_steps,
    state_path,
    step_folder,
)
from harness.kept import faults
from harness.run import main
from harness.standings import read_status
from harness.train import train
from tests.cut import Cut, dies_at

CPU = torch.device("cpu")


def nothing(job, step, folder):
    return {}


OFTEN = {"evals.every": 2}


@pytest.fixture(scope="module")
def trained(tiny, change, pool, tmp_path_factory):
    """The folder of a job that ran to its end, evaluated at steps 0, 2, 4 and 6."""
    place = tmp_path_factory.mktemp("trained")
    experiment = change(tiny, {"runtime.folder": str(place), "arms": {"plain": {}}, **OFTEN})
    train(jobs(experiment, fingerprint=lambda data: "24 rooms")[-1], pool, nothing, device=CPU)
    return place


@pytest.fixture
def finished(trained, make_job, tmp_path):
    """That job, in a copy of its folder."""
    shutil.copytree(trained, tmp_path, symlinks=True, dirs_exist_ok=True)
    return make_job(OFTEN)


@pytest.fixture
def refused(checksums):
    """The line with which a job is refused; nothing in its experiment's folder may change."""

    def of(job):
        before = checksums(job.view.parent)
        with pytest.raises(BadInput) as error:
            check(job)
        assert checksums(job.view.parent) == before
        assert "\n" not in str(error.value)
        return str(error.value)

    return of


def unfinish(job):
    """As if the job had been cut off after its last state."""
    (job.folder / "status.json").unlink()


def test_a_folder_that_can_go_on_is_accepted(make_job, finished):
    check(finished)
    check(make_job({"steps": 9}))
    check(make_job({"steps": 4}))
    unfinish(finished)
    check(finished)


def test_damaged_states_are_passed_over_and_told(make_job, finished):
    paths = [state_path(finished, step) for step in saved_steps(finished)]
    assert len(paths) == 2
    paths[0].write_bytes(paths[0].read_bytes()[:-1])
    check(make_job({"steps": 9}))
    paths[1].write_bytes(b"")
    longer = make_job({"steps": 9})
    check(longer)
    assert saved_step(longer) == longer.start
    said = [fault.words for fault in faults([longer])]
    assert any("step_000006.safetensors" in line and "goes on from step 0" in line for line in said)


DAMAGED = ["", '{"state": "do', '"done"', "[]", "null", '{"steps": "6"}', '{"steps": 1e999}', '{"a":' * 2000, "\0\0"]


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_status_is_written_anew(finished, pool, damage):
    path = finished.folder / "status.json"
    whole = json.loads(path.read_text())
    path.write_text(damage)
    assert read_status(finished.folder) == Status()
    assert [*lost([finished])] == [f"{finished.folder}/status.json cannot be read: it is written anew"]
    assert is_done(finished)
    train(finished, pool, nothing, device=CPU)
    again = json.loads(path.read_text())
    assert [again.pop("peak_memory_gib"), whole.pop("peak_memory_gib")] > [0, 0]  # of the process that wrote it
    assert again == whole
    assert [*lost([finished])] == []


def test_a_job_is_done_by_word_and_by_weights(make_job, finished, pool):
    path = finished.folder / "status.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "step": 9, "steps": 99}))
    assert is_done(finished)
    longer = make_job({"evals.every": 2, "steps": 9})
    assert not is_done(longer)
    said = "says done at step 99, but the newest weights beside it are of step 6: trains on from step 6"
    assert [*lost([longer])] == [f"{path} {said}"]
    train(longer, pool, nothing, device=CPU)
    assert is_done(longer)
    assert (read_status(longer.folder).step, saved_steps(longer)) == (9, [9, 8])
    for step in saved_steps(longer):  # an export alone is enough
        state_path(longer, step).unlink()
    assert is_done(longer)


def test_a_job_whose_states_were_removed_is_told_that_it_begins_again(make_job, finished, pool):
    for step in saved_steps(finished):
        state_path(finished, step).unlink()
    assert [*lost([finished])] == []
    longer = make_job({"evals.every": 2, "steps": 9})
    said = f"{longer.folder} kept no state of its 6 steps: trains them again from step 0"
    assert [*lost([longer])] == [said]


def test_a_newest_state_that_is_missing_is_named_with_the_step_that_the_job_goes_on_from(make_job, pool):
    job = make_job({"runtime.checkpoint_every": 2, "evals.every": 4})
    with pytest.raises(Cut):
        train(job, pool, dies_at(4), device=CPU)
    assert [*lost([job])] == []
    state_path(job, 4).unlink()
    said = "the newest state, is not there any more: trains on from step 2"
    assert [*lost([job])] == [f"{state_path(job, 4)}, {said}"]
    train(job, pool, nothing, device=CPU)
    assert [*lost([job])] == []


def test_folders_that_only_begin_like_a_step_are_passed_over(finished):
    before = kept_steps(finished, holding="backbone.json")
    assert before == [0, 2, 4, 6]
    for name in ("step_000006 (copy)", "step_000006.bak", "step_old", "step_"):
        shutil.copytree(step_folder(finished, 6), finished.folder / name)
    (finished.folder / "step_000008").write_text("no folder")
    assert kept_steps(finished, holding="backbone.json") == before
    check(finished)


@pytest.mark.parametrize("name", ["identity.json", "status.json", "metrics.jsonl", "step_000006/evaluated-0.json"])
def test_a_folder_in_the_place_of_a_file_is_refused_with_what_to_do(finished, pool, refused, name):
    path = finished.folder / name
    path.unlink(missing_ok=True)
    path.mkdir()
    assert refused(finished).startswith(f"{path} is no file: ")
    path.rename(finished.folder / "moved")  # as the line says
    check(finished)
    train(finished, pool, nothing, device=CPU)


def test_a_link_to_nowhere_in_the_place_of_a_file_is_refused(finished, refused):
    path = finished.folder / "metrics.jsonl"
    path.unlink()
    path.symlink_to(finished.folder / "nowhere")
    assert refused(finished).startswith(f"{path} is no file: ")


@pytest.mark.parametrize("damage", ["", '{"model": ', "[]", "null", "\0", '{"a":' * 2000])
def test_a_damaged_identity_is_named_with_what_to_do(finished, refused, damage):
    path = finished.folder / "identity.json"
    path.write_text(damage)
    said = refused(finished)
    assert said.startswith(str(path))
    assert "restore it or move the folder away" in said
    path.unlink()  # as the line says
    check(finished)
    path.write_text(damage)
    finished.folder.rename(finished.folder.with_name("away"))
    check(finished)


def test_a_link_that_was_changed_by_hand_is_told_and_made_anew_once_it_is_removed(write_tiny, tmp_path, capsys):
    path = write_tiny(steps=2, arms={"plain": {}, "other": {"koleo.weight": 0.2}})
    assert main([str(path)]) == 0
    plain, other = (tmp_path / "runs" / "tiny" / f"{arm}-s0" for arm in ("plain", "other"))
    wanted, led = plain.readlink(), other.readlink()
    plain.unlink()
    plain.symlink_to(led)
    capsys.readouterr()
    assert main([str(path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{plain} leads to the segment {led.name}, but {plain.parent}/experiment.json names {wanted.name}" in said
    plain.unlink()  # as the line says
    assert main([str(path), "steps=3"]) == 0
    assert plain.readlink() == wanted


def test_settings_that_differ_are_told_as_yaml_writes_them(make_job, finished, refused):
    said = refused(make_job({"evals.every": 2, "optimizer.lr_end": 0.0, "schedule.end_step": 6, "crops.flip": 0.0}))
    assert "optimizer.lr_end was null, is 0.0; schedule.end_step was null, is 6" in said


def test_a_run_whose_crops_an_earlier_version_made_is_refused_and_that_is_said(make_job, finished, refused):
    other = make_job({})
    crops = {**other.science["crops"], "version": VERSION + 1}
    science = {**other.science, "crops": crops}
    said = refused(replace(other, science=science))
    assert "holds a run of other settings (another version of this program made its crops" in said
