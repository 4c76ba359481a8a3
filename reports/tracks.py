"""Runs as their checkpoints: a row a step, a column a measure, with those of the trunk that an arm came from."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.estimates import Column, columns, of_column
from reports.lineage import on_way
from reports.run_folder import Run

LABELLED = ("dense", "global")
Frame = Any  # of pandas, a table or a column: its stubs cannot tell the one from the other


@dataclass(frozen=True)
class Track:
    """An arm with a seed, on its way from step 0: `values` [steps, columns], each column a `Column`.

    Every column is taken by its better, or healthy, side: its sign is changed where lower values are that. Checkpoints
    after step `fork` are its own, those up to it are of the trunk or arm that it forks from. NaN where a checkpoint
    lacks a measure.
    """

    experiment: str
    arm: str
    seed: int
    fork: int
    values: Frame

    def columns(self, *kinds: str) -> list[Column]:
        """What was measured of these kinds: "health" needs no labels, "dense" and "global" do."""
        return [column for column in self.values.columns if column.kind.kind in kinds]


def tracks(run: Run, *, since: int = 1) -> list[Track]:
    """The track of each arm and seed that has checkpoints of its own; of arms that are one training, the first.

    since: the first step that counts. An untrained network, at step 0, is no zero point of any sign of health
    (docs/health.md); of a run that continues a trained one, 0 is its first.
    """
    found: dict[Hashable, Track] = {}
    for arm in run.arms:
        for seed in run.seeds:
            values = _values(run, arm, seed)
            values, part = values[values.index >= since], run.part(arm, seed)
            if len(values) and values.index.max() > part.start:
                trained = (part.segment, values.index.max()) if part.segment else (arm, seed)
                found.setdefault(trained, Track(run.name, arm, seed, part.start, values))
    return list(found.values())


def _values(run: Run, arm: str, seed: int) -> Frame:
    series: dict[Any, dict[int, float]] = {}
    for column in columns(run):
        way = on_way(run, of_column(run, column), arm, seed)
        series[column] = {row.step: column.direction * row.value for row in way}
    return pd.DataFrame(series, dtype=float).sort_index()
