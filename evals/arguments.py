"""What the commands of evals can be told on their command lines, without anything that takes seconds to import."""

from __future__ import annotations

import argparse
from pathlib import Path

from common.completion import completed, run_folders

ALIASES = {"ade20k": ("segmentation", "ade20k"), "nyu": ("depth", "nyu")}  # task and data set
PICTURES = (".png", ".pdf", ".svg")
SHEETS = (*PICTURES, ".jpg")
ADDRESSES = ("timm:", "random:", "dinov2:", "dinov3:", "hf:")


def tasks() -> list[str]:
    """The tasks by name; their protocols are files that are called `<task>-<variant>`."""
    protocols = (Path(__file__).parent / "protocols").glob("*-*.yaml")
    return sorted({path.stem.rpartition("-")[0] for path in protocols})


def evaluate(parser: argparse.ArgumentParser) -> None:
    """Of `gramlab eval`, in the order of `--help`."""
    parser.description = """\
Evaluate any backbone on its frozen features, on embedded rooms unless data is named.

SPEC is timm:NAME (published weights), random:NAME (a fixed random start), an exported folder, a training state of
ours, dinov2:FILE or dinov3:FILE (official checkpoints), or hf:NAME (Hugging Face). docs/backbones.md tells of them.

TASK[@DATASET] is one of those that --list shows; ade20k stands for segmentation@ade20k and nyu for depth@nyu. DATASET
is a name that --data gives a folder, or one that GRAMLAB_DATA holds: imagenette, nyuv2, camvid.

`torchrun --nproc-per-node N evals/run.py …` shares the work among N processes.

docs/protocols.md lists every setting of a protocol, what it may be and what it means. --check sets values beside
published ones (docs/references.md) and ends with code 1 where one differs."""
    add = parser.add_argument
    completed(add("spec", nargs="?", metavar="SPEC", help="the backbone"), _backbones)
    names = f"of {', '.join(tasks())} (default: all of these), or {' or '.join(ALIASES)}"
    completed(add("tasks", nargs="*", metavar="TASK", help=names), lambda prefix, **_: [*tasks(), *ALIASES])
    add("--list", action="store_true", help="show tasks, protocols and metrics, and stop")
    add("--validate", action="store_true", help="check backbone, protocols and every file of the data, and stop")
    _add_judged(parser)
    reference = add(
        "--reference", metavar="SPEC", help="a second backbone: health then also tells the Gram drift from it"
    )
    completed(reference, _backbones)
    add(
        "--check", nargs="?", const="", metavar="NAME",
        help="set what is found beside the published values of this model, where both were made alike; NAME says that "
        "SPEC is that one. Without SPEC, list what is published and stop",
    )  # fmt: skip
    add("--references", type=Path, metavar="FILE.yaml", help="published values of your own, for --check")
    _add_machinery(parser)


def _add_judged(parser: argparse.ArgumentParser) -> None:
    """What is judged, and by which protocol."""
    add = parser.add_argument
    add(
        "--data", action="append", default=[], metavar="NAME=PATH",
        help="where a data set, or the data of a task, lies: its folder, or a YAML file with the keys of evals.sets",
    )  # fmt: skip
    add(
        "--classes",
        action="append",
        default=[],
        metavar="NAME=LIST",
        help="its classes: ade20k, nyu40, camvid or a,b,c",
    )
    protocol = add(
        "--protocol", action="append", default=[], metavar="WHICH",
        help="quick, published (standard and paper say the same), code or FILE.yaml, for one task as TASK=WHICH "
        "(default: quick)",
    )  # fmt: skip
    completed(protocol, lambda prefix, **_: ["quick", "published", "code"])
    add("--sizes", metavar="224,448", help="short sides of the input in pixels (default: each protocol's own)")
    add("--train-images", type=int, help="at most so many, evenly spread: a setting of the protocol, so its hash moves")
    add("--test-images", type=int, help="the same for the images that are judged")


