"""`key=value` words of a command line: read by Hydra's grammar, and applied to the plain data of an experiment.

A mapping of names that users choose, such as `arms` or `data.sources`, is replaced whole; one of a section changes what
it names, as a section of a file does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from common.bounds import CONTROL, core, described, hints
from common.errors import BadInput, nearest
from common.schema import shown
from common.yaml_file import DEPTH
from harness.arms import dotted
from harness.layers import flatten, merged
from harness.settings import Experiment
from harness.sweep_settings import SPACE, by_parameter

LONGEST = 10_000  # characters


class Change(NamedTuple):
    """One word of the command line; `value` is plain data, None where the key is removed."""

    text: str
    key: str
    value: Any
    removes: bool = False
    adds: bool = False


def parsed(texts: Sequence[str]) -> list[Change]:
    """The changes that words ask for. Raises `BadInput` for the first that cannot be read."""
    return [_parsed(text) for text in texts]


def apply(plain: dict[str, Any], change: Change) -> None:
    """Change the settings in place."""
    if change.key == "launcher" and isinstance(change.value, str):
        change = change._replace(key="launcher.name")  # the short form
    if names_method(change):
        change = change._replace(key=f"{change.key.removesuffix('.name')}.name")
    *above, leaf = change.key.split(".")
    if change.key.startswith(f"{SPACE}."):
        _change_space(plain, change)
        return
    if above == ["arms"] and not change.removes:
        _refuse_unknown_arm(plain, leaf, change.key)
    if len(above) > 1 and above[0] == "arms":
        _change_arm(plain, change)
        return
    if change.removes:
        place: Any = plain
        for part in above:
            place = place.get(part) if isinstance(place, dict) else None
        _remove(place, leaf, change)
        return
    put(plain, change.key, change.value)
    if change.key == "arms":
        _keep_baseline(plain)


def names_method(change: Change) -> bool:
    """Whether it chooses the sampler or the pruner of a sweep by its name."""
    return change.key.removesuffix(".name") in ("sweep.sampler", "sweep.pruner") and isinstance(change.value, str)


def choose_arms(plain: dict[str, Any], names: Sequence[Any], grids: Mapping[str, Sequence[str]]) -> None:
    """Keep these arms alone, in this order; the name of a grid stands for all of its arms.

    Raises `BadInput` for one that is unknown or named twice.
    """
    names = [arm for name in names for arm in (grids.get(name, [name]) if isinstance(name, str) else [name])]
    for name in names:
        _refuse_unknown_arm(plain, name, "arms")
        if names.count(name) > 1:
            raise BadInput(f"arms: {name!r} is named twice: want each once")
    chosen = {name: plain["arms"][name] for name in names}
    for name, own in chosen.items():
        flat = flatten(own) if isinstance(own, dict) else {}
        for needs, other in (("forks", flat.get("from")), ("learns", flat.get("distillation.teacher"))):
            if isinstance(other, str) and other in plain["arms"] and other not in chosen:
                raise BadInput(f"arms: {name} {needs} from {other}: want {other} chosen too")
    plain["arms"] = chosen
    _keep_baseline(plain)


def put(plain: dict[str, Any], key: str, value: Any, *, of: type = Experiment) -> None:
    """Set a dotted key; a mapping is merged into a section, and replaces a mapping of names that users choose.

    of: the class whose settings they are.
    """
    above, _, leaf = key.rpartition(".")
    for part in above.split(".") if above else ():
        if not isinstance(plain.get(part), dict):
            plain[part] = {}
        plain = plain[part]
    if _is_named(key, of):
        plain.pop(leaf, None)
    changed = merged(plain, {leaf: value}, above)
    plain.clear()
    plain.update(changed)


def _parsed(text: str) -> Change:
    want = "want key=value, for example steps=200"
    if len(text) > LONGEST or max(map(text.count, "[{(")) > DEPTH or CONTROL.search(text):
        odd = f"at most {LONGEST} characters, none of them a control character, and not nested deeply"
        raise BadInput(f"got {shown(text)}: {want}, {odd}")
    word = text.lstrip("~+")
    key, sign, given = word.partition("=")
    if not (sign or text.startswith("~")) or not re.fullmatch(r"[^\s.=]+(\.[^\s.=]+)*", key):
        raise BadInput(f"got {text!r}: {want}")
    if text.startswith("~") and sign:
        raise BadInput(f"got {text!r}: want ~{key}, which removes it, or {key}={given}")
    try:
        found = _grammar().parse_override(text)
    except (HydraException, ArithmeticError, ValueError) as error:
        raise BadInput(f"cannot read the override {text}: {want}; what holds ,:=[]{{}}() stands in quotes") from error
    if found.is_sweep_override() or not _is_plain(value := found.value()):
        raise BadInput(f"got {text!r}: want one value; a list is written in brackets, as in seeds=[0,1]")
    if "???" in _scalars(value):
        raise BadInput(f"got {text!r}: ??? stands for a value that is missing: want one")
    return Change(text, key, value, removes=found.is_delete(), adds=found.is_add() or found.is_force_add())


def _grammar() -> OverridesParser:
    """Hydra's, without its functions: shuffle(...) would make another experiment at each start, int(3.2) is 3."""
    grammar = OverridesParser.create()
    grammar.functions.definitions.clear()
    return grammar


