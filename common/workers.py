"""Batches made ahead in worker processes, without a draw from the global random state."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from common.errors import BadInput
from common.interrupts import held_back, ignore_in_worker, leave_if_asked

T = TypeVar("T")


def batches(
    make: Callable[[int], T],
    stop: int,
    *,
    first: int = 0,
    workers: int = 0,
    at_start: Callable[[], object] | None = None,
) -> Generator[T, None, None]:
    """make(first) … make(stop − 1), in order; with `workers`, made ahead in that many processes.

    Args:
        at_start: what each worker does first, to its own copy of everything; nothing without workers.

    Raises:
        BadInput: as `make` does, from a worker too.
        Leaving: this process was asked to leave, and so were the workers.
    """
    loader = DataLoader(
        _Made(make),
        batch_size=None,
        sampler=range(first, stop),
        num_workers=workers,
        collate_fn=_as_is,
        worker_init_fn=partial(_start, at_start),
        generator=torch.Generator(),  # the loader draws a seed at its start: not from the global state
    )
    ahead = _begun(loader)
    try:
        while True:
            try:
                made = next(ahead)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError):  # who asked this process to leave may have ended the loader's
                leave_if_asked()
                raise
            if isinstance(made, BadInput):
                raise made
            yield made
    finally:
        del ahead  # its processes end now: where an image that is refused holds it, the collector waits 5 s for each


def _begun(loader: DataLoader[Any]) -> Iterator[Any]:
    """A loader at work. Where one of its processes dies, `next` says so, within 5 s, and nothing else does: torch would
    raise that in whatever the main thread is at, in the middle of a step or of a write."""
    before = signal.getsignal(signal.SIGCHLD)
    with held_back():
        ahead = iter(loader)
    if signal.getsignal(signal.SIGCHLD) is not before:
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)
    return ahead


class _Made(Dataset[Any]):
    """Hands BadInput over as a value: the loader would wrap what a worker raises in a traceback of many lines."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make

    def __getitem__(self, step: int) -> Any:
        try:
            return self.make(step)
        except BadInput as error:
            return error


def _start(then: Callable[[], object] | None, _: int) -> None:
    """OpenCV on one thread, as the loader has torch: workers share the cores, and some of its builds wait for ever for
    threads of the parent, which do not survive a fork (github.com/opencv/opencv/issues/5150)."""
    import cv2

    gc.freeze()  # to look through what the main process holds would copy each of its pages
    ignore_in_worker()
    sys.excepthook = _unless_its_taker_left
    cv2.setNumThreads(0)
    if then:
        then()


def _unless_its_taker_left(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """How a worker tells what ended a thread of it. One thread hands tensors over; when the main process is interrupted
    in the middle of taking one, that is for the main process to tell."""
    if not issubclass(kind, OSError | EOFError):
        sys.__excepthook__(kind, error, trace)


def _as_is(item: Any) -> Any:
    return item
