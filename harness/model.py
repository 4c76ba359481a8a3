"""Student, EMA teacher and Gram teacher: a timm backbone of the DINOv3 family, a mask token and two heads around it.

The backbone stays timm's own; `encode` walks its parts in order, because masks, keyed RoPE draws and batch-wise
stochastic depth have no entry in timm's forward. Sections are those of DINOv3 (arXiv 2508.10104).
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from timm.layers.pos_embed_sincos import RotaryEmbeddingDinoV3
from timm.models.eva import Eva
from torch import Tensor, nn

from common.errors import BadInput, first_line
from common.schema import shown
from harness import recipe, settings
from harness.losses.head import Head
from harness.noise import BlockDraw, Draws
from harness.rope import rope_table


class Tokens(NamedTuple):
    """Tokens after the final norm: CLS [B, D], patches [B, P, D] in row-major order."""

    cls: Tensor
    patches: Tensor


class ProjectionHead(nn.Module):
    """Three linear layers with GELU, unit-length bottleneck, prototypes without bias (§3.2).

    `unit_prototypes` scales every prototype to unit length at each forward, so that logits are cosines; the paper's
    heads leave them free, small models on small data need it to leave the uniform solution.
    """

    def __init__(self, dim: int, head: Head):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(dim, head.hidden),
            nn.GELU(),
            nn.Linear(head.hidden, head.hidden),
            nn.GELU(),
            nn.Linear(head.hidden, head.bottleneck),
        )
        self.prototypes = nn.Linear(head.bottleneck, head.prototypes, bias=False)
        self.unit_prototypes = head.unit_prototypes

    def forward(self, tokens: Float[Tensor, "... D"]) -> Float[Tensor, "... K"]:
        """Logits of tokens against the prototypes."""
        x = F.normalize(self.mlp(tokens), dim=-1, eps=1e-12 if tokens.dtype != torch.float16 else 1e-6)
        weight = self.prototypes.weight
        return F.linear(x, F.normalize(weight, dim=-1) if self.unit_prototypes else weight)


class Network(nn.Module):
    """Backbone, mask token, DINO head on CLS, iBOT head on patches: what the student is and the teacher follows."""

    def __init__(self, experiment: settings.Experiment):
        super().__init__()
        self.backbone = build_backbone(experiment.model)
        dim = self.backbone.embed_dim
        self.mask_token = nn.Parameter(torch.zeros(1, dim))
        self.dino_head = ProjectionHead(dim, experiment.dino.head)
        self.ibot_head = ProjectionHead(dim, experiment.ibot.head)


def backbone_args(model: recipe.Model) -> dict[str, Any]:
    """The keyword arguments that `timm.create_model` gets, CLS pooling included."""
    return {"global_pool": "token", **model.args}


def build_backbone(model: recipe.Model) -> Eva:
    """A timm backbone with random weights. Raises `BadInput` for a name or arguments that do not make a DINOv3 ViT."""
    family = timm.list_models("vit*dinov3*")
    near = ", ".join(difflib.get_close_matches(model.name, family, n=3) or family[:3])
    refusal = f"model.name={model.name!r}: want a ViT of timm's DINOv3 family (RoPE, CLS), such as {near}"
    if model.name.partition(".")[0] not in family:
        raise BadInput(refusal)
    try:
        backbone = timm.create_model(model.name, pretrained=False, num_classes=0, **backbone_args(model))
    except (TypeError, AssertionError, ValueError, ArithmeticError, RuntimeError) as error:
        why = f"model.args={shown(model.args)} does not fit {model.name}: {first_line(error)}; correct them"
        raise BadInput(why) from error
    if not isinstance(backbone, Eva) or not isinstance(backbone.rope, RotaryEmbeddingDinoV3):
        raise BadInput(refusal)
    heads = cast(Any, backbone.blocks[0]).attn.num_heads
    if backbone.embed_dim % (4 * heads):
        near = 4 * heads * max(1, round(backbone.embed_dim / (4 * heads)))
        raise BadInput(
            f"model.args: embed_dim={backbone.embed_dim} with num_heads={heads}: want a multiple of 4 · heads, since "
            f"RoPE turns quarters of a head; try embed_dim={near}"
        )
    return backbone


class Sizes(NamedTuple):
    """Of a backbone: channels, blocks, tokens beside the patches, pixels of a patch's side."""

    width: int
    depth: int
    prefix: int
    patch: int


