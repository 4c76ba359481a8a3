"""Student, EMA teacher and Gram teacher: a backbone of timm, a mask token and two heads around it.

The backbone stays timm's own; `encode` walks its parts in order, because masks, keyed RoPE draws and batch-wise
stochastic depth have no entry in timm's forward. What it asks of a backbone is told in `harness/backbones/vit.py`; a
ConvNeXt, which has none of these, is in `harness/backbones/convnext.py`. Sections: DINOv3, arXiv 2508.10104.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from contextlib import nullcontext
from copy import deepcopy
from functools import cache, partial
from typing import Any, NamedTuple, cast

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from common.errors import BadInput, first_line
from common.on_meta import on_meta
from common.products import fast_linear
from common.schema import shown
from evals.backbones.timm_models import create, vit_args
from harness import recipe, settings
from harness.backbones import convnext, vit
from harness.backbones.compiled import COMPILED
from harness.backbones.convnext import Encoder, patch_size
from harness.backbones.released import settled
from harness.backbones.vit import Branch, Vit
from harness.losses.cross_entropy import Scores
from harness.losses.head import Head
from harness.losses.precision import as_multiplied
from harness.noise import BlockDraw, Draws
from harness.shards import within

# No draws are made inside, and products must be those of the way forwards
RECOMPUTED = {"use_reentrant": False, "preserve_rng_state": False, "context_fn": lambda: (nullcontext(), fast_linear())}
FAMILIES = ["*vit*", "*eva*", "*deit*", "*convnext*"]  # of timm, among which a name is looked for that was likely meant


class Tokens(NamedTuple):
    """Tokens after the final norm: CLS [B, D], patches [B, P, D] in row-major order, or [M, D] where some were picked.

    A backbone without a class token has the mean of its patches in place of it, for heads, KoLeo and evaluations alike.
    """

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

    def forward(self, tokens: Float[Tensor, "... D"]) -> Scores:
        """What the logits of tokens against the prototypes are the product of, in the type that it is taken in."""
        x = F.normalize(self.mlp(tokens), dim=-1, eps=1e-12 if tokens.dtype != torch.float16 else 1e-6)
        x, weight = as_multiplied(x), self.prototypes.weight
        weight = F.normalize(weight, dim=-1) if self.unit_prototypes else weight
        return Scores(x, weight, weight.detach().to(x.dtype))


class Network(nn.Module):
    """Backbone, mask token, DINO head on CLS, iBOT head on patches: what the student is and the teacher follows.

    local_cls_norm: the final norm of local crops' class tokens where they have one of their own (recipe §1.1).
    """

    def __init__(self, experiment: settings.Experiment):
        super().__init__()
        self.backbone = build_backbone(experiment.model)
        _refuse_masks(experiment, self.backbone)
        dim = convnext.width(self.backbone)
        self.mask_token = nn.Parameter(torch.zeros(1, dim))
        self.dino_head = ProjectionHead(dim, experiment.dino.head)
        self.ibot_head = ProjectionHead(dim, experiment.ibot.head)
        untied = experiment.model.untie_local_cls_norm
        self.local_cls_norm: nn.Module | None = deepcopy(cast(Vit, self.backbone).norm) if untied else None


def backbone_args(model: recipe.Model) -> dict[str, Any]:
    """The keyword arguments that timm gets, pooling included."""
    own = settled(model)
    return vit_args(str(own.name), own.args)


def build_backbone(model: recipe.Model) -> Encoder:
    """A timm backbone with random weights. Raises `BadInput` for a name or arguments that make no student."""
    model = settled(model)
    name, args = str(model.name), model.args
    if not timm.is_model(name):
        near = ", ".join(difflib.get_close_matches(name, timm.list_models(FAMILIES), n=3))
        raise BadInput(f"model.name={name!r}: want a model that timm knows, such as {near or recipe.DINOV3}")
    try:
        backbone = create(name, backbone_args(model))
    except (TypeError, AssertionError, ValueError, ArithmeticError, RuntimeError) as error:
        why = f"model.args={shown(args)} does not fit {name}: {first_line(error)}; correct them"
        raise BadInput(why) from error
    if lack := convnext.lacking(backbone):
        raise BadInput(f"model.name={name!r}: {lack}; want a plain vision transformer of timm, such as {recipe.DINOV3}")
    backbone = cast(Encoder, backbone)
    _refuse_idle(model, backbone)
    if not isinstance(backbone, ConvNeXt):
        _refuse_odd_heads(backbone)
    setattr(backbone, vit.ROPE_DTYPE, getattr(torch, model.rope_precision))
    return backbone


def _refuse_masks(experiment: settings.Experiment, backbone: Encoder) -> None:
    """Raises `BadInput` where a backbone that has no place for masks would be fed some."""
    fed = experiment.distillation.teacher is None and experiment.ibot.mask_probability > 0
    if fed and isinstance(backbone, ConvNeXt):
        raise BadInput(
            f"ibot.mask_probability={experiment.ibot.mask_probability:g}: {settled(experiment.model).name} has no "
            "place for masks: want 0, or distillation.teacher, whose students are fed none"
        )


def _refuse_idle(model: recipe.Model, backbone: Encoder) -> None:
    """Raises `BadInput` for settings that this backbone has no place for."""
    if model.drop_path and isinstance(backbone, ConvNeXt):
        raise BadInput(f"model.drop_path={model.drop_path:g}: {model.name} is trained without: want 0")
    drawn = [name for name in ("rope_shift", "rope_jitter", "rope_rescale") if getattr(model, name) is not None]
    if drawn and not vit.has_drawn_rope(backbone):
        told = "; ".join(f"model.{name}={getattr(model, name):g}" for name in drawn)
        raise BadInput(f"{told}: the positions of {model.name} are not DINOv3's rotary ones: want null")
    if model.rope_precision != "float32" and not vit.has_drawn_rope(backbone):
        raise BadInput(
            f"model.rope_precision={model.rope_precision}: the positions of {model.name} are not DINOv3's rotary ones: "
            "want float32"
        )
    if model.untie_local_cls_norm and getattr(backbone, "cls_token", None) is None:
        raise BadInput(f"model.untie_local_cls_norm=true: {model.name} has no class token: want false")
    if "img_size" in model.args and getattr(backbone, "pos_embed", None) is None:
        raise BadInput(
            f"model.args.img_size={model.args['img_size']}: {model.name} has no table of positions; leave it out"
        )


def _refuse_odd_heads(backbone: Vit) -> None:
    heads = cast(Any, backbone.blocks[0]).attn.num_heads
    if backbone.embed_dim % (4 * heads) and vit.has_drawn_rope(backbone):
        near = 4 * heads * max(1, round(backbone.embed_dim / (4 * heads)))
        raise BadInput(
            f"model.args: embed_dim={backbone.embed_dim} with num_heads={heads}: want a multiple of 4 · heads, since "
            f"RoPE turns quarters of a head; try embed_dim={near}"
        )


class Sizes(NamedTuple):
    """Of a backbone: channels, blocks, tokens beside the patches, pixels of a patch's side, number of weights."""

    width: int
    depth: int
    prefix: int
    patch: int
    weights: int

    @property
    def million(self) -> str:
        """The number of weights as people say it: "0.45 M"."""
        count = self.weights / 1e6
        return f"{count:.2g} M" if count < 100 else f"{count:,.0f} M"


