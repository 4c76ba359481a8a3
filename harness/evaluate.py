"""Evaluations while training: the exported backbone through `evals`, rows into the results table."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from common.disk import checksum, write_json
from common.errors import BadInput, NonFiniteFeatures, NonFiniteWeights
from common.machine import pick_device
from common.ranks import Ranks, device_of, joined
from common.records import read_record
from evals import suite
from evals.backbones.addresses import load
from evals.backbones.exported import CARD
from evals.datasets.settings import open_one
from evals.features.shelf import Shelf, Subject, shared
from evals.one_task import TaskSpec
from evals.pictures.recorder import Images, Recorder
from evals.results import outcomes, table
from evals.results.table import Measurement, Row
from evals.tasks.methods import protocol_of
from harness.config import identity
from harness.job import Job
from harness.job_folder import is_done, kept_steps, saved_step
from harness.kept import Fault
from harness.orders import Evaluation
from harness.pictures import Pictures, Taken
from harness.settings import Experiment
from harness.step import NonFinite

log = logging.getLogger("gramlab")
Tasks = dict[str, TaskSpec]


@dataclass(frozen=True)
class Mark:
    """`evaluated-….json` of a step: by which evaluations, the files of outcomes with their SHA-256, and all rows.

    Rows name neither run nor arm, since a segment may serve several.
    """

    identity: str
    outcomes: dict[str, str]
    rows: list[Row]


class Evaluator:
    """Evaluates jobs of one experiment on the sets of its settings, which are opened once.

    Called with a job, a step and the folder of the exported backbone; appends rows to `results.jsonl`, leaves
    per-image outcomes and what pictures are drawn from in the folder, and returns values by "eval/dataset/metric". A
    step that was evaluated by the same protocols on the same sets is skipped, once rows that the table has lost are in
    it again.

    Raises:
        BadInput: `results.jsonl` is no file. Its damaged lines, which `lost` tells, are left as they are.
    """

    def __init__(self, experiment: Experiment, folder: Path):
        self.experiment = experiment
        self.table = folder / "results.jsonl"
        found = table.read(self.table)
        self.damaged, self.known = found.told(), {row.identity: table.line(row) for row in found.rows}
        self.tasks = open_tasks(experiment)
        self.told: set[str] = set()
        evals = experiment.evals
        tasks = [[name, t.protocol.hash(), _content(t)] for name, t in self.tasks.items()]
        self.identity = identity(evals.network, tasks)
        self.pictures = Pictures(self.tasks, evals.pictures, evaluations=self.identity)

    def __call__(self, job: Job, step: int, folder: Path) -> dict[str, float]:
        if self.holds(job, folder):
            return {}
        if not (folder / CARD).is_file():
            log.warning("%s cannot be evaluated again, since it holds no weights; what it holds is kept", folder)
            return {}
        found, taken = self.measure(step, folder)
        self.pictures.keep(folder, taken)
        kept = outcomes.save_outcomes(self.outcomes(folder), found)
        rows = table.latest(m.row(run="", arm="", seed=job.seed, step=step) for m in found)
        self.add(self.named(job, rows))
        mark = {"outcomes": {path.name: checksum(path) for path in kept}, "rows": [table.plain(row) for row in rows]}
        write_json(self.mark(folder), {"identity": self.identity, **mark})
        values = {f"{m.eval}/{m.dataset}/{m.metric}": m.value for m in found}
        told = "  ".join(f"{k} {v:.3f}" for k, v in values.items()) or "exported; no evaluation is asked for"
        log.info("%s step %d: %s", job.name, step, told)
        self._tell(found)
        return values

    def mark(self, folder: Path) -> Path:
        """The file that says that a step was evaluated as this experiment asks."""
        return folder / f"evaluated-{self.identity}.json"

    def outcomes(self, folder: Path) -> Path:
        """Where what each image contributed lies: apart from that of other experiments' sets of the same name."""
        return folder / "outcomes" / self.identity

    def named(self, job: Job, rows: Iterable[Row]) -> list[Row]:
        """Rows of a segment as those of this experiment's arm."""
        return [replace(row, run=self.experiment.name, arm=job.arm) for row in rows]

    def holds(self, job: Job, folder: Path) -> bool:
        """Whether a step was evaluated as now and all that this left is there, its rows in the table again."""
        mark = read_mark(self.mark(folder))
        if mark is None or mark.identity != self.identity:
            return False
        rows = self.named(job, mark.rows)
        files = {self.outcomes(folder) / name: digest for name, digest in mark.outcomes.items()}
        if lost := [row for row in rows if row.identity not in self.known]:
            self.add(lost)
            log.info("%s: %s was measured before; %d of its %d rows added", job.name, folder, len(lost), len(rows))
        changed = [self.table] if self.unlike(rows) else []
        changed += [one for one, digest in files.items() if not one.is_file() or checksum(one) != digest]
        if changed:
            log.warning("%s: not as it was when %s was evaluated; evaluating again", changed[0], folder)
        return not changed

    def gathered(self, job: Job, folder: Path) -> bool:
        """Whether a step was evaluated as this experiment asks, by whatever process; its rows are in the table then."""
        mark = read_mark(self.mark(folder))
        if mark is not None:
            self.add(self.named(job, mark.rows))
        return mark is not None

    def lost(self, jobs: Iterable[Job], broken: Sequence[Fault] = ()) -> list[str]:
        """What is damaged in the table, and which of its steps have no weights and get none, a line each.

        broken: what the plan tells of itself, much of which is made again.
        """
        told = [f"{line}; what is missing is made again" for line in self.damaged]
        for job in jobs:
            steps = {step for _, arm, seed, step, *_ in self.known if (arm, seed) == (job.arm, job.seed)}
            again = {fault.step for fault in broken if fault.job.name == job.name and fault.start is not None}
            passed = job.stop if is_done(job) else saved_step(job)  # training makes what comes after it again
            if gone := sorted({step for step in steps - again if step <= passed} - {*kept_steps(job, holding=CARD)}):
                listed = ", ".join(map(str, gone))
                told.append(
                    f"{job.folder} has no weights of step {listed}: their rows in {self.table} stand as they are"
                )
        return told

    def add(self, rows: Iterable[Row]) -> None:
        """Put rows into the table that it does not hold to the last digit, as far as this process knows.

        Those that another one has put there meanwhile then stand there twice, alike: whoever reads it takes one.
        """
        if new := self.unlike(rows):
            table.append(self.table, new)
            self.known |= {row.identity: table.line(row) for row in new}

    def unlike(self, rows: Iterable[Row]) -> list[Row]:
        """Those rows that the table does not hold to the last digit."""
        return [row for row in rows if self.known.get(row.identity) != table.line(row)]

    def _tell(self, found: list[Measurement]) -> None:
        """What of the truth was there to be judged, in the log once: it is the same at each step."""
        for m in found:
            for note in (f"{m.eval} on {m.dataset}/{m.split}: {note}" for note in m.notes):
                if note not in self.told:
                    log.info("%s", note)
                self.told.add(note)

    def measure(self, step: int, folder: Path) -> tuple[list[Measurement], Taken | None]:
        """All tasks on an exported backbone, by all processes, and what is kept of it for pictures.

        Raises `NonFinite` when its weights or features are not finite.
        """
        ranks, images = joined(), self.pictures.images
        if ranks.world > 1:
            ranks.agreed(Evaluation(self.experiment, self.identity, folder, torch.get_num_threads()))
        try:
            with examined(self.experiment, lambda: (self.tasks, images), folder, ranks) as (found, recorder, shelf):
                return found, self.pictures.taken(recorder, shelf.subject.backbone, shelf)
        except (NonFiniteFeatures, NonFiniteWeights) as error:  # this network's fault, and no other's
            raise NonFinite(f"step {step}: {error}") from error


