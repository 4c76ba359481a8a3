"""From a YAML file and `key=value` overrides to checked settings, and what of them is a run's identity.

`layers` lays the file over its defaults, `overrides` applies the command line, OmegaConf fills in `${...}`, and the
schema refuses what cannot be meant.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
import typing
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from common.addresses import without_secrets
from common.bounds import NAME_BYTES, described, is_name
from common.errors import BadInput, listing
from common.schema import filled, shown
from harness.arms import WHOLE, Arm, dotted, expanded, read
from harness.backbones import released
from harness.crop_settings import VERSION
from harness.layers import EXPERIMENTS, composed, entries, groups
from harness.overrides import Change, apply, choose_arms, names_method, parsed, put
from harness.settings import Experiment

PROSE = ("name", "question", "source", "expected", "cost", "margins", "headline")
GRAPH = ("seeds", "steps", "arms", "largest_grid", "baseline", "trunk")
MACHINERY = ("device", "trackers", "evals", "runtime", "launcher", "sweep")
SHARED = (*PROSE, *GRAPH, *MACHINERY)  # what no arm has for itself, but for `steps`
UNREADABLE = ("unreadable", "unreadable_share")  # of `data`: whether a run stops at a file, not what it computes
# Settings that came after runs had been trained: at their default they are left out of the hash, so that those runs
# keep their names
ADDED = (
    *("data.homogeneous", "data.mixed", "data.augment", "crops.sizes", "crops.aspect_min", "crops.aspect_max"),
    *("crops.locals_within_globals", "crops.share_color_jitter", "ibot.mask_shift"),
    *("gram.weight_end", "gram.first_renewal", "gram.max_renewals", "gram.resize", "gram.antialias"),
    *("gram.student_from_gram_crop", "gram.start", "gram.alarm_drop", "gram.ring"),
    *("gram.measure", "gram.measure_every", "gram.measure_images", "gram.relation", "gram.temperature"),
    *("gram.tokens", "gram.form"),
    "dino.local_weight_start",
    *("optimizer.backbone_lr", "optimizer.freeze_backbone_steps", "optimizer.decay_tokens"),
    *("model.untie_local_cls_norm", "model.rope_precision", "koleo.crops", "koleo.group"),
)


def load(path: str | Path, overrides: Sequence[str] = (), *, arms: Sequence[str] | None = None) -> Experiment:
    """The experiment of a YAML file with overrides applied, and of its arms these alone where they are given.

    Raises:
        BadInput: what is wrong in it, all at once: in the experiment, or where that is sound in its arms and trunk.
    """
    path = Path(path)
    _refuse_no_file(path)
    told = shorten(" ".join(map(without_secrets, overrides)), 120, placeholder=" …")
    where = path.name + (f" with {told}" if told else "")
    experiment = filled(Experiment, _read(path, overrides, arms, where=where), where=where)
    if not experiment.name:
        experiment = dataclasses.replace(experiment, name=path.stem)
    if experiment.name != experiment.name.strip() or not is_name(experiment.name.replace(" ", "_")):
        want = f"want letters, digits, '.', '_' and '-', at most {NAME_BYTES} bytes, since it names a folder"
        raise BadInput(f"name={shown(experiment.name)}: {want}")
    experiment = _shipped(experiment)
    _refuse_parts(experiment)
    return experiment


def arm_settings(experiment: Experiment, arm: str) -> Experiment:
    """The settings of one arm: those of the arm that it forks from, else the experiment's, with its own overrides."""
    own = read_arm(experiment, arm)
    base = arm_settings(experiment, own.parent) if own.parent in experiment.arms else experiment
    return overridden(base, own.overrides, where=f"arms.{arm}")


def read_arm(experiment: Experiment, arm: str) -> Arm:
    """An arm as the file states it."""
    return read(experiment.arms[arm], trunk=experiment.trunk.steps > 0)


def trunk_settings(experiment: Experiment) -> Experiment:
    """The settings of the trunk: without Gram anchoring or a frozen teacher, with its own overrides, to the fork."""
    own = experiment.trunk.overrides
    if "steps" in own:
        raise BadInput(f"trunk.overrides.steps={shown(own['steps'])}: the trunk has trunk.steps: want it there alone")
    length = {"steps": experiment.trunk.steps} if experiment.trunk.steps else {}
    alone = {"gram.weight": 0.0, "distillation.teacher": None}
    return overridden(experiment, {**alone, **length, **own}, where="trunk.overrides")


