"""Processes that share work: what one meets all meet, and none waits for one that is gone."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from common import interrupts
from common.command import answer
from common.errors import BadInput, NonFiniteFeatures
from common.ranks import Ranks, started
from tests import processes


def exchanged():
    """Everything that must hold in two processes that do not fail for good; runs in each of them."""
    with started() as ranks:
        own = ranks.rank

        def fails_in(*which):
            if own in which:
                raise NonFiniteFeatures(f"met by {own}: want none")
            return own

        assert ranks.made_by_all(fails_in) == [0, 1]
        for which, said in (([1], "met by 1"), ([0, 1], "met by 0")):
            with pytest.raises(NonFiniteFeatures, match=said):
                ranks.made(partial(fails_in, *which))
        waves = [*ranks.dealt("abc", lambda one: f"{one}{own}")]
        assert waves == [[("a", "a0"), ("b", "b1")], [("c", "c0")]]
        taken = ranks.collected((torch.full((own, 2), own), torch.arange(3 + own).double()))
        told = [[x.tolist() for x in one] for one in taken]
        assert told == ([] if own else [[[], [0, 1, 2]], [[[1, 1]], [0, 1, 2, 3]]])
    return 0


def test_two_processes_meet_the_same_errors_and_share_results_in_order(tmp_path: Path):
    assert [one.code for one in processes.together(2, exchanged, tmp_path)] == [0, 0]


def waits(signs: Path, asked: bool):
    """The first process waits for the other one, which waits for a sign."""

    def act():
        with started() as ranks:
            ranks.wait()
            (signs / f"here-{ranks.rank}").touch()
            if not ranks.first:
                while not (signs / "gone").exists():
                    time.sleep(0.01)
            if asked:
                interrupts.BROKEN_OFF = 0.2
                with interrupts.resumable():
                    ranks.made(lambda: None)
            else:
                ranks.made(lambda: None)
        return 0

    return answer(act, afterwards="it may go on")


@pytest.mark.parametrize(("asked", "code"), [(False, 128 + signal.SIGTERM), (True, interrupts.RESUME)])
def test_the_first_process_hears_signals_while_it_waits_and_the_other_notices_that_it_is_gone(
    tmp_path: Path, asked: bool, code: int
):
    both = processes.started(2, partial(waits, tmp_path, asked), tmp_path)
    while not all((tmp_path / f"here-{rank}").exists() for rank in range(2)):
        time.sleep(0.01)
    os.kill(both[0].pid or 0, signal.SIGTERM)
    both[0].join(20)
    (tmp_path / "gone").touch()
    first, other = processes.ended(both, tmp_path)
    assert first.code == code, first.err
    assert len(first.err.splitlines()) == 1
    assert other.code == 2
    assert other.err.startswith("gramlab: got 2 processes of torchrun of which one has ended: want all of them")


def test_one_process_alone_makes_everything_itself():
    alone = Ranks()
    with pytest.raises(BadInput, match="as it is"):
        alone.made(lambda: (_ for _ in ()).throw(BadInput("as it is")))
    assert [*alone.dealt([1, 2], lambda one: one + 1)] == [[(1, 2)], [(2, 3)]]
    assert alone.collected(own := [torch.ones(1)]) == [own]
