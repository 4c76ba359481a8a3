"""Official DINOv2 and DINOv3 checkpoint files as timm models.

Nothing is guessed: a size or a key that `evals.backbones.official_names` does not hold, and a weight that no key
fills, are errors that name it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common.errors import BadInput
from evals.backbones import official_names
from evals.backbones.official_names import Rule, Size
from evals.backbones.timm_models import create_empty
from evals.backbones.weights import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    NETWORKS,
    Loaded,
    Tensors,
    Triple,
    fill,
    read_tensors,
    refuse_non_finite,
    some,
)


class Converted(NamedTuple):
    """A file as timm would have written it.

    unknown: keys that no rule matches; mask_token: what stood in for masked patches, which no timm model has.
    """

    timm_name: str
    timm_args: dict[str, Any]
    tensors: Tensors
    unknown: list[str]
    mask_token: Tensor | None = None


def load(spec: str, family: str) -> Loaded:
    """An official file as a timm model in float32. Arguments and errors are those of `read`, and keys that differ."""
    path, found = _address(spec)[0], read(spec, family)
    model = create_empty(found.timm_name, found.timm_args)
    wanted = f"the keys of an official {family} file, here for {found.timm_name}; do check the file and the address"
    fill(model, found.tensors, source=str(path), wanted=wanted, unknown=found.unknown)
    return Loaded(model, *inputs_of(spec))


def read(spec: str, family: str) -> Converted:
    """What an official file holds, in timm's terms.

    Args:
        spec: the file's path, which may end in `:teacher` or `:student` where it is a training dump of both.
        family: "dinov2" or "dinov3".

    Raises:
        BadInput: an unreadable file, an unknown size, or weights that are no trained ones.
    """
    path, network = _address(spec)
    tensors = of_network(read_tensors(path, network=network), network, address=f"{family}:{path}")
    official = unwrapped(tensors, source=str(path))
    _refuse_other_family(official, family, path)
    if family == "dinov3":
        _refuse_key_bias(official, path)
    found = converted(official, family, source=str(path))
    refuse_non_finite(str(path), found.tensors)
    return found


def inputs_of(spec: str) -> tuple[Triple, Triple]:
    """Mean and deviation that inputs in 0…1 were normalised with, as far as the file's name tells; else ImageNet's."""
    named = (pair for word, pair in official_names.STATISTICS.items() if word in _address(spec)[0].name)
    return next(named, (IMAGENET_MEAN, IMAGENET_STD))


def _address(spec: str) -> tuple[Path, str | None]:
    """A file, and the network of it that is asked for."""
    head, colon, word = spec.rpartition(":")
    if Path(spec).is_file() or not (colon and Path(head).is_file()):
        return Path(spec), None
    if word not in NETWORKS:
        raise BadInput(f"got {spec}: want {' or '.join(NETWORKS)} after the last colon; do correct it")
    return Path(head), word


def of_network(tensors: Tensors, network: str | None, *, address: str) -> Tensors:
    """The tensors of one network of a training dump, by their names in that network; others' are left aside.

    Raises:
        BadInput: a dump of several without a word which one, or a word for a file that is no dump.
    """
    found = {key: official_names.NETWORK.match(key) for key in tensors}
    held = sorted({match[1] for match in found.values() if match})
    if network is None and held:
        choices = " or ".join(f"{address}:{name}" for name in NETWORKS if name in held)
        raise BadInput(
            f"got {address}, a training dump with {' and '.join(held)}: want one network; do name {choices} (the "
            "teacher, an average of the student, is what papers evaluate)"
        )
    if network is not None and network not in held:
        raise BadInput(
            f"got {address}:{network}, a file with {' and '.join(held) or 'one network alone'}: want what it holds; do "
            f"name {address}{f':{held[0]}' if held else ''}"
        )
    return {
        key[match.end() :] if match else key: tensors[key]
        for key, match in found.items()
        if network is None or (match and match[1] == network)
    }


def unwrapped(tensors: Tensors, *, source: str) -> Tensors:
    """The same tensors by the names that published files have. Raises `BadInput` where two get one name."""
    out: Tensors = {}
    for key, tensor in tensors.items():
        plain = key
        for pattern, replacement in official_names.WRAPPING:
            plain = re.sub(pattern, replacement, plain)
        if plain in out:
            raise BadInput(f"got {source} with {plain} twice, once as {key}: want one backbone; do save it alone")
        out[plain] = tensor
    return out


def converted(official: Tensors, family: str, *, source: str) -> Converted:
    """A published state dict in timm's terms, by its names and shapes alone (so also on the meta device).

    Raises:
        BadInput: no architecture that is known.
    """
    if "downsample_layers.0.0.weight" in official:
        return Converted(_convnext(official, source), {}, *_renamed(official, official_names.CONVNEXT_RULES))
    name, args = _dinov2(official, source) if family == "dinov2" else _dinov3(official, source)
    return Converted(name, args, *in_timm(official, family), mask_token=official.get("mask_token"))


def in_timm(official: Tensors, family: str) -> tuple[Tensors, list[str]]:
    """Tensors of a vision transformer by timm's names, of whatever size it is; and keys that no rule matches."""
    if family == "dinov2":
        return _renamed(_fold_class_position(official), official_names.DINOV2_RULES)
    return _renamed(_split_bias(official), official_names.DINOV3_RULES)


