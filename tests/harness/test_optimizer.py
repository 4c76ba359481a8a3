"""Parameter groups of the recipe, clipping by part, and one step at the rates of that step."""

import pytest
import torch

from harness.beginning import fresh_state
from harness.model import Network
from harness.optimizer import build_optimizer, clip_gradients, descend, rate_multiplier, without_weight_decay
from harness.schedules import at


@pytest.fixture
def network(tiny):
    return fresh_state(tiny, 0, torch.device("cpu")).student


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("backbone.cls_token", 0.43679),
        ("backbone.reg_token", 0.43679),
        ("mask_token", 0.43679),
        ("backbone.patch_embed.proj.weight", 0.08736),
        ("backbone.patch_embed.proj.bias", 0.08736),
        ("backbone.blocks.0.attn.qkv.weight", 0.44570),
        ("backbone.blocks.39.mlp.fc1.weight", 0.98),
        ("backbone.norm.weight", 1.0),
        ("dino_head.mlp.0.weight", 1.0),
        ("ibot_head.prototypes.weight", 1.0),
    ],
)
def test_layer_decay_gives_the_recipes_check_values(name, expected):
    assert rate_multiplier(name, 40, layer_decay=0.98, patch_embed=0.2) == pytest.approx(expected, abs=5e-6)


def test_biases_norms_and_layer_scale_are_not_decayed_and_tokens_are(network):
    exempt = {name for name, _ in network.named_parameters() if without_weight_decay(name)}
    assert {"backbone.blocks.0.gamma_1", "backbone.blocks.1.norm2.weight", "backbone.norm.weight"} <= exempt
    assert {"backbone.blocks.0.attn.proj.bias", "dino_head.mlp.0.bias", "backbone.patch_embed.proj.bias"} <= exempt
    kept = {"backbone.cls_token", "backbone.reg_token", "mask_token", "dino_head.prototypes.weight"}
    assert kept.isdisjoint(exempt)
    assert {name for name, p in network.named_parameters() if p.ndim >= 2} & exempt == set()


def test_tokens_are_decayed_or_not_as_the_settings_say(tiny, change, network):
    tokens = {"backbone.cls_token", "backbone.reg_token", "mask_token"}
    decayed, spared = (
        {
            name
            for group in build_optimizer(network, one.optimizer).param_groups
            if group["decayed"]
            for name in group["names"]
        }
        for one in (tiny, change(tiny, {"optimizer.decay_tokens": False}))
    )
    assert decayed - spared == tokens
    assert spared <= decayed


def test_every_parameter_is_in_one_group_with_its_own_rate_and_decay(tiny, network):
    groups = build_optimizer(network, tiny.optimizer).param_groups
    placed = {name: group for group in groups for name in group["names"]}
    assert sorted(placed) == sorted(name for name, _ in network.named_parameters())
    assert sum(len(group["params"]) for group in groups) == len(placed)
    named = dict(network.named_parameters())
    for group in groups:
        assert all(named[name] is parameter for name, parameter in zip(group["names"], group["params"], strict=True))
    assert placed["backbone.norm.bias"]["weight_decay"] == 0
    assert placed["mask_token"]["weight_decay"] == tiny.optimizer.weight_decay
    assert placed["backbone.blocks.0.mlp.fc1.weight"]["multiplier"] == pytest.approx(0.98**2)
    assert [name for name, group in placed.items() if group["last_layer"]] == [
        "dino_head.prototypes.weight",
        "ibot_head.prototypes.weight",
    ]


def test_each_part_is_clipped_by_its_own_norm(network):
    sizes = {"backbone": 100.0, "mask_token": 100.0, "dino_head": 0.01, "ibot_head": 10.0}
    for name, parameter in network.named_parameters():
        parameter.grad = torch.full_like(parameter, sizes[name.split(".")[0]])
    before = {name: p.grad.clone() for name, p in network.named_parameters()}
    whole = torch.cat([g.flatten() for g in before.values()]).norm()
    small = torch.cat([g.flatten() for name, g in before.items() if name.startswith("dino_head")]).norm()
    assert small < 3 < whole
    assert clip_gradients(network, 3.0) == pytest.approx(whole.item(), rel=1e-5)
    for parts, expected in ((("backbone", "mask_token"), 3.0), (("ibot_head",), 3.0), (("dino_head",), small)):
        grads = [p.grad.flatten() for name, p in network.named_parameters() if name.split(".")[0] in parts]
        assert torch.cat(grads).norm() == pytest.approx(float(expected), rel=1e-4)


