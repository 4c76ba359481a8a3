"""Memory of large arrays that is used again: fresh pages cost more time than the crops that are written there."""

from __future__ import annotations

import math
import weakref

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class Buffers:
    """Tensors whose memory comes back by itself once nobody holds them, nor a view of them."""

    def __init__(self) -> None:
        self._free: dict[int, list[np.ndarray]] = {}

    def empty(self, *shape: int) -> Float[Tensor, ...]:
        """A float32 tensor on the CPU, of any content."""
        size = math.prod(shape)
        free = self._free.setdefault(size, [])
        memory = free.pop() if free else np.empty(size, np.float32)
        lent = memory.reshape(shape)  # a view: torch holds it as long as anything of the tensor is alive
        weakref.finalize(lent, free.append, memory).atexit = False
        return torch.from_numpy(lent)
