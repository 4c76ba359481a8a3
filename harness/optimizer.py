"""AdamW over the recipe's parameter groups: layer-wise decay, a slower patch embedding, undecayed norms and biases."""

from __future__ import annotations

import torch
from timm.models.convnext import ConvNeXt
from torch import nn

from common.errors import BadInput
from harness import recipe
from harness.backbones.convnext import Encoder, blocks
from harness.model import Network
from harness.schedules import At
from harness.shards import whole

# Of the names of what comes before the blocks
FIRST = ("patch_embed", "cls_token", "reg_token", "mask_token", "pos_embed", "norm_pre")
TOKENS = ("cls_token", "reg_token", "mask_token")


def build_optimizer(network: Network, optimizer: recipe.Optimizer) -> torch.optim.AdamW:
    """AdamW with one group per (rate multiplier, decayed, last layer) and the parameters' names in `names`."""
    depth = len(blocks(network.backbone))
    _refuse_layers(network.backbone, optimizer)
    groups: dict[tuple[float, bool, bool], dict] = {}
    for name, parameter in network.named_parameters():
        multiplier = rate_multiplier(
            name,
            depth,
            layer_decay=optimizer.layer_decay,
            patch_embed=optimizer.patch_embed_lr,
            backbone=optimizer.backbone_lr,
        )
        named = without_weight_decay(name, tokens=optimizer.decay_tokens)
        decayed = parameter.ndim > 1 and not named  # some norms of a ConvNeXt have no name
        last = name.endswith("prototypes.weight")
        group = groups.setdefault((multiplier, decayed, last), {"params": [], "names": []})
        decay = optimizer.weight_decay if decayed else 0.0
        group.update(multiplier=multiplier, weight_decay=decay, decayed=decayed, last_layer=last)
        group["params"].append(parameter)
        group["names"].append(name)
    return torch.optim.AdamW(
        list(groups.values()), lr=optimizer.lr, betas=(optimizer.beta1, optimizer.beta2), fused=True
    )


def _refuse_layers(backbone: Encoder, optimizer: recipe.Optimizer) -> None:
    """Raises `BadInput` for a layer-wise rate of a backbone in stages, as the official code has none for it."""
    if isinstance(backbone, ConvNeXt) and optimizer.layer_decay != 1:
        raise BadInput(
            f"optimizer.layer_decay={optimizer.layer_decay:g}: want 1 for a ConvNeXt, whose blocks stand in stages"
        )


def rate_multiplier(name: str, depth: int, *, layer_decay: float, patch_embed: float, backbone: float = 1.0) -> float:
    """Recipe §7: γ^(L+1−id), id 0 before the blocks, i+1 for block i, L+1 for the final norm; heads 1."""
    if "_head." in name:
        return 1.0
    if ".blocks." in name:
        layer = int(name.split(".blocks.")[1].split(".")[0]) + 1
    else:
        layer = 0 if any(part in name for part in FIRST) else depth + 1
    return backbone * layer_decay ** (depth + 1 - layer) * (patch_embed if "patch_embed" in name else 1.0)


def without_weight_decay(name: str, *, tokens: bool = True) -> bool:
    """Biases, norms and LayerScale are not decayed; positions are; tokens where `tokens` says so (recipe §7)."""
    spared = name.endswith("bias") or "norm" in name or "gamma" in name
    return spared or (not tokens and name.endswith(TOKENS))


def freeze_backbone(network: Network, frozen: bool) -> None:
    """Let all but the heads take gradients or not; without any, AdamW leaves weights and moments as they are."""
    for name, parameter in network.named_parameters():
        if "_head." not in name:
            parameter.requires_grad_(not frozen)


def descend(optimizer: torch.optim.Optimizer, at: At) -> None:
    """One AdamW step at the rates and the weight decay of this step."""
    for group in optimizer.param_groups:
        group["lr"] = (at.last_layer_lr if group["last_layer"] else at.lr) * group["multiplier"]
        group["weight_decay"] = at.weight_decay if group["decayed"] else 0.0
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def clip_gradients(network: Network, limit: float | None) -> torch.Tensor:
    """Clip backbone, DINO head and iBOT head each by its own norm (recipe §7); returns the norm over all, before."""
    parts: dict[str, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            part = name.split(".")[0]
            parts.setdefault(part if part.endswith("_head") else "backbone", []).append(parameter)
    norms = [
        whole(torch.nn.utils.clip_grad_norm_(parameters, limit if limit is not None else float("inf")))
        for parameters in parts.values()
    ]
    return torch.stack(norms).norm()
