"""`gramlab compare`: experiments go to the reports, everything else to the evaluations, and a mixture is refused."""

import json

import pytest

from harness.cli import main


@pytest.fixture
def experiment(tmp_path):
    """Writes the folder of an experiment without results."""

    def write(name):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "experiment.json").write_text(json.dumps({"name": name, "arms": {"plain": {}}, "seeds": [0]}))
        return str(folder)

    return write


def refused(capsys, *given):
    assert main(["compare", *given]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_folders_of_experiments_are_compared_as_such(experiment, capsys):
    assert "got no result rows in" in refused(capsys, experiment("a"), experiment("b"))
    assert "got one experiment" in refused(capsys, experiment("c"))


def test_everything_else_is_compared_as_checkpoints(tmp_path, capsys):
    (tmp_path / "step_000100").mkdir()
    assert "got no outcomes (.npz)" in refused(capsys, str(tmp_path / "step_000100"), "timm:resnet18")
    assert "required: B" in refused(capsys, str(tmp_path))


def test_a_mixture_is_refused_in_one_line_that_names_both(experiment, tmp_path, capsys):
    one, step = experiment("a"), tmp_path / "step_000100"
    step.mkdir()
    for given in ([one, str(step)], [str(step), one]):
        said = refused(capsys, *given)
        assert f"got {one}, an experiment, and {step}, which is no experiment" in said
    assert "which is not there: want" in refused(capsys, one, str(tmp_path / "b"))


def test_help_shows_both(capsys):
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    said = capsys.readouterr().out
    assert "gramlab compare RUN RUN" in said
    assert "--metric METRIC" in said
