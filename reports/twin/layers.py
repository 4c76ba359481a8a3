"""The layers that figures of the twin are made of: paths, places, intervals and marks, as Vega-Lite has them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from common.timeline import Curve as Planned
from reports.run_folder import TRUNK
from reports.timeline import corners
from reports.twin.looks import Lane
from reports.twin.measures import EVENTS, Field
from reports.twin.sheets import plain_value, rounded

Spec = dict[str, Any]

MOST_TOUCHED = 40  # places of a curve that tell their value
IS_LIT = "lit === null || lit === datum.arm"
SEED_IS_ON = "indexof(hiddenSeeds, datum.seed) < 0"
TOLD = (
    "datum.arm + '\\nstep ' + datum.step_said + "
    "(across === 'step' ? '' : '\\n' + fields[across].title + ': ' + datum[across + '_said']) + "
    "(up === 'step' ? '' : '\\n' + fields[up].title + ': ' + datum[up + '_said'])"
)
_DOTTED: Spec = {"type": "rule", "stroke": "var(--rule)", "strokeDash": [2, 3]}
_WHOLE_HEIGHT: Spec = {"y": {"value": 0}, "y2": {"value": {"expr": "height"}}}


def rows(data: str, *where: str) -> Spec:
    """The rows of a sheet that have both measures, of lanes that are switched on, with their place X, Y in the plane.

    Each layer says so itself: what a figure says of all its rows does not reach layers that name their own.
    """
    places = {"X": "datum[across]", "Y": "datum[up]"}
    kept = ["indexof(hidden, datum.arm) < 0", "isValid(datum.X) && isValid(datum.Y)", *where]
    transform = [
        *({"calculate": place, "as": name} for name, place in places.items()),
        *({"filter": one} for one in kept),
    ]
    return {"data": {"name": data}, "transform": transform}


def _then(chosen: Spec, *more: Spec) -> Spec:
    """The rows with more steps of transformation behind."""
    return {**chosen, "transform": [*chosen["transform"], *more]}


def _latest(*more: Spec) -> Spec:
    """Of each lane the last row up to the chosen step."""
    ends = {"joinaggregate": [{"op": "max", "field": "step", "as": "end"}], "groupby": ["arm"]}
    return _then(rows("means", "datum.step <= upto"), ends, {"filter": "datum.step === datum.end"}, *more)


def alone(chosen: Spec) -> Spec:
    """Those rows of which a lane has no other, which no line shows."""
    count = {"joinaggregate": [{"op": "count", "as": "points"}], "groupby": ["arm"]}
    return _then(chosen, count, {"filter": "datum.points === 1"})


def look(lanes: Sequence[Lane], channel: str) -> Spec:
    ranges = {
        "color": [f"var(--{one.variable})" for one in lanes],
        "strokeDash": [one.dash or [1, 0] for one in lanes],
        "shape": [one.mark for one in lanes],
    }
    scale = {"domain": [one.name for one in lanes], "range": ranges[channel]}
    return {"field": "arm", "type": "nominal", "scale": scale, "legend": None}


def shining(opacity: float) -> Spec:
    return {"condition": {"test": IS_LIT, "value": opacity}, "value": 0.12 * opacity}


def line(lanes: Sequence[Lane], chosen: Spec, *, width: float, opacity: float, order: str = "step") -> Spec:
    """Rows joined by step, a line for each lane and seed; `width` in pixels. One of opacity 0 is there to be met."""
    return {
        **chosen,
        "mark": {"type": "line", "strokeWidth": width, "clip": True, "strokeJoin": "round"},
        "encoding": {
            "color": look(lanes, "color"),
            "strokeDash": look(lanes, "strokeDash"),
            "opacity": shining(opacity) if opacity else {"value": 0},
            "detail": [{"field": "seed"}],
            "order": {"field": order, "type": "quantitative"},
        },
    }


def lines(lanes: Sequence[Lane]) -> list[Spec]:
    """Single seeds, the way of each lane's mean, the part of it up to the chosen step, and what a pointer meets."""
    means = rows("means")
    return [
        line(lanes, rows("singles", SEED_IS_ON), width=0.7, opacity=0.4),
        line(lanes, means, width=1.4, opacity=0.35),
        line(lanes, rows("means", "datum.step <= upto"), width=2.4, opacity=1.0),
        line(lanes, means, width=16, opacity=0.0),
        point(lanes, means, size={"expr": "14 + 50 * datum.step / max(last, 1)"}, tooltip={"expr": TOLD}),
    ]


