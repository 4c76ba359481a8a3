"""What no experiment asks for goes from the store, and nothing else; the plan says so beforehand."""

import fcntl
import os
import shutil

import pytest

from common.bounded import size_words
from harness import clean, store
from harness.cli import main as gramlab
from harness.run import main

pytestmark = pytest.mark.slow  # whole small runs

ARMS = {"plain": {}, "late": {"from": "plain", "at": 4, "gram.weight": 2.0}}


SECTIONS = {"steps": 6, "arms": ARMS, "evals": {"every": 2}, "runtime": {"checkpoint_every": 1}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_text):
    """Two experiments that share a segment: one forks at step 4 of it, the other goes on to step 9."""
    place = tmp_path_factory.mktemp("trained")
    path = place / "tiny.yaml"
    path.write_text(tiny_text(place, **SECTIONS))
    assert main([str(path), "name=first", "arms=[plain,late]"]) == 0
    assert main([str(path), "name=second", "arms=[plain]", "steps=9"]) == 0
    return place / "runs"


@pytest.fixture
def runs(trained, write_tiny, tmp_path):
    """A copy of their folder, to be cleaned, and the file that they are of."""
    shutil.copytree(trained, tmp_path / "runs", symlinks=True)
    return write_tiny(**SECTIONS), tmp_path / "runs"


def files(runs):
    return {str(path.relative_to(runs)) for path in (runs / ".segments").rglob("*") if path.is_file()}


def command(capsys, *words):
    capsys.readouterr()
    code = gramlab(["clean", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_what_every_listed_experiment_needs_is_kept(runs, capsys):
    path, folder = runs
    before = files(folder)
    code, out, _ = command(capsys, folder)
    assert (code, out) == (0, "kept for first, second; freed 0 bytes\n")
    assert files(folder) == before
    assert main([str(path), "name=first", "arms=[plain,late]"]) == 0
    assert files(folder) == before


def test_what_a_removed_experiment_alone_needed_goes_and_the_plan_tells_it_first(runs, capsys):
    _, folder = runs
    shared = (folder / "first" / "plain-s0").resolve()
    late = (folder / "first" / "late-s0").resolve()
    shutil.rmtree(folder / "first")
    before = files(folder)
    code, plan, _ = command(capsys, folder, "--plan")
    assert (code, files(folder)) == (0, before)
    assert f"{late}: no experiment asks for it, " in plan
    assert f"{shared}/states/step_000004.safetensors: no arm forks from it, " in plan
    assert plan.splitlines()[-1].startswith("kept for second; would free ")
    code, out, _ = command(capsys, folder)
    assert out == plan.replace("would free", "freed")
    gone = {f".segments/{shared.name}/states/step_000004.{end}" for end in ("safetensors", "keep")}
    gone |= {name for name in before if late.name in name}
    assert files(folder) == before - gone
    assert command(capsys, folder)[1] == "kept for second; freed 0 bytes\n"


def test_a_longer_segment_is_cut_to_what_is_shown_and_its_newest_states(runs, capsys):
    path, folder = runs
    shared = (folder / "first" / "plain-s0").resolve()
    shutil.rmtree(folder / "second")
    _, out, _ = command(capsys, folder)
    assert [line.split(":")[0] for line in out.splitlines()[:-1]] == [
        f"{shared}/step_000008",
        f"{shared}/step_000009",
    ]
    assert "no experiment reaches its step" in out
    assert main([str(path), "name=first", "arms=[plain,late]"]) == 0


def test_an_experiment_that_lost_its_record_keeps_all_that_it_is_linked_to(runs, capsys):
    _, folder = runs
    before = files(folder)
    (folder / "first" / "experiment.json").unlink()
    assert command(capsys, folder)[1] == "kept for first, second; freed 0 bytes\n"
    assert files(folder) == before


@pytest.mark.parametrize("damage", ["", "{", '{"jobs": {"plain-s0": {"segment": 7}}}'])
def test_a_damaged_record_stops_all_cleaning(runs, capsys, damage):
    _, folder = runs
    shutil.rmtree(folder / "second")
    before = files(folder)
    (folder / "first" / "experiment.json").write_text(damage)
    code, out, err = command(capsys, folder)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"{folder}/first/experiment.json" in err
    assert files(folder) == before


def test_nothing_is_removed_while_a_run_is_at_work(runs, capsys):
    _, folder = runs
    shutil.rmtree(folder / "second")
    before = files(folder)
    lock = os.open(folder / ".segments", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_SH)
    code, _, err = command(capsys, folder)
    assert (code, "is in use by a run" in err) == (2, True)
    assert files(folder) == before
    os.close(lock)


def test_a_folder_without_a_store_is_refused(capsys, tmp_path):
    code, _, err = command(capsys, tmp_path / "nowhere")
    assert (code, err.count("\n")) == (2, 1)
    assert "has no .segments: want a folder of runs" in err


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 bytes"), (999, "999 bytes"), (1024, "1 KiB"), (5 * 2**30, "5 GiB")]
)
def test_sizes_are_in_readable_units(count, words):
    assert size_words(count) == words


def test_a_store_within_a_size_loses_what_no_experiment_asks_for_and_says_so(runs, caplog):
    path, folder = runs
    late = (folder / "first" / "late-s0").resolve()
    kept = (folder / "second" / "plain-s0").resolve()
    before = files(folder)
    clean.keep_within(folder, None)
    clean.keep_within(folder, 1.0)
    assert files(folder) == before
    shutil.rmtree(folder / "first")
    with caplog.at_level("INFO", logger="gramlab"):
        with store.used(folder / ".segments"):
            clean.keep_within(folder, 1e-6)
        assert files(folder) == before
        assert "dropped 0 that no experiment asks for, 0 bytes, to stay within runtime.store_gib=1e-06; " in caplog.text
        assert "is in use by a run)" in caplog.text
        clean.keep_within(folder, 1e-6)
    assert not late.exists()
    assert (kept / "step_000009" / "weights.safetensors").exists()
    assert caplog.text.rstrip().endswith("(experiments ask for it: gramlab clean tells for which)")
    assert main([str(path), "name=second", "arms=[plain]", "steps=9"]) == 0
