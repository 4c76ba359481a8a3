"""DINOv2 and DINOv3 in Hugging Face's files, by the names of the official ones: what `hf:` means for a student."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch import Tensor

from common.disk import read_json
from common.errors import BadInput, first_line
from evals.backbones import official
from evals.backbones.official import Converted
from evals.backbones.weights import Tensors, quiet, read_safetensors, refuse_endless, refuse_non_finite

# Hugging Face's types of models: whose official names their weights get, and what timm takes for granted of them
TYPES: dict[str, tuple[str, dict[str, Any]]] = {
    "dinov2": ("dinov2", {"layer_norm_eps": 1e-6, "qkv_bias": True}),
    "dinov2_with_registers": ("dinov2", {"layer_norm_eps": 1e-6, "qkv_bias": True}),
    "dinov3_vit": ("dinov3", {"layer_norm_eps": 1e-5, "key_bias": False}),
}
# Names within a file and official ones
_BLOCK = r"(?:encoder\.|model\.)?layer\.(\d+)\."
NAMES = (
    (r"embeddings\.(cls_token|mask_token)", r"\1"),
    (r"embeddings\.position_embeddings", r"pos_embed"),
    (r"embeddings\.patch_embeddings\.(?:projection\.)?(weight|bias)", r"patch_embed.proj.\1"),
    (_BLOCK + r"(norm[12]\..+)", r"blocks.\1.\2"),
    (_BLOCK + r"attention\.(?:output\.dense|o_proj)\.(.+)", r"blocks.\1.attn.proj.\2"),
    (_BLOCK + r"layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
    (_BLOCK + r"mlp\.gate_proj\.(.+)", r"blocks.\1.mlp.w1.\2"),
    (_BLOCK + r"mlp\.weights_in\.(.+)", r"blocks.\1.mlp.w12.\2"),
    (_BLOCK + r"mlp\.weights_out\.(.+)", r"blocks.\1.mlp.w3.\2"),
    (r"(?:layer)?norm\.(weight|bias)", r"norm.\1"),
)
# DINOv3's MLP has two names, with a gate and without one
PLAIN = ((_BLOCK + r"mlp\.(?:fc1|up_proj)\.(.+)", r"blocks.\1.mlp.fc1.\2"),
         (_BLOCK + r"mlp\.(?:fc2|down_proj)\.(.+)", r"blocks.\1.mlp.fc2.\2"))  # fmt: skip
GATED = ((_BLOCK + r"mlp\.up_proj\.(.+)", r"blocks.\1.mlp.w2.\2"),
         (_BLOCK + r"mlp\.down_proj\.(.+)", r"blocks.\1.mlp.w3.\2"))  # fmt: skip
REGISTERS = {"dinov2": "register_tokens", "dinov3": "storage_tokens"}
_QKV = re.compile(_BLOCK + r"attention\.(?:attention\.)?(q|k|v)(?:uery|ey|alue|_proj)\.(weight|bias)")


def read(name: str) -> Converted:
    """The model of a folder that `save_pretrained` wrote, or of the hub and its cache, in timm's terms.

    Raises:
        BadInput: no such folder or model, one of another type, or weights that are damaged or not in safetensors.
    """
    folder = folder_of(name)
    config = _config(folder)
    family, _ = TYPES[config["model_type"]]
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BadInput(f"{folder} without safetensors: want weights beside its config.json; do save the model again")
    tensors = {key: tensor for file in files for key, tensor in read_safetensors(file)[1].items()}
    refuse_non_finite(str(folder), tensors)
    own = as_official(tensors, family)
    if "blocks.0.mlp.w12.weight" in own:  # timm has it in published sizes alone
        return official.converted(own, family, source=str(folder))
    name, args = _architecture(config, own, family, folder)
    return Converted(name, args, *official.in_timm(own, family), mask_token=own.get("mask_token"))


def folder_of(name: str) -> Path:
    """Where a model lies: a folder, or what the hub's client has or fetches of that name."""
    if Path(name).is_dir():
        return Path(name)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:  # names on the hub have the form OWNER/MODEL
        raise BadInput(f"got no folder {name} for hf:{name}: want a model that was saved there; check the path")
    try:
        with quiet("huggingface_hub"):
            return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:  # its classes change with every release of the hub's client
        raise BadInput(
            f"no model at hf:{name} ({first_line(error)}): want a folder, or a name on the Hugging Face hub or in its "
            "cache; do check name and network"
        ) from error


