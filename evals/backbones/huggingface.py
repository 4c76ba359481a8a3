"""Hugging Face's vision backbones (`AutoModel`) as the contract of `evals.backbones.backbone`; the extra `gramlab[hf]`.

The one home of transformers, imported inside functions. Weights come from safetensors and no code of a repository runs.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from common.errors import BadInput, first_line
from evals.backbones.huggingface_inputs import inputs_of
from evals.backbones.weights import Loaded, quiet, refuse_differences, refuse_endless, refuse_non_finite

# Final norms that a model does not apply to the hidden states that it returns
FINAL_NORMS = {
    "beit": "pooler.layernorm",
    "clip_vision_model": "post_layernorm",
    "convnext": "layernorm",
    "convnextv2": "layernorm",
    "data2vec-vision": "pooler.layernorm",
}
# Parts of a file that no backbone has a place for
HEADS = ("classifier", "cls_classifier", "decode_head", "decoder", "distillation_classifier", "head", "lm_head")
# Settings that say where a model came from, not what it computes
_PROSE = ("_name_or_path", "architectures", "dtype", "id2label", "label2id", "transformers_version")
# What the hub lets a model be called; anything else is a path
_HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?")


def load(name: str) -> Loaded:
    """A vision model of the Hugging Face hub, its cache, or a folder that `save_pretrained` wrote, in float32.

    Raises:
        BadInput: transformers is missing; no such folder or model, none of images alone, or none with a map of patches;
            weights that are missing, left over, damaged, or not in safetensors.
    """
    transformers = _transformers()
    _refuse_no_folder(name)
    with quiet("huggingface_hub", "transformers"), _no_bars(transformers):
        config = _config(transformers, name)
        _refuse_foreign_code(config, name)
        refuse_endless(f"the config.json of hf:{name}", vars(config))
        model = _model(_class_of(transformers, config, name), config, name)
        mean, std = inputs_of(name)
        return Loaded(model.eval(), mean, std, reader=HubReader(model, config, name))


class HubReader:
    """Features of a Hugging Face model from its `last_hidden_state`: a map [B D h w], or tokens [B T D], patches last.

    Prefix tokens (class, registers) are what T exceeds the number of patches by.
    """

    def __init__(self, model: nn.Module, config: Any, name: str) -> None:
        self.model = model
        settings = {k: v for k, v in config.to_dict().items() if k not in _PROSE}
        settings["transformers"] = _transformers().__version__  # its code computes, and changes with its releases
        self.settings = json.dumps(settings, sort_keys=True, default=str)
        self.norm = _final_norm(model, config.model_type)
        inside = (getattr(model, name, None) for name in ("norm", "layernorm", "post_layernorm"))
        self.final = next((x for x in inside if isinstance(x, nn.Module)), self.norm)
        self.freedom = {"interpolate_pos_encoding": True} if _takes(model, "interpolate_pos_encoding") else {}
        self.stride, self.prefix = self._layout(config, name)

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        last = self._last(images)
        if last.ndim == 4:
            patches = self.norm(last.movedim(1, -1)).movedim(-1, 1)
            return self.norm(last.mean((2, 3))), patches
        height, width = images.shape[2] // self.stride, images.shape[3] // self.stride
        if last.shape[1] != self.prefix + height * width:
            raise ValueError(f"size: {last.shape[1]} tokens for {height} x {width} patches")
        patches = self.norm(last[:, self.prefix :])
        pooled = self.norm(last[:, 0]) if self.prefix else patches.mean(1)
        return pooled, patches.mT.unflatten(2, (height, width))

    def _last(self, images: Tensor) -> Tensor:
        return self.model(pixel_values=images, **self.freedom).last_hidden_state

    @torch.no_grad()
    def _layout(self, config: Any, name: str) -> tuple[int, int]:
        """Stride in pixels and number of prefix tokens, from two equal images at the model's own size."""
        height, width = _pair(getattr(config, "image_size", None) or 224)
        image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
        try:
            last = self._last(image.expand(2, -1, -1, -1))
        except Exception as error:  # whatever a model for other inputs raises
            raise _no_map(name, self.model, first_line(error)) from error
        if last.ndim == 4:
            return height // last.shape[2], 0
        stages = len(getattr(config, "depths", (1,)))
        stride = _pair(getattr(config, "patch_size", None) or 4)[0] * 2 ** (stages - 1)
        patches = (height // stride) * (width // stride)
        prefix = last.shape[1] - patches if last.ndim == 3 else -1
        most = 2 + (getattr(config, "num_register_tokens", 0) or 0)  # class and distillation token
        if not 0 <= prefix <= most:
            raise _no_map(name, self.model, f"{tuple(last.shape[1:])} features for {patches} patches")
        if not torch.allclose(last[0], last[1], rtol=1e-3, atol=1e-3):  # masked autoencoders drop and shuffle patches
            raise _no_map(name, self.model, "equal images gave unequal features")
        return stride, prefix


def _transformers() -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise BadInput(f"got hf:… without transformers ({error}): want it; do pip install 'gramlab[hf]'") from error


@contextmanager
def _no_bars(transformers: Any) -> Iterator[None]:
    """Loading shows no bars, as it takes a moment; downloads still do, as they take long."""
    shown = transformers.utils.logging
    if not shown.is_progress_bar_enabled():
        yield
        return
    shown.disable_progress_bar()  # those of downloads too
    importlib.import_module("huggingface_hub.utils").enable_progress_bars()
    try:
        yield
    finally:
        shown.enable_progress_bar()


def _refuse_no_folder(name: str) -> None:
    path = Path(name)
    if path.is_file():
        raise BadInput(f"got hf:{name}, a file: want the folder that it lies in; do name hf:{path.parent}")
    if not _HUB_NAME.fullmatch(name) and not (name and path.is_dir()):
        raise BadInput(
            f"got hf:{name}, no such folder: want one that save_pretrained wrote, or a name on the Hugging Face hub; "
            "do check the path"
        )


def _config(transformers: Any, name: str) -> Any:
    try:
        return transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # its classes change with every release of the hub's client
        raise _unavailable("model", name, error) from error


def _refuse_foreign_code(config: Any, name: str) -> None:
    """Attention may be named as a kernel of the hub, `owner/name`, whose code the library would fetch and run."""
    for part in (config, *vars(config).values()):
        attention = getattr(part, "_attn_implementation", None)
        if isinstance(attention, str) and "/" in attention:
            raise BadInput(
                f"got hf:{name} whose attention is {attention}, code of the hub: want one that transformers holds; do "
                "take attn_implementation out of its config.json"
            )


def _unavailable(what: str, name: str, error: Exception) -> BadInput:
    wanted = (
        "a folder with config.json and safetensors; do save the model there again"
        if Path(name).is_dir()
        else "a folder or a name on the Hugging Face hub or in its cache, with safetensors; do check name and network"
    )
    return BadInput(f"got no {what} at hf:{name} ({first_line(error)}): want {wanted}")


def _class_of(transformers: Any, config: Any, name: str) -> Any:
    if config.model_type == "timm_wrapper":
        raise BadInput(
            f"got hf:{name}, a model of timm: want it by its own address; do take timm:{config.architecture}"
        )
    try:
        kind = transformers.MODEL_MAPPING[type(config)]
    except (KeyError, ValueError) as error:
        raise BadInput(
            f"got hf:{name} of type {config.model_type}: want a type of AutoModel; do name another"
        ) from error
    kind = kind[0] if isinstance(kind, tuple | list) else kind
    if getattr(kind, "main_input_name", None) != "pixel_values":
        raise BadInput(f"got hf:{name}, a {kind.__name__}: want a model of images alone; do name a vision backbone")
    return kind


def _model(kind: Any, config: Any, name: str) -> nn.Module:
    """The model, in which every weight but those of an unused pooler comes from the file."""
    try:
        model, told = kind.from_pretrained(
            name,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        )
    except SafetensorError as error:
        raise (_damaged(name, error) or _unavailable("weights", name, error)) from error
    except Exception as error:
        raise _unavailable("weights", name, error) from error
    missing = sorted(key for key in told["missing_keys"] if not key.startswith("pooler."))
    if len(missing) < len(told["missing_keys"]):
        model.pooler = None
    refuse_differences(
        f"hf:{name}",
        missing=missing,
        unknown=[key for key in told["unexpected_keys"] if not {*key.split(".")[:2]} & {*HEADS}],
        misshapen=[key for key, *_ in told["mismatched_keys"]],
        wanted="the weights of its config.json; do save the model again",
    )
    refuse_non_finite(f"hf:{name}", model.state_dict())
    return model


def _damaged(name: str, error: SafetensorError) -> BadInput | None:
    """Names the file, which the library does not; None where every file opens."""
    folder = Path(name)
    if not folder.is_dir():
        client = importlib.import_module("huggingface_hub")
        config = client.try_to_load_from_cache(name, "config.json")
        if not isinstance(config, str):
            return None
        folder = Path(config).parent
    file = next((path for path in sorted(folder.glob("*.safetensors")) if not _opens(path)), None)
    return file and BadInput(
        f"got an unreadable {file} ({first_line(error)}): want whole safetensors; do remove it, and save or download "
        "the model again"
    )


def _opens(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt"):
            return True
    except SafetensorError:
        return False


def _final_norm(model: nn.Module, model_type: str) -> nn.Module:
    found: Any = model
    for part in FINAL_NORMS.get(model_type, "").split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, nn.Module) else nn.Identity()


def _takes(model: nn.Module, argument: str) -> bool:
    return argument in inspect.signature(model.forward).parameters


def _pair(value: Any) -> tuple[int, int]:
    first, second = value if isinstance(value, tuple | list) else (value, value)
    return int(first), int(second)


def _no_map(name: str, model: nn.Module, reason: str) -> BadInput:
    return BadInput(
        f"got hf:{name}, whose {type(model).__name__} gives no map of patches ({reason}): want a backbone of images "
        "[B, 3, H, W]; do name another"
    )
