from __future__ import annotations

import functools
import os
import signal
import socket
from multiprocessing import active_children, resource_sharer

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from common import draws
from common.errors import BadInput
from common.workers import batches


def a_batch(step: int, *, fails_at: int | None = None) -> Tensor:
    if step == fails_at:
        raise BadInput("got a broken image: want a sound one; do mend it")
    return torch.from_numpy(draws.pcg64(3, "toy", step).random(4))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_whatever_the_number_of_workers(workers: int):
    found = list(batches(a_batch, 5, workers=workers))
    assert all(torch.equal(one, a_batch(step)) for step, one in enumerate(found))
    assert len(found) == 5


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_input_reaches_the_caller_in_one_line_from_a_worker_too(workers: int):
    made = batches(functools.partial(a_batch, fails_at=1), 3, workers=workers)
    next(made)
    with pytest.raises(BadInput, match=r"^got a broken image: want a sound one; do mend it$"):
        next(made)


def test_workers_are_gone_while_what_was_refused_is_still_held():
    """Left to the collector of garbage they cost 5 s each."""
    made = batches(functools.partial(a_batch, fails_at=1), 30, workers=2)
    next(made)
    assert len(active_children()) == 2
    with pytest.raises(BadInput) as error:
        next(made)
    assert error.tb is not None
    assert active_children() == []


def threads(_: int) -> int:
    return cv2.getNumThreads()


def test_the_death_of_a_worker_is_told_where_a_batch_is_taken_and_nowhere_else():
    ahead = batches(torch.tensor, 1000, workers=1)
    next(ahead)
    (worker,) = active_children()
    os.kill(worker.pid, signal.SIGKILL)
    seen = os.WEXITED | os.WNOWAIT  # it is left for whoever hears of a child's death
    while os.waitid(os.P_PID, worker.pid, seen | os.WNOHANG) is None:
        pass
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        list(ahead)


def test_workers_have_opencv_on_one_thread_from_their_start_and_the_parent_keeps_its_own():
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        assert list(batches(threads, 2, workers=2)) == [1, 1]
        assert list(batches(threads, 1)) == [3]
    finally:
        cv2.setNumThreads(before)


def test_the_global_random_state_is_untouched_by_batches_and_generators():
    before, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    list(batches(a_batch, 2))
    torch.rand(3, generator=draws.torch_generator(0, "toy"))
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numbers, np.random.get_state()[1])  # noqa: NPY002


class Counter:
    """Counts up from where it was started; a worker has one of its own."""

    base = 0

    def start(self) -> None:
        self.base = 100

    def count(self, step: int) -> int:
        return self.base + step


def a_handle(_: int) -> resource_sharer.DupFd:
    return resource_sharer.DupFd(0)


def test_a_worker_says_nothing_where_the_main_process_leaves_while_a_tensor_is_handed_over(capfd):
    made = batches(a_handle, 40, workers=1)
    handle = next(made)
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as taking:
            taking.connect(vars(handle)["_id"][0])
    os.close(handle.detach())  # answered in turn: the others were heard before it
    assert len(list(made)) == 39
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("workers", "expected"), [(0, [2, 3, 4]), (2, [102, 103, 104])])
def test_workers_begin_where_they_are_told_after_what_they_do_at_their_start(workers: int, expected: list[int]):
    counter = Counter()
    assert list(batches(counter.count, 5, first=2, workers=workers, at_start=counter.start)) == expected
    assert counter.base == 0


def test_where_sigterm_is_ignored_workers_outlive_it_too():
    handler, others = signal.signal(signal.SIGTERM, signal.SIG_IGN), {one.pid for one in active_children()}
    try:
        found = batches(a_batch, 30, workers=1)
        first = next(found)
        (worker,) = {one.pid for one in active_children()} - others
        os.kill(worker, signal.SIGTERM)
        assert [torch.equal(one, a_batch(step)) for step, one in enumerate((first, *found))] == [True] * 30
    finally:
        signal.signal(signal.SIGTERM, handler)