def point(lanes: Sequence[Lane], chosen: Spec, *, size: Any, **mark: Any) -> Spec:
    """A mark of its lane for each row; `size` in square pixels, `mark` as Vega-Lite has it."""
    edge = {"stroke": "var(--paper)", "strokeWidth": 0.6}
    return {
        **chosen,
        "mark": {"type": "point", "filled": True, "size": size, **edge, **mark},
        "encoding": {"color": look(lanes, "color"), "shape": look(lanes, "shape"), "opacity": shining(1.0)},
    }


def now(lanes: Sequence[Lane]) -> Spec:
    """Where each lane is at the chosen step."""
    return point(lanes, _latest(), size=130, stroke="var(--ink)", strokeWidth=1.2, tooltip={"expr": TOLD})


def name_of_lit() -> Spec:
    """Beside the place of the lane that is lit its name; those of all would hide one another where arms are near."""
    right = "scale('x', datum.X) > 0.6 * width"
    mark = {
        **{"type": "text", "baseline": "middle", "fontWeight": "bold", "fill": "var(--ink)", "limit": 180, "dy": -9},
        **{"align": {"expr": f"{right} ? 'right' : 'left'"}, "dx": {"expr": f"{right} ? -10 : 10"}},
    }
    return {**_latest({"filter": "lit === datum.arm"}), "mark": mark, "encoding": {"text": {"field": "arm"}}}


def touched(lanes: Sequence[Lane], chosen: Spec, *, title: str) -> Spec:
    """Places of each lane's curve, evenly spread and unseen, that tell a pointer their value."""
    numbered = {"window": [{"op": "row_number", "as": "number"}], "groupby": ["arm"], "sort": [{"field": "step"}]}
    count = {"joinaggregate": [{"op": "count", "as": "points"}], "groupby": ["arm"]}
    spread = {"filter": f"datum.number % ceil(datum.points / {MOST_TOUCHED}) === 0"}
    said = json.dumps(f"\n{title}: ")
    tip = f"datum.arm + '\\nstep ' + datum.step + {said} + format(datum.value, '.4~g')"
    told = point(lanes, _then(chosen, numbered, count, spread), size=150, tooltip={"expr": tip})
    return {**told, "encoding": {**told["encoding"], "opacity": {"value": 0}}}


def interval(lanes: Sequence[Lane], axis: str) -> list[Spec]:
    """At the chosen step the interval along an axis; at the last one it makes room for itself."""
    channel = "x" if axis == "across" else "y"
    ends = [{"calculate": _clamped(axis, end), "as": end} for end in ("low", "high")]
    known = {"filter": f"isValid(datum[{axis} + '_low']) && isValid(datum[{axis} + '_high'])"}
    place = {
        channel: {"value": {"expr": f"scale('{channel}', datum.low)"}},
        f"{channel}2": {"value": {"expr": f"scale('{channel}', datum.high)"}},
    }
    visible = {
        **_latest(known, *ends),
        "mark": {"type": "rule", "strokeWidth": 3, "clip": True},
        "encoding": {**place, "color": look(lanes, "color"), "opacity": shining(0.45)},
    }
    room = {
        **_then(rows("means", "datum.step === last"), known, *ends),
        "mark": {"type": "rule", "opacity": 0},
        "encoding": {channel: {"field": "low", "type": "quantitative"}, f"{channel}2": {"field": "high"}},
    }
    return [visible, room]


def band(lanes: Sequence[Lane]) -> Spec:
    """The intervals of a measure over all steps, pale."""
    ends = [{"calculate": _clamped("up", end), "as": end} for end in ("low", "high")]
    known = {"filter": "isValid(datum[up + '_low']) && isValid(datum[up + '_high'])"}
    low, high = {"field": "low", "type": "quantitative"}, {"field": "high"}
    return {
        **_then(rows("means"), known, *ends),
        "mark": {"type": "area", "clip": True},
        "encoding": {"y": low, "y2": high, "color": look(lanes, "color"), "opacity": shining(0.1)},
    }


