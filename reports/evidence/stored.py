"""Experiments as their tables in a folder tell them: what `reports/tables.py` wrote, read back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import BadInput, first_line, nearest
from evals.results.table import Row
from reports.parts import Part
from reports.run_folder import TRUNK, Run
from reports.tidy import JOBS, MACHINE, RESULTS, VERDICTS

WRITE = "write it by `gramlab tables RUN --out {folder}`"


@dataclass(frozen=True)
class Stored:
    """The tables of one experiment as data frames, sorted as docs/tables.md says."""

    name: str
    results: pd.DataFrame
    verdicts: pd.DataFrame
    jobs: pd.DataFrame

    @cached_property
    def run(self) -> Run:
        """The run as far as tables tell it: rows, arms, seeds, which lane forks from which; no curves, no files."""
        lanes = self.jobs.sort_values(["place", "seed"])
        arms = [arm for arm in lanes["arm"].unique() if arm != TRUNK]
        trunk = lanes[lanes["arm"] == TRUNK]
        baseline = lanes[lanes["baseline"]]["arm"]
        seeds = tuple(int(seed) for seed in sorted(lanes["seed"].unique()))
        return Run(
            folder=Path(),
            name=self.name,
            arms=tuple(arms),
            seeds=seeds,
            asked_seeds=seeds,
            baseline=next(iter(baseline), arms[0]),
            rows=tuple(_rows(self.results)),
            steps=_whole(lanes[["stop", "step"]].max(axis=None)),
            trunk_steps=_whole(trunk["stop"].max()) or 0,
            summaries=dict(zip(lanes["arm"], lanes["summary"], strict=True)),
            environment={name: lanes[name].iloc[0] for name in MACHINE},
            parts=dict(_parts(lanes)),
        )


class Shelf:
    """A folder that holds one of its own for each experiment; tables are read when they are asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.experiment = cache(self._experiment)

    @property
    def names(self) -> list[str]:
        """The experiments whose tables are there."""
        return sorted(path.parent.name for path in self.folder.glob("*/results.parquet"))

    def _experiment(self, name: str) -> Stored:
        """Raises BadInput where there are no tables of the name, or they are no tables of this version."""
        if not self.folder.is_dir():
            raise BadInput(f"got no folder {self.folder}: want that of tables; {WRITE.format(folder=self.folder)}")
        if name not in self.names:
            known = f"known: {', '.join(self.names)}" if self.names else WRITE.format(folder=self.folder)
            do = nearest(name, self.names, otherwise=known)
            raise BadInput(f"got no tables of {name} in {self.folder}: want the name of an experiment; {do}")
        kinds = {"results": RESULTS, "verdicts": VERDICTS, "jobs": JOBS}
        return Stored(name, **{kind: _read(self.folder / name, kind, schema) for kind, schema in kinds.items()})


def _read(folder: Path, kind: str, schema: pa.Schema) -> pd.DataFrame:
    path, do = folder / f"{kind}.parquet", WRITE.format(folder=folder.parent)
    if not path.is_file():
        raise BadInput(f"got no file {path}: want the tables of an experiment together; {do}")
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise BadInput(f"{path} cannot be read ({first_line(error, 80)}): want what was written; {do}") from error
    if lost := [name for name in schema.names if name not in table.column_names]:
        raise BadInput(f"{path} has no column {lost[0]}: want the tables of this version; {do}")
    return table.to_pandas()


def _rows(results: pd.DataFrame) -> Iterator[Row]:
    named: Any = results.rename(columns={"experiment": "run"})[[field.name for field in fields(Row)]]
    return (Row(**values) for values in named.to_dict("records"))


def _parts(jobs: pd.DataFrame) -> Iterator[tuple[tuple[str, int], Part]]:
    found = jobs[["arm", "seed", "start", "stop", "parent", "segment"]]
    for arm, seed, start, stop, parent, segment in found.itertuples(index=False):
        forked, known = (value if isinstance(value, str) else None for value in (parent, segment))
        yield (arm, seed), Part(start, _whole(stop), forked, known)


def _whole(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)
