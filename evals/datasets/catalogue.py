"""Opens a labelled set by the name of its kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any

from evals.datasets.base import LabelledSet
from evals.errors import BadInput


def _scenes(*, root: Path | None, count: int | None, classes: Sequence[str] | None, **rest: Any) -> LabelledSet:
    from evals.datasets.scenes import Scenes

    if root is not None or classes is not None:
        key = "classes" if root is None else "root"
        raise BadInput(f"got {key} for scenes: want none, they are rendered; leave {key} out")
    given = {"count": count, **rest}
    return Scenes(**{key: value for key, value in given.items() if value is not None})


def _from_files(kind: str, *, root: Path | None, size: int | None, seed: int, cache: Path | None, **rest: Any) -> Any:
    """Keyword arguments for a set that is read from files; images keep their own size, nothing is drawn or rendered."""
    if root is None:
        raise BadInput(f"got no root for a set of kind '{kind}': want its folder; set root")
    for key, given in (("size", size is not None), ("seed", seed != 0)):
        if given:
            raise BadInput(f"got {key} for a set of kind '{kind}': want none, it belongs to scenes; leave {key} out")
    return {"root": Path(root).expanduser(), **rest}


def _folder(**given: Any) -> LabelledSet:
    from evals.datasets.image_folder import ImageFolder

    return ImageFolder(**_from_files("folder", **given))


def _ade20k(**given: Any) -> LabelledSet:
    from evals.datasets.ade20k import Ade20k

    return Ade20k(**_from_files("ade20k", **given))


def _nyu(**given: Any) -> LabelledSet:
    from evals.datasets.nyu import open_nyu

    return open_nyu(**_from_files("nyu", **given))


KINDS: dict[str, Callable[..., LabelledSet]] = {"scenes": _scenes, "folder": _folder, "ade20k": _ade20k, "nyu": _nyu}
ARGUMENTS = ("root", "split", "name", "size", "count", "seed", "classes", "cache")


def open_set(
    kind: str | Enum,
    *,
    root: str | Path | None = None,
    split: str = "train",
    name: str | None = None,
    size: int | None = None,
    count: int | None = None,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    cache: Path | None = None,
    **unknown: Any,
) -> LabelledSet:
    """The set of this kind; every problem with the arguments or the files is a `BadInput`.

    `count` is the number of scenes to render, or for files the size of an evenly spread subset.
    `root` is the folder (or file) of a set that is read, `size` and `seed` belong to scenes.
    """
    kind = str(kind.value) if isinstance(kind, Enum) else kind
    if kind not in KINDS:
        raise BadInput(f"got data set kind '{kind}': want one of {', '.join(KINDS)}; {_nearest(kind, KINDS)}")
    for key in unknown:
        raise BadInput(f"got setting '{key}' for a data set: want {', '.join(ARGUMENTS)}; {_nearest(key, ARGUMENTS)}")
    if count is not None and count < 1:
        raise BadInput(f"got count {count} for a set of kind '{kind}': want at least 1; leave it out for all")
    return KINDS[kind](
        root=root, split=split, name=name, size=size, count=count, seed=seed, classes=classes, cache=cache
    )


def _nearest(word: str, known: Sequence[str] | dict[str, Any]) -> str:
    near = get_close_matches(word, list(known), n=1)
    return f"did you mean '{near[0]}'?" if near else "correct it"
