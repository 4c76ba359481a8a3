"""What a page can be filled with of arms by their settings: gains by Gram anchoring, contour plots, laws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from common.errors import BadInput, nearest
from reports import words
from reports.estimates import Column, Estimate
from reports.evidence.asked import Asked, asked, parted, title, titled
from reports.evidence.atlas import KINDS, Law, Point, is_number, law, points, scale, settings_of
from reports.evidence.contour import figure
from reports.evidence.filled import Filled, file_name, plural, several, table
from reports.evidence.stored import Shelf

OF, ACROSS, UP, KEYS = "of:", "x:", "y:", "keys:"
SAYS = {
    "gain": "Gain by Gram anchoring: each arm with it minus the arm that is the same without it, above 0 where better",
    "fall": "Fall of arms without Gram anchoring from their peak, above 0 where they got worse",
}


class Wanted(NamedTuple):
    """What a block asks for: tables with columns and arms, the kind of value, and the keys of the settings."""

    asked: Asked
    kind: str
    keys: list[str]

    def points(self, column: Column) -> list[Point]:
        """Those in the arms that are asked for. Raises BadInput where there are none, or where a key is no number."""
        found = points(self.asked.tables, column, self.kind)
        found = [point for point in found if point.arm in self.asked.arms]
        if not found:
            want = {"gain": "arms with Gram anchoring that have an equal one without", "fall": "arms without it"}
            name, said = self.asked.tables.name, want[self.kind]
            raise BadInput(f"got no {self.kind} in {name}: want {said}, evaluated at a common step")
        for key, value in ((key, point.settings[key]) for point in found for key in self.keys):
            if not is_number(value):
                raise BadInput(f"got {key}: {value}: want numbers along an axis; name other settings, or other arms")
        return found


def gains(shelf: Shelf, given: Sequence[str]) -> Filled:
    """`EXPERIMENT METRIC... [arms: ARM...]`: what Gram anchoring gained over the arm that is the same without it."""
    got = Wanted(asked(shelf, given), "gain", [])
    found = [{point.arm: point for point in got.points(column)} for column in got.asked.columns]
    rows = []
    for arm in [arm for arm in got.asked.arms if any(arm in column for column in found)]:
        points = [column.get(arm) for column in found]
        first = next(point for point in points if point)
        cells = [_gained(column, point) for column, point in zip(got.asked.columns, points, strict=True)]
        rows.append([f"`{arm}`", f"`{first.over}`", *cells, words.count(first.step), str(first.seeds)])
    titles = [titled(got.asked.run, column, words.difference_unit(column)) for column in got.asked.columns]
    text = table(["arm", "over", *titles, "at step", "seeds"], rows)
    known = any(math.isfinite(point.low) for column in found for point in column.values())
    bounds = "brackets: 95 % intervals over seeds" if known else "one seed, so no interval"
    return Filled(f"{text}\n\n{SAYS['gain']}; {bounds}.")


def contour(shelf: Shelf, given: Sequence[str]) -> Filled:
    """`EXPERIMENT METRIC... of: gain|fall x: KEY y: KEY [arms: ARM...]`: a panel for each metric."""
    got = wanted(shelf, given, (ACROSS, UP))
    name = f"{got.asked.tables.name}/{file_name(given[1:])}.png"
    panels = [(column, got.points(column)) for column in got.asked.columns]
    across, up = got.keys
    measures = ", ".join(title(got.asked.run, column) for column in got.asked.columns)
    said = f"{SAYS[got.kind]}: {measures} over {across} and {up}"
    drawn = figure(got.asked.run, panels, across, up, kind=got.kind)
    return Filled(f"![{said}]({name})\n\n{SAYS[got.kind]}. {_basis(panels[0][1], across, up)}", {name: drawn})


def slopes(shelf: Shelf, given: Sequence[str]) -> Filled:
    """`EXPERIMENT METRIC... of: gain|fall keys: KEY... [arms: ARM...]`: what a doubling of each setting changes."""
    got = wanted(shelf, given, (KEYS,))
    rows = []
    for column in got.asked.columns:
        seen = got.points(column)
        found = law(seen, got.keys)
        if found is None:
            raise BadInput(
                f"got {plural(len(seen), 'point')} over {', '.join(got.keys)}: want more points than settings plus "
                "one, and settings that vary by themselves, numbers above 0; name fewer settings"
            )
        factor, digits, unit = scale(column, got.kind)
        rows.append([titled(got.asked.run, column, unit), *_cells(found, factor, digits), str(found.points)])
    doubled = [f"per doubling of `{key}`" for key in got.keys]
    text = table(["measure", "at the middle", *doubled, "error", "error of the mean alone", "points"], rows)
    said = (
        f"{SAYS[got.kind]}; a straight line in doublings of the settings, by least squares over the points. The middle "
        "is the geometric mean of the settings; brackets: 95 % intervals over residuals; error: root mean square "
        "at points that the line was fitted without."
    )
    return Filled(f"{text}\n\n{said}")


def wanted(shelf: Shelf, given: Sequence[str], places: Sequence[str]) -> Wanted:
    """The words of a block, those behind `of:` and behind the names in `places` taken out. Raises BadInput."""
    behind, rest = parted(given, (OF, *places))
    kind = " ".join(behind[OF])
    if kind not in KINDS:
        raise BadInput(f"got {OF} {kind or 'nothing'}: want one of {', '.join(KINDS)}")
    got = asked(shelf, rest)
    known = sorted({key for own in settings_of(got.tables).values() for key in own})
    keys = [key for place in places for key in behind[place]]
    for place in places:
        if len(behind[place]) != 1 and not (place == KEYS and behind[place]):
            raise BadInput(
                f"got {' '.join([place, *behind[place]])}: want a setting behind it; known: {', '.join(known)}"
            )
    for key in keys:
        if key not in known:
            do = nearest(key, known, otherwise=f"known: {', '.join(known) or 'none'}")
            raise BadInput(f"got setting {key}: want one in which arms of {got.tables.name} differ; {do}")
    return Wanted(got, kind, keys)


def _gained(column: Column, point: Point | None) -> str:
    if point is None:
        return words.NONE
    return words.difference(column, Estimate(point.value, point.low, point.high, 0, point.seeds, "seeds"))


def _cells(found: Law, factor: float, digits: int) -> list[str]:
    def said(value: float) -> str:
        return words.number(value * factor, digits, signed=True)

    doubled = [
        f"{said(slope)} [{said(slope - half)}, {said(slope + half)}]"
        for slope, half in zip(found.slopes, found.halves, strict=True)
    ]
    errors = [words.number(error * factor, digits) for error in (found.error, found.flat)]
    return [said(found.constant), *doubled, *errors]


def _basis(found: Sequence[Point], across: str, up: str) -> str:
    """Over how many points, seeds and other settings the picture was made."""
    places = {(point.settings[across], point.settings[up]) for point in found}
    seeds = several(sorted({point.seeds for point in found}))
    said = f"{plural(len(found), 'point')}, {plural(seeds, 'seed')} each"
    if len(places) < len(found):
        said += f"; at the {len(places)} places the mean over points that differ in other settings"
    return said + "."
