"""Unreadable images that a run skips: it ends as one that left them out from the start, however it came there."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file

from common.errors import BadInput
from common.skips import FILE, recorded
from evals.datasets.settings import Set
from harness.data.pool import Pool, fingerprint, open_pool
from harness.data.stream import stream
from harness.graph import jobs
from harness.job_folder import state_path
from harness.kept import Fault
from harness.lockstep import batches_of
from harness.mending import mend, state_at
from harness.train import train

CPU = torch.device("cpu")
KEYS = ["train/cat/3.png", "train/cat/4.png", "train/dog/1.png"]
STEPS = 8


def damage(path):
    """A file as a failing disk leaves it: of the same size, so that the set's fingerprint stays."""
    content = path.read_bytes()
    path.write_bytes(content[:2000] + bytes(len(content) - 2000))


def nothing(job, step, folder):
    return {}


@pytest.fixture
def photos(photos, tmp_path):
    """Three of them are cut off, two of these one after the other; whole ones lie in the folder `sound`."""
    shutil.copytree(tmp_path / "photos", tmp_path / "sound")
    for key in KEYS:
        damage(tmp_path / "photos" / key)
    return tmp_path / "photos"


@pytest.fixture
def job_of(tiny, change, photos):
    """The job of a few steps on the photos, and its pool."""

    def of(folder, exclude=(), *, arm="plain", **values):
        sources = {"photos": Set(kind="folder", root=str(photos), exclude=tuple(exclude))}
        given = {"steps": STEPS, "data.sources": sources, "data.batch_size": 2, "runtime.checkpoint_every": 1}
        given |= {"runtime.folder": str(folder), "arms": {"plain": {}}, "data.homogeneous_share": 0.3}
        given |= {"data.unreadable": "skip", "data.unreadable_share": 0.25}
        experiment = change(tiny, given | values)
        pool = open_pool(experiment.data)
        return {job.arm: job for job in jobs(experiment, fingerprint=lambda data: fingerprint(pool))}[arm], pool

    return of


@pytest.fixture
def whole(job_of, tmp_path):
    """The last state of a run that excluded the images from the start."""
    job, pool = job_of(tmp_path / "whole", KEYS, **{"data.unreadable": "stop"})
    train(job, pool, nothing, device=CPU)
    return load_file(state_path(job, STEPS))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_skips_ends_as_one_that_excluded_from_the_start(job_of, whole, same, tmp_path, workers, caplog):
    job, pool = job_of(tmp_path / "skips", **{"runtime.workers": workers})
    train(job, pool, nothing, device=CPU)
    assert same(load_file(state_path(job, STEPS)), whole)
    assert {skip.image for skip in recorded(job.folder)} == set(KEYS)
    assert all(skip.reason.startswith("unreadable image ") for skip in recorded(job.folder))
    assert caplog.text.count("skipped photos/") == 3
    assert "could be read in a step before" not in caplog.text


def test_what_was_skipped_is_noted_with_the_first_step_that_drew_it(job_of, tmp_path):
    job, pool = job_of(tmp_path / "skips")
    train(job, pool, nothing, device=CPU)
    plain, whole = job_of(tmp_path / "whole", KEYS)
    drawn = [batch.indices.tolist() for batch in stream(batches_of(plain, whole, state_at(plain, 0, CPU)), 0, STEPS)]
    for skip in recorded(job.folder):
        index = pool.index(skip.source, skip.place)
        stood_before = index - 1 if skip.image == "train/cat/4.png" else index  # 3.png is out too, 4.png stood in
        assert skip.step == next(step for step, own in enumerate(drawn) if {index, stood_before} & set(own))


def test_a_run_that_was_cut_off_skips_the_same_though_the_files_were_mended(
    job_of, photos, whole, same, tmp_path, caplog
):
    job, pool = job_of(tmp_path / "cut", steps=5)
    train(job, pool, nothing, device=CPU)
    before = recorded(job.folder)
    assert before
    for skip in before:
        shutil.copy(tmp_path / "sound" / skip.image, photos / skip.image)
    job, pool = job_of(tmp_path / "cut")
    with caplog.at_level("INFO", logger="gramlab"):
        train(job, pool, nothing, device=CPU)
    assert f"plain-s0: skips {len(before)} unreadable image" in caplog.text
    assert recorded(job.folder)[: len(before)] == before
    assert same(load_file(state_path(job, STEPS)), whole)


def test_what_is_made_again_skips_the_same(job_of, photos, whole, same, tmp_path):
    job, pool = job_of(tmp_path / "again")
    train(job, pool, nothing, device=CPU)
    for key in KEYS:
        shutil.copy(tmp_path / "sound" / key, photos / key)
    last = state_path(job, STEPS)
    last.unlink()
    job, pool = job_of(tmp_path / "again")
    mend(job, [Fault(job, STEPS, last, "missing", STEPS - 1)], pool, device=CPU)
    assert same(load_file(last), whole)


