"""What was shown: each arm against the baseline in each metric, with its interval drawn beside zero and the margin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from common.drawing import shorten, text_width, wrap
from evals.results.metrics import LEADING
from reports import words
from reports.compared import Difference, Differences, foremost_of
from reports.estimates import Column
from reports.page import BOTTOM, FAINT, HEIGHT, INK, LEFT, RIGHT, SOFT, TOP, WARN, WIDTH, Look, Page, new_page
from reports.run_folder import Run
from reports.steady import moving
from reports.verdict_words import note, word

START, HEAD, ROW, GAP = TOP + 0.66, 0.3, 0.19, 0.12  # inches: top, a metric's head, an arm, between metrics
ARM_WIDTH, DIFFERENCE, BRACKET, WORD, NOTE = 1.9, 3.4, 4.8, 7.05, 8.8
PLOT, PLOT_WIDTH = 4.95, 1.95
REACH = 6.0  # of the largest difference or margin: what an interval may stretch the scale to
SMALL = 6.5
FEWEST = 3  # arms of a metric that begin on a page, where no page holds them all
COLOURS = {"better": "#00715a", "worse": WARN, "no worse than the margin": INK, "higher": INK, "lower": INK}
MARKS = {"better": "▲ ", "worse": "▼ "}
ZONE = "#eef3f7"


@dataclass(frozen=True)
class Scale:
    """From a gain, in the metric's unit and with better to the right, to inches; what lies beyond `half` is cut off."""

    half: float

    def x(self, gain: float) -> float:
        return PLOT + PLOT_WIDTH * (0.5 + 0.5 * float(np.clip(gain / self.half, -1, 1)))


def verdict_pages(run: Run, compared: Differences, arm_looks: Mapping[str, Look]) -> list[Page]:
    """As many pages as the metrics need, leading ones first; none where there is nothing to compare."""
    groups = judged(run, compared)
    said = caption(run, [one for _, arms in groups for one in arms])
    pages: list[Page] = []
    y = BOTTOM
    for column, arms in groups:
        usual = _usual(arms)
        whole, some = (HEAD + sum(_height(one, usual) for one in these) for these in (arms, arms[:FEWEST]))
        if y + (whole if START + whole <= BOTTOM else some) > BOTTOM:  # what no page holds may begin anywhere
            pages.append(_new(said, first=not pages))
            y = START
        y = _head(pages[-1], column, arms, y)
        for one in arms:
            if y + _height(one, usual) > BOTTOM:  # more arms than a page has room for
                pages.append(_new(said, first=False))
                y = _head(pages[-1], column, arms, START)
            _row(pages[-1], one, arm_looks[one.arm], usual=usual, scale=_scale(arms), y=y)
            y += _height(one, usual)
        y += GAP
    return pages


def judged(run: Run, compared: Differences) -> list[tuple[Column, list[Difference]]]:
    """The columns in which anything is compared, leading ones first, with what the report shows of each."""
    groups = [(column, foremost_of(run, compared, column)) for column in moving(run)]
    return sorted((group for group in groups if group[1]), key=lambda group: group[0].metric not in LEADING)


def _about(one: Difference) -> tuple[str, ...]:
    """Where the two stand beside one another, over what the interval is, and the margin."""
    over = (f"{one.seeds} " if one.over.startswith("seeds") else "") + one.over
    return (
        words.place(one),
        over and f"over {over}",
        "" if words.margin(one) == words.NONE else f"margin {words.margin(one)}",
    )


def _usual(arms: Sequence[Difference]) -> tuple[str, ...]:
    """What most arms have, which stands in the head of their metric."""
    return Counter(map(_about, arms)).most_common(1)[0][0]


def _notes(one: Difference, usual: tuple[str, ...]) -> list[str]:
    """What the head does not tell of an arm, and what its word leaves out."""
    unlike = [mine for mine, theirs in zip(_about(one), usual, strict=True) if mine != theirs]
    return wrap("; ".join(filter(None, [*unlike, note(one)])), RIGHT - NOTE, SMALL, lines=4)


def _height(one: Difference, usual: tuple[str, ...]) -> float:
    return ROW + 0.1 * max(len(_notes(one, usual)) - 1, 0)


def caption(run: Run, shown: Sequence[Difference]) -> str:
    """How to read what was shown."""
    families = words.comparisons(shown)
    measures = {one.measure for one in shown}
    places = ["where both have used as much"] if measures - {"steps", "ends"} else []
    places += ["at the end of each"] if "ends" in measures else []
    without = f" (or, as said, {' or '.join(places)})" if places else ""
    return (
        f"Differences from {shorten(run.baseline, 2.0, 9)} at the last step that both have{without}, with 95 % "
        "intervals. Right of the line is better, shaded is the margin, an arrow goes on. "
        + (f"Words are corrected over the {families} (Holm), intervals are each arm's own. " if families else "")
        + "docs/statistics.md explains each word."
    )


