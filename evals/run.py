"""Evaluate any backbone: `python evals/run.py SPEC [TASK[@DATASET] ...]`, on embedded rooms unless data is named.

SPEC is timm:NAME (published weights), random:NAME (a fixed random start), an exported folder, a training state of
ours, dinov2:FILE or dinov3:FILE (official checkpoints), or hf:NAME (Hugging Face). docs/backbones.md tells of them.

TASK is one of those that --list shows; ade20k stands for segmentation@ade20k and nyu for depth@nyu. DATASET is a
name that --data gives a folder, or one that GRAMLAB_DATA holds: imagenette, nyuv2, camvid.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from common.command import Parser, answer, columns
from common.errors import BadInput
from evals import request
from evals.backbones.backbone import Backbone, load
from evals.datasets.catalogue import KNOWN
from evals.datasets.check import check, refuse_wrong_list
from evals.datasets.labelled_set import LabelledSet
from evals.features.shelf import Subject
from evals.features.view import refuse_uneven
from evals.pictures.feature_maps import POINTS, read_points
from evals.pictures.gallery import Gallery, draw_sizes
from evals.request import Wanted
from evals.results import outcomes
from evals.results import table as results
from evals.results.metrics import metric_of, write_number
from evals.results.table import Measurement
from evals.suite import TaskSpec, evaluate, refuse_unfit
from evals.tasks.methods import TASKS, method_of

log = logging.getLogger("gramlab")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 2 for input that the user can mend."""
    return answer(lambda: _run(argv), interrupted="rows of finished tasks are kept, features too where they are cached")


def _run(argv: list[str] | None) -> int:
    args = _parser().parse_intermixed_args(argv)
    if args.list:
        print(request.listing())
        return 0
    if args.spec is None:
        raise BadInput(
            "got no backbone: want timm:NAME, random:NAME or another of docs/backbones.md; --help tells more"
        )
    for name in ("batch_size", "workers", "train_images", "test_images"):
        least, value = int(name != "workers"), getattr(args, name)
        if value is not None and value < least:
            raise BadInput(f"got --{name.replace('_', '-')} {value}: want at least {least}; do leave it out")
    _refuse_unwritable(args.out or results.default_folder(args.spec), what="results", do="name it by --out")
    if cache := _cache(args):
        _refuse_unwritable(cache, what="the cache", do="name it by --cache, or use --no-cache")
    tasks, sizes, points = _tasks(args), _sizes(args.sizes), read_points(args.points) or POINTS
    _refuse_idle(args, tasks)
    refuse_unfit(tasks)
    backbone = load(args.spec, device=_device(args.device))
    reference = _reference(args.reference, backbone) if args.reference else None
    sized = [{name: spec.at(size) for name, spec in tasks.items()} for size in sizes] or [tasks]
    _refuse_sizes(sized, backbone)
    if args.validate:
        print(validate(sized))
        return 0
    masked = (spec for spec in tasks.values() if spec.protocol.needs == "pixel classes")
    for dataset in _distinct(spec.train_set or spec.test_set for spec in masked):
        refuse_wrong_list(dataset)
    gallery = Gallery(points) if args.plot else None
    with telling():
        _evaluate(backbone, sized, args, reference=reference, gallery=gallery)
    return 0


