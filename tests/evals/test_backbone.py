from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from evals.backbone import Backbone, export, load, wrap
from evals.errors import BadInput

DINO = "vit_small_patch16_dinov3_qkvb"
TINY = {"embed_dim": 48, "depth": 2, "num_heads": 2, "img_size": 64, "patch_size": 8}


def tiny(**more: Any) -> torch.nn.Module:
    return timm.create_model(DINO, num_classes=0, dynamic_img_size=True, **TINY, **more)


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def normalised(x: Tensor, backbone: Backbone) -> Tensor:
    mean, std = torch.tensor(backbone.mean), torch.tensor(backbone.std)
    return (x - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def test_pooled_is_the_cls_token_after_the_final_norm_as_timm_gives_it():
    model = tiny().eval()
    backbone = wrap(model, name="tiny")
    x = images(2, 3, 64, 96)
    with torch.no_grad():
        tokens: Tensor = model.forward_features(normalised(x, backbone))  # pyright: ignore
    features = backbone(x)
    assert torch.equal(features.pooled, tokens[:, 0])
    assert torch.equal(features.patches.flatten(2).mT, tokens[:, 5:])
    assert features.patches.shape == (2, 48, 8, 12)
    assert backbone.stride == 8


def test_a_mean_pooled_vit_gets_the_norm_that_timm_keeps_behind_its_pooling():
    backbone = load("random:vit_tiny_patch16_224")
    args = {"class_token": False, "global_pool": "avg", "fc_norm": True, "dynamic_img_size": True}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=1, **args)
    features = wrap(model, name="pooled")(images(1, 3, 32, 48))
    assert torch.allclose(features.patches.mean(1), torch.zeros(1, 2, 3), atol=1e-5)
    assert torch.allclose(features.pooled, features.patches.mean((2, 3)))
    assert backbone(images(1, 3, 32, 48)).pooled.shape == (1, 192)


@pytest.mark.parametrize(("name", "stride"), [("test_resnet", 32), ("test_convnext", 32), ("test_vit", 16)])
def test_convolutional_networks_and_vits_fill_the_same_contract(name: str, stride: int):
    backbone = load(f"random:{name}")
    features = backbone(images(2, 3, 2 * stride, 3 * stride))
    assert backbone.stride == stride
    assert features.patches.shape[2:] == (2, 3)
    assert features.pooled.shape == features.patches.shape[:2]
    assert features.pooled.isfinite().all()
    if name != "test_vit":
        assert torch.allclose(features.pooled, features.patches.mean((2, 3)))


def test_a_random_start_is_fixed_and_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    first = load("random:test_vit")
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    second = load("random:test_vit")
    assert first.fingerprint == second.fingerprint


def test_a_forward_pass_alters_no_flag_weight_or_gradient():
    model = tiny(proj_drop_rate=0.5).train()
    model.blocks[0].eval()  # pyright: ignore
    flags = [module.training for module in model.modules()]
    backbone = wrap(model, name="tiny")
    before = backbone.fingerprint
    first, second = backbone(images(1, 3, 64, 64)), backbone(images(1, 3, 64, 64))
    backbone(images(1, 3, 32, 96))
    assert torch.equal(first.pooled, second.pooled)
    assert not first.pooled.requires_grad
    assert [module.training for module in model.modules()] == flags
    assert backbone.fingerprint == before
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_the_fingerprint_sees_weights_shape_free_settings_and_normalisation():
    model = tiny()
    prints = {wrap(model, name="a").fingerprint, wrap(model, name="a", mean=(0.5, 0.5, 0.5)).fingerprint}
    heads = timm.create_model(DINO, num_classes=0, dynamic_img_size=True, **{**TINY, "num_heads": 4})
    heads.load_state_dict(model.state_dict())
    prints.add(wrap(heads, name="a").fingerprint)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1
    prints.add(wrap(model, name="a").fingerprint)
    assert len(prints) == 4