def sizes_of(model: recipe.Model) -> Sizes:
    """A backbone's sizes, without taking its memory. Raises `BadInput` as `build_backbone` does."""
    return _sizes_of(json.dumps(dataclasses.asdict(dataclasses.replace(settled(model), start_from=None))))


@cache
def _sizes_of(model: str) -> Sizes:
    with on_meta():
        backbone = build_backbone(recipe.Model(**json.loads(model)))
    depth, prefix = len(convnext.blocks(backbone)), convnext.prefix(backbone)
    weights = sum(weight.numel() for weight in backbone.parameters())
    return Sizes(convnext.width(backbone), depth, prefix, patch_size(backbone), weights)


def initialise(network: Network, generator: torch.Generator) -> None:
    """Fill every parameter in place (§3.2): truncated normal 0.02, zero biases and mask token, unit norms."""
    layer_scale = convnext.layer_scale(network.backbone)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if "patch_embed.proj" in name:
                bound = patch_embed_bound(cast(Vit, network.backbone))
                parameter.uniform_(-bound, bound, generator=generator)
            elif leaf.startswith("gamma") and layer_scale is not None:
                parameter.fill_(layer_scale)
            elif "norm" in name or (parameter.ndim == 1 and leaf == "weight"):  # the stages' norms have no name
                parameter.fill_(1.0 if leaf == "weight" else 0.0)
            elif leaf.endswith("bias") or leaf == "mask_token":
                parameter.zero_()
            else:
                nn.init.trunc_normal_(parameter, std=0.02, generator=generator)


