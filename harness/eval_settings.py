"""Settings of the evaluations of a run: on which images, by which protocols, how often, of which network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Le

from common.bounds import (
    About,
    Batch,
    Count,
    Label,
    Natural,
    Pixels,
)
from common.errors import BadInput
from common.schema import settings
from evals.datasets.settings import Set
from evals.tasks.methods import protocol_of

Role = Literal["teacher", "student"]


@settings
class EvaluationTask:
    """An evaluation: a task or protocol, and two of `evals.sets`; what looks at test images alone needs one."""

    protocol: Annotated[
        str,
        About(
            "a task, a protocol or a `.yaml` file; a task such as `knn` means its quick protocol, `linear-code` is a "
            "protocol ([evaluations.md](evaluations.md))"
        ),
    ] = "knn"
    train: Annotated[
        str, About("the name in `evals.sets` that the head is fitted on; `health` and `clustering` need none")
    ] = ""
    test: Annotated[str, About("the name in `evals.sets` that is scored")] = ""

    def conflicts(self) -> Iterator[str]:
        """A protocol that there is not, or whose file cannot be meant."""
        try:
            protocol_of(self.protocol)
        except BadInput as error:
            yield f"protocol={self.protocol!r}: {' '.join(str(error).split())}"


@settings
class Evals:
    """When and on what the frozen features are judged."""

    every: Annotated[
        Count, About("steps between evaluations; the last step is always evaluated, step 0 too where there is no fork")
    ] = 100
    size: Annotated[
        Pixels, About("short side of the input in pixels, a multiple of the patch; part of the protocol's hash")
    ] = 224
    batch_size: Annotated[Batch, About("images of a forward pass")] = 64
    pictures: Annotated[
        Natural,
        Le(256),
        About(
            "how many test images, evenly spread over the sets, are kept of each evaluation for pictures of their "
            "features and predictions ([pictures.md](pictures.md)); 0 keeps none"
        ),
    ] = 12
    network: Annotated[
        Role, About("whose backbone is exported and evaluated; `teacher` (EMA) or `student`", "DINOv3 §6")
    ] = "teacher"
    sets: dict[Label, Set] = field(default_factory=dict)
    tasks: dict[Label, EvaluationTask] = field(default_factory=dict)

    def conflicts(self) -> Iterator[str]:
        """Tasks on sets that there are not, and tasks whose rows could not be told apart."""
        known = ", ".join(self.sets) or "none yet"
        for name, task in self.tasks.items():
            if task.train and task.train not in self.sets:
                yield f"tasks.{name}.train={task.train!r}: want one of evals.sets: {known}"
            if task.test not in self.sets:
                yield f"tasks.{name}.test={task.test!r}: want one of evals.sets: {known}"
        found = [task for task in self.tasks.values() if task.test in self.sets]
        targets = Counter(f"{task.protocol} on {self.sets[task.test].name or task.test}" for task in found)
        for target in (target for target, times in targets.items() if times > 1):
            yield (
                f"tasks: two of them are {target}, so rows could not be told apart: want test sets with names of their "
                "own"
            )
