"""Bring public downloads into the layouts that evaluations read, and check what is there: `gramlab prepare`."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from common.interrupts import listen

    listen()

from common.command import answer, end, parsed
from common.errors import BadInput
from evals import arguments
from evals.datasets.catalogue import KNOWN, open_named
from evals.datasets.checking.check import Checked, check
from evals.datasets.preparing.table import CHECKED, TASKS
from evals.datasets.preparing.target import Target

SPEC = "timm:vit_small_patch16_dinov3.lvd1689m"


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 2 for input that the user can mend."""
    return answer(lambda: _run(argv))


def _run(argv: list[str] | None) -> int:
    args = parsed(arguments.prepare, "prepare", argv)
    if args.check:
        _check_command(*args.check)
    elif args.task:
        _prepare_command(args.task, args.source, args.to)
    else:
        print("\n".join(describe(name) for name in TASKS))
    return 0


def describe(name: str) -> str:
    """The downloads of a task, one a line."""
    return "\n".join([f"{name}:", *(f"  {download}" for download in TASKS[name].downloads)])


def check_all(name: str, folder: Path) -> list[Checked]:
    """The training split and the one that results are reported on; both are read before anything is refused."""
    found, refused = [], []
    for split in ("train", "val"):
        try:
            found.append(check(open_named(name, root=folder, split=split, quiet=True), known=name))
        except BadInput as error:
            refused.append(str(error))
    if refused:
        raise BadInput("\n".join(dict.fromkeys(refused)))
    return found


def _check_command(name: str, folder: str) -> None:
    name = TASKS[name].known if name in TASKS else name
    if name not in KNOWN:
        raise BadInput(f"got data set '{name}' to check: want one of {', '.join(CHECKED)}; correct the name")
    found = check_all(name, Path(folder).expanduser())
    print("\n".join(str(checked) for checked in found))
    if partial := [f"{checked.split}: {checked.partial}" for checked in found if checked.partial]:
        raise BadInput(f"got a part of '{name}' in {folder} ({'; '.join(partial)}): want all; finish the download")


def _prepare_command(name: str, source: Path | None, to: Path | None) -> None:
    if name not in TASKS:
        raise BadInput(f"got task '{name}': want one of {', '.join(TASKS)}; correct the task")
    task = TASKS[name]
    print(describe(name))
    if source is None or to is None:
        lacks = "--from" if source is None else "--to"
        raise BadInput(f"got no {lacks}: want {name} --from DOWNLOADS --to FOLDER; the downloads are listed above")
    folder = to.expanduser()
    target = Target(folder)
    task.prepare(source.expanduser(), target)
    print(f"{folder}: {target.finish()}")
    print("\n".join(str(checked) for checked in check_all(task.known, folder)))
    print(f"evaluate on it: python evals/run.py {SPEC} {task.evals} --data {task.known}={folder}")


if __name__ == "__main__":
    end(main())
