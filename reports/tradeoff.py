"""Page two: dense against global quality over training, one path per arm, after the trade-off curves of DINOv3 §5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from reports import words
from reports.axes import scaled, steps_text
from reports.curves import entries
from reports.labels import Label, along, place
from reports.page import (
    BOTTOM,
    INK,
    LEFT,
    RIGHT,
    SOFT,
    TOP,
    TRUNK_COLOUR,
    TRUNK_LOOK,
    Look,
    Page,
    legend,
    new_page,
    shorten,
)
from reports.run_folder import TRUNK, Run
from reports.tables import Column, primary, seed_paths, trajectory

ZOOM_BELOW = 0.55
CROSS_REACH = 1.5  # of the paths' span


@dataclass(frozen=True)
class Path:
    """An arm's way through the plane: points [n, 2] in shown units, their steps, the half-cross at the end point."""

    lane: str
    look: Look
    points: np.ndarray
    steps: np.ndarray
    cross: np.ndarray  # [2, 2]: (low, high) of x, of y; NaN where unknown
    seeds: list[np.ndarray]

    def at(self, step: float) -> tuple[float, float] | None:
        """The place on the path at a step, between evaluated steps by a straight line; None outside the path."""
        if not len(self.steps) or not self.steps[0] <= step <= self.steps[-1]:
            return None
        return float(np.interp(step, self.steps, self.points[:, 0])), float(
            np.interp(step, self.steps, self.points[:, 1])
        )


def tradeoff_page(run: Run, arm_looks: Mapping[str, Look]) -> Page:
    """The page; where a global or a dense measure is missing it says so instead."""
    across, up = primary(run, "global"), primary(run, "dense")
    page = new_page("Dense against global quality over training", _caption(run, across, up))
    if across is None or up is None:
        page.write(LEFT, TOP + 1.2, "This page needs a global measure (top-1) and a dense one (mIoU).", 10, color=SOFT)
        return page
    y = legend(page, TOP + 0.62, entries(run, arm_looks))
    y = _key(page, run, y + 0.04)
    paths = _paths(run, across, up, arm_looks=arm_looks)
    second = _second(run, up)
    zoom = _zoomed(paths)
    left = LEFT + 0.5
    wide = RIGHT - left - (4.2 if second is not None or zoom else 0.0)
    top, bottom = y + 0.32, BOTTOM - 0.5
    main = page.axes(left, top, wide, bottom - top)
    _draw(main, run, paths, across=across, up=up, zoom=zoom)
    side = left + wide + 0.85
    halves = (second is not None) + zoom
    height = (bottom - top - 0.75 * (halves - 1)) / max(halves, 1)
    if second is not None:
        small = page.axes(side, top, RIGHT - side, min(height, 3.1))
        others = _paths(run, across, second, arm_looks=arm_looks)
        _draw(small, run, others, across=across, up=second, zoom=_zoomed(others), small=True)
        top += min(height, 3.1) + 0.75
    if zoom:
        overview = page.axes(side, top, RIGHT - side, bottom - top)
        _draw(overview, run, paths, across=across, up=up, zoom=False, small=True, title="The same from the first step")
    return page


def _caption(run: Run, across: Column | None, up: Column | None) -> str:
    if across is None or up is None:
        return ""
    seeds = f"mean of {len(run.seeds)} seeds (thin: each). " if len(run.seeds) > 1 else "one seed. "
    return (
        f"Right: better for the whole image ({across.title} on {across.dataset}). Up: better for its parts. "
        f"Marks grow with the step; {seeds}Crosses: 95 % intervals at the last step."
    )


def _key(page: Page, run: Run, y: float) -> float:
    """What the event markers mean."""
    axes = page.axes(LEFT, y, RIGHT - LEFT, 0.18)
    axes.set_axis_off()
    axes.set(xlim=(0, RIGHT - LEFT), ylim=(0, 1))
    x = 0.15
    happened = {event.kind for events in run.events.values() for event in events} | {"start"}
    for kind, text in ((kind, text) for kind, text in _KEY.items() if kind in happened):
        axes.plot([x], [0.5], **_MARKS[kind], **_paint(kind, SOFT))
        axes.text(x + 0.16, 0.45, text, fontsize=7, color=SOFT, va="center")
        x += 0.5 + len(text) * 0.066
    return y + 0.18


_KEY = {"start": "start", "fork": "fork", "gram_start": "Gram loss starts", "gram_update": "Gram teacher renewed"}
_MARKS: dict[str, dict] = {
    "start": {"marker": "o", "markersize": 5, "linestyle": "none"},
    "fork": {"marker": "o", "markersize": 10, "linestyle": "none"},
    "gram_start": {"marker": "*", "markersize": 9.5, "linestyle": "none"},
    "gram_update": {"marker": "d", "markersize": 4.5, "linestyle": "none"},
}


