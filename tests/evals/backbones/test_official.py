from __future__ import annotations

import copy
import math
import os
import pickle
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import convnext, eva, vision_transformer
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from common.errors import BadInput
from evals.backbones import official, official_names
from evals.backbones.addresses import load
from evals.backbones.backbone import wrap
from evals.backbones.timm_models import TimmReader, create, create_empty
from evals.backbones.weights import IMAGENET_MEAN, fill, read_tensors

State = dict[str, Tensor]

SMALL = (
    "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3_qkvb",
    "vit_small_plus_patch16_dinov3_qkvb",
    "convnext_tiny",
)
PUBLISHED = (
    *(f"vit_{size}_patch14{reg}_dinov2" for size in ("small", "base", "large", "giant") for reg in ("", "_reg4")),
    *(f"vit_{size}_patch16_dinov3_qkvb" for size in ("small", "small_plus", "base", "large", "huge_plus")),
    "vit_7b_patch16_dinov3",
    *(f"convnext_{size}" for size in ("tiny", "small", "base", "large")),
)


def family_of(name: str) -> str:
    return "dinov2" if "dinov2" in name else "dinov3"


def arguments(name: str) -> dict[str, str]:
    """What official models have beyond timm's name: DINOv3 pools its class token."""
    return {} if family_of(name) == "dinov2" or "convnext" in name else {"global_pool": "token"}


class Undrawn(TorchFunctionMode):
    """Models are made without drawing first weights, which takes most of the time and is overwritten here."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.uniform_, Tensor.normal_, Tensor.erfinv_, Tensor.clamp_):
            return args[0]
        return func(*args, **(kwargs or {}))


@cache
def on_meta(name: str) -> nn.Module:
    with torch.device("meta"), Undrawn():
        return create(name, arguments(name))


@cache
def drawn(name: str) -> nn.Module:
    """The model of the family's size S, to be read alone: no weight is at a value that another one could have too."""
    with Undrawn():
        model = create(name, arguments(name)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.1, 0.1, generator=generator)
    return model


def randomised(name: str) -> nn.Module:
    """A copy of `drawn`, to be altered."""
    return copy.deepcopy(drawn(name))


# --- the inverse: weights of a timm model under the names, and in the shapes, of the published files


def published(name: str, state: State) -> State:
    if "convnext" in name:
        return as_convnext(state)
    return as_dinov2(state) if family_of(name) == "dinov2" else as_dinov3(state)


def as_dinov2(state: State) -> State:
    out = {"mask_token": torch.zeros_like(state["cls_token"][:, 0])}
    for key, tensor in state.items():
        gated = state["blocks.0.mlp.fc1.weight"].shape[0] != state["blocks.0.mlp.fc2.weight"].shape[1]
        name = key.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3") if gated else key
        out["register_tokens" if key == "reg_token" else name] = tensor
    if "reg_token" in state:  # positions of 1 + patches, the first of which is the class token's
        first = torch.zeros_like(state["cls_token"])
        out["pos_embed"] = torch.cat([first, state["pos_embed"]], dim=1)
    return out


