"""The walk through timm's backbone, masks, heads, and an initialisation that forgets nothing."""

import math
import re

import pytest
import timm
import torch

from common import schema
from common.bounds import hints
from common.errors import BadInput
from evals.backbones.exported import export
from evals.backbones.timm_models import TimmReader
from harness import gram_teacher, recipe
from harness.backbones import vit
from harness.losses.head import Head
from harness.model import (
    Network,
    ProjectionHead,
    backbone_args,
    build_backbone,
    encode,
    initialise,
    patch_embed_bound,
    patch_size,
)
from harness.model_arguments import Arguments
from harness.settings import Experiment

CPU = torch.device("cpu")
NANO = {"patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3, "init_values": 0.1, "num_reg_tokens": 4}


def images(count: int, side: int, *, number: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(number))


def filled(experiment, number: int = 0) -> Network:
    network = Network(experiment)
    initialise(network, torch.Generator().manual_seed(number))
    return network


@pytest.mark.parametrize(("args", "side"), [(NANO, 64), (NANO, 40), ({"depth": 2}, 48), ({}, 32)])
def test_the_walk_gives_what_timm_gives_without_masks_and_draws(args, side):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = build_backbone(recipe.Model(args=args)).eval()
    pixels = images(2, side)
    with torch.no_grad():
        for block in backbone.blocks:  # large enough for a wrong branch to show
            block.gamma_1.fill_(0.5)
            block.gamma_2.fill_(0.5)
        tokens, theirs = encode(backbone, pixels), backbone.forward_features(pixels)
    torch.testing.assert_close(tokens.cls, theirs[:, 0], rtol=0, atol=2e-6)
    torch.testing.assert_close(tokens.patches, theirs[:, backbone.num_prefix_tokens :], rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "vit_small_plus_patch16_dinov3"])
