"""Settings of a sweep: which settings of an experiment are searched, for what, by which of Optuna's methods."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any

from annotated_types import Gt, Le

from common.addresses import without_secrets
from common.bounds import About, Count, Flag, Name, Real, Whole
from common.errors import nearest
from common.schema import settings, shown

SPACE, RANGE, CHOICE = "sweep.space", ("low", "high", "step", "log"), ("choices",)
Plain = Flag | Whole | Real | str | None  # what a choice may be: a value that JSON and Optuna hold


@settings
class Parameter:
    """A setting that is searched: a range of numbers, or choices."""

    low: Annotated[Real | None, About("least value of a range; whole numbers where the setting takes these alone")] = (
        None
    )
    high: Annotated[Real | None, About("largest value of the range, itself included")] = None
    step: Annotated[
        Annotated[Real, Gt(0)] | None, About("distance of the values of the range; null = any, or every whole number")
    ] = None
    log: Annotated[Flag, About("whether values are drawn evenly on a log scale")] = False
    choices: Annotated[list[Plain] | None, About("the values, in place of a range")] = None
    only_if: Annotated[
        dict[Name, Plain | list[Plain]],
        About(
            "other parameters with the choice, or the list of choices, that they must have for this one to count; "
            "else the setting stays as the experiment has it"
        ),
    ] = field(default_factory=dict)

    def conflicts(self) -> Iterator[str]:
        """A range without its ends, the wrong way round or on an impossible scale; choices that are none."""
        ends = (self.low, self.high)
        if self.choices is not None:
            different = {repr(choice) for choice in self.choices}
            if ends != (None, None) or self.step is not None or self.log:
                yield f"choices={shown(self.choices)}: want either these or low and high, not both"
            elif not self.choices or len(different) < len(self.choices):
                yield f"choices={shown(self.choices)}: want one or more different values"
        elif self.low is None or self.high is None:
            yield f"low={shown(self.low)}, high={shown(self.high)}: want both, or choices"
        elif self.low >= self.high:
            yield f"low={shown(self.low)}: want below high={shown(self.high)}"
        elif self.log and self.low <= 0:
            yield f"low={shown(self.low)}: want above 0 for log: true"
        elif self.log and self.step is not None:
            yield f"step={shown(self.step)}: want none with log: true"
        elif self.step is not None and abs((self.high - self.low) / self.step % 1 - 0.5) < 0.5 - 1e-6:
            yield f"step={shown(self.step)}: want one that leads from low={shown(self.low)} to high={shown(self.high)}"


@settings
class Method:
    """A class of Optuna's with the arguments that it is made with."""

    name: Annotated[str, About("its name in Optuna")]
    args: Annotated[dict[str, Any], About("its arguments by name; one that is such a class itself is written the same")]


@settings
class Sampler(Method):
    """Which of `optuna.samplers` proposes the trials."""

    name: Annotated[str, About("class of `optuna.samplers`")] = "TPESampler"
    args: Annotated[
        dict[str, Any],
        About(
            "its arguments; one that is a sampler, pruner or crossover itself is written `{name: …, args: {…}}`. "
            "`seed` is 0 unless it is given, so that one worker proposes the same trials again; null = other ones"
        ),
    ] = field(default_factory=dict)


@settings
class Pruner(Method):
    """Which of `optuna.pruners` ends trials early, by which measure."""

    name: Annotated[str, About("class of `optuna.pruners`; `NopPruner` ends none early")] = "NopPruner"
    args: Annotated[dict[str, Any], About("its arguments; steps in them are training steps")] = field(
        default_factory=dict
    )
    by: Annotated[
        str | None,
        About(
            "the measure that it looks at after each evaluation of the first seed, written as an objective; "
            "label-free health is one too, a fall is none. null = the first objective that is evaluated and no fall"
        ),
    ] = None


