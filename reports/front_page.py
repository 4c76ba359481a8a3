"""Page one: the question, what was found in words, what to be careful about, and the results table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports import words
from reports.page import (
    BOTTOM,
    FAINT,
    INK,
    LEFT,
    RIGHT,
    SOFT,
    TOP,
    TRUNK_LOOK,
    WARN,
    WARN_FILL,
    Look,
    Page,
    new_page,
    shorten,
    text_width,
    wrap,
)
from reports.run_folder import TRUNK, Run
from reports.tables import Column, Differences, Estimate, best, columns, differences, final

ROW, EFFORT = 0.35, ("Steps", "Images seen", "Wall time", "Images/s")
EFFORT_WIDTHS = (0.42, 0.76, 0.64, 0.58)
NAME_WIDTH = 1.8
MOST_COLUMNS = 6


@dataclass(frozen=True)
class Line:
    """A row of the results table: a lane with its values and differences, one per column."""

    lane: str
    look: Look
    values: list[Estimate | None]
    differences: list[Estimate | None]


def front_pages(run: Run, arm_looks: Mapping[str, Look]) -> list[Page]:
    """Page one and, where the table is too long or too wide for it, the pages on which it goes on."""
    page, compared = new_page(), differences(run)
    y = _question(page, run)
    y = _incomplete(page, run, y + 0.1)
    y = _findings(page, run, compared, y=y + 0.14)
    pages, tables = [page], _split(columns(run))
    for number, group in enumerate(tables):
        lines = [_line(run, lane, group, compared=compared, arm_looks=arm_looks) for lane in run.lanes]
        page, y = _table(run, pages, group, lines=lines, y=y + 0.22, effort=number == 0)
    _legend(page, run, y)
    return pages


def _question(page: Page, run: Run) -> float:
    size = 19.0 if len(run.question) < 120 else 15.0
    title = run.question or run.name
    y = page.flow(
        LEFT, TOP - 0.1, wrap(title, RIGHT - LEFT, size, weight="bold", lines=3), size, leading=1.22, weight="bold"
    )
    known = [("Source", run.source), ("Expected", run.expected), ("Cost", run.cost)]
    parts = [(label, text) for label, text in known if text]
    if not parts:
        return y
    gap, bottoms = 0.3, [y]
    width = (RIGHT - LEFT - gap * (len(parts) - 1)) / len(parts)
    for position, (label, text) in enumerate(parts):
        x = LEFT + position * (width + gap)
        page.write(x, y + 0.2, label.upper(), 6, color=FAINT, weight="bold")
        bottoms.append(page.flow(x, y + 0.24, wrap(text, width, 7.5, lines=4), 7.5, color=SOFT))
    return max(bottoms)


def _incomplete(page: Page, run: Run, y: float) -> float:
    gaps = words.sentence_list(words.incomplete(run), most=9)
    if not gaps:
        return y
    wide = RIGHT - LEFT - 0.3
    lines = [line for gap in gaps for line in wrap(gap, wide - 1.2, 8, lines=2)]
    height = 0.14 + len(lines) * 8 * 1.38 / 72
    page.box(LEFT, y, RIGHT - LEFT, height, fill=WARN_FILL)
    page.box(LEFT, y, 0.05, height, fill=WARN)
    page.write(LEFT + 0.15, y + 0.07 + 8 / 72, "Incomplete", 8, weight="bold", color=WARN)
    page.flow(LEFT + 1.2, y + 0.07, lines, 8)
    return y + height


def _findings(page: Page, run: Run, compared: Differences, *, y: float) -> float:
    """The headline on the left, the cautions on the right; returns the lower of the two bottom edges."""
    cautions = words.sentence_list(words.cautions(run), most=6)
    split = LEFT + (RIGHT - LEFT) * (0.66 if cautions else 1.0)
    sentences = words.headline(run, compared) or [f"One arm only ({run.baseline}): nothing to compare it with."]
    size = 10.0 if len(sentences) <= 3 else 8.8 if len(sentences) <= 5 else 8.0
    page.write(LEFT, y + 0.09, "WHAT WAS MEASURED", 6, color=FAINT, weight="bold")
    left = y + 0.15
    for sentence in sentences:
        left = page.flow(LEFT, left, wrap(sentence, split - LEFT - 0.35, size, lines=3), size) + 0.03
    note = wrap(words.interval_note(run, compared), split - LEFT - 0.35, 7, lines=3)
    left = page.flow(LEFT, left + 0.04, note, 7, color=SOFT)
    return max(left, _cautions(page, cautions, x=split, y=y))


def _cautions(page: Page, cautions: Sequence[str], *, x: float, y: float) -> float:
    if not cautions:
        return y
    texts = [wrap(text, RIGHT - x - 0.3, 8, lines=4) for text in cautions]
    height = 0.3 + sum(len(lines) * 8 * 1.38 / 72 + 0.05 for lines in texts)
    page.box(x, y, RIGHT - x, height, fill=WARN_FILL)
    page.box(x, y, 0.05, height, fill=WARN)
    page.write(x + 0.18, y + 0.18, "READ WITH CARE", 6, color=WARN, weight="bold")
    below = y + 0.24
    for lines in texts:
        below = page.flow(x + 0.18, below, lines, 8) + 0.05
    return y + height


def _split(found: list[Column]) -> list[list[Column]]:
    """Columns in groups that fit beside one another, of nearly equal size."""
    groups = -(-len(found) // MOST_COLUMNS)
    share = -(-len(found) // groups)
    return [found[start : start + share] for start in range(0, len(found), share)]


def _line(
    run: Run, lane: str, group: Sequence[Column], *, compared: Differences, arm_looks: Mapping[str, Look]
) -> Line:
    return Line(
        lane=lane,
        look=arm_looks.get(lane, TRUNK_LOOK),
        values=[final(run, column, lane) for column in group],
        differences=[compared.get((column, lane)) for column in group],
    )


def _table(
    run: Run, pages: list[Page], group: Sequence[Column], *, lines: Sequence[Line], y: float, effort: bool
) -> tuple[Page, float]:
    """Draw the table from `y` on, breaking to a new page where it ends; returns the last page and bottom edge."""
    best_arms = [_best(lines, column, place) for place, column in enumerate(group)]
    rest, page = list(lines), pages[-1]
    xs = _edges(run, group, lines, effort=effort)
    while rest:
        room = int((BOTTOM - 0.2 - y - 0.46) / ROW)
        if room < min(len(rest), 4):
            page = new_page("Results, continued")
            pages.append(page)
            y, room = TOP + 0.45, 16
        _header(page, group, xs=xs, y=y, effort=effort)
        y += 0.46
        for line in rest[:room]:
            _row(page, run, line, xs=xs, y=y, best_arms=best_arms, group=group, effort=effort)
            y += ROW
            page.rule(LEFT, RIGHT, y)
        rest = rest[room:]
    return page, y


def _best(lines: Sequence[Line], column: Column, place: int) -> str | None:
    return best({line.lane: line.values[place] for line in lines if line.lane != TRUNK}, column)


def _edges(run: Run, group: Sequence[Column], lines: Sequence[Line], *, effort: bool) -> list[float]:
    """Where the names end, then right edges: of the metric columns, by what they hold, and of the effort columns."""
    room = RIGHT - LEFT - NAME_WIDTH - (sum(EFFORT_WIDTHS) if effort else 0.0)
    needs = [_need(run, column, place, lines=lines) for place, column in enumerate(group)]
    spare = min((room - sum(needs)) / len(needs), 0.3)
    widths = [need + spare for need in needs] if spare >= 0 else [need * room / sum(needs) for need in needs]
    edges = [LEFT + NAME_WIDTH + sum(widths[:place]) for place in range(len(widths) + 1)]
    return edges + ([RIGHT - sum(EFFORT_WIDTHS[place + 1 :]) for place in range(4)] if effort else [])


def _need(run: Run, column: Column, place: int, *, lines: Sequence[Line]) -> float:
    """Inches that a column asks for: its title, or its longest value or difference."""
    wide = [text_width(column.title, 8, weight="bold")]
    for line in lines:
        value, change = line.values[place], line.differences[place]
        if value is not None:
            spread = text_width(_spread(run, column, value), 6.5)
            wide.append(text_width(words.value(column, value), 8.5, weight="bold") + 0.05 + spread)
        if change is not None:
            wide.append(text_width(_change(column, change, value), 6.5))
    return max(wide) + 0.14


def _header(page: Page, group: Sequence[Column], *, xs: Sequence[float], y: float, effort: bool) -> None:
    for left, edge, column in zip(xs, xs[1:], group, strict=False):
        arrow, width = "↑" if column.kind.higher_is_better else "↓", edge - left - 0.08
        unit = f"{words.unit(column)} {arrow}".strip()
        page.write(edge, y + 0.1, shorten(column.title, width, 8, weight="bold"), 8, weight="bold", ha="right")
        page.write(edge, y + 0.25, shorten(f"{column.dataset}, {unit}", width, 6.5), 6.5, color=SOFT, ha="right")
        page.write(edge, y + 0.38, _protocol(column, width), 6, color=FAINT, ha="right")
    page.write(LEFT, y + 0.1, "Arm", 8, weight="bold")
    for edge, label in zip(xs[len(group) + 1 :], EFFORT, strict=effort):
        page.write(edge, y + 0.1, label, 7, ha="right", color=SOFT)
    page.rule(LEFT, RIGHT, y + 0.46, colour=INK, width=0.8)


def _protocol(column: Column, width: float) -> str:
    return shorten(f"{column.protocol} #{column.protocol_hash[:6]}".rstrip(" #"), width, 6)


def _row(
    page: Page,
    run: Run,
    line: Line,
    *,
    xs: Sequence[float],
    y: float,
    best_arms: Sequence[str | None],
    group: Sequence[Column],
    effort: bool,
) -> None:
    page.swatch(LEFT, y + 0.15, line.look)
    _name(page, run, line.lane, y=y)
    for place, column in enumerate(group):
        left, edge, change = xs[place], xs[place + 1], line.differences[place]
        _value(page, edge, y, column=column, estimate=line.values[place], bold=best_arms[place] == line.lane, run=run)
        if change is not None:
            text = _change(column, change, line.values[place])
            _difference(page, edge, y, text=text, clear=change.excludes_zero, width=edge - left)
    for edge, cell in zip(xs[len(group) + 1 :], words.effort_cells(run, line.lane) if effort else (), strict=effort):
        page.write(edge, y + 0.18, cell, 7.5, ha="right", color=SOFT)


def _name(page: Page, run: Run, lane: str, *, y: float) -> None:
    """The lane's name with a remark under it; a name too long for one line takes the place of the remark."""
    x, room = LEFT + 0.4, NAME_WIDTH - 0.45
    if text_width(lane, 8.5) <= room:
        page.write(x, y + 0.18, lane, 8.5)
        page.write(x, y + 0.31, next(iter(wrap(_remark(run, lane), room, 6, lines=1)), ""), 6, color=FAINT)
        return
    fits = max(count for count in range(1, len(lane) + 1) if text_width(lane[:count], 7) <= room)
    page.write(x, y + 0.16, lane[:fits], 7)
    page.write(x, y + 0.28, shorten(lane[fits:], room, 7), 7)


