"""From a YAML file and `key=value` overrides to checked settings: Hydra composes, the schema refuses the unknown.

`hydra.main` takes no path as its argument, so the file is composed through Hydra's compose API. Its config groups are
the folders beside it, then those of the repository's `experiments/`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
import typing
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from common.errors import BadInput
from common.schema import filled
from harness.settings import Experiment

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
PROSE = ("name", "question", "source", "expected", "cost")
GRAPH = ("seeds", "steps", "arms", "baseline", "trunk")
MACHINERY = ("device", "evals", "runtime")


def load(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment of a YAML file with overrides applied.

    Raises:
        BadInput: what is wrong in it, all at once: in the experiment, or where that is sound in its arms and trunk.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"no experiment file {path}: want a YAML such as experiments/gram_ablation.yaml")
    where = " with ".join([path.name, *([" ".join(overrides)] if overrides else [])])
    experiment = filled(Experiment, _read(path, overrides, where=where), where=where)
    if not experiment.name:
        experiment = dataclasses.replace(experiment, name=path.stem)
    if not experiment.name.translate(str.maketrans("", "", "._- ")).isalnum():
        raise BadInput(f"name={experiment.name!r}: want letters, digits, '.', '_' and '-', since it names a folder")
    experiment = _shipped(experiment)
    _refuse_parts(experiment)
    return experiment


def arm_settings(experiment: Experiment, arm: str) -> Experiment:
    """The settings of one arm: the experiment's, with the arm's dotted overrides."""
    return _overridden(experiment, experiment.arms[arm], where=f"arms.{arm}")


def trunk_settings(experiment: Experiment) -> Experiment:
    """The settings of the trunk: without Gram anchoring, with its own overrides, ending at the fork."""
    off = {"gram.weight": 0.0, **experiment.trunk.overrides}
    if experiment.trunk.steps:
        off = {"steps": experiment.trunk.steps, **off}
    return _overridden(experiment, off, where="trunk.overrides")


def science(settings: Experiment, *, data_fingerprint: str) -> dict[str, Any]:
    """Every setting that shapes a result, as plain data; neither machinery, nor paths, nor how long the run will be.

    Raises `BadInput` for a precision that is still `auto`, which is no precision.
    """
    if settings.precision == "auto":
        raise BadInput("precision=auto has no identity: want float32 or bfloat16; harness/choices.py settles it first")
    plain = {key: value for key, value in as_dict(settings).items() if key not in (*PROSE, *GRAPH, *MACHINERY)}
    if settings.gram.weight == 0:
        plain["gram"] = {"weight": 0.0}
    plain["data"] = {**plain["data"], "sources": data_fingerprint}
    return plain


def identity(*parts: Any) -> str:
    """A short hash of plain data."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def as_dict(settings: Any) -> Any:
    """Settings as plain data that JSON and YAML can hold."""
    if dataclasses.is_dataclass(settings):
        return {f.name: as_dict(getattr(settings, f.name)) for f in dataclasses.fields(settings)}
    if isinstance(settings, Mapping):
        return {str(key): as_dict(value) for key, value in settings.items()}
    if isinstance(settings, list | tuple):
        return [as_dict(value) for value in settings]
    return settings


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys; a key may be dotted already."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _shipped(experiment: Experiment) -> Experiment:
    """A weights file that is not where the command was given is looked for in the repository, which ships some."""
    trunk, root = experiment.trunk, EXPERIMENTS.parent
    if trunk.checkpoint is None or Path(trunk.checkpoint).is_file() or not (root / trunk.checkpoint).is_file():
        return experiment
    found = dataclasses.replace(trunk, checkpoint=str(root / trunk.checkpoint))
    return dataclasses.replace(experiment, trunk=found)


def _refuse_parts(experiment: Experiment) -> None:
    """Refuse what is wrong in the arms and in the trunk, all at once."""
    found = []
    for part in (*(partial(arm_settings, arm=arm) for arm in experiment.arms), trunk_settings):
        try:
            part(experiment)
        except BadInput as error:
            found.append(str(error))
    if found:
        raise BadInput("\n".join(found))


def _read(path: Path, overrides: Sequence[str], *, where: str) -> dict[str, Any]:
    """The file, its groups and the overrides as plain data."""
    parsed = _parse(overrides)
    groups = [o for o in parsed if _is_group(o.key_or_group, path.parent)]
    composed = _compose(path, [o.input_line for o in groups if o.input_line])
    try:
        for override in parsed:
            if override not in groups:
                _apply(composed, override)
        return _plain(composed)
    except OmegaConfBaseException as error:
        raise BadInput(f"{where}: {_one_line(error)}") from error


