"""Page two: dense against global quality over training, one path per arm, after the trade-off curves of DINOv3 §5.

The page is made to be read as a picture of 900 pixels, too: hence type larger than on the other pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from common.drawing import shorten
from reports import words
from reports.axes import scaled, steps_text
from reports.curves import entries
from reports.estimates import Column, other_dense, primary
from reports.events import Events, draw_events, draw_front, event_key
from reports.labels import Label, along, place
from reports.page import BOTTOM, HEIGHT, INK, LEFT, RIGHT, SOFT, TOP, TRUNK_COLOUR, WIDTH, Look, Page, legend, new_page
from reports.paths import Path, best_of, extent, paths
from reports.run_folder import TRUNK, Run

ZOOM_BELOW = 0.55
CROSS_REACH = 1.5  # of the paths' span
CROSSES_UP_TO = 6  # arms whose intervals and single seeds leave one another room; of more each has its own panel
ALONG = 7  # crosses of a path, besides that at its end
NAMED_UP_TO = 14  # arms that are all named; of more those at the front and the first, the baseline
LARGE, AXIS, TICK, STEP = 11.0, 10.0, 9.0, 8.0  # type sizes: names, axis labels, ticks, steps; the side panels' follow
SIDE, SIDE_GAP = 3.4, 0.85


def tradeoff_page(run: Run, arm_looks: Mapping[str, Look]) -> Page:
    """The page; where a global or a dense measure is missing it says so instead."""
    across, up = primary(run, "global"), primary(run, "dense")
    page = new_page("Dense against global quality over training", _caption(run, across, up), size=9.5)
    if across is None or up is None:
        page.write(LEFT, TOP + 1.2, "This page needs a global measure (top-1) and a dense one (mIoU).", 10, color=SOFT)
        return page
    y = legend(page, max(TOP + 0.7, page.head + 0.1), entries(run, arm_looks), size=10.0) + 0.03
    seconds = [column for column in [other_dense(run, up)] if column is not None]
    found = {column: paths(run, across, column, arm_looks=arm_looks) for column in (up, *seconds)}
    draw_panels(page, found, across=across, events=run.events, y=y)
    return page


def draw_panels(page: Page, found: Mapping[Column, list[Path]], *, across: Column, events: Events, y: float) -> None:
    """The plane of `across` and the first of the other measures, from the key of events at the edge `y` down.

    The next measure has a small panel beside it, and so has the whole way where the arms fill little of it.
    """
    if _is_crowded(next(iter(found.values()))):
        found = {column: [replace(way, seeds=[]) for way in its] for column, its in found.items()}
    (up, ways), *others = found.items()
    zoom = _zoomed(ways)
    left, top, bottom = LEFT + 0.62, y + 0.36, BOTTOM - 0.5
    wide = RIGHT - left - (SIDE + SIDE_GAP if others or zoom else 0.0)
    main = page.axes(left, top, wide, bottom - top)
    thinned = _draw(main, events, ways, across=across, up=up, zoom=zoom)
    event_key(page, events, y, thinned=thinned, front=len(best_of(ways, across, up)) > 1)
    side, halves = left + wide + SIDE_GAP, bool(others) + zoom
    height = (bottom - top - 0.75 * (halves - 1)) / max(halves, 1)
    for second, its_ways in others[:1]:
        small = page.axes(side, top, RIGHT - side, height)
        _draw(small, events, its_ways, across=across, up=second, zoom=_zoomed(its_ways), small=True)
    if zoom:
        overview = page.axes(side, bottom - height, RIGHT - side, height)
        title = "The same from the first step"
        _draw(overview, events, ways, across=across, up=up, zoom=False, small=True, title=title)


def _is_crowded(paths: Sequence[Path]) -> bool:
    """Whether intervals and single seeds of the arms would cover one another."""
    return sum(path.lane != TRUNK for path in paths) > CROSSES_UP_TO


def _caption(run: Run, across: Column | None, up: Column | None) -> str:
    if across is None or up is None:
        return ""
    many = len(run.arms) > CROSSES_UP_TO
    each = "" if many else " (thin: each)"
    seeds = f"mean of {len(run.seeds)} seeds{each}" if len(run.seeds) > 1 else "one seed"
    crosses = "Intervals: on the pages after this one." if many else "Pale crosses: 95 % intervals."
    return (
        f"Right: better for the whole image ({across.title}). Up: better for its parts. "
        f"Marks grow and darken with the step; {seeds}. {crosses}"
    )


def _zoomed(paths: list[Path]) -> bool:
    """Whether the arms fill so little of the plane that they need a panel of their own."""
    arms = [path for path in paths if path.lane != TRUNK]
    if not arms or len(arms) == len(paths):
        return False
    whole, part = np.ptp(extent(paths), axis=0), np.ptp(extent(arms), axis=0)
    return bool(np.any(part < ZOOM_BELOW * np.maximum(whole, 1e-12)) and np.any(part > 0))


def _limits(axes: Axes, paths: list[Path], *, zoom: bool, crosses: bool) -> None:
    """Limits around the paths; a cross may stretch them, but not beyond recognition of the paths."""
    arms = [path for path in paths if path.lane != TRUNK] or paths
    low, high = extent(arms if zoom else paths)
    span = np.where(high > low, high - low, np.maximum(np.abs(high) * 0.05, 1e-3))
    if crosses:
        low, high = stretched(low, high, paths, reach=CROSS_REACH * span)
    pad = np.maximum(0.06 * (high - low), 0.1 * span)
    axes.set(xlim=(low[0] - pad[0], high[0] + pad[0]), ylim=(low[1] - pad[1], high[1] + pad[1]))


def stretched(low: np.ndarray, high: np.ndarray, paths: Sequence[Path], *, reach: np.ndarray) -> list[np.ndarray]:
    """The corners so far apart that the intervals at the ends of the paths lie within, but for those beyond `reach`."""
    for path in paths:
        low = np.fmin(low, np.maximum(path.cross[:, 0], low - reach))
        high = np.fmax(high, np.minimum(path.cross[:, 1], high + reach))
    return [low, high]


def _draw(
    axes: Axes,
    events: Events,
    paths: list[Path],
    *,
    across: Column,
    up: Column,
    zoom: bool,
    small: bool = False,
    title: str = "",
) -> bool:
    """One panel; returns whether marks of events were left out of it."""
    scaled(axes.xaxis)
    scaled(axes.yaxis)
    size, frame = TICK if small else AXIS, axes.get_position()
    axes.set_xlabel(_axis_label(across, small, room=frame.width * WIDTH), fontsize=size)
    axes.set_ylabel(_axis_label(up, small, room=frame.height * HEIGHT), fontsize=size)
    axes.tick_params(labelsize=size - 1)
    if title:
        axes.set_title(title, fontsize=TICK, loc="left", color=SOFT)
    if not paths:
        axes.text(0.5, 0.5, "no step has both measures", transform=axes.transAxes, ha="center", color=SOFT)
        return False
    crossed = not title and not _is_crowded(paths)
    _limits(axes, paths, zoom=zoom, crosses=crossed)
    best = best_of(paths, across, up)
    draw_front(axes, best, right=across.kind.higher_is_better)
    last = max(float(path.steps[-1]) for path in paths)
    for path in paths:
        _draw_path(axes, path, last=last, small=small)
        if crossed and path.lane != TRUNK:
            draw_crosses(axes, path, small=small)
    thinned = draw_events(axes, events, paths, small=small)
    if not up.kind.higher_is_better:
        axes.invert_yaxis()
    obstacles = np.concatenate([along(path.points) for path in paths] + [_cross(path) for path in paths if crossed])
    place(axes, _labels(paths, axes, best=best, small=small), obstacles)
    return thinned


def _cross(path: Path) -> np.ndarray:
    """Points along the cross at the end of a path, so that labels keep clear of it."""
    x, y = path.points[-1]
    arms = [along(np.array([[end, y] for end in path.cross[0]])), along(np.array([[x, end] for end in path.cross[1]]))]
    points = np.concatenate(arms)
    return points[np.isfinite(points).all(axis=1)] if path.lane != TRUNK else np.empty((0, 2))


def _axis_label(column: Column, small: bool, *, room: float) -> str:
    unit = f" ({words.unit(column)})" if words.unit(column) else ""
    better = "better →" if column.kind.higher_is_better else "lower is better →"
    where = "" if small else f" on {column.dataset}"
    return shorten(f"{column.title}{where}{unit}, {better}", room, TICK if small else AXIS)


def draw_crosses(axes: Axes, path: Path, *, small: bool) -> None:
    """Pale intervals of both measures along the path, the last one the strongest."""
    places = np.unique(np.linspace(0, len(path.steps) - 1, ALONG + 1).round().astype(int))
    for place_ in places:
        end = place_ == len(path.steps) - 1
        pale = {"color": path.look.colour, "alpha": 0.28 if end else 0.2, "zorder": 1.5}
        pale |= {"linewidth": (1.6 if small else 2.4) * (1 if end else 0.5)}
        pale |= {"solid_capstyle": "butt", "snap": False}  # snapped to pixels, equal bars would look unequal
        (x, y), (wide, high) = path.points[place_], path.spans[place_]
        axes.plot(wide, [y] * 2, **pale)
        axes.plot([x] * 2, high, **pale)


def shades(colour: str, steps: np.ndarray, last: float) -> np.ndarray:
    """The colour [n, 3] of a mark at each step: pale early on, full at the last."""
    share = 0.25 + 0.75 * np.asarray(steps, float)[:, None] / max(last, 1.0)
    return share * np.array(to_rgb(colour)) + (1 - share)


def _draw_path(axes: Axes, path: Path, *, last: float, small: bool) -> None:
    look, (x, y) = path.look, path.points.T
    trunk = path.lane == TRUNK
    for seed in path.seeds:
        axes.plot(*seed.T, color=look.colour, linewidth=0.5, alpha=0.35, zorder=2)
    axes.plot(x, y, color=look.colour, linestyle=look.dash, linewidth=1.3 if small else 2.2, alpha=0.9, zorder=3)
    sizes = (4 if small else 10) + (18 if small else 48) * np.asarray(path.steps) / max(last, 1.0)
    faces = shades(look.colour, path.steps, last)
    axes.scatter(x, y, s=sizes, c=faces, marker=look.marker, linewidths=0.6, edgecolors=look.colour, zorder=5)
    if trunk or not len(x):
        return
    end = {"s": 40 if small else 100, "marker": look.marker, "linewidths": 0.9, "edgecolors": INK}
    axes.scatter(x[-1:], y[-1:], color=look.colour, zorder=10, **end)


def _labels(paths: list[Path], axes: Axes, *, best: np.ndarray, small: bool) -> list[Label]:
    """The arm's name at its end; in the large panel also steps along the way, where there is room.

    best: the Pareto front [k, 2], whose arms are named where there are too many.
    """
    labels, last = [], max(path.steps[-1] for path in paths)
    named = _named(paths, best)
    forked = any(path.lane == TRUNK for path in paths)
    for path in paths:
        x, y = path.points[-1]
        inside = _inside(axes, x, y)
        if path.lane in named:
            size = TICK if small else LARGE
            name = shorten(path.lane, 1.3 if small else 2.3, size, weight="bold")
            labels.append(Label(name, x, y, path.look.colour, size=size, weight="bold", required=inside))
        if small or len(named) < len(paths) - 1:
            continue
        colour = TRUNK_COLOUR if path.lane == TRUNK else path.look.colour
        ends = {len(path.steps) - 1} if path.lane == TRUNK or path.steps[-1] < last else set()
        for place_ in sorted({0, len(path.steps) // 2} | ends):
            x, y = path.points[place_]
            if _inside(axes, x, y) and not (path.lane != TRUNK and place_ == 0 and forked):
                labels.append(Label(steps_text(path.steps[place_]), x, y, colour, size=STEP, required=False))
    return labels


def _named(paths: Sequence[Path], best: np.ndarray) -> set[str]:
    arms = [path for path in paths if path.lane != TRUNK]
    if len(arms) <= NAMED_UP_TO:
        return {path.lane for path in arms}
    corners = set(map(tuple, best.tolist()))
    return {path.lane for path in arms if corners & set(map(tuple, path.points.tolist()))} | {arms[0].lane}


def _inside(axes: Axes, x: float, y: float) -> bool:
    (left, right), (low, high) = axes.get_xlim(), sorted(axes.get_ylim())
    return left <= x <= right and low <= y <= high
