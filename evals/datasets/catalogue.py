"""Opens a labelled set by the name of its kind, or a well-known one by its own name."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import BadInput, nearest
from evals.datasets.labelled_set import LabelledSet, Needs, alone, has
from evals.datasets.layouts.shards.places import is_address
from evals.datasets.reading import AS_USUAL, Reading

log = logging.getLogger("gramlab")  # without a handler, as in the commands, warnings are lines on stderr


class Kind(NamedTuple):
    """How sets of one kind are opened; an opener imports its file when it is called, so that the table stays light.

    Most are read from files: they need a `root` and may be given `classes`. A `rendered` one is drawn by a program: it
    may be given `size`, `seed` and a `cache` folder; so may `cached` ones, which are read. The root of `remote` ones
    may be an address of fsspec.
    """

    open: Callable[..., LabelledSet]
    rendered: bool = False
    cached: bool = False
    remote: bool = False


def _scenes(**given: Any) -> LabelledSet:
    from evals.datasets.scenes.scenes import Scenes

    return Scenes(**given)


def _folder(**given: Any) -> LabelledSet:
    from evals.datasets.layouts.image_folder import ImageFolder

    return ImageFolder(**given)


def _ade20k(**given: Any) -> LabelledSet:
    from evals.datasets.layouts.ade20k import Ade20k

    return Ade20k(**given)


def _nyu(**given: Any) -> LabelledSet:
    from evals.datasets.layouts.nyu.folder import open_nyu

    return open_nyu(**given)


def _manifest(**given: Any) -> LabelledSet:
    from evals.datasets.layouts.manifest import ManifestSet

    return ManifestSet(**given, opened=open_set)


def _shards(**given: Any) -> LabelledSet:
    from evals.datasets.layouts.shards.shard_set import ShardSet

    return ShardSet(**given)


KINDS: dict[str, Kind] = {
    "scenes": Kind(_scenes, rendered=True),
    "folder": Kind(_folder),
    "ade20k": Kind(_ade20k),
    "nyu": Kind(_nyu),
    "manifest": Kind(_manifest, cached=True),
    "shards": Kind(_shards, cached=True, remote=True),
}
ARGUMENTS = ("root", "split", "name", "size", "count", "seed", "classes", "reading", "cache")


def open_set(
    kind: str,
    *,
    root: str | Path | None = None,
    split: str = "train",
    name: str | None = None,
    size: int | None = None,
    count: int | None = None,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    reading: Reading = AS_USUAL,
    cache: Path | None = None,
    **unknown: Any,
) -> LabelledSet:
    """The set of this kind; every problem with the arguments or the files is a `BadInput`.

    `count` is the number of images to render, or for files the size of an evenly spread subset.
    `root` is the folder (or file) of a set that is read, `reading` tells how its files are; `size` and `seed` belong to
    rendered ones. What is None, and a seed of 0, is left to the kind.
    """
    if kind not in KINDS:
        hint = nearest(kind, KINDS, otherwise="correct it")
        raise BadInput(f"got data set kind '{kind}': want one of {', '.join(KINDS)}; {hint}")
    for key in unknown:
        hint = nearest(key, ARGUMENTS, otherwise="correct it")
        raise BadInput(f"got setting '{key}' for a data set: want {', '.join(ARGUMENTS)}; {hint}")
    if count is not None and count < 1:
        raise BadInput(f"got count {count} for a set of kind '{kind}': want at least 1; leave it out for all")
    rendered = KINDS[kind].rendered
    if root is None and not rendered:
        raise BadInput(f"got no root for a set of kind '{kind}': want its folder; set root")
    told = dict(reading.given())
    read = {"root": None if root is None else _rooted(root, kind), "classes": classes}
    drawn = {"size": size, "seed": seed or None}
    own, others = drawn | {"cache": cache}, read | told
    if not rendered:
        own, others = read | {"reading": reading if told or reading.exclude else None}, drawn
        own |= {"cache": cache if KINDS[kind].cached else None}
    for key in (key for key, value in others.items() if value is not None):
        made = "rendered" if rendered else "read from files"
        raise BadInput(f"got {key} for a set of kind '{kind}': want none, its images are {made}; leave {key} out")
    given = {"split": split, "name": name, "count": count, **own}
    return KINDS[kind].open(**{key: value for key, value in given.items() if value is not None})


@dataclass(frozen=True)
class Known:
    """A public set: how it is read, where it lies below the folder that GRAMLAB_DATA names, and how large it is.

    `held_out` is the split that results are reported on. `published` gives the number of images of a split in each
    form in which the set is in use, `stem` the names of its images where they are numbered from 1.
    """

    kind: str
    folder: str
    classes: tuple[str, ...] | None = None
    held_out: str = "val"
    published: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    stem: str = ""


KNOWN: dict[str, Known] = {
    "ade20k": Known(
        kind="ade20k",
        folder="ADEChallengeData2016",
        classes=("ade20k",),
        published={"train": (20210,), "val": (2000,)},
        stem="ADE_{split}_{number:08d}",
    ),
    # Train: BTS's list over the raw recordings, or the labelled part alone
    "nyu": Known(kind="nyu", folder="nyu", published={"train": (24231, 795), "val": (654,)}),
    "nyuv2": Known(kind="nyu", folder="nyuv2", published={"train": (795,), "val": (654,)}),
    "camvid": Known(
        kind="ade20k",
        folder="camvid",
        classes=("camvid",),
        held_out="test",
        published={"train": (367,), "val": (101,), "test": (233,)},
    ),
    "imagenette": Known(kind="folder", folder="imagenette128", published={"train": (9469,), "val": (3925,)}),
}
DATA = "GRAMLAB_DATA"


def open_named(
    name: str,
    *,
    root: str | Path | None = None,
    split: str = "train",
    count: int | None = None,
    classes: Sequence[str] | None = None,
    needs: Needs = "images",
    quiet: bool = False,
    option: str | None = None,
) -> LabelledSet:
    """The set of this name from `root`, or for a known set from its place below the folder that GRAMLAB_DATA names.

    Split "val" is the one that the set's results are reported on (`Known.held_out`). The kind of a set that is not
    known follows from `needs` and from what lies in its folder. Unless `quiet`, a part of a published set is told by a
    warning. Raises `BadInput` also where the set has not what is needed; where there is no folder, it tells to
    give `option` (by default `--data NAME=FOLDER`).
    """
    known = KNOWN.get(name)
    place = _place(name, known, option or f"--data {name}=FOLDER") if root is None else Path(root).expanduser()
    kind = known.kind if known else kind_of(place, needs)
    if known:
        split = known.held_out if split == "val" else split
        classes = known.classes if classes is None else classes
    dataset = open_set(kind, root=place, split=split, name=name, count=count, classes=classes)
    refuse_without(dataset, needs, name=name, place=place)
    if known and count is None and not quiet:
        tell_part(dataset, known, name=name, place=place)
    return dataset


def _rooted(root: str | Path, kind: str) -> str | Path:
    """A root as its kind takes it: a path, or an address as it stands."""
    if not is_address(root):
        return Path(root).expanduser()
    if not KINDS[kind].remote:
        remote = ", ".join(name for name, one in KINDS.items() if one.remote)
        raise BadInput(f"got address {root} for a set of kind '{kind}': want a folder, or kind: {remote}; correct one")
    return str(root)


def refuse_without(dataset: LabelledSet, needs: Needs, *, name: str, place: Path | str) -> None:
    """Raises `BadInput` where a set has not what an evaluation asks of it."""
    if not has(dataset, needs):
        want = f"want a set with {needs}{alone(needs)}; name another with TASK@NAME or --data"
        if needs == "image classes":
            want += ", or give its classes by folders or a table (docs/my-data.md)"
        lone = needs == "image classes" and not (dataset.segments or dataset.has_depth)
        where = f" ({dataset.key(0)} lies in no folder of a class)" if lone else ""
        raise BadInput(f"got data set '{name}' in {place} without {needs}{where}: {want}")


def tell_part(dataset: LabelledSet, known: Known, *, name: str, place: Path | str) -> None:
    """A warning where a set is a part of what is published."""
    if part := part_of(dataset, known):
        hint = f"python evals/prepare.py --check {name} {place} tells more"
        log.warning("%s/%s in %s: %s; %s", name, dataset.split, place, part, hint)


def part_of(dataset: LabelledSet, known: Known) -> str:
    """How many of the published images a set has, in words; "" where it has them all or nothing is known."""
    from evals.datasets.layouts.files import usual_split

    sizes = known.published.get(usual_split(dataset.split), ())
    if not sizes or len(dataset) in sizes or len(dataset) > max(sizes):
        return ""
    return f"{len(dataset):,} of the {' or '.join(f'{size:,}' for size in sizes)} images that are published"


def kind_of(root: Path, needs: Needs) -> str:
    """The kind of a set that is not known: what its folder looks like, unless one kind alone has what is needed."""
    from evals.datasets.layouts.nyu.lists import has_lists
    from evals.datasets.layouts.nyu.mat import MAT_NAME

    if needs in ("image classes", "depth"):
        return "folder" if needs == "image classes" else "nyu"
    has = {part for part in ("images", "annotations", "depth") if (root / part).is_dir()}
    if "images" in has and len(has) > 1:
        return "nyu" if "depth" in has else "ade20k"
    if root.suffix == ".mat" or has_lists(root) or (root / MAT_NAME).is_file():
        return "nyu"
    return "ade20k" if needs == "pixel classes" else "folder"


def _place(name: str, known: Known | None, option: str) -> Path:
    """Where a set lies below the folder of GRAMLAB_DATA."""
    inside = known.folder if known else name
    data = os.environ.get(DATA, "")
    if data and (Path(data) / inside).exists():
        return Path(data) / inside
    state = f"{Path(data) / inside} is missing" if data else f"{DATA} is not set"
    hint = "" if known else f"; known are {', '.join(KNOWN)}"
    want = f"want {option}, or {inside} below the folder that the environment variable {DATA} names"
    raise BadInput(f"got no folder for data set '{name}' ({state}): {want}{hint}")
