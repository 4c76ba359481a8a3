"""What a terminal shows of a run or a sweep while it goes on: the jobs that are trained now, how far the whole is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from common.errors import BadInput
from common.progress import under_way
from common.records import Asked, read_line, read_record
from common.steps import job_name
from common.unchanged import until_changed
from evals.results.metrics import metric_of, write_number
from evals.results.table import Row
from harness.standings import Standing, standings, trained_here
from harness.status import left, rate, summary, swept

NAME = 12  # characters that the name of a job keeps on a narrow terminal
GAP = 2  # characters between columns
BARS = 3  # bars of what a job does beside its steps
COLUMN = ("eval", "dataset", "split", "metric", "protocol_hash")


class Field(NamedTuple):
    """A column: its heading, and its cells by the names of jobs; where room is short, those of highest `rank` go first.

    What has rank 0 stays.
    """

    heading: str
    cells: Mapping[str, str]
    rank: int = 0

    @property
    def width(self) -> int:
        return max(Text(text).cell_len for text in (self.heading, *self.cells.values()))


class Shown:
    """What is shown of a run's folder, read from its files, and of the bars of this process.

    `ended` is the job that came to its end last since it is looked at.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.values = folder, Values(folder)
        self.ended: Standing | None = None
        self._states = dict[str, str]()

    def __call__(self, console: Console) -> RenderableType:
        """A line for each job that runs, one for the last that ended, and one that counts all of them."""
        return self.of(standings(self.folder, at={bar.of: int(bar.n) for bar in under_way() if bar.of}), console)

    def of(self, jobs: Sequence[Standing], console: Console) -> RenderableType:
        """The same of jobs as they stand."""
        self._look(jobs)
        begun = {bar.of for bar in under_way()}
        now = [job for job in jobs if job.state == "running" or (job.state == "waiting" and job.name in begun)]
        return drawn(now, self.ended, [summary(self.folder, jobs)], self.values.latest(), console)

    def _look(self, jobs: Sequence[Standing]) -> None:
        for job in jobs:
            before = self._states.get(job.name)
            if before not in (None, job.state) and job.state in ("done", "failed"):
                self.ended = job
            self._states[job.name] = job.state


class ShownSweep:
    """What is shown of a sweep's folder: the trials that this process trains, and how many came to an end."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.values = folder, Values(folder)

    def __call__(self, console: Console) -> RenderableType:
        """A line for each job that runs, and one that counts the trials."""
        now = [
            trained_here(self.folder, bar.of, step=int(bar.n), stop=int(bar.total or 0))
            for bar in under_way()
            if bar.of
        ]
        return drawn(now, None, swept(self.folder), self.values.latest(), console)


class Values:
    """The last value of each measure of each job in a table of results that grows; of what is added alone is read.

    Told are the measures that the experiment's report begins with, else the first that leads of each kind.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._read = folder, 0
        self._found = dict[tuple[str, ...], dict[str, Row]]()

    def latest(self) -> dict[tuple[str, ...], dict[str, Row]]:
        """The rows by column and by job."""
        with suppress(OSError), (self._folder / "results.jsonl").open("rb") as file:
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")[0]
            self._read += len(whole) + 1 if whole else 0
            for line in whole.splitlines():
                with suppress(ValueError, BadInput):  # torn, or of a metric that is not known here
                    row = read_line(line, Row)
                    metric_of(row.metric)
                    column = tuple(getattr(row, name) for name in COLUMN)
                    self._found.setdefault(column, {})[job_name(row.arm, row.seed)] = row
        return {column: self._found[column] for column in self._asked() if column in self._found}

    def _asked(self) -> list[tuple[str, ...]]:
        if asked := _headline(self._folder / "experiment.json"):
            return [tuple(column) for column in asked]
        first = dict[str, tuple[str, ...]]()
        for column in self._found:
            if (metric := metric_of(column[3])).leading:
                first.setdefault(metric.kind, column)
        return [*first.values()]


