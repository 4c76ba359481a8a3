"""A data set in a YAML file of its own: the keys of `evals.sets.NAME`, with `root` counted from the file's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from common import yaml_file
from common.errors import BadInput, first_line
from common.schema import filled
from evals.datasets.catalogue import KINDS, KNOWN, kind_of
from evals.datasets.labelled_set import Needs
from evals.datasets.layouts.shards.places import is_address
from evals.datasets.settings import Set


def is_set_file(given: str | Path) -> bool:
    """Whether a path is meant as a set's file and not as its folder."""
    return Path(given).suffix.lower() in (".yaml", ".yml") and not Path(given).is_dir()


def read_set(path: str | Path, *, called: str, split: str, needs: Needs = "images") -> Set:
    """The settings of a set's file. Where it is silent the split is `split`; kind and classes are those of the known
    set `called`, and the kind of any other is what its folder looks like (`kind_of`).

    Raises:
        BadInput: a file that is no mapping of such settings, all faults at once.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise BadInput(f"got no file {path}: want a set's YAML with kind and root, or its folder; correct the path")
    plain = yaml_file.read(path)
    if isinstance(root := plain.get("root"), str):
        root = _filled_in(root, path)
        plain["root"] = root if is_address(root) else str(path.parent / Path(root).expanduser())
    known = KNOWN.get(called)
    silent: dict[str, Any] = {"split": split}
    if known and plain.get("kind", known.kind) == known.kind:
        silent |= {"kind": known.kind, "classes": list(known.classes) if known.classes else None}
    elif isinstance(plain.get("root"), str) and not is_address(plain["root"]):
        silent["kind"] = kind_of(Path(plain["root"]), needs)
    elif "kind" not in plain:
        raise BadInput(f"{path}: got neither kind nor root: want kind: one of {', '.join(KINDS)}, and the set's root")
    return filled(Set, {**silent, **plain}, where=str(path))


def _filled_in(root: str, path: Path) -> str:
    """With `${oc.env:VARIABLE}` replaced."""
    try:
        return OmegaConf.create({"root": root}).root
    except OmegaConfBaseException as error:
        raise BadInput(f"{path}: got root {root} ({first_line(error)}): want a folder; set the variable") from error
