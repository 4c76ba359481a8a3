"""Evaluate any backbone: `python evals/run.py SPEC [task ...]`, on embedded data unless folders are named.

SPEC is `timm:NAME` (published weights), `random:NAME` (a fixed random start) or an exported backbone folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from evals import results
from evals.backbone import Backbone, load
from evals.command import Parser, answer, columns
from evals.datasets.base import LabelledSet
from evals.datasets.catalogue import open_set
from evals.errors import BadInput
from evals.results import METRICS, Measurement
from evals.suite import TASKS, TaskSpec, evaluate, protocol_of

USUAL_SIZE = 64
SCENES = {"train": 512, "val": 256}


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 2 for input that the user can mend."""
    return answer(lambda: _run(argv))


def _run(argv: list[str] | None) -> int:
    args = _parser().parse_intermixed_args(argv)
    if args.list:
        print(catalogue())
    else:
        _evaluate(args)
    return 0


def catalogue() -> str:
    """Every task with its protocol and metrics, one a line."""
    rows = [("task", "protocol", "input", "metrics")]
    for name, task in TASKS.items():
        protocol = protocol_of(name)
        rows.append((name, protocol.id, protocol.layout, ", ".join(METRICS[metric].label for metric in task.metrics)))
    return columns(rows)


def table(found: Sequence[Measurement]) -> str:
    """Measurements for reading: value, 95 % interval over images, how many images, protocol with its hash."""
    rows = [("eval", "dataset", "metric", "value", "95 % interval", "images", "protocol")]
    for m in found:
        label = METRICS[m.metric].label + (f" ({METRICS[m.metric].unit})" if METRICS[m.metric].unit else "")
        span = f"{m.low:.4f} to {m.high:.4f}"
        protocol = f"{m.protocol} {m.protocol_hash}"
        rows.append((m.eval, m.dataset, label, f"{m.value:.4f}", span, str(m.images), protocol))
    return columns(rows)


def _parser() -> Parser:
    parser = Parser(prog="evals/run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", nargs="?", metavar="SPEC", help="timm:NAME, random:NAME or an exported folder")
    parser.add_argument("tasks", nargs="*", metavar="task", help=f"of {', '.join(TASKS)} (default: all)")
    parser.add_argument("--list", action="store_true", help="show the tasks and their protocols, and stop")
    parser.add_argument("--size", type=int, help=f"short side of the input in pixels (about {USUAL_SIZE})")
    parser.add_argument("--data-root", action="append", default=[], metavar="TASK=FOLDER", help="own data for a task")
    parser.add_argument("--classes", action="append", default=[], metavar="TASK=LIST", help="ade20k, nyu40, a,b,c")
    parser.add_argument("--train-count", type=int, help="at most this many training images of each set")
    parser.add_argument("--test-count", type=int, help="at most this many test images of each set")
    parser.add_argument("--out", type=Path, help="append result rows to this .jsonl")
    parser.add_argument("--outcomes", type=Path, metavar="FOLDER", help="keep the per-image outcomes (.npz) there")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="keep features and rendered scenes there")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    return parser


def _evaluate(args: argparse.Namespace) -> None:
    if args.spec is None:
        raise BadInput("got no backbone: want timm:NAME, random:NAME or an exported folder; --list shows the tasks")
    names = args.tasks or list(TASKS)
    roots, classes = _pairs(args.data_root, "--data-root"), _pairs(args.classes, "--classes")
    for name in (*names, *roots, *classes):
        protocol_of(name)
    if args.batch_size < 1:
        raise BadInput(f"got --batch-size {args.batch_size}: want at least 1; do leave it out for 64")
    backbone = load(args.spec, device=_device(args.device))
    size = args.size if args.size is not None else max(round(USUAL_SIZE / backbone.stride), 1) * backbone.stride
    sets = {name: _sets(name, args, size=size, root=roots.get(name), classes=classes.get(name)) for name in names}
    specs = {name: TaskSpec(name, *pair) for name, pair in sets.items()}
    found = evaluate(backbone, specs, size=size, batch_size=args.batch_size, precision=args.precision, cache=args.cache)
    print(f"{backbone.name} at {size} px\n{table(found)}")
    _keep(found, backbone, args)


def _sets(
    task: str, args: argparse.Namespace, *, size: int, root: str | None, classes: str | None
) -> tuple[LabelledSet, LabelledSet]:
    train, test = (
        _open(task, split, args.cache, size=size, root=root, classes=classes, count=count)
        for split, count in (("train", args.train_count), ("val", args.test_count))
    )
    return train, test


def _open(
    task: str, split: str, cache: Path | None, *, size: int, root: str | None, classes: str | None, count: int | None
) -> LabelledSet:
    if root is None:
        return open_set("scenes", split=split, size=size, count=SCENES[split] if count is None else count, cache=cache)
    kind = {"segmentation": "ade20k", "depth": "nyu"}.get(task, "folder")
    return open_set(kind, root=root, split=split, count=count, classes=classes.split(",") if classes else None)


def _pairs(entries: Sequence[str], option: str) -> dict[str, str]:
    pairs = [entry.partition("=") for entry in entries]
    for name, sign, value in pairs:
        if not (name and sign and value):
            raise BadInput(f"got {option} {name}{sign}{value}: want TASK=VALUE; do write knn=/data/imagenette")
    return {name: value for name, _, value in pairs}


def _device(choice: str) -> str:
    if choice == "cuda" and not torch.cuda.is_available():
        raise BadInput("got --device cuda, but torch sees no GPU: want a CUDA device; do use --device cpu or auto")
    return ("cuda" if torch.cuda.is_available() else "cpu") if choice == "auto" else choice


def _keep(found: Sequence[Measurement], backbone: Backbone, args: argparse.Namespace) -> None:
    if args.outcomes is not None:
        for measurement in found:
            results.save_outcomes(args.outcomes, measurement)
    if args.out is not None:
        seed, step = (int(backbone.extra.get(key) or 0) for key in ("seed", "step"))
        arm = str(backbone.extra.get("arm") or "")
        results.append(args.out, [m.row(run=backbone.name, arm=arm, seed=seed, step=step) for m in found])
        print(f"{len(found)} rows added to {args.out}")


if __name__ == "__main__":
    sys.exit(main())