def test_an_arm_skips_what_its_trunk_skipped(job_of, photos, tmp_path):
    values = {"trunk.steps": 4, "steps": 6}
    trunk, pool = job_of(tmp_path / "forked", arm="trunk", **values)
    train(trunk, pool, nothing, device=CPU)
    before = recorded(trunk.folder)
    for skip in before:
        shutil.copy(tmp_path / "sound" / skip.image, photos / skip.image)
    arm, pool = job_of(tmp_path / "forked", **values)
    train(arm, pool, nothing, device=CPU)
    assert {skip.image for skip in before} <= {
        pool.key(index).removeprefix("photos/") for index in pool.stand_in.skipped
    }


def test_more_than_the_share_stop_the_run_in_one_line_with_their_names(job_of, tmp_path):
    job, pool = job_of(tmp_path / "few", **{"data.unreadable_share": 0.2})
    with pytest.raises(BadInput) as error:
        train(job, pool, nothing, device=CPU)
    said = str(error.value)
    assert said.startswith("got 3 of 12 training images that cannot be read (photos/train/")
    assert said.endswith("want at most 2 to skip, data.unreadable_share=0.2 of all; mend them, or allow more")
    assert "\n" not in said
    assert all(key in said for key in KEYS)
    assert len(recorded(job.folder)) == 1  # 3.png and 4.png were found together


def test_a_run_that_stopped_beyond_the_share_goes_on_with_a_larger_one(job_of, whole, same, tmp_path):
    job, pool = job_of(tmp_path / "few", **{"data.unreadable_share": 0.2})
    with pytest.raises(BadInput, match="want at most 2 to skip"):
        train(job, pool, nothing, device=CPU)
    fewer, pool = job_of(tmp_path / "few", **{"data.unreadable_share": 0.05})
    with pytest.raises(BadInput, match=r"got 1 of 12 .*: want at most 0 to skip, data\.unreadable_share=0\.05 of all"):
        train(fewer, pool, nothing, device=CPU)
    job, pool = job_of(tmp_path / "few")
    train(job, pool, nothing, device=CPU)
    assert same(load_file(state_path(job, STEPS)), whole)


def test_the_policy_is_no_part_of_the_identity(job_of, tmp_path):
    skips, _ = job_of(tmp_path)
    stops, _ = job_of(tmp_path, **{"data.unreadable": "stop", "data.unreadable_share": 0.5})
    assert skips.identity == stops.identity


def test_a_file_that_breaks_after_it_was_read_is_told(job_of, photos, tmp_path, caplog):
    job, pool = job_of(tmp_path / "late", KEYS, steps=6)
    train(job, pool, nothing, device=CPU)
    for path in sorted(photos.rglob("*.png")):
        if path.name in ("0.png", "2.png"):
            damage(path)
    job, pool = job_of(tmp_path / "late", KEYS, steps=16, **{"data.unreadable_share": 0.9})
    train(job, pool, nothing, device=CPU)
    assert "could be read in a step before" in caplog.text


def test_a_missing_file_stops_a_run_that_skips(job_of, photos, tmp_path):
    _, pool = job_of(tmp_path)
    (photos / "train/cat/5.png").unlink()
    with pytest.raises(BadInput, match="got no file"):
        pool.image(4)  # which cannot be read, and the next is gone


def test_a_component_without_a_readable_image_stops_the_run(job_of, photos, tmp_path):
    for path in (photos / "train/dog").glob("*.png"):
        damage(path)
    _, pool = job_of(tmp_path)
    with pytest.raises(BadInput, match=r"got no image of photos/dog that can be read: want one at least"):
        pool.image(8)


@pytest.mark.parametrize("augment", ["cpu", "device"])
def test_a_batch_of_a_worker_that_alone_cannot_read_a_file_is_made_again(job_of, photos, tmp_path, augment):
    how = {"steps": 50, "data.augment": augment}
    job, pool = job_of(tmp_path, KEYS, **how)  # more than it draws here, so that nothing is decoded beforehand
    want = [batch.globals for batch in stream(batches_of(job, pool, state_at(job, 0, CPU)), 0, 5)]
    path = photos / "train/cat/1.png"
    content, here, found = path.read_bytes(), os.getpid(), []

    class Late(Pool):
        """Mends the file before the main process looks at it."""

        def skip_unreadable(self, indices):
            if os.getpid() == here and (faults := [*indices]):
                found.extend(faults)
                path.write_bytes(content)
            super().skip_unreadable(indices)

    damage(path)
    late = Late(pool.sources, excluded=pool.excluded, unreadable="skip")
    made = [batch.globals for batch in stream(batches_of(job, late, state_at(job, 0, CPU)), 0, 5, workers=1)]
    assert set(found) == {1}
    assert all(torch.equal(one, other) for one, other in zip(made, want, strict=True))
    assert not late.stand_in.skipped


@pytest.mark.parametrize("content", [{}, {"skipped": [3]}, {"skipped": [{"step": 0, "source": "a", "place": -1}]}])
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(BadInput, match=r"skipped\.json"):
        recorded(tmp_path)