def _parse(overrides: Sequence[str]) -> list[Override]:
    for text in overrides:
        if "=" not in text and not text.startswith("~"):
            raise BadInput(f"got {text!r}: want key=value, for example steps=200")
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise BadInput(f"cannot read the overrides {' '.join(overrides)}: {_one_line(error)}") from error
    for override in parsed:
        if override.is_sweep_override():
            raise BadInput(
                f"got {override.input_line!r}: want one value; a list is written in brackets, as in seeds=[0,1]"
            )
    return parsed


def _is_group(key: str, folder: Path) -> bool:
    return any((base / key).is_dir() for base in (folder, EXPERIMENTS))


def _compose(path: Path, groups: list[str]) -> DictConfig:
    try:
        with initialize_config_dir(config_dir=str(path.parent.resolve()), version_base=None):
            search = [f"hydra.searchpath=[file://{EXPERIMENTS}]"]
            composed = compose(config_name=path.name, overrides=[*groups, *search])
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        raise BadInput(f"{path}: {_one_line(error)}") from error
    if not isinstance(composed, DictConfig):
        raise BadInput(f"{path}: want a mapping of settings at its top level")
    OmegaConf.set_struct(composed, False)
    return composed


def _apply(composed: DictConfig, override: Override) -> None:
    key, value = override.key_or_group, override.value()
    if key == "arms" and isinstance(value, list):
        for arm in value:
            _refuse_unknown_arm(composed, arm, key)
        composed["arms"] = {arm: composed["arms"][arm] for arm in value}
        if composed.get("baseline") not in value:
            composed["baseline"] = None
    elif key.startswith("arms.") and key.count(".") > 1:
        _, arm, setting = key.split(".", 2)
        _refuse_unknown_arm(composed, arm, key)
        composed["arms"][arm] = {**flatten(_plain(composed["arms"][arm], resolve=False)), setting: value}
    elif override.is_delete():
        parent, _, leaf = key.rpartition(".")
        node = OmegaConf.select(composed, parent) if parent else composed
        if not isinstance(node, DictConfig) or leaf not in node:
            raise BadInput(f"{override.input_line}: nothing to remove there")
        del node[leaf]
    else:
        OmegaConf.update(composed, key, value, force_add=True)


def _refuse_unknown_arm(composed: DictConfig, arm: Any, key: str) -> None:
    arms = composed.get("arms") or {}
    if arm not in arms:
        raise BadInput(f"{key}: no arm {arm!r}; known: {', '.join(arms)}; a new one belongs in the YAML file")


def _overridden(experiment: Experiment, overrides: Mapping[str, Any], *, where: str) -> Experiment:
    flat = flatten(overrides)
    if strange := [key for key in flat if set("[]") & set(key)]:  # OmegaConf would take evals[every] for evals.every
        raise BadInput(f"{where}: unknown setting {strange[0]!r}: want names with dots between, as gram.weight")
    shared = [key for key in flat if key.split(".")[0] in (*PROSE, *MACHINERY, *GRAPH) and key != "steps"]
    if shared:
        raise BadInput(f"{where}: {', '.join(shared)} belongs to the whole experiment: set it at the top level")
    config = DictConfig(as_dict(experiment))
    for key, value in flat.items():
        OmegaConf.update(config, key, value, force_add=True)
    return filled(Experiment, _plain(config), where=where)


def _plain(config: DictConfig | None, *, resolve: bool = True) -> dict[str, Any]:
    """A mapping of settings as plain data; None is an empty one."""
    return {} if config is None else typing.cast(dict[str, Any], OmegaConf.to_container(config, resolve=resolve))


def _one_line(error: BaseException) -> str:
    """The telling line of a library's message, with what to do where the library leaves that open."""
    variable = re.search(r"Environment variable '(\w+)' not found", str(error))
    if variable:
        return f"the environment variable {variable[1]} is not set: want the folder of the data; export it first"
    group = re.search(r"Could not override '(\S+)'. No match in the defaults list", str(error))
    if group:
        return f"{group[1]} is not among the file's defaults: add `- {group[1]}: ...` to them"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    start = next((i for i, line in enumerate(lines) if line.startswith("Available options")), None)
    if start is not None:
        known = itertools.takewhile(lambda line: not line.startswith("Config search path"), lines[start + 1 :])
        return f"{lines[0]}; known: {', '.join(known)}"
    key = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("full_key:")), "")
    return f"{key}: {lines[0]}" if key and key not in lines[0] else lines[0]
