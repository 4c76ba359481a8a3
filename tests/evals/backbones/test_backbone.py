from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor

from common.errors import BadInput
from evals.backbones.addresses import load
from evals.backbones.backbone import Backbone, wrap
from evals.backbones.timm_models import create
from tests.evals.backbones.tiny import DINO, TINY, images, tiny


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


# A tiny model of each family: its arguments, its stride, where its global feature comes from, whether its size is free
SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 2}
STAGES = {"embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}
FAMILIES = {
    "vit_tiny_patch16_224": ({"depth": 1}, 16, "class", True),
    "deit_tiny_distilled_patch16_224": ({"depth": 1}, 16, "class", True),
    "deit3_small_patch16_224": (SMALL, 16, "class", True),
    "vit_base_patch16_clip_224": (SMALL, 16, "class", True),
    "vit_base_patch16_siglip_224": (SMALL, 16, "patches", True),
    "vit_small_patch14_reg4_dinov2": ({**SMALL, "img_size": 56}, 14, "class", True),
    "vit_tiny_patch16_dinov3_qkvb": (SMALL, 16, "class", True),
    "eva02_tiny_patch14_224": (SMALL, 14, "class", True),
    "beit_base_patch16_224": (SMALL, 16, "class", False),
    "vit_small_r26_s32_224": ({**SMALL, "depth": 1}, 32, "class", True),
    "naflexvit_base_patch16_gap": (SMALL, 16, "head", True),
    "swin_tiny_patch4_window7_224": (STAGES, 32, "head", True),
    "hiera_tiny_224": ({"embed_dim": 24, "stages": (1, 1, 1, 1)}, 32, "head", False),
    "test_convnext": ({}, 32, "head", True),
    "test_mambaout": ({}, 32, "norm", True),
    "test_resnet": ({}, 32, "head", True),
    "test_byobnet": ({}, 32, "head", True),
    "test_efficientnet": ({}, 32, "patches", True),
    "test_coatnet": ({}, 32, "head", False),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_timm_fills_the_contract(name: str):
    args, stride, source, free = FAMILIES[name]
    model = create(name, args).eval()
    backbone = wrap(model, name=name)
    fingerprint = backbone.fingerprint
    side = args.get("img_size", model.pretrained_cfg["input_size"][1])  # pyright: ignore
    for shape in ((side, side), *([(4 * stride, 6 * stride)] if free else [])):
        x = images(2, 3, *shape)
        features = backbone(x)
        with torch.no_grad():
            tokens, whole = model.forward_features(normalised(x, backbone)), model(normalised(x, backbone))  # pyright: ignore
        assert features.patches.shape == (2, features.pooled.shape[1], shape[0] // stride, shape[1] // stride)
        if source == "class":
            behind = getattr(model, "fc_norm", None)
            tokens = (
                behind(tokens) if isinstance(getattr(model, "norm", None), torch.nn.Identity) and behind else tokens
            )
            assert torch.equal(features.pooled, tokens[:, 0])
            assert torch.equal(features.patches.flatten(2).mT, tokens[:, -features.patches[0, 0].numel() :])
        elif source == "head":
            assert torch.allclose(features.pooled, whole, atol=1e-6)
        elif source == "patches":
            assert torch.allclose(features.pooled, features.patches.mean((2, 3)), atol=1e-6)
    assert backbone.stride == stride
    assert backbone.fingerprint == fingerprint


@pytest.mark.parametrize("name", ["test_convnext", "test_mambaout", "hiera_tiny_224"])
def test_a_norm_that_follows_the_pooling_goes_over_every_patch_too(name: str):
    args, stride, *_ = FAMILIES[name]
    features = wrap(create(name, args), name=name)(images(2, 3, 7 * stride, 7 * stride))
    assert features.patches.mean(1).abs().max() < 1e-5  # norms start without a shift
    assert features.pooled.mean(1).abs().max() < 1e-5


def test_a_mean_pooled_vit_gets_the_norm_that_timm_keeps_behind_its_pooling():
    args = {"class_token": False, "global_pool": "avg", "fc_norm": True, "depth": 1}
    model = create("vit_tiny_patch16_224", args).eval()
    backbone = wrap(model, name="pooled")
    features = backbone(images(1, 3, 32, 48))
    assert features.patches.mean(1).abs().max() < 1e-5
    with torch.no_grad():
        assert torch.allclose(features.pooled, model(normalised(images(1, 3, 32, 48), backbone)))


def test_models_without_a_map_or_with_one_of_another_grid_are_refused():
    with pytest.raises(BadInput, match="gives no feature map"):
        wrap(torch.nn.Linear(3, 3), name="linear")
    with pytest.raises(BadInput, match=r"got 96 x 100 images for random:test_resnet.*its map is 3 x 4"):
        load("random:test_resnet")(images(1, 3, 96, 100))


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


def test_a_size_that_the_model_refuses_is_a_clear_error():
    with pytest.raises(BadInput, match="got 64 x 64 images"):
        wrap(
            timm.create_model("beit_base_patch16_224", num_classes=0, depth=1, embed_dim=48, num_heads=2), name="beit"
        )(images(1, 3, 64, 64))
