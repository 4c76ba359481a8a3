"""Evaluate any backbone: `gramlab eval SPEC [TASK[@DATASET] ...]`, on embedded rooms unless data is named."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from common.interrupts import listen

    listen()

from common.command import answer, columns, end, parsed
from common.errors import BadInput
from common.feature_maps import POINTS
from common.machine import pick_device
from common.progress import silent, telling
from common.ranks import Ranks, device_of, is_first, started
from common.records import refuse_no_file
from evals import arguments, options, references, reproduced, request
from evals.backbones.addresses import load, refuse_absent
from evals.backbones.backbone import Backbone
from evals.datasets.catalogue import KNOWN
from evals.datasets.checking.check import check
from evals.datasets.subset import Renumbered
from evals.features.shelf import Subject, shared
from evals.one_task import TaskSpec, distinct
from evals.pictures.feature_maps import read_points
from evals.pictures.gallery import Gallery, draw_sizes
from evals.results import outcomes
from evals.results import table as results
from evals.results.metrics import metric_of, write_number
from evals.results.table import Measurement
from evals.suite import evaluate, every_set, found_lines, refuse_misread, refuse_unfit, valid_depth

log = logging.getLogger("gramlab")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 for a value that --check finds off, 2 for what the user can mend.

    Of several processes of `torchrun` the first one speaks for all.
    """
    with nullcontext() if is_first() else silent():
        return answer(
            lambda: _run(argv), afterwards="rows of finished tasks are kept, features too where they are cached"
        )


def _run(argv: list[str] | None) -> int:
    args = parsed(arguments.evaluate, "eval", argv)
    if args.list:
        print(request.listing())
        return 0
    published = args.references or references.PUBLISHED
    if args.check is not None and args.spec is None:
        print(reproduced.listing(references.read(published), place=published, only=args.check))
        return 0
    with started() as ranks:
        ranks.made(lambda: _refuse_beforehand(args))
        precision = ranks.told(lambda: options.precision(args))
        asked = ranks.made(lambda: _opened(args, precision, published))
        if args.validate:
            return _validate(asked) if ranks.first else 0
        ranks.led(lambda: refuse_misread(asked.sized[0]))
        with telling():
            found = _evaluate(asked, args, ranks)
        if asked.check is None or not ranks.first:
            return 0
        text, code = asked.check.report(found)
        print(f"\n{text}")
        return code


@dataclass(frozen=True)
class Asked:
    """What is evaluated: the tasks, once for each input size, of a backbone and with what it is compared with."""

    backbone: Backbone
    sized: list[dict[str, TaskSpec]]
    reference: Backbone | None
    check: reproduced.Check | None
    gallery: Gallery | None


def _opened(args: argparse.Namespace, precision: str | None, published: Path) -> Asked:
    """All that a command line names. Raises `BadInput` for what cannot be, before anything is computed."""
    refuse_absent(args.spec)
    claim = reproduced.recognise(args.check, args.spec, published) if args.check is not None else None
    tasks, points = options.open_tasks(args, precision), read_points(args.points) or POINTS
    sizes = options.sizes(args.sizes)
    options.refuse_idle(args, tasks)
    refuse_unfit(tasks)
    sized = [{name: spec.at(size) for name, spec in tasks.items()} for size in sizes] or [tasks]
    check = reproduced.begin(claim, sized) if claim else None
    backbone = load(args.spec, device=device_of(pick_device(args.device)))
    if claim:
        claim.refuse_another(backbone)
    reference = options.open_reference(args.reference, backbone) if args.reference else None
    options.refuse_sizes(sized, backbone)
    return Asked(backbone, sized, reference, check, Gallery(points) if args.plot else None)


def _validate(asked: Asked) -> int:
    ready = [validate(asked.sized), *([asked.check.plan()] if asked.check else [])]
    print(*found_lines(asked.sized[0]), sep="\n", file=sys.stderr)
    print(*ready, sep="\n")
    return 0


def _refuse_beforehand(args: argparse.Namespace) -> None:
    """What of a command line is refused before anything is opened."""
    if args.spec is None:
        raise BadInput(
            "got no backbone: want timm:NAME, random:NAME or another of docs/backbones.md; --help tells more"
        )
    for name in ("batch_size", "workers", "train_images", "test_images"):
        least, value = int(name != "workers"), getattr(args, name)
        if value is not None and value < least:
            raise BadInput(f"got --{name.replace('_', '-')} {value}: want at least {least}; do leave it out")
    if not args.cache_gib >= 0:
        raise BadInput(f"got --cache-gib {args.cache_gib:g}: want a size, or 0 for one without end; do leave it out")
    out = args.out or results.default_folder(args.spec)
    options.refuse_unwritable(out, what="results", do="name it by --out")
    refuse_no_file(out / "results.jsonl")
    if cache := options.cache(args):
        options.refuse_unwritable(cache, what="the cache", do="name it by --cache, or use --no-cache")


def validate(sized: Sequence[dict[str, TaskSpec]]) -> str:
    """Every file of every set read once; a line for each set, task and size.

    Raises BadInput with all that is wrong: a line for each set and kind of problem.
    """
    opened = distinct(one.original if isinstance(one, Renumbered) else one for one in every_set(sized[0]))
    found, wrong = [], []
    for dataset in opened:
        try:
            known = dataset.name if dataset.name in KNOWN else None
            found.append(str(check(dataset, known=known, valid=valid_depth(sized[0], dataset))))
        except BadInput as error:
            wrong.append(str(error))
    if wrong:
        raise BadInput("\n".join(wrong))
    refuse_misread(sized[0])
    protocols = [(name, spec.protocol) for tasks in sized for name, spec in tasks.items()]
    used = [f"ready: {name} at {p.size} px by {p.id} #{p.hash()}" for name, p in protocols]
    return "\n".join([*found, *used])


def _evaluate(asked: Asked, args: argparse.Namespace, ranks: Ranks) -> list[Measurement]:
    """All measurements, in the first process; the others have none."""
    backbone, gallery, out = asked.backbone, asked.gallery, args.out or results.default_folder(args.spec)
    found: list[Measurement] = []
    ranks.led(lambda: _begin(asked, out, args))
    own = Subject(backbone, batch_size=args.batch_size, cache=options.cache(args), workers=args.workers, ranks=ranks)
    keep, shown = partial(_keep, out, backbone), {"watch": gallery.watch, "wants": gallery.wants} if gallery else {}
    with shared(own, out / "features") as subject:
        for tasks in asked.sized:
            measured = evaluate(subject, tasks, reference=asked.reference, done=keep, **shown)
            if not ranks.first:
                continue
            print(f"{table(measured)}\n")
            if gallery:
                gallery.write(out / "plots", subject.alone(), tasks)
            found += measured
    if ranks.first:
        options.keep_cache_within(args)
        if args.plot:
            draw_sizes(out / "plots", backbone.name, found)
        drawn = f", pictures in {out / 'plots'}" if args.plot else ""
        print(f"{len(found)} rows added to {out / 'results.jsonl'}{drawn}")
    return found


def _begin(asked: Asked, out: Path, args: argparse.Namespace) -> None:
    """Make the folders, and say what was found."""
    options.make_folders(*filter(None, (out, options.cache(args))))
    options.keep_cache_within(args)
    print(*found_lines(asked.sized[0]), sep="\n", file=sys.stderr)
    print(asked.backbone.name)


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
        if heading != last:
            text += ["", heading, *(f"  note: {note}" for note in m.notes)]
        text.append(f"  {line}")
        last = heading
    return "\n".join(text)


if __name__ == "__main__":
    end(main())
