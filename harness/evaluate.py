"""Evaluations while training: the exported backbone through `evals`, rows into the results table."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from common.disk import read_json, write_json
from common.errors import BadInput, NonFiniteFeatures, NonFiniteWeights
from common.machine import pick_device
from evals import suite
from evals.backbones.addresses import load
from evals.datasets.settings import open_one
from evals.features.shelf import Subject
from evals.results import outcomes, table
from evals.results.table import Measurement
from evals.tasks.methods import protocol_of
from harness.config import identity
from harness.graph import Job
from harness.settings import Experiment
from harness.step import NonFinite

log = logging.getLogger("gramlab")


class Evaluator:
    """Evaluates jobs of one experiment on the sets of its settings, which are opened once.

    Called with a job, a step and the folder of the exported backbone; appends rows to `results.jsonl`, leaves
    per-image outcomes in the folder, and returns values by "eval/dataset/metric". A step that was evaluated by the
    same protocols on the same sets is skipped.
    """

    def __init__(self, experiment: Experiment, folder: Path):
        self.experiment = experiment
        self.table = folder / "results.jsonl"
        self.tasks = open_tasks(experiment)
        self.told: set[str] = set()
        evals = experiment.evals
        tasks = [[name, t.protocol.hash(), _content(t)] for name, t in self.tasks.items()]
        self.identity = identity(evals.network, tasks)

    def __call__(self, job: Job, step: int, folder: Path) -> dict[str, float]:
        mark = folder / "evaluated.json"
        if was_evaluated(mark, self.identity):
            return {}
        found = self.measure(step, folder)
        outcomes.save_outcomes(folder / "outcomes", found)
        run = self.experiment.name
        table.append(self.table, [m.row(run=run, arm=job.arm, seed=job.seed, step=step) for m in found])
        write_json(mark, {"identity": self.identity})
        values = {f"{m.eval}/{m.dataset}/{m.metric}": m.value for m in found}
        log.info("%s step %d: %s", job.name, step, "  ".join(f"{k} {v:.3f}" for k, v in values.items()))
        self._tell(found)
        return values

    def _tell(self, found: list[Measurement]) -> None:
        """What of the truth was there to be judged, in the log once: it is the same at each step."""
        for m in found:
            for note in (f"{m.eval} on {m.dataset}/{m.split}: {note}" for note in m.notes):
                if note not in self.told:
                    log.info("%s", note)
                self.told.add(note)

    def measure(self, step: int, folder: Path) -> list[Measurement]:
        """All tasks on an exported backbone. Raises `NonFinite` when its weights or features are not finite."""
        evals = self.experiment.evals
        try:
            backbone = load(str(folder), device=pick_device(self.experiment.device))
            return suite.evaluate(Subject(backbone, batch_size=evals.batch_size), self.tasks)
        except (NonFiniteFeatures, NonFiniteWeights) as error:  # this network's fault, and no other's
            raise NonFinite(f"step {step}: {error}") from error


def was_evaluated(mark: Path, identity: str) -> bool:
    """Whether `evaluated.json` names these evaluations; a damaged one names none, so that they are made again."""
    try:
        return mark.exists() and read_json(mark, remedy="remove it").get("identity") == identity
    except BadInput as error:
        log.warning("%s; evaluating again", error)
        return False


def _content(task: suite.TaskSpec) -> list[str]:
    return [dataset.fingerprint() for dataset in (task.train_set, task.test_set) if dataset is not None]


def open_tasks(experiment: Experiment) -> dict[str, suite.TaskSpec]:
    """The evaluations of an experiment, their sets opened.

    Raises:
        BadInput: a missing set or protocol, tasks that names and counts show to be impossible, masks that may be
            misread.
    """
    cache, sets, faults = Path(experiment.runtime.cache), {}, []
    for name, one in experiment.evals.sets.items():
        with _told(faults, f"evals.sets.{name}"):
            sets[name] = open_one(name, one, cache=cache)
    protocols = {}
    for name, task in experiment.evals.tasks.items():
        with _told(faults, f"evals.tasks.{name}.protocol={task.protocol}"):
            protocols[name] = protocol_of(task.protocol)
    if faults:
        raise BadInput("\n".join(faults))
    own = {"size": experiment.evals.size, "precision": experiment.precision}
    tasks = {
        name: suite.paired(replace(protocols[name], **own), sets.get(task.train), sets[task.test])
        for name, task in experiment.evals.tasks.items()
    }
    suite.refuse_unfit(tasks, where="evals.tasks.")
    suite.refuse_misread(tasks)
    return tasks


@contextmanager
def _told(faults: list[str], path: str) -> Iterator[None]:
    """Takes down what is wrong inside, with the path of the setting it lies at."""
    try:
        yield
    except BadInput as error:
        faults.append(f"{path}: {error}")
