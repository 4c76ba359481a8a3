"""Curves that survive crashes, files replaced whole, and the device asked for."""

import json
import os

import pytest
import torch

from common.errors import BadInput
from harness.curves import (
    Curves,
    environment,
    peak_memory_gib,
    pick_device,
    read_json,
    read_rows,
    reset_peak_memory,
    write_json,
)
from harness.settings import Device


def rows(*steps):
    return [{"step": step, "seconds": step / 2, "loss": 1.0 / step} for step in steps]


def written(folder, *steps):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(*steps)))


def test_rows_come_back_as_they_were_added(tmp_path):
    curves = Curves(tmp_path, step=0)
    for row in rows(1, 2, 3):
        curves.add(row)
    curves.close()
    assert read_rows(tmp_path / "metrics.jsonl") == rows(1, 2, 3)
    assert (curves.steps_logged, curves.seconds_logged) == (3, 1.5)


def test_a_resumed_curve_is_cut_back_to_where_the_run_goes_on(tmp_path):
    written(tmp_path, 1, 2, 3, 4)
    curves = Curves(tmp_path, step=2)
    curves.add(rows(3)[0])
    curves.close()
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2, 3]


def test_a_line_that_a_crash_cut_short_is_left_out_and_written_over(tmp_path):
    written(tmp_path, 1, 2)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "sec')
    assert read_rows(tmp_path / "metrics.jsonl") == rows(1, 2)
    curves = Curves(tmp_path, step=3)
    curves.add(rows(3)[0])
    curves.close()
    assert read_rows(tmp_path / "metrics.jsonl") == rows(1, 2, 3)


def test_no_file_is_no_rows(tmp_path):
    assert read_rows(tmp_path / "none.jsonl") == []


def test_scalars_reach_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = Curves(tmp_path, step=0)
    curves.add(rows(1)[0])
    curves.add_evaluation(1, {"knn/rooms/top1": 0.25})
    curves.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"train/loss", "train/seconds", "evals/knn/rooms/top1"}
    assert events.Scalars("evals/knn/rooms/top1")[0].value == 0.25


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "status.json"
    write_json(path, {"state": "running"})
    with pytest.raises(TypeError):
        write_json(path, {"state": object()})
    assert json.loads(path.read_text()) == {"state": "running"}
    assert [p.name for p in path.parent.iterdir()] == ["status.json"]


def test_what_was_written_is_read_and_what_is_damaged_is_named(tmp_path):
    path = tmp_path / "status.json"
    write_json(path, {"state": "done", "steps": 6})
    assert read_json(path, remedy="remove it") == {"state": "done", "steps": 6}
    whole = path.read_bytes()
    for damage in (b"", whole[:-5], b"\x00\xff", b'["done"]', b"null"):
        path.write_bytes(damage)
        with pytest.raises(BadInput) as error:
            read_json(path, remedy="do this")
        assert str(error.value).startswith(str(path))
        assert str(error.value).endswith("do this")
        assert "\n" not in str(error.value)


def test_a_file_reaches_the_disk_before_it_takes_the_place_of_the_old(tmp_path, monkeypatch):
    path, seen = tmp_path / "status.json", []
    real = os.fsync

    def fsync(descriptor):
        seen.append((os.fstat(descriptor).st_size, path.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_json(path, {"state": "done"})
    assert seen == [(path.stat().st_size, False)]


def test_the_peak_of_a_job_leaves_out_what_an_earlier_one_held():
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    device = torch.device("cuda")
    held = torch.empty(2**28, device=device)
    del held
    assert peak_memory_gib(device) >= 1
    reset_peak_memory(device)
    assert peak_memory_gib(device) < 1


def test_the_cpu_is_had_by_name_and_cuda_where_there_is_some():
    assert pick_device(Device.cpu).type == "cpu"
    if torch.cuda.is_available():
        assert pick_device(Device.auto).type == pick_device(Device.cuda).type == "cuda"
        return
    assert pick_device(Device.auto).type == "cpu"
    with pytest.raises(BadInput, match="device=cuda"):
        pick_device(Device.cuda)


def test_the_environment_names_versions_and_machine(tiny):
    found = environment(tiny, torch.device("cpu"))
    assert found["torch"] == torch.__version__
    assert found["cores"] >= 1
    assert found["device"] == "cpu"
    assert all(value not in (None, "") for value in found.values())
