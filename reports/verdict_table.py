"""`verdicts.csv`: every difference from the baseline with its interval and verdict, a line each, for machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd

from reports.compared import Difference, Differences, foremost
from reports.run_folder import COLUMN_KEYS, Run
from reports.verdict_words import note, word

COLUMNS = (
    *("arm", "baseline", *COLUMN_KEYS, "at", "foremost", "budget", "step", "baseline_step", "seeds", "difference"),
    *("low", "high", "over", "baseline_value", "verdict", "margin", "p_different", "p_no_worse", "comparisons"),
    *("seeds_needed", "note"),
)


def verdict_table(run: Run, compared: Differences) -> pd.DataFrame:
    """A line for each arm, column and what is equal, in their order; p-values are corrected over `arms` (Holm)."""
    return pd.DataFrame([_line(run, compared, one) for one in compared.values()], columns=list(COLUMNS))


def _line(run: Run, compared: Differences, one: Difference) -> dict[str, Any]:
    judged = asdict(one.verdict) if one.verdict is not None else {}
    return {
        **{key: getattr(one.column, key) for key in COLUMN_KEYS},
        **{key: getattr(one, key) for key in ("arm", "budget", "step", "baseline_step", "seeds")},
        **{key: getattr(one, key) for key in ("low", "high", "over")},
        **{key: judged.get(key) for key in ("margin", "p_different", "p_no_worse", "comparisons", "seeds_needed")},
        "baseline": run.baseline,
        "at": one.measure,
        "foremost": one is foremost(run, compared, one.column, one.arm),
        "difference": one.value,
        "baseline_value": one.baseline,
        "verdict": word(one),
        "note": note(one),
    }
