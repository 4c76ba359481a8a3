"""What must stay true of the layout: imports run downwards, heavy ones have one home, reports load without torch."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from harness.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
OURS = ("common", "evals", "reports", "harness")
HEAVY = {"mmseg", "mmcv", "mmengine"}
LIGHT = ("evals.results",)
TORCHLESS = (
    *LIGHT,
    "common.errors",
    "common.command",
    "common.disk",
    "evals.compare",
    "evals.results.differences",
    "evals.results.best_checkpoints",
    "evals.pictures.forest",
)
# reports may be called by these alone
CALLERS = {
    "harness.run",
    "harness.sweep",
    "harness.arguments",
    "harness.cli",
    "harness.compare",
    "harness.curate",
    "harness.curation.pictures",
    "harness.watch",
}

# The rooms of the house from the ground up: a room imports rooms of lower floors, none of its own floor or above.
# A room is `common`, or a file or a folder directly below the other three; docs/architecture.md says what each holds.
FLOORS = (
    "common",
    "evals.results evals.mmseg_bridge evals.backbones",
    "evals.datasets",
    "evals.arguments reports.arguments",
    "evals.features",
    "evals.protocols",
    "evals.fitting evals.judging",
    "evals.tasks",
    "evals.one_task",
    "evals.suite",
    "evals.request evals.pictures evals.references",
    "evals.options evals.compare evals.prepare evals.reproduced",
    "evals.run",
    "harness.losses harness.crop_settings harness.data_settings harness.model_arguments harness.rope harness.shards "
    "harness.store",
    "harness.launcher_settings harness.sweep_settings harness.recipe harness.workplace",
    "harness.backbones",
    "harness.layers harness.standings",
    "harness.trackers",
    "harness.listed_settings harness.curves",
    "harness.arguments",
    "harness.arms harness.status harness.recipe_page harness.new",
    "harness.eval_settings harness.display",
    "harness.settings",
    "harness.overrides",
    "harness.config harness.data harness.settings_pages harness.collapse",
    "harness.noise harness.components",
    "harness.model",
    "harness.gram_teacher harness.choices",
    "harness.gram_view",
    "harness.dense_watch harness.distillation",
    "harness.schedules harness.split harness.state",
    "harness.optimizer harness.forward",
    "harness.step",
    "harness.checkpoint harness.counted",
    "harness.cost",
    "harness.cut_state harness.job harness.export_trunk harness.memory",
    "harness.graph harness.orders",
    "harness.phases",
    "harness.clean harness.excluded harness.found harness.check_data",
    "harness.skipped",
    "harness.lockstep",
    "harness.job_status harness.pictures harness.bad_steps",
    "harness.job_folder",
    "harness.beginning harness.kept harness.measures",
    "harness.gpu_estimate harness.together",
    "harness.train harness.plan harness.record harness.evaluate",
    "harness.follow",
    "harness.mending harness.timeline",
    "harness.impossible",
    "harness.pointless",
    "harness.launchers harness.sweeps",
    "harness.opening",
    "harness.doctor harness.bench",
    "reports.parts",
    "reports.lane_files",
    "reports.page reports.run_folder reports.pairing",
    "reports.lineage reports.lane_settings reports.pdf",
    "reports.axes reports.labels reports.estimates reports.effort",
    "reports.compared",
    "reports.words",
    "reports.cautions reports.since_start reports.steady",
    "reports.curves reports.features reports.gram_teachers reports.graph reports.paths reports.provenance",
    "reports.results_table reports.spending reports.tracks reports.verdict_words",
    "reports.ranks",
    "reports.signs",
    "reports.events reports.front_page reports.verdict_pages reports.verdict_table reports.timeline",
    "reports.losses",
    "reports.compute_pages reports.tradeoff reports.batches reports.spending_pages reports.graph_page "
    "reports.health_pages reports.since_pages reports.resolution reports.published_gram",
    "reports.tradeoff_grid",
    "reports.figures reports.tidy reports.paper reports.twin",
    "reports.live",
    "reports.build reports.tables reports.evidence",
    "reports.sweep reports.curation reports.across",
    "reports.compare",
    "harness.curation",
    "harness.run harness.compare harness.watch",
    "harness.sweep harness.curate",
    "harness.cli",
)


def sources() -> list[Path]:
    return sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[str]:
    """Absolute names of all that a file imports, inside functions too; `from a import b` gives a.b.

    `import a.b` gives a, the name that it binds and from which all of the package can be had, and `import a.b as b`
    gives a.b. Where modules are imported by strings, every string that may be a name counts: there are tables of them.
    """
    text = path.read_text(encoding="utf-8")
    assert "__import__" not in text, f"{path}: got __import__: want import_module"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name if alias.asname else alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "import_module" in text:
            yield from re.findall(r"^[\w.]+$", node.value)


def arrows(files: Mapping[str, Path]) -> dict[str, set[str]]:
    """For each module the modules of ours that it imports, itself left out; fails at names of ours that are no file."""
    graph = {}
    for module, path in files.items():
        ours = {name for name in imported(path) if name.split(".")[0] in OURS}
        found = {name if name in files else name.rpartition(".")[0]: name for name in ours}
        lost = sorted(name for target, name in found.items() if target not in files)
        assert not lost, f"{module} imports {lost[0]}, which is no file: want the file that holds what it takes"
        graph[module] = found.keys() - {module}
    return graph


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """The modules of one circle of imports, the first again at its end; [] where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def room(module: str) -> str:
    return "common" if module.startswith("common.") else ".".join(module.split(".")[:2])