def as_dinov3(state: State) -> State:
    width = state["cls_token"].shape[2]
    head = 128 if width == 4096 else 64  # width of a head
    out = {
        "mask_token": torch.full_like(state["cls_token"][:, 0], 3.0),
        "rope_embed.periods": 100.0 ** (torch.arange(head // 4) * 4 / head),
    }
    for key, tensor in state.items():
        block, _, leaf = key.rpartition(".attn.")
        if leaf == "q_bias":
            values = state[f"{block}.attn.v_bias"]
            out[f"{block}.attn.qkv.bias"] = torch.cat([tensor, torch.ones_like(tensor), values])
            mask = torch.ones_like(out[f"{block}.attn.qkv.bias"])
            mask[width : 2 * width] = 0
            out[f"{block}.attn.qkv.bias_mask"] = mask
        elif leaf != "v_bias":
            for ours, theirs in (("fc1_g", "w1"), ("fc1_x", "w2"), ("gamma_1", "ls1.gamma"), ("gamma_2", "ls2.gamma")):
                key = key.replace(ours, theirs)
            gated = "blocks.0.mlp.fc1_g.weight" in state
            key = key.replace("mlp.fc2", "mlp.w3") if gated else key
            out["storage_tokens" if key == "reg_token" else key] = tensor
    return out


def as_convnext(state: State) -> State:
    out = {}
    for key, tensor in state.items():
        place, *rest = key.split(".")
        if place == "stem":
            name = ".".join(["downsample_layers.0", *rest])
        elif place == "head":
            name = key.removeprefix("head.")
        elif rest[1] == "downsample":
            name = ".".join(["downsample_layers", rest[0], *rest[2:]])
        else:
            name = ".".join(["stages", rest[0], *rest[2:]])
        for ours, theirs in (("conv_dw", "dwconv"), ("mlp.fc1", "pwconv1"), ("mlp.fc2", "pwconv2")):
            name = name.replace(ours, theirs)
        out[name] = tensor
    return {**out, "norms.3.weight": out["norm.weight"], "norms.3.bias": out["norm.bias"]}


def cheap(name: str, **changes: Tensor) -> State:
    """A published state dict of zeros, which takes no space in a file."""
    state = published(name, on_meta(name).state_dict())
    zeros = {key: torch.zeros(()).expand(tensor.shape) for key, tensor in state.items()}
    zeros |= {key: tensor for key, tensor in state.items() if tensor.device.type != "meta"}
    return {**zeros, **{key.replace("__", "."): tensor for key, tensor in changes.items()}}


def saved(state: object, path: Path) -> Path:
    torch.save(state, path)
    return path


# --- the same weights, the same features


@pytest.mark.parametrize("name", SMALL)
def test_an_official_file_gives_the_features_of_the_same_weights_in_timm_bit_for_bit(name: str, tmp_path: Path):
    model = randomised(name)
    state = published(name, model.state_dict())
    if "register_tokens" in state:
        state["pos_embed"][:, 0] = torch.linspace(-1, 1, 384)
        model.cls_token.data = state["cls_token"] + state["pos_embed"][:, :1]  # pyright: ignore
    backbone = load(f"{family_of(name)}:{saved(state, tmp_path / 'official.pth')}")
    x = torch.rand(2, 3, 3 * backbone.stride, 2 * backbone.stride)
    wanted = wrap(model, name="timm")(x)
    assert wanted.pooled.std() > 0.01
    assert all(torch.equal(a, b) for a, b in zip(backbone(x), wanted, strict=True))
    assert backbone.stride == wrap(model, name="timm").stride
    assert (backbone.mean, backbone.extra) == (IMAGENET_MEAN, {})
    with torch.no_grad():
        assert torch.allclose(backbone.model((x - 0.45) / 0.22), model((x - 0.45) / 0.22))


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_size_is_recognised_and_none_of_its_keys_is_left_over(name: str):
    model = on_meta(name)
    state = published(name, model.state_dict())
    found = official.converted(state, family_of(name), source="file")
    assert found.unknown == []
    with torch.device("meta"), Undrawn():
        made = create(found.timm_name, found.timm_args)
    fill(made, found.tensors, source="file", wanted="all")
    assert TimmReader(made).settings == TimmReader(model).settings


@pytest.mark.parametrize("name", SMALL)
def test_timms_own_conversion_agrees(name: str):
    model = drawn(name)
    state = published(name, model.state_dict())
    if "register_tokens" in state:
        state["pos_embed"][:, 0] = 0.3
    found = official.converted(state, family_of(name), source="file").tensors
    found.pop("rope.periods", None)  # timm always computes them
    oracle: Callable[..., State] = vision_transformer.checkpoint_filter_fn  # pyright: ignore
    if "convnext" in name:
        oracle, state = convnext.checkpoint_filter_fn, {k: x for k, x in state.items() if "norms." not in k}
    elif family_of(name) == "dinov3":
        oracle = eva.checkpoint_filter_fn
    wanted = oracle(dict(state), model)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


# --- what files hold beside weights


@pytest.mark.parametrize("name", ["vit_base_patch14_dinov2", "vit_base_patch16_dinov3_qkvb"])
def test_a_training_dump_is_unwrapped(name: str, tmp_path: Path):
    state = cheap(name)
    dump = {
        f"backbone.{key.replace('blocks.', 'blocks.2.' if family_of(name) == 'dinov2' else 'blocks.')}": tensor
        for key, tensor in state.items()
    }
    dump |= {"dino_head.mlp.0.weight": torch.zeros(3), "ibot_head.last_layer.weight": torch.zeros(3)}
    dump = {k.replace("blocks.7.", "blocks.7._checkpoint_wrapped_module."): x for k, x in dump.items()}
    path = saved({"teacher": dump, "iteration": 5}, tmp_path / "teacher_checkpoint.pth")
    read = official.unwrapped(read_tensors(path), source="file")
    assert official.converted(read, family_of(name), source="file").unknown == []
    assert read.keys() - dump.keys() >= state.keys() - {"blocks"}


def dump(state: State, *, before: str = "", within: str = "") -> State:
    """Student and teacher as official training saves them; the teacher's weights are one larger."""
    own = {f"{within}backbone.{key}": tensor for key, tensor in state.items()}
    heads = {"dino_head.mlp.0.weight": torch.zeros(3), "ibot_head.last_layer.weight": torch.zeros(3)}
    return {
        **{f"{before}student.{key}": tensor for key, tensor in {**own, **heads}.items()},
        **{f"{before}teacher.{key}": tensor + 1 for key, tensor in own.items()},
        **{f"{before}teacher.{key}": tensor for key, tensor in heads.items()},
        "dino_loss.center": torch.zeros(3),
    }


@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "vit_small_patch16_dinov3_qkvb", "convnext_tiny"])
@pytest.mark.parametrize(
    ("before", "within"),
    [
        ("", ""),
        ("module.", ""),
        ("_orig_mod.", "_orig_mod."),
        ("", "_fsdp_wrapped_module."),
        ("_fsdp_wrapped_module.", "module."),
    ],
)
def test_a_training_dump_of_two_networks_gives_the_one_that_is_named(
    name: str, before: str, within: str, tmp_path: Path
):
    state = cheap(name)
    if "rope_embed.periods" in state:
        del state["rope_embed.periods"]
    path = saved({"model": dump(state, before=before, within=within), "iteration": 5}, tmp_path / "dump.pth")
    read = {
        word: official.unwrapped(
            official.of_network(read_tensors(path, network=word), word, address="a"), source="file"
        )
        for word in ("teacher", "student")
    }
    heads = {"dino_head.mlp.0.weight", "ibot_head.last_layer.weight"}
    assert read["teacher"].keys() == read["student"].keys() == state.keys() | heads
    assert all(torch.equal(read["student"][key], state[key]) for key in state)
    assert all(torch.equal(read["teacher"][key], state[key] + 1) for key in state)


