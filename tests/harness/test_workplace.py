"""A run's folder is held by one process."""

import multiprocessing
import os
import shutil
import time

import pytest

from common.at_work import is_held
from common.disk import append
from common.errors import BadInput
from common.unwritable import Unwritable
from harness.workplace import held


def _try(folder, answers):
    try:
        with held(folder):
            answers.put("got it")
    except BadInput as error:
        answers.put(str(error))


def _stay(begun):
    begun.set()
    time.sleep(60)


def ask_another_process(folder):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    other = context.Process(target=_try, args=(folder, answers))
    other.start()
    answer = answers.get(timeout=60)
    other.join()
    return answer


def test_a_held_folder_refuses_another_process_and_names_the_holder(tmp_path):
    folder = tmp_path / "runs" / "a"
    with held(folder):
        answer = ask_another_process(folder)
        assert f"in use by process {os.getpid()}" in answer
        assert "\n" not in answer
        assert (folder / ".lock").read_text() == str(os.getpid())
    assert ask_another_process(folder) == "got it"


def test_a_child_that_outlives_the_holder_does_not_hold_the_folder(tmp_path):
    """As the loaders of a run that was killed, which notice it some seconds later."""
    context = multiprocessing.get_context("fork")
    begun = context.Event()
    with held(tmp_path):
        child = context.Process(target=_stay, args=(begun,))
        child.start()
        assert begun.wait(60)
        assert is_held(tmp_path)
    assert child.is_alive()
    assert not is_held(tmp_path)
    child.kill()
    child.join()


def test_a_failure_inside_lets_the_folder_go(tmp_path):
    with pytest.raises(KeyError), held(tmp_path):
        raise KeyError
    assert ask_another_process(tmp_path) == "got it"


def test_a_folder_that_takes_no_lock_is_named(tmp_path):
    (tmp_path / "runs").write_text("")
    with (
        pytest.raises(Unwritable, match=r"cannot write .*/runs/a/.lock \(Not a directory\)"),
        held(tmp_path / "runs/a"),
    ):
        pass


def test_a_held_folder_is_not_made_anew_once_it_was_removed(tmp_path):
    folder = tmp_path / "runs" / "a"
    with held(folder):
        append(folder / "results.jsonl", "1\n")
        shutil.rmtree(folder)
        with pytest.raises(Unwritable, match="was removed, moved or replaced since this command began"):
            append(folder / "results.jsonl", "2\n")
    assert not folder.exists()
