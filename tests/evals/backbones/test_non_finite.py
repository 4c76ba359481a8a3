"""Weights with NaN or infinity are refused by the tensor's name, through whichever door they come."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from common.errors import BadInput
from evals.backbones import addresses
from evals.backbones.addresses import load
from evals.backbones.digest import KEY, sealed
from evals.backbones.exported import export
from evals.backbones.weights import read_safetensors
from harness.beginning import fresh_state, resume
from harness.checkpoint import export_weights, load_weights
from tests.evals.backbones.test_official import published, randomised
from tests.evals.backbones.tiny import DINO, TINY, tiny

CPU = torch.device("cpu")


def spoilt(path: Path, key: str, value: float) -> None:
    """One number of a tensor in a safetensors file was another when it was written."""
    header, tensors = read_safetensors(path)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    tensors[key].view(-1)[-1] = value
    about = {key: text for key, text in header.items() if key != KEY}
    save_file(tensors, path, metadata=sealed(about, tensors) if KEY in header else header)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "vit_small_patch16_dinov3_qkvb"])
def test_official_files(name: str, value: float, tmp_path: Path):
    state = {key: tensor.clone() for key, tensor in published(name, randomised(name).state_dict()).items()}
    state["blocks.3.norm1.weight"][7] = value
    torch.save(state, tmp_path / "a.pth")
    save_file(state, tmp_path / "a.safetensors")
    for file in ("a.pth", "a.safetensors"):
        with pytest.raises(BadInput, match=rf"got {tmp_path}/{file} with blocks\.3\.norm1\.weight not finite"):
            load(f"{name.rpartition('_')[2] if 'dinov2' in name else 'dinov3'}:{tmp_path / file}")


def test_a_hugging_face_folder(tmp_path: Path):
    """One NaN was refused as a model that "gives no map of patches"."""
    transformers: Any = pytest.importorskip("transformers")
    small = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}
    transformers.Dinov2Model(transformers.Dinov2Config(**small)).save_pretrained(tmp_path)
    spoilt(tmp_path / "model.safetensors", "encoder.layer.1.mlp.fc1.bias", math.nan)
    with pytest.raises(BadInput, match=rf"got hf:{tmp_path} with encoder\.layer\.1\.mlp\.fc1\.bias not finite"):
        load(f"hf:{tmp_path}")


def test_published_weights_of_timm(monkeypatch: pytest.MonkeyPatch):
    def spoilt_model(*_: Any, **__: Any) -> torch.nn.Module:
        model = tiny()
        with torch.no_grad():
            model.norm.bias[0] = math.nan  # pyright: ignore
        return model

    monkeypatch.setattr(addresses, "create", spoilt_model)
    with pytest.raises(BadInput, match=r"got timm:test_vit with norm\.bias not finite"):
        load("timm:test_vit")


def test_an_exported_folder(tmp_path: Path):
    model = tiny()
    with torch.no_grad():
        model.norm.bias[0] = math.inf  # pyright: ignore
    export(model, tmp_path / "out", timm_name=DINO, timm_args=TINY)
    with pytest.raises(BadInput, match=r"out/weights\.safetensors with norm\.bias not finite"):
        load(str(tmp_path / "out"))


@pytest.mark.parametrize("network", ["teacher", "student"])
def test_a_training_state(trained: Path, network: str):
    path = trained / "states" / "step_000002.safetensors"
    spoilt(path, f"{network}.backbone.blocks.0.norm1.weight", math.nan)
    with pytest.raises(BadInput, match=rf"step_000002\.safetensors:{network} with blocks\.0\.norm1\.weight not finite"):
        load(f"{path}:{network}")


def test_weights_that_a_trunk_starts_from(tiny: Any, trained: Path, tmp_path: Path):
    path = tmp_path / "trunk.safetensors"
    export_weights(trained / "states" / "step_000002.safetensors", path, dtype=torch.float16)
    spoilt(path, "teacher.dino_head.mlp.0.bias", math.nan)
    with pytest.raises(BadInput, match=rf"got trunk\.checkpoint={path} with teacher\.dino_head\.mlp\.0\.bias not"):
        load_weights(fresh_state(tiny, 0, CPU), path)


def test_weights_that_half_precision_cannot_hold_are_not_cut_down_to_it(trained: Path, tmp_path: Path):
    state = trained / "states" / "step_000002.safetensors"
    spoilt(state, "student.backbone.norm.weight", 1e6)
    with pytest.raises(
        BadInput, match=r"step_000002\.safetensors as torch\.float16 with student\.backbone\.norm\.weight"
    ):
        export_weights(state, tmp_path / "trunk.safetensors", dtype=torch.float16)
    assert not (tmp_path / "trunk.safetensors").exists()


def test_a_given_gram_teacher(make_job: Callable[..., Any], trained: Path):
    folder = trained / "step_000002"
    spoilt(folder / "weights.safetensors", "norm.weight", math.nan)
    gram = {"gram.weight": 2.0, "gram.start_step": 1, "gram.teacher": "checkpoint", "gram.checkpoint": str(folder)}
    job = make_job({"name": "other", "arms": {"plain": {}}, **gram})
    with pytest.raises(BadInput, match=r"step_000002/weights\.safetensors with norm\.weight not finite"):
        resume(job, CPU)
