"""Optuna's samplers and pruners by name, with arguments that are checked."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import ModuleType
from typing import Any, Union

import numpy as np
import optuna
from optuna import pruners, samplers

from common.bounds import Flag, Real, Seed, Whole
from common.errors import BadInput, first_line, nearest
from common.schema import assigned, shown, wanted
from harness.sweep_settings import Method, Sampler, Sweep
from harness.sweeps.objectives import Direction
from harness.sweeps.space import drawn, is_of

REHEARSED = 3  # trials of a rehearsal
FEWEST_RANGES = 2  # with fewer CMA-ES has nothing to adapt
UNFIT = {  # what Optuna says of a sampler that cannot serve → in our words
    "multi-objective": "takes one objective: want one alone",
    "step must be given": "tries every value: want a step, or choices, in place of each range",
    "not found in the given grid": "has no values of some parameters: want each of sweep.space in search_space",
}
HOMES = {
    "BaseSampler": samplers,
    "BasePruner": pruners,
    "BaseCrossover": samplers.nsgaii,
    "BaseMutation": samplers.nsgaii,
}
KINDS = {"int": Whole, "float": Real, "bool": Flag, "str": str, "None": None}
ABSTRACT = {*HOMES, "BaseGASampler"}
ONE_SEED = {"QMCSampler"}  # its points are one sequence, which another seed would break off


def sampler(sweep: Sweep, *, before: int = 0) -> samplers.BaseSampler:
    """The sampler for the trial that follows `before` others.

    From its `seed` it has another one for each trial: else a worker that starts later would propose those of the first.
    Raises `BadInput` for an unknown class, an unknown argument, or one that it does not take.
    """
    name, args = sweep.sampler.name, dict(sweep.sampler.args)
    found = getattr(samplers, name, None)
    takes_seed = inspect.isclass(found) and "seed" in inspect.signature(found).parameters
    if takes_seed and (seed := args.get("seed", 0)) is not None:
        if not is_of(Seed, seed):
            raise BadInput(
                f"sweep.sampler.args.seed={shown(seed)}: want {wanted(Seed)}, or null for other trials each time"
            )
        args["seed"] = seed if name in ONE_SEED else int(np.random.SeedSequence([seed, before]).generate_state(1)[0])
    return _built(samplers, name, args, where="sweep.sampler")


def pruner(sweep: Sweep) -> pruners.BasePruner:
    """The pruner. Raises `BadInput` as `sampler` does."""
    return _built(pruners, sweep.pruner.name, sweep.pruner.args, where="sweep.pruner")


def rehearse(sweep: Sweep, directions: Sequence[Direction], *, before: int = 0) -> list[dict[str, Any]]:
    """The overrides of a few trials after `before` others, which are never trained.

    Raises `BadInput` where the sampler cannot serve here.

    Some samplers take one objective alone, some no conditions, some need another package: they tell when they are used.
    """
    ranges = [key for key, one in sweep.space.items() if one.choices is None and not one.only_if]
    if sweep.sampler.name == "CmaEsSampler" and len(ranges) < FEWEST_RANGES:
        raise BadInput(
            f"sweep.sampler: CmaEsSampler draws all but ranges at random, and has {len(ranges)} here: want "
            f"{FEWEST_RANGES} without only_if, or another sampler, such as {Sampler.name}"
        )
    study = optuna.create_study(directions=directions, sampler=sampler(sweep, before=before))
    proposed: list[dict[str, Any]] = []

    def propose(trial: optuna.Trial) -> list[float]:
        proposed.append(drawn(trial, sweep))
        return [float(trial.number)] * len(directions)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study.optimize(propose, n_trials=REHEARSED)
    except ImportError as error:
        raise BadInput(
            f"sweep.sampler: {sweep.sampler.name} needs the package {error.name}: want it installed, or another "
            f"sampler, such as {Sampler.name}"
        ) from error
    except Exception as error:
        why = next((ours for theirs, ours in UNFIT.items() if theirs in str(error)), f"fails ({first_line(error)})")
        raise BadInput(
            f"sweep.sampler: {sweep.sampler.name} {why}, or another sampler, such as {Sampler.name}"
        ) from error
    return proposed


def words(method: Method) -> str:
    """A class with its arguments, as in `TPESampler(seed=0)`."""
    return f"{method.name}({assigned(method.args)})"


def _built(home: ModuleType, name: str, args: Mapping[str, Any], *, where: str) -> Any:
    known = {one: kind for one, kind in vars(home).items() if inspect.isclass(kind) and one in home.__all__}
    known = {one: kind for one, kind in known.items() if one not in ABSTRACT}
    if name not in known:
        short = {re.sub("(Sampler|Pruner|Crossover|Mutation)$", "", one).lower(): one for one in known}
        near = [short[name.lower()]] if name.lower() in short else get_close_matches(name, known, n=1, cutoff=0.8)
        hint = f"did you mean {near[0]!r}?" if near else f"want one of {', '.join(known)}"
        raise BadInput(f"{where}: Optuna has no {name!r}; {hint}")
    takes = inspect.signature(known[name]).parameters
    takes = {one: kind for one, kind in takes.items() if kind.kind is not kind.VAR_KEYWORD and one != "args"}
    for one in args:
        if one not in takes:
            hint = nearest(one, takes, otherwise=f"want {', '.join(takes) or 'none'}")
            raise BadInput(f"{where}: {name} takes no argument {one!r}; {hint}")
    if lost := [one for one, kind in takes.items() if kind.default is kind.empty and one not in args]:
        raise BadInput(f"{where}: {name} needs {' and '.join(lost)}: want {where}.args.{lost[0]}")
    inner = {one: _inner(value, takes[one].annotation, where=f"{where}.args.{one}") for one, value in args.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return known[name](**inner)
    except Exception as error:
        got = assigned({one: value for one, value in args.items() if one != "seed"})
        raise BadInput(f"{where}: got {name}({got}): {first_line(error).rstrip('.')}; want other arguments") from error


def _inner(value: Any, annotation: Any, *, where: str) -> Any:
    """An argument that is a class of Optuna's itself, made; any other as it is, where it is of its kind."""
    kinds = str(getattr(annotation, "__name__", annotation)).split(" | ")
    if {*kinds} <= {*KINDS}:
        hint: Any = Union[tuple(KINDS[kind] for kind in kinds)]  # noqa: UP007 - of a tuple
        if not is_of(hint, value):
            raise BadInput(f"{where}={shown(value)}: want {wanted(hint)}")
        return value
    home = next((HOMES[kind] for kind in kinds if kind in HOMES), None)
    if value is None or (home is None and not kinds[0].startswith("Callable")):
        return value
    if home is None:
        raise BadInput(f"{where}={shown(value)}: want null, since a file holds no function")
    own = {"args": {}, **value} if isinstance(value, dict) else {}
    if {*own} != {"name", "args"} or not isinstance(own["name"], str) or not isinstance(own["args"], dict):
        raise BadInput(f"{where}={shown(value)}: want a class of Optuna's, as {{name: …, args: {{…}}}}")
    return _built(home, own["name"], own["args"], where=where)
