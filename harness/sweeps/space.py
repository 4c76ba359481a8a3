"""The search space of a sweep: which settings may take which values, and how a trial draws them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_origin

import numpy as np
from optuna import Trial
from pydantic import TypeAdapter, ValidationError

from common.bounds import core, described
from common.errors import BadInput
from common.schema import faults, shown, wanted
from harness.config import is_shared
from harness.settings import Experiment
from harness.sweep_settings import Parameter, Sweep, counts, ordered

SAMPLES = 6  # of a range
HINTS = {setting.key: setting.hint for setting in described(Experiment)}


def refuse_unfit(sweep: Sweep) -> None:
    """Raises `BadInput` for an empty space, for what is no setting of an arm, and for values that none can have."""
    if not sweep.space:
        raise BadInput(
            "sweep.space is empty: want at least one setting with its values, as "
            "gram.weight: {low: 0.1, high: 10.0, log: true}"
        )
    found = [
        f"sweep.space.{key}: {fault}" for key, parameter in sweep.space.items() for fault in _faults(key, parameter)
    ]
    if found:
        raise BadInput("\n".join(found))


def drawn(trial: Trial, sweep: Sweep) -> dict[str, Any]:
    """The overrides of a trial: Optuna draws a value for each parameter that counts beside the others."""
    chosen: dict[str, Any] = {}
    for key in ordered(sweep.space):
        parameter = sweep.space[key]
        if counts(parameter, chosen):
            chosen[key] = _draw(trial, key, parameter)
    return overrides(chosen)


def overrides(params: Mapping[str, Any]) -> dict[str, Any]:
    """What Optuna drew as settings are written: to six digits, so that 0.30000000000000004 is 0.3."""
    return {key: _rounded(value) for key, value in params.items()}


def samples(key: str, parameter: Parameter) -> list[Any]:
    """All choices, or a few values of a range with both ends among them."""
    if parameter.choices is not None:
        return [*parameter.choices]
    low, high, step = (_number(key, value) for value in (parameter.low, parameter.high, parameter.step))
    if step is None and not _is_whole(key):
        spread = np.geomspace if parameter.log else np.linspace
        return [_rounded(value) for value in spread(low, high, SAMPLES).tolist()]
    step = step or 1
    last = round((high - low) / step)
    return [_rounded(low + round(place) * step) for place in np.linspace(0, last, min(last + 1, SAMPLES))]


def words(key: str, parameter: Parameter) -> str:
    """A parameter in words, for the plan."""
    if parameter.choices is not None:
        said = f"one of {', '.join(map(shown, parameter.choices))}"
    else:
        low, high = (_number(key, end) for end in (parameter.low, parameter.high))
        scale = " on a log scale" if parameter.log else f" in steps of {parameter.step:g}" if parameter.step else ""
        said = f"{shown(low)} to {shown(high)}{scale}"
    conditions = [f"{other} is {shown(values)}" for other, values in parameter.only_if.items()]
    return said + (f", only if {' and '.join(conditions)}" if conditions else "")


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _draw(trial: Trial, key: str, parameter: Parameter) -> Any:
    if parameter.choices is not None:
        return trial.suggest_categorical(key, parameter.choices)
    low, high, step = (_number(key, value) for value in (parameter.low, parameter.high, parameter.step))
    if _is_whole(key):
        return trial.suggest_int(key, low, high, step=step or 1, log=parameter.log)
    return trial.suggest_float(key, low, high, step=step, log=parameter.log)


def _number(key: str, value: float | None) -> Any:
    return int(value) if value is not None and _is_whole(key) else value


def _is_whole(key: str) -> bool:
    return key in HINTS and core(HINTS[key]) is int


def _faults(key: str, parameter: Parameter) -> Iterator[str]:
    hint = HINTS.get(key)
    if is_shared(key):
        yield "belongs to the whole experiment: want a setting of an arm, as gram.weight"
        return
    if hint is None:
        if not any(key.startswith(f"{above}.") and get_origin(core(hint)) is dict for above, hint in HINTS.items()):
            yield _unknown(key)
        return
    if parameter.choices is None and core(hint) not in (int, float):
        yield f"want choices, not a range, since it takes {wanted(hint)}"
        return
    ends = [_named(value) for value in (parameter.low, parameter.high) if value is not None]
    for value in parameter.choices if parameter.choices is not None else ends:
        if not is_of(hint, value):
            yield f"got {shown(value)}: want {wanted(hint)}"
    if _is_whole(key) and parameter.step is not None and parameter.step != int(parameter.step):
        yield f"step={shown(parameter.step)}: want a whole number"


def _unknown(key: str) -> str:
    """What to do about a key that is no setting."""
    if below := [known for known in HINTS if known.startswith(f"{key}.")]:
        return f"a section: want a setting of it, as {below[0]}"
    nested: Any = 0
    for part in reversed(key.split(".")):
        nested = {part: nested}
    hints = [line.partition("; ")[2] for line in faults(Experiment, nested) if "; did you mean " in line]
    return f"no such setting; {[*hints, 'docs/settings.md lists them'][0]}"


def _named(value: float) -> Any:
    """An end of a range as users write it: 40 for 40.0."""
    return int(value) if value == int(value) else value


def is_of(hint: Any, value: Any) -> bool:
    """Whether a value is one of a type with its bounds."""
    try:
        TypeAdapter(hint).validate_python(value)
    except ValidationError:
        return False
    return True
