"""What benchmarks are told: every one has its help, and a mistake is one line with nothing measured or noted."""

import importlib
import sys

import pytest

from harness import bench


def left_with(name, words, monkeypatch, tmp_path):
    """The code with which a benchmark ends on these words, where it stands in an empty folder."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    benchmark = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    with pytest.raises(SystemExit) as left:
        benchmark.main()
    assert list(tmp_path.iterdir()) == []
    return left.value.code


@pytest.mark.parametrize("name", bench.names())
def test_a_benchmark_has_help_and_refuses_an_unknown_option_in_a_line(name, monkeypatch, tmp_path, capsys):
    assert left_with(name, ["--help"], monkeypatch, tmp_path) == 0
    assert capsys.readouterr().out.startswith("usage: ")
    assert left_with(name, ["--no-such-option"], monkeypatch, tmp_path) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("gramlab: unrecognized arguments: --no-such-option; ")
