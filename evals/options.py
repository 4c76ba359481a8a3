"""What `gramlab eval` was told, opened, and what of it is refused before anything is computed."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from common import bounded, speed
from common.errors import BadInput
from common.machine import pick_device
from evals import request
from evals.arguments import ALIASES
from evals.backbones.addresses import load
from evals.backbones.backbone import Backbone
from evals.features.view import refuse_uneven
from evals.one_task import TaskSpec
from evals.request import Wanted
from evals.tasks.methods import METHODS, TASKS, method_of


def open_tasks(args: argparse.Namespace, chosen: str | None) -> dict[str, TaskSpec]:
    """The tasks asked for, by their words, with protocols chosen and sets opened; `chosen` is what `precision` gave."""
    roots = request.pairs(args.data, "--data", "ade20k=/data/ADEChallengeData2016")
    classes = request.pairs(args.classes, "--classes", "camvid=camvid")
    wanted = [request.parse(word, roots) for word in args.tasks or TASKS]
    for w in wanted:
        if w.word in ALIASES and w.data is None:
            print(f"{w.word}: no data given, rendered rooms stand in; --data {w.word}=FOLDER names it", file=sys.stderr)
    _refuse_unused({"--data": roots, "--classes": classes}, wanted)
    request.check_choices(args.protocol, wanted)
    caps = {"train_images": args.train_images, "test_images": args.test_images}
    caps |= {"precision": chosen}
    given = {key: value for key, value in caps.items() if value is not None}
    settings = {w.word: replace(request.choose_protocol(w, args.protocol), **given) for w in wanted}
    if args.precision != "auto":
        _tell_of_slow([word for word, one in settings.items() if one.precision == "bfloat16"], args)
    places = {"roots": roots, "classes": classes, "cache": cache(args)}
    opened = functools.cache(request.open_split)  # tasks share sets
    return {w.word: request.open_task(w, settings[w.word], **places, opened=opened) for w in wanted}


def precision(args: argparse.Namespace) -> str | None:
    """The precision asked for. "auto" is settled here, before protocols are hashed, and says what it is and why."""
    if args.precision != "auto":
        return args.precision
    chosen, why = speed.choose_precision(speed.precision_rates(pick_device(args.device)))
    print(f"precision: {why}", file=sys.stderr)
    return chosen


def _tell_of_slow(tasks: Sequence[str], args: argparse.Namespace) -> None:
    """Say, before anything is computed, how slow the bfloat16 of these tasks is where float32 is faster."""
    rates = speed.precision_rates(pick_device(args.device)) if tasks else None
    if rates and rates["bfloat16"] < rates["float32"]:
        print(f"{', '.join(tasks)}: {speed.bfloat16_words(rates)}; --precision float32 is faster, under another hash",
              file=sys.stderr)  # fmt: skip


def _refuse_unused(options: dict[str, dict[str, str]], wanted: Sequence[Wanted]) -> None:
    known = {name for w in wanted if w.data for name in (w.data, w.word)}
    for option, given in options.items():
        for name in given.keys() - known:
            raise BadInput(f"got {option} {name}=…, which no task uses: want {', '.join(sorted(known)) or 'none'}; "
                           f"do name a task with it, as in knn@{name}")  # fmt: skip


def keep_cache_within(args: argparse.Namespace) -> None:
    """Drop from the cache what was used longest ago where it is larger than it may be."""
    if (folder := cache(args)) is not None:
        bounded.keep_within(folder, args.cache_gib or None, setting="--cache-gib")


def cache(args: argparse.Namespace) -> Path | None:
    """Where features are kept, unless in memory alone."""
    return None if args.no_cache else args.cache


def sizes(text: str | None) -> list[int]:
    """The input sizes asked for; none leaves the protocols their own."""
    try:
        return list(dict.fromkeys(int(word) for word in text.split(","))) if text is not None else []
    except ValueError:
        raise BadInput(f"got --sizes {text}: want pixels, as in --sizes 224,448; do correct it") from None


def refuse_unwritable(folder: Path, *, what: str, do: str) -> None:
    """Refuse a place for results or cache that cannot be written, before anything is opened."""
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise BadInput(f"got {folder} for {what}, where nothing can be written: want another folder; do {do}")


def make_folders(*folders: Path) -> None:
    """The folders of a run before it begins, so that nothing is computed that cannot be kept."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(
                f"got the folder {folder}, which cannot be made ({error.strerror}): want a place that can be written; "
                "do name another by --out or --cache"
            ) from error


def refuse_idle(args: argparse.Namespace, tasks: dict[str, TaskSpec]) -> None:
    """Refuse options that would change nothing."""
    if args.reference and not any(method_of(spec.protocol).compares for spec in tasks.values()):
        wanted = ", ".join(dict.fromkeys(method.settings.task for method in METHODS.values() if method.compares))
        raise BadInput(
            f"got --reference {args.reference}, which no task uses: want {wanted}; do add it or leave it out"
        )
    if args.references and args.check is None:
        raise BadInput("got --references without --check, which reads them: want both; do add --check")
    if args.points and not args.plot:
        raise BadInput("got --points without --plot, which draws them: want both; do add --plot")


def open_reference(address: str, backbone: Backbone) -> Backbone:
    """The backbone that another is compared with; one whose patches lie elsewhere is refused."""
    reference = load(address, device=backbone.device)
    if reference.stride != backbone.stride:
        raise BadInput(
            f"got --reference {reference.name} of stride {reference.stride} beside stride {backbone.stride}: want "
            "patches at the same places; do name another reference"
        )
    return reference


def refuse_sizes(sized: Sequence[dict[str, TaskSpec]], backbone: Backbone) -> None:
    """Refuse sizes that the patches do not divide, before a long run."""
    for spec in chain.from_iterable(tasks.values() for tasks in sized):
        if method_of(spec.protocol).takes != "backbone":  # those pad
            size = spec.protocol.size
            refuse_uneven(f"size {size} for {backbone.name}", size, backbone.stride)
