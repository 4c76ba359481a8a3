"""The student's forward pass against one in plain numpy and float64, written from the recipe alone (§1 of it).

DINOv3, arXiv 2508.10104 §3.2: masks, class token, registers, rotary positions with a draw, pre-norm blocks with
LayerScale, batch-wise stochastic depth, a final norm. Everything is on at once and no weight has its neutral value.
"""

import math

import numpy as np
import pytest
import torch

from harness.model import encode
from harness.noise import BlockDraw
from harness.rope import RopeDraw

PATCH, HEADS = 8, 2
DRAWS = [
    BlockDraw(RopeDraw((0.1, -0.2), (1.5, 0.75)), torch.tensor([0, 2]), torch.tensor([1])),
    BlockDraw(None, None, torch.tensor([0, 1])),
]


def norm(x, weight, bias, eps=1e-5):  # of "layernormbf16", which released models have
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * weight + bias


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def embedded(w, images):
    """Patches in rows: each a product of its pixels with the kernel."""
    count, _, height, width = images.shape
    patches = [
        images[:, :, y : y + PATCH, x : x + PATCH].reshape(count, -1)
        for y in range(0, height, PATCH)
        for x in range(0, width, PATCH)
    ]
    kernel = w["patch_embed.proj.weight"].reshape(len(w["patch_embed.proj.bias"]), -1)
    return np.stack(patches, 1) @ kernel.T + w["patch_embed.proj.bias"]


def angles(grid, size, draw):
    """[P, size]: the row's angles, the column's, and both again."""
    periods = [100 ** (2 * j / (size / 2)) for j in range(size // 4)]
    rows = []
    for place in np.ndindex(*grid):
        both = []
        for axis in range(2):
            coordinate = 2 * (place[axis] + 0.5) / grid[axis] - 1
            if draw is not None:
                coordinate = (coordinate + draw.shift[axis]) * draw.factor[axis]
            both += [2 * math.pi * coordinate / period for period in periods]
        rows.append(both + both)
    return np.array(rows)


def turned(x, angle, prefix):
    """Queries or keys [..., T, d] of patches turned by their angles, half against half; others as they are."""
    own = x[..., prefix:, :]
    first, second = np.split(own, 2, -1)
    rotated = own * np.cos(angle) + np.concatenate([-second, first], -1) * np.sin(angle)
    return np.concatenate([x[..., :prefix, :], rotated], -2)


def attention(w, x, angle, prefix):
    count, tokens, width = x.shape
    bias = np.concatenate([w["attn.q_bias"], np.zeros(width), w["attn.v_bias"]])  # the keys' is masked
    parts = np.split(x @ w["attn.qkv.weight"].T + bias, 3, -1)
    q, k, v = (part.reshape(count, tokens, HEADS, -1).transpose(0, 2, 1, 3) for part in parts)
    q, k = turned(q, angle, prefix), turned(k, angle, prefix)
    scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(width / HEADS)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = (shares / shares.sum(-1, keepdims=True)) @ v
    return mixed.transpose(0, 2, 1, 3).reshape(count, tokens, width) @ w["attn.proj.weight"].T + w["attn.proj.bias"]


def mlp(w, x):
    return gelu(x @ w["mlp.fc1.weight"].T + w["mlp.fc1.bias"]) @ w["mlp.fc2.weight"].T + w["mlp.fc2.bias"]


def skipping(x, kept, branch):
    """Stochastic depth: the kept crops alone have the branch, each with the weight of all."""
    rows = np.arange(len(x)) if kept is None else kept.numpy()
    found = x.copy()
    found[rows] += branch(x[rows]) * len(x) / len(rows)
    return found


def plain(weights, images, draws, *, mask_token=None, masks=None):
    """Class tokens [B, D] and patches [B, P, D]."""
    w = {name: tensor.double().numpy() for name, tensor in weights.items()}
    x = embedded(w, images.double().numpy())
    if masks is not None:
        x = np.where(masks.numpy()[..., None], mask_token.double().numpy(), x)
    before = [np.broadcast_to(w[name], (len(x), *w[name].shape[1:])) for name in ("cls_token", "reg_token")]
    x, prefix = np.concatenate([*before, x], 1), sum(one.shape[1] for one in before)
    grid = (images.shape[2] // PATCH, images.shape[3] // PATCH)
    for number, draw in enumerate(draws):
        own = {n.removeprefix(f"blocks.{number}."): v for n, v in w.items() if n.startswith(f"blocks.{number}.")}
        angle = angles(grid, x.shape[-1] // HEADS, draw.rope)
        x = skipping(
            x,
            draw.attention,
            lambda y, own=own, angle=angle: (
                own["gamma_1"] * attention(own, norm(y, own["norm1.weight"], own["norm1.bias"]), angle, prefix)
            ),
        )
        x = skipping(
            x,
            draw.mlp,
            lambda y, own=own: own["gamma_2"] * mlp(own, norm(y, own["norm2.weight"], own["norm2.bias"])),
        )
    x = norm(x, w["norm.weight"], w["norm.bias"])
    return torch.from_numpy(x[:, 0]), torch.from_numpy(x[:, prefix:])


@pytest.fixture(scope="module")
def network(tiny, stirred):
    return stirred(tiny)


@pytest.mark.parametrize(("shape", "masked"), [((32, 32), True), ((16, 16), False), ((24, 40), True)])
@torch.no_grad()
def test_the_backbone_is_the_recipes_within_a_hundred_thousandth(network, shape, masked):
    draws = torch.Generator().manual_seed(2)
    images = torch.randn(3, 3, *shape, generator=draws)
    patches = shape[0] * shape[1] // PATCH**2
    hidden = (
        {"mask_token": network.mask_token, "masks": torch.rand(3, patches, generator=draws) < 0.4} if masked else {}
    )
    found = encode(network.backbone, images, draws=DRAWS, **hidden)
    cls, wanted = plain(network.backbone.state_dict(), images, DRAWS, **hidden)
    torch.testing.assert_close(found.cls.double(), cls, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.patches.double(), wanted, rtol=0, atol=1e-5)
    still = plain(network.backbone.state_dict(), images, [BlockDraw(None, None, None)] * 2, **hidden)[1]
    assert (still - wanted).abs().max() > 0.1  # the draws are seen


@torch.no_grad()
def test_the_heads_are_the_recipes_within_a_hundred_thousandth(network, tiny):
    """Three linear layers with GELU, unit length, prototypes without bias and as long as they are (§1.7)."""
    tokens = torch.randn(7, tiny.model.args["embed_dim"], generator=torch.Generator().manual_seed(3))
    for head in (network.dino_head, network.ibot_head):
        w = {name: tensor.double().numpy() for name, tensor in head.state_dict().items()}
        x = tokens.double().numpy()
        for layer in (0, 2, 4):
            x = (x if layer == 0 else gelu(x)) @ w[f"mlp.{layer}.weight"].T + w[f"mlp.{layer}.bias"]
        wanted = x / np.sqrt((x**2).sum(-1, keepdims=True)) @ w["prototypes.weight"].T
        torch.testing.assert_close(head(tokens).logits().double(), torch.from_numpy(wanted), rtol=0, atol=1e-5)
