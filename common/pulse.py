"""Whether all processes that `torchrun` started are still there: each gives signs of life, and hears those of others.

Who waits in a collective for a process that has died mostly hears of it, since the system closes its connections. That
of a machine that lost its power or its network it does not close, and who waits for a word in a store has none.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store

from common.interrupts import is_asked_to_leave, parent

BEAT = 5.0  # seconds between two signs of life
LOOK = 1.0  # seconds between two looks at how long others have been silent
# seconds of silence after which a process counts as gone; one call of a library can hold up all threads of Python, and
# agents of torchrun need up to 15 s to lose one another
SILENCE = 120.0
GRACE = 30.0  # seconds that the main thread has to end by itself, as after SIGTERM; in a collective it cannot
LEFT = "left"
ORPHANED = "got processes whose torchrun has ended: want it to last as long as they do; see what has ended it"

log = logging.getLogger("gramlab")


class Pulse:
    """The signs of life of this process, and those that it hears: the first process of all others, these of the first.

    So a store has a few bytes for each process to carry. Silence is counted in looks, not by a clock: a process that
    was stopped for a while with all others, as by a suspended job, has then not missed anything.
    """

    def __init__(self, store: Store, *, rank: int, world: int) -> None:
        """Give the first sign; all processes must have, before one of them may `begin`."""
        # Its own connection: on a common one it would wait for whoever waits there
        self._store = PrefixStore("pulse", store.clone())
        self._own, self._first = str(rank), rank == 0
        self._keys = [str(one) for one in (range(1, world) if rank == 0 else [0])]
        self._heard, self._silent = dict[str, bytes](), dict.fromkeys(self._keys, 0.0)
        self._beats, self._over = 0, threading.Event()
        self._torchrun = _torchrun()
        self.lost: str | None = None  # what has become of the others, once they are not there any more
        self._store.set(self._own, "0")

    def begin(self) -> None:
        """Beat and look from now on. Where `torchrun` ends first, the first process is asked to leave; whoever does not
        end within `GRACE` seconds, of that or of a loss, is ended."""
        for work in (self._keep_beating, self._keep_looking):
            threading.Thread(target=work, daemon=True).start()

    def end(self, *, well: bool) -> None:
        """No more signs; `well`: nobody is to miss them."""
        if well and self.lost is None:
            with suppress(RuntimeError):  # who has the store may have left before
                self._store.set(self._own, LEFT)
        self._over.set()

    def beat(self) -> None:
        """Give a sign, and hear those of the others."""
        self._beats += 1
        self._store.set(self._own, str(self._beats))
        for key, sign in zip(self._keys, self._store.multi_get(self._keys), strict=True):
            if sign != self._heard.get(key):
                self._heard[key], self._silent[key] = sign, 0.0

    def look(self) -> None:
        """Count the silence of the others, `LOOK` seconds more of it, and say whom that makes lost."""
        for key in self._keys:
            if self._heard.get(key) != LEFT.encode():
                self._silent[key] += LOOK
        if gone := [key for key in self._keys if self._silent[key] >= SILENCE]:
            self.lost = (
                f"got no sign of life from process {', '.join(gone)} of torchrun for {SILENCE:.0f} s: want those of "
                "all; do see whether its machine is up, and the network between them"
            )

    def _keep_beating(self) -> None:
        with suppress(RuntimeError):  # the store is gone, or out of reach: then nobody is heard any more
            while not self._over.wait(BEAT):
                self.beat()

    def _keep_looking(self) -> None:
        while self.lost is None and self._torchrun in (None, os.getppid()):
            if self._over.wait(LOOK):
                return
            self.look()
        if self.lost is None and self._first:
            log.warning("%s", ORPHANED)
            if not is_asked_to_leave():
                os.kill(os.getpid(), signal.SIGTERM)
        if self._over.wait(GRACE):
            return
        _end(self.lost or ORPHANED, first=self._first)


@contextmanager
def joining(*, first: bool) -> Iterator[None]:
    """Inside, where nothing is at stake and it may wait long for a store that is gone, a process ends with its
    `torchrun`."""
    over, torchrun = threading.Event(), _torchrun()

    def look() -> None:
        while torchrun in (None, os.getppid()):
            if over.wait(LOOK):
                return
        _end(ORPHANED, first=first)

    threading.Thread(target=look, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _torchrun() -> int | None:
    """The process of `torchrun` that has started this one; None without."""
    return parent() if dist.is_torchelastic_launched() else None


def _end(why: str, *, first: bool) -> None:
    """End at once; what is on the disk is whole at any time."""
    if first:  # the others say nothing
        print(f"gramlab: {why}; the same command goes on", file=sys.stderr, flush=True)
    os._exit(2 if first else 1)
