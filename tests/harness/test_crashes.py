"""A run that dies at any of its writes, and is called again, leaves what one that did not die leaves."""

import math
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from common.records import CurvePoint, read_lines
from evals.datasets.settings import Set
from harness.bad_steps import recorded
from harness.data.batches import Batch, Batches
from harness.eval_settings import EvaluationTask
from harness.evaluate import Evaluator
from harness.job_folder import is_done
from harness.train import train

pytestmark = pytest.mark.slow  # a small run for each of its writes

CPU = torch.device("cpu")
SETS = {"a": Set(size=32, count=24, split="val"), "b": Set(size=32, count=6, split="test")}
KNN = {"evals.sets": SETS, "evals.tasks": {"knn": EvaluationTask(protocol="knn", train="a", test="b")}}
SHORT = {**KNN, "steps": 3, "evals.every": 2, "runtime.checkpoint_every": 1}


class Killed(BaseException):
    """The end of a process, in the midst of a write."""


@pytest.fixture
def dying(monkeypatch):
    """`dying(n)`: from the n-th wait for the disk on none succeeds; `torn` cuts what was appended then in two.

    Returns the paths that are waited for from then on.
    """
    real = os.fsync

    def at(last: int | None, *, torn: bool = False) -> list[Path]:
        paths: list[Path] = []

        def fsync(descriptor: int) -> None:
            paths.append(Path(f"/proc/self/fd/{descriptor}").readlink())
            if last is not None and len(paths) >= last:
                if torn and len(paths) == last:
                    os.truncate(paths[-1], paths[-1].stat().st_size - 30)
                raise Killed
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        return paths

    return at


def left(job) -> dict[str, object]:
    """What a run leaves for good: its tables but for the times, its outcomes, and every weight."""
    points = read_lines(job.folder / "metrics.jsonl", CurvePoint)
    marks = sorted(job.folder.glob("step_*/evaluated-*.json"))
    found: dict[str, object] = {
        "curve": [{name: x for name, x in point.items() if name != "seconds"} for point in points.rows],
        "damaged": points.damaged,
        "results": (job.view.parent / "results.jsonl").read_bytes(),
        "marks": [path.read_bytes() for path in marks],
        "done": is_done(job),
        "bad steps": recorded(job.folder),
    }
    for path in sorted(job.folder.rglob("*.npz")):
        found[str(path.relative_to(job.folder))] = path.read_bytes()
    for path in sorted(job.folder.rglob("*.safetensors")):
        tensors = load_file(path)
        found[str(path.relative_to(job.folder))] = {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
    return found


def test_a_run_that_dies_at_any_write_ends_as_one_that_does_not(make_job, pool, tmp_path, dying, monkeypatch):
    """The second of its three steps is not finite and passed over, which is written down too."""
    real = Batches.__getitem__

    def getitem(self: Batches, step: int) -> Batch:
        batch = real(self, step)
        if step == 1:
            batch.globals[0, 0, 0, 0, 0] = math.inf
        return batch

    monkeypatch.setattr(Batches, "__getitem__", getitem)

    def run(folder: str):
        job = make_job(SHORT, folder=tmp_path / folder)
        train(job, pool, Evaluator(job.settings, job.view.parent), device=CPU)
        return job

    run("warm")  # scenes that are rendered for the first time are writes too
    writes = dying(None)
    whole = left(run("whole"))
    assert whole["results"].count(b"\n") == 3
    assert [one.step for one in whole["bad steps"]] == [1]
    assert len(writes) > 30
    deaths = [(last, False) for last in range(1, len(writes) + 1)]
    deaths += [(last, True) for last, path in enumerate(writes, 1) if path.suffix == ".jsonl"]
    for last, torn in deaths:
        dying(last, torn=torn)
        with pytest.raises(Killed):
            run(f"{last}-{torn}")
        dying(None)
        assert left(run(f"{last}-{torn}")) == whole, f"write {last} of {len(writes)}, torn: {torn}"