@until_changed()
def _headline(path: Path) -> list[list[str]]:
    asked = read_record(path, Asked, remedy="it is written anew") if path.exists() else {}
    return asked.get("headline", [])


def drawn(
    now: Sequence[Standing],
    ended: Standing | None,
    told: Sequence[str],
    values: Mapping[tuple[str, ...], Mapping[str, Row]],
    console: Console,
) -> RenderableType:
    """A table of jobs that fits the terminal, what they do beside their steps, and what is told of the whole.

    Args:
        now, ended: the jobs that run, and one that no longer does.
        values: rows of results by column and by the names of jobs.
    """
    width, height = console.size
    foot = [_coloured(line) for line in told]
    bars = [Text(f"  {bar}", style="dim", no_wrap=True, overflow="ellipsis") for bar in under_way() if not bar.of]
    last = [ended] if ended is not None and ended.name not in {job.name for job in now} else []
    taken = 1 + len(bars[:BARS]) + len(last) + sum(len(line.wrap(console, width)) for line in foot)
    count = len(now) if taken + len(now) < height else max(height - taken - 2, 0)
    more = [Text(f"and {len(now) - count} more that run", style="dim")] if count < len(now) else []
    jobs = [*now[:count], *last]
    table = [_table(fitted(fields(jobs, values), width), jobs, width)] if jobs else []
    return Group(*table, *more, *bars[:BARS], *foot)


def fields(jobs: Sequence[Standing], values: Mapping[tuple[str, ...], Mapping[str, Row]]) -> list[Field]:
    """What is shown of jobs, from left to right; a column without a cell is left out."""
    columns = [
        Field("job", {job.name: job.name for job in jobs}),
        Field("step", {job.name: f"{job.step}/{job.asked['stop']}" for job in jobs}),
        Field("steps/s", {job.name: rate(job) for job in jobs}, rank=1),
        Field("left", {job.name: _left(job) for job in jobs}),
    ]
    for (*_, name, _hash), rows in values.items():
        metric = metric_of(name)
        heading = " ".join(filter(None, [metric.label, "%" if metric.share else metric.unit]))
        found = {job.name: rows[job.name].value for job in jobs if job.name in rows}
        cells = {job: write_number(metric, value, like=value) for job, value in found.items()}
        columns.append(Field(heading, cells, rank=2))
    columns.append(Field("loss", {job.name: f"{job.loss:.3f}" for job in jobs if job.loss is not None}, rank=4))
    columns.append(Field("", {job.name: job.words for job in jobs if job.state == "running" and job.words}, rank=3))
    return [column for column in columns if column.cells]


def fitted(columns: Sequence[Field], width: int) -> list[Field]:
    """The columns for which a terminal has room beside the names of jobs, which may be cut."""
    found = [*columns]
    name = min(columns[0].width, max(NAME, width // 3))
    for column in sorted(columns, key=lambda one: one.rank)[::-1]:
        if column.rank and name + sum(GAP + one.width for one in found[1:]) > width:
            found.remove(column)
    return found


def _table(columns: Sequence[Field], jobs: Sequence[Standing], width: int) -> Table:
    name = max(width - sum(GAP + one.width for one in columns[1:]), 1)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    for number, column in enumerate(columns):
        table.add_column(column.heading, no_wrap=True, max_width=None if number else name)
    for job in jobs:
        cells = [Text(column.cells.get(job.name, "")) for column in columns]
        table.add_row(*cells, style={"done": "dim", "failed": "red"}.get(job.state, ""))
    return table


def _left(job: Standing) -> str:
    """How long a job takes yet, or why that is no question."""
    if job.state in ("done", "failed"):
        return job.state
    return "starts" if job.state == "waiting" else left(job)


def _coloured(line: str) -> Text:
    text = Text(line)
    text.highlight_regex(r"\d+ failed", "red")
    return text
