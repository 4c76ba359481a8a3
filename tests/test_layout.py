"""What must stay true of the layout: imports point one way, heavy ones have one home, reports load without torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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
# reports may be called by these two alone
CALLERS = {"harness.run", "harness.cli"}


def sources() -> list[Path]:
    return sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[str]:
    """Absolute names of all modules that a file imports, inside functions too; `from a import b` gives a and a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant))


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


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_imports_point_one_way(path):
    assert [name for name in imported(path) if not allowed(module_name(path), name)] == []


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        ("evals.tasks.knn", "harness.step", False),
        ("evals.tasks.knn", "evals.results.table.Row", True),
        ("reports.tables", "evals.results.table.load", True),
        ("reports.tables", "evals.tasks.methods.TASKS", False),
        ("reports.tables", "evals.resultsets.x", False),
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