def test_the_networks_of_a_dump_are_addresses(tmp_path: Path):
    name = "vit_small_patch14_dinov2"
    state = {key: tensor.clone() for key, tensor in published(name, randomised(name).state_dict()).items()}
    both = saved({"model": dump(state), "optimizer": {}}, tmp_path / "model.rank_0.pth")
    nested = saved({"student": state, "teacher": {k: x + 1 for k, x in state.items()}}, tmp_path / "dino.pth")
    save_file({key: tensor.clone() for key, tensor in dump(state).items()}, tmp_path / "dump.safetensors")
    for path in (both, nested, tmp_path / "dump.safetensors"):
        teacher, student = (load(f"dinov2:{path}:{word}").model for word in ("teacher", "student"))
        assert torch.equal(student.norm.weight, state["norm.weight"])  # pyright: ignore
        assert torch.equal(teacher.norm.weight, state["norm.weight"] + 1)  # pyright: ignore
    assert torch.equal(load(f"dinov2:{nested}").model.norm.weight, state["norm.weight"] + 1)  # pyright: ignore


def test_a_dump_of_two_networks_without_a_word_is_refused_with_the_words(tmp_path: Path):
    said = refusal({"model": dump(cheap("vit_small_patch14_dinov2"))}, tmp_path / "dump.pth", "dinov2")
    both = f"do name dinov2:{tmp_path}/dump.pth:teacher or dinov2:{tmp_path}/dump.pth:student"
    assert said.startswith(f"got dinov2:{tmp_path}/dump.pth, a training dump with student and teacher: want one")
    assert both in said
    with pytest.raises(BadInput, match="want teacher or student after the last colon"):
        load(f"dinov2:{tmp_path}/dump.pth:ema")


def test_a_word_for_a_network_that_a_file_does_not_hold_is_refused(tmp_path: Path):
    alone = saved(cheap("convnext_tiny"), tmp_path / "alone.pth")
    with pytest.raises(BadInput, match=rf"a file with one network alone: .*; do name dinov3:{alone}$"):
        load(f"dinov3:{alone}:teacher")
    half = saved({k: x for k, x in dump(cheap("convnext_tiny")).items() if "student" in k}, tmp_path / "half.pth")
    with pytest.raises(BadInput, match=rf"a file with student: .*; do name dinov3:{half}:student$"):
        load(f"dinov3:{half}:teacher")
    nested = saved({"student": cheap("convnext_tiny")}, tmp_path / "nested.pth")
    with pytest.raises(BadInput, match=rf"got {nested} with student, no tensors: .* or name {nested}:student$"):
        load(f"dinov3:{nested}")


def test_a_file_whose_name_ends_as_an_address_does_is_that_file(tmp_path: Path):
    path = saved(cheap("convnext_tiny"), tmp_path / "weights:teacher")
    assert load(f"dinov3:{path}").stride == 32


