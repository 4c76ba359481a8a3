"""The trade-off of experiments in one plane: a colour for each name of an arm, a line style for each experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from reports.across.sides import Measure, Side, leads
from reports.page import TOP, TRUNK_LOOK, Look, Page, legend, looks, new_page
from reports.paths import Path, paths
from reports.run_folder import TRUNK, Event
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
    arm_looks = _looks(every)
    ways = {
        measure.column: [way for side in every for way in _ways(side, across, measure, arm_looks)]
        for measure in (up, second)
        if measure is not None
    }
    if not ways[up.column]:
        return None
    page = new_page("Dense against global quality over training", _caption(every, across), size=9.5)
    shown = {way.lane: way.look for way in ways[up.column]}
    y = legend(page, max(TOP + 0.7, page.head + 0.1), [*shown.items()], size=10.0) + 0.03
    draw_panels(page, ways, across=across.column, events=_events(every), y=y)
    return page


def leading(every: Sequence[Side], found: Sequence[Measure], kind: Literal["global", "dense"]) -> Measure | None:
    """The measure that most experiments have, of these one that they name themselves, of these the first."""

    def weight(measure: Measure) -> tuple[int, bool]:
        having = [side for side in every if measure in side.measures]
        return len(having), any(measure.column.place in side.run.headline for side in having)

    return max((one for one in found if one.column.kind.kind == kind), key=weight, default=None)


def lane(side: Side, arm: str) -> str:
    """What an arm is called where those of other experiments are; trunks, which nobody asks for, are all one."""
    return TRUNK if arm == TRUNK else f"{arm}, {side.name}"


def _looks(every: Sequence[Side]) -> dict[str, Look]:
    first = every[0].run
    colours = looks([*dict.fromkeys(arm for side in every for arm in side.run.arms)], first.baseline)
    return {
        lane(side, arm): replace(
            colours[arm], dash=STYLES[place % len(STYLES)][0], marker=STYLES[place % len(STYLES)][1]
        )
        for place, side in enumerate(every)
        for arm in side.run.arms
    }


def _ways(side: Side, across: Measure, up: Measure, arm_looks: dict[str, Look]) -> list[Path]:
    if across not in side.measures or up not in side.measures:
        return []
    own = {arm: arm_looks[lane(side, arm)] for arm in side.run.arms}
    found = paths(side.run, across.column, up.column, arm_looks=own)
    return [replace(way, lane=lane(side, way.lane), look=own.get(way.lane, TRUNK_LOOK)) for way in found]


def _events(every: Sequence[Side]) -> dict[str, tuple[Event, ...]]:
    return {lane(side, arm): events for side in every for arm, events in side.run.events.items()}


def _caption(every: Sequence[Side], across: Measure) -> str:
    names = ", ".join(side.name for side in every)
    return (
        f"{names}. Right: better for the whole image ({across.column.title}). Up: better for its parts. "
        "Marks grow with the step; mean over seeds (thin: each). Pale crosses: 95 % intervals at the last step."
    )