def upwards(graph: Mapping[str, set[str]], floors: Sequence[str]) -> list[str]:
    """The imports that run to another room of the same floor or of a higher one."""
    height = {name: number for number, floor in enumerate(floors) for name in floor.split()}
    return [
        f"{module} imports {name}"
        for module, names in graph.items()
        for name in sorted(names)
        if room(module) != room(name) and height[room(module)] <= height[room(name)]
    ]


def allowed(module: str, name: str) -> bool:
    mine, theirs = module.split(".")[0], name.split(".")[0]
    if theirs not in OURS or theirs in (mine, "common"):
        return True
    if mine == "reports":
        return any(name == light or name.startswith(f"{light}.") for light in LIGHT)
    if mine == "harness":
        return theirs == "evals" or module in CALLERS
    return False


def test_there_is_something_to_check():
    assert {"harness.run", "evals.suite", "reports.build", "harness.losses.gram"} <= set(map(module_name, sources()))


MODULES = {module_name(path): path for path in sources() if path.name != "__init__.py"}


def test_no_files_import_one_another_in_a_circle():
    assert circle(arrows(MODULES)) == []


def test_no_import_runs_to_a_higher_floor():
    assert upwards(arrows(MODULES), FLOORS) == []


def test_every_room_has_its_floor():
    assert sorted(" ".join(FLOORS).split()) == sorted({room(module) for module in MODULES})


def test_a_circle_is_found_and_its_files_are_named(tmp_path):
    texts = {
        "evals.a": "def late():\n    from evals import b\n",
        "evals.b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from evals.c import C\n",
        "evals.c": "import evals.a as first\n",
        "evals.d": "from evals.a import late\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    graph = arrows({name: tmp_path / name for name in texts})
    assert graph == {"evals.a": {"evals.b"}, "evals.b": {"evals.c"}, "evals.c": {"evals.a"}, "evals.d": {"evals.a"}}
    assert sorted(set(circle(graph))) == ["evals.a", "evals.b", "evals.c"]
    assert circle({"evals.d": {"evals.a"}, "evals.a": set()}) == []


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("from evals import tasks\ntasks.knn.evaluate()\n", "evals.tasks"),
        ("import evals.tasks\n", "evals"),
        ("import evals.tasks as tasks\n", "evals.tasks"),
        ("import evals.tasks.knn\nevals.suite.measure()\n", "evals"),
        ("from evals.tasks import *\n", "evals.tasks.*"),
        ("from importlib import import_module\nimport_module(f'evals.tasks.{name}')\n", "evals.tasks."),
    ],
)
def test_a_package_in_place_of_a_file_is_refused_by_name(text, lost, tmp_path):
    (tmp_path / "knn").write_text("")
    (tmp_path / "a").write_text(text)
    with pytest.raises(AssertionError, match=rf"^evals\.a imports {re.escape(lost)}, which is no file"):
        arrows({"evals.tasks.knn": tmp_path / "knn", "evals.a": tmp_path / "a"})


@pytest.mark.parametrize(
    "text",
    [
        "import importlib\nimportlib.import_module('evals.b')\n",
        "from importlib import import_module\nimport_module(name='evals.b')\n",
        "from importlib import import_module as load\nload('evals.b')\n",
        "import importlib as i\nload = i.import_module\nload('evals.b')\n",
        "from importlib import import_module\nTABLE = {'b': ('evals.b', 'the b')}\nimport_module(TABLE[name][0])\n",
    ],
)
def test_a_module_that_is_imported_by_a_string_counts(text, tmp_path):
    (tmp_path / "b").write_text("print('evals.c')\n")
    (tmp_path / "a").write_text(text)
    files = {"evals.a": tmp_path / "a", "evals.b": tmp_path / "b", "evals.c": tmp_path / "b"}
    assert arrows(files) == {"evals.a": {"evals.b"}, "evals.b": set(), "evals.c": set()}


def test_an_import_that_no_reading_can_follow_is_refused(tmp_path):
    (tmp_path / "a").write_text("__import__('evals.b')\n")
    with pytest.raises(AssertionError, match="got __import__: want import_module"):
        arrows({"evals.a": tmp_path / "a"})


def test_the_commands_of_the_front_count_as_its_imports():
    assert {command.module for command in COMMANDS.values()} <= arrows(MODULES)["harness.cli"]