def _add_machinery(parser: argparse.ArgumentParser) -> None:
    """What is written and drawn, and how it is computed."""
    add = parser.add_argument
    add("--out", type=Path, metavar="FOLDER", help="for rows, outcomes and plots (default: below runs/evals)")
    add("--plot", action="store_true", help="also draw PCA and similarity maps, predictions beside the truth")
    add("--points", metavar="Y,X", action="append", default=[], help="similarity maps of the patch there, in 0..1")
    add("--cache", type=Path, default=Path(".cache/gramlab"), metavar="FOLDER", help="keeps features and rooms")
    add("--cache-gib", type=float, default=100.0, metavar="N", help="size that the cache is kept within; 0 without end")
    add("--no-cache", action="store_true", help="keep features in memory alone")
    add("--batch-size", type=int, default=64)
    add("--workers", type=int, default=0, help="processes that read images")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add(
        "--precision", choices=("float32", "bfloat16", "auto"),
        help="of the backbone; a setting of the protocol too. auto: bfloat16 where this machine is faster in it",
    )  # fmt: skip


def compare(parser: argparse.ArgumentParser) -> None:
    """Of `gramlab compare`, where two checkpoints are compared."""
    parser.description = """\
Compare two checkpoints on the same images, for every evaluation that both have.

A and B are each an output folder of `gramlab eval`, an evaluated step of a training run (a folder that holds
`outcomes/`), or a backbone as it was given to `gramlab eval`, whose outcomes lie in the default folder. For each
metric: both values, B − A, and its 95 % interval by the paired bootstrap, where every resample draws the same images
for both."""
    first = "the one to compare with, such as the earlier checkpoint"
    completed(parser.add_argument("a", metavar="A", help=first), _backbones)
    completed(parser.add_argument("b", metavar="B", help="the one in question; differences are B − A"), _backbones)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the differences to this .jsonl, one a line")
    of_checkpoints(parser)


def of_checkpoints(parser: argparse._ActionsContainer) -> None:
    """What only the comparison of two checkpoints takes."""
    parser.add_argument("--metric", action="append", default=[], help="only this metric, such as miou (repeatable)")
    parser.add_argument("--task", action="append", default=[], help="only this task, data set or TASK@DATASET (too)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help=f"draw the differences ({', '.join(PICTURES)})")


def prepare(parser: argparse.ArgumentParser) -> None:
    """Of `gramlab prepare`."""
    from evals.datasets.preparing.table import CHECKED, TASKS

    parser.description = """\
Bring public downloads into the layouts that evaluations read, and check what is there.

    gramlab prepare                                          what to download, and from where
    gramlab prepare ade20k --from DOWNLOADS --to FOLDER
    gramlab prepare --check ade20k FOLDER

Nothing is fetched and nothing overwritten; the same command goes on where it was interrupted."""
    task = parser.add_argument("task", nargs="?", metavar="TASK", help=", ".join(TASKS))
    completed(task, lambda prefix, **_: [*TASKS])
    parser.add_argument("--from", dest="source", type=Path, metavar="DOWNLOADS", help="folder of the downloads")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="folder of the set, made where it is missing")
    parser.add_argument("--check", nargs=2, metavar=("NAME", "FOLDER"), help=f"NAME is one of {', '.join(CHECKED)}")


def look(parser: argparse.ArgumentParser) -> None:
    """Of `gramlab look`."""
    from evals.datasets.catalogue import KINDS, KNOWN

    parser.description = "Draw images of a data set with what is known of them: classes, masks, depth, surfaces."
    known = f"a kind ({', '.join(KINDS)}), a known set ({', '.join(KNOWN)}) or a set's YAML file"
    completed(parser.add_argument("set", help=known), lambda prefix, **_: [*KINDS, *KNOWN])
    parser.add_argument("--root", type=Path, help="folder of a set that is read from files; known ones have a place")
    parser.add_argument("--split", help="which part of the set (default: train)")
    parser.add_argument("--size", type=int, help="pixels a side, for scenes")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes")
    parser.add_argument("--count", type=int, help="scenes to render, or size of an evenly spread subset")
    parser.add_argument("--classes", nargs="+", help="names, or one of ade20k, nyu40, camvid for masks")
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("sheet.png"), help=", ".join(SHEETS))


def _backbones(prefix: str, **given: object) -> list[str]:
    """Beginnings of addresses, and folders of runs."""
    return [*ADDRESSES, *run_folders(prefix)]