def test_other_members_of_the_family_walk_as_in_timm(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = build_backbone(recipe.Model(name=name, args={"depth": 1})).eval()
    with torch.no_grad():
        tokens, theirs = encode(backbone, images(1, 32)), backbone.forward_features(images(1, 32))
    torch.testing.assert_close(tokens.patches, theirs[:, backbone.num_prefix_tokens :], rtol=0, atol=2e-6)


def test_the_small_model_has_the_papers_parameter_count():
    with torch.device("meta"):
        backbone = build_backbone(recipe.Model())
    assert sum(p.numel() for p in backbone.parameters()) == pytest.approx(21.6e6, rel=0.005)


def test_masked_patches_do_not_see_their_pixels(tiny):
    network = filled(tiny).eval()
    torch.nn.init.normal_(network.mask_token, generator=torch.Generator().manual_seed(5))
    masks = torch.zeros(2, 16, dtype=torch.bool)
    masks[0, 5] = True  # row 1, column 1 of the 4 x 4 grid
    pixels = images(2, 32)
    changed = pixels.clone()
    changed[:, :, 8:16, 8:16] += 1
    with torch.no_grad():
        before, after = (
            encode(network.backbone, x, mask_token=network.mask_token, masks=masks) for x in (pixels, changed)
        )
    assert torch.equal(before.patches[0], after.patches[0])
    assert torch.equal(before.cls[0], after.cls[0])
    assert not torch.allclose(before.patches[1], after.patches[1], atol=1e-3)


def test_the_mask_token_stands_where_the_patch_was(tiny):
    network = filled(tiny).eval()
    masks = torch.zeros(1, 16, dtype=torch.bool)
    masks[0, 5] = True
    with torch.no_grad():
        zero = encode(network.backbone, images(1, 32), mask_token=network.mask_token, masks=masks)
        network.mask_token.normal_(generator=torch.Generator().manual_seed(5))
        other = encode(network.backbone, images(1, 32), mask_token=network.mask_token, masks=masks)
    moved = (zero.patches - other.patches).norm(dim=-1)[0]
    assert moved.argmax().item() == 5


def test_only_masked_patches_send_a_gradient_to_the_mask_token(tiny):
    network = filled(tiny)
    masks = torch.zeros(1, 16, dtype=torch.bool)
    for expected in (0.0, 1.0):
        masks[0, 3] = bool(expected)
        network.mask_token.grad = None
        tokens = encode(network.backbone, images(1, 32), mask_token=network.mask_token, masks=masks)
        tokens.patches.square()[..., :7].sum().backward()
        assert (network.mask_token.grad.abs().sum() > 0) == bool(expected)


def test_initialisation_fills_every_parameter(tiny):
    network = Network(tiny)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(float("nan"))
    initialise(network, torch.Generator().manual_seed(0))
    everything = [*network.named_parameters(), *network.named_buffers()]
    assert [name for name, tensor in everything if not tensor.isfinite().all()] == []


def test_initialisation_follows_the_recipe(tiny):
    values = {name: p.detach() for name, p in filled(tiny).named_parameters()}
    assert values["mask_token"].abs().max() == 0
    assert values["backbone.cls_token"].std() == pytest.approx(0.02, rel=0.4)
    assert values["backbone.blocks.0.attn.qkv.weight"].std() == pytest.approx(0.02, rel=0.05)
    assert values["dino_head.prototypes.weight"].std() == pytest.approx(0.02, rel=0.1)
    assert (values["backbone.blocks.1.gamma_2"] == 0.1).all()
    assert (values["backbone.norm.weight"] == 1).all()
    assert all((p == 0).all() for name, p in values.items() if name.endswith("bias") and "patch_embed" not in name)
    for leaf in ("weight", "bias"):
        largest = values[f"backbone.patch_embed.proj.{leaf}"].abs().max()
        assert 0.8 / (3 * 8 * 8) ** 0.5 < largest <= 1 / (3 * 8 * 8) ** 0.5


def test_the_patch_embedding_bound_is_one_over_the_root_of_its_fan_in(tiny):
    assert patch_embed_bound(Network(tiny).backbone) == pytest.approx((3 * 8 * 8) ** -0.5)


def test_initialisation_is_a_function_of_its_generator_alone(tiny):
    torch.manual_seed(1)
    one = filled(tiny)
    torch.manual_seed(2)
    two, other = filled(tiny), filled(tiny, number=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.dino_head.prototypes.weight, other.dino_head.prototypes.weight)


def test_initialisation_leaves_the_global_generator_alone(tiny):
    network = Network(tiny)
    before = torch.get_rng_state()
    initialise(network, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_head_scales_its_bottleneck_to_unit_length():
    head = ProjectionHead(8, Head(hidden=8, bottleneck=4, prototypes=3))
    tokens = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    longest = head.prototypes.weight.norm(dim=1)
    assert (head(tokens).logits().abs() <= longest + 1e-6).all()


def test_unit_prototypes_make_the_logits_cosines():
    head = ProjectionHead(8, Head(hidden=8, bottleneck=4, prototypes=3, unit_prototypes=True))
    tokens = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    before = head(tokens).logits()
    with torch.no_grad():
        head.prototypes.weight *= 7
    torch.testing.assert_close(head(tokens).logits(), before)
    assert before.abs().max() <= 1 + 1e-6


def test_the_two_heads_are_separate(tiny):
    network = filled(tiny)
    tokens = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(network.dino_head(tokens).logits(), network.ibot_head(tokens).logits())


def test_the_patch_size_is_the_models(tiny):
    assert patch_size(Network(tiny).backbone) == 8


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (recipe.Model(name="vit_small_patch16_dinov3_qkv"), "vit_small_patch16_dinov3_qkvb"),
        (recipe.Model(name="resnet18"), "resnet18"),
        (recipe.Model(name="swin_tiny_patch4_window7_224"), "timm's SwinTransformer lacks"),
        (recipe.Model(name="deit_small_distilled_patch16_224", args={"depth": 1}), "VisionTransformerDistilled places"),
        (recipe.Model(name="vit_tiny_r_s16_p8_224"), "its patches come from a HybridEmbed"),
        (recipe.Model(name="vit_base_patch16_xp_224", args={"depth": 1}), "its blocks are ParallelScalingBlock"),
        (recipe.Model(name="vit_small_patch16_rope_mixed_224", args={"depth": 1}), "RotaryEmbeddingMixed, are not"),
        (recipe.Model(name="deit_small_patch16_224", rope_rescale=2.0), r"model\.rope_rescale=2: .* want null"),
        (recipe.Model(name="deit_small_patch16_224", args={"num_reg_tokens": 4}), "num_reg_tokens"),
        (recipe.Model(name="deit_small_patch16_224", args={"embed_dim": 50, "depth": 1}), "does not fit"),
        (recipe.Model(args={"img_size": 64, "depth": 1}), "no table of positions; leave it out"),
        (recipe.Model(args={"embed_dim": 33, "num_heads": 2, "depth": 1}), "try embed_dim=32"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_in_one_line(model, said):
    with pytest.raises(BadInput, match=said) as error:
        build_backbone(model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            {"embed_dimension": 32},
            "model.args.embed_dimension=32: want one of .*; did you mean 'embed_dim'?",
        ),
        ({"depth": 0}, "model.args.depth=0: want a whole number, from 1 to 200 (number of blocks)"),
        ({"depth": 10**6}, "model.args.depth=1000000: want"),
        ({"num_heads": 0}, "model.args.num_heads=0: want"),
        ({"patch_size": "8"}, "model.args.patch_size='8': want a whole number"),
        ({"patch_size": [8, 8]}, "model.args.patch_size=[8, 8]: want a whole number"),
        ({"init_values": None}, "model.args.init_values=null: want a number, above 0"),
        ({"init_values": math.nan}, "model.args.init_values=nan: want a number, above 0"),
        ({"mlp_ratio": math.inf}, "model.args.mlp_ratio=inf: want a number, above 0"),
        ({"checkpoint_path": "x"}, "model.args.checkpoint_path='x': want one of .*; no file is read for it"),
        ({"pretrained": True}, "no file is read for it; see trunk.checkpoint"),
        ({"cache_dir": "x"}, "no file is read for it"),
        ({"pretrained_cfg": {"url": "x"}}, "model.args.pretrained_cfg={'url': 'x'}: want one of"),
        ({"dynamic_img_size": False}, "every model here has it"),
        ({"drop_path_rate": 0.1}, "want model.drop_path"),
        ({"rope_rescale_coords": 2.0}, "want model.rope_rescale"),
        ({"img_size": 10**7}, "model.args.img_size=10000000: want a whole number, from 1 to 32768"),
        ({"use_post_norm": True}, "model.args.use_post_norm=true: want one of"),
        ({"norm_layer": "x"}, "model.args.norm_layer='x': want one of"),
    ],
    ids=str,
)
def test_an_argument_that_is_no_network_of_ours_is_refused_as_the_settings_are_filled(args, said):
    with pytest.raises(BadInput) as error:
        schema.filled(Experiment, {"model": {"args": args}}, where="file")
    pattern = ".*".join(re.escape(part) for part in said.split(".*"))
    assert re.search(rf"^file: .*{pattern}", str(error.value))
    assert "\n" not in str(error.value)


SMALL = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "init_values": 0.5}
OTHER = {
    **NANO, "patch_size": 4, "depth": 1, "num_heads": 4, "init_values": 0.2, "mlp_ratio": 2, "rope_temperature": 50,
    "qkv_bias": False, "qk_norm": True, "swiglu_mlp": True, "swiglu_align_to": 48, "scale_mlp": True,
    "class_token": False, "attn_type": "rope",
}  # fmt: skip
LEARNED = {"reg_tokens": 2, "img_size": 64, "no_embed_class": True, "pre_norm": True}


