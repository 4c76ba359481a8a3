"""Optuna's samplers and pruners by name, with arguments that are checked."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import optuna
from optuna import pruners, samplers

from common.errors import BadInput, first_line, nearest
from common.schema import assigned
from harness.sweep_settings import Method, Sweep
from harness.sweeps.objectives import Direction
from harness.sweeps.space import drawn

REHEARSED = 3  # trials of a rehearsal
ABSTRACT = {"BaseSampler", "BaseGASampler", "BasePruner", "BaseCrossover"}
ONE_SEED = {"QMCSampler"}  # its points are one sequence, which another seed would break off


def sampler(sweep: Sweep, *, before: int = 0) -> samplers.BaseSampler:
    """The sampler for the trial that follows `before` others.

    From its `seed` it has another one for each trial: else a worker that starts later would propose those of the first.
    Raises `BadInput` for an unknown class, an unknown argument, or one that it does not take.
    """
    name, args = sweep.sampler.name, dict(sweep.sampler.args)
    takes_seed = "seed" in inspect.signature(getattr(samplers, name, object)).parameters
    if takes_seed and isinstance(seed := args.get("seed", 0), int) and seed >= 0:
        args["seed"] = seed if name in ONE_SEED else int(np.random.SeedSequence([seed, before]).generate_state(1)[0])
    return _built(samplers, name, args, where="sweep.sampler")


def pruner(sweep: Sweep) -> pruners.BasePruner:
    """The pruner. Raises `BadInput` as `sampler` does."""
    return _built(pruners, sweep.pruner.name, sweep.pruner.args, where="sweep.pruner")


def rehearse(sweep: Sweep, directions: Sequence[Direction]) -> list[dict[str, Any]]:
    """The overrides of a few trials that are never trained. Raises `BadInput` where the sampler cannot serve here.

    Some samplers take one objective alone, some no conditions, some need another package: they tell when they are used.
    """
    study = optuna.create_study(directions=directions, sampler=sampler(sweep))

    proposed: list[dict[str, Any]] = []

    def propose(trial: optuna.Trial) -> list[float]:
        proposed.append(drawn(trial, sweep))
        return [float(trial.number)] * len(directions)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study.optimize(propose, n_trials=REHEARSED)
    except Exception as error:
        raise BadInput(
            f"sweep.sampler: {sweep.sampler.name} cannot propose trials for these objectives and this space "
            f"({first_line(error)}): want another, such as TPESampler"
        ) from error
    return proposed


def words(method: Method) -> str:
    """A class with its arguments, as in `TPESampler(seed=0)`."""
    return f"{method.name}({assigned(method.args)})"


def _built(home: ModuleType, name: str, args: Mapping[str, Any], *, where: str) -> Any:
    known = {one: kind for one, kind in vars(home).items() if inspect.isclass(kind) and one in home.__all__}
    known = {one: kind for one, kind in known.items() if one not in ABSTRACT}
    if name not in known:
        hint = nearest(name, known, otherwise=f"want one of {', '.join(known)}")
        raise BadInput(f"{where}: Optuna has no {name!r}; {hint}")
    takes = inspect.signature(known[name]).parameters
    takes = {one: kind for one, kind in takes.items() if kind.kind is not kind.VAR_KEYWORD and one != "args"}
    for one in args:
        if one not in takes:
            hint = nearest(one, takes, otherwise=f"want {', '.join(takes) or 'none'}")
            raise BadInput(f"{where}: {name} takes no argument {one!r}; {hint}")
    inner = {one: _inner(value, where=f"{where}.args.{one}") for one, value in args.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return known[name](**inner)
    except Exception as error:
        raise BadInput(f"{where}: {name} does not take these arguments ({first_line(error)}): want others") from error


def _inner(value: Any, *, where: str) -> Any:
    """An argument that is a class of Optuna's itself, made; any other as it is."""
    if not isinstance(value, dict) or not {*value} <= {"name", "args"} or "name" not in value:
        return value
    homes = (samplers, pruners, samplers.nsgaii)
    home = next((one for one in homes if value["name"] in one.__all__), samplers)
    return _built(home, value["name"], value.get("args", {}), where=where)
