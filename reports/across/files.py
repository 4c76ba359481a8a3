"""What a comparison of experiments writes: the trade-off as PDF and PNG, values, differences and settings as CSV."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd

from common.disk import whole
from reports.across.changes import Change, of_arm
from reports.across.picture import tradeoff
from reports.across.settings import Absent, Setting
from reports.across.sides import Measure, Side
from reports.compared import Difference, Differences
from reports.estimates import final
from reports.page import number_pages, style
from reports.pdf import PNG_DPI, as_pdf
from reports.run_folder import COLUMN_KEYS
from reports.verdict_words import note, word

VALUES = ("experiment", "folder", "arm", "baseline", *COLUMN_KEYS, "data", "higher_is_better", "unit", "step", "seeds")
VALUES += ("value", "low", "high", "over")
DIFFERENCES = (
    "experiment",
    "arm",
    "against",
    "against_arm",
    *COLUMN_KEYS,
    "data",
    "at",
    "step",
    "against_step",
    "seeds",
)
DIFFERENCES += ("against_seeds", "difference", "low", "high", "paired", "verdict", "note")
PICTURE = "tradeoff"


def write(
    folder: Path,
    every: Sequence[Side],
    found: Sequence[Measure],
    *,
    settings: Sequence[Setting],
    own: Mapping[str, Differences],
    changes: Sequence[Change],
) -> list[str]:
    """Write all files together, at the end; returns what was written. What lies there stays where that fails.

    A picture of an earlier comparison goes where there is nothing to draw.
    """
    tables = {
        "values.csv": values(every, found),
        "differences.csv": differences(every, found, own, changes),
        "settings.csv": settings_table(every, settings),
    }
    files = _pictures(every, found)
    files |= {name: table.to_csv(index=False, lineterminator="\n").encode() for name, table in tables.items()}
    with ExitStack() as together:
        for name, content in files.items():
            together.enter_context(whole(folder / name)).write_bytes(content)
    for name in (f"{PICTURE}.pdf", f"{PICTURE}.png"):
        if name not in files:
            (folder / name).unlink(missing_ok=True)
    none = (
        "" if len(files) > len(tables) else "; no picture, for no step has a shared global and a shared dense measure"
    )
    return [f"{folder}: {', '.join(files)}{none}"]


def _pictures(every: Sequence[Side], found: Sequence[Measure]) -> dict[str, bytes]:
    names, content = [side.name for side in every], io.BytesIO()
    with style():
        page = tradeoff(every, found)
        if page is None:
            return {}
        number_pages([page], " · ".join(names))
        pdf = as_pdf([page], title=", ".join(names), bar="trade-off")
        page.figure.savefig(content, dpi=PNG_DPI, metadata={"Software": None})
    return {f"{PICTURE}.pdf": pdf, f"{PICTURE}.png": content.getvalue()}


def values(every: Sequence[Side], found: Sequence[Measure]) -> pd.DataFrame:
    """A row for each measure, experiment and arm, at its last step; shares as fractions."""
    rows = [
        {"experiment": side.name, "folder": str(side.run.folder), "arm": arm, "baseline": arm == side.run.baseline}
        | _about(measure)
        | {name: getattr(estimate, name) for name in ("step", "seeds", "value", "low", "high", "over")}
        for measure in found
        for side in every
        for arm in side.run.arms
        if measure in side.measures and (estimate := final(side.run, measure.column, arm))
    ]
    return pd.DataFrame(rows, columns=list(VALUES))


def differences(
    every: Sequence[Side], found: Sequence[Measure], own: Mapping[str, Differences], changes: Sequence[Change]
) -> pd.DataFrame:
    """A row for each difference: of arms from the baseline of their experiment, then from the first experiment."""
    rows = [
        _own(side, measure, one)
        for measure in found
        for side in every
        for arm in side.run.others
        if measure in side.measures and (one := of_arm(own[side.name], measure, arm))
    ]
    return pd.DataFrame([*rows, *map(_crossed, changes)], columns=list(DIFFERENCES))


def _own(side: Side, measure: Measure, one: Difference) -> dict[str, Any]:
    return {
        **{"experiment": side.name, "arm": one.arm, "against": side.name, "against_arm": side.run.baseline},
        **_about(measure),
        **{"at": one.measure, "step": one.step, "against_step": one.baseline_step},
        **{"seeds": one.seeds, "against_seeds": one.seeds, "difference": one.value, "low": one.low, "high": one.high},
        **{"paired": one.over, "verdict": word(one), "note": note(one)},
    }


def _crossed(one: Change) -> dict[str, Any]:
    pair = one.pair
    return {
        **{"experiment": pair.side.name, "arm": pair.arm, "against": pair.other.name, "against_arm": pair.other_arm},
        **_about(one.measure),
        **{"at": "steps", "step": one.step, "against_step": one.step},
        **{"seeds": one.seeds, "against_seeds": one.other_seeds, "difference": one.value},
        **{"low": one.low, "high": one.high, "paired": "seeds" if one.how == "paired" else ""},
        "note": one.how if one.how in ("same training", "one seed") else "",
    }


def _about(measure: Measure) -> dict[str, Any]:
    column, kind = measure.column, measure.column.kind
    own = {key: getattr(column, key) for key in COLUMN_KEYS} | {"data": measure.data}
    return own | {"higher_is_better": kind.higher_is_better, "unit": "share" if kind.share else kind.unit}


def settings_table(every: Sequence[Side], found: Sequence[Setting]) -> pd.DataFrame:
    """A row for each setting that differs, in JSON; empty where an experiment has it not."""
    rows = [
        [one.kind, one.key, *("" if value is Absent else json.dumps(value) for value in one.values)] for one in found
    ]
    return pd.DataFrame(rows, columns=["kind", "setting", *(side.name for side in every)])