@pytest.mark.parametrize("name", sorted(hints(Arguments)))
def test_every_argument_makes_another_network_that_is_walked_as_timm_walks_it(name):
    kind, base = "deit_small_patch16_224", SMALL
    if name in OTHER:
        kind, base = recipe.DINOV3, {**SMALL, "num_reg_tokens": 1, "mlp_ratio": 4.5}
        base |= {"swiglu_mlp": name == "swiglu_align_to"}
    changed = {**base, name: (OTHER | LEARNED)[name]}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        one, other = (build_backbone(recipe.Model(name=kind, args=args)).eval() for args in (base, changed))
    shapes = [{key: tensor.shape for key, tensor in backbone.state_dict().items()} for backbone in (one, other)]
    assert TimmReader(one).settings != TimmReader(other).settings or shapes[0] != shapes[1]
    with torch.no_grad():
        tokens, theirs = encode(other, images(1, 32)), other.forward_features(images(1, 32))
    torch.testing.assert_close(tokens.patches, theirs[:, other.num_prefix_tokens :], rtol=0, atol=1e-5)


def test_the_named_models_are_timms():
    assert timm.is_model(recipe.DINOV3)


# --- switches of the recipe


def test_local_class_tokens_have_a_norm_of_their_own_and_patches_the_common_one(tiny, change, stirred):
    network = stirred(change(tiny, {"model.untie_local_cls_norm": True}))
    own = network.local_cls_norm
    with torch.no_grad():
        common = encode(network.backbone, images(2, 16))
        local = encode(network.backbone, images(2, 16), cls_norm=own)
        before = (common.cls - network.backbone.norm.bias) / network.backbone.norm.weight  # normalised, no affine
        torch.testing.assert_close(local.cls, before * own.weight + own.bias, rtol=0, atol=1e-5)
    assert torch.equal(local.patches, common.patches)
    assert not torch.allclose(local.cls, common.cls, atol=1e-2)
    assert Network(tiny).local_cls_norm is None


def test_the_norm_of_local_class_tokens_learns_from_local_crops_alone_and_is_exported_nowhere(
    tiny, change, take_steps, make_batches
):
    untied = change(tiny, {"model.untie_local_cls_norm": True})
    state, _ = take_steps(untied, 2)
    tied, _ = take_steps(tiny, 2)
    moved = state.student.local_cls_norm.weight - 1
    assert (moved != 0).all()
    assert not torch.equal(moved, state.student.backbone.norm.weight - 1)
    assert state.teacher.backbone.state_dict().keys() == tied.teacher.backbone.state_dict().keys()
    without, _ = take_steps(change(untied, {"dino.local_weight": 0.0}), 2)
    assert (without.student.local_cls_norm.weight == 1).all()