def _remark(run: Run, lane: str) -> str:
    if lane == run.baseline and len(run.arms) > 1:
        return "baseline"
    if lane == TRUNK:
        return "shared start of all arms"
    return run.summaries.get(lane, "")


def _spread(run: Run, column: Column, estimate: Estimate) -> str:
    """ "± 1.6", and the step where it is not the one that the run ends with."""
    late = f"@{estimate.step}" if run.steps and estimate.step not in (run.steps, run.trunk_steps) else ""
    return " ".join(filter(None, [words.half_width(column, estimate), late]))


def _change(column: Column, estimate: Estimate, own: Estimate | None) -> str:
    amount = words.number(estimate.value * words.scale(column), words.digits(column), signed=True)
    late = f"@{estimate.step}" if own is not None and own.step != estimate.step else ""
    return " ".join(filter(None, [amount, words.bracket(column, estimate), late]))


def _value(page: Page, x: float, y: float, *, column: Column, estimate: Estimate | None, bold: bool, run: Run) -> None:
    if estimate is None:
        page.write(x, y + 0.18, words.NONE, 8.5, ha="right", color=FAINT)
        return
    spread = _spread(run, column, estimate)
    shift = text_width(spread, 6.5) + 0.05 if spread else 0.0
    page.write(x, y + 0.18, spread, 6.5, ha="right", color=SOFT)
    weight = "bold" if bold else "normal"
    page.write(x - shift, y + 0.18, words.value(column, estimate), 8.5, ha="right", weight=weight)


