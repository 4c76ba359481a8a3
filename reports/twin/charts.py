"""The figures of the twin as Vega-Lite specifications, whose parameters are the reader's choices.

The page sets a parameter in every figure that has it; what follows from that is said here. Colours are variables of
the style sheet. docs/report.md tells why Vega draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports.twin.curves import Panel
from reports.twin.layers import (
    SEED_IS_ON,
    Spec,
    alone,
    band,
    events,
    fork_lines,
    front,
    interval,
    line,
    lines,
    look,
    marks_of,
    name_of_lit,
    now,
    plans,
    point,
    rows,
    ruler,
    shining,
    touched,
)
from reports.twin.looks import Lane
from reports.twin.measures import Field

FONT = 12  # pixels of all letters in figures
CHOICES: Spec = {"lit": None, "hidden": [], "hiddenSeeds": [], "upto": 0}  # what every figure listens to
_CONFIG: Spec = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "aria": False,  # a figure has one name, and its numbers are a click away
    "view": {"stroke": None},
    "axis": {
        **{"labelFontSize": FONT, "titleFontSize": FONT, "titleFontWeight": "normal", "labelLimit": 120},
        **{"labelColor": "var(--soft)", "titleColor": "var(--soft)", "gridColor": "var(--grid)"},
        **{"domainColor": "var(--rule)", "tickColor": "var(--rule)", "tickSize": 4, "titlePadding": 8},
        **{"labelOverlap": "greedy", "labelSeparation": 8, "tickCount": 5},
    },
    "text": {"fontSize": FONT},
}


def trade_off(lanes: Sequence[Lane], known: Sequence[Field], *, across: str, up: str, last: int) -> Spec:
    """Any measure against any other: a path for each lane, and where it is at the chosen step."""
    own = [{"name": "x", "value": across}, {"name": "y", "value": up}]
    own += [{"name": "across", "expr": "x"}, {"name": "up", "expr": "y"}, {"name": "last", "value": last}]
    layers = [
        front(),
        *lines(lanes),
        *events(lanes),
        *interval(lanes, "across"),
        *interval(lanes, "up"),
        now(lanes),
        name_of_lit(),
    ]
    return _plane(known, own, layers, turned=True, height=440)


def panel(lanes: Sequence[Lane], known: Sequence[Field], field: Field, *, forks: Sequence[int], last: int) -> Spec:
    """One measure over training: steps, images, FLOPs or hours."""
    own = [{"name": "along", "value": "step"}, {"name": "across", "expr": "along"}]
    own += [{"name": "up", "value": field.name}, {"name": "last", "value": last}]
    layers = [*marks_of(forks, field), band(lanes), *lines(lanes), *interval(lanes, "up"), now(lanes)]
    return _plane(known, own, layers, turned=False, height=220)


def curve(lanes: Sequence[Lane], shown: Panel, *, forks: Sequence[int], last: int) -> Spec:
    """A series of the training curve: the mean of a lane's seeds, smoothed, over each seed as it was logged."""
    scale: Spec = {"domain": shown.limits, "nice": False, **({"type": "log"} if shown.log else {"zero": False})}
    mean = rows(shown.sheet, "!isValid(datum.seed)")
    layers = [
        *plans(lanes, shown.plans),
        *fork_lines(forks),
        line(lanes, rows(shown.sheet, "isValid(datum.seed)", SEED_IS_ON), width=0.6, opacity=0.3),
        ruler("true"),
        line(lanes, mean, width=1.8, opacity=1.0),
        line(lanes, mean, width=14, opacity=0.0),
        touched(lanes, mean, title=shown.title),
        point(lanes, alone(mean), size=40),
    ]
    return {
        **_sized(170),
        "params": _params([{"name": "across", "value": "step"}, {"name": "up", "value": "value"}]),
        "encoding": {
            "x": _axis("X", title="step", form="~s", scale={"domain": [0, last], "nice": False}),
            "y": _axis("Y", title=None, form=None, scale=scale),
        },
        "layer": layers,
        "config": _CONFIG,
    }


def over_sizes(lanes: Sequence[Lane], sheet: str, sizes: Sequence[int]) -> Spec:
    """One measure over the input's size: a line for each lane, its marks with their intervals."""
    shown = rows(sheet)
    ends = {"x": {"field": "X", "type": "quantitative"}, "y": {"field": "low", "type": "quantitative"}}
    known = {**shown, "transform": [*shown["transform"], {"filter": "isValid(datum.low) && isValid(datum.high)"}]}
    bars = {**known, "mark": {"type": "rule", "strokeWidth": 3}, "encoding": {**ends, "y2": {"field": "high"}}}
    bars["encoding"] |= {"color": look(lanes, "color"), "opacity": shining(0.45)}
    tip = {"expr": "datum.arm + '\\n' + datum.size + ' pixels: ' + datum.said"}
    x = _axis("X", title="short side of the input, pixels", form=None, scale={"zero": False})
    x["axis"]["values"] = list(sizes)
    return {
        **_sized(220),
        "params": _params([{"name": "across", "value": "size"}, {"name": "up", "value": "value"}]),
        "encoding": {"x": x, "y": _axis("Y", title=None, form=None, scale={"zero": False})},
        "layer": [
            bars,
            line(lanes, shown, width=1.8, opacity=1.0, order="size"),
            point(lanes, shown, size=70, tooltip=tip),
        ],
        "config": _CONFIG,
    }


def _plane(known: Sequence[Field], own: list[Spec], layers: list[Spec], *, turned: bool, height: int) -> Spec:
    """`turned`: axes run towards what is better, and both bear their names, of which no title tells."""
    table = {one.name: {"title": one.title, "side": one.side, "reach": one.reach} for one in known}
    turn = {
        axis: {"expr": f"fields[{name}].side < 0"} if turned else False for axis, name in (("x", "across"), ("y", "up"))
    }
    names = [{"expr": f"fields[{name}].title"} for name in ("across", "up")]
    return {
        **_sized(height),
        "params": [*_params(own), {"name": "fields", "value": table}],
        "encoding": {
            "x": _axis("X", title=names[0], form="across", scale={"zero": False, "reverse": turn["x"]}),
            "y": _axis("Y", title=names[1] if turned else None, form="up", scale={"zero": False, "reverse": turn["y"]}),
        },
        "layer": layers,
        "config": _CONFIG,
    }


def _sized(height: int) -> Spec:
    return {"width": "container", "height": height, "autosize": {"type": "fit", "contains": "padding", "resize": True}}


def _params(own: Sequence[Spec]) -> list[Spec]:
    return [*({"name": name, "value": value} for name, value in CHOICES.items()), *own]


def _axis(field: str, *, title: Any, form: str | None, scale: Spec) -> Spec:
    said = {"labelExpr": "format(datum.value, '~s')"} if form == "~s" else {}
    if form in ("across", "up"):
        counted = f"fields[{form}].side === 0 && {form} !== 'hours'"  # a tenth of an hour is not "100m"
        said = {"labelExpr": f"{counted} ? format(datum.value, '~s') : datum.label"}
    return {"field": field, "type": "quantitative", "scale": scale, "axis": {"title": title, **said}}