def _scalars(value: Any) -> Iterator[Any]:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if parts is None:
        yield value
    else:
        for part in parts:
            yield from _scalars(part)


def _is_plain(value: Any) -> bool:
    return all(one is None or isinstance(one, bool | int | float | str) for one in _scalars(value))


def _change_arm(plain: dict[str, Any], change: Change) -> None:
    """A setting of one arm, which may stand there nested or dotted."""
    _, arm, setting = change.key.split(".", 2)
    _refuse_unknown_arm(plain, arm, change.key)
    if not isinstance(plain["arms"][arm], dict):  # which is refused with the file's other faults
        return
    own = plain["arms"][arm] = dotted(plain["arms"][arm])
    if change.removes:
        _remove(own, setting, change)
    else:
        own[setting] = change.value


def _change_space(plain: dict[str, Any], change: Change) -> None:
    """A parameter of a sweep, or a part of one; their keys have dots of their own."""
    key = change.key.removeprefix(f"{SPACE}.")
    sweep = plain.get("sweep")
    space = flatten(sweep["space"]) if isinstance(sweep, dict) and isinstance(sweep.get("space"), dict) else {}
    if not change.removes:
        over, known = by_parameter(flatten({key: change.value})), by_parameter(space)
        for name, own in over.items():
            _refuse_part(change.text, name, own, known=known, is_whole=name == key)
        put(plain, SPACE, merged(space, over, SPACE))
        return
    left = {own: value for own, value in space.items() if not f"{own}.".startswith(f"{key}.")}
    if left == space:
        hint = nearest(key, by_parameter(space), otherwise="want a key of the file")
        raise BadInput(f"{change.text}: nothing to remove there; {hint}")
    put(plain, SPACE, by_parameter(left))


def _refuse_part(text: str, name: str, own: Any, *, known: Mapping[str, Any], is_whole: bool) -> None:
    """Refuse a part of a parameter that there is not, and what says nothing of its values."""
    want = f"{SPACE}.{name}={{low: 1, high: 2}} or {{choices: [1, 2]}}"
    if name not in known and not (is_whole and isinstance(own, dict)):
        whole = f"a new one is written whole, as {want}"
        is_setting = any(name == setting.key for setting in described(Experiment))
        hint = whole if is_setting else nearest(name, known, otherwise=whole)
        raise BadInput(f"{text}: the space has no parameter {name!r}; {hint}")
    if not isinstance(own, dict):
        raise BadInput(f"{text}: want the values that it may take, as {want}")


def _remove(place: Any, leaf: str, change: Change) -> None:
    if not isinstance(place, dict) or leaf not in place:
        raise BadInput(f"{change.text}: nothing to remove there: want a key of the file")
    del place[leaf]


def _refuse_unknown_arm(plain: Mapping[str, Any], arm: Any, key: str) -> None:
    arms = plain.get("arms")
    known = list(arms) if isinstance(arms, dict) else []
    if arm not in known:
        hint = nearest(str(arm), map(str, known), otherwise="a new one belongs in the YAML file")
        raise BadInput(f"{key}: no arm {arm!r}; known: {', '.join(map(str, known)) or 'none'}; {hint}")


def _keep_baseline(plain: dict[str, Any]) -> None:
    """A baseline that was not chosen is none."""
    if isinstance(plain.get("arms"), dict) and plain.get("baseline") not in plain["arms"]:
        plain["baseline"] = None


def _is_named(key: str, of: type) -> bool:
    """Whether a key holds a mapping of names that users choose."""
    hint: Any = of
    for part in key.split("."):
        inside = core(hint)
        if get_origin(inside) is dict:
            hint = get_args(inside)[1]
        elif isinstance(inside, type) and hasattr(inside, "__dataclass_fields__"):
            hint = hints(inside).get(part)
        else:
            return False
    return get_origin(core(hint)) is dict