def test_only_the_first_step_of_an_untied_norm_is_that_of_a_common_one(tiny, change, take_steps):
    rows = [take_steps(change(tiny, {"model.untie_local_cls_norm": untied}), 3)[1] for untied in (False, True)]
    assert rows[0][0]["loss"] == rows[1][0]["loss"]
    assert rows[0][2]["loss"] != rows[1][2]["loss"]


@pytest.mark.parametrize(("kind", "learns"), [("eva", False), ("rope", True)])
def test_biases_of_keys_are_masked_unless_the_settings_free_them(tiny, change, kind, learns):
    network = filled(change(tiny, {"model.args.attn_type": kind}))
    bare = filled(tiny)
    attention = network.backbone.blocks[0].attn
    with torch.no_grad():
        for one in (bare, network):
            for block in one.backbone.blocks:
                block.gamma_1.fill_(0.5)
        assert torch.equal(encode(network.backbone, images(2, 32)).cls, encode(bare.backbone, images(2, 32)).cls)
    encode(network.backbone, images(2, 32)).patches[..., 0].square().sum().backward()
    if learns:
        queries, keys, values = attention.qkv.bias.grad.chunk(3)
        assert all(part.abs().max() > 0 for part in (queries, keys, values))
    else:
        assert attention.k_bias.grad_fn is None
        assert (attention.k_bias == 0).all()
        assert all("k_bias" not in name for name, _ in network.named_parameters())


def test_rope_is_as_precise_as_asked_for_in_training_and_exact_in_evaluations(tiny, change, take_steps, tmp_path):
    rounded = change(tiny, {"model.rope_precision": "bfloat16", "gram.weight": 1.0, "gram.start_step": 0})
    state, _ = take_steps(rounded, 1)
    kind = {"timm_name": rounded.model.name, "timm_args": backbone_args(rounded.model)}
    export(state.teacher.backbone, tmp_path / "exported", **kind)
    given = gram_teacher.read(tmp_path / "exported", rounded.gram, like=state.teacher.backbone, device=CPU)
    for backbone in (state.student.backbone, state.teacher.backbone, state.gram_teacher, given):
        assert vit.rotary(backbone, (7, 7)).dtype == torch.bfloat16
        assert backbone.rope.get_embed(shape=[7, 7]).dtype == torch.float32
    assert vit.rotary(Network(tiny).backbone, (7, 7)).dtype == torch.float32


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (recipe.Model(name="deit_small_patch16_224", rope_precision="bfloat16"), "want float32"),
        (recipe.Model(args={"class_token": False}, untie_local_cls_norm=True), "has no class token: want false"),
        (recipe.Model(name="deit_small_patch16_224", args={"attn_type": "rope"}), "does not fit deit_small"),
    ],
)
def test_a_switch_that_a_model_has_no_place_for_is_refused_in_one_line(model, said):
    with pytest.raises(BadInput, match=said) as error:
        build_backbone(model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("norm", ["common", "own"])
def test_picked_patches_and_class_tokens_are_those_of_the_whole(tiny, change, norm):
    network = filled(change(tiny, {"model.untie_local_cls_norm": norm == "own"}))
    picked, pixels = torch.tensor([17, 3, 30, 4]), images(2, 32)
    how = {"mask_token": network.mask_token, "masks": torch.arange(32).view(2, 16) % 3 == 0}
    own = network.local_cls_norm if norm == "own" else None
    whole = encode(network.backbone, pixels, **how, cls_norm=own)
    some = encode(network.backbone, pixels, **how, cls_norm=own, picked=picked)
    torch.testing.assert_close(some.cls, whole.cls)
    torch.testing.assert_close(some.patches, whole.patches.flatten(0, 1)[picked])


def test_picked_patches_send_back_what_the_whole_would(tiny):
    gradients = []
    for picked in (None, torch.tensor([17, 3])):
        network = filled(tiny)
        tokens = encode(network.backbone, images(2, 32), picked=picked)
        patches = tokens.patches.flatten(0, 1)[[17, 3]] if picked is None else tokens.patches
        (patches.square().sum() + tokens.cls.sum()).backward()
        gradients.append({name: one.grad for name, one in network.backbone.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-5)


def test_under_autocast_what_small_branches_add_is_not_rounded_away(tiny):
    network = filled(tiny).eval()
    with torch.no_grad():
        for name, weight in network.backbone.named_parameters():
            if "gamma" in name:
                weight.fill_(1e-5)
        exact = encode(network.backbone, images(2, 32)).cls
        with torch.autocast("cpu", torch.bfloat16):
            found = encode(network.backbone, images(2, 32)).cls
    apart, wanted = (one[0] - one[1] for one in (found.float(), exact))
    assert torch.cosine_similarity(apart, wanted, dim=0) > 0.9
