"""Names that bear a step are told from all that lie beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.steps import files_by_step, folders_by_step, step_name, step_of


@pytest.mark.parametrize("step", [0, 12, 999_999, 1_000_000, 123_456_789])
def test_a_step_comes_back_from_its_name(step: int):
    assert step_of(step_name(step)) == step
    assert step_of(step_name(step, "ema"), "ema") == step
    assert step_of(step_name(step, "ema")) is None


FOREIGN = (
    "step_000012 (copy)",
    "step_000012.bak",
    "step_000012~",
    "step_x",
    "step_",
    "step_12",
    "step_0000012",
    "step_-00012",
    "step_000012\n",
    "step_٠٠٠٠١٢",
    "step_1e5",
    "STEP_000012",
    "my_step_000012",
    "step_99999999999999999999999999",
    ".step_000012",
)


@pytest.mark.parametrize("name", FOREIGN)
def test_no_other_name_bears_a_step(name: str):
    assert step_of(name) is None


def test_what_bears_a_step_is_listed_by_it_and_all_else_is_passed_over(tmp_path: Path):
    for name in (*FOREIGN, "step_000003", "step_1000000", "step_000020"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.safetensors").touch()
    (tmp_path / "step_000007").touch()
    (tmp_path / "step_000008.safetensors").mkdir()
    (tmp_path / "step_000009.safetensors.bak").touch()
    found = folders_by_step(tmp_path)
    assert list(found.items()) == [(step, tmp_path / step_name(step)) for step in (3, 20, 1_000_000)]
    assert [path.name for path in files_by_step(tmp_path, ".safetensors").values()] == [
        "step_000003.safetensors",
        "step_000008.safetensors",  # a folder, as several processes write it
        "step_000020.safetensors",
        "step_1000000.safetensors",
    ]
    assert files_by_step(tmp_path / "nowhere", ".safetensors") == folders_by_step(tmp_path / "nowhere") == {}