def _difference(page: Page, x: float, y: float, *, text: str, clear: bool, width: float) -> None:
    size = min(6.5, 6.5 * (width - 0.08) / text_width(text, 6.5))
    page.write(x, y + 0.31, text, size, ha="right", color=INK if clear else FAINT)


def _legend(page: Page, run: Run, y: float) -> None:
    """How to read the table, under it."""
    over = {estimate.over for column in columns(run) for lane in run.lanes if (estimate := final(run, column, lane))}
    kinds = {"seeds": "seeds", "images": "evaluation images"}
    values = [final(run, column, arm) for column in columns(run) for arm in run.arms]
    late = len({value.step for value in values if value is not None}) > 1
    spread = " or ".join(sorted(kinds[kind] for kind in over if kind))
    said = [
        f"± is half of the 95 % interval over {spread}." if spread else "",
        f"Second line: difference from {run.baseline} with its interval, dark where the interval leaves out zero."
        if run.others
        else "",
        "Bold: best value at the last step." if len(run.arms) > 1 else "",
        "@: step of the value or the difference, where it is not the last one." if late else "",
    ]
    page.flow(LEFT, y + 0.07, wrap(" ".join(filter(None, said)), RIGHT - LEFT, 6.5, lines=2), 6.5, color=SOFT)
