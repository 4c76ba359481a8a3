"""The trade-off of experiments in one plane: a colour for each name of an arm, a line style for each experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from reports.across.sides import Measure, Side, leads
from reports.page import TOP, TRUNK_LOOK, Look, Page, legend, looks, new_page
from reports.paths import Path, paths
from reports.run_folder import TRUNK
from reports.tradeoff import draw_panels

STYLES: tuple[tuple[Any, str], ...] = (
    ("-", "o"), ((0, (5, 1.6)), "s"), ((0, (1.3, 1.2)), "^"), ((0, (6, 1.4, 1.2, 1.4)), "P"), ((0, (9, 2)), "v"),
)  # fmt: skip


def tradeoff(every: Sequence[Side], found: Sequence[Measure]) -> Page | None:
    """The page; None where the experiments share no global or no dense measure, or no step has both."""
    across, up = leading(every, found, "global"), leading(every, found, "dense")
    if across is None or up is None:
        return None
    rest = [measure for measure in found if measure.column.metric != up.column.metric and leads(measure)]
    second = leading(every, rest, "dense")
    lanes, arm_looks = _lanes(every), _looks(every)
    ways = {
        measure.column: [way for side in every for way in _ways(side, across, measure, lanes=lanes, looks=arm_looks)]
        for measure in (up, second)
        if measure is not None
    }
    if not ways[up.column]:
        return None
    page = new_page("Dense against global quality over training", _caption(every, across), size=9.5)
    drawn = {way.lane for way in ways[up.column]}
    shown = [(f"{arm}, {side.name}", arm_looks[side, arm]) for (side, arm), lane in lanes.items() if lane in drawn]
    trunk = [("trunk", TRUNK_LOOK)] if TRUNK in drawn else []
    y = legend(page, max(TOP + 0.7, page.head + 0.1), trunk + shown, size=10.0) + 0.03
    events = {lane: side.run.events.get(arm, ()) for (side, arm), lane in lanes.items()}
    draw_panels(page, ways, across=across.column, events=events, y=y)
    return page


def leading(every: Sequence[Side], found: Sequence[Measure], kind: Literal["global", "dense"]) -> Measure | None:
    """The measure that most experiments have, of these one that they name themselves, of these the first."""

    def weight(measure: Measure) -> tuple[int, bool]:
        having = [side for side in every if measure in side.measures]
        return len(having), any(measure.column.place in side.run.headline for side in having)

    return max((one for one in found if one.column.kind.kind == kind), key=weight, default=None)


def _lanes(every: Sequence[Side]) -> dict[tuple[Side, str], str]:
    """What each arm is called in the plane: with its experiment where another one has an arm of that name."""
    names = [arm for side in every for arm in side.run.arms]
    return {
        (side, arm): arm if names.count(arm) == 1 else f"{arm}, {side.name}" for side in every for arm in side.run.arms
    }


def _looks(every: Sequence[Side]) -> dict[tuple[Side, str], Look]:
    first = every[0].run
    colours = looks([*dict.fromkeys(arm for side in every for arm in side.run.arms)], first.baseline)
    styles = {side: STYLES[place % len(STYLES)] for place, side in enumerate(every)}
    return {
        (side, arm): replace(colours[arm], dash=styles[side][0], marker=styles[side][1])
        for side in every
        for arm in side.run.arms
    }


def _ways(
    side: Side,
    across: Measure,
    up: Measure,
    *,
    lanes: Mapping[tuple[Side, str], str],
    looks: Mapping[tuple[Side, str], Look],
) -> list[Path]:
    """The paths of an experiment; trunks, which nobody asks for, are all one."""
    if across not in side.measures or up not in side.measures:
        return []
    own = {arm: looks[side, arm] for arm in side.run.arms}
    found = paths(side.run, across.column, up.column, arm_looks=own)
    return [replace(way, lane=lanes.get((side, way.lane), TRUNK)) for way in found]


def _caption(every: Sequence[Side], across: Measure) -> str:
    names = ", ".join(side.name for side in every)
    return (
        f"{names}. Right: better for the whole image ({across.column.title}). Up: better for its parts. "
        "Marks grow and darken with the step; mean over seeds. Of up to six arms thin lines are seeds, pale crosses "
        "95 % intervals."
    )