def test_the_mask_of_the_bias_is_applied_as_dinov3_does():
    def biases(mask: list[float], bias: list[float]) -> list[float]:
        state = cheap("vit_small_patch16_dinov3_qkvb")
        third = torch.ones(384)
        state["blocks.3.attn.qkv.bias"] = torch.cat([value * third for value in bias])
        state["blocks.3.attn.qkv.bias_mask"] = torch.cat([value * third for value in mask])
        found = official.converted(state, "dinov3", source="file").tensors
        return [found[f"blocks.3.attn.{part}_bias"][0].item() for part in "qv"]

    assert biases([1, 0, 1], [2, 7, 3]) == [2, 3]
    assert biases([0, 0, 0], [2, 7, 3]) == [0, 0]  # as released, where the bias is 0 too
    assert biases([math.nan] * 3, [2, 7, 3]) == [2, 3]


def test_the_periods_of_the_file_are_used_as_they_are(tmp_path: Path):
    """Published ones are rounded to bfloat16, and so the networks were trained."""
    model = randomised("vit_small_patch16_dinov3_qkvb")
    state = published("vit_small_patch16_dinov3_qkvb", model.state_dict())
    state["rope_embed.periods"] = state["rope_embed.periods"].bfloat16()
    backbone, exact = load(f"dinov3:{saved(state, tmp_path / 'vits.pth')}"), wrap(model, name="timm")
    x = torch.rand(1, 3, 64, 64)
    assert not torch.equal(backbone(x).patches, exact(x).patches)
    model.rope.periods.copy_(state["rope_embed.periods"])  # pyright: ignore
    assert torch.equal(backbone(x).patches, exact(x).patches)


@pytest.mark.parametrize("name", SMALL)
def test_a_model_that_a_file_fills_needs_no_weights_before_but_all_that_no_file_holds(name: str):
    made, plain = create_empty(name, arguments(name)), drawn(name)
    held = plain.state_dict().keys()
    assert made.state_dict().keys() == held
    for key, buffer in plain.named_buffers():
        assert key in held or torch.equal(made.get_buffer(key), buffer)


def test_satellite_weights_are_told_by_their_file_name(tmp_path: Path):
    state = cheap("vit_small_patch16_dinov3_qkvb", local_cls_norm__weight=torch.ones(384))  # the real one is of size L
    backbone = load(f"dinov3:{saved(state, tmp_path / 'dinov3_vitl16_pretrain_sat493m-eadcf0ff.pth')}")
    published = timm.get_pretrained_cfg("vit_large_patch16_dinov3.sat493m")
    assert published is not None
    assert (backbone.mean, backbone.std) == (published.mean, published.std)


def test_safetensors_of_the_same_keys_load(tmp_path: Path):
    state = {key: tensor.clone().contiguous() for key, tensor in cheap("convnext_tiny").items()}
    state["norm.bias"] += 2
    save_file(state, tmp_path / "tiny.safetensors")
    assert load(f"dinov3:{tmp_path / 'tiny.safetensors'}")(torch.rand(1, 3, 32, 32)).pooled.eq(2).all()


# --- what is refused


def refusal(state: object, path: Path, family: str = "dinov3") -> str:
    if not path.exists():
        torch.save(state, path)
    with pytest.raises(BadInput) as caught:
        load(f"{family}:{path}")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_keys_that_differ_are_named(tmp_path: Path):
    state = cheap(
        "convnext_tiny", norm__bias=torch.zeros(3), stages__4__0__gamma=torch.zeros(3), fc__bias=torch.zeros(3)
    )
    del state["stages.2.8.gamma"]
    said = refusal(state, tmp_path / "tiny.pth")
    assert "1 missing: stages.2.blocks.8.gamma; 2 unknown: fc.bias, stages.4.blocks.0.gamma" in said
    assert "1 of another shape: head.norm.bias 3 for 768" in said
    assert "convnext_tiny" in said