def test_an_import_that_runs_upwards_or_along_a_floor_is_found():
    graph = {
        "common.disk": {"common.errors", "evals.tasks.knn"},
        "evals.tasks.knn": {"evals.tasks.linear.quick", "common.disk", "evals.suite"},
        "evals.suite": {"evals.tasks.knn", "common.errors"},
    }
    floors = ("common", "evals.tasks evals.suite")
    assert upwards(graph, floors) == [
        "common.disk imports evals.tasks.knn",
        "evals.tasks.knn imports evals.suite",
        "evals.suite imports evals.tasks.knn",
    ]
    assert upwards(graph, ("common", "evals.tasks", "evals.suite"))[2:] == []


def test_a_task_imports_no_other_task():
    tasks = {module: names for module, names in arrows(MODULES).items() if module.startswith("evals.tasks.")}
    own = {module: module.split(".")[2] for module in tasks}
    assert [
        f"{module} imports {name}"
        for module, names in tasks.items()
        for name in sorted(names & tasks.keys())
        if own[module] not in ("methods", own[name])
    ] == []


def one_sentence(text: str) -> bool:
    """Whether a first line ends as a sentence does, and holds no second one."""
    return text.endswith(".") and not re.search(r"[.!?] [A-Z]", text)


@pytest.mark.parametrize(("text", "whole"), [("A list of sets.", True), ("A list", False), ("A list. A set.", False)])
def test_a_sentence_is_told_from_none_and_from_two(text, whole):
    assert one_sentence(text) == whole


@pytest.mark.parametrize("module", MODULES)
def test_the_first_line_of_a_file_is_one_sentence_on_what_it_is(module):
    said = ast.get_docstring(ast.parse(MODULES[module].read_text(encoding="utf-8"))) or ""
    assert one_sentence(said.partition("\n")[0]), said


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_imports_point_one_way(path):
    assert [name for name in imported(path) if not allowed(module_name(path), name)] == []


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        ("evals.tasks.knn", "harness.step", False),
        ("evals.tasks.knn", "evals.results.table.Row", True),
        ("reports.estimates", "evals.results.table.load", True),
        ("reports.estimates", "evals.tasks.methods.TASKS", False),
        ("reports.estimates", "evals.resultsets.x", False),
        ("harness.train", "reports.build.build", False),
        ("harness.run", "reports.build.build", True),
        ("evals.tasks.knn", "torch.nn", True),
    ],
)
def test_the_arrows_are_those_of_the_layout(module, name, expected):
    assert allowed(module, name) == expected


def test_only_the_bridge_imports_mmsegmentation():
    homes = {module_name(path) for path in sources() if HEAVY & {name.split(".")[0] for name in imported(path)}}
    assert homes <= {"evals.mmseg_bridge"}


def test_the_bridge_imports_mmsegmentation_inside_its_functions():
    tree = ast.parse((ROOT / "evals" / "mmseg_bridge.py").read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {(node.names[0].name if isinstance(node, ast.Import) else node.module or "").split(".")[0] for node in top}
    assert HEAVY.isdisjoint(names)


def test_no_module_of_harness_bears_a_name_of_the_standard_library():
    names = {path.stem for path in (ROOT / "harness").glob("*.py")}
    assert names & set(sys.stdlib_module_names) == set()


def test_every_package_file_is_empty():
    filled = {module_name(path) for path in sources() if path.name == "__init__.py" and path.read_text().strip()}
    assert filled == set()


def test_every_folder_of_modules_is_a_package():
    folders = {path.parent for path in sources()}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_every_entry_script_finds_the_packages_before_it_imports_them():
    """`python harness/run.py` puts harness/ on the path, where it would hide the packages and the standard library."""
    for path in sources():
        text = path.read_text(encoding="utf-8")
        if "__main__" not in text:
            continue
        ours = min(text.find(f"\nfrom {package}.") % len(text) for package in OURS)
        assert 0 <= text.find("sys.path[0] = str(Path(__file__).resolve().parents[") < ours, path.name


def test_every_entry_script_hears_signals_before_it_imports_what_takes_seconds():
    quick = sys.stdlib_module_names | {"common"}
    for path in sources():
        text = path.read_text(encoding="utf-8")
        if "__main__" not in text:
            continue
        earlier, heard, _ = text.partition(" listen()\n")
        names = re.findall(r"^\s*(?:from|import) (\w+)", earlier, re.MULTILINE)
        assert heard, path.name
        assert set(names) <= quick, path.name


def test_experiments_holds_settings_alone():
    others = {path.suffix for path in (ROOT / "experiments").rglob("*") if path.is_file()} - {".yaml"}
    assert others <= {".safetensors", ".md"}


def test_reports_and_tables_load_without_torch():
    modules = [*TORCHLESS, *(module_name(path) for path in sources() if module_name(path).startswith("reports"))]
    loaded = "print([name for name in ('torch', 'timm', 'harness') if name in sys.modules])"
    program = "\n".join(["import sys", *(f"import {module}" for module in modules), loaded])
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