def test_an_exported_backbone_comes_back_bit_for_bit(tmp_path: Path):
    model = tiny()
    export(model, tmp_path / "step_1", timm_name=DINO, timm_args=TINY, mean=(0.5, 0.4, 0.3), extra={"step": 1})
    backbone = load(str(tmp_path / "step_1"))
    original = wrap(model, name="tiny", mean=(0.5, 0.4, 0.3))
    x = images(2, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(backbone(x), original(x), strict=True))
    assert backbone.extra == {"step": 1}
    assert backbone.mean == (0.5, 0.4, 0.3)
    assert [path.name for path in tmp_path.iterdir()] == ["step_1"]


def test_an_exported_backbone_loads_into_plain_timm(tmp_path: Path):
    model = tiny()
    export(model, tmp_path / "out", timm_name=DINO, timm_args=TINY)
    card = json.loads((tmp_path / "out" / "backbone.json").read_text())
    plain = timm.create_model(card["timm_name"], num_classes=0, **card["timm_args"])
    plain.load_state_dict(load_file(tmp_path / "out" / "weights.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), model.parameters(), strict=True))


def test_exporting_again_replaces_and_exporting_elsewhere_destroys_nothing(tmp_path: Path):
    export(tiny(), tmp_path / "out", timm_name=DINO, timm_args=TINY, extra={"step": 1})
    export(tiny(), tmp_path / "out", timm_name=DINO, timm_args=TINY, extra={"step": 2})
    assert load(str(tmp_path / "out")).extra == {"step": 2}
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(BadInput, match="no exported backbone"):
        export(tiny(), tmp_path / "thesis", timm_name=DINO, timm_args=TINY)
    with pytest.raises(TypeError):
        export(tiny(), tmp_path / "out", timm_name=DINO, timm_args=TINY, extra={"step": object()})
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"
    assert load(str(tmp_path / "out")).extra == {"step": 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "thesis"]


def test_renamed_missing_and_misshapen_keys_are_refused_by_name(tmp_path: Path):
    export(tiny(), tmp_path / "out", timm_name=DINO, timm_args=TINY)
    weights = tmp_path / "out" / "weights.safetensors"
    tensors = load_file(weights)
    save_file({("norm.wight" if k == "norm.weight" else k): x for k, x in tensors.items()}, weights)
    with pytest.raises(BadInput, match=r"missing: norm\.weight; 1 unknown: norm\.wight"):
        load(str(tmp_path / "out"))
    save_file({**tensors, "norm.bias": torch.zeros(3)}, weights)
    with pytest.raises(BadInput, match=r"of another shape: norm\.bias"):
        load(str(tmp_path / "out"))


def test_a_damaged_folder_is_a_clear_error(tmp_path: Path):
    with pytest.raises(BadInput, match=r"without backbone\.json and weights\.safetensors"):
        load(str(tmp_path))
    export(tiny(), tmp_path / "out", timm_name=DINO, timm_args=TINY)
    weights, card = tmp_path / "out" / "weights.safetensors", tmp_path / "out" / "backbone.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=r"unreadable .*weights"):
        load(str(tmp_path / "out"))
    card.write_text("{")
    with pytest.raises(BadInput, match=r"unreadable .*backbone\.json"):
        load(str(tmp_path / "out"))


def test_unknown_names_list_their_neighbours():
    with pytest.raises(BadInput, match="vit_small_patch16_dinov3"):
        load("timm:vit_small_patch16_dinov4")


def test_weights_that_cannot_be_had_are_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BadInput, match="got no published weights for test_vit2") as caught:
        load("timm:test_vit2")
    assert "\n" not in str(caught.value)


def test_a_size_that_the_model_refuses_is_a_clear_error():
    with pytest.raises(BadInput, match="got 64 x 64 images"):
        wrap(
            timm.create_model("beit_base_patch16_224", num_classes=0, depth=1, embed_dim=48, num_heads=2), name="beit"
        )(images(1, 3, 64, 64))