def sizes_of(model: recipe.Model) -> Sizes:
    """A backbone's sizes, without taking its memory. Raises `BadInput` as `build_backbone` does."""
    return _sizes_of(json.dumps(dataclasses.asdict(model)))


@functools.cache
def _sizes_of(model: str) -> Sizes:
    with torch.device("meta"):
        backbone = build_backbone(recipe.Model(**json.loads(model)))
    return Sizes(backbone.embed_dim, len(backbone.blocks), backbone.num_prefix_tokens, patch_size(backbone))


def patch_size(backbone: Eva) -> int:
    """Side of a patch in pixels."""
    return int(cast(Any, backbone.patch_embed).patch_size[0])


def initialise(network: Network, generator: torch.Generator) -> None:
    """Fill every parameter in place (§3.2): truncated normal 0.02, zero biases and mask token, unit norms."""
    layer_scale = cast(Any, network.backbone.blocks[0]).init_values
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if "patch_embed" in name:
                bound = patch_embed_bound(network.backbone)
                parameter.uniform_(-bound, bound, generator=generator)
            elif leaf.startswith("gamma"):
                parameter.fill_(layer_scale)
            elif "norm" in name:
                parameter.fill_(1.0 if leaf == "weight" else 0.0)
            elif leaf.endswith("bias") or leaf == "mask_token":
                parameter.zero_()
            else:
                nn.init.trunc_normal_(parameter, std=0.02, generator=generator)


def patch_embed_bound(backbone: Eva) -> float:
    """Bound of the uniform start of the patch embedding: one over the root of its fan-in."""
    weight = backbone.patch_embed.proj.weight
    return weight[0].numel() ** -0.5


def encode(
    backbone: Eva,
    images: Float[Tensor, "B 3 H W"],
    *,
    mask_token: Float[Tensor, "1 D"] | None = None,
    masks: Bool[Tensor, "B P"] | None = None,
    draws: Draws | None = None,
) -> Tokens:
    """Tokens of a batch of normalised images; masked patches are replaced by the mask token before the blocks."""
    x = backbone.patch_embed(images)
    grid = (x.shape[1], x.shape[2])
    x = x.flatten(1, 2)
    if masks is not None and mask_token is not None:
        x = torch.where(masks[..., None], mask_token.to(x.dtype), x)
    prefix = [t.expand(len(x), -1, -1).to(x.dtype) for t in (backbone.cls_token, backbone.reg_token) if t is not None]
    x = backbone.norm_pre(torch.cat([*prefix, x], dim=1))
    periods = cast(Any, backbone.rope).periods
    plain = rope_table(periods, grid)
    for i, block in enumerate(cast(list[Any], backbone.blocks)):
        draw = draws[i] if draws else BlockDraw(None, None, None)
        rope = plain if draw.rope is None else rope_table(periods, grid, draw.rope)
        x = _residual(x, draw.attention, lambda y, b=block, r=rope: _scaled(b.gamma_1, b.attn(b.norm1(y), rope=r)))
        x = _residual(x, draw.mlp, lambda y, b=block: _scaled(b.gamma_2, b.mlp(b.norm2(y))))
    x = backbone.norm(x)
    return Tokens(x[:, 0], x[:, backbone.num_prefix_tokens :])


def _scaled(gamma: Tensor | None, y: Tensor) -> Tensor:
    return y if gamma is None else gamma * y


def _residual(x: Tensor, kept: Tensor | None, branch: Callable[[Tensor], Tensor]) -> Tensor:
    """Stochastic depth over the batch: only the kept samples are computed, and count for all (2304.07193 §5)."""
    if kept is None:
        return x + branch(x)
    y = branch(x[kept])
    return x.index_add(0, kept, y.to(x.dtype), alpha=len(x) / len(kept))
