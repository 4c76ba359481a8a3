"""The branches of DINOv3's blocks: what timm's modules give, with their gradients."""

import pytest
import torch
from timm.models.eva import EvaBlock

from harness.backbones import eva

WIDTH, HEADS, PATCHES = 32, 2, 9
KINDS = {
    "DINOv3": {},
    "with a bias of its own": {"qkv_fused": False},
    "normalised queries": {"qk_norm": True},
    "SwiGLU": {"swiglu_mlp": True},
    "a norm in the MLP": {"scale_mlp": True},
    "without LayerScale": {"init_values": None},
    "turned by pairs": {"rotate_half": False},
}


def block(**how):
    how = {"init_values": 0.3, "num_prefix_tokens": 2, "rotate_half": True, "mlp_ratio": 2, **how}
    made = EvaBlock(WIDTH, HEADS, **how).double()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(std=0.3, generator=draw)
    return made


def draws(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def both(made, x, rope):
    """The branches by timm's modules and by ours."""
    scales = [1.0 if one is None else one for one in (made.gamma_1, made.gamma_2)]
    plain = scales[0] * made.attn(made.norm1(x), rope=rope), scales[1] * made.mlp(made.norm2(x))
    return plain, (eva.attention(made, x, rope=rope), eva.mlp(made, x))


@pytest.mark.parametrize("kind", KINDS)
def test_branches_and_their_gradients_are_those_of_timms_modules(kind):
    made, x = block(**KINDS[kind]), draws(3, 2 + PATCHES, WIDTH, seed=1).requires_grad_()
    angles = draws(PATCHES, WIDTH // HEADS // 2, seed=2).tile(2)
    rope, by = torch.cat([angles.sin(), angles.cos()], -1), draws(3, 2 + PATCHES, WIDTH, seed=3)
    weights = [x, *made.parameters()]
    for plain, ours in zip(*both(made, x, rope), strict=True):
        torch.testing.assert_close(ours, plain)
        want, got = (torch.autograd.grad((y * by).sum(), weights, allow_unused=True) for y in (plain, ours))
        for one, other in zip(want, got, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(other, one)


def kept(branch, x, weights):
    """How many numbers a branch keeps for its gradient, but for those that are there anyway: its input and weights."""
    places, there = dict[int, int](), {one.untyped_storage().data_ptr() for one in (x, *weights)}

    def note(tensor):
        places[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // tensor.itemsize
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        made = branch(x)
    assert made.requires_grad
    return sum(numbers for place, numbers in places.items() if place not in there)


def test_of_a_step_a_branch_keeps_its_products_alone():
    made, x = block(mlp_ratio=4), draws(3, 2 + PATCHES, WIDTH, seed=1).requires_grad_()
    tokens, weights = x.shape[0] * x.shape[1], [*made.parameters()]
    angles = draws(PATCHES, WIDTH // HEADS // 2, seed=2).tile(2)
    rope = torch.cat([angles.sin(), angles.cos()], -1)
    statistics, turns = 2 * tokens, 2 * (2 + PATCHES) * WIDTH // HEADS
    assert kept(lambda x: eva.mlp(made, x), x, weights) == 4 * WIDTH * tokens + statistics
    sums, scaled = HEADS * tokens, WIDTH * WIDTH  # of the softmax; the last layer's weights times LayerScale
    bound = 4 * WIDTH * tokens + statistics + turns + sums + scaled
    assert kept(lambda x: eva.attention(made, x, rope=rope), x, weights) <= bound


def test_under_autocast_they_stay_near_those_of_timms_modules():
    made, x = block().float(), draws(3, 2 + PATCHES, WIDTH, seed=1).float()
    angles = draws(PATCHES, WIDTH // HEADS // 2, seed=2).tile(2).float()
    with torch.autocast("cpu", torch.bfloat16):
        plain, ours = both(made, x, torch.cat([angles.sin(), angles.cos()], -1))
    for one, other in zip(plain, ours, strict=True):
        assert other.dtype == one.dtype == torch.float32  # so that what is added to the tokens is not rounded away
        torch.testing.assert_close(other, one, rtol=0.05, atol=0.05)


TRANSFORMED = {
    "grad": lambda branch, x: torch.func.grad(lambda x: branch(x).square().sum())(x),
    "vmap": lambda branch, x: torch.vmap(branch)(x),
}


@pytest.mark.parametrize("transform", TRANSFORMED.values(), ids=TRANSFORMED)
def test_branches_are_transformed_as_timms_modules_are(transform):
    made, x = block(), draws(3, 2 + PATCHES, WIDTH, seed=1)
    found = transform(lambda x: eva.mlp(made, x), x)
    torch.testing.assert_close(found, transform(lambda x: made.gamma_2 * made.mlp(made.norm2(x)), x))


def test_without_positions_an_attention_is_timms():
    made, x = block(), draws(3, 2 + PATCHES, WIDTH, seed=1)
    torch.testing.assert_close(eva.attention(made, x, rope=None), made.gamma_1 * made.attn(made.norm1(x)))
