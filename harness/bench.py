"""`gramlab bench`: the commands of benchmarks/, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from common.interrupts import listen

    listen()

from common.command import answer, end, parsed
from common.errors import BadInput, nearest
from harness import arguments

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


def names() -> list[str]:
    """Those that can be run: files with a `main`."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if "def main(" in path.read_text(encoding="utf-8"))


def main(argv: list[str] | None = None) -> int:
    """Run the named benchmark with the arguments behind its name, or tell which there are."""
    return answer(lambda: _run(argv))


def _run(argv: list[str] | None) -> int:
    told = sys.argv[1:] if argv is None else argv
    given = parsed(arguments.bench, "bench", told[:1])
    if not names():
        where = f"{FOLDER.name}/ beside {Path(__file__).parent}"
        raise BadInput(f"no {where}: want a checkout of the project; call `python harness/bench.py` there")
    if given.name is None:
        for name in names():
            first = (FOLDER / f"{name}.py").read_text(encoding="utf-8").splitlines()[0].strip('"')
            print(f"  {name:20}{first}")
        return 0
    if given.name not in names():
        hint = nearest(given.name, names(), otherwise="without a name it tells what each measures")
        raise BadInput(f"got benchmark {given.name!r}: want one of {', '.join(names())}; {hint}")
    return subprocess.run([sys.executable, str(FOLDER / f"{given.name}.py"), *told[1:]]).returncode


if __name__ == "__main__":
    end(main())
