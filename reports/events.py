"""What happened on the way: alarms, starts of the Gram loss, renewals of its teacher, forks of arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from common.drawing import text_width
from reports.page import INK, LEFT, RIGHT, SOFT, WARN, Page
from reports.paths import Path
from reports.run_folder import Event

Events = Mapping[str, Sequence[Event]]  # by lane
FRONT = {"color": "#d8d8d8", "linewidth": 4.5, "solid_joinstyle": "miter", "solid_capstyle": "butt", "zorder": 0.6}
MOST_UPDATES, APART = 8, 0.2  # marks per path; inches between two of them
KEY_SIZE = 9.0
_KEY = {
    **{"start": "start", "fork": "fork", "alarm": "alarm raised"},
    **{"gram_start": "Gram loss starts", "gram_update": "Gram teacher renewed"},
}
_MARKS: dict[str, dict] = {
    "start": {"marker": "o", "markersize": 6, "linestyle": "none"},
    "fork": {"marker": "o", "markersize": 13, "linestyle": "none"},
    "alarm": {"marker": "^", "markersize": 15, "linestyle": "none"},
    "gram_start": {"marker": "*", "markersize": 12, "linestyle": "none"},
    "gram_update": {"marker": "d", "markersize": 6, "linestyle": "none"},
}


def event_key(page: Page, events: Events, y: float, *, thinned: bool, front: bool = False) -> None:
    """What the markers mean, and the Pareto front where it is drawn, in a row 0.2 inches high."""
    axes = page.axes(LEFT, y, RIGHT - LEFT, 0.2)
    axes.set_axis_off()
    axes.set(xlim=(0, RIGHT - LEFT), ylim=(0, 1))
    x = 0.15
    happened = {event.kind for own in events.values() for event in own} | {"start"}
    for kind in (kind for kind in _KEY if kind in happened):
        text = _KEY[kind] + (" (not every time is marked)" if kind == "gram_update" and thinned else "")
        axes.plot([x], [0.5], **_MARKS[kind], **_paint(kind, SOFT))
        axes.text(x + 0.17, 0.46, text, fontsize=KEY_SIZE, color=SOFT, va="center")
        x += 0.62 + text_width(text, KEY_SIZE)
    if front:
        axes.plot([x - 0.1, x + 0.25], [0.5, 0.5], **FRONT)
        text = "Pareto front: no other evaluation beats it in both"
        axes.text(x + 0.37, 0.46, text, fontsize=KEY_SIZE, color=SOFT, va="center")


def draw_events(axes: Axes, events: Events, paths: Sequence[Path], *, small: bool) -> bool:
    """Mark the events on their paths, once the limits are set; returns whether renewals were left out."""
    shrink, thinned = 0.65 if small else 1.0, False
    for path in paths:
        own = events.get(path.lane, ())
        renewed = [spot for event in own if event.kind == "gram_update" and (spot := path.at(event.step))]
        shown = spread_out(axes, renewed)
        thinned |= len(shown) < len(renewed)
        _mark(axes, "gram_update", shown, path.look.colour, shrink=shrink)
        for kind in ("alarm", "gram_start"):
            spots = [spot for event in own if event.kind == kind and (spot := path.at(event.step))]
            _mark(axes, kind, spots, path.look.colour, shrink=shrink)
    forks = {path.at(event.step) for path in paths for event in events.get(path.lane, ()) if event.kind == "fork"}
    _mark(axes, "fork", [spot for spot in forks if spot], INK, shrink=shrink)
    first = min(paths, key=lambda path: path.steps[0])
    _mark(axes, "start", [(float(first.points[0, 0]), float(first.points[0, 1]))], first.look.colour, shrink=shrink)
    return thinned


def spread_out(axes: Axes, spots: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `MOST_UPDATES` of the places, evenly chosen, none nearer than `APART` to the one before."""
    if len(spots) > MOST_UPDATES:
        spots = [spots[place] for place in np.linspace(0, len(spots) - 1, MOST_UPDATES).round().astype(int)]
    kept: list[tuple[float, float]] = []
    for spot in spots:
        inches = axes.transData.transform(np.array([*kept, spot])) / axes.figure.dpi
        if not kept or np.hypot(*(inches[:-1] - inches[-1]).T).min() >= APART:
            kept.append(spot)
    return kept


def _mark(axes: Axes, kind: str, spots: Sequence[tuple[float, float]], colour: str, *, shrink: float) -> None:
    look = {**_MARKS[kind], "markersize": _MARKS[kind]["markersize"] * shrink}
    for x, y in spots:
        axes.plot([x], [y], **look, **_paint(kind, colour))


def _paint(kind: str, colour: str) -> dict:
    if kind == "gram_start":
        return {"markerfacecolor": colour, "markeredgecolor": "white", "markeredgewidth": 0.6, "zorder": 9}
    if kind == "alarm":
        return {"markerfacecolor": "none", "markeredgecolor": WARN, "markeredgewidth": 1.2, "zorder": 8.5}
    if kind == "fork":
        return {"markerfacecolor": "none", "markeredgecolor": INK, "markeredgewidth": 1.0, "zorder": 8}
    return {"markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 1.1, "zorder": 8}


def draw_front(axes: Axes, points: np.ndarray, *, right: bool) -> None:
    """A pale stair along the Pareto front [k, 2], from the left: what lies on its worse side is beaten by a corner.

    right: whether better is to the right.
    """
    if len(points) < 2:
        return
    x, y = points.T
    axes.step(x, y, where="pre" if right else "post", **FRONT)
