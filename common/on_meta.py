"""The meta device, where tensors have shapes and no memory: what a call makes there is worked out once, and counted.

It depends on the shapes and types of what goes in alone, but torch works much of it out in Python, a millisecond for a
layer norm, and the blocks of a network, and networks that are alike, ask the same again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C import DispatchKey
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

META = torch.device("meta")
FORMULAS: Mapping[Any, Callable[..., int]] = FlopCounterMode(display=False).flop_registry
FULL = 2**15  # calls that are kept, some 30 MiB; a plan has a few thousand
PLAIN = frozenset({bool, int, float, str, torch.dtype, torch.device, torch.layout, torch.memory_format, type(None)})


@contextmanager
def on_meta() -> Iterator[Operations]:
    """Inside the block tensors are made on the meta device where nothing else is said."""
    with META, Operations() as operations:
        yield operations


class Operations(TorchDispatchMode):
    """Counts floating-point operations in `flops`, to the same number as torch's `FlopCounterMode`.

    What was refused for its shapes is refused each time; tensors that are not on the meta device are left to torch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        is_view, is_made_of_others, formula = _kind(func)
        if is_made_of_others:
            with self:
                return func.decompose(*args, **kwargs)
        key = None if is_view else _key(func, args, kwargs)
        made = None if key is None else _known.get(key)
        if made is not None:
            self.flops += made.flops
            return made.again(args, kwargs)
        found = func(*args, **kwargs)
        flops = formula(*args, **kwargs, out_val=found) if formula else 0
        self.flops += flops
        if key is not None and key == _key(func, args, kwargs):  # else it changed the shape of what it was given
            results = _results(found, args, kwargs)
            if results is not None:
                if len(_known) >= FULL:
                    _known.clear()
                _known[key] = _Made(flops, results, type(found))
        return found


def fused_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / √d) v of [B, H, N, d] on the meta device, which has no such kernel as CPUs and GPUs have.

    For its gradient is kept what they keep: what goes in, what comes out and a number for each query, not the scores.
    """
    return _Fused.apply(q, k, v)  # pyright: ignore[reportReturnType]


class _Fused(torch.autograd.Function):
    """The products of attention and of its gradient, of tensors that have no numbers."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        y = (q @ k.mT @ v).transpose(1, 2).contiguous().transpose(1, 2)  # heads side by side, as kernels have them
        ctx.save_for_backward(q, k, v, y, y.new_empty(y.shape[:-1]))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, *_ = ctx.saved_tensors
        scores = grad_outputs[0] @ v.mT
        return scores @ k, scores.mT @ q, scores.mT @ grad_outputs[0]


class _Fresh(NamedTuple):
    """A tensor with memory of its own."""

    shape: Sequence[int]
    stride: Sequence[int]
    dtype: torch.dtype

    def made(self) -> Tensor:
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=META)


class _Made(NamedTuple):
    """What a call makes: its operations, and its results, of which each is new, None, or one of the tensors given."""

    flops: int
    results: Sequence[_Fresh | int | None]
    form: type

    def again(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The results for other arguments of the same key."""
        given = [*_tensors((*args, *kwargs.values()))]
        found = [one.made() if isinstance(one, _Fresh) else None if one is None else given[one] for one in self.results]
        return self.form(found) if self.form in (tuple, list) else found[0]


_known: dict[Hashable, _Made] = {}


@cache
def _kind(func: Any) -> tuple[bool, bool, Callable[..., int] | None]:
    """Of a function of torch: whether it yields a view, whether it is made of others, its formula for operations."""
    formula = FORMULAS.get(func._overloadpacket)
    is_made_of_others = formula is None and func.has_kernel_for_dispatch_key(DispatchKey.CompositeImplicitAutograd)
    return func.is_view, is_made_of_others, formula


def _key(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Hashable | None:
    """All of a call that what it makes depends on; None where something else than shapes on the meta device does.

    But torch's default type, which nobody changes here.
    """
    parts: list[Any] = [func]
    return tuple(parts) if _put(args, parts) and _put(kwargs.values(), parts, names=tuple(kwargs)) else None


def _put(values: Any, parts: list[Any], names: tuple[str, ...] = ()) -> bool:
    """Add what stands for these values to the parts of a key; whether all of them have something that does."""
    parts.append((len(values), names))
    for value in values:
        kind = type(value)
        if kind is Tensor or kind is torch.nn.Parameter:
            if not value.is_meta or value.layout is not torch.strided:
                return False
            parts += (value.shape, value.stride(), value.dtype)
        elif kind is list or kind is tuple:
            if not _put(value, parts):
                return False
        elif kind in PLAIN:
            parts += (kind, value)  # 1 and 1.0 and True are one key
        else:
            return False
    return True


def _results(found: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[_Fresh | int | None] | None:
    """How the results of a call are made again; None for views and for what is no tensor."""
    given = [*_tensors((*args, *kwargs.values()))]
    taken = {one.untyped_storage()._cdata for one in given}
    results = list[_Fresh | int | None]()
    for one in found if type(found) in (tuple, list) else (found,):
        place = next((place for place, other in enumerate(given) if other is one), None)
        if one is None or place is not None:
            results.append(place)
            continue
        if type(one) is not Tensor or not one.is_meta or one.layout is not torch.strided:
            return None
        fresh, storage = _Fresh(one.shape, one.stride(), one.dtype), one.untyped_storage()
        own = storage._cdata not in taken and not one.storage_offset()
        if not own or storage.nbytes() != fresh.made().untyped_storage().nbytes():
            return None
        taken.add(storage._cdata)
        results.append(fresh)
    return results


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Those among arguments, in their order, lists of them included."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
