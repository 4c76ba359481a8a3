"""The documentation against the code: settings and their defaults, files, links, examples."""

import ast
import dataclasses
import importlib
import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from common.bounds import core, described, hints
from common.command import parsed
from evals import arguments, request
from evals.backbones.addresses import ADDRESSES
from evals.datasets.set_file import read_set
from evals.tasks.methods import METHODS
from harness import run, settings_pages
from harness.cli import COMMANDS
from harness.config import load
from harness.settings import Experiment
from reports import arguments as of_reports

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = ("benchmarks", "common", "docs", "evals", "experiments", "harness", "reports", "tests")
OWN_EXPERIMENTS = {"mine.yaml": ROOT / "README.md", "verdict.yaml": ROOT / "docs/tutorial.md"}
SECTIONS = tuple(f.name for f in dataclasses.fields(Experiment))


KEYS = {setting.key for setting in described(Experiment)}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def examples(language: str) -> list:
    return [
        pytest.param(block, id=f"{page.name}-{number}")
        for page in PAGES
        for number, block in enumerate(blocks(page, language))
    ]


def test_the_pages_of_settings_are_those_that_the_code_writes():
    """`python harness/settings_pages.py` writes them anew."""
    for name, text in settings_pages.pages().items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, name


def test_every_setting_says_what_it_means_and_is_on_its_page():
    for page, kinds in (("protocols.md", [m.settings for m in METHODS.values()]), ("settings.md", [Experiment])):
        text = settings_pages.pages()[page]
        settings = [setting for kind in kinds for setting in described(kind)]
        assert [setting.key for setting in settings if not setting.about.meaning] == []
        assert [setting.key for setting in settings if f"| `{setting.key}` |" not in text] == []


def test_the_page_of_settings_names_the_home_of_every_class_of_settings():
    homes, left = set(), [Experiment]
    while left:
        kind = left.pop()
        homes.add(Path(inspect.getfile(kind)).relative_to(ROOT))
        left += [core(hint) for hint in hints(kind).values() if dataclasses.is_dataclass(core(hint))]
    assert Path("harness/recipe.py") in homes
    head = settings_pages.pages()["settings.md"].partition("what they say is changed there")[0]
    assert [home for home in homes if f"`{home}`" not in head and f"`{home.parent}/`" not in head] == []


def test_a_run_lists_every_setting_with_its_default(capsys):
    with pytest.raises(SystemExit):
        run.main(["--settings"])
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    for setting in described(Experiment):
        assert [setting.key, settings_pages.written(setting.default)] in [words[:2] for words in shown]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_their_anchors_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        place, _, anchor = target.partition("#")
        file = (page.parent / place) if place else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_the_navigation_of_the_site_names_every_page_once():
    named = re.findall(r"[\w-]+\.md$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(page.name for page in PAGES[1:])


def anchors(page: Path) -> set[str]:
    """Headings as GitHub turns them into anchors."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_exists(page):
    named = re.findall(rf"(?<![\w/.<])(?:{'|'.join(FOLDERS)})/[\w./-]*", page.read_text(encoding="utf-8"))
    missing = sorted({path for path in named if not (ROOT / path.rstrip(".")).exists()})
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_key_that_is_mentioned_exists(page):
    known = set(KEYS) | {key.rsplit(".", depth)[0] for key in KEYS for depth in (1, 2)}
    text = page.read_text(encoding="utf-8").replace("`arms.NAME.", "`")
    mentioned = re.findall(rf"`((?:{'|'.join(SECTIONS)})(?:\.\w+)+)", text)
    unknown = {key for key in mentioned if key not in known and not is_module(key)}
    unknown -= {
        key for key in unknown if key.startswith("model.args.") or Path(key).suffix in (".pdf", ".csv", ".json")
    }
    assert unknown == set()


def is_module(dotted: str) -> bool:
    """Whether the first parts name a module or a folder of them, however deep it lies."""
    parts = dotted.split(".")
    places = [ROOT.joinpath(*parts[:depth]) for depth in range(2, len(parts) + 1)]
    return any(place.is_dir() or place.with_suffix(".py").exists() for place in places)


def test_every_command_that_is_shown_exists():
    shown = {name for page in PAGES for name in re.findall(r"gramlab (\w+)", page.read_text(encoding="utf-8"))}
    assert shown <= set(COMMANDS)
    assert shown


def commands(name: str) -> list[str]:
    """Every `gramlab NAME …` line of the pages, its continuations joined and its comment taken off."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES).replace("\\\n", " ")
    return re.findall(rf"^    gramlab {name} (.*?)\s*(?:#.*)?$", text, re.MULTILINE)


@pytest.mark.parametrize("line", commands("eval"))
def test_every_evaluation_that_is_shown_is_understood(line):
    args = parsed(arguments.evaluate, "eval", shlex.split(line))
    given = request.pairs(args.data, "--data", "")
    wanted = [request.parse(word, given) for word in args.tasks]
    listed = args.list or (args.check is not None and args.spec is None)
    assert listed or args.spec.partition(":")[0] in ADDRESSES or args.spec.startswith("runs/")
    assert all(request.choose_protocol(w, args.protocol) for w in wanted)
    assert given.keys() <= {w.data for w in wanted}


@pytest.mark.parametrize("line", [line for line in commands("run") if not line.startswith(("--help", "--settings"))])
def test_every_run_that_is_shown_is_understood(line, tmp_path, monkeypatch):
    """A file that the reader writes is the one that a page shows for it."""
    monkeypatch.setenv("GRAMLAB_DATA", "/data")
    args = parsed(COMMANDS["run"].arguments, "run", shlex.split(line))
    path = ROOT / args.experiment
    if not path.exists():
        path = tmp_path / args.experiment
        path.write_text(blocks(OWN_EXPERIMENTS[args.experiment], "yaml")[0], encoding="utf-8")
    arms = args.arms.split(",") if args.arms else None
    assert load(path, args.overrides, arms=arms).arms


def test_comparisons_and_preparations_that_are_shown_are_understood():
    shown = commands("compare")
    steps = [line for line in shown if "/step_" in line or ":" in line or line == "A B"]
    for arguments_of, lines in (
        (arguments.compare, steps),
        (of_reports.compare, [line for line in shown if line not in steps]),
        (arguments.prepare, commands("prepare")),
    ):
        assert lines
        for line in lines:
            if "--help" not in line:
                parsed(arguments_of, "compare", shlex.split(line))


@pytest.mark.parametrize("block", examples("yaml"))
def test_every_experiment_and_every_set_that_is_shown_loads(block, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(block, encoding="utf-8")
    if "kind" in yaml.safe_load(block):
        assert read_set(path, called="mine", split="train").root
    else:
        assert load(path).arms


@pytest.mark.parametrize("block", examples("python"))
def test_every_program_that_is_shown_imports_what_there_is(block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}")


def test_what_results_say_that_a_program_prints_it_prints():
    page = ROOT / "docs" / "results.md"
    programs, told = blocks(page, "python"), blocks(page, "text")
    assert len(programs) == len(told) > 0
    for program, wanted in zip(programs, told, strict=True):
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert [line.rstrip() for line in done.stdout.splitlines()] == wanted.splitlines()