def science(settings: Experiment, *, data_fingerprint: str) -> dict[str, Any]:
    """Every setting that shapes a result, as plain data; neither machinery, nor paths, nor how long the run will be.

    Raises `BadInput` for a precision that is still `auto`, which is no precision, and for released weights that cannot
    be read or do not fit.
    """
    if settings.precision == "auto":
        raise BadInput("precision=auto has no identity: want float32 or bfloat16; harness/choices.py settles it first")
    plain = {key: value for key, value in as_dict(settings).items() if key not in SHARED}
    plain["model"] = released.science(settings.model)
    for section, key in (name.split(".") for name in ADDED):
        if plain[section][key] == as_dict(_default(section, key)):
            del plain[section][key]
    plain["gram"] = {key: value for key, value in plain["gram"].items() if key not in settings.gram.unused()}
    if settings.crops.sizes is not None:
        _in_place_of_sides(plain)
    if settings.gram.weight == 0:
        plain["gram"] = {"weight": 0.0}
    if settings.distillation.teacher is None:
        del plain["distillation"]
    plain["data"] = {**plain["data"], "sources": data_fingerprint}
    for key in UNREADABLE:
        del plain["data"][key]
    plain["crops"] = {**plain["crops"], "version": VERSION}
    return plain


def _in_place_of_sides(plain: dict[str, Any]) -> None:
    """Leave out the sides that `crops.sizes` takes the place of, and of it those of Gram crops without a Gram loss."""
    del plain["crops"]["global_size"], plain["crops"]["local_size"]
    if plain["gram"]["weight"] == 0:
        for one in plain["crops"]["sizes"]:
            del one["gram_size"]
    elif all(one["gram_size"] for one in plain["crops"]["sizes"]):
        del plain["gram"]["resolution"]


@functools.cache
def _default(section: str, key: str) -> Any:
    return getattr(getattr(Experiment(), section), key)


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


def _refuse_no_file(path: Path) -> None:
    """A file that is not there is told with the nearest of those that are, a folder with the files in it."""
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
        beside = {file.stem: file for folder in (EXPERIMENTS, path.parent) for file in folder.glob("*.yaml")}
    except (OSError, ValueError):  # a name that no file system takes
        is_file, is_folder, beside = False, False, {}
    if is_folder:
        inside = sorted(file.name for file in path.glob("*.yaml"))
        raise BadInput(f"{path} is a folder: want an experiment file; in it: {', '.join(inside[:9]) or 'no .yaml'}")
    if not is_file:
        near = get_close_matches(path.stem, beside, n=1)
        hint = f"; did you mean {beside[near[0]]}?" if near else ""
        raise BadInput(f"no experiment file {path}: want a YAML such as experiments/gram_ablation.yaml{hint}")


def _shipped(experiment: Experiment) -> Experiment:
    """A weights file that is not where the command was given is looked for in the repository, which ships some."""
    trunk, root = experiment.trunk, EXPERIMENTS.parent
    if trunk.checkpoint is None or Path(trunk.checkpoint).is_file() or not (root / trunk.checkpoint).is_file():
        return experiment
    found = dataclasses.replace(trunk, checkpoint=str(root / trunk.checkpoint))
    return dataclasses.replace(experiment, trunk=found)


def _refuse_parts(experiment: Experiment) -> None:
    """Refuse what is wrong in the arms and in the trunk, all at once."""
    found = dict[str, dict[str, None]]()  # where, by what is wrong there: the arms of a grid share it
    for part in (*(partial(arm_settings, arm=arm) for arm in experiment.arms), trunk_settings):
        try:
            part(experiment)
        except BadInput as error:
            place, _, said = str(error).partition(": ")
            found.setdefault(said, {})[place] = None
    if found:
        raise BadInput("\n".join(f"{listing([*places])}: {said}" for said, places in found.items()))


