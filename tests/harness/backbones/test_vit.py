"""The contract of a student, over timm's families: positions, masks, prefix tokens, branches, groups, exports."""

import pytest
import torch
from timm.models.eva import Eva
from torch import nn

from common.errors import BadInput
from evals.backbones import addresses
from evals.backbones.backbone import wrap
from evals.backbones.exported import export
from harness import gram_teacher, recipe
from harness.backbones import vit
from harness.backbones.vit import lacking, positions
from harness.beginning import fresh_state
from harness.cost import forward_flops, step_cost
from harness.losses.gram import Gram
from harness.memory import sizes
from harness.model import (
    Network,
    backbone_args,
    build_backbone,
    encode,
    initialise,
    patch_embed_bound,
    patch_size,
    sizes_of,
)
from harness.noise import BlockDraw
from harness.optimizer import build_optimizer

CPU = torch.device("cpu")
SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 2}
MODELS = {
    "DINOv2 with registers": ("vit_small_patch14_reg4_dinov2", {**SMALL, "img_size": 56, "init_values": 0.5}),
    "DeiT": ("deit_small_patch16_224", {**SMALL, "img_size": 64}),
    "CLIP": ("vit_base_patch32_clip_224", {**SMALL, "img_size": 64, "patch_size": 8}),
    "SigLIP, no class token": ("vit_base_patch16_siglip_224", {**SMALL, "img_size": 64}),
    "registers alone": ("vit_medium_patch16_reg4_gap_256", {**SMALL, "img_size": 64, "patch_size": 8}),
    "DINOv3": ("vit_small_patch16_dinov3", {**SMALL, "patch_size": 8, "init_values": 0.5}),
    "DINOv3 without a class token": ("vit_small_patch16_dinov3", {**SMALL, "patch_size": 8, "class_token": False}),
    "EVA-02, table and rotary": ("eva02_small_patch14_224", {**SMALL, "img_size": 56}),
    "rotary with registers alone": ("vit_medium_patch16_rope_reg1_gap_256", {**SMALL, "patch_size": 8}),
}
ROTARY = {"DINOv3", "DINOv3 without a class token"}
TABLES = [kind for kind in MODELS if kind not in ROTARY and "rotary with" not in kind]


def images(count: int, side: int, *, number: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(number))


def model_of(kind: str) -> recipe.Model:
    name, args = MODELS[kind]
    return recipe.Model(name=name, args=args)


@pytest.fixture
def experiment(tiny, change):
    """The tiny experiment with another student: crops of four and two patches a side."""

    def make(kind: str):
        patch = sizes_of(model_of(kind)).patch
        crops = {"crops.global_size": 4 * patch, "crops.local_size": 2 * patch, "evals.size": 4 * patch}
        name, args = MODELS[kind]
        return change(
            tiny, {"model": recipe.Model(name=name, args={"patch_size": patch, **args}), "data.batch_size": 2, **crops}
        )

    return make


@pytest.fixture
def network(experiment, stirred):
    """A network whose every weight differs from its neutral value, so that a forgotten part shows."""

    def make(kind: str) -> Network:
        return stirred(experiment(kind))

    return make


