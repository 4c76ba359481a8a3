"""The linear head on frozen patch features, and what any head predicts at the pixels of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from common.draws import torch_generator
from evals.backbones.backbone import Backbone
from evals.features.frozen import encode
from evals.features.view import Precision

Readout = Callable[[Tensor], Tensor]  # patches [B D h w] -> maps [B C h w]


class LinearHead(nn.Module):
    """Batch norm and a 1 × 1 convolution, weights from N(0, `init_std`²) by the seed, bias 0.

    One process trains it, so that batch norm over the batch is what synchronised batch norm is over all processes.
    """

    def __init__(self, width: int, outputs: int, *, init_std: float, seed: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        drawn = torch.randn(outputs, width, 1, 1, generator=torch_generator(seed, "head"))
        self.weight, self.bias = nn.Parameter(init_std * drawn), nn.Parameter(torch.zeros(outputs))

    def forward(self, patches: Float[Tensor, "B D h w"]) -> Float[Tensor, "B C h w"]:
        return F.conv2d(self.norm(patches), self.weight, self.bias)


def width(backbone: Backbone, size: int) -> int:
    """How many features a patch has, as seen on one grey image of this size."""
    return encode(backbone, torch.full((1, 3, size, size), 0.5, device=backbone.device))[0].shape[1]


def see(
    backbone: Backbone, head: Readout, images: Float[Tensor, "B 3 H W"], *, precision: Precision = "float32"
) -> Float[Tensor, "B C H W"]:
    """What a head says at the pixels of images in [0, 1] of any sides."""
    patches, to_pixels = encode(backbone, images, precision=precision)
    return to_pixels(head(patches))


@contextmanager
def judging(head: Readout) -> Iterator[None]:
    """A head that is a module in evaluation mode inside the block, and as it was behind it."""
    if not isinstance(head, nn.Module):
        yield
        return
    training = head.training
    head.eval()
    try:
        yield
    finally:
        head.train(training)
