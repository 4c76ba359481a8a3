"""All randomness: a function of (seed, step, purpose, index) and of nothing else.

No generator is ever handed on, so that a draw cannot depend on what was drawn before it, on how many workers or
processes share the work, or on where a run was resumed. `purpose` is a short path ("crops/global/0"); `index` is the
sample's position in the global batch, or another number that tells equal purposes apart.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np


def generator(seed: int, step: int, purpose: str, index: int = 0) -> np.random.Generator:
    """A generator of its own for these four: Philox, keyed by their blake2b hash (128 bits)."""
    parts = repr((int(seed), int(step), str(purpose), int(index))).encode()
    key = int.from_bytes(blake2b(parts, digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key))


def uniforms(seed: int, step: int, purpose: str, count: int, width: int | None = None) -> np.ndarray:
    """float64 [count], or [count, width], in [0, 1): row i belongs to sample i and is the same for every count > i."""
    return generator(seed, step, purpose).random(count if width is None else (count, width))