def _refuse_other_family(official: Tensors, family: str, path: Path) -> None:
    own, theirs = (_keys_of(official, name) for name in (family, _other(family)))
    if theirs and not own:
        words, right = (name.replace("dino", "DINO") for name in (family, _other(family)))
        raise BadInput(
            f"got {path} with {some(theirs)}, as a {right} file has: want an official {words} file; do name "
            f"{_other(family)}:{path}"
        )


def _other(family: str) -> str:
    return next(name for name in official_names.OWN_KEYS if name != family)


def _keys_of(official: Tensors, family: str) -> list[str]:
    """Keys that tell the family, one of each kind."""
    found = (
        next((key for key in official if re.fullmatch(kind, key)), None) for kind in official_names.OWN_KEYS[family]
    )
    return [key for key in found if key]


# --- architecture from shapes


def _dinov2(official: Tensors, source: str) -> tuple[str, dict[str, Any]]:
    name, patch = _transformer(official, official_names.DINOV2_SIZES, "DINOv2", source)
    positions = _shape(official, "pos_embed", "DINOv2", source)[1] - 1
    side = round(positions**0.5)
    if side * side != positions:
        raise BadInput(f"got {source} with {positions} positions: want a square grid of patches; do check the file")
    args: dict[str, Any] = {"patch_size": patch, "img_size": side * patch}
    if "register_tokens" in official:
        args |= {"reg_tokens": official["register_tokens"].shape[1], "no_embed_class": True}
    return name, args


def _dinov3(official: Tensors, source: str) -> tuple[str, dict[str, Any]]:
    name, patch = _transformer(official, official_names.DINOV3_SIZES, "DINOv3", source)
    registers = official["storage_tokens"].shape[1] if "storage_tokens" in official else 0
    bias = "blocks.0.attn.qkv.bias" in official
    return name, {"patch_size": patch, "num_reg_tokens": registers, "qkv_bias": bias, "global_pool": "token"}


