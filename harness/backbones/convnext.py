"""ConvNeXt as a student where no masks are fed: its last map are patches of 32 pixels, their mean is the class token.

So it is in DINOv3's distillation (arXiv 2508.10104 §5.2): the final norm goes over the mean of the map and over each of
its places, which is also what evaluations judge.
"""

from __future__ import annotations

from typing import Any, TypeAlias, cast

from jaxtyping import Float
from timm.layers.classifier import NormMlpClassifierHead
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from harness.backbones import vit
from harness.backbones.vit import Vit

Encoder: TypeAlias = Vit | ConvNeXt  # all that trains here


def lacking(model: nn.Module) -> str | None:
    """What a model lacks to be trained here, in words; None where it can be."""
    if not isinstance(model, ConvNeXt):
        return vit.lacking(model)
    head = model.head
    if not isinstance(head, NormMlpClassifierHead) or isinstance(head.norm, nn.Identity):
        return "timm's ConvNeXt without a final norm behind its pooling"
    return None


def tokens(backbone: ConvNeXt, images: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, Tensor]:
    """Class token [B, D] and patches [B, P, D], row-major, after the final norm."""
    grid, norm = backbone.forward_features(images), cast(Any, backbone.head).norm
    return norm(grid.mean((2, 3), keepdim=True)).flatten(1), norm(grid).flatten(2).mT


def blocks(backbone: Encoder) -> list[nn.Module]:
    """All blocks in their order, of all stages."""
    if isinstance(backbone, ConvNeXt):
        return [block for stage in backbone.stages for block in cast(Any, stage).blocks]
    return list(backbone.blocks)


def width(backbone: Encoder) -> int:
    """Channels of its tokens."""
    return backbone.num_features if isinstance(backbone, ConvNeXt) else backbone.embed_dim


def prefix(backbone: Encoder) -> int:
    """Tokens beside the patches: of a ConvNeXt the mean of these."""
    return 1 if isinstance(backbone, ConvNeXt) else backbone.num_prefix_tokens


def patch_size(backbone: Encoder) -> int:
    """Side of a patch in pixels; of a ConvNeXt the stride of its last stage."""
    if isinstance(backbone, ConvNeXt):
        return int(backbone.feature_info[-1]["reduction"])
    return int(cast(Any, backbone.patch_embed).patch_size[0])


def layer_scale(backbone: Encoder) -> float | None:
    """Where LayerScale starts, of a backbone as timm has made it; None where there is none."""
    if isinstance(backbone, ConvNeXt):
        gamma = cast(Any, blocks(backbone)[0]).gamma
        return None if gamma is None else float(gamma.detach()[0])
    return vit.layer_scale(backbone)
