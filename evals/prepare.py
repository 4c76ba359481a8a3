"""Bring public downloads into the layouts that evaluations read, and check what is there.

    python evals/prepare.py                                          what to download, and from where
    python evals/prepare.py ade20k --from DOWNLOADS --to FOLDER
    python evals/prepare.py --check ade20k FOLDER

Nothing is fetched and nothing overwritten; the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from common.interrupts import listen

    listen()

from common.command import Parser, answer
from common.errors import BadInput
from evals.datasets.catalogue import KNOWN, open_named
from evals.datasets.checking.check import Checked, check
from evals.datasets.preparing import ade20k, nyu
from evals.datasets.preparing.downloads import LABELLED, MAPPING, SCENE_PARSING, SPLITS, SYNC, TRAIN_LIST, Download
from evals.datasets.preparing.target import Target

SPEC = "timm:vit_small_patch16_dinov3.lvd1689m"


@dataclass(frozen=True)
class Preparation:
    """Something to prepare: from which downloads, how, and the name and tasks under which it is evaluated."""

    downloads: tuple[Download, ...]
    prepare: Callable[[Path, Target], None]
    known: str
    evals: str


TASKS = {
    "ade20k": Preparation((SCENE_PARSING,), ade20k.prepare, "ade20k", "ade20k"),
    "nyu": Preparation((LABELLED, SPLITS, SYNC, TRAIN_LIST), nyu.prepare, "nyu", "nyu"),
    "nyu40": Preparation((LABELLED, SPLITS, MAPPING), nyu.prepare_40, "nyuv2", "segmentation@nyuv2 depth@nyuv2"),
}
CHECKED = tuple(dict.fromkeys((*KNOWN, *TASKS)))


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 2 for input that the user can mend."""
    return answer(lambda: _run(argv))


def _run(argv: list[str] | None) -> int:
    args = _parser().parse_args(argv)
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


def _parser() -> Parser:
    parser = Parser(prog="evals/prepare.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", nargs="?", metavar="TASK", help=", ".join(TASKS))
    parser.add_argument("--from", dest="source", type=Path, metavar="DOWNLOADS", help="folder of the downloads")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="folder of the set, made where it is missing")
    parser.add_argument("--check", nargs=2, metavar=("NAME", "FOLDER"), help=f"NAME is one of {', '.join(CHECKED)}")
    return parser


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
    sys.exit(main())