def _transformer(official: Tensors, sizes: Mapping[Size, str], family: str, source: str) -> tuple[str, int]:
    """timm's name for the size, and the side of a patch in pixels."""
    width, _, patch, _ = _shape(official, "patch_embed.proj.weight", family, source)
    blocks = 1 + max((int(m[1]) for key in official if (m := re.match(r"blocks\.(\d+)\.", key))), default=-1)
    swiglu = {"blocks.0.mlp.w1.weight": 1, "blocks.0.mlp.w12.weight": 2}
    gate = next((key for key in swiglu if key in official), None)
    if gate:
        size = Size(width, blocks, "swiglu", official[gate].shape[0] // swiglu[gate])
    else:
        size = Size(width, blocks, "mlp", _shape(official, "blocks.0.mlp.fc1.weight", family, source)[0])
    if size not in sizes:
        raise _unknown_size(size.words, [known.words for known in sizes], family, source)
    return sizes[size], patch


def _convnext(official: Tensors, source: str) -> str:
    width = official["downsample_layers.0.0.weight"].shape[0]
    blocks = len({m[1] for key in official if (m := re.match(r"stages\.2\.(\d+)\.", key))})
    if (width, blocks) not in official_names.CONVNEXT_SIZES:
        known = [f"{w} wide, {b} blocks" for w, b in official_names.CONVNEXT_SIZES]
        raise _unknown_size(f"{width} wide, {blocks} blocks", known, "DINOv3 ConvNeXt", source)
    return official_names.CONVNEXT_SIZES[width, blocks]


def _unknown_size(size: str, known: Sequence[str], family: str, source: str) -> BadInput:
    return BadInput(
        f"got {source}, a network {size}: want a published {family} ({' / '.join(known)}); "
        "do build another size in timm and export it"
    )


def _shape(official: Tensors, key: str, family: str, source: str) -> tuple[int, ...]:
    if key not in official:
        rules = (*official_names.DINOV2_RULES, *official_names.DINOV3_RULES, *official_names.CONVNEXT_RULES)
        strange = sorted(name for name in official if not any(re.fullmatch(rule.source, name) for rule in rules))
        others = f", with {some(strange, 3)}" if strange else ""
        raise BadInput(
            f"got {source} without {key}{others}: want an official {family} file; do check the address (hf: reads "
            "Hugging Face's format)"
        )
    return tuple(official[key].shape)


# --- what renaming alone does not do


def _fold_class_position(official: Tensors) -> Tensors:
    """With registers, timm's models have no position for the class token: it is added into the token."""
    if "register_tokens" not in official or "cls_token" not in official:
        return official
    token, position = official["cls_token"].float(), official["pos_embed"].float()
    return {**official, "cls_token": token + position[:, :1], "pos_embed": position[:, 1:]}


def _split_bias(official: Tensors) -> Tensors:
    """DINOv3's masked bias of queries, keys and values as the biases of queries and values that timm has."""
    out: Tensors = {}
    for key, tensor in official.items():
        if key.endswith(".attn.qkv.bias"):
            queries, _, values = _masked(tensor, official.get(f"{key}_mask")).chunk(3)
            stem = key.removesuffix("qkv.bias")
            out |= {f"{stem}q_bias": queries, f"{stem}v_bias": values}
        else:
            out[key] = tensor
    return out


def _masked(bias: Tensor, mask: Tensor | None) -> Tensor:
    """What DINOv3's attention adds to queries, keys and values [3D].

    The mask is 1, 0, 1 for them. Released distilled models hold zeros in its place, and zero biases, so that nothing is
    lost; where it was never set (NaN), its meaning is taken.
    """
    if mask is None:
        return bias
    meant = torch.ones_like(mask)
    meant[len(mask) // 3 : 2 * len(mask) // 3] = 0
    return bias * torch.where(mask.isnan(), meant, mask)


def _refuse_key_bias(official: Tensors, path: Path) -> None:
    for key, bias in official.items():
        if key.endswith(".attn.qkv.bias") and _masked(bias, official.get(f"{key}_mask")).chunk(3)[1].any():
            raise BadInput(
                f"got {path} with a bias of keys in {key}: want it masked, as timm has no place for one; do name a "
                "published model"
            )


def _renamed(official: Tensors, rules: tuple[Rule, ...]) -> tuple[Tensors, list[str]]:
    out, unknown = {}, []
    for key, tensor in official.items():
        match, rule = next(((m, rule) for rule in rules if (m := re.fullmatch(rule.source, key))), (None, None))
        if match is None or rule is None:
            unknown.append(key)
        elif rule.target is not None:
            out[match.expand(rule.target)] = tensor
    return out, unknown
