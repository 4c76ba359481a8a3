"""What a run's folder says about itself, in the words of its files: what each holds, and how it is read back checked.

A newer version may have added keys: they do no harm. What is damaged is named, by file and line.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, Required, TypeVar

from annotated_types import Le
from pydantic import AllowInfNan, ConfigDict, Strict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from common.bounds import Natural, Whole
from common.disk import json_object, read_json
from common.errors import BadInput, first_line

T = TypeVar("T")
Step = Annotated[Natural, Le(10**9)]  # beyond any training; what is larger is damage, and would be counted up to
Number = Annotated[float, Strict()]  # a number itself, not text that stands for one
Finite = Annotated[Number, AllowInfNan(False)]
EQUAL_COMPUTE = "equal_compute"  # in place of an arm's number of steps: as many as cost what the baseline's cost
record = with_config(ConfigDict(extra="allow"))


@dataclass(frozen=True)
class Collapse:
    """A sign of collapse in a curve: the step at which it was told, from which step on it lasted until then, in which
    series, its value at `step`, and what that means."""

    step: Step
    since: Step
    series: str
    value: Finite
    words: str


@dataclass(frozen=True)
class Status:
    """`status.json` of a job: "done", "running", "failed" or "interrupted", "absent" where no file tells; how far the
    job is, how fast it went, what ended it early, the first sign of collapse in its curve, and the newest step whose
    state lies beside it, until it is done."""

    state: Annotated[str, Strict()] = "absent"
    step: Step | None = None
    steps: Step | None = None
    seconds: Finite | None = None
    images_per_second: Finite | None = None
    peak_memory_gib: Finite | None = None
    error: str | None = None
    collapse: Collapse | None = None
    saved: Step | None = None


@dataclass(frozen=True)
class BadStep:
    """A step that was passed over: its number, which is that of its batch, counted from 0; the terms that were not
    finite; and the images of the batch, by their files."""

    step: Step
    terms: list[str]
    images: list[str]


@dataclass(frozen=True)
class BadSteps:
    """`bad_steps.json` of a job, in the order in which they were found."""

    steps: list[BadStep]


@record
class CurvePoint(TypedDict, total=False, extra_items=Number | None):
    """A line of `metrics.jsonl`: the step that it speaks of, and every series by name."""

    step: Required[Step]
    images: Natural
    seconds: Finite
    loss: Number | None


@record
class Overrides(TypedDict, total=False):
    """What an arm or the trunk changes, by dotted keys."""

    precision: Literal["float32", "bfloat16", "auto"]


@record
class Arm(TypedDict, total=False):
    overrides: Overrides
    summary: str


@record
class Happening(TypedDict):
    """A fork, or a Gram teacher's start or renewal, in `events` and `dense.jsonl`; there also what was measured.

    `teacher` is the step of the EMA teacher that was chosen, where one is.
    """

    step: Step
    kind: str
    teacher: NotRequired[Step]
    value: NotRequired[Finite]


Compute = TypedDict("Compute", {"from": Step, "flops": Finite})  # operations of a step, from this one on


@record
class AskedJob(TypedDict):
    """The part of a segment that an arm with a seed is: from step `start`, where it forks from `parent`, to `stop`; it
    learns from the job `taught_by`, where that one trains its frozen teacher.

    Of its steps `forks` are those that arms fork from, `snapshots` those whose EMA backbone is anchored to. Those up to
    `found` lay in the store when the experiment first began, trained for another one.
    """

    segment: str
    start: Step
    stop: Step
    parent: str | None
    taught_by: NotRequired[str | None]
    forks: NotRequired[list[Step]]
    snapshots: NotRequired[list[Step]]
    found: NotRequired[Step]


@record
class LossTerm(TypedDict, total=False):
    title: str
    anchored: bool


@record
class Trunk(TypedDict, total=False):
    overrides: Overrides


@record
class Evaluated(TypedDict, total=False):
    network: str
    pictures: Whole
    tasks: dict[str, Any]


@record
class Settings(TypedDict, total=False):
    """Every setting, of which these are asked for again."""

    precision: Literal["float32", "bfloat16", "auto"]
    trunk: Trunk
    evals: Evaluated
    margins: dict[str, Finite]


@record
class Environment(TypedDict, total=False):
    threads: Natural


@record
class Asked(TypedDict, total=False):
    """`experiment.json`: what an experiment asked, its arms, and when things happen to them."""

    name: str
    question: str
    source: str
    expected: str
    cost: str
    baseline: str | None
    seeds: list[Whole]
    steps: Step
    trunk_steps: Step
    arms: dict[str, Arm]
    events: dict[str, list[Happening]]
    jobs: dict[str, AskedJob]
    compute: dict[str, list[Compute]]
    losses: dict[str, LossTerm]
    trained: dict[str, list[str]]
    chance: dict[str, Finite]
    headline: list[list[str]]
    evaluations: str
    config: Settings
    environment: Environment
    notes: list[str]


class Lines(NamedTuple, Generic[T]):
    """The sound rows of a table; and what is wrong with each other line, by its number, the file and line in front."""

    rows: list[T]
    damaged: dict[int, str]

    def told(self) -> list[str]:
        """That lines are left out, in one sentence that names the first of them; none where all are sound."""
        said = list(self.damaged.values())
        more = f", and {len(said) - 1} more" if len(said) > 1 else ""
        return [f"{said[0]}: left out{more}"] if said else []


def read_record(path: Path, kind: type[T], *, remedy: str) -> T:
    """What a JSON file holds. Raises `BadInput`, naming the file, what is wrong in it and the remedy."""
    content = read_json(path, remedy=remedy)
    try:
        return _as(kind, content)
    except ValueError as error:
        raise BadInput(f"{path} cannot be read ({error}): want what was written; {remedy}") from error


def read_lines(path: Path, kind: type[T]) -> Lines[T]:
    """The rows of a JSON-lines file, none where there is no file.

    Raises `BadInput` where something other than a file lies there, which nothing could be added to either.
    """
    refuse_no_file(path)
    found: Lines[T] = Lines([], {})
    for number, line in enumerate(path.read_bytes().split(b"\n") if path.exists() else (), 1):
        try:
            if line.strip():
                found.rows.append(read_line(line, kind))
        except ValueError as error:
            found.damaged[number] = f"{path}:{number}: {first_line(error)}"
    return found


def read_line(line: bytes, kind: type[T]) -> T:
    """One row. Raises ValueError that says why it is none."""
    return _as(kind, json_object(line))


def refuse_no_file(path: Path) -> None:
    """Raises `BadInput` where a folder or a link to nowhere has the name of a file that will be written."""
    if os.path.lexists(path) and not path.is_file():
        raise BadInput(f"{path} is no file: want the file that a run writes there; move away what has its name")


def _as(kind: type[T], content: Any) -> T:
    """The content once it is checked: as it stands, its keys in their order, or the instance of a dataclass."""
    try:
        found = _reader(kind).validate_python(content)
    except ValidationError as error:
        raise ValueError(_fault(error)) from error
    return content if isinstance(found, dict) else found


@functools.cache
def _reader(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _fault(error: ValidationError) -> str:
    """The first of all faults: where it is, what stands there, and what is wrong with it."""
    fault = error.errors(include_url=False)[0]
    place = ".".join(map(str, fault["loc"]))
    if fault["type"] == "missing":
        return f"{place} is missing"
    return f"{place}={first_line(repr(fault['input']), most=60)}: {fault['msg'][0].lower()}{fault['msg'][1:]}"
