"""How the files of a set are read: what its levels, values of masks and depth mean, and which files are left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, Predicate
from pydantic import BeforeValidator

from common.bounds import About, Count, Flag, Positive, Real, Whole
from common.errors import BadInput
from common.schema import settings

LARGEST = 179.0  # million pixels: what Pillow takes for no bomb
WHICH = ("splits", "table", "max_megapixels")  # say which files are read, and those the fingerprint lists anyway
WHERE = "docs/my-data.md says where"
UNLABELLED = "ignore"  # the name that `values` and `palette` give what belongs to no class


class UnfitFiles(BadInput):
    """Whole files that the set's settings do not fit, found when it is opened: the message names what to set."""


def different_and_rising(values: tuple[float, float]) -> bool:
    """Whether the second value is above the first."""
    return values[0] < values[1]


def one_to_four(values: list[int]) -> bool:
    """Whether there are at least one and at most four values."""
    return 1 <= len(values) <= 4


def _several(given: Any) -> Any:
    """One value stands for a list of one."""
    return given if isinstance(given, list | tuple) or given is None else [given]


def _colours(given: Any) -> Any:
    """One colour stands for a list of one."""
    alone = isinstance(given, list | tuple) and given and not isinstance(given[0], list | tuple)
    return [given] if alone else given


def _from_digits(key: Any) -> Any:
    """JSON, which keeps settings, has no keys but text."""
    return int(key) if isinstance(key, str) and key.isdecimal() else key


MaskValue = Annotated[Whole, BeforeValidator(_from_digits), Ge(0), Le(65535)]
Shade = Annotated[Whole, Ge(0), Le(255)]
Colours = Annotated[tuple[tuple[Shade, Shade, Shade], ...], BeforeValidator(_colours)]


@settings
class Reading:
    """What the files of a set do not say by themselves; each default is what most sets have."""

    splits: Annotated[
        Flag | None,
        About(
            "`folder` only: whether folders such as `train` and `val` in `root` are splits; `false` reads them as "
            "classes, null asks where there are other folders of images beside them"
        ),
    ] = None
    table: Annotated[
        str | None,
        About(
            "`folder` only: a CSV file below `root` with the columns `file` (below `root` too), `class` and perhaps "
            "`split`, in place of folders of classes"
        ),
    ] = None
    bits: Annotated[
        Annotated[Whole, Ge(1), Le(32)] | None,
        About(
            "of the levels in images of more than 8 bits a channel: 12 says that 0 is black and 4095 white; null = "
            "all that the files have room for, 0 to 1 for floats"
        ),
    ] = None
    range: Annotated[
        Annotated[tuple[Real, Real], Predicate(different_and_rising)] | None,
        About("the levels of black and white, in place of `bits`, as in [0, 4095] or [-160, 240]"),
    ] = None
    clip: Annotated[Flag, About("levels outside of `bits` or `range` are cut to it; else they are refused")] = False
    channels: Annotated[
        Annotated[list[Count], Predicate(one_to_four)] | None,
        About(
            "which channels of the files, counted from 1, are grey, or red, green and blue; one more is transparency, "
            "as in [1, 2, 3] for three of four, [4, 1, 2], [1]; null = as the files say"
        ),
    ] = None
    max_megapixels: Annotated[Positive, About("million pixels of the largest picture that is read")] = LARGEST
    labels: Annotated[
        Literal["from_one", "from_zero"] | None,
        About(
            "which value of a mask is the first of `classes`; 1 (and 0 is ignored) or 0. null = `from_one`, and masks "
            "that look otherwise are refused"
        ),
    ] = None
    ignore: Annotated[
        tuple[MaskValue, ...] | None,
        BeforeValidator(_several),
        About("values of a mask that belong to no class; one or a list. null = 255, unless `values` names it"),
    ] = None
    values: Annotated[
        dict[MaskValue, str] | None,
        About("the class of each value of a mask, in place of `labels`; `ignore` is the name for none"),
    ] = None
    palette: Annotated[
        dict[str, Colours] | None,
        About(
            "the colour of each class, [red, green, blue] or several of them, where masks are coded by colours; "
            "`ignore` is the name for what belongs to no class"
        ),
    ] = None
    depth_scale: Annotated[
        Positive | None,
        About("what a depth map's values are divided by to be metres; null = 1000 for whole numbers, 1 for others"),
    ] = None
    depth_unknown: Annotated[
        tuple[Real, ...],
        BeforeValidator(_several),
        About("values of a depth map that mean unknown; beside 0, those below it, NaN and infinity"),
    ] = ()

    exclude: Annotated[
        tuple[str, ...],
        About(
            "images to leave out, by the names that refusals give them, as in `[train/cat/0007.jpg]`; a training "
            "source takes another image of the same component where one of them is drawn, and a run goes on when the "
            "list grows"
        ),
    ] = ()

    def conflicts(self) -> Iterator[str]:
        """Two ways of saying one thing, one value or colour with two meanings, nothing to tell apart."""
        if self.bits is not None and self.range is not None:
            yield f"bits={self.bits}: want no `bits` beside `range`, they say the same; leave one out"
        if self.clip and self.bits is None and self.range is None:
            yield "clip=true: want `bits` or `range` beside it, to which levels are cut"
        for name in ("values", "palette"):
            if getattr(self, name) is not None and len(self.named()) < 2:
                yield f"{name}={getattr(self, name)}: want two classes at least"
        if self.values is not None and self.labels:
            yield f"labels={self.labels!r}: want none beside values, which says all"
        if self.palette is not None:
            beside = [name for name in ("labels", "values", "ignore") if getattr(self, name) is not None]
            for name in beside:
                way = f"; write the colours of no class as palette.{UNLABELLED}" if name == "ignore" else ""
                yield f"{name}={getattr(self, name)!r}: want none beside palette, which says all{way}"
            every = [colour for colours in self.palette.values() for colour in colours]
            for colour in dict.fromkeys(colour for colour in every if every.count(colour) > 1):
                yield f"palette: want {list(colour)} for one class"
        for value in self.ignore or ():
            if value in (self.values or {}):
                yield f"ignore={list(self.ignore or ())}: want no value that values names, as {value}"

    def named(self) -> tuple[str, ...]:
        """The classes that `values` or `palette` name, in their order; () where neither is given."""
        names = self.palette or (self.values or {}).values()
        return tuple(dict.fromkeys(name for name in names if name != UNLABELLED))

    def given(self) -> tuple[tuple[str, object], ...]:
        """The settings that differ from their defaults, by name, `exclude` aside, which every kind of set takes."""
        found = ((one.name, getattr(self, one.name), one.default) for one in fields(Reading))
        return tuple((name, value) for name, value, default in found if value != default and name != "exclude")

    def changed(self) -> tuple[tuple[str, object], ...]:
        """Those of them that tell how a file is read: part of the set's fingerprint."""
        return tuple((name, value) for name, value in self.given() if name not in WHICH)


AS_USUAL = Reading()
OF_MASKS, OF_DEPTH = ("labels", "ignore", "values", "palette"), ("depth_scale", "depth_unknown")