def patch_embed_bound(backbone: Vit) -> float:
    """Bound of the uniform start of the patch embedding: one over the root of its fan-in."""
    weight = backbone.patch_embed.proj.weight
    return weight[0].numel() ** -0.5


def encode(
    backbone: Encoder,
    images: Float[Tensor, "B 3 H W"],
    *,
    mask_token: Float[Tensor, "1 D"] | None = None,
    masks: Bool[Tensor, "B P"] | None = None,
    draws: Draws | None = None,
    cls_norm: nn.Module | None = None,
    picked: Int[Tensor, " M"] | None = None,
    recompute: bool = False,
) -> Tokens:
    """Tokens of a batch of normalised images; masked patches are replaced by the mask token before positions.

    cls_norm: the final norm of the class token, in place of the one that all tokens have.
    picked: flat indices into the patches [B · P] that are asked for; the last MLP computes these and the class tokens
    alone. None: all of them.
    recompute: whether the way back computes the inside of each block anew instead of keeping it (arXiv 1604.06174).
    """
    if isinstance(backbone, ConvNeXt):
        return _picked(Tokens(*convnext.tokens(backbone, images)), picked)
    x = backbone.patch_embed(images)
    grid, x = (x.shape[1], x.shape[2]), x.flatten(1, 2)
    if masks is not None and mask_token is not None:
        x = torch.where(masks[..., None], mask_token.to(x.dtype), x)
    x = backbone.norm_pre(vit.with_prefix(backbone, x, grid))
    plain = vit.rotary(backbone, grid)
    last, compiled = len(backbone.blocks) - 1, getattr(backbone, COMPILED, False)
    for i, block in enumerate(backbone.blocks):
        draw = draws[i] if draws else BlockDraw(None, None, None)
        rope = plain if draw.rope is None else vit.rotary(backbone, grid, draw.rope)
        attention, mlp = vit.branches(block, rope, compiled=compiled)
        if i == last and picked is not None and draw.mlp is None and backbone.cls_token is not None:
            _, mlp = vit.branches(block, rope)  # every other number of rows would be compiled anew
            begun = partial(_residual, kept=draw.attention, branch=attention, factor=draw.factor)
            return within(block, lambda x: _asked(backbone, begun(x), picked, mlp, cls_norm), x)  # noqa: B023, called here
        both = partial(_both, draw=draw, attention=attention, mlp=mlp)
        x = within(block, partial(checkpoint, both, **RECOMPUTED) if recompute else both, x)
    own = None if cls_norm is None else cls_norm(x[:, 0])
    x = backbone.norm(x)
    patches = x[:, backbone.num_prefix_tokens :]
    cls = x[:, 0] if backbone.cls_token is not None else patches.mean(1)
    return _picked(Tokens(cls if own is None else own, patches), picked)


def _picked(tokens: Tokens, picked: Tensor | None) -> Tokens:
    """The tokens with the patches that are asked for."""
    return tokens if picked is None else tokens._replace(patches=tokens.patches.flatten(0, 1).index_select(0, picked))


def _asked(backbone: Vit, x: Tensor, picked: Tensor, mlp: Branch, cls_norm: nn.Module | None) -> Tokens:
    """Class tokens and picked patches behind the last MLP and the final norm, which see no other token."""
    images, length = x.shape[:2]
    patches = length - backbone.num_prefix_tokens
    at = picked // patches * length + backbone.num_prefix_tokens + picked % patches
    first = torch.arange(images, device=x.device) * length
    x = x.flatten(0, 1).index_select(0, torch.cat([first, at]))
    x = x + mlp(x)
    cls = (cls_norm or backbone.norm)(x[:images])
    return Tokens(cls, backbone.norm(x[images:]))


def _both(x: Tensor, *, draw: BlockDraw, attention: Branch, mlp: Branch) -> Tensor:
    """A block."""
    x = _residual(x, draw.attention, attention, draw.factor)
    return _residual(x, draw.mlp, mlp, draw.factor)


def _residual(x: Tensor, kept: Tensor | None, branch: Branch, factor: float | None) -> Tensor:
    """Stochastic depth over the batch: only the kept samples are computed, and count for all (2304.07193 §5)."""
    if kept is None:
        return x + branch(x)
    if not len(kept):  # all that are computed are in other parts of the batch
        return x
    return x.index_add(0, kept, branch(x[kept]).to(x.dtype), alpha=factor or len(x) / len(kept))
