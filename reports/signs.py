"""Which signs of health are set against which labelled measures of a run, and their rank correlations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reports.estimates import Column, primary
from reports.ranks import correlations, pair
from reports.run_folder import Run
from reports.steady import moving
from reports.tracks import Frame, Track, tracks


@dataclass(frozen=True)
class Signs:
    """The checkpoints, by labelled measure the signs that they have beside it, and the table of `correlations`."""

    found: Sequence[Track]
    against: dict[Column, list[Column]]
    table: Frame

    def correlation(self, kind: str, sign: Column, column: Column) -> dict[str, float] | None:
        """Spearman's ρ as `value`, `low` and `high`; None where it cannot be had."""
        wanted = {"kind": kind, **pair(sign, column)}
        rows = self.table
        for key, value in wanted.items():
            rows = rows[rows[key] == value]
        rows = rows[rows["value"].notna()]
        return None if rows.empty else {key: float(rows.iloc[0][key]) for key in ("value", "low", "high")}


def signs_of(run: Run) -> Signs:
    """For mIoU, and for the dense measure that leads the report where it is another one, all signs that vary."""
    found = tracks(run)
    wanted = dict.fromkeys(filter(None, [primary(run, "dense", metric="miou"), primary(run, "dense")]))
    telling = [sign for sign in moving(run) if sign.kind.kind == "health" and _varies(found, sign)]
    table = correlations([replace(track, values=track.values[[*telling, *wanted]]) for track in found])
    against = {column: [sign for sign in telling if _both(found, sign, column)] for column in wanted}
    return Signs(found, {column: signs for column, signs in against.items() if signs}, table)


def _varies(found: Sequence[Track], sign: Column) -> bool:
    return len({value for track in found for value in track.values[sign].dropna()}) > 1


def _both(found: Sequence[Track], sign: Column, column: Column) -> bool:
    return any(len(track.values[[sign, column]].dropna()) for track in found)
