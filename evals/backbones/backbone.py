"""Any vision backbone as one contract: images in, features out; the model itself stays as it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from common.errors import BadInput, first_line
from evals.backbones.digest import add
from evals.backbones.final_norm import inputs_of, lengths
from evals.backbones.timm_models import TimmReader
from evals.backbones.weights import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Loaded,
    Triple,
)


class Features(NamedTuple):
    """`patches`: after the final norm. `pooled`: the class token after that norm; where there is none, the mean patch.

    Where a network's final norm follows its pooling (ConvNeXt), `pooled` is the norm of the mean. `lengths`: the norm
    of each patch before the final norm, which hides differences; of the patch itself where no such norm can be seen.
    """

    pooled: Float[Tensor, "B D"]
    patches: Float[Tensor, "B D h w"]
    lengths: Float[Tensor, "B h w"]


class Backbone(nn.Module):
    """A frozen view of a model: its weights, flags and gradients stay as they are.

    Raises:
        BadInput: the model has no `forward_intermediates`, timm's door to its feature map, and no reader of its own.
    """

    def __init__(self, found: Loaded, *, name: str) -> None:
        super().__init__()
        if found.reader is None and not hasattr(found.model, "forward_intermediates"):
            raise BadInput(
                f"got {name}, which gives no feature map: want a timm model with forward_intermediates; do pick a ViT, "
                "ConvNeXt or ResNet"
            )
        self.model = found.model
        self.name = name
        self.mean, self.std, self.extra = found.mean, found.std, dict(found.extra)
        self.reader = found.reader or TimmReader(found.model)

    @property
    def stride(self) -> int:
        """Side of a patch in pixels."""
        return self.reader.stride

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def fingerprint(self) -> str:
        """Hex over weights, buffers, kinds of modules and their settings, read anew: weights may train on."""
        digest = hashlib.sha256(repr((self.mean, self.std, self.reader.settings)).encode())
        for path, module in self.model.named_modules():
            digest.update(f"{path}:{type(module).__name__}".encode())
        for name, tensor in (*self.model.named_parameters(), *self.model.named_buffers()):
            add(digest, name, tensor)
        return digest.hexdigest()

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Features:
        """Images in [0, 1], not normalised, sides multiples of `stride`; float32 features on the model's device.

        Raises:
            BadInput: a size that the model does not take.
        """
        images = images.to(self.device)
        mean, std = (images.new_tensor(x).view(1, 3, 1, 1) for x in (self.mean, self.std))
        height, width = images.shape[2:]
        with _eval_mode(self.model), inputs_of(self.reader.final) as before:
            try:
                pooled, patches = self.reader((images - mean) / std)
            except (AssertionError, ValueError, RuntimeError, IndexError) as error:
                if not _about_size(error):
                    raise
                raise self._refusal(height, width, first_line(error)) from error
        if tuple(patches.shape[2:]) != (height // self.stride, width // self.stride):
            reason = f"its map is {patches.shape[2]} x {patches.shape[3]} at a stride of {self.stride}"
            raise self._refusal(height, width, reason)
        return Features(pooled.float(), patches.float(), lengths(before, patches))

    def _refusal(self, height: int, width: int, reason: str) -> BadInput:
        return BadInput(
            f"got {height} x {width} images for {self.name}, which refuses them ({reason}): want a size that its "
            "patches and windows fit, or its native one; do change the size or the model"
        )


def wrap(
    model: nn.Module,
    *,
    name: str,
    mean: Triple = IMAGENET_MEAN,
    std: Triple = IMAGENET_STD,
    extra: Mapping[str, Any] | None = None,
) -> Backbone:
    """See a timm model as a `Backbone`. Raises BadInput as it does."""
    return Backbone(Loaded(model, mean, std, extra or {}), name=name)


def _about_size(error: Exception) -> bool:
    """Whether a model complains of the input's size; timm asserts, others let a tensor operation fail."""
    if isinstance(error, BadInput | torch.OutOfMemoryError):
        return False
    words = str(error).lower()
    return isinstance(error, AssertionError) or (("size" in words or "shape" in words) and "allocat" not in words)


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
