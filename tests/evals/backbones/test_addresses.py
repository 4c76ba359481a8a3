from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from common.errors import BadInput
from evals.backbones.addresses import load
from tests.evals.toys import silenced


def test_a_random_start_is_fixed_and_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    first = load("random:test_vit")
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    second = load("random:test_vit")
    assert first.fingerprint == second.fingerprint


def test_a_random_start_is_the_one_that_timm_makes_from_seed_0():
    found = load("random:test_vit").model.state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = timm.create_model("test_vit", num_classes=0).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_unknown_names_list_their_neighbours():
    with pytest.raises(BadInput, match="vit_small_patch16_dinov3"):
        load("timm:vit_small_patch16_dinov4")


def test_weights_that_cannot_be_had_are_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BadInput, match="got no published weights for test_vit2") as caught:
        load("timm:test_vit2")
    assert "\n" not in str(caught.value)


def test_an_offline_hub_is_one_line_of_whole_sentences(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Its client logged every try, and the middle of its second sentence ended ours."""

    def offline(*_: Any, **__: Any) -> torch.nn.Module:
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
        raise OSError(f"The file is not in the cache, {'as we have looked, ' * 5}at all. Please {'check, ' * 20}again.")

    monkeypatch.setattr("evals.backbones.addresses.create", offline)
    said = r"test_vit2 \(The file is not in the cache, [^.]*at all\.\): want"
    with silenced("huggingface_hub", caplog), pytest.raises(BadInput, match=said):
        load("timm:test_vit2")


@pytest.mark.parametrize("file", ["weights.safetensors", "weights.safetensors:student", "backbone.json"])
def test_a_file_of_an_export_is_sent_to_its_folder(file: str, trained: Path):
    said = rf"{re.escape(file)}, one file of an export: want the exported folder; do name {trained}/step_000002$"
    with pytest.raises(BadInput, match=said):
        load(f"{trained}/step_000002/{file}")


def test_an_address_of_no_kind_lists_the_kinds():
    with pytest.raises(BadInput, match=r"a training state or timm:…, random:…, dinov2:…, dinov3:…, hf:…"):
        load("dinov4:vits.pth")
