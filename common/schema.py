"""Classes of settings that check themselves, and what they say of wrong ones: all faults at once, in our words."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, dataclass_transform, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, Predicate
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from common.bounds import HIDDEN, Words, about, core, described, hints
from common.errors import BadInput, nearest

T = TypeVar("T")
DECODED = "from a variable write ${oc.decode:${oc.env:NAME}}"
NOUNS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
SETTINGS = "settings below it, {} for none"
BOUNDS = {
    Gt: lambda mark: f"above {mark.gt}",
    Ge: lambda mark: f"at least {mark.ge}",
    Lt: lambda mark: f"below {mark.lt}",
    Le: lambda mark: f"at most {mark.le}",
}


class Conflicts(ValueError):
    """Settings that exclude one another, a line each."""


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field,))
def settings(cls: type[T]) -> type[T]:
    """A frozen dataclass, given by keywords, that raises BadInput for settings that it does not know or cannot be.

    What joins two settings is told by a method `conflicts(self) -> Iterator[str]`, a line each that begins with
    `name=value: want …`; it is asked once every setting by itself is sound.
    """
    if hasattr(cls, "conflicts"):
        cls.__post_init__ = _refuse_conflicts  # pyright: ignore[reportAttributeAccessIssue]
    made: Any = checked(cls, frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
    check = made.__init__

    @functools.wraps(check)
    def init(self: Any, **given: Any) -> None:
        try:
            check(self, **given)
        except ValidationError as error:
            raise _refusal(error, made, where=str(given.get("name") or made.__name__)) from None

    made.__init__ = init
    return made


def filled(kind: type[T], plain: Mapping[Any, Any], *, where: str) -> T:
    """Settings from plain data, as YAML gives it: sections are mappings, lists stand for tuples, 1 for 1.0.

    Raises:
        BadInput: names `where` they stand and every fault by its full path.
    """
    try:
        return TypeAdapter(kind).validate_python(dict(plain))
    except ValidationError as error:
        raise _refusal(error, kind, where=where) from None


def faults(kind: type, plain: Mapping[str, Any]) -> list[str]:
    """What is wrong in plain data, a line each that begins with the path; [] where it fills the class."""
    try:
        TypeAdapter(kind).validate_python(dict(plain))
    except ValidationError as error:
        return _told(error, kind)
    return []


def wanted(hint: Any) -> str:
    """What a type with its bounds takes, as in `a number, above 0 and at most 1, or null`."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return ", or ".join("null" if one is NoneType else wanted(one) for one in inside)
    if origin is Literal:
        return f"one of {', '.join(map(str, inside))}"
    bare, marks = (inside[0], inside[1:]) if origin is Annotated else (hint, ())
    if get_origin(bare) in (list, tuple):
        kinds = get_args(bare)
        if dataclasses.is_dataclass(kinds[0]):
            return f"a list of mappings, each with {', '.join(hints(kinds[0]))}"  # pyright: ignore[reportArgumentType]
        count = "" if get_origin(bare) is list or Ellipsis in kinds else f"{len(kinds)} "
        rules = [mark.func.__name__.replace("_", " ") + " " for mark in marks if isinstance(mark, Predicate)]
        return f"a list of {count}{''.join(rules)}values, each {wanted(kinds[0])}"
    if get_origin(bare) is dict and wanted(value := get_args(bare)[1]) != SETTINGS:
        return f"a mapping of {wanted(get_args(bare)[0])}, to {wanted(value)}"
    if origin is Annotated:
        noun = next((mark.said for mark in marks if isinstance(mark, Words)), NOUNS.get(bare) or wanted(bare))
        bounds = " and ".join(BOUNDS[type(mark)](mark) for mark in marks if _is_shown(mark))
        bounds = re.sub(r"^at least (\S+) and at most ", r"from \1 to ", bounds)
        return f"{noun}, {bounds}" if bounds else noun
    return NOUNS.get(bare, SETTINGS)


def _is_shown(mark: Any) -> bool:
    """A bound that a sentence tells: one that has a sense of its own."""
    return type(mark) in BOUNDS and next(iter(dataclasses.astuple(mark))) not in HIDDEN


def phrase(meaning: str) -> str:
    """The first phrase of what a setting means, without a bracket that is not closed in it."""
    first = meaning.partition("; ")[0]
    return first if first.count("(") == first.count(")") else first.rpartition(" (")[0]


