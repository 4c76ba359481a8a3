"""Keyed draws: everything random is a function of a seed, a purpose and a number.

The number is mostly a position: step · batch size + place in the batch. So batches do not depend on the number of
worker processes, and the global random states stay as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import torch


@dataclass(frozen=True)
class Stream:
    """An endless stream over `count` images: every epoch has an order of its own, keyed by (seed, epoch)."""

    count: int
    seed: int

    def __getitem__(self, position: int) -> int:
        """The index of the image at this position, counted from 0 over all epochs."""
        epoch, place = divmod(position, self.count)
        return int(_order(self.count, self.seed, epoch)[place])


def entropy(seed: int, purpose: str, number: int = 0) -> int:
    """128 bits that are a function of these three alone: draws for unlike purposes do not meet."""
    parts = repr((int(seed), purpose, int(number))).encode()
    return int.from_bytes(blake2b(parts, digest_size=16).digest(), "little")


def generator(seed: int, purpose: str, number: int = 0) -> np.random.Generator:
    """A numpy generator of its own for these three."""
    return np.random.default_rng(entropy(seed, purpose, number))


def torch_generator(seed: int, purpose: str, number: int = 0) -> torch.Generator:
    """The same for torch, on the CPU."""
    return torch.Generator().manual_seed(entropy(seed, purpose, number) % 2**63)


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return generator(seed, "order", epoch).permutation(count)
