"""What official DINOv2 and DINOv3 checkpoint files hold: their sizes, and what each of their keys is called in timm.

Names and shapes are those of the files that facebookresearch publishes for DINOv2 (arXiv 2304.07193, registers
2309.16588) and DINOv3 (2508.10104).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from evals.backbones.weights import NETWORKS, Triple

# --- what a file may be


class Size(NamedTuple):
    """What tells published vision transformers apart; the number of heads shows in no shape, timm's name implies it."""

    width: int
    blocks: int
    ffn: str  # "mlp" or "swiglu"
    hidden: int

    @property
    def words(self) -> str:
        """The size in a message."""
        return f"{self.width} wide, {self.blocks} blocks, {self.ffn} {self.hidden}"


DINOV2_SIZES = {
    Size(384, 12, "mlp", 1536): "vit_small_patch14_dinov2",
    Size(768, 12, "mlp", 3072): "vit_base_patch14_dinov2",
    Size(1024, 24, "mlp", 4096): "vit_large_patch14_dinov2",
    Size(1536, 40, "swiglu", 4096): "vit_giant_patch14_dinov2",
}
DINOV3_SIZES = {
    Size(384, 12, "mlp", 1536): "vit_small_patch16_dinov3",
    Size(384, 12, "swiglu", 1536): "vit_small_plus_patch16_dinov3",
    Size(768, 12, "mlp", 3072): "vit_base_patch16_dinov3",
    Size(1024, 24, "mlp", 4096): "vit_large_patch16_dinov3",
    Size(1280, 32, "swiglu", 5120): "vit_huge_plus_patch16_dinov3",
    Size(4096, 40, "swiglu", 8192): "vit_7b_patch16_dinov3",
}
# Width of the first stage, blocks of the third
CONVNEXT_SIZES = {
    (96, 9): "convnext_tiny",
    (96, 27): "convnext_small",
    (128, 27): "convnext_base",
    (192, 27): "convnext_large",
}
# DINOv3 trained on satellite images (its file names say so) takes inputs normalised by their own statistics
STATISTICS: dict[str, tuple[Triple, Triple]] = {"sat493m": ((0.430, 0.411, 0.296), (0.213, 0.156, 0.143))}


# What a file of the one family has and none of the other
OWN_KEYS = {
    "dinov2": (r"pos_embed", r"register_tokens", r"blocks\.\d+\.mlp\.w12\..+"),
    "dinov3": (
        r"storage_tokens",
        r"rope_embed\.periods",
        r"blocks\.\d+\.attn\.qkv\.bias_mask",
        r"downsample_layers\..+",
    ),
}


# --- what its keys become


@dataclass(frozen=True)
class Rule:
    r"""A key that matches `source` as a whole is called `target` in timm (`\1` is its first group), or dropped."""

    source: str
    target: str | None = None


_AFFINE = r"(weight|bias)"
# Where the name of a network begins the names of a training dump of several
NETWORK = re.compile(rf"(?:(?:module|_orig_mod|_fsdp_wrapped_module)\.)*({'|'.join(NETWORKS)})\.")
# Wrappers of training code inside names, and the grouping of blocks that DINOv2 trains with: the second number counts
WRAPPING = (
    (r"^(?:(?:module|_orig_mod|_fsdp_wrapped_module)\.)*(?:backbone\.(?:module\.)?)?", ""),
    (r"_checkpoint_wrapped_module\.|_orig_mod\.|_fsdp_wrapped_module\.", ""),
    (r"^blocks\.\d+\.(\d+\.)", r"blocks.\1"),
)
_TRAINING = (
    Rule(r"mask_token"),  # stands in for masked patches, which only training has
    Rule(r"(dino|ibot)_head\..+"),  # projection heads of training
)
_VIT = (
    Rule(r"cls_token", "cls_token"),
    Rule(rf"patch_embed\.proj\.{_AFFINE}", r"patch_embed.proj.\1"),
    Rule(rf"blocks\.(\d+)\.(norm[12]|attn\.proj|mlp\.fc[12])\.{_AFFINE}", r"blocks.\1.\2.\3"),
    Rule(r"blocks\.(\d+)\.attn\.qkv\.weight", r"blocks.\1.attn.qkv.weight"),
    Rule(rf"norm\.{_AFFINE}", r"norm.\1"),
)
DINOV2_RULES = (
    *_TRAINING,
    *_VIT,
    Rule(r"pos_embed", "pos_embed"),
    Rule(r"register_tokens", "reg_token"),
    Rule(r"blocks\.(\d+)\.attn\.qkv\.bias", r"blocks.\1.attn.qkv.bias"),
    Rule(r"blocks\.(\d+)\.ls([12])\.gamma", r"blocks.\1.ls\2.gamma"),
    Rule(rf"blocks\.(\d+)\.mlp\.w12\.{_AFFINE}", r"blocks.\1.mlp.fc1.\2"),
    Rule(rf"blocks\.(\d+)\.mlp\.w3\.{_AFFINE}", r"blocks.\1.mlp.fc2.\2"),
)
DINOV3_RULES = (
    *_TRAINING,
    *_VIT,
    Rule(r"storage_tokens", "reg_token"),
    # timm computes these in float32; published models were trained with, and hold, them rounded to bfloat16
    Rule(r"rope_embed\.periods", "rope.periods"),
    Rule(r"local_cls_norm\.(weight|bias)"),  # normalises class tokens of local crops, which only training has
    Rule(r"blocks\.(\d+)\.attn\.qkv\.bias_mask"),  # is multiplied into the bias beforehand
    Rule(r"blocks\.(\d+)\.attn\.(q|v)_bias", r"blocks.\1.attn.\2_bias"),  # made of the masked qkv.bias
    Rule(r"blocks\.(\d+)\.ls([12])\.gamma", r"blocks.\1.gamma_\2"),
    Rule(rf"blocks\.(\d+)\.mlp\.w1\.{_AFFINE}", r"blocks.\1.mlp.fc1_g.\2"),
    Rule(rf"blocks\.(\d+)\.mlp\.w2\.{_AFFINE}", r"blocks.\1.mlp.fc1_x.\2"),
    Rule(rf"blocks\.(\d+)\.mlp\.w3\.{_AFFINE}", r"blocks.\1.mlp.fc2.\2"),
)
CONVNEXT_RULES = (
    *_TRAINING,
    Rule(rf"downsample_layers\.0\.(\d)\.{_AFFINE}", r"stem.\1.\2"),
    Rule(rf"downsample_layers\.([123])\.(\d)\.{_AFFINE}", r"stages.\1.downsample.\2.\3"),
    Rule(rf"stages\.(\d)\.(\d+)\.dwconv\.{_AFFINE}", r"stages.\1.blocks.\2.conv_dw.\3"),
    Rule(rf"stages\.(\d)\.(\d+)\.norm\.{_AFFINE}", r"stages.\1.blocks.\2.norm.\3"),
    Rule(rf"stages\.(\d)\.(\d+)\.pwconv([12])\.{_AFFINE}", r"stages.\1.blocks.\2.mlp.fc\3.\4"),
    Rule(r"stages\.(\d)\.(\d+)\.gamma", r"stages.\1.blocks.\2.gamma"),
    Rule(rf"norm\.{_AFFINE}", r"head.norm.\1"),
    Rule(r"norms\.3\.(weight|bias)"),  # a second name of `norm`
)
