"""What the commands of harness can be told on their command lines, without anything that takes seconds to import."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from common.completion import completed, folders, run_folders, yaml_files
from evals import arguments as of_evals
from harness.listed_settings import overrides, overview
from reports import arguments as of_reports

SCENES = "scenes"
AXES = {  # of `gramlab new`: what its arms differ in, and the question that is asked by that
    "gram": ("Gram anchoring off and on", "Does Gram anchoring keep dense features while training goes on?"),
    "update": ("how often the Gram teacher is renewed", "How often should the Gram teacher be renewed?"),
    "resolution": ("the resolution that it sees", "Does a Gram teacher that sees larger crops keep more?"),
    "batching": ("batches of one kind of image", "What does it do to train on batches of one kind of image?"),
}


def new(parser: argparse.ArgumentParser) -> None:
    """Of `gramlab new`."""
    parser.description = """\
Write a commented experiment file, NAME.yaml, from three answers: the question, the images, what the arms differ in.

It asks for them in a terminal where no flag is given; else flags that are left out stand for what they say. Nothing is
ever overwritten."""
    name = "of the file and of its folder of runs, such as my_question"
    completed(parser.add_argument("name", metavar="NAME", help=name), lambda prefix, **given: [])
    parser.add_argument("--question", metavar="TEXT", help="in one sentence (default: that of the axis)")
    images = f"a folder of images, or {SCENES}, rendered rooms (default: {SCENES})"
    completed(
        parser.add_argument("--images", metavar="FOLDER", help=images),
        lambda prefix, **given: [SCENES, *folders(prefix)],
    )
    told = "; ".join(f"{axis}: {what}" for axis, (what, _) in AXES.items())
    parser.add_argument("--axis", choices=AXES, help=f"what arms differ in – {told} (default: gram)")


def run(parser: argparse.ArgumentParser) -> None:
    """Of `gramlab run`."""
    parser.description = """\
Train, evaluate and report an experiment: composes it, prints the plan, trains what is unfinished, evaluates on the way,
ends with the report's path. The same command goes on where it was interrupted."""
    parser.epilog = "All settings, their defaults and what they mean: gramlab run --settings, and docs/settings.md."
    _add_experiment(parser, "a YAML file, such as experiments/gram_ablation.yaml")
    parser.add_argument("--arms", metavar="NAME,NAME", help="these arms of the file alone, such as plain,anchored")
    parser.add_argument("--plan", action="store_true", help="print the plan, draw it as a PDF, and stop")
    parser.add_argument("--check-data", action="store_true", help="read every training image before the first step")


def sweep(parser: argparse.ArgumentParser) -> None:
    """Of `gramlab sweep`."""
    parser.description = """\
Search over settings of an experiment with Optuna, which proposes settings of the experiment's `sweep.space`: each trial
is an arm that forks from the shared trunk, and what was found is drawn in `sweep.pdf`. The same command continues a
study; several at once work on one study together."""
    _add_experiment(parser, "a YAML file with a section sweep, such as experiments/gram_sweep.yaml")
    parser.add_argument("--trials", type=int, metavar="N", help="trials of the study in all, as sweep.trials=N")
    parser.add_argument("--plan", action="store_true", help="print the plan and stop")
    parser.add_argument("--confirm", type=int, metavar="K", help="train the front again, on K fresh seeds, and stop")


def compare(parser: argparse.ArgumentParser) -> None:
    """Of `gramlab compare`, whichever of the two it compares: each reads the words anew, by what it takes alone."""
    parser.description = """\
gramlab compare RUN RUN…    experiments, by the folders that hold their experiment.json: how they differ in their
                            settings and in what they gave (docs/comparing.md)
gramlab compare A B         two evaluated checkpoints, image by image on the same ones: both values, B − A, and its
                            95 % interval by the paired bootstrap. Each is an output folder of `gramlab eval`, an
                            evaluated step of a run, or a backbone as it was given to `gramlab eval`"""
    sides = parser.add_argument("sides", nargs="+", metavar="RUN", help="or A and B; the one to compare with first")
    completed(sides, run_folders)
    out = "a folder for the trade-off and all numbers of experiments, or a .jsonl for the differences of checkpoints"
    parser.add_argument("--out", type=Path, metavar="PLACE", help=out)
    of_reports.of_experiments(parser.add_argument_group("experiments"))
    of_evals.of_checkpoints(parser.add_argument_group("checkpoints"))


