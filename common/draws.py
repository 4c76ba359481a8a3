"""All random numbers of the project: every draw is a function of a key and of nothing else.

No generator is ever handed on, so that a draw cannot depend on what was drawn before it, on how many workers or
processes share the work, or on where a run was resumed; the global random states stay as they are.

Training draws from `philox`, keyed by (seed, step, purpose, index): `purpose` is a short path ("crops/global/0"),
`index` the sample's position in the global batch, or another number that tells equal purposes apart. Evaluations draw
from `pcg64` and `torch_generator`, keyed by (seed, purpose, number): the number is mostly a position, step · batch size
+ place in the batch. Two generators, and neither may become the other: numbers were published with each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import torch


def entropy(*key: int | str) -> int:
    """128 bits that are a function of the key alone: draws for unlike keys do not meet."""
    parts = repr(tuple(part if isinstance(part, str) else int(part) for part in key)).encode()
    return int.from_bytes(blake2b(parts, digest_size=16).digest(), "little")


def philox(seed: int, step: int, purpose: str, index: int = 0) -> np.random.Generator:
    """Training's generator for these four."""
    return np.random.Generator(np.random.Philox(key=entropy(seed, step, purpose, index)))


def uniforms(seed: int, step: int, purpose: str, count: int, width: int | None = None, *, first: int = 0) -> np.ndarray:
    """float64 [count], or [count, width], in [0, 1): row i belongs to sample `first` + i and is the same for every
    count > i."""
    rows = first + count
    return philox(seed, step, purpose).random(rows if width is None else (rows, width))[first:]


def pcg64(seed: int, purpose: str, number: int = 0) -> np.random.Generator:
    """The evaluations' generator for these three."""
    return np.random.default_rng(entropy(seed, purpose, number))


def torch_generator(seed: int, purpose: str, number: int = 0) -> torch.Generator:
    """The same for torch, on the CPU: its Mersenne twister is seeded by 32 of the bits."""
    return torch.Generator().manual_seed(entropy(seed, purpose, number) % 2**63)


@dataclass(frozen=True)
class Stream:
    """An endless stream over `count` images: every epoch has an order of its own, keyed by (seed, epoch)."""

    count: int
    seed: int

    def __getitem__(self, position: int) -> int:
        """The index of the image at this position, counted from 0 over all epochs."""
        epoch, place = divmod(position, self.count)
        return int(_order(self.count, self.seed, epoch)[place])


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return pcg64(seed, "order", epoch).permutation(count)