@pytest.mark.parametrize("side", [4, 2, 5])
@pytest.mark.parametrize("kind", MODELS)
def test_features_are_timms_own_where_nothing_is_masked(network, kind, side):
    backbone = network(kind).backbone.eval()
    pixels = images(2, side * patch_size(backbone))
    with torch.no_grad():
        tokens, theirs = encode(backbone, pixels), backbone.forward_features(pixels)
        pooled = backbone(pixels)
    # of blocks with rotary positions the rotation and LayerScale are ours, and round otherwise
    exact = {"rtol": 0, "atol": 1e-5 if isinstance(backbone, Eva) else 0}
    torch.testing.assert_close(tokens.patches, theirs[:, backbone.num_prefix_tokens :], **exact)
    torch.testing.assert_close(tokens.cls, pooled, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_heads_see_what_evaluations_judge(network, kind):
    backbone = network(kind).backbone.eval()
    pixels = images(2, 4 * patch_size(backbone))
    with torch.no_grad():
        tokens, seen = encode(backbone, pixels), wrap(backbone, name=kind, mean=(0, 0, 0), std=(1, 1, 1))(pixels)
    torch.testing.assert_close(tokens.cls, seen.pooled, rtol=0, atol=1e-5)
    torch.testing.assert_close(tokens.patches, seen.patches.flatten(2).mT, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_a_masked_patch_is_unseen_and_keeps_its_place(network, kind):
    net = network(kind).eval()
    patch, masks = patch_size(net.backbone), torch.zeros(2, 16, dtype=torch.bool)
    masks[0, 5] = True  # row 1, column 1 of the 4 x 4 grid
    pixels = images(2, 4 * patch)
    changed = pixels.clone()
    changed[:, :, patch : 2 * patch, patch : 2 * patch] += 1
    with torch.no_grad():
        before, after = (encode(net.backbone, x, mask_token=net.mask_token, masks=masks) for x in (pixels, changed))
        net.mask_token.add_(torch.linspace(-1, 1, net.mask_token.shape[-1]))  # a constant is lost on CLIP's first norm
        other = encode(net.backbone, pixels, mask_token=net.mask_token, masks=masks)
    assert torch.equal(before.patches[0], after.patches[0])
    assert torch.equal(before.cls[0], after.cls[0])
    assert not torch.allclose(before.patches[1], after.patches[1], atol=1e-3)
    assert (other.patches - before.patches).norm(dim=-1)[0].argmax().item() == 5
    assert torch.equal(other.patches[1], before.patches[1])


@pytest.mark.parametrize("kind", MODELS)
def test_two_sizes_of_crops_send_a_gradient_to_every_parameter(network, kind):
    net = network(kind)
    patch, masks = patch_size(net.backbone), torch.zeros(2, 16, dtype=torch.bool)
    masks[:, 3] = True
    whole = encode(net.backbone, images(2, 4 * patch), mask_token=net.mask_token, masks=masks)
    local = encode(net.backbone, images(2, 2 * patch))
    seen = net.dino_head(whole.cls), net.dino_head(local.cls), net.ibot_head(whole.patches)
    torch.stack([scores.logits().square().sum() for scores in seen]).sum().backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert without == []


@pytest.mark.parametrize("kind", TABLES)
def test_positions_move_with_the_grid_and_stay_where_they_were_learnt(network, kind):
    backbone = network(kind).backbone
    grid = backbone.patch_embed.grid_size
    assert positions(backbone, grid) is backbone.pos_embed
    prefix = 0 if backbone.no_embed_class else backbone.num_prefix_tokens
    half = positions(backbone, (grid[0] // 2, grid[1] // 2))
    assert half.shape[1] == prefix + grid[0] * grid[1] // 4
    assert torch.equal(half[:, :prefix], backbone.pos_embed[:, :prefix])
    # by the centres of the patches: a table that rises in a line goes on rising in one, at half the grid
    ramp = torch.arange(grid[0], dtype=torch.float32).repeat_interleave(grid[1])
    with torch.no_grad():
        backbone.pos_embed[:, prefix:] = ramp[None, :, None]
    middle = positions(backbone, (grid[0] // 2, grid[1] // 2))[0, prefix:, 0].view(grid[0] // 2, -1)
    torch.testing.assert_close(middle.mean(), ramp.mean())
    assert (middle.diff(dim=0) > 1).all()


@pytest.mark.parametrize("kind", MODELS)
def test_a_skipped_branch_leaves_a_crop_as_it_was_and_kept_ones_count_for_all(network, kind):
    backbone = network(kind).backbone.eval()
    pixels, kept = images(3, 4 * patch_size(backbone)), torch.tensor([0, 2])
    skips = [BlockDraw(None, kept, kept[1:]), *(BlockDraw(None, kept[:1], kept) for _ in backbone.blocks[1:])]
    with torch.no_grad():
        found = encode(backbone, pixels, draws=skips).patches
        grid = (4, 4)
        x = backbone.norm_pre(vit.with_prefix(backbone, backbone.patch_embed(pixels).flatten(1, 2), grid))
        for block, draw in zip(backbone.blocks, skips, strict=True):
            branches = vit.branches(block, vit.rotary(backbone, grid))
            for branch, counted in zip(branches, (draw.attention, draw.mlp), strict=True):
                factor = torch.zeros(3, 1, 1)
                factor[counted] = 3 / len(counted)
                x = x + factor * branch(x)
        expected = backbone.norm(x)[:, backbone.num_prefix_tokens :]
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_initialisation_forgets_no_parameter_and_follows_the_recipe(experiment, kind):
    net = Network(experiment(kind))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(float("nan"))
    initialise(net, torch.Generator().manual_seed(0))
    values = {name: p.detach() for name, p in net.named_parameters()}
    assert [name for name, value in values.items() if not value.isfinite().all()] == []
    bound = patch_embed_bound(net.backbone)
    assert 0.8 * bound < values["backbone.patch_embed.proj.weight"].abs().max() <= bound
    scale = vit.layer_scale(net.backbone)
    for name, value in values.items():
        if "norm" in name and name.endswith("weight"):
            assert (value == 1).all(), name
        if "gamma" in name:
            assert (value == scale).all(), name
        if "pos_embed" in name:
            assert value.std() == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize("kind", MODELS)
def test_what_comes_before_the_blocks_has_the_rate_of_the_first_layer(experiment, kind):
    settings = experiment(kind)
    net = Network(settings)
    groups = build_optimizer(net, settings.optimizer).param_groups
    placed = {name: group for group in groups for name in group["names"]}
    assert sorted(placed) == sorted(name for name, _ in net.named_parameters())
    first = settings.optimizer.layer_decay**3
    for name, group in placed.items():
        part = name.split(".")[1] if name.startswith("backbone") else name
        if part in ("cls_token", "reg_token", "pos_embed", "norm_pre", "mask_token"):
            assert group["multiplier"] == pytest.approx(first), name
        if part == "patch_embed":
            assert group["multiplier"] == pytest.approx(first * settings.optimizer.patch_embed_lr)
        if part == "blocks":
            block = int(name.split(".")[2])
            assert group["multiplier"] == pytest.approx(settings.optimizer.layer_decay ** (2 - block))
        if part in ("pos_embed", "cls_token", "reg_token", "mask_token"):
            assert group["decayed"], name
        if "norm" in name or name.endswith("bias") or "gamma" in name:
            assert not group["decayed"], name


@pytest.mark.parametrize("kind", MODELS)
def test_it_trains_and_its_export_gives_evaluations_the_same_features(experiment, take_steps, tmp_path, kind):
    settings = experiment(kind)
    state, rows = take_steps(settings, 2)
    assert all(torch.isfinite(torch.tensor(list(row.values()))).all() for row in rows)
    backbone = state.teacher.backbone
    export(backbone, tmp_path / "out", timm_name=settings.model.name, timm_args=backbone_args(settings.model))
    again = addresses.load(str(tmp_path / "out"))
    pixels = images(2, 3 * patch_size(backbone)).sigmoid()
    own = wrap(backbone, name="own")(pixels)
    for one, other in zip(again(pixels), own, strict=True):
        assert torch.equal(one, other)


def test_a_gram_teacher_of_another_family_is_anchored_to(experiment, take_steps, tmp_path, change):
    given = experiment("CLIP")
    backbone = fresh_state(given, 3, CPU).teacher.backbone
    export(backbone, tmp_path / "clip", timm_name=given.model.name, timm_args=backbone_args(given.model))
    settings = change(
        experiment("DINOv3"),
        {"gram": Gram(weight=1.0, start_step=0, teacher="checkpoint", checkpoint=str(tmp_path / "clip"))},
    )
    state = fresh_state(settings, 0, CPU)
    state.gram_teacher = gram_teacher.read(tmp_path / "clip", settings.gram, like=state.teacher.backbone, device=CPU)
    before = state.gram_teacher.pos_embed.clone()
    state, rows = take_steps(settings, 2, state=state)
    assert rows[0]["gram"] > 0
    assert torch.equal(before, state.gram_teacher.pos_embed)


@pytest.mark.parametrize("kind", MODELS)
def test_memory_and_operations_are_counted_without_a_weight(experiment, kind):
    settings = experiment(kind)
    backbone = build_backbone(settings.model)
    numbers = sizes(settings)
    assert numbers["model.args.num_reg_tokens"] + 1 == backbone.num_prefix_tokens
    cost = step_cost(settings, gram=False)
    assert cost.memory > 4 * sum(p.numel() * 4 for p in backbone.parameters())
    assert cost.flops > 4 * forward_flops(settings, settings.crops.global_size) > 0


def test_a_model_that_is_no_vision_transformer_says_what_it_lacks():
    assert lacking(nn.Linear(2, 2)) == (
        "timm's Linear lacks an embedding of patches, tokens of all patches in one row, one list of blocks, "
        "a final norm"
    )
    with pytest.raises(BadInput, match="one list of blocks; want a plain vision transformer of timm"):
        build_backbone(recipe.Model(name="swin_tiny_patch4_window7_224"))