def as_official(tensors: Tensors, family: str) -> Tensors:
    """Tensors by official names, queries, keys and values in one; a name that is not known stays as it is."""
    gated = any("mlp.gate_proj." in key for key in tensors)
    names = (*NAMES, (r"embeddings\.register_tokens", REGISTERS[family]), *(GATED if gated else PLAIN))
    out, parts = Tensors(), dict[str, dict[str, Tensor]]()
    for key, tensor in tensors.items():
        if tensor.numel() == 0:  # no registers
            continue
        if match := _QKV.fullmatch(key):
            block, part, leaf = match.groups()
            parts.setdefault(f"blocks.{block}.attn.qkv.{leaf}", {})[part] = tensor
            continue
        found = ((match, new) for old, new in names if (match := re.fullmatch(old, key)))
        out[next((match.expand(new) for match, new in found), key)] = tensor
    for key, found in parts.items():
        none = torch.zeros_like(next(iter(found.values())))  # DINOv3's keys have no bias
        out[key] = torch.cat([found.get(part, none) if key.endswith("bias") else found[part] for part in "qkv"])
    if "mask_token" in out:
        out["mask_token"] = out["mask_token"].reshape(1, -1)
    return out


def _config(folder: Path) -> dict[str, Any]:
    """The settings of a model that timm computes as well. Raises `BadInput` for others."""
    config = read_json(folder / "config.json", remedy="save the model again")
    kind = config.get("model_type")
    if kind not in TYPES:
        raise BadInput(
            f"{folder} of type {kind}: want {', '.join(TYPES)}; do take its weights from timm:…, or export them"
        )
    refuse_endless(str(folder / "config.json"), config)
    wanted = TYPES[kind][1] | {"hidden_act": "silu" if config.get("use_gated_mlp") else "gelu"}
    if odd := [f"{key}={config[key]}" for key, usual in wanted.items() if config.get(key, usual) != usual]:
        raise BadInput(f"{folder} with {', '.join(odd)}: want a published model, which timm computes as well")
    return config


def _architecture(config: Mapping[str, Any], own: Tensors, family: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """timm's name for the shape, and the sizes it is made with."""
    try:
        width, depth, heads = (int(config[k]) for k in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
        patch, gated = int(config["patch_size"]), "blocks.0.mlp.w1.weight" in own
        hidden = len(own["blocks.0.mlp.w1.weight" if gated else "blocks.0.mlp.fc1.weight"])
        args: dict[str, Any] = {"patch_size": patch, "embed_dim": width, "depth": depth, "num_heads": heads}
        args["mlp_ratio"] = hidden / width
        if family == "dinov2":
            args["img_size"] = patch * round((own["pos_embed"].shape[1] - 1) ** 0.5)
            if "register_tokens" in own:
                args |= {"reg_tokens": own["register_tokens"].shape[1], "no_embed_class": True}
            return "vit_small_patch14_dinov2", args
        args |= {"num_reg_tokens": int(config["num_register_tokens"]), "qkv_bias": "blocks.0.attn.qkv.bias" in own}
        args["rope_temperature"] = float(config.get("rope_theta", 100.0))
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise BadInput(
            f"{folder}, whose files lack {first_line(error)}: want what save_pretrained wrote; do save the model again"
        ) from error
    return "vit_small_plus_patch16_dinov3" if gated else "vit_small_patch16_dinov3", args