@settings
class Sweep:
    """A search over settings of an experiment: every trial is an arm of it."""

    objectives: Annotated[
        list[str],
        About(
            "what is searched for: `knn.top1` (task and metric), a whole `task/dataset/metric`, a metric that one task "
            "alone yields, each with `.fall` for how far it falls from its own best on the way, or `hours` of "
            "training. The direction is that which is better, or the word `maximize` or `minimize` before it. Several "
            "give a Pareto front"
        ),
    ] = field(default_factory=list)
    space: Annotated[dict[Name, Parameter], About("setting, by its dotted key → the values that it may take")] = field(
        default_factory=dict
    )
    trials: Annotated[
        Count, Le(10**5), About("trials of the study in all; a larger number later, or `--trials`, continues it")
    ] = 20
    sampler: Sampler = field(default_factory=Sampler)
    pruner: Pruner = field(default_factory=Pruner)
    storage: Annotated[
        str | None,
        About(
            "where the study is kept: `sqlite:///FILE` or `postgresql://USER@HOST/NAME`, whose password `~/.pgpass` or "
            "`PGPASSWORD` gives; null = a journal file in the run's folder, which workers that share the folder can "
            "all use"
        ),
    ] = None
    heartbeat: Annotated[
        Annotated[Count, Le(3600)],
        About("seconds between a worker's signs of life; after two without one its trial is taken up by another"),
    ] = 30

    def conflicts(self) -> Iterator[str]:
        """A password, conditions on what is no parameter, on a range, on a value that never comes, or in a circle."""
        if self.storage is not None and (bare := without_secrets(self.storage)) != self.storage:
            yield (
                f"storage={bare!r}: want it without a password, which runs write down; put that into ~/.pgpass as "
                "HOST:PORT:NAME:USER:PASSWORD, of mode 0600, or into the variable PGPASSWORD"
            )
        if len({*self.objectives}) < len(self.objectives):
            yield f"objectives={shown(self.objectives)}: want each once"
        told = [
            f"space.{key}.only_if: {fault}"
            for key, parameter in self.space.items()
            for other, values in parameter.only_if.items()
            if (fault := _impossible(other, _listed(values), self.space))
        ]
        yield from told
        if told:
            return
        try:
            ordered(self.space)
        except CycleError as error:
            yield f"space: only_if leads in a circle: {' → '.join(error.args[1])}: want one that ends"


def by_parameter(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a space from dotted keys, of which `gram.weight.low` is the `low` of `gram.weight`."""
    space: dict[str, Any] = {}
    for key, value in flat.items():
        if (split := re.fullmatch(rf"(.+?)\.({'|'.join((*RANGE, *CHOICE, 'only_if'))})(?:\.(.+))?", key)) is None:
            space[key] = value
            continue
        parameter, part, other = split.groups()
        if not isinstance(space.get(parameter), dict):
            space[parameter] = {}
        if other is None:
            space[parameter][part] = value
        else:
            space[parameter].setdefault(part, {})[other] = value
    return space


def outdated(at: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """What of a section others laid over it make void: arguments of another class, a range or choices."""
    usual = {"sweep.sampler": Sampler.name, "sweep.pruner": Pruner.name}
    if at.startswith((*usual,)) and after.get("name", name := before.get("name", usual.get(at))) != name:
        return ("args",)
    if at.startswith(f"{SPACE}."):
        return RANGE if after.get("choices") is not None else CHOICE if {*RANGE} & {*after} else ()
    return ()


def ordered(space: Mapping[str, Parameter]) -> list[str]:
    """The parameters, those that others depend on before them. Raises CycleError."""
    graph = {key: [other for other in parameter.only_if if other in space] for key, parameter in space.items()}
    return [*TopologicalSorter(graph).static_order()]


def counts(parameter: Parameter, chosen: Mapping[str, Any]) -> bool:
    """Whether a parameter counts beside those that were chosen before it."""
    conditions = parameter.only_if.items()
    return all(other in chosen and _among(chosen[other], _listed(values)) for other, values in conditions)


def needed(space: Mapping[str, Parameter], key: str) -> dict[str, list[Any]]:
    """The choices that other parameters must have for this one to count; none where its conditions exclude them all."""
    found: dict[str, list[Any]] = {}
    for other, values in space[key].only_if.items():
        for name, allowed in {**needed(space, other), other: _listed(values)}.items():
            found[name] = [value for value in found.get(name, allowed) if _among(value, allowed)]
    return found


def _impossible(other: str, values: list[Any], space: Mapping[str, Parameter]) -> str:
    if other not in space:
        return f"no parameter {other!r}; " + nearest(other, space, otherwise=f"want one of {', '.join(space)}")
    choices = space[other].choices
    if choices is None:
        return f"{other} has a range: want a parameter with choices"
    lost = [value for value in values if not _among(value, choices)]
    return f"{other}={shown(lost[0])} is none of its choices {shown(choices)}" if lost else ""


def _listed(values: Any) -> list[Any]:
    return values if isinstance(values, list) else [values]


def _among(value: Any, values: list[Any]) -> bool:
    """Whether it is one of them; true is not 1, as it is for Python."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in values)
