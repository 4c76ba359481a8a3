from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from evals.backbones.identity import identity


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_name_of_timm_without_a_tag_is_the_one_with_its_first_tag():
    whole = "timm:vit_small_patch16_dinov3.lvd1689m"
    assert identity(whole) == identity("timm:vit_small_patch16_dinov3") == whole
    assert identity("timm:vit_large_patch16_dinov3.sat493m") == "timm:vit_large_patch16_dinov3.sat493m"


def test_a_name_on_the_hub_is_no_name_where_a_folder_lies_that_is_loaded_in_its_place(tmp_path: Path):
    assert identity("hf:facebook/dinov2-small") == "hf:facebook/dinov2-small"
    (tmp_path / "facebook" / "dinov2-small").mkdir(parents=True)
    assert identity("hf:facebook/dinov2-small") is None


def test_an_official_file_is_known_by_its_content_and_not_by_its_name(tmp_path: Path):
    file = tmp_path / "dinov3_vits16_pretrain_lvd1689m-08c60483.pth"
    file.write_bytes(b"weights of somebody")
    assert identity(f"dinov3:{file}") == "sha256:" + hashlib.sha256(b"weights of somebody").hexdigest()
    assert identity(f"dinov3:{file}:teacher") is None


@pytest.mark.parametrize(
    "address", ["random:test_vit", "runs/a/plain-s0/step_000100", "dinov2:/nowhere.pth", "", "timm:x"]
)
def test_whatever_holds_anything_is_nobodys(address: str):
    assert identity(address) is None
