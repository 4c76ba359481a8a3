"""The lengths of patches before a network's final norm.

A LayerNorm brings all of them to one length and so hides artefacts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn


@contextmanager
def inputs_of(norm: nn.Module | None) -> Iterator[list[Tensor]]:
    """Collects what goes into a module inside the block."""
    seen: list[Tensor] = []
    if norm is None:
        yield seen
        return
    handle = norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        yield seen
    finally:
        handle.remove()


def lengths(seen: Sequence[Tensor], patches: Float[Tensor, "B D h w"]) -> Float[Tensor, "B h w"]:
    """Norm of each patch as it went into the final norm, from what that module saw; else of the patch itself.

    It saw tokens [B T D], prefix first, or a map [B D h w] or [B h w D]; of several the last such counts.
    """
    count, _, height, width = patches.shape
    for x in reversed(seen):
        if x.shape == patches.shape:
            return torch.linalg.vector_norm(x.float(), dim=1)
        if x.ndim == 3 and len(x) == count and x.shape[1] >= height * width:
            return torch.linalg.vector_norm(x[:, -height * width :].float(), dim=2).unflatten(1, (height, width))
        if x.ndim == 4 and x.shape[:3] == (count, height, width):
            return torch.linalg.vector_norm(x.float(), dim=3)
    return torch.linalg.vector_norm(patches.float(), dim=1)