@pytest.mark.parametrize(
    ("name", "family", "said"),
    [
        ("vit_small_patch14_dinov2", "dinov3", "pos_embed, as a DINOv2 file has: want an official DINOv3 file"),
        ("vit_small_patch14_reg4_dinov2", "dinov3", "pos_embed, register_tokens, as a DINOv2 file has"),
        (
            "vit_small_patch16_dinov3_qkvb",
            "dinov2",
            "with storage_tokens, rope_embed.periods, blocks.0.attn.qkv.bias_mask, as a DINOv3 file has",
        ),
        ("vit_small_plus_patch16_dinov3_qkvb", "dinov2", "storage_tokens"),
        ("convnext_tiny", "dinov2", "downsample_layers.0.0.weight, as a DINOv3 file has: want an official DINOv2 file"),
    ],
)
def test_a_file_of_the_other_family_is_sent_to_its_address(name: str, family: str, said: str, tmp_path: Path):
    path = tmp_path / "file.pth"
    refused = refusal(cheap(name), path, family)
    assert said in refused
    assert refused.endswith(f"; do name {family_of(name)}:{path}")


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_file_has_keys_of_its_family_alone(name: str):
    state = published(name, on_meta(name).state_dict())
    kinds = {
        family: [kind for kind in kinds if any(re.fullmatch(kind, key) for key in state)]
        for family, kinds in official_names.OWN_KEYS.items()
    }
    assert kinds.pop(family_of(name))
    assert not any(kinds.values())


def test_a_file_of_no_family_is_told_by_the_keys_that_neither_has(tmp_path: Path):
    state = cheap("vit_small_patch14_dinov2", fc__bias=torch.zeros(3))
    del state["pos_embed"]
    assert "without pos_embed, with fc.bias: want an official DINOv2 file" in refusal(
        state, tmp_path / "a.pth", "dinov2"
    )
    del state["fc.bias"]
    assert "without pos_embed: want an official DINOv2 file" in refusal(state, tmp_path / "b.pth", "dinov2")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"blocks__5__ls1__gamma": torch.full((384,), math.nan)}, "blocks.5.gamma_1 not finite"),
        ({"blocks__5__attn__qkv__bias_mask": torch.ones(1152), "blocks__5__attn__qkv__bias": torch.ones(1152)},
         "a bias of keys in blocks.5.attn.qkv.bias"),
        ({"rope_embed__periods": torch.full((16,), math.nan)}, "rope.periods not finite"),
        ({"backbone__norm__bias": torch.zeros(384)}, "norm.bias twice"),
        ({"patch_embed__proj__weight": torch.zeros(400, 3, 16, 16)}, "400 wide, 12 blocks, mlp 1536"),
    ],
    ids=["nan", "key bias", "nan periods", "twice", "size"],
)  # fmt: skip
def test_what_timm_would_lose_or_no_training_leaves_is_refused(changes: State, said: str, tmp_path: Path):
    assert said in refusal(cheap("vit_small_patch16_dinov3_qkvb", **changes), tmp_path / "vits.pth")


class Trap:
    """Unpickling it would make a folder."""

    def __init__(self, place: Path) -> None:
        self.place = str(place)

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (self.place,)


def test_a_file_that_would_run_code_is_refused_and_does_not(tmp_path: Path):
    said = refusal({"teacher": Trap(tmp_path / "ran")}, tmp_path / "trap.pth")
    assert "cannot be read without running code from it (posix.mkdir)" in said
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Trap(tmp_path / "ran"), protocol=2))
    assert "cannot be read without running code" in refusal(None, tmp_path / "bare.pth")
    assert not (tmp_path / "ran").exists()


def torn(folder: Path) -> bytes:
    """A file so long that torch still takes its half for an archive."""
    whole = saved({"a": torch.zeros(40_000)}, folder / "long.pth").read_bytes()
    return whole[: len(whole) // 2]


def test_files_that_hold_no_state_dict_are_one_line(tmp_path: Path):
    state = cheap("convnext_tiny")
    whole = saved(state, tmp_path / "whole.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "page.pth").write_text("<html>Please log in to download</html>")
    (tmp_path / "most.pth").write_bytes(torn(tmp_path))
    assert "got an unreadable" in refusal(None, tmp_path / "half.pth")
    assert "(PytorchStreamReader failed" in (said := refusal(None, tmp_path / "most.pth"))
    assert ".): want a whole checkpoint file" in said  # the reason ends where a sentence does
    assert "got an unreadable" in refusal(None, tmp_path / "empty.pth")
    assert "is no checkpoint (it begins with b'<html>" in refusal(None, tmp_path / "page.pth")
    assert "holds no state dict" in refusal([1, 2], tmp_path / "list.pth")
    assert "epoch, no tensors" in refusal({**state, "epoch": 3}, tmp_path / "mixed.pth")
    assert "with embeddings.cls_token: want" in refusal({"embeddings.cls_token": torch.ones(1)}, tmp_path / "hf.pth")
    with pytest.raises(BadInput, match="where no file lies"):
        load("dinov2:nowhere.pth")


def test_files_from_before_zip_archives_load(tmp_path: Path):
    torch.save({"model": {"a": torch.ones(2)}}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_tensors(tmp_path / "old.pth")["a"].tolist() == [1, 1]
