"""Page four: losses, entropies, gradient norm and schedules over steps, smoothed lines over the raw ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from reports.axes import fork_line, logarithmic, scaled, step_axis, titled
from reports.curves import entries, grid
from reports.page import LEFT, SOFT, TOP, TRUNK_LOOK, Look, Page, legend, new_page
from reports.run_folder import TRUNK, Run

ACROSS, DOWN = 4, 3
TITLES = {
    "loss": "Total loss",
    "dino_global": "DINO, global crops",
    "dino_local": "DINO, local crops",
    "ibot": "iBOT",
    "koleo": "KoLeo",
    "gram": "Gram",
    "entropy": "Entropy",
    "target_entropy": "Entropy of the targets",
    "student_entropy": "Entropy of the student",
    "grad_norm": "Gradient norm",
    "lr": "Learning rate",
    "weight_decay": "Weight decay",
    "momentum": "EMA momentum",
    "temperature": "Teacher temperature",
    "gram_weight": "Gram weight",
}
BOOKKEEPING = {"step", "images", "seconds"}
LOG_SCALE = {"gram", "grad_norm"}
MOST_POINTS = 500


def loss_pages(run: Run, arm_looks: Mapping[str, Look]) -> list[Page]:
    """As many pages as the panels need; one that says so where nothing was logged."""
    names, each = logged(run), ACROSS * DOWN
    if not names:
        page = new_page("Losses and schedules")
        page.write(LEFT, TOP + 0.7, "No training curve was logged (metrics.jsonl).", 10, color=SOFT)
        return [page]
    groups = [names[start : start + each] for start in range(0, len(names), each)]
    return [_page(run, group, arm_looks, number) for number, group in enumerate(groups)]


def logged(run: Run) -> list[str]:
    """The series that hold anything, known ones in reading order, then the others by name."""
    names = {str(name) for curve in run.curves.values() for name in curve} - BOOKKEEPING
    found = {name for name in names if any(not _series(curve, name).empty for curve in run.curves.values())}
    return [name for name in TITLES if name in found] + sorted(found - set(TITLES))


def smooth(values: np.ndarray) -> np.ndarray:
    """Running mean over a fortieth of the points, narrower at both ends, so that nothing is shifted in time."""
    reach = len(values) // 40
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    half = np.minimum(reach, np.minimum(places, len(values) - 1 - places))
    return (sums[places + half + 1] - sums[places - half]) / (2 * half + 1)


def _series(curve: pd.DataFrame, name: str) -> pd.Series:
    """One series by step, without gaps; a Gram loss of exactly zero means that it was off."""
    if name not in curve:
        return pd.Series(dtype=float)
    series = curve.set_index("step")[name].astype(float)
    return series[series != 0].dropna() if name in ("gram", "gram_weight") else series.dropna()


def _page(run: Run, group: Sequence[str], arm_looks: Mapping[str, Look], number: int) -> Page:
    many = " and over seeds" if len(run.seeds) > 1 else ""
    caption = f"Bold: running mean over a fortieth of the logged steps{many}; faint: as logged. Terms are shown before their weights."
    page = new_page("Losses and schedules" + (", continued" if number else ""), caption)
    top = legend(page, TOP + 0.54, entries(run, arm_looks)) + 0.3
    panels = grid(page, len(group), top=top, across=ACROSS, down=DOWN)
    for place, (axes, name) in enumerate(zip(panels, group, strict=True)):
        _panel(axes, run, name, arm_looks, foot=place >= len(group) - ACROSS)
    return page


def _panel(axes: Axes, run: Run, name: str, arm_looks: Mapping[str, Look], *, foot: bool) -> None:
    series = {lane: _series(curve, name) for lane, curve in run.curves.items()}
    series = {lane: one for lane, one in series.items() if not one.empty}
    flat = pd.concat(list(series.values()))
    every = pd.concat([curve["step"] for curve in run.curves.values()])
    step_axis(axes, min(0.0, float(every.min())), max(float(every.max()), run.steps or 0), label=foot)
    for lane in run.lanes:
        mine = [one for (arm, _), one in series.items() if arm == lane]
        if mine:
            faint = 0.25 if lane == TRUNK else min(0.25, 1.5 / len(series))
            _lane(axes, mine, arm_looks.get(lane, TRUNK_LOOK), trunk=lane == TRUNK, faint=faint)
    log = name in LOG_SCALE and flat.min() > 0 and flat.max() > 8 * flat.min()
    if log:
        logarithmic(axes, float(flat.min()), float(flat.max()))
    else:
        scaled(axes.yaxis, ticks=5)
        _calm(axes, flat)
    titled(axes, TITLES.get(name, name), "log scale" if log else "")
    if run.trunk_steps:
        fork_line(axes, run.trunk_steps)


def _lane(axes: Axes, seeds: Sequence[pd.Series], look: Look, *, trunk: bool, faint: float) -> None:
    for raw in seeds:
        thin = _thinned(raw)
        axes.plot(thin.index, thin.to_numpy(), color=look.colour, linewidth=0.4, alpha=faint, zorder=2)
    mean = pd.concat(seeds, axis=1).mean(axis=1).sort_index()
    line = _thinned(pd.Series(smooth(mean.to_numpy()), index=mean.index))
    depth = 3.0 if trunk else 3.2 if look.dash == "-" else 3.4  # dashes above solid lines: where arms agree, both show
    axes.plot(line.index, line.to_numpy(), color=look.colour, linestyle=look.dash, linewidth=1.2, zorder=depth)
    if len(line) == 1:
        axes.plot(line.index, line.to_numpy(), color=look.colour, marker=look.marker, markersize=3.5, zorder=5)


def _thinned(series: pd.Series) -> pd.Series:
    """Every n-th point, and the last, so that long runs make no heavy file."""
    if len(series) <= MOST_POINTS:
        return series
    places = np.linspace(0, len(series) - 1, MOST_POINTS).round().astype(int)
    return series.iloc[np.unique(places)]


def _calm(axes: Axes, values: pd.Series) -> None:
    """Limits that single spikes do not stretch, and that do not blow a constant up to noise."""
    low, high = (float(end) for end in np.quantile(values, [0.002, 0.998]))
    span = max(high - low, 0.02 * max(abs(low), abs(high)), 1e-12)
    middle = (low + high) / 2
    half = max((high - low) / 2, span / 2)
    axes.set_ylim(middle - 1.15 * half, middle + 1.15 * half)