def _read(path: Path, overrides: Sequence[str], names: Sequence[str] | None, *, where: str) -> dict[str, Any]:
    """The file, its groups and the overrides as plain data."""
    choices, added, rest = _chosen(path, parsed(overrides))
    plain = composed(path, choices, added=added)
    if "levels" in plain and "arms" not in plain:
        raise BadInput(f"got {path}, a curation: want an experiment, which has arms; or do gramlab curate {path}")
    chosen = list[Sequence[Any]]()  # arms, among all for which the grids stand
    for change in sorted(rest, key=lambda change: not names_method(change)):  # arguments belong to a name
        if change.key == "arms" and isinstance(change.value, list):
            chosen.append(change.value)
        else:
            apply(plain, change)
    plain = resolved(plain, where=where)
    if isinstance(given := plain.get("arms"), dict):
        most = _largest_grid(plain)
        plain["arms"] = expanded(given, most=most)
        grids = {name: [*expanded({name: own}, most=most)] for name, own in given.items()}
        for arms in (*chosen, *([names] if names is not None else [])):
            choose_arms(plain, arms, grids)
    return plain


def _largest_grid(plain: Mapping[str, Any]) -> int:
    """The limit where it is a number; what else stands there is refused with the file's other faults."""
    most = plain.get("largest_grid", Experiment().largest_grid)
    return most if isinstance(most, int) else 1


def _chosen(path: Path, changes: Sequence[Change]) -> tuple[dict[str, str | None], dict[str, str], list[Change]]:
    """The words that choose another file for a group of the defaults, those that add a group, and all others."""
    choices, added, rest = dict[str, str | None](), dict[str, str](), list[Change]()
    own = {entry.group for entry in entries(path)} - {""}
    known = {*groups(path.parent)} - {setting.key for setting in described(Experiment)}
    sections = {setting.key.partition(".")[0] for setting in described(Experiment)}
    for change in changes:
        group = change.key in own or change.key in known or "/" in change.key
        if group and change.removes:
            choices[change.key] = None
        elif group and isinstance(change.value, str):
            if change.adds:
                added[change.key] = change.value
            else:
                choices[change.key] = change.value
        elif change.key not in sections and (near := get_close_matches(change.key, known, n=1, cutoff=0.8)):
            raise BadInput(f"{change.text}: no setting and no group {change.key!r}; did you mean {near[0]!r}?")
        else:
            rest.append(change)
    return choices, added, rest


def is_shared(key: str) -> bool:
    """Whether a setting belongs to the whole experiment, so that no arm can change it."""
    return key.split(".")[0] in SHARED and key != "steps"


def overridden(experiment: Experiment, overrides: Mapping[str, Any], *, where: str) -> Experiment:
    """The settings with dotted overrides, checked as a whole. Raises `BadInput` whose lines begin with `where`."""
    flat = dotted(overrides)
    if strange := [key for key in flat if set("[]") & set(key)]:
        raise BadInput(f"{where}: unknown setting {strange[0]!r}: want names with dots between, as gram.weight")
    if idle := [key for key, value in flat.items() if value == {} and key not in WHOLE]:
        raise BadInput(f"{where}: {idle[0]}={{}} changes nothing, since mappings here add: leave it out")
    shared = [key for key in flat if is_shared(key)]
    if shared:
        raise BadInput(f"{where}: {', '.join(shared)} belongs to the whole experiment: set it at the top level")
    plain = as_dict(experiment)
    if flat.get("model.name", experiment.model.name) != experiment.model.name:
        plain["model"]["args"] = {}  # they belong to the other one
    for key, value in flat.items():
        put(plain, key, value)
    return filled(Experiment, plain, where=where)


def resolved(plain: dict[str, Any], *, where: str) -> dict[str, Any]:
    """The settings with `${oc.env:VARIABLE}` and `${other.setting}` replaced by what they stand for."""
    try:
        return typing.cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(plain), resolve=True))
    except (OmegaConfBaseException, RecursionError, ValueError, TypeError) as error:
        raise BadInput(f"{where}: {_told(error)}") from error


def _told(error: BaseException) -> str:
    """What is wrong with an interpolation, without the words of the library."""
    key = getattr(error, "full_key", None) or "a value"
    if variable := re.search(r"Environment variable '(\w+)' not found", str(error)):
        return f"{key}: the environment variable {variable[1]} is not set: want the folder of the data; export it first"
    if lost := re.search(r"Interpolation key '(.*?)' not found", str(error)):
        return f"{key}: ${{{lost[1]}}}: no such setting is given: want one of the file, or ${{oc.env:VARIABLE}}"
    if "recursi" in str(error).lower():
        return f"{key}: ${{...}} leads into itself: want a value at the end of it"
    return f"{key}: ${{...}} cannot be replaced by a value: want ${{oc.env:VARIABLE}} or ${{other.setting}}"
