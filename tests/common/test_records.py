"""What a run wrote is read back as it was, and every kind of damage is named in one line, by file and line."""

import json
import math

import pytest

from common.errors import BadInput
from common.records import Asked, CurvePoint, Status, read_lines, read_record

NO_JSON = {
    "empty": b"",
    "cut short": b'{"state": "do',
    "NUL bytes": b"\0\0\0\0",
    "no UTF-8": b'{"state": "\xff"}',
    "UTF-16": '{"state": "done"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"state": "done"}',
    "a list": b'["done"]',
    "a number": b"3",
    "text": b'"done"',
    "null": b"null",
    "nested two thousand deep": b'{"a":' * 2000 + b"1" + b"}" * 2000,
    "lists nested two thousand deep": b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}",
    "nested a hundred thousand deep": b'{"a":' * 100_000,
    "a key twice": b'{"step": 4, "step": 8}',
    "a number of five thousand digits": b'{"step": ' + b"9" * 5000 + b"}",
}
NO_STATUS = {
    '{"steps": "9"}': "steps='9': ",
    '{"steps": 9.5}': "steps=9.5: ",
    '{"steps": true}': "steps=True: ",
    '{"steps": -9}': "steps=-9: ",
    '{"steps": 1e400}': "steps=inf: ",
    '{"steps": [9]}': "steps=[9]: ",
    '{"steps": ' + "9" * 400 + "}": "steps=99999",
    '{"seconds": NaN}': "seconds=nan: ",
    '{"seconds": "12"}': "seconds='12': ",
    '{"peak_memory_gib": Infinity}': "peak_memory_gib=inf: ",
    '{"state": 7}': "state=7: ",
    '{"state": null}': "state=None: ",
    '{"error": ["a"]}': "error=['a']: ",
}
NO_EXPERIMENT = {
    '{"arms": ["plain"]}': "arms=['plain']: ",
    '{"arms": {"plain": 3}}': "arms.plain=3: ",
    '{"arms": {"plain": {"overrides": "lr=1"}}}': "arms.plain.overrides='lr=1': ",
    '{"arms": {"plain": {"overrides": {"precision": 7}}}}': "arms.plain.overrides.precision=7: ",
    '{"events": {"plain": [{"kind": "fork"}]}}': "events.plain.0.step is missing",
    '{"events": {"plain": [{"step": -1, "kind": "fork"}]}}': "events.plain.0.step=-1: ",
    '{"seeds": "0"}': "seeds='0': ",
    '{"steps": "many"}': "steps='many': ",
    '{"chance": {"top1": "a sixth"}}': "chance.top1='a sixth': ",
    '{"config": {"precision": "float12"}}': "config.precision='float12': ",
    '{"config": {"trunk": 5}}': "config.trunk=5: ",
    '{"config": {"evals": 5}}': "config.evals=5: ",
    '{"config": {"evals": {"tasks": ["knn"]}}}': "config.evals.tasks=['knn']: ",
    '{"environment": {"threads": "two"}}': "environment.threads='two': ",
    '{"losses": {"gram": "Gram"}}': "losses.gram='Gram': ",
    '{"notes": "One seed"}': "notes='One seed': ",
    '{"question": 7}': "question=7: ",
}


def refused(path, kind):
    with pytest.raises(BadInput) as error:
        read_record(path, kind, remedy="do this")
    said = str(error.value)
    assert said.startswith(f"{path} cannot be read (")
    assert said.endswith("; do this")
    assert "\n" not in said
    assert len(said) < 400
    return said


@pytest.mark.parametrize("damage", NO_JSON.values(), ids=NO_JSON)
@pytest.mark.parametrize("kind", [Status, Asked])
def test_what_is_no_json_object_is_named(tmp_path, damage, kind):
    path = tmp_path / "record.json"
    path.write_bytes(damage)
    refused(path, kind)


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [(Status, *case) for case in NO_STATUS.items()] + [(Asked, *case) for case in NO_EXPERIMENT.items()],
)
def test_a_value_of_the_wrong_kind_is_named(tmp_path, kind, text, said):
    path = tmp_path / "record.json"
    path.write_text(text)
    assert f"({said}" in refused(path, kind)


def test_a_folder_and_a_link_to_nowhere_are_named(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert "Is a directory" in refused(tmp_path / "folder", Status)
    assert "No such file" in refused(tmp_path / "link", Status)
    for name in ("folder", "link"):
        with pytest.raises(BadInput, match=f"{name} is no file: .*move away"):
            read_lines(tmp_path / name, CurvePoint)


def test_what_was_written_is_read_and_what_a_newer_version_added_does_no_harm(tmp_path):
    path = tmp_path / "record.json"
    status = {"state": "done", "step": 6, "steps": 6, "seconds": 2, "images_per_second": None}
    path.write_text(json.dumps(status | {"phase_of_the_moon": [1]}))
    assert read_record(path, Status, remedy="") == Status("done", 6, 6, 2.0)
    asked = {"later": 1, "seeds": [0], "name": "tiny", "config": {"new": {"deep": [1]}, "precision": "float32"}}
    path.write_text(json.dumps(asked))
    assert json.dumps(read_record(path, Asked, remedy="")) == json.dumps(asked)  # in its order, as reports show it


def test_no_file_is_no_rows(tmp_path):
    assert read_lines(tmp_path / "none.jsonl", CurvePoint) == ([], {})


@pytest.mark.parametrize("damage", [text.replace(b"\n", b" ") or b"-" for text in NO_JSON.values()], ids=NO_JSON)
def test_a_damaged_line_loses_only_itself_and_is_named(tmp_path, damage):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"step": 1}\n' + damage + b'\n{"step": 3}\n')
    rows, damaged = read_lines(path, CurvePoint)
    assert rows == [{"step": 1}, {"step": 3}]
    assert [*damaged] == [2]
    assert damaged[2].startswith(f"{path}:2: ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"loss": 1.0}', "step is missing"),
        ('{"step": "1"}', "step='1'"),
        ('{"step": 1.0}', "step=1.0"),
        ('{"step": -1}', "step=-1"),
        ('{"step": 1e400}', "step=inf"),
        ('{"step": 1, "loss": "high"}', "loss='high'"),
        ('{"step": 1, "loss": [1]}', "loss=[1]"),
        ('{"step": 1, "loss": ' + "9" * 400 + "}", "loss=99999"),
        ('{"step": 1, "seconds": NaN}', "seconds=nan"),
        ('{"step": 1, "lo', "Unterminated string"),
    ],
)
def test_a_line_that_is_no_point_of_a_curve_is_named(tmp_path, line, said):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 0}}\n{line}')
    rows, damaged = read_lines(path, CurvePoint)
    assert rows == [{"step": 0}]
    assert damaged[2].startswith(f"{path}:2: {said}")


def test_numbers_of_a_curve_come_back_to_the_last_digit(tmp_path):
    path = tmp_path / "metrics.jsonl"
    row = {"step": 7, "images": 28, "seconds": 0.1, "loss": 0.1 + 0.2, "gram": None}
    path.write_text(json.dumps(row) + '\r\n\n{"step": 8, "loss": NaN}\n')
    first, second = read_lines(path, CurvePoint).rows
    assert json.dumps(first) == json.dumps(row)
    assert math.isnan(second["loss"])
