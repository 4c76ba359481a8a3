"""Losses, entropies, gradient norm and schedules over steps: smoothed lines over the raw ones, and what was planned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
from matplotlib.axes import Axes

from common.timeline import Curve as Planned
from reports.axes import fork_line, logarithmic, scaled, step_axis, titled
from reports.curves import entries, grid
from reports.page import LEFT, SOFT, TOP, TRUNK_LOOK, Look, Page, legend, new_page
from reports.parts import Curve, Line
from reports.run_folder import COMPONENTS, TRUNK, Run
from reports.timeline import corners

DOWN, FEW, MANY = 3, 12, 15  # panels down a page; up to FEW stand four across, up to MANY five, more stand six across
TITLES = {  # of what is logged beside the terms of the loss, whose titles the run's record holds
    "target_entropy": "Entropy of the targets",
    "student_entropy": "Entropy of the student",
    "cls_rank": "Class token rank",
    "grad_norm": "Gradient norm",
    "lr": "Learning rate",
    "temperature": "Teacher temperature",
    "weight_decay": "Weight decay",
    "momentum": "EMA momentum",
}
BOOKKEEPING = {"step", "images", "seconds"}
MOST_POINTS = 500
BAND = 0.14  # how opaque the band of seeds is at most: of many arms, bands lie over one another


def loss_pages(run: Run, arm_looks: Mapping[str, Look]) -> list[Page]:
    """As many pages as the panels need; one that says so where nothing was logged."""
    found = logged(run)
    still = {name: value for name in found if (value := constant(run, name)) is not None}
    names = [name for name in found if name not in still]
    across = 4 if len(names) <= FEW else 5 if len(names) <= MANY else 6
    if not names:
        page = new_page("Losses and schedules", _still(run, still))
        if not still:
            page.write(LEFT, TOP + 0.7, "No training curve was logged (metrics.jsonl).", 10, color=SOFT)
        return [page]
    groups = [names[start : start + across * DOWN] for start in range(0, len(names), across * DOWN)]
    said = _still(run, still)
    return [_page(run, group, arm_looks, said=said, number=at, across=across) for at, group in enumerate(groups)]


def logged(run: Run) -> list[str]:
    """The series that hold anything, known ones in reading order, then the others by name."""
    names = {str(name) for curve in run.curves.values() for name in curve} - BOOKKEEPING
    names = {name for name in names if not name.startswith(f"{COMPONENTS}/")}  # they have a page of their own
    found = {name for name in names if lines_of(run, name)}
    return [name for name in titles(run) if name in found] + sorted(found - set(titles(run)))


def titles(run: Run) -> dict[str, str]:
    """What every known series is called, in reading order."""
    terms = {name: term.title for name, term in run.losses.items()}
    weights = {f"{name}_weight": f"{term.title} weight" for name, term in run.losses.items() if term.anchored}
    return {"loss": "Total loss", **terms, **TITLES, **weights, "homogeneous_share": "Homogeneous batches (share)"}


def constant(run: Run, name: str) -> float | None:
    """The value of a series that is the same in every step of every lane that logs it; None where it changes."""
    values = np.concatenate([line.values for line in lines_of(run, name).values()])
    return float(values[0]) if len(values) > 1 and (values == values[0]).all() else None


def _still(run: Run, still: Mapping[str, float]) -> str:
    """Series that never change, in a line of text in place of panels."""
    said = (f"{titles(run).get(name, name)} {value:.4g}".replace(" ", "\u00a0") for name, value in still.items())
    return f"The same in every logged step: {', '.join(said)}." if still else ""


def planned(run: Run, name: str) -> Sequence[Planned]:
    """What the plan says of a logged series, a curve for the arms that have it alike; nothing where it says nothing."""
    term = run.losses.get(name.removesuffix("_weight"))
    title = f"Weight of {term.title}" if term is not None and name.endswith("_weight") else TITLES.get(name, "")
    return run.plan.changing.get(title, ()) if run.plan is not None else ()


def smooth(values: np.ndarray) -> np.ndarray:
    """Running mean over a fortieth of the points, narrower at both ends, so that nothing is shifted in time."""
    reach = len(values) // 40
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    half = np.minimum(reach, np.minimum(places, len(values) - 1 - places))
    return (sums[places + half + 1] - sums[places - half]) / (2 * half + 1)


def lines_of(run: Run, name: str) -> dict[tuple[str, int], Line]:
    """A series by lane and seed, of those that logged it."""
    return {lane: line for lane, curve in run.curves.items() if (line := _series(run, curve, name)) is not None}


def _series(run: Run, curve: Curve, name: str) -> Line | None:
    """One series; a loss that is kept to a Gram teacher was off where it, or its weight, is exactly zero."""
    line, term = curve.get(name), run.losses.get(name.removesuffix("_weight"))
    if line is None or term is None or not term.anchored:
        return line
    on = line.values != 0
    return Line(line.steps[on], line.values[on]) if on.any() else None


def _page(
    run: Run, group: Sequence[str], arm_looks: Mapping[str, Look], *, said: str, number: int, across: int
) -> Page:
    many = len(run.seeds) > 1
    faint = "bands: from the lowest to the highest seed" if many else "faint: as logged"
    behind = "; pale and broad: as planned" if any(planned(run, name) for name in group) else ""
    behind += "; × at the foot of the total loss: steps that were passed over" if run.bad_steps and number == 0 else ""
    caption = (
        f"Bold: running mean over a fortieth of the logged steps{' and over seeds' if many else ''}; {faint}{behind}. "
        f"Terms are shown before their weights. {said}"
    )
    page = new_page("Losses and schedules" + (", continued" if number else ""), caption, size=8.5)
    top = legend(page, max(TOP + 0.54, page.head + 0.1), entries(run, arm_looks)) + 0.3
    panels = grid(page, len(group), top=top, across=across, down=DOWN)
    for place, (axes, name) in enumerate(zip(panels, group, strict=True)):
        _panel(axes, run, name, arm_looks=arm_looks, foot=place >= len(group) - across)
    return page


def _panel(axes: Axes, run: Run, name: str, *, arm_looks: Mapping[str, Look], foot: bool) -> None:
    series = lines_of(run, name)
    values = np.concatenate([line.values for line in series.values()])
    last = max(float(curve["step"].values.max()) for curve in run.curves.values())
    step_axis(axes, 0.0, max(last, run.steps or 0), label=foot)
    _plans(axes, planned(run, name), arm_looks)
    for lane in run.lanes:
        mine = [one for (arm, _), one in series.items() if arm == lane]
        if mine:
            faint = 0.25 if lane == TRUNK else min(0.25, 1.5 / len(series))
            lane_lines(axes, mine, arm_looks.get(lane, TRUNK_LOOK), trunk=lane == TRUNK, faint=faint)
    if log := spans_decades(run, name, values):
        logarithmic(axes, float(values.min()), float(values.max()))
    else:
        scaled(axes.yaxis, ticks=5)
        calm(axes, values)
    if name == "loss":
        _passed_over(axes, run, arm_looks)
    titled(axes, titles(run).get(name, name), "log scale" if log else "")
    for step in run.forks:
        fork_line(axes, step)


def _passed_over(axes: Axes, run: Run, arm_looks: Mapping[str, Look]) -> None:
    """A cross at the foot for each step that an arm learnt nothing from, since not all was finite."""
    for (lane, _), bad in run.bad_steps.items():
        how = {"color": arm_looks.get(lane, TRUNK_LOOK).colour, "marker": "x", "markersize": 4, "linestyle": "none"}
        steps = [one.step for one in bad]
        axes.plot(steps, [0.04] * len(bad), transform=axes.get_xaxis_transform(), zorder=6, **how)


def _plans(axes: Axes, curves: Sequence[Planned], arm_looks: Mapping[str, Look]) -> None:
    """A pale broad line for each planned value, in the colour of its arm; grey where several plan the same."""
    for curve in curves:
        steps, values = corners(curve, leap=0)
        known = [arm_looks[arm] for arm in curve.arms if arm in arm_looks]
        colour = known[0].colour if len(curve.arms) == 1 and known else TRUNK_LOOK.colour
        axes.plot(steps, values, color=colour, linewidth=4.5, alpha=0.3, solid_capstyle="butt", zorder=1.5)


def spans_decades(run: Run, name: str, values: np.ndarray) -> bool:
    """Whether a series is shown on a log scale: one of those that can span decades, and does."""
    low, high = float(values.min()), float(values.max())
    can = name == "grad_norm" or (name in run.losses and run.losses[name].anchored)
    return can and low > 0 and high > 8 * low


def lane_lines(axes: Axes, seeds: Sequence[Line], look: Look, *, trunk: bool, faint: float) -> None:
    """A lane's mean over seeds, smoothed, over the band of its seeds; over what was logged where there is one."""
    steps, values = at_shared_steps(seeds)
    if len(seeds) == 1:
        raw = thinned(seeds[0])
        axes.plot(raw.steps, raw.values, color=look.colour, linewidth=0.4, alpha=faint, zorder=2)
    if not len(steps):
        return
    line = thinned(Line(steps, smooth(values.mean(axis=0))))
    if len(seeds) > 1:
        ends = [thinned(Line(steps, end(list(map(smooth, values)), axis=0))) for end in (np.min, np.max)]
        low, high = (end.values for end in ends)
        axes.fill_between(line.steps, low, high, color=look.colour, alpha=min(BAND, 2 * faint), linewidth=0, zorder=2)
    depth = 3.0 if trunk else 3.2 if look.dash == "-" else 3.4  # dashes above solid lines: where arms agree, both show
    axes.plot(line.steps, line.values, color=look.colour, linestyle=look.dash, linewidth=1.2, zorder=depth)
    if len(line.steps) == 1:
        axes.plot(line.steps, line.values, color=look.colour, marker=look.marker, markersize=3.5, zorder=5)


