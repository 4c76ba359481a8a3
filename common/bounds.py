"""What a setting may be and what it means: kinds of value with their bounds, and the words beside them.

A setting is written `rate: Annotated[Positive, About("peak of the learning rate")] = 1e-3` in a class of
`common.schema.settings`. Pages, `--help` and refusals are made from the same words.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt, Predicate
from pydantic import Strict

T = TypeVar("T")


class About(NamedTuple):
    """What a setting means, the first phrase enough by itself, and who says its value."""

    meaning: str
    source: str = "–"


class Words(NamedTuple):
    """What a kind of text takes, said in place of its rule."""

    said: str


def rising(values: Sequence[Any]) -> bool:
    """Whether no value is below the one before it."""
    return list(values) == sorted(values)


def one_or_more_different(values: Sequence[Any]) -> bool:
    """Whether there are values and none comes twice."""
    return len(values) > 0 and all_different(values)


def all_different(values: Sequence[Any]) -> bool:
    """Whether none comes twice."""
    return len(values) == len(set(values))


def is_name(text: str) -> bool:
    """Whether it can name a folder or file on any system, and is no option of a command."""
    return re.fullmatch(r"\w[\w.-]*", text) is not None and len(text.encode()) <= NAME_BYTES


def is_label(text: str) -> bool:
    """Whether it is a name that people read: no control characters, no blanks at its ends."""
    return text == text.strip() != "" and text.isprintable() and len(text.encode()) <= NAME_BYTES


def is_path(text: str) -> bool:
    """Whether a file system could have it; names that are no UTF-8 arrive with lone surrogates, and are meant."""
    parts = [part.encode(errors="surrogateescape") for part in re.split(r"[/\\]", text)]
    return bool(text.strip()) and not CONTROL.search(text) and len(text) <= 4096 and max(map(len, parts)) <= 255


# No sense lies beyond these. They end no sentence of a page; a refusal names the one that was passed
MOST = 10**9  # steps, images and all else that is counted
HIDDEN = (MOST, 2**63 - 1, -(2**63))
NAME_BYTES = 100  # a file's name has 255, of which ours are a part
CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Flag = Annotated[bool, Strict()]
Whole = Annotated[int, Strict(), Ge(-(2**63)), Le(2**63 - 1)]
Natural = Annotated[Whole, Ge(0), Le(MOST)]
Count = Annotated[Whole, Ge(1), Le(MOST)]
Seed = Annotated[Whole, Ge(0)]
Batch = Annotated[Count, Le(2**20)]
Pixels = Annotated[Count, Le(2**15)]  # of a side
Width = Annotated[Count, Le(2**17)]  # of a layer
Real = Annotated[float, Strict()]  # finite: `common.schema.settings` sees to it
Positive = Annotated[Real, Gt(0)]
NotNegative = Annotated[Real, Ge(0)]
Share = Annotated[Real, Ge(0), Le(1)]
SomeShare = Annotated[Real, Gt(0), Le(1)]
ShareBelowOne = Annotated[Real, Ge(0), Lt(1)]
Name = Annotated[
    str, Predicate(is_name), Words(f"a name of letters, digits, '.', '_' and '-', at most {NAME_BYTES} bytes")
]
Label = Annotated[str, Predicate(is_label), Words(f"a name of printed characters, at most {NAME_BYTES} bytes")]
Place = Annotated[str, Predicate(is_path), Words("a path without control characters")]
Range = Annotated[tuple[T, T], Predicate(rising)]
Choices = Annotated[tuple[T, ...], Predicate(one_or_more_different)]


@functools.cache
def hints(kind: type) -> dict[str, Any]:
    """The types of a class's settings, with bounds and meanings."""
    found = get_type_hints(kind, include_extras=True)
    return {field.name: found[field.name] for field in dataclasses.fields(kind)}


def core(hint: Any) -> Any:
    """A type without its bounds and without null."""
    if get_origin(hint) is Annotated:
        return core(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return core(next(one for one in get_args(hint) if one is not NoneType))
    return hint


def about(hint: Any) -> About:
    """What stands beside a type."""
    marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((mark for mark in marks if isinstance(mark, About)), About(""))


class Setting(NamedTuple):
    """One setting as pages show it; `NAME` in its key stands for a name that users choose."""

    key: str
    hint: Any
    default: Any
    about: About


def described(kind: Any, prefix: str = "") -> Iterator[Setting]:
    """Every setting of a class and of the classes inside it."""
    for field, hint in zip(dataclasses.fields(kind), hints(kind).values(), strict=True):
        key, inside = f"{prefix}{field.name}", core(hint)
        element = get_args(inside)[1] if get_origin(inside) is dict else None
        if dataclasses.is_dataclass(inside):
            yield from described(inside, f"{key}.")
        elif dataclasses.is_dataclass(element):
            yield from described(element, f"{key}.NAME.")
        else:
            made = field.default_factory
            yield Setting(key, hint, field.default if made is dataclasses.MISSING else made(), about(hint))