def front() -> Spec:
    """The arms that no other arm equals or beats in both measures at the chosen step, joined."""
    better = [{"calculate": f"datum.{at} * fields[{axis}].side", "as": f"{at}_good"}
              for at, axis in (("X", "across"), ("Y", "up"))]  # fmt: skip
    falling = [{"field": "X_good", "order": "descending"}, {"field": "Y_good", "order": "descending"}]
    best = {"window": [{"op": "max", "field": "Y_good", "as": "best"}], "sort": falling, "frame": [None, 0]}
    before = {"window": [{"op": "lag", "field": "best", "as": "before"}], "sort": falling}  # no frame ends at -1
    told = {"filter": f"fields[across].side !== 0 && fields[up].side !== 0 && datum.arm !== {json.dumps(TRUNK)}"}
    rises = {"filter": "!isValid(datum.before) || datum.best > datum.before"}
    chosen = _latest(told, *better, best, before, rises)
    mark = {"type": "line", "stroke": "var(--rule)", "strokeWidth": 6, "opacity": 0.5, "strokeJoin": "round"}
    return {**chosen, "mark": mark, "encoding": {"order": {"field": "X", "type": "quantitative"}}}


def _clamped(axis: str, end: str) -> str:
    return f"clamp(datum[{axis} + '_{end}'], fields[{axis}].reach[0], fields[{axis}].reach[1])"


STAR = "M0,-1L.235,-.324L.951,-.309L.38,.124L.588,.809L0,.4L-.588,.809L-.38,.124L-.951,-.309L-.235,-.324Z"


def events(lanes: Sequence[Lane]) -> list[Spec]:
    """Where a Gram loss starts and its teacher is renewed."""
    tip = {"expr": "datum.arm + '\\n' + datum.kind + ' at step ' + datum.step"}
    return [
        {
            **rows("happened", f"datum.kind === '{EVENTS[kind]}'"),
            "mark": {"type": "point", "filled": True, "shape": shape, "size": size, "stroke": "var(--ink)",
                     "strokeWidth": 0.8, "tooltip": tip},
            "encoding": {"color": look(lanes, "color"), "opacity": shining(1.0)},
        }
        for kind, shape, size in (("gram_update", "diamond", 45), ("gram_start", STAR, 220))
    ]  # fmt: skip


def marks_of(forks: Sequence[int], field: Field) -> list[Spec]:
    """Behind the curves: where arms leave the trunk, the chosen step, and what guessing scores."""
    layers: list[Spec] = [ruler("across === 'step'"), *fork_lines(forks)]
    if field.chance is not None:
        data = {"values": [{"chance": field.chance, "arm": ""}]}
        level = {"y": {"field": "chance", "type": "quantitative"}, "x": {"value": 0}}
        name = {"type": "text", "text": "chance", "align": "left", "baseline": "bottom", "fill": "var(--soft)"}
        layers.append({"data": data, "mark": _DOTTED, "encoding": {**level, "x2": {"value": {"expr": "width"}}}})
        layers.append({"data": data, "mark": {**name, "dx": 4, "dy": -2}, "encoding": level})
    return layers


def fork_lines(forks: Sequence[int]) -> list[Spec]:
    """Where arms leave the trunk."""
    if not forks:
        return []
    layer = {
        "data": {"values": [{"step": step, "arm": ""} for step in forks]},
        "transform": [{"filter": "across === 'step'"}],
        "mark": _DOTTED,
        "encoding": {"x": {"field": "step", "type": "quantitative"}, **_WHOLE_HEIGHT},
    }
    return [layer]


def plans(lanes: Sequence[Lane], found: Sequence[Planned]) -> list[Spec]:
    """A pale broad line for each planned value, in the colour of its arm; grey where several plan the same."""
    colours = {one.name: f"var(--{one.variable})" for one in lanes}
    layers = []
    for curve in found:
        steps, values = corners(curve, leap=0)
        arm = curve.arms[0] if len(curve.arms) == 1 else ""
        both = zip(steps.tolist(), map(plain_value, rounded(values, 6)), strict=True)
        places = [{"X": step, "Y": value, "arm": arm} for step, value in both]
        look = {"stroke": colours.get(arm, "var(--rule)"), "strokeWidth": 7, "opacity": 0.3, "clip": True}
        kept = [{"filter": "indexof(hidden, datum.arm) < 0"}]
        layers.append({"data": {"values": places}, "transform": kept, "mark": {"type": "line", **look}})
    return layers


def ruler(where: str) -> Spec:
    """A line at the chosen step."""
    return {
        "data": {"values": [{"arm": ""}]},
        "transform": [{"filter": where}],
        "mark": {"type": "rule", "stroke": "var(--soft)", "strokeWidth": 1, "clip": True},
        "encoding": {
            "x": {"value": {"expr": "scale('x', upto)"}},
            **_WHOLE_HEIGHT,
        },
    }
