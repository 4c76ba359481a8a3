"""Signs of feature health over training, the alarm's level, and whether they know what labels tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from common.drawing import shorten
from reports import words
from reports.axes import scaled, step_axis, titled
from reports.curves import beside, curves_caption, entries, grid, metric_panel
from reports.estimates import Column
from reports.lane_settings import setting
from reports.page import SOFT, TOP, WARN, WIDTH, Look, Page, even_groups, legend, new_page
from reports.ranks import ACROSS, INSIDE
from reports.run_folder import Run
from reports.signs import Signs, signs_of
from reports.steady import moving
from reports.tracks import Track

ACROSS_PAGE, DOWN = 3, 2
SIGNS_ACROSS, SIGNS_DOWN = 4, 2
SAID = {INSIDE: "inside runs", ACROSS: "across arms"}


def health_pages(run: Run, arm_looks: Mapping[str, Look]) -> list[Page]:
    """Each sign over training, then each against the leading dense measures; none where no sign was measured."""
    signs = [column for column in moving(run) if column.kind.kind == "health"]
    watched = _watched(run)
    panels: list[Column | None] = [*([None] if watched else []), *signs]
    groups = even_groups(panels, most=ACROSS_PAGE * DOWN)
    pages = [_over_training(run, group, arm_looks, watched=watched, first=not at) for at, group in enumerate(groups)]
    return pages + (_against(run, arm_looks) if signs else [])


def levels(values: Mapping[int, float], drop: float) -> dict[int, float]:
    """By step the value at or below which an alarm is raised: the best so far less that share of its size."""
    best, found = -math.inf, {}
    for step, value in sorted(values.items()):
        best = max(best, value)
        found[step] = best - drop * abs(best)
    return found


def _watched(run: Run) -> dict[str, list[dict[int, float]]]:
    """By arm that waits for an alarm, what training measured with each seed."""
    found: dict[str, list[dict[int, float]]] = {}
    for (arm, _), rows in run.watched.items():
        values = {one["step"]: one["value"] for one in rows if one["kind"] == "measured" and "value" in one}
        if values and setting(run, arm, "gram.start") == "alarm":
            found.setdefault(arm, []).append(values)
    return found


def _over_training(
    run: Run,
    group: Sequence[Column | None],
    arm_looks: Mapping[str, Look],
    *,
    watched: Mapping[str, list[dict[int, float]]],
    first: bool,
) -> Page:
    caption = (
        "Signs that need no labels. Which side is better is a belief; the next pages show whether it holds here. "
        + curves_caption(run)
    )
    page = new_page("Feature health over training" + ("" if first else ", continued"), caption, size=8.5)
    top = legend(page, max(TOP + 0.58, page.head + 0.1), entries(run, arm_looks)) + 0.32
    across = 2 if len(group) == 4 else ACROSS_PAGE
    panels = grid(page, len(group), top=top, across=across, down=DOWN, beside=beside(run))
    for axes, column in zip(panels, group, strict=True):
        if column is None:
            _alarm_panel(axes, run, watched, arm_looks)
        else:
            metric_panel(axes, run, column, arm_looks=arm_looks)
    return page


def _alarm_panel(
    axes: Axes, run: Run, watched: Mapping[str, list[dict[int, float]]], arm_looks: Mapping[str, Look]
) -> None:
    """What training itself measured, and below it the level that raises the alarm, a line of each for every seed."""
    for arm, seeds in watched.items():
        drop = setting(run, arm, "gram.alarm_drop")
        for values in seeds:
            axes.plot([*values], [*values.values()], color=arm_looks[arm].colour, linewidth=0.8, alpha=0.6)
            level = levels(values, float(drop) if isinstance(drop, int | float) else 0.0)
            axes.step([*level], [*level.values()], where="post", color=WARN, linewidth=0.8, linestyle=(0, (3, 2)))
        for step in {event.step for event in run.events.get(arm, ()) if event.kind == "alarm"}:
            axes.plot([step], [0.03], marker="^", color=WARN, markersize=5, transform=axes.get_xaxis_transform())
    step_axis(
        axes, 0, max([run.steps or 0, *(step for own in watched.values() for one in own for step in one)]), label=True
    )
    scaled(axes.yaxis)
    names = {str(setting(run, arm, "gram.measure")) for arm in watched}
    titled(axes, f"{' / '.join(sorted(names)).capitalize()}, as watched", "dashed: alarm's level\n▲ alarm raised")


def _against(run: Run, arm_looks: Mapping[str, Look]) -> list[Page]:
    """A page for mIoU and one for the dense measure that leads the report, where it is another one."""
    found, pages = signs_of(run), []
    for column, signs in found.against.items():
        groups = even_groups(signs, most=SIGNS_ACROSS * SIGNS_DOWN)
        pages += [_scatter(run, found, column, group, arm_looks, first=not at) for at, group in enumerate(groups)]
    return pages


def _scatter(
    run: Run, found: Signs, column: Column, signs: Sequence[Column], arm_looks: Mapping[str, Look], *, first: bool
) -> Page:
    caption = (
        "Each mark is a checkpoint of a seed, larger later on. ρ: Spearman's rank correlation, both by their better "
        "side (+1: the sign ranks as the labels do), over the checkpoints of a run or the arms at one step, which all "
        "marks together need not show; mean over seeds with its 95 % interval where there are several."
    )
    title = f"Does a label-free sign know {column.title} on {column.dataset}?"
    page = new_page(title + ("" if first else " Continued"), caption, size=8.5)
    top = legend(page, page.head + 0.1, entries(run, arm_looks, run.arms)) + 0.42
    last = max((int(track.values.index.max()) for track in found.found), default=1)
    panels = grid(page, len(signs), top=top, across=SIGNS_ACROSS, down=SIGNS_DOWN)
    for number, (axes, sign) in enumerate(zip(panels, signs, strict=True)):
        for track in found.found:
            _checkpoints(axes, track, sign, column, look=arm_looks[track.arm], last=last)
        scaled(axes.xaxis, ticks=4)
        scaled(axes.yaxis, ticks=5)
        room = axes.get_position().width * WIDTH
        axes.set_title(correlation_words(found, sign, column), fontsize=7, loc="left", color=SOFT, pad=4)
        axes.set_xlabel(shorten(f"{sign.title} on {sign.dataset} {words.arrow(sign)}", room + 0.3, 8))
        if number % SIGNS_ACROSS == 0:
            axes.set_ylabel(shorten(f"{column.title} ({words.unit(column)}) {words.arrow(column)}", 2.2, 8))
    return page


def _checkpoints(axes: Axes, track: Track, sign: Column, column: Column, *, look: Look, last: int) -> None:
    """A mark for each checkpoint of a seed that has both measures, in shown units."""
    both = track.values[[sign, column]].dropna()
    scale = [words.scale(one) * one.direction for one in (sign, column)]
    how = {"color": look.colour, "marker": look.marker, "linewidths": 0, "alpha": 0.7}
    axes.scatter(*(both.to_numpy() * scale).T, s=4 + 14 * both.index.to_numpy(float) / last, **how)


def correlation_words(found: Signs, sign: Column, column: Column) -> str:
    """ "inside runs ρ +0.71 [+0.60, +0.82]", a line for each kind that can be had."""
    said = []
    for kind, name in SAID.items():
        if known := found.correlation(kind, sign, column):
            said.append(f"{name} ρ {words.correlation(**known)}")
    return "\n".join(said) or "too few checkpoints for a correlation"