@contextmanager
def examined(
    experiment: Experiment, opened: Callable[[], tuple[Tasks, Images]], folder: Path, ranks: Ranks
) -> Iterator[tuple[list[Measurement], Recorder, Shelf]]:
    """All tasks on an exported backbone, measured by processes that call this alike; the first one has what they gave,
    with the features on a shelf of its own."""
    tasks, images = ranks.made(opened)
    backbone = ranks.made(lambda: load(str(folder), device=device_of(pick_device(experiment.device))))
    own = Subject(backbone, batch_size=experiment.evals.batch_size, ranks=ranks)
    recorder = Recorder(images)
    shown = {"watch": recorder.watch, "wants": recorder.wants, "watched": images.watched}
    with shared(own, folder / "features") as subject:
        shelf = Shelf(subject)
        yield suite.evaluate(subject, tasks, shelf=shelf, **shown), recorder, shelf.alone()


def read_mark(path: Path) -> Mark | None:
    """What `evaluated-….json` says; None where there is none, or one that is damaged or older than its rows."""
    try:
        return read_record(path, Mark, remedy="evaluating again") if path.exists() else None
    except BadInput as error:
        log.warning("%s", error)
        return None


def _content(task: TaskSpec) -> list[str]:
    return [dataset.fingerprint() for dataset in (task.train_set, task.test_set) if dataset is not None]


def open_tasks(experiment: Experiment) -> dict[str, TaskSpec]:
    """The evaluations of an experiment, their sets opened.

    Raises:
        BadInput: a missing set, tasks that names and counts show to be impossible, masks that may be
            misread.
    """
    cache, sets, faults = Path(experiment.runtime.cache), {}, []
    for name, one in experiment.evals.sets.items():
        try:
            sets[name] = open_one(name, one, cache=cache)
        except BadInput as error:
            faults.append(f"evals.sets.{name}: {error}")
    if faults:
        raise BadInput("\n".join(faults))
    own = {"size": experiment.evals.size, "precision": experiment.precision}
    tasks = {
        name: suite.paired(replace(protocol_of(task.protocol), **own), sets.get(task.train), sets[task.test])
        for name, task in experiment.evals.tasks.items()
    }
    suite.refuse_unfit(tasks, where="evals.tasks.")
    suite.refuse_misread(tasks)
    return tasks
