from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import BadInput
from evals.results.outcomes import ABOUT, load_outcomes, save_outcomes
from evals.results.table import Measurement, Row, append, default_folder, load, plain, read
from evals.results.table import line as line_of
from tests.evals.toys import ROW


def test_rows_read_back_as_written(tmp_path: Path):
    rows = [ROW, replace(ROW, metric="miou", value=0.1)]
    append(tmp_path / "deep" / "results.jsonl", rows)
    frame = load(tmp_path / "deep" / "results.jsonl")
    assert [Row(**record) for record in frame.to_dict("records")] == rows  # pyright: ignore


def test_a_later_row_of_the_same_identity_replaces_the_earlier(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    append(path, [ROW])
    append(path, [replace(ROW, value=0.7), replace(ROW, step=200)])
    frame = load(path)
    assert dict(zip(frame.step, frame.value, strict=True)) == {100: 0.7, 200: 0.5}


def test_a_torn_last_line_is_left_out_and_does_not_spoil_the_next_row(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    append(path, [ROW, replace(ROW, step=200)])
    path.write_bytes(path.read_bytes()[:-30])
    assert list(load(path).step) == [100]
    append(path, [replace(ROW, step=300)])
    assert list(load(path).step) == [100, 300]


def test_a_last_line_that_only_lacks_its_newline_is_kept(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    append(path, [ROW])
    path.write_bytes(path.read_bytes()[:-1])
    assert list(load(path).step) == [100]
    append(path, [replace(ROW, step=300)])
    assert list(load(path).step) == [100, 300]


def test_a_broken_line_inside_the_file_is_named(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    path.write_text("{}\n")
    append(path, [ROW])
    with pytest.raises(BadInput, match=r"results\.jsonl:1"):
        load(path)


def test_a_value_that_is_not_a_number_stays_json_and_reads_back_as_nan(tmp_path: Path):
    append(tmp_path / "r.jsonl", [replace(ROW, value=float("nan"))])
    assert "NaN" not in (tmp_path / "r.jsonl").read_text()
    assert np.isnan(load(tmp_path / "r.jsonl").value[0])


def test_a_missing_file_is_a_clear_error(tmp_path: Path):
    with pytest.raises(BadInput, match="got no file at"):
        load(tmp_path / "none.jsonl")
    with pytest.raises(BadInput, match="got no file at"):
        load_outcomes(tmp_path / "none.npz")


def test_unlike_settings_splits_and_sizes_stand_side_by_side(tmp_path: Path):
    place = {name: getattr(ROW, name, "aa") for name in (*ABOUT, "metric")}
    outcomes = {"keys": np.array(["a"]), "correct": np.array([True])}
    one = Measurement(**place, value=0.5, low=0.0, high=1.0, images=1, outcomes=outcomes)
    others = [replace(one, protocol_hash="ffffffff"), replace(one, split="test"), replace(one, size=32)]
    assert len(set(save_outcomes(tmp_path, [one, *others]))) == 4
    append(tmp_path / "rows.jsonl", [m.row(run="r", arm="", seed=0, step=0) for m in (one, *others)])
    assert len(load(tmp_path / "rows.jsonl")) == 4


@pytest.mark.parametrize(
    ("spec", "folder"),
    [
        ("random:vit_tiny_patch16_224", "random-vit_tiny_patch16_224"),
        ("runs/mine/plain-s0/step_000200/", "runs-mine-plain-s0-step_000200"),
        ("../", "backbone"),
    ],
)
def test_results_of_a_backbone_lie_in_a_folder_of_its_name(spec: str, folder: str):
    assert default_folder(spec) == Path("runs", "evals", folder)


def test_rows_and_statistics_import_without_torch_and_pandas():
    code = "import sys, evals.results.table, evals.results.bootstrap; "
    code += "print({'torch', 'pandas', 'timm'} & set(sys.modules))"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff\xfe",
        b"\0\0",
        b"[]",
        b"{}",
        b"null",
        b'{"a":' * 2000 + b"}" * 2000,
        *(json.dumps(plain(ROW) | wrong).encode() for wrong in (
            {"step": "100"}, {"step": None}, {"step": -1}, {"step": 100.0}, {"step": True}, {"value": "0.5"},
            {"value": [0.5]}, {"value": 10**400}, {"seed": "0"}, {"images": -6}, {"size": 1e400}, {"arm": 7},
            {"metric": None},
        )),
        json.dumps({name: x for name, x in plain(ROW).items() if name != "step"}).encode(),
        line_of(ROW).replace('"step": 100', '"step": 100, "step": 200').encode(),
    ],
)  # fmt: skip
def test_a_damaged_line_costs_that_line_and_is_named(tmp_path: Path, line: bytes):
    path = tmp_path / "results.jsonl"
    others = [replace(ROW, step=step) for step in (200, 300)]
    text = [line_of(row).encode() for row in others]
    path.write_bytes(b"\n".join([text[0], line, text[1]]) + b"\n")
    rows, damaged = read(path)
    assert rows == others
    assert [*damaged] == ([2] if line else [])
    assert all(said.startswith(f"{path}:2: ") for said in damaged.values())


def test_a_row_of_a_newer_version_is_read(tmp_path: Path):
    (tmp_path / "r.jsonl").write_text(json.dumps({"later": 1, **plain(ROW)}) + "\n")
    assert read(tmp_path / "r.jsonl") == ([ROW], {})


@pytest.mark.parametrize("tail", [b"\xff\xfe no row", b"[]", b"someone else's notes"])
def test_what_is_no_part_of_a_row_is_not_cut_off(tmp_path: Path, tail: bytes):
    path = tmp_path / "results.jsonl"
    path.write_bytes(tail)
    append(path, [ROW])
    assert path.read_bytes() == tail + b"\n" + line_of(ROW).encode() + b"\n"
    assert read(path).rows == [ROW]


@pytest.mark.parametrize("length", [1, 5, 9, 30, 200])
def test_a_part_of_a_row_is_cut_off_before_another_is_added(tmp_path: Path, length: int):
    path = tmp_path / "results.jsonl"
    append(path, [ROW])
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:length])
    append(path, [replace(ROW, step=200)])
    assert [row.step for row in read(path).rows] == [100, 200]
    assert read(path).damaged == {}


def test_a_folder_and_a_link_to_nowhere_are_refused(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("folder", "link"):
        with pytest.raises(BadInput, match=f"{name} is no file: "):
            read(tmp_path / name)
