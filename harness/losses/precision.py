"""What all losses share: at least float32 whatever the autocast, and one clear line for impossible input."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from common.errors import BadInput

P = ParamSpec("P")
R = TypeVar("R")

# Below this length a token has no direction. Larger than the usual 1e-12, so that the gradient of a zero token, its
# incoming gradient divided by this number, can still be squared in float32 (gradient clipping does).
SHORTEST = 1e-8


def autocast_off(device: str) -> AbstractContextManager[object]:
    """A context without autocast on this type of device (types that have none, such as meta, need nothing)."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def guarded(refuse: Callable[..., None]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Runs a loss with autocast off, after `refuse` has looked at the same arguments and raised if they are impossible.

    A decorator, so that the check comes before the runtime shape checks of the tests: users and tests see one error.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            refuse(*args, **kwargs)
            first = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
            with autocast_off(first.device.type):
                return function(*args, **kwargs)

        return run

    return decorate


def as_multiplied(x: Float[Tensor, " ..."]) -> Float[Tensor, " ..."]:
    """In the type that autocast, where it is on, has products taken in."""
    device = x.device.type
    if x.dtype == torch.float64 or not torch.amp.is_autocast_available(device):
        return x
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


def at_least_float32(x: Float[Tensor, " ..."]) -> Float[Tensor, " ..."]:
    """float64 stays float64; everything narrower than float32 becomes float32."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def unit_length(x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
    """Each row divided by its length; a zero row stays zero and keeps a finite gradient."""
    return torch.nn.functional.normalize(at_least_float32(x), dim=-1, eps=SHORTEST)


def shape(x: Tensor) -> str:
    """`[4, 65536]`, for messages."""
    return str(list(x.shape))


def refuse_unless(ok: bool, message: str) -> None:
    """Raises BadInput with `message` unless `ok`."""
    if not ok:
        raise BadInput(message)


def refuse_non_float(**tensors: Tensor) -> None:
    """Raises BadInput naming the first tensor that does not hold floating-point numbers."""
    for name, tensor in tensors.items():
        refuse_unless(tensor.is_floating_point(), f"got {name} of {tensor.dtype}: want floating point; convert it")


def refuse_cold(temperature: float) -> None:
    """Raises BadInput unless the temperature is above zero."""
    refuse_unless(temperature > 0, f"got temperature {temperature}: want more than 0; the recipe uses 0.04 to 0.1")
