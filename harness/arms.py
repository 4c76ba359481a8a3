"""Arms as an experiment file states them: what each forks from and at which step, and grids that stand for several.

`from` names another arm or `trunk`, null begins at step 0; `at` is a step of the parent; `inherit` is how much of its
state the arm begins with; `grid` holds lists of values by dotted keys. All other keys are overrides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

from common.bounds import is_name
from common.errors import BadInput, nearest
from common.records import EQUAL_COMPUTE
from common.schema import shown
from harness.layers import flatten

TRUNK = "trunk"
WHOLE = ("data.homogeneous", "data.mixed")  # of weights by names that may have dots: an arm's are all that count
WORDS = ("from", "at", "inherit", "grid")
Inherit = Literal["all", "teacher"]  # all that the parent has; its EMA teacher alone, as student and as EMA teacher


@dataclass(frozen=True)
class Arm:
    """One arm: `parent` is an arm, `TRUNK` or None for step 0; `at` None is the parent's end.

    equal_compute: it has as many steps as cost what the baseline's cost.
    inherit: what it begins with of the parent's state.
    """

    parent: str | None
    at: int | None
    overrides: dict[str, Any]
    equal_compute: bool = False
    inherit: Inherit = "all"


def dotted(own: Mapping[str, Any]) -> dict[str, Any]:
    """What an arm sets, by dotted keys."""
    return flatten(own, whole=WHOLE)


def read(own: Mapping[str, Any], *, trunk: bool) -> Arm:
    """An arm of the file, once `faults` has nothing against it; `trunk`: there is one."""
    overrides = {key: value for key, value in dotted(own).items() if key not in WORDS}
    equal = overrides.get("steps") == EQUAL_COMPUTE
    if equal:
        del overrides["steps"]
    parent = own.get("from", TRUNK if trunk else None)
    return Arm(parent, own.get("at"), overrides, equal, own.get("inherit", "all"))


def faults(arms: Mapping[str, Mapping[str, Any]], *, trunk: bool) -> Iterator[str]:
    """What cannot be meant by `from`, `at`, `inherit`, a line each: unknown parents, circles, steps that are none."""
    known = [*([TRUNK] if trunk else []), *arms]
    for name, own in arms.items():
        parent, at = own.get("from"), own.get("at")
        if at is not None and (not isinstance(at, int) or isinstance(at, bool) or at < 1):
            yield f"arms.{name}.at={shown(at)}: want a step of the arm that it forks from, 1 or more"
        if parent is None:
            if at is not None and ("from" in own or not trunk):
                yield f"arms.{name}.at={shown(at)}: there is nothing to fork from: want from: with an arm or trunk"
        elif parent not in known:
            hint = nearest(str(parent), known, otherwise="null begins at step 0")
            yield f"arms.{name}.from={shown(parent)}: want one of {', '.join(known)}; {hint}"
        yield from _wrong_inheritance(name, own, trunk=trunk)
    yield from _circles(arms)


def _wrong_inheritance(name: str, own: Mapping[str, Any], *, trunk: bool) -> Iterator[str]:
    """What there is not, or nobody to inherit it from."""
    if "inherit" not in own:
        return
    said, known = f"arms.{name}.inherit={shown(own['inherit'])}", get_args(Inherit)
    if own["inherit"] not in known:
        hint = nearest(str(own["inherit"]), known, otherwise="all is what an arm without this key inherits")
        yield f"{said}: want one of {', '.join(known)}; {hint}"
    elif own.get("from", trunk or None) is None:
        yield f"{said}: there is nothing to inherit from: want from: with an arm or trunk, or leave it out"


def _circles(arms: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    told: set[str] = set()
    names = [*arms]  # what an arm forks from may be a list or a mapping, which no dictionary can be asked for
    for name in arms:
        path: list[Any] = [name]
        while (parent := arms[path[-1]].get("from")) in names and parent not in path:
            path.append(parent)
        if parent in path and not told & set(path):
            circle = [*path[path.index(parent) :], parent]
            told |= set(circle)
            yield f"arms: {' from '.join(circle)} is a circle: want one of them to fork from trunk or from null"


def in_order(arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The names, every parent before what forks from it, otherwise as they stand."""
    found: list[str] = []

    def add(name: Any) -> None:
        parent = arms[name].get("from")
        if parent in arms and parent not in found:
            add(parent)
        if name not in found:
            found.append(name)

    for name in arms:
        add(name)
    return found


# --- grids


def expanded(arms: Mapping[str, Any], *, most: int) -> dict[str, Any]:
    """The arms with every grid replaced by one arm for each combination of its values.

    Raises:
        BadInput: a grid that is none, values whose names are not to be told apart, or more than `most` arms of one.
    """
    found: dict[str, Any] = {}
    for name, own in arms.items():
        flat = dotted(own) if isinstance(own, Mapping) else {}
        grid = {key.removeprefix("grid."): values for key, values in flat.items() if key.startswith("grid.")}
        if "grid" in flat:
            raise BadInput(f"arms.{name}.grid={shown(flat['grid'])}: want lists of values by their keys")
        rest = {key: value for key, value in flat.items() if not key.startswith("grid.")}
        made = _combinations(name, grid, rest, most=most) if grid else {name: own}
        if twice := [arm for arm in made if arm in found or (arm != name and arm in arms)]:
            raise BadInput(f"arms.{twice[0]}: two arms have this name: want another name for one of them")
        found |= made
    return found


def _combinations(name: str, grid: dict[str, Any], rest: dict[str, Any], *, most: int) -> dict[str, dict[str, Any]]:
    count = 1
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise BadInput(
                f"arms.{name}.grid.{key}={shown(values)}: want a list of one or more values, as [null, 250, 1000]"
            )
        if key in rest:
            raise BadInput(f"arms.{name}.{key}={shown(rest[key])}: it is in the grid too: leave one of them out")
        count *= len(values)
    if count > most:
        raise BadInput(f"arms.{name}.grid makes {count} arms: want at most {most}, or largest_grid={count} to mean it")
    made = {}
    for values in product(*grid.values()):
        arm = "-".join([name, *(_leaf(key, grid) + _word(value) for key, value in zip(grid, values, strict=True))])
        if not is_name(arm):
            raise BadInput(f"arms.{name}.grid: {shown(arm)} would name an arm: want values of letters and digits")
        if arm in made:
            raise BadInput(f"arms.{name}.grid: two values make the arm {arm}: want each value once")
        made[arm] = rest | dict(zip(grid, values, strict=True))
    return made


def _leaf(key: str, grid: Collection[str]) -> str:
    """What tells the values of a key from those of another: its last word, the whole key where both end alike."""
    leaf = key.rpartition(".")[2]
    alike = sum(other.rpartition(".")[2] == leaf for other in grid)
    return "" if len(grid) == 1 else f"{leaf if alike == 1 else key}-"


def _word(value: Any) -> str:
    """A value as a part of a name, numbers as they are written shortest."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
