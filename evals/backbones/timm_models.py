"""timm models as backbones: made so that they take other input sizes, and read at their last feature map."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import timm
from timm.layers.classifier import ClNormMlpClassifierHead, NormMlpClassifierHead
from timm.models.hiera import Hiera
from timm.models.hieradet_sam2 import HieraDet
from timm.models.mambaout import MlpHead
from torch import Tensor, nn

from common.errors import BadInput, first_line
from common.on_meta import on_meta
from evals.backbones.weights import refuse_endless

# What timm's factory takes beside an architecture's own arguments: files to open and places to fetch weights from
FACTORY = {p.name for p in inspect.signature(timm.create_model).parameters.values() if p.kind is not p.VAR_KEYWORD}
# Of a vision transformer with a class token, and without one in each of timm's two families
_POOLINGS: tuple[dict[str, Any], ...] = (
    {"global_pool": "token"},
    {"global_pool": "avg", "fc_norm": False},
    {"global_pool": "avg", "use_fc_norm": False},
)


def create(name: str, args: Mapping[str, Any], *, pretrained: bool = False) -> nn.Module:
    """A timm model without classifier that takes other input sizes than its own, where timm offers that."""
    for freedom in ({"dynamic_img_size": True}, {"strict_img_size": False}):
        try:
            return timm.create_model(name, pretrained=pretrained, **{"num_classes": 0, **freedom, **args})
        except TypeError as error:
            if next(iter(freedom)) not in str(error):
                raise
    return timm.create_model(name, pretrained=pretrained, **{"num_classes": 0, **args})


def vit_args(name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """What a vision transformer is made with so that it ends as it is trained and judged here, `args` among it.

    It pools its class token, or where it has none the mean of its patches; its final norm goes over all tokens before.
    """
    return {**_pooling(name, json.dumps(dict(args))), **args}


@cache
def _pooling(name: str, args: str) -> dict[str, Any]:
    for pooling in _POOLINGS:
        try:
            with on_meta():
                create(name, {**pooling, **json.loads(args)})
        except (AssertionError, TypeError):  # no class token, or no such key: another pooling fits
            continue
        return pooling
    return {}


def create_told(
    name: str, args: Mapping[str, Any], *, card: Path, make: Callable[[str, Mapping[str, Any]], nn.Module] = create
) -> nn.Module:
    """As `make`, from what a file says. Raises BadInput that names it where timm does not take the arguments."""
    if foreign := sorted(FACTORY & args.keys()):
        raise BadInput(
            f"got {', '.join(foreign)} among the arguments of {name} in {card}: want those of the architecture alone; "
            "do take them out"
        )
    refuse_endless(str(card), args)
    try:
        return make(name, args)
    except Exception as error:  # whatever a model's code makes of values that it was not written for
        raise BadInput(
            f"got arguments of {name} in {card} that timm does not take ({first_line(error)}): want those that it was "
            "made with; do correct them or install the timm of that time"
        ) from error


def create_empty(name: str, args: Mapping[str, Any]) -> nn.Module:
    """As `create`, with weights that hold anything, for a file that fills them all: billions take minutes to draw."""
    with on_meta():
        model = create(name, args)
    model.to_empty(device="cpu")
    for module in model.modules():
        if hasattr(module, "init_non_persistent_buffers"):  # what no file holds, such as the periods of RoPE
            cast(Any, module).init_non_persistent_buffers()
    return model


class TimmReader:
    """Features of a timm model through `forward_intermediates`, timm's door to the map of the last block."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.stride = _stride(model)
        head = getattr(model, "head", None)
        norms = (getattr(model, "norm", None), getattr(model, "fc_norm", None), getattr(head, "norm", None))
        self.final = next((x for x in norms if isinstance(x, nn.Module) and not isinstance(x, nn.Identity)), None)

    @property
    def settings(self) -> str:
        """Every plain attribute of the modules: heads, sizes, rates and the like, which no weight shows."""
        plain = (bool, int, float, str, tuple, type(None))
        return repr(
            [
                (
                    path,
                    sorted((k, repr(v)) for k, v in vars(module).items() if k != "training" and isinstance(v, plain)),
                )
                for path, module in self.model.named_modules()
            ]
        )

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        norm = not isinstance(self.model, Hiera | HieraDet)  # theirs is in the head
        last, (patches,) = cast(Any, self.model).forward_intermediates(images, indices=1, norm=norm, output_fmt="NCHW")
        if getattr(getattr(self.model, "embeds", self.model), "cls_token", None) is not None:
            patches = _token_norm(self.model, patches.movedim(1, -1)).movedim(-1, 1)
            return _token_norm(self.model, last[:, 0]), patches
        final = _map_norm(self.model)
        return final(patches.mean((2, 3), keepdim=True)).flatten(1), final(patches)


def _stride(model: nn.Module) -> int:
    told = getattr(model, "feature_info", None)
    if told:
        return int(told[-1]["reduction"])
    patch = cast(Any, model).patch_embed.patch_size
    return int(patch[0]) if isinstance(patch, tuple | list) else int(patch)


def _token_norm(model: nn.Module, tokens: Tensor) -> Tensor:
    # Mean-pooled ViTs keep their final norm behind the pooling, under another name
    final, behind = getattr(model, "norm", None), getattr(model, "fc_norm", None)
    return behind(tokens) if isinstance(final, nn.Identity) and isinstance(behind, nn.Module) else tokens


def _map_norm(model: nn.Module) -> Callable[[Tensor], Tensor]:
    # Networks that pool before their final norm keep it in the head: here it goes over every position
    head = getattr(model, "head", None)
    norm = getattr(head, "norm", None)
    if isinstance(head, ClNormMlpClassifierHead | MlpHead) and norm is not None:
        return lambda x: norm(x.movedim(1, -1)).movedim(-1, 1)
    if isinstance(head, NormMlpClassifierHead | nn.Sequential) and norm is not None:
        return norm
    return lambda x: _token_norm(model, x.movedim(1, -1)).movedim(-1, 1)
