"""`gramlab new`: files that load and plan, from flags and from a terminal; what is not fit is refused in one line."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from harness import cli, new
from harness.arguments import AXES
from harness.config import arm_settings, load
from harness.new import Asked, ask, written

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in, with images without classes in `flat` and of two classes in `kinds`."""
    monkeypatch.chdir(tmp_path)
    for name in ("flat", "kinds/dog", "kinds/cat"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (80, 80), (number, 0, 0)).save(tmp_path / name / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("images", ["scenes", "kinds"])
def test_every_axis_gives_a_file_that_loads_with_arms_that_differ(folder, axis, images, capsys):
    assert cli.main(["new", "mine", "--axis", axis, "--images", images]) == 0
    assert capsys.readouterr().out == "mine.yaml is written; what it would do: gramlab run mine.yaml --plan\n"
    experiment = load("mine.yaml")
    assert (experiment.name, experiment.question) == ("mine", AXES[axis][1])
    arms = [arm_settings(experiment, arm) for arm in experiment.arms]
    assert len({repr(one) for one in arms}) == len(new.ARMS[axis])
    assert experiment.baseline == next(iter(experiment.arms))
    assert ("scenes" if images == "scenes" else "images") in experiment.data.sources


@pytest.mark.parametrize(
    ("axis", "images"), [("update", "scenes"), ("batching", "scenes"), ("resolution", "flat"), ("batching", "kinds")]
)
def test_what_is_written_has_a_plan(folder, axis, images, capsys):
    assert cli.main(["new", "mine", "--axis", axis, "--images", images]) == 0
    assert cli.main(["run", "mine.yaml", "--plan", "device=cpu", "launcher=none", "precision=float32"]) == 0
    out = capsys.readouterr().out
    assert f"experiment mine: {AXES[axis][1]}" in out
    assert all(f" {arm} " in out for arm in new.ARMS[axis])


@pytest.mark.parametrize(
    "question",
    [
        "Does it?",
        "What of ${HOME}, \\${HOME}, $HOME, \"quotes\", 'more', # hashes, key: value, back\\slashes, ü and ✓?",
        "- a: [b",
        "2024",
        "$question $root",
        "two\nlines",
    ],
)
def test_a_question_reads_as_it_was_written_whatever_is_in_it(folder, question):
    assert cli.main(["new", "mine", "--question", question]) == 0
    assert load("mine.yaml").question == " ".join(question.split())


def test_images_are_found_from_wherever_the_file_is_run(folder, monkeypatch):
    (folder / "flat").rename(folder / "a ${b} #1")
    assert cli.main(["new", "mine", "--images", "a ${b} #1"]) == 0
    monkeypatch.chdir(ROOT)
    assert load(folder / "mine.yaml").data.sources["images"].root == str(folder / "a ${b} #1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a b"], "got the name 'a b': want letters, digits"),
        (["../mine"], "got the name '../mine': want letters, digits"),
        ([""], "got the name '': want letters, digits"),
        (["x" * 101], "at most 100 bytes"),
        (["taken"], "taken.yaml is there already, and is left as it is"),
        (["taken.yaml"], "taken.yaml is there already, and is left as it is"),
        (["dangling"], "dangling.yaml is there already"),
        (["mine", "--images", "nowhere"], "got root nowhere (missing)"),
        (["mine", "--images", "flat", "--axis", "batching"], "got flat, which has 0 classes: want a sub-folder"),
        (["mine", "--axis", "grum"], "invalid choice: 'grum'"),
        (["mine", "--question", "\x07"], "want letters that can be printed"),
    ],
)
def test_what_is_not_fit_is_refused_in_one_line_and_nothing_is_written(folder, arguments, said, capsys):
    (folder / "taken.yaml").write_text("mine")
    (folder / "dangling.yaml").symlink_to(folder / "nowhere" / "at all")
    before = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
    assert cli.main(["new", *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")} == before


def test_an_answer_that_is_not_fit_is_asked_for_again(folder, capsys):
    lines = iter(["Is it so?", "nowhere", "flat", "batching", "grum", "update"])
    assert ask(lambda prompt: next(lines)) == Asked("Is it so?", "flat", "update")
    told = capsys.readouterr().out.splitlines()
    assert [line[:20] for line in told] == ["got root nowhere (mi", "got flat, which has ", "got the axis 'grum':"]


def test_empty_answers_stand_for_the_first_thing_to_ask():
    assert ask(lambda prompt: "") == Asked(AXES["gram"][1], "scenes", "gram")


def test_a_terminal_is_asked_and_what_it_answers_is_written(folder):
    terminal, theirs = pty.openpty()
    command = [sys.executable, str(ROOT / "harness" / "cli.py"), "new", "mine"]
    with subprocess.Popen(command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        os.write(terminal, b"Is it so?\nflat\nresolution\n")
        assert process.wait(60) == 0
    os.close(terminal)
    experiment = load("mine.yaml")
    assert (experiment.question, [*experiment.arms]) == ("Is it so?", ["plain", "anchored", "highres"])


def test_answers_that_end_too_early_are_told(folder):
    terminal, theirs = pty.openpty()
    command = [sys.executable, str(ROOT / "harness" / "cli.py"), "new", "mine"]
    with subprocess.Popen(command, cwd=folder, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        os.write(terminal, b"Is it so?\n\x04")
        assert process.wait(60) == 2
        assert process.stderr is not None
        assert b"gramlab: got no answer: want three" in process.stderr.read()
    os.close(terminal)
    assert not (folder / "mine.yaml").exists()


def test_the_same_answers_give_the_same_text():
    asked = Asked("Is it so?", "scenes", "update")
    assert written(asked, "a.yaml") == written(asked, "a.yaml")
    assert written(asked, "a.yaml").startswith("# Is it so?\n")
