"""Build the package, install it without the development extras, and use it from another folder: `make package`.

The new environment has links to the distributions of this one that the package asks for without extras, and to no
other: so it takes seconds, needs no network, and what the package forgot to ask for is not there. It also lists the
licences of these distributions, and with GRAMLAB_AUDIT=1 known weaknesses of the pinned versions, by pip-audit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
AUDIT = 120  # seconds that an audit may take


def run(*command: str | Path, within: Path, wanted: int = 0) -> str:
    """What a command says on stdout; ends this one where its exit code is another."""
    hidden = () if str(command[0]) == sys.executable else ("PYTHONPATH", "VIRTUAL_ENV")
    environment = {key: value for key, value in os.environ.items() if key not in hidden} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, command)], cwd=within, env=environment, capture_output=True, text=True)
    if done.returncode != wanted:
        sys.exit(
            f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
    return done.stdout


def needed(name: str, extras: frozenset[str] = frozenset(), seen: set[str] | None = None) -> Iterator[Distribution]:
    """The distribution of this name and all that it asks for, each once."""
    seen = set() if seen is None else seen
    if (key := f"{name.lower().replace('_', '-')}{sorted(extras)}") in seen:
        return
    seen.add(key)
    try:
        found = distribution(name)
    except PackageNotFoundError:
        sys.exit(f"got no {name} in this environment: want all that the package asks for; make install")
    yield found
    for text in found.requires or ():
        asked = Requirement(text)
        if asked.marker is None or any(asked.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            yield from needed(asked.name, frozenset(asked.extras), seen)


def lend(found: list[Distribution], site: Path) -> None:
    """Link to what each of them has put into site-packages."""
    for one in found:
        for name in {path.parts[0] for path in one.files or () if path.parts[0] not in ("..", "__pycache__")}:
            if not (site / name).exists():
                (site / name).symlink_to(Path(str(one.locate_file(name))).resolve())


def fresh(folder: Path, wheel: Path) -> Path:
    """An environment with the wheel and what it needs; its folder of commands."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = Path(run(python, "-c", "import site; print(site.getsitepackages()[0])", within=folder).strip())
    lend([one for one in needed("gramlab") if one.metadata["Name"] != "gramlab"], site)
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "--quiet"]
    run(*pip, "--no-deps", "--no-index", wheel, within=folder)
    return folder / "bin"


def use(commands: Path, place: Path) -> None:
    """The commands that a beginner gives, in a folder that holds nothing."""
    gramlab = commands / "gramlab"
    where = run(commands / "python", "-c", "import harness; print(harness.__file__)", within=place)
    if not where.startswith(str(commands.parent.resolve())):
        sys.exit(f"got harness from {where}: want the package that was installed")
    run(gramlab, "--help", within=place)
    run(gramlab, "new", "mine", "--axis", "gram", within=place)
    run(gramlab, "run", "mine.yaml", "--plan", within=place)
    text = (ROOT / "benchmarks" / "soaking" / "run.yaml").read_text(encoding="utf-8")
    (place / "tiny.yaml").write_text(text, encoding="utf-8")
    arms = "arms={plain: {}, anchored: {gram.weight: 2.0, gram.start_step: 5}}"
    words = ["steps=6", "evals.every=6", "runtime.workers=0", "name=tiny", arms]
    run(gramlab, "run", "tiny.yaml", *words, within=place)
    (place / "runs" / "tiny" / "report.pdf").unlink()
    run(gramlab, "report", "runs/tiny", within=place)
    if not (place / "runs" / "tiny" / "report.pdf").is_file():
        sys.exit("got no report.pdf of gramlab report: want one")


def licence(one: Distribution) -> str:
    """As the distribution states it: an expression of SPDX, a field of text, or its classifiers."""
    told = one.metadata
    field = (told.get("License") or "").strip().splitlines()[:1]
    classifiers = [
        line.rpartition(" :: ")[2] for line in told.get_all("Classifier") or () if line.startswith("License")
    ]
    return told.get("License-Expression") or ", ".join(classifiers) or "".join(field)[:60] or "not stated"


def licences() -> str:
    """How many of what is needed are under each licence, and which ones where they are few."""
    found = {one.metadata["Name"]: licence(one) for one in needed("gramlab")}
    lines = [f"licences of {len(found)} distributions:"]
    for name, count in Counter(found.values()).most_common():
        whose = sorted(key for key, value in found.items() if value == name)
        lines.append(f"  {count:>3}  {name}" + (f": {', '.join(whose)}" if count <= 3 else ""))
    return "\n".join(lines)


def audit() -> str:
    """Known weaknesses of the versions of constraints.txt, told and not refused; or why nobody was asked.

    It asks the index of packages for each of them, so only where `GRAMLAB_AUDIT=1` says that this is welcome.
    """
    if os.environ.get("GRAMLAB_AUDIT") != "1":
        return "pip-audit: not asked, since it takes a query for each package; GRAMLAB_AUDIT=1 does"
    command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner=off", "-f", "json"]
    command += ["-r", str(ROOT / "constraints.txt")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=AUDIT, check=False)
    except subprocess.TimeoutExpired:
        return f"pip-audit: no answer within {AUDIT} s; nothing is said of known weaknesses"
    if not done.stdout.startswith("{"):  # no network, or no pip-audit (the extra `audit`)
        return f"pip-audit could not ask: {(done.stderr.strip().splitlines() or ['nothing said'])[-1][:300]}"
    return audited(json.loads(done.stdout)["dependencies"])


def audited(found: Sequence[Mapping[str, Any]]) -> str:
    """What pip-audit found, in lines."""
    known = [one for one in found if "skip_reason" not in one]
    lines = [f"pip-audit: {len(known)} of {len(found)} packages are known to whom it asked"]
    for one in known:
        for weakness in one["vulns"]:
            mended = ", ".join(weakness["fix_versions"]) or "no version yet"
            lines.append(f"  {one['name']} {one['version']}: {weakness['id']}, mended in {mended}")
    return "\n".join(lines)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="gramlab-package-") as name:
        folder = Path(name)
        place = folder / "elsewhere"
        place.mkdir()
        build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", ROOT]
        run(*build, within=folder)
        (wheel,) = (folder / "dist").glob("*.whl")
        (source,) = (folder / "dist").glob("*.tar.gz")
        use(fresh(folder / "environment", wheel), place)
        print(f"built: {source.name}, {wheel.name} ({wheel.stat().st_size / 1e6:.1f} MB)")
        print("gramlab new, run and report work from another folder, in an environment without the development extras")
    print(licences())
    print(audit())
    return 0


if __name__ == "__main__":
    sys.exit(main())