def _new(said: str, *, first: bool) -> Page:
    return new_page("What was shown" + ("" if first else ", continued"), said, size=8.5)


def _scale(arms: Sequence[Difference]) -> Scale:
    known = [abs(one.value) for one in arms] + [one.verdict.margin for one in arms if one.verdict]
    largest = max([value for value in known if np.isfinite(value)], default=0.0)
    ends = [abs(end) for one in arms for end in (one.low, one.high) if np.isfinite(end)]
    half = min(max([*ends, largest]), REACH * largest) if largest else max(ends, default=0.0)
    return Scale(1.05 * half or 1.0)


def _head(page: Page, column: Column, arms: Sequence[Difference], y: float) -> float:
    title = f"{column.title} on {column.dataset}, {words.unit(column)} {words.arrow(column)}".replace(",  ", " ")
    room = BRACKET - LEFT - text_width("95 % interval", SMALL) - 0.1
    size = 9.0 if text_width(title, 9, weight="bold") <= room else 8.0
    page.write(LEFT, y + 0.17, shorten(title, room, size, weight="bold"), size, weight="bold")
    half = _scale(arms).half * words.scale(column)
    small = {"color": FAINT, "va": "baseline"}
    for gain, ha in ((-half, "left"), (half, "right")):
        text = words.number(column.direction * gain, words.digits(column), signed=True)
        page.write(PLOT + (PLOT_WIDTH if gain > 0 else 0.0), y + 0.18, text, SMALL, ha=ha, **small)
    page.write(PLOT + PLOT_WIDTH / 2, y + 0.18, "0", SMALL, ha="center", **small)
    page.write(BRACKET, y + 0.18, "95 % interval", SMALL, ha="right", color=FAINT)
    about = ", ".join(filter(None, ["verdict", *_usual(arms)]))
    page.write(WORD, y + 0.18, shorten(about, RIGHT - WORD, SMALL), SMALL, color=FAINT)
    page.rule(LEFT, RIGHT, y + 0.24, colour=FAINT)
    return y + HEAD


def _row(page: Page, one: Difference, look: Look, *, usual: tuple[str, ...], scale: Scale, y: float) -> None:
    base, column, said = y + 0.13, one.column, word(one)
    page.swatch(LEFT, base - 0.04, look)
    page.write(LEFT + 0.38, base, shorten(one.arm, ARM_WIDTH - 0.1, 8.5), 8.5)
    page.write(DIFFERENCE, base, words.amount(column, one), 8.5, ha="right", weight="bold")
    page.write(BRACKET, base, words.bracket(column, one) or "no interval", 8, ha="right", color=SOFT)
    _interval(page, one, look, scale=scale, y=base - 0.03)
    colour, weight = COLOURS.get(said, SOFT), "bold" if said in COLOURS else "normal"
    page.write(WORD, base, MARKS.get(said, "") + said, 8, color=colour, weight=weight)
    page.flow(NOTE, base - 0.085, _notes(one, usual), SMALL, leading=1.15, color=FAINT)


def _interval(page: Page, one: Difference, look: Look, *, scale: Scale, y: float) -> None:
    """The interval as a bar with its difference, zero as a line, and the zone from the margin to zero."""
    sign, tall = one.column.direction, 0.075
    if one.verdict and one.verdict.margin:
        left, right = scale.x(-one.verdict.margin), scale.x(0.0)
        page.box(left, y - tall, right - left, 2 * tall, fill=ZONE)
    _line(page, [scale.x(0.0)] * 2, [y - tall, y + tall], color=FAINT, linewidth=0.7)
    ends = sorted(sign * end for end in (one.low, one.high))
    if np.isfinite(ends).all():
        _line(page, [scale.x(end) for end in ends], [y, y], color=look.colour, linewidth=1.6)
        for end, marker in ((ends[0], "<"), (ends[1], ">")):
            if abs(end) > scale.half:
                _line(page, [scale.x(end)], [y], color=look.colour, marker=marker, markersize=4)
    _line(page, [scale.x(sign * one.value)], [y], color=look.colour, marker=look.marker, markersize=4.5)


def _line(page: Page, xs: Sequence[float], ys: Sequence[float], **look: Any) -> None:
    ends = [x / WIDTH for x in xs], [1 - y / HEIGHT for y in ys]
    page.figure.add_artist(Line2D(*ends, solid_capstyle="butt", **look))