@contextmanager
def telling() -> Iterator[None]:
    """What the project logs goes to stderr, above the progress bars: a line as each task ends, also into a file."""
    handler, level = logging.StreamHandler(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        with logging_redirect_tqdm([log]):
            yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _parser() -> Parser:
    parser = Parser(prog="evals/run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("spec", nargs="?", metavar="SPEC", help="the backbone")
    add(
        "tasks",
        nargs="*",
        metavar="TASK",
        help=f"of {', '.join((*TASKS, *request.ALIASES))} (default: the first eight)",
    )
    add("--list", action="store_true", help="show tasks, protocols and metrics, and stop")
    add("--validate", action="store_true", help="check backbone, protocols and every file of the data, and stop")
    add(
        "--data", action="append", default=[], metavar="NAME=PATH", help="where a data set, or the data of a task, lies"
    )
    add(
        "--classes",
        action="append",
        default=[],
        metavar="NAME=LIST",
        help="its classes: ade20k, nyu40, camvid or a,b,c",
    )
    add(
        "--protocol", action="append", default=[], metavar="WHICH",
        help="VARIANT (quick, standard, paper, code) or FILE.yaml, for one task as TASK=WHICH (default: quick)",
    )  # fmt: skip
    add("--sizes", metavar="224,448", help="short sides of the input in pixels (default: each protocol's own)")
    add("--train-images", type=int, help="at most so many, evenly spread: a setting of the protocol, so its hash moves")
    add("--test-images", type=int, help="the same for the images that are judged")
    add("--reference", metavar="SPEC", help="a second backbone: health then also tells the Gram drift from it")
    add("--out", type=Path, metavar="FOLDER", help="for rows, outcomes and plots (default: below runs/evals)")
    add("--plot", action="store_true", help="also draw PCA and similarity maps, predictions beside the truth")
    add("--points", metavar="Y,X", action="append", default=[], help="similarity maps of the patch there, in 0..1")
    add("--cache", type=Path, default=Path(".cache/gramlab"), metavar="FOLDER", help="keeps features and rooms")
    add("--no-cache", action="store_true", help="keep features in memory alone")
    add("--batch-size", type=int, default=64)
    add("--workers", type=int, default=0, help="processes that read images")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--precision", choices=("float32", "bfloat16"), help="of the backbone; a setting of the protocol too")
    return parser


def _tasks(args: argparse.Namespace) -> dict[str, TaskSpec]:
    roots = request.pairs(args.data, "--data", "ade20k=/data/ADEChallengeData2016")
    classes = request.pairs(args.classes, "--classes", "camvid=camvid")
    wanted = [request.parse(word, roots) for word in args.tasks or TASKS]
    for w in wanted:
        if w.word in request.ALIASES and w.data is None:
            print(f"{w.word}: no data given, rendered rooms stand in; --data {w.word}=FOLDER names it", file=sys.stderr)
    _refuse_unused({"--data": roots, "--classes": classes}, wanted)
    request.check_choices(args.protocol, wanted)
    caps = {"train_images": args.train_images, "test_images": args.test_images}
    caps |= {"precision": args.precision}
    given = {key: value for key, value in caps.items() if value is not None}
    settings = {w.word: replace(request.choose_protocol(w, args.protocol), **given) for w in wanted}
    return {
        w.word: request.open_task(w, settings[w.word], roots=roots, classes=classes, cache=_cache(args)) for w in wanted
    }


def _refuse_unused(options: dict[str, dict[str, str]], wanted: Sequence[Wanted]) -> None:
    known = {name for w in wanted if w.data for name in (w.data, w.word)}
    for option, given in options.items():
        for name in given.keys() - known:
            raise BadInput(f"got {option} {name}=…, which no task uses: want {', '.join(sorted(known)) or 'none'}; "
                           f"do name a task with it, as in knn@{name}")  # fmt: skip


def _cache(args: argparse.Namespace) -> Path | None:
    return None if args.no_cache else args.cache


def _device(choice: str) -> str:
    if choice == "cuda" and not torch.cuda.is_available():
        raise BadInput("got --device cuda, but torch sees no GPU: want a CUDA device; do use --device cpu or auto")
    return ("cuda" if torch.cuda.is_available() else "cpu") if choice == "auto" else choice


def _sizes(text: str | None) -> list[int]:
    """The input sizes asked for; none leaves the protocols their own."""
    try:
        return list(dict.fromkeys(int(word) for word in text.split(","))) if text is not None else []
    except ValueError:
        raise BadInput(f"got --sizes {text}: want pixels, as in --sizes 224,448; do correct it") from None


def _refuse_unwritable(folder: Path, *, what: str, do: str) -> None:
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise BadInput(f"got {folder} for {what}, where nothing can be written: want another folder; do {do}")


def _make(*folders: Path) -> None:
    """The folders of a run before it begins, so that nothing is computed that cannot be kept."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(
                f"got the folder {folder}, which cannot be made ({error.strerror}): want a place that can be written; "
                "do name another by --out or --cache"
            ) from error


def _refuse_idle(args: argparse.Namespace, tasks: dict[str, TaskSpec]) -> None:
    """Refuse options that would change nothing."""
    if args.reference and not any(method_of(spec.protocol).compares for spec in tasks.values()):
        raise BadInput(f"got --reference {args.reference}, which no task uses: want health; do add it or leave it out")
    if args.points and not args.plot:
        raise BadInput("got --points without --plot, which draws them: want both; do add --plot")


def _reference(address: str, backbone: Backbone) -> Backbone:
    """The backbone that another is compared with; one whose patches lie elsewhere is refused."""
    reference = load(address, device=backbone.device)
    if reference.stride != backbone.stride:
        raise BadInput(
            f"got --reference {reference.name} of stride {reference.stride} beside stride {backbone.stride}: want "
            "patches at the same places; do name another reference"
        )
    return reference


def _refuse_sizes(sized: Sequence[dict[str, TaskSpec]], backbone: Backbone) -> None:
    """Refuse sizes that the patches do not divide, before a long run."""
    for spec in chain.from_iterable(tasks.values() for tasks in sized):
        if method_of(spec.protocol).food != "live":  # those pad
            refuse_uneven(spec.protocol.size, backbone)


def validate(sized: Sequence[dict[str, TaskSpec]]) -> str:
    """Every file of every set read once; a line for each set, task and size. Raises BadInput with all that is wrong."""
    opened = (s for spec in sized[0].values() for s in (spec.train_set, spec.test_set) if s)
    found, wrong = [], []
    for dataset in _distinct(opened):
        try:
            found.append(str(check(dataset, known=dataset.name if dataset.name in KNOWN else None)))
        except BadInput as error:
            wrong.append(str(error))
    if wrong:
        raise BadInput("; ".join(wrong))
    protocols = [(name, spec.protocol) for tasks in sized for name, spec in tasks.items()]
    used = [f"ready: {name} at {p.size} px by {p.id} #{p.hash()}" for name, p in protocols]
    return "\n".join([*found, *used])


def _distinct(opened: Iterable[LabelledSet]) -> list[LabelledSet]:
    """Each set once, however many tasks have opened it."""
    return list({(one.name, one.split, one.fingerprint()): one for one in opened}.values())


def _evaluate(
    backbone: Backbone,
    sized: list[dict[str, TaskSpec]],
    args: argparse.Namespace,
    *,
    reference: Backbone | None,
    gallery: Gallery | None,
) -> None:
    subject = Subject(backbone, batch_size=args.batch_size, cache=_cache(args), workers=args.workers)
    out = args.out or results.default_folder(args.spec)
    _make(*filter(None, (out, _cache(args))))
    found: list[Measurement] = []
    print(backbone.name)
    for tasks in sized:
        keep, watch = partial(_keep, out, backbone), gallery.watch if gallery else None
        measured = evaluate(subject, tasks, reference=reference, done=keep, watch=watch)
        print(f"{table(measured)}\n")
        if gallery:
            gallery.write(out / "plots", subject, tasks)
        found += measured
    if args.plot:
        draw_sizes(out / "plots", backbone.name, found)
    print(
        f"{len(found)} rows added to {out / 'results.jsonl'}" + (f", pictures in {out / 'plots'}" if args.plot else "")
    )


def _keep(out: Path, backbone: Backbone, found: Sequence[Measurement]) -> None:
    """Rows and outcomes of one task, so that a run which is cut off has lost no more than the task it was at."""
    first = found[0]
    value = write_number(metric_of(first.metric), first.value, like=first.value)
    place = f"{first.eval} on {first.dataset}/{first.split} at {first.size} px"
    log.info("%s: %s %s", place, metric_of(first.metric).label, value)
    outcomes.save_outcomes(out / "outcomes", found)
    seed, step = (int(backbone.extra.get(key) or 0) for key in ("seed", "step"))
    arm = str(backbone.extra.get("arm") or "")
    results.append(out / "results.jsonl", [m.row(run=backbone.name, arm=arm, seed=seed, step=step) for m in found])


def table(found: Sequence[Measurement]) -> str:
    """Measurements for reading, a table for each evaluation: unlike protocols and sizes never share a column."""
    cells = [("metric", "value", "95 % interval")]
    for m in found:
        metric = metric_of(m.metric)
        unit = "%" if metric.share else metric.unit
        value, low, high = (write_number(metric, x, like=m.value) for x in (m.value, m.low, m.high))
        cells.append((f"{metric.label} ({unit})" if unit else metric.label, value, f"{low} to {high}"))
    titles, *lines = columns(cells).split("\n")
    text, last = [f"  {titles}"], ""
    for m, line in zip(found, lines, strict=True):
        judged = f"{m.dataset}/{m.split} at {m.size} px, {m.images} images"
        heading = f"{m.eval} on {judged}, {m.protocol} #{m.protocol_hash}"
        text += [f"  {line}"] if heading == last else ["", heading, f"  {line}"]
        last = heading
    return "\n".join(text)


if __name__ == "__main__":
    sys.exit(main())
