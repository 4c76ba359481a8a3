"""Branches of blocks as torch.compile makes them (`runtime.compile`), where there is a compiler."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import first_line

log = logging.getLogger("gramlab")

COMPILED = "gramlab_compiled"  # where a backbone in training keeps that its branches are; copies of it have the same
SHAPES = 64  # for which one branch is compiled: crops of several sides, with gradient and without, two precisions


@cache
def works(device: str) -> bool:
    """Whether torch.compile can make anything for this type of device; told once where it cannot."""
    try:
        torch.compile(_probe)(torch.ones(8, device=device))
    except Exception as error:  # whatever a missing or broken compiler raises
        log.warning("runtime.compile: torch.compile does not work here (%s); blocks are run as they are", _cause(error))
        return False
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, SHAPES)
    return True


def settle(backbone: nn.Module, wanted: bool, device: torch.device) -> None:
    """Let a backbone's branches be compiled where that is wanted and works."""
    setattr(backbone, COMPILED, wanted and works(device.type))


def branch(function: Callable[..., Tensor], block: nn.Module, x: Tensor, **more: Any) -> Tensor:
    """A branch of a block; one compilation serves all blocks that are alike."""
    with torch._C.DisableTorchFunction():  # products are the compiler's to choose, not common.products'
        return _made(function)(block, x, **more)


@cache
def _made(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return torch.compile(function, dynamic=False)


def _probe(x: Tensor) -> Tensor:
    return x.sin() + x.cos()


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