def test_no_limit_leaves_gradients_alone(network):
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 50.0)
    assert clip_gradients(network, None) > 50
    assert all((p.grad == 50).all() for p in network.parameters())


def test_a_step_moves_each_parameter_at_its_own_rate_and_clears_the_gradients(tiny, change):
    settings = change(tiny, {"optimizer.weight_decay": 0.0, "optimizer.lr": 1e-3, "optimizer.layer_decay": 0.5})
    student = Network(settings)
    optimizer = build_optimizer(student, settings.optimizer)
    before = {name: p.detach().clone() for name, p in student.named_parameters()}
    for parameter in student.parameters():
        parameter.grad = torch.ones_like(parameter)
    descend(optimizer, at(settings, 0))
    moved = {name: (before[name] - p.detach()).mean().item() for name, p in student.named_parameters()}
    # the first AdamW step is the rate itself, whatever the gradient's size
    assert moved["dino_head.mlp.0.weight"] == pytest.approx(1e-3, rel=1e-3)
    assert moved["backbone.blocks.1.attn.proj.weight"] == pytest.approx(0.5e-3, rel=1e-3)
    assert moved["mask_token"] == pytest.approx(0.125e-3, rel=1e-3)
    assert moved["backbone.patch_embed.proj.weight"] == pytest.approx(0.025e-3, rel=1e-3)
    assert all(p.grad is None for p in student.parameters())


def test_frozen_prototypes_stay_while_the_rest_moves(tiny, change, take_steps):
    settings = change(tiny, {"optimizer.freeze_last_layer_steps": 2})
    start = fresh_state(settings, 0, torch.device("cpu")).student
    frozen, _ = take_steps(settings, 2)
    for head in ("dino_head", "ibot_head"):
        theirs, mine = getattr(frozen.student, head), getattr(start, head)
        assert torch.equal(theirs.prototypes.weight, mine.prototypes.weight)
        assert not torch.equal(theirs.mlp[0].weight, mine.mlp[0].weight)
    free, _ = take_steps(settings, 1, state=frozen)
    assert not torch.equal(free.student.dino_head.prototypes.weight, start.dino_head.prototypes.weight)


def backbones(state):
    return {
        f"{name}.{key}": tensor.clone()
        for name in ("student", "teacher")
        for key, tensor in (
            *getattr(state, name).backbone.state_dict().items(),
            ("mask", getattr(state, name).mask_token),
            ("local norm", getattr(state, name).local_cls_norm.weight),
        )
    }


def test_a_frozen_backbone_stays_to_the_last_bit_with_its_ema_while_the_heads_learn(tiny, change, take_steps, same):
    values = {"optimizer.freeze_backbone_steps": 2, "teacher.momentum": 0.3, "model.untie_local_cls_norm": True}
    settings = change(tiny, values)
    state = fresh_state(settings, 0, torch.device("cpu"))
    with torch.no_grad():
        state.student.mask_token.add_(0.5)  # so that an EMA that went on would move its teacher
        for parameter in state.student.backbone.parameters():
            parameter.add_(0.01)
    before, heads = backbones(state), state.student.dino_head.mlp[0].weight.clone()
    frozen, _ = take_steps(settings, 2, state=state)
    assert same(backbones(frozen), before)
    assert not torch.equal(frozen.student.dino_head.mlp[0].weight, heads)
    assert not torch.equal(frozen.teacher.dino_head.mlp[0].weight, heads)
    free, _ = take_steps(settings, 1, state=frozen)
    moved = backbones(free)
    assert [key for key in before if "mask" not in key and torch.equal(moved[key], before[key])] == []


def test_a_released_backbone_has_moments_of_its_own_steps_alone(tiny, change, take_steps):
    settings = change(tiny, {"optimizer.freeze_backbone_steps": 2})
    state, _ = take_steps(settings, 3)
    taken = {
        name: int(state.optimizer.state[parameter]["step"])
        for group in state.optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    }
    assert {steps for name, steps in taken.items() if "_head." in name} == {3}
    assert {steps for name, steps in taken.items() if "_head." not in name} == {1}


def test_the_backbone_has_a_rate_factor_of_its_own(tiny, change, network):
    plain, slow = (
        {
            name: group["multiplier"]
            for group in build_optimizer(network, one.optimizer).param_groups
            for name in group["names"]
        }
        for one in (tiny, change(tiny, {"optimizer.backbone_lr": 0.1}))
    )
    for name, factor in slow.items():
        assert factor == pytest.approx(plain[name] * (1.0 if "_head." in name else 0.1)), name