def at_shared_steps(lines: Sequence[Line]) -> tuple[np.ndarray, np.ndarray]:
    """Steps [n] that all seeds logged, and their values [seeds, n]; of fewer seeds another mean would come."""
    steps = reduce(np.intersect1d, [line.steps for line in lines])
    return steps, np.stack([line.values[np.searchsorted(line.steps, steps)] for line in lines])


def thinned(line: Line, most: int = MOST_POINTS) -> Line:
    """Every n-th point, and the last, so that long runs make no heavy file."""
    if len(line.steps) <= most:
        return line
    places = np.unique(np.linspace(0, len(line.steps) - 1, most).round().astype(int))
    return Line(line.steps[places], line.values[places])


def calm(axes: Axes, values: np.ndarray) -> None:
    """Set the limits of `calm_limits`."""
    axes.set_ylim(*calm_limits(values))


def calm_limits(values: np.ndarray) -> tuple[float, float]:
    """Limits that single spikes do not stretch, and that do not blow a constant up to noise."""
    low, high = (float(end) for end in np.quantile(values, [0.002, 0.998]))
    share = 0.5 if values.min() == values.max() else 0.02
    span = max(high - low, share * max(abs(low), abs(high))) or 1.0  # all zero
    middle = (low + high) / 2
    half = max((high - low) / 2, span / 2)
    return middle - 1.15 * half, middle + 1.15 * half