def _paint(kind: str, colour: str) -> dict:
    if kind == "gram_start":
        return {"markerfacecolor": colour, "markeredgecolor": "white", "markeredgewidth": 0.6, "zorder": 9}
    if kind == "fork":
        return {"markerfacecolor": "none", "markeredgecolor": INK, "markeredgewidth": 0.9, "zorder": 8}
    return {"markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 0.9, "zorder": 8}


def _second(run: Run, first: Column) -> Column | None:
    """Another dense measure: RMSE if there, else any that is not the first one."""
    rmse = primary(run, "dense", metric="rmse")
    if rmse is not None and rmse != first:
        return rmse
    miou = primary(run, "dense", metric="miou")
    return miou if miou != first else None


def _paths(run: Run, across: Column, up: Column, *, arm_looks: Mapping[str, Look]) -> list[Path]:
    paths = [_path(run, across, up, lane=lane, look=arm_looks.get(lane, TRUNK_LOOK)) for lane in run.lanes]
    return [path for path in paths if len(path.steps)]


def _path(run: Run, across: Column, up: Column, *, lane: str, look: Look) -> Path:
    xs = {estimate.step: estimate for estimate in trajectory(run, across, lane)}
    ys = {estimate.step: estimate for estimate in trajectory(run, up, lane)}
    steps = sorted(xs.keys() & ys.keys())
    factors = np.array([words.scale(across), words.scale(up)])
    points = np.array([[xs[step].value, ys[step].value] for step in steps]).reshape(-1, 2) * factors
    cross = np.full((2, 2), np.nan)
    if steps:
        ends = xs[steps[-1]], ys[steps[-1]]
        cross = np.array([[end.low, end.high] for end in ends]) * factors[:, None]
    return Path(lane, look, points, np.array(steps), cross, _single_seeds(run, across, up, lane=lane, factors=factors))


def _single_seeds(run: Run, across: Column, up: Column, *, lane: str, factors: np.ndarray) -> list[np.ndarray]:
    if len(run.seeds) < 2:
        return []
    xs, ys = seed_paths(run, across, lane), seed_paths(run, up, lane)
    seeds = sorted(xs.keys() & ys.keys())
    points = [
        [[xs[seed][step], ys[seed][step]] for step in sorted(xs[seed].keys() & ys[seed].keys())] for seed in seeds
    ]
    return [np.array(path).reshape(-1, 2) * factors for path in points]


def _extent(paths: list[Path]) -> np.ndarray:
    points = np.concatenate([path.points for path in paths])
    return np.stack([points.min(axis=0), points.max(axis=0)])


def _zoomed(paths: list[Path]) -> bool:
    """Whether the arms fill so little of the plane that they need a panel of their own."""
    arms = [path for path in paths if path.lane != TRUNK]
    if not arms or len(arms) == len(paths):
        return False
    whole, part = np.ptp(_extent(paths), axis=0), np.ptp(_extent(arms), axis=0)
    return bool(np.any(part < ZOOM_BELOW * np.maximum(whole, 1e-12)) and np.any(part > 0))


def _limits(axes: Axes, paths: list[Path], *, zoom: bool, crosses: bool) -> None:
    """Limits around the paths; a cross may stretch them, but not beyond recognition of the paths."""
    arms = [path for path in paths if path.lane != TRUNK] or paths
    low, high = _extent(arms if zoom else paths)
    span = np.where(high > low, high - low, np.maximum(np.abs(high) * 0.05, 1e-3))
    reach = CROSS_REACH if any(len(path.steps) > 1 for path in paths) else np.inf
    if crosses:
        for path in paths:
            low = np.fmin(low, np.maximum(path.cross[:, 0], low - reach * span))
            high = np.fmax(high, np.minimum(path.cross[:, 1], high + reach * span))
    pad = np.maximum(0.09 * (high - low), 0.12 * span)
    axes.set(xlim=(low[0] - pad[0], high[0] + pad[0]), ylim=(low[1] - pad[1], high[1] + pad[1]))


def _draw(
    axes: Axes,
    run: Run,
    paths: list[Path],
    *,
    across: Column,
    up: Column,
    zoom: bool,
    small: bool = False,
    title: str = "",
) -> None:
    scaled(axes.xaxis)
    scaled(axes.yaxis)
    axes.set_xlabel(_axis_label(across, small))
    axes.set_ylabel(_axis_label(up, small))
    if title:
        axes.set_title(title, fontsize=8, loc="left", color=SOFT)
    if not paths:
        axes.text(0.5, 0.5, "no step has both measures", transform=axes.transAxes, ha="center", color=SOFT)
        return
    _limits(axes, paths, zoom=zoom, crosses=not title)
    last = max(float(path.steps[-1]) for path in paths)
    for path in paths:
        _draw_path(axes, path, last=last, small=small, cross=not title)
    _draw_events(axes, run, paths, small=small)
    if not up.kind.higher_is_better:
        axes.invert_yaxis()
    obstacles = np.concatenate([along(path.points) for path in paths] + [_cross(path) for path in paths if not title])
    place(axes, _labels(run, paths, axes, small=small), obstacles)


def _cross(path: Path) -> np.ndarray:
    """Points along the cross at the end of a path, so that labels keep clear of it."""
    x, y = path.points[-1]
    arms = [along(np.array([[end, y] for end in path.cross[0]])), along(np.array([[x, end] for end in path.cross[1]]))]
    points = np.concatenate(arms)
    return points[np.isfinite(points).all(axis=1)] if path.lane != TRUNK else np.empty((0, 2))


def _axis_label(column: Column, small: bool) -> str:
    unit = f" ({words.unit(column)})" if words.unit(column) else ""
    better = "better →" if column.kind.higher_is_better else "axis inverted: better →"
    where = "" if small else f" on {column.dataset}"
    return shorten(f"{column.title}{where}{unit}, {better}", 3.4, 8)


def _draw_path(axes: Axes, path: Path, *, last: float, small: bool, cross: bool) -> None:
    look, (x, y) = path.look, path.points.T
    trunk = path.lane == TRUNK
    for seed in path.seeds:
        axes.plot(*seed.T, color=look.colour, linewidth=0.5, alpha=0.35, zorder=2)
    axes.plot(x, y, color=look.colour, linestyle=look.dash, linewidth=1.0 if small else 1.5, alpha=0.9, zorder=3)
    sizes = (3 if small else 6) + (14 if small else 34) * np.asarray(path.steps) / max(last, 1.0)
    axes.scatter(x, y, s=sizes, color=look.colour, marker=look.marker, linewidths=0.4, edgecolors="white", zorder=5)
    if trunk or not len(x):
        return
    if cross and np.isfinite(path.cross).any():
        axes.plot(path.cross[0], [y[-1]] * 2, color=look.colour, linewidth=0.6, alpha=0.7, zorder=2)
        axes.plot([x[-1]] * 2, path.cross[1], color=look.colour, linewidth=0.6, alpha=0.7, zorder=2)
    end = {"s": 26 if small else 64, "marker": look.marker, "linewidths": 0.9, "edgecolors": INK}
    axes.scatter(x[-1:], y[-1:], color=look.colour, zorder=10, **end)


def _draw_events(axes: Axes, run: Run, paths: list[Path], *, small: bool) -> None:
    shrink = 0.7 if small else 1.0

    def mark(kind: str, spot: tuple[float, float] | None, colour: str) -> None:
        if spot is not None:
            look = {**_MARKS[kind], "markersize": _MARKS[kind]["markersize"] * shrink}
            axes.plot(*[[value] for value in spot], **look, **_paint(kind, colour))

    for path in paths:
        for event in run.events.get(path.lane, ()):
            if event.kind in ("gram_start", "gram_update"):
                mark(event.kind, path.at(event.step), path.look.colour)
    for spot in {
        path.at(event.step) for path in paths for event in run.events.get(path.lane, ()) if event.kind == "fork"
    }:
        mark("fork", spot, INK)
    first = min(paths, key=lambda path: path.steps[0])
    mark("start", tuple(first.points[0]), first.look.colour)


def _labels(run: Run, paths: list[Path], axes: Axes, *, small: bool) -> list[Label]:
    """The arm's name at its end; in the large panel also steps along the way, where there is room."""
    labels, last = [], max(path.steps[-1] for path in paths)
    for path in paths:
        x, y = path.points[-1]
        inside = _inside(axes, x, y)
        if path.lane != TRUNK:
            name = shorten(path.lane, 1.1 if small else 1.9, 6.5 if small else 8)
            labels.append(Label(name, x, y, path.look.colour, size=6.5 if small else 8, weight="bold", required=inside))
        if small:
            continue
        colour = TRUNK_COLOUR if path.lane == TRUNK else path.look.colour
        ends = {len(path.steps) - 1} if path.lane == TRUNK or path.steps[-1] < last else set()
        for place_ in sorted({0, len(path.steps) // 2} | ends):
            x, y = path.points[place_]
            if _inside(axes, x, y) and not (path.lane != TRUNK and place_ == 0 and run.has_trunk):
                labels.append(Label(steps_text(path.steps[place_]), x, y, colour, size=6, required=False))
    return labels


def _inside(axes: Axes, x: float, y: float) -> bool:
    (left, right), (low, high) = axes.get_xlim(), sorted(axes.get_ylim())
    return left <= x <= right and low <= y <= high