def status(parser: argparse.ArgumentParser) -> None:
    """Of `gramlab status`."""
    parser.description = "What runs, waits, failed and is done, and until when."
    _add_folder(parser)


def watch(parser: argparse.ArgumentParser) -> None:
    """Of `gramlab watch`."""
    parser.description = """\
What runs, waits, failed and is done, and until when, told again until nothing is left to do.

Meanwhile the report is served as a page that follows the run, which a browser opens where one is at hand; in a terminal
it stays until Ctrl-C."""
    _add_folder(parser)
    of_reports.served(parser)


def clean(parser: argparse.ArgumentParser) -> None:
    """Of `gramlab clean`."""
    parser.description = """\
Free what no experiment asks for any more.

An experiment is listed while its folder lies in `runs` with the `experiment.json` that names its segments. Kept of
those are curves, outcomes, the backbones of its own steps, the states that its arms fork from and the newest two."""
    folder = parser.add_argument(
        "runs", type=Path, nargs="?", default=Path("runs"), help="folder of runs; default: runs"
    )
    completed(folder, run_folders)
    parser.add_argument("--plan", action="store_true", help="say what would be freed and stop")


def curate(parser: argparse.ArgumentParser) -> None:
    """Of `gramlab curate`."""
    parser.description = """\
Turn a pool of images into a manifest of those worth training on.

Embeds the pool, clusters it, drops near-duplicates, samples and retrieves, and writes a manifest with a PDF beside it.
`torchrun --nproc-per-node N harness/curate.py …` shares the work among N processes. A killed command goes on."""
    completed(parser.add_argument("curation", help="a YAML file, such as experiments/curate.yaml"), yaml_files)
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings to change, as clustering.target=200"
    )
    parser.add_argument("--plan", action="store_true", help="say what would be done, and stop")


def doctor(parser: argparse.ArgumentParser) -> None:
    """Of `gramlab doctor`."""
    parser.description = """\
Tell what is installed, what this machine can do, which data is found, what is missing and what to do about it.

It changes nothing and takes some ten seconds. Exit code 1 where something that is needed is broken, 0 where all that
is missing are extras, data or a GPU."""
    parser.add_argument("--json", action="store_true", help="as JSON, for a report of a fault")


def bench(parser: argparse.ArgumentParser) -> None:
    """Of `gramlab bench`."""
    parser.description = """\
Measure how fast parts of Gramlab are on this machine, steps and evaluations beside plain ways to do the same; or how
often its intervals hold what they should.

Without a name: the list. What is measured of steps, products, losses, data, evaluations and checkpoints is appended to
benchmarks.jsonl where one stands; ratios are compared with the last ones on the same machine."""
    parser.add_argument("name", nargs="?", help="which one, such as step; what stands behind it is its own, --help too")


def _add_experiment(parser: argparse.ArgumentParser, file: str) -> None:
    """An experiment file, changes to it, and the list of what can be changed."""
    completed(parser.add_argument("experiment", help=file), yaml_files)
    changes = parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, as steps=200")
    completed(changes, overrides)
    listed = "list settings whose keys hold PART, or all, and stop"
    parser.add_argument("--settings", nargs="?", const="", metavar="PART", action=_Settings, help=listed)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    folder = parser.add_argument("folder", type=Path, help="of the experiment, such as runs/gram_ablation")
    completed(folder, run_folders)


class _Settings(argparse.Action):
    """Prints the settings and leaves, as --help does: no experiment is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        print(overview(values))
        parser.exit()