def shown(value: Any, most: int = 120) -> str:
    """A value nearly as YAML writes it, cut where it is long."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, Mapping):
        text = f"{{{', '.join(f'{shown(key)}: {shown(one)}' for key, one in value.items())}}}"
    elif isinstance(value, list | tuple):
        text = f"[{', '.join(map(shown, value))}]"
    else:
        text = repr(value)
    return text if len(text) <= most else f"{text[: most - 2]} …"


def assigned(values: Mapping[str, Any]) -> str:
    """Values by their keys, as a command line takes them: `gram.weight=2.0, gram.update_every=null`."""
    return ", ".join(f"{key}={written(one)}" for key, one in values.items())


def written(value: Any) -> str:
    """A value as a user writes it: words without quotes."""
    return value if isinstance(value, str) else shown(value)


def _refuse_conflicts(self: Any) -> None:
    if found := list(self.conflicts()):
        raise Conflicts(*found)


def _refusal(error: ValidationError, kind: type, *, where: str) -> BadInput:
    found = _told(error, kind)
    if len(found) == 1:
        return BadInput(f"{where}: {found[0]}")
    return BadInput("\n  ".join([f"{where}: {len(found)} settings cannot be meant", *found]))


def _told(error: ValidationError, kind: type) -> list[str]:
    faults = [_as_one(fault, kind) for fault in error.errors(include_url=False)]
    return [*dict.fromkeys(line for fault in faults for line in _lines(fault, kind))]


def _as_one(fault: Any, kind: type) -> Any:
    """Where one of several types is wanted, the fault of each of them as that of all."""
    loc = list(fault["loc"])
    hint = _at(kind, loc[:-1])[0] if fault["type"] != "value_error" else kind
    kinds = [one for one in get_args(hint) if one is not NoneType] if get_origin(hint) in (Union, UnionType) else []
    return {**fault, "loc": loc[:-1], "type": "union"} if len(kinds) > 1 else fault


def _lines(fault: Any, kind: type) -> Iterator[str]:
    """What is wrong at one place: its path, the value there, what is wanted, and what the setting is for."""
    loc = list(fault["loc"])
    if fault["type"] == "value_error":  # `Conflicts` alone
        yield from (_path([*loc, line]) for line in fault["ctx"]["error"].args)
    elif fault["type"] in ("unexpected_keyword_argument", "invalid_key"):
        yield _unknown(loc, kind)
    elif "[key]" in loc:
        yield _odd_name(fault, loc, kind)
    elif fault["type"] == "missing" and isinstance(loc[-1], str):
        yield f"{_path(loc)} is missing: want {_explained(kind, loc)}"
    else:
        loc = loc[:-1] if fault["type"] == "missing" else loc  # a list that is too short
        yield f"{_path(loc)}={shown(fault['input'])}: want {_explained(kind, loc)}{_way_out(fault)}"


def _odd_name(fault: Any, loc: list[Any], kind: type) -> str:
    """What is wrong with a name that a user chose, or with another key of a mapping."""
    key, given = get_args(core(_at(kind, loc[:-2])[0]))[0], fault["input"]
    if core(key) is not str:
        return f"{_path(loc[:-2])}: got the key {given!r}: want {wanted(key)}"
    if isinstance(given, str):
        return f"{_path(loc[:-1])}: want another name: {wanted(key)}"
    quotes = "; put it in quotes" if isinstance(given, int | float) else ""
    return f"{_path(loc[:-1])}: want a name that is text{quotes}"


def _way_out(fault: Any) -> str:
    """How the same value is written as what is wanted, the word that was nearly met, or a bound that no page tells."""
    value, bounds = fault["input"], fault.get("ctx", {})
    if fault["type"] == "string_type" and isinstance(value, int | float):
        return f"""; put it in quotes, on a command line in two kinds: "'{shown(value)}'\""""
    if fault["type"] == "int_type" and isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value):
        return f"; {DECODED}"
    if fault["type"] == "float_type" and isinstance(value, str) and _is_number(value):
        return f"; leave the quotes out, {DECODED}"
    if fault["type"] == "literal_error" and isinstance(value, str):
        near = nearest(value, re.findall(r"'([^']*)'", bounds["expected"]), otherwise="")
        return f"; {near}" if near else ""
    for bound, words in (("le", "at most"), ("ge", "at least")):
        if bounds.get(bound) in HIDDEN:
            return f"; and {words} {bounds[bound]}"
    return "; and a finite one" if fault["type"] == "finite_number" else ""


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _path(loc: list[Any]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def _explained(kind: type, loc: list[Any]) -> str:
    hint, meaning = _at(kind, loc)
    return f"{wanted(hint)} ({phrase(meaning)})" if meaning else wanted(hint)


def _at(kind: Any, loc: list[Any]) -> tuple[Any, str]:
    """The type at a path, and the meaning of the setting there or, within a list, of the whole."""
    hint, meaning = kind, ""
    for part in loc:
        above = core(hint)
        if dataclasses.is_dataclass(above):
            hint = hints(above)[part]  # pyright: ignore[reportArgumentType]
            meaning = about(hint).meaning
        else:
            hint = get_args(above)[1 if get_origin(above) is dict else 0]
    return hint, meaning


def _unknown(loc: list[Any], kind: type) -> str:
    """With one beside it of nearly its name, or else one anywhere whose last part is as good as its own."""
    path, beside = _path(loc), list(hints(core(_at(kind, loc[:-1])[0])))
    known = [setting.key for setting in described(kind)]
    if path in known:
        nested = path.replace(".", ": {") + ": …" + "}" * path.count(".")
        return f"unknown setting '{path}'; want it nested, {nested}"
    near = [_path([*loc[:-1], name]) for name in get_close_matches(str(loc[-1]), beside, n=1)]
    leaves = {key: key.rpartition(".")[2] for key in known}
    alike = get_close_matches(str(loc[-1]).rpartition(".")[2], leaves.values(), cutoff=0.8)
    near += get_close_matches(path, [key for key, leaf in leaves.items() if leaf in alike], n=1, cutoff=0)
    return f"unknown setting '{path}'; " + (f"did you mean {near[0]}?" if near else f"want {', '.join(beside)}")
