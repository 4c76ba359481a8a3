"""What an experiment must train: one job per arm and seed, and the trunk that the arms of a seed fork from.

A job is a function of its starting state and its settings; `identity` names both, and neither machinery nor length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import BadInput, found
from evals.backbones.digest import content_of
from harness import gram_teacher
from harness.config import arm_settings, identity, science, trunk_settings
from harness.losses.table import LOSSES
from harness.settings import Data, Experiment

TRUNK = "trunk"
Fingerprint = Callable[[Data], str]


@dataclass(frozen=True)
class Job:
    """Train `arm` with `seed` from step `start` to `stop` in `folder`, from the end of `parent` or from the beginning.

    `snapshots` are steps whose EMA backbone must be kept because an arm anchors to it.
    """

    arm: str
    seed: int
    start: int
    stop: int
    folder: Path
    settings: Experiment
    science: dict[str, Any]
    parent: Job | None = None
    snapshots: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The job's folder name, which is unique in its experiment."""
        return self.folder.name

    @property
    def identity(self) -> str:
        """Hash of all that shapes the result."""
        return identity(self.science)


def jobs(experiment: Experiment, *, fingerprint: Fingerprint) -> list[Job]:
    """All jobs, a trunk before its arms. Raises `BadInput` for arms that do not fit the trunk."""
    base = Path(experiment.runtime.folder) / experiment.name
    found = []
    for seed in experiment.seeds:
        trunk = _trunk(experiment, seed, base, fingerprint) if experiment.trunk.steps else None
        found += [trunk] if trunk else []
        found += [_arm(experiment, arm, seed, base, trunk, fingerprint) for arm in experiment.arms]
    return found


def _trunk(experiment: Experiment, seed: int, base: Path, fingerprint: Fingerprint) -> Job:
    settings = trunk_settings(experiment)
    fork = experiment.trunk.steps
    grams = [arm_settings(experiment, arm).gram for arm in experiment.arms]
    early = {step for gram in grams if (step := gram_teacher.early_step(gram, fork)) is not None}
    shape = _science(settings, fingerprint) | {"seed": seed, "weights": _weights_hash(experiment)}
    return Job(TRUNK, seed, 0, fork, base / f"{TRUNK}-s{seed}", settings, shape, None, tuple(sorted(early)))


def _arm(experiment: Experiment, arm: str, seed: int, base: Path, trunk: Job | None, fingerprint: Fingerprint) -> Job:
    settings = arm_settings(experiment, arm)
    fork = trunk.stop if trunk else 0
    gram = settings.gram
    if trunk and gram.weight > 0 and gram.start_step < fork:
        raise BadInput(
            f"arms.{arm}: gram.start_step={gram.start_step} lies before the fork at trunk.steps={fork}: "
            "arms share the trunk until there; start at the fork or later"
        )
    if trunk:
        _refuse_other_shapes(arm, trunk.settings, settings)
    shape = _science(settings, fingerprint) | {
        "seed": seed,
        "parent": {"identity": trunk.identity, "step": fork} if trunk else None,
        "weights": None if trunk else _weights_hash(experiment),
    }
    return Job(arm, seed, fork, settings.steps, base / f"{arm}-s{seed}", settings, shape, trunk)


def _refuse_other_shapes(arm: str, trunk: Experiment, settings: Experiment) -> None:
    heads = [f"{name}.head" for name in LOSSES if hasattr(getattr(settings, name), "head")]
    for key in ("model.name", "model.args", *heads):
        section, leaf = key.split(".")
        if getattr(getattr(trunk, section), leaf) != getattr(getattr(settings, section), leaf):
            raise BadInput(
                f"arms.{arm}: {key} differs from the trunk's: arms fork with the trunk's weights; set it for all"
            )


def _science(settings: Experiment, fingerprint: Fingerprint) -> dict[str, Any]:
    """All that shapes a result, the content of a given Gram teacher in place of its path."""
    shape = science(settings, data_fingerprint=fingerprint(settings.data))
    return shape | {"gram": shape["gram"] | gram_teacher.content(settings.gram)}


def _weights_hash(experiment: Experiment) -> str | None:
    """Content of the weights that step 0 starts from, so that another file under the same name is another run."""
    if experiment.trunk.checkpoint is None:
        return None
    path = Path(experiment.trunk.checkpoint)
    if not path.is_file():
        raise BadInput(
            f"trunk.checkpoint={path}: no such file; want a .safetensors of weights, or null to start from random"
        )
    try:
        return content_of(path)[:16]
    except BadInput as error:
        raise BadInput(
            f"trunk.checkpoint={path}: {found(error)}: want weights that harness/export_trunk.py wrote, or null to "
            "start from random"
        ) from error
