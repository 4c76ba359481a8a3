"""One data set as settings name it, and the way from there to the set itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from common.bounds import About, Count, Label, Place, Whole
from common.errors import nearest
from common.schema import settings
from evals.datasets.catalogue import KINDS, open_set
from evals.datasets.labelled_set import LabelledSet
from evals.datasets.layouts.shards.places import about_secrets
from evals.datasets.reading import Reading
from evals.datasets.subset import without

MOST_SCENES = 10**6  # rendering them takes days


@settings
class Set(Reading):
    """One data set, of a kind in the catalogue's table `KINDS`: scenes are rendered, others are read from `root`."""

    kind: Annotated[str, About(f"one of {', '.join(KINDS)}")] = "scenes"
    root: Annotated[
        Place | None,
        About(
            "folder of a set that is read (`nyu`: or its .mat file; `manifest`: the file; `shards`: or a pattern as "
            "`train-{000000..000012}.tar`, also of addresses); `${oc.env:VARIABLE}` is replaced"
        ),
    ] = None
    split: Annotated[
        str,
        About(
            "which part of the set; of a `manifest` `train` (what it keeps), `sampled`, `retrieved`, `dropped` or `all`"
        ),
    ] = "train"
    name: Annotated[Label | None, About("its name in result rows; null = NAME")] = None
    size: Annotated[Count | None, About("pixels a side, `scenes` only; null = 64")] = None
    count: Annotated[
        Count | None,
        About("scenes to render, or the size of an evenly spread subset of files; null = 1000 scenes, all files"),
    ] = None
    seed: Annotated[Whole, About("of the scenes that are rendered")] = 0
    classes: Annotated[
        list[str] | None,
        About(
            "which classes; `folder`: these sub-folders, in this order; `ade20k`, `nyu`: names of the pixel classes, "
            "or one of `ade20k`, `nyu40`, `camvid`; `shards`: texts of .cls files; `manifest`: the level whose "
            "clusters they are, as `[level_1]`; null = the top one"
        ),
    ] = None

    def conflicts(self) -> Iterator[str]:
        """A kind that is not in the table, nowhere to read from, too many scenes, and what `Reading` finds."""
        yield from super().conflicts()
        if self.kind not in KINDS:
            hint = nearest(self.kind, KINDS, otherwise="correct it")
            yield f"kind={self.kind!r}: want one of {', '.join(KINDS)}; {hint}"
        elif KINDS[self.kind].rendered and self.count and self.count > MOST_SCENES:
            yield f"count={self.count}: want at most {MOST_SCENES} scenes"
        elif self.root is None and not KINDS[self.kind].rendered:
            yield f"root=null: want the folder of a set of kind={self.kind}"
        if self.root is not None and (fault := about_secrets(self.root)):
            yield fault
        if self.table is not None and self.classes == []:
            yield "classes=[]: want none beside table, which names them"
        for name in ("splits", "table") if self.kind != "folder" else ():
            if (value := getattr(self, name)) is not None:
                shown = str(value).lower() if isinstance(value, bool) else repr(value)
                yield f"{name}={shown}: want it for kind=folder alone"


def open_one(name: str, one: Set, *, cache: Path | None, leave_out: bool = True) -> LabelledSet:
    """The labelled set of its settings, called `name` unless it has a name of its own.

    Args:
        leave_out: whether what `exclude` names is left out; a training source keeps its place in the draws.
    """
    opened = open_set(
        one.kind,
        root=one.root,
        split=one.split,
        name=one.name or name,
        size=one.size,
        count=one.count,
        seed=one.seed,
        classes=one.classes,
        reading=one,
        cache=cache,
    )
    return without(opened, one.exclude) if leave_out else opened
