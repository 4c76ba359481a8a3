"""Tables for readers as LaTeX and Markdown: that any text stands in them as it is, and that LaTeX takes them."""

import random
import re
import shutil
import subprocess

import pytest

from reports.paper import latex, markdown
from reports.paper.sheet import sheets
from reports.run_folder import read
from reports.tables import READ, main

SMALL = {"steps": 40, "trunk_steps": 20, "every": 10}
ODD = {"plain": {}, "50%_off": {}, "a&b#c": {}, "x--y": {}, "δ-ρ²": {}, "café": {}, "{$^~}": {}, "[a]*|<`>": {}}
COMMANDS = re.compile(
    r"\\(text\w+\{\}|dots\{\}|S\{\}|[{}$&#%_,])|\$(\^\{\\circ\}|-|\\[a-zA-Z]+)\$|\{[\[*]\}|-\{\}"
)  # all that may stand in escaped text


@pytest.mark.parametrize(
    ("plain", "written"),
    [
        ("50% of a_b & #3", r"50\% of a\_b \& \#3"),
        ("\u22123.1 ± 0.2", r"$-$3.1 $\pm$ 0.2"),
        ("11.25° ↑ δ1 Ω", r"11.25$^{\circ}$ $\uparrow$ $\delta$1 $\Omega$"),
        ("[\u22121,\u00a0+2]", r"{[}$-$1,~+2]"),
        ("a--b---c \u2013", r"a-{}-b-{}-{}-c --"),
        (r"\input{x}~^", r"\textbackslash{}input\{x\}\textasciitilde{}\textasciicircum{}"),
        ("$x$ <y> |z| *", r"\$x\$ \textless{}y\textgreater{} \textbar{}z\textbar{} {*}"),
        ("two\nlines\0", "two lines "),
        ("café", "café"),
    ],
)
def test_text_is_escaped_for_latex(plain, written):
    assert latex.escaped(plain) == written


def test_no_text_leaves_latex_a_command_of_its_own():
    """What is left once all that may be written is taken away has no sign that LaTeX reads as anything but a letter."""
    rng = random.Random(0)
    for _ in range(500):
        plain = "".join(rng.choice("\\{}$&#%_~^<>|`[]*-\u2212±δΓ°ab 1é") for _ in range(12))
        rest = COMMANDS.sub("", latex.escaped(plain))
        assert not set(rest) & set("\\${}&#%_^<>|`["), (plain, rest)


@pytest.mark.parametrize(
    ("plain", "written"),
    [
        ("a_b*c`d", r"a\_b\*c\`d"),
        ("x|y", "x&#124;y"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("[a](b)", r"[a\](b)"),
        ("[\u22121, +2]", "[\u22121, +2]"),
        ("$x$ ~~y~~", "&#36;x&#36; &#126;&#126;y&#126;&#126;"),
        ("two\nlines", "two lines"),
    ],
)
def test_text_is_escaped_for_markdown(plain, written):
    assert markdown.escaped(plain) == written


def test_every_row_of_a_markdown_table_has_its_cells(make_run):
    text = markdown.text(sheets(read(make_run(arms=ODD, **SMALL))))
    tables = [block.split("\n") for block in text.split("\n\n") if block.startswith("|")]
    assert [len(table) for table in tables] == [len(ODD) + 2] * 2
    for table in tables:
        assert len({line.count("|") for line in table}) == 1
    assert "50%\\_off" in text
    assert "plain (baseline)" in text


def test_the_best_is_bold_and_differences_stand_below(make_run):
    found = sheets(read(make_run(arms={"plain": {}, "anchored": {"gram.weight": 2.0}}, seeds=(0, 1), **SMALL)))
    bold = [cell for grid in found[0].grids for _, cells in grid.rows for cell in cells if cell.best]
    assert len(bold) == 6
    for cell in bold:
        assert f"\\textbf{{{latex.escaped(cell.value)}}}" in latex.text(found)
        assert f"**{cell.value}**" in markdown.text(found)
    (_, cells) = found[0].grids[0].rows[1]
    for cell in cells:
        assert f"<br>{cell.change} {cell.interval}, {cell.verdict}" in markdown.text(found)
        assert f"{latex.escaped(f'{cell.change} {cell.verdict}')}" in latex.text(found)


def test_letters_that_pdflatex_has_not_are_named(make_run):
    assert latex.foreign("aé中ж") == ["ж", "中"]
    text = latex.text(sheets(read(make_run(arms={"plain": {}, "中": {}}, **SMALL))))
    assert "% pdfLaTeX has no letters for 中" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_takes_the_tables(make_run, tmp_path):
    folder = make_run(name="an_odd%name", arms=ODD, seeds=(0, 1), died=True, **SMALL)
    assert main([str(folder), "--to", "latex", "--against", "café", "--out", str(tmp_path)]) == 0
    (tmp_path / "an_odd%name" / "results.tex").rename(tmp_path / "results.tex")
    page = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{results}\end{document}"
    (tmp_path / "page.tex").write_text(page)
    log = ""
    for _ in range(2):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"],
            cwd=tmp_path, capture_output=True, check=False,
        )  # fmt: skip
        log = done.stdout.decode(errors="replace")
        assert done.returncode == 0, log[-2000:]
    assert "undefined" not in log
    assert "multiply defined" not in log


@pytest.mark.parametrize("to", READ)
def test_equal_runs_give_equal_files_beside_the_tidy_tables(make_run, tmp_path, capsys, to):
    folder = make_run(arms={"plain": {}, "anchored": {}}, **SMALL)
    assert main([str(folder), "--to", "csv"]) == 0
    name = READ[to][0]
    texts = []
    for _ in range(2):
        assert main([str(folder), "--to", to]) == 0
        texts.append((folder / "tables" / name).read_bytes())
    assert texts[0] == texts[1]
    assert f"{folder}/tables/{name}: 2 arms and 6 measures, at step 40\n" in capsys.readouterr().out
    assert {path.name for path in (folder / "tables").iterdir()} == {name, "results.csv", "verdicts.csv", "jobs.csv"}


@pytest.mark.parametrize("broken", ["nowhere", "twice", "against", "damaged", "unwritable"])
@pytest.mark.parametrize("to", READ)
def test_bad_input_is_one_line_and_nothing_is_written(make_run, tmp_path, capsys, to, broken):
    good, other = (make_run(name=name, arms={"plain": {}, "late": {}}, **SMALL) for name in "ab")
    out = tmp_path / "out"
    given = [good, other]
    if broken == "nowhere":
        given[1] = tmp_path / "nowhere"
    elif broken == "twice":
        given[1] = good
    elif broken == "against":
        given += ["--against", "lat"]
    elif broken == "damaged":
        (other / "results.jsonl").write_bytes(b"{}\n")
    else:
        out.write_text("a file")
    assert main([*map(str, given), "--to", to, "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("gramlab: ")
    assert said.count("\n") == 1
    assert out.read_text() == "a file" if broken == "unwritable" else not out.exists()
