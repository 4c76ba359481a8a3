"""The rows of a run's tables: measured numbers, differences from the baseline, trained jobs; see docs/tables.md."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from common.records import Status
from evals.results.table import Row
from reports.compared import compare
from reports.estimates import kind_of
from reports.lane_settings import lane_settings
from reports.lineage import spent
from reports.parts import Line
from reports.run_folder import COLUMN_KEYS, Run
from reports.verdict_table import verdict_table

WORD, COUNT, NUMBER, ROUGH, YES = pa.string(), pa.int64(), pa.float64(), pa.float32(), pa.bool_()
PLACE = ["experiment", "arm", "seed"]
HOUR = 3600.0
MACHINE = ("device", "precision", "threads", "cpu", "cores", "memory_gib", "platform", "python", "torch", "timm")
MACHINE += ("numpy", "mmsegmentation", "gramlab", "git")

RESULTS = pa.schema(
    {
        **{"experiment": WORD, "arm": WORD, "seed": COUNT, "step": COUNT},
        **{"eval": WORD, "dataset": WORD, "split": WORD, "metric": WORD},
        **{"value": NUMBER, "low": ROUGH, "high": ROUGH, "images": COUNT},
        **{"higher_is_better": YES, "unit": WORD},
        **{"protocol": WORD, "protocol_hash": WORD, "size": COUNT, "data": WORD},
        **{"gram": YES, "hours": NUMBER, "flops": NUMBER, "segment": WORD, "code": WORD},
    }
)
VERDICTS = pa.schema(
    {
        **{"experiment": WORD, "arm": WORD, "baseline": WORD},
        **{"eval": WORD, "dataset": WORD, "split": WORD, "metric": WORD},
        **{"protocol": WORD, "protocol_hash": WORD, "size": COUNT},
        **{"at": WORD, "foremost": YES, "budget": NUMBER, "step": COUNT, "baseline_step": COUNT, "seeds": COUNT},
        **{"difference": NUMBER, "low": NUMBER, "high": NUMBER, "over": WORD, "baseline_value": NUMBER},
        **{"verdict": WORD, "margin": NUMBER, "p_different": NUMBER, "p_no_worse": NUMBER, "comparisons": COUNT},
        **{"seeds_needed": NUMBER, "note": WORD},
    }
)
JOBS = pa.schema(
    {
        **{"experiment": WORD, "arm": WORD, "seed": COUNT, "place": COUNT, "baseline": YES, "summary": WORD},
        "settings": WORD,
        **{"state": WORD, "start": COUNT, "stop": COUNT, "step": COUNT, "parent": WORD, "segment": WORD},
        **{
            "hours": NUMBER,
            "cpu_hours": NUMBER,
            "flops": NUMBER,
            "images_per_second": NUMBER,
            "memory_peak_gib": NUMBER,
        },
        **dict.fromkeys(MACHINE, WORD),
        **{"threads": COUNT, "cores": COUNT, "memory_gib": NUMBER},
    }
)


def measured(run: Run) -> pd.DataFrame:
    """The result rows of the run as they were written, in a stable order: `results.csv`."""
    ordered = sorted(
        run.rows, key=lambda row: tuple(getattr(row, key) for key in ("arm", "seed", "step", *COLUMN_KEYS))
    )
    return pd.DataFrame([asdict(row) for row in ordered])


def results(run: Run) -> pd.DataFrame:
    """A row for each number that was measured of the run's lanes, sorted."""
    used = {
        (lane, seed, measure): spent(run, lane, seed, measure)
        for lane in run.lanes
        for seed in run.asked_seeds
        for measure in ("seconds", "flops")
    }
    rows = [_result(run, row, used) for row in run.rows if row.arm in run.lanes]
    return pd.DataFrame(rows, columns=RESULTS.names).sort_values([*PLACE, "step", *COLUMN_KEYS], ignore_index=True)


def _result(run: Run, row: Row, used: Mapping[Any, Line | None]) -> dict[str, Any]:
    kind, place = kind_of(row.metric), (row.arm, row.seed)
    own = {name: getattr(row, name) for name in RESULTS.names if hasattr(row, name)}
    return own | {
        "experiment": run.name,
        "higher_is_better": kind.higher_is_better,
        "unit": "share" if kind.share else kind.unit,
        "gram": _gram(run, row),
        "hours": _at(used.get((*place, "seconds")), row.step) / HOUR,
        "flops": _at(used.get((*place, "flops")), row.step),
        "segment": run.part(*place).segment,
        "code": _code(run),
    }


def _gram(run: Run, row: Row) -> bool | None:
    """Whether the last step that was logged by then had a Gram loss; None where none was."""
    if row.step == 0:
        return False
    curve, terms = run.curves.get((row.arm, row.seed), {}), [name for name, term in run.losses.items() if term.anchored]
    logged = curve["step"].steps if "step" in curve else np.array([])
    if not (logged <= row.step).any():
        return None
    last = logged[logged <= row.step].max()
    return any(last in curve[name].steps for name in terms or ("gram",) if name in curve)


def _at(line: Line | None, step: int) -> float:
    """What was used by a step; NaN where no record reaches that far."""
    return float(np.interp(step, *line)) if line is not None and step <= line.steps[-1] else math.nan


def _code(run: Run) -> str:
    return " ".join(str(run.environment[name]) for name in ("gramlab", "git") if run.environment.get(name))


def verdicts(run: Run, against: Sequence[str] = ()) -> pd.DataFrame:
    """Every difference from the baseline, as `verdicts.csv` holds it, and from each arm of `against`, sorted.

    What is compared with one arm is corrected together, whatever else is compared with another one.
    """
    views = [replace(run, baseline=arm) for arm in dict.fromkeys((run.baseline, *against))]
    table = pd.concat([verdict_table(view, compare(view)) for view in views]).assign(experiment=run.name)
    by = [*COLUMN_KEYS, "at", "arm", "baseline"]
    return pd.DataFrame(table, columns=VERDICTS.names).sort_values(by, ignore_index=True)


def jobs(run: Run) -> pd.DataFrame:
    """A row for each lane and seed: what it is, how far it is, what it took, and on which machine."""
    settings = {lane: json.dumps(own, sort_keys=True) for lane, own in lane_settings(run).items()}
    rows = [
        _job(run, lane, seed, place) | {"settings": settings[lane]}
        for place, lane in enumerate(run.lanes)
        for seed in run.asked_seeds
    ]
    return pd.DataFrame(rows, columns=JOBS.names).sort_values(PLACE, ignore_index=True)


def _job(run: Run, lane: str, seed: int, place: int) -> dict[str, Any]:
    part, status = run.part(lane, seed), run.status.get((lane, seed), Status())
    hours = math.nan if status.seconds is None else status.seconds / HOUR
    on_cpu = run.environment.get("device") == "cpu"
    line = spent(run, lane, seed, "flops")
    return {
        **{"experiment": run.name, "arm": lane, "seed": seed, "place": place, "baseline": lane == run.baseline},
        **{"summary": run.summaries.get(lane, ""), "state": status.state, "start": part.start, "stop": part.stop},
        **{"step": status.step, "parent": part.parent, "segment": part.segment, "hours": hours},
        "cpu_hours": hours * (run.environment.get("threads") or math.nan) if on_cpu else math.nan,
        "flops": math.nan if status.step is None else _at(line, status.step) - _at(line, part.start),
        "images_per_second": status.images_per_second,
        "memory_peak_gib": status.peak_memory_gib,
        **{name: run.environment.get(name) for name in MACHINE},
    }
