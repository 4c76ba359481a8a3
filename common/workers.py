"""Batches made ahead in worker processes, without a draw from the global random state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from common.errors import BadInput

T = TypeVar("T")


def batches(make: Callable[[int], T], steps: int, *, workers: int = 0) -> Iterator[T]:
    """make(0) … make(steps − 1), in order; with `workers`, made ahead in that many processes.

    Raises:
        BadInput: as `make` does, from a worker too.
    """
    loader = DataLoader(
        _Made(make),
        batch_size=None,
        sampler=range(steps),
        num_workers=workers,
        collate_fn=_as_is,
        worker_init_fn=_start,
        generator=torch.Generator(),  # the loader draws a seed at its start: not from the global state
    )
    for made in loader:
        if isinstance(made, BadInput):
            raise made
        yield made


class _Made(Dataset[Any]):
    """Hands BadInput over as a value: the loader would wrap what a worker raises in a traceback of many lines."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make

    def __getitem__(self, step: int) -> Any:
        try:
            return self.make(step)
        except BadInput as error:
            return error


def _start(_: int) -> None:
    """OpenCV on one thread, as the loader has torch: workers share the cores, and some of its builds wait for ever for
    threads of the parent, which do not survive a fork (github.com/opencv/opencv/issues/5150)."""
    import cv2

    cv2.setNumThreads(0)


def _as_is(item: Any) -> Any:
    return item
