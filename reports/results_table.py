"""The results table: lanes down, measures across, each value with its interval and its difference from the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from common.drawing import shorten, text_width, wrap
from evals.results.metrics import LEADING
from reports import words
from reports.compared import Difference, Differences
from reports.estimates import Column, Estimate, best, columns, final
from reports.page import BOTTOM, FAINT, INK, LEFT, RIGHT, SOFT, TOP, TRUNK_LOOK, Look, Page, new_page
from reports.run_folder import TRUNK, Run
from reports.steady import moving, steady

TITLE, VALUE, SMALL, TINY = 9.0, 9.5, 7.0, 6.5
HEADER, FOOT = 0.5, 0.36
ROW = 0.46
EFFORT = (("Steps", "images seen"), ("Wall time", "operations"), ("Images/s", "peak memory"))
EFFORT_WIDTHS = (0.72, 0.72, 0.72)
NAME_LEAST, NAME_MOST = 1.5, 2.6
AIR, WIDEST = 0.16, 3.0


@dataclass(frozen=True)
class TableLine:
    """A row of the results table: a lane with its values and differences, one per column."""

    lane: str
    look: Look
    values: list[Estimate | None]
    differences: list[Difference | None]


@dataclass(frozen=True)
class Table:
    """Columns beside one another; the same lines wherever its rows go on, so that the best value stays the best."""

    run: Run
    group: list[Column]
    lines: list[TableLine]
    effort: bool

    @property
    def best_arms(self) -> list[str | None]:
        arms = [line for line in self.lines if line.lane != TRUNK]
        return [best({line.lane: line.values[at] for line in arms}, column) for at, column in enumerate(self.group)]


def tables(run: Run, compared: Differences, arm_looks: Mapping[str, Look]) -> list[Table]:
    """The first table for page one, with all columns or the leading ones, then what it has no room for."""
    lines = {column: lines_of(run, [column], compared=compared, arm_looks=arm_looks) for column in moving(run)}
    needs = {column: _need(run, column, rows) for column, rows in lines.items()}
    ordered = sorted(needs, key=lambda column: column.metric not in LEADING)
    wide = RIGHT - LEFT - NAME_LEAST
    groups = [_first(ordered, needs, wide - sum(EFFORT_WIDTHS))]
    rest = [column for column in ordered if column not in groups[0]]
    while rest:
        groups.append(_prefix(rest, needs, wide))
        rest = rest[len(groups[-1]) :]
    return [
        Table(run, group, lines_of(run, group, compared=compared, arm_looks=arm_looks), effort=number == 0)
        for number, group in enumerate(groups)
    ]


def draw_table(page: Page, table: Table, lines: Sequence[TableLine], *, y: float, row: float = ROW) -> float:
    """The header and these lines of the table from the top edge `y`; returns the bottom edge."""
    xs, best_arms = _edges(table), table.best_arms
    _header(page, table, xs=xs, y=y)
    y += HEADER
    for line in lines:
        _row(page, table, line, xs=xs, y=y, row=row, best_arms=best_arms)
        y += row
        page.rule(LEFT, RIGHT, y)
    return y


def continued(parts: Sequence[tuple[Table, Sequence[TableLine]]]) -> list[Page]:
    """Pages for the tables, or rows of tables, that page one has no room for."""
    pages: list[Page] = []
    y = BOTTOM
    for table, lines in parts:
        rest = list(lines)
        while rest:
            room = int((BOTTOM - FOOT - y - HEADER) / ROW)
            if room < min(len(rest), 4):
                pages.append(new_page("Results, continued"))
                y, room = TOP + 0.45, int((BOTTOM - FOOT - TOP - 0.45 - HEADER) / ROW)
            y = draw_table(pages[-1], table, rest[:room], y=y)
            rest = rest[room:]
            y = legend_line(pages[-1], table.run, y) + 0.3
    return pages


def legend_line(page: Page, run: Run, y: float) -> float:
    """How to read the table, under it."""
    text = wrap(legend_text(run), RIGHT - LEFT, SMALL, lines=2)
    return page.flow(LEFT, y + 0.08, text, SMALL, color=SOFT)


def legend_text(run: Run) -> str:
    """How to read the table."""
    kinds = {"seeds": "seeds", "images": "evaluation images"}
    found = [(column, final(run, column, lane)) for column in columns(run) for lane in run.lanes]
    late = any("@" in spread_text(run, column, value) for column, value in found if value is not None)
    over = {value.over for _, value in found if value is not None}
    spread = " or ".join(sorted(kinds[kind] for kind in over if kind))
    said = [
        f"± is half of the 95 % interval over {spread}." if spread else "",
        f"Second line: difference from {run.baseline} with its interval, faint unless {_by_more_than_chance(run)}."
        if run.others
        else "",
        "Bold: best value at the last step." if len(run.arms) > 1 else "",
        "@: step of the value or the difference, where it is not the last one." if late else "",
        "#: hash of the evaluation protocol.",
        steady(run),
    ]
    return " ".join(filter(None, said))


def _by_more_than_chance(run: Run) -> str:
    return "it is better or worse by more than chance" if len(run.seeds) > 1 else "the interval leaves out zero"


def lines_of(
    run: Run, group: Sequence[Column], *, compared: Differences, arm_looks: Mapping[str, Look]
) -> list[TableLine]:
    """The rows of a table of these columns, in the order of the lanes."""
    return [
        TableLine(
            lane=lane,
            look=arm_looks.get(lane, TRUNK_LOOK),
            values=[final(run, column, lane) for column in group],
            differences=[compared.get((column, lane, "steps")) for column in group],
        )
        for lane in run.lanes
    ]


def _first(ordered: Sequence[Column], needs: Mapping[Column, float], room: float) -> list[Column]:
    """Every column where all fit, else the leading ones that do."""
    if sum(needs.values()) <= room:
        return list(ordered)
    main = [column for column in ordered if column.metric in LEADING]
    return _prefix(main or ordered, needs, room)


def _prefix(ordered: Sequence[Column], needs: Mapping[Column, float], room: float) -> list[Column]:
    """As many columns as fit beside one another, at least one."""
    fitting = sum(total <= room for total in accumulate(needs[column] for column in ordered))
    return list(ordered[: max(1, fitting)])


def _need(run: Run, column: Column, lines: Sequence[TableLine]) -> float:
    """Inches that a column asks for: its title, or its longest value or difference."""
    wide = [text_width(column.title, TITLE, weight="bold"), text_width(protocol_text(column), TINY)]
    for line in lines:
        (value,), (change,) = line.values, line.differences
        if value is not None:
            spread = text_width(spread_text(run, column, value), SMALL)
            wide.append(text_width(words.value(column, value), VALUE, weight="bold") + 0.05 + spread)
        if change is not None:
            wide.append(text_width(change_text(column, change, value), SMALL))
    return min(max(wide), WIDEST) + AIR


def _edges(table: Table) -> list[float]:
    """Where the names end, then right edges: of the metric columns, by what they hold, and of the effort columns."""
    effort = sum(EFFORT_WIDTHS) if table.effort else 0.0
    single = [
        [TableLine(line.lane, line.look, [line.values[at]], [line.differences[at]]) for line in table.lines]
        for at in range(len(table.group))
    ]
    needs = [_need(table.run, column, lines) for column, lines in zip(table.group, single, strict=True)]
    free = max(0.0, RIGHT - LEFT - NAME_LEAST - effort - sum(needs))
    name = min(NAME_LEAST + 0.6 * free, NAME_MOST)
    spare = min((free - name + NAME_LEAST) / len(needs), 0.35)
    starts = accumulate((need + spare for need in needs), initial=LEFT + name)
    ends = [RIGHT - sum(EFFORT_WIDTHS[place + 1 :]) for place in range(len(EFFORT))] if table.effort else []
    return [*starts, *ends]


def _header(page: Page, table: Table, *, xs: Sequence[float], y: float) -> None:
    group = table.group
    page.write(LEFT, y + 0.11, "Arm", TITLE, weight="bold")
    for left, edge, column in zip(xs, xs[1:], group, strict=False):
        width = edge - left - 0.08
        unit = f"{words.unit(column)} {words.arrow(column)}".strip()
        title = shorten(column.title, width, TITLE, weight="bold")
        page.write(edge, y + 0.11, title, TITLE, weight="bold", ha="right")
        page.write(edge, y + 0.26, shorten(f"{column.dataset}, {unit}", width, SMALL), SMALL, color=SOFT, ha="right")
        page.write(edge, y + 0.39, shorten(protocol_text(column), width, TINY), TINY, color=FAINT, ha="right")
    for edge, (label, below) in zip(xs[len(group) + 1 :], EFFORT, strict=table.effort):
        page.write(edge, y + 0.11, label, 8, ha="right", color=SOFT)
        page.write(edge, y + 0.26, below, SMALL, ha="right", color=FAINT)
    page.rule(LEFT, RIGHT, y + HEADER, colour=INK, width=0.8)


def measure_heads(page: Page, shown: Sequence[Column], *, first: float, y: float) -> None:
    """The titles of measures over columns of equal width, from `first` to the right edge of the page."""
    width = (RIGHT - first) / len(shown)
    for place, column in enumerate(shown, start=1):
        title = f"{column.title} on {column.dataset} {words.arrow(column)}"
        text = shorten(title, width - 0.1, 8, weight="bold")
        page.write(first + place * width, y + 0.12, text, 8, weight="bold", ha="right")
    page.rule(LEFT, RIGHT, y + 0.2, colour=INK, width=0.8)


def protocol_text(column: Column) -> str:
    """The protocol's version and the head of its hash."""
    return f"{column.version} #{column.protocol_hash[:6]}".rstrip(" #")


def _row(
    page: Page,
    table: Table,
    line: TableLine,
    *,
    xs: Sequence[float],
    y: float,
    row: float,
    best_arms: Sequence[str | None],
) -> None:
    run, group = table.run, table.group
    upper = y + min(0.19, 0.48 * row)
    lower = upper + 0.13
    page.swatch(LEFT, upper - 0.04, line.look)
    _name(page, run, line.lane, upper=upper, width=xs[0] - LEFT, tall=row >= ROW)
    for place, column in enumerate(group):
        left, edge, change = xs[place], xs[place + 1], line.differences[place]
        _value(
            page, edge, upper, column=column, estimate=line.values[place], bold=best_arms[place] == line.lane, run=run
        )
        if change is not None:
            text = change_text(column, change, line.values[place])
            _difference(page, edge, lower, text=text, clear=change.is_shown, width=edge - left)
    cells = words.effort_cells(run, line.lane) if table.effort else ()
    for edge, (above, below) in zip(xs[len(group) + 1 :], cells, strict=table.effort):
        page.write(edge, upper, above, 8, ha="right", color=SOFT)
        page.write(edge, lower, below, SMALL, ha="right", color=FAINT)


def _name(page: Page, run: Run, lane: str, *, upper: float, width: float, tall: bool) -> None:
    """The lane's name with a remark under it; a name too long for one line takes the place of the remark."""
    x, room = LEFT + 0.4, width - 0.45
    if text_width(lane, TITLE) <= room:
        page.write(x, upper, lane, TITLE)
        lines = wrap(remark(run, lane), room, TINY, lines=2 if tall else 1)
        page.flow(x, upper + 0.035, lines, TINY, leading=1.15, color=FAINT)
        return
    fits = max(count for count in range(1, len(lane) + 1) if text_width(lane[:count], SMALL) <= room)
    page.write(x, upper - 0.02, lane[:fits], SMALL)
    page.write(x, upper + 0.1, shorten(lane[fits:], room, SMALL), SMALL)


def remark(run: Run, lane: str) -> str:
    """What stands under the name of a lane."""
    if lane == TRUNK:
        return "shared start of all arms"
    if lane == run.baseline and len(run.arms) > 1:
        return "baseline: " + run.summaries[lane] if run.summaries.get(lane) else "baseline"
    return run.summaries.get(lane, "")


def spread_text(run: Run, column: Column, estimate: Estimate) -> str:
    """ "± 1.6", and the step where it is not the one that the run ends with."""
    late = f"@{estimate.step}" if run.steps and estimate.step not in (run.steps, run.trunk_steps) else ""
    return " ".join(filter(None, [words.half_width(column, estimate), late]))


def change_text(column: Column, estimate: Estimate, own: Estimate | None) -> str:
    """A difference, and its step where that is not the value's `own`."""
    late = f"@{estimate.step}" if own is not None and own.step != estimate.step else ""
    return " ".join(filter(None, [words.difference(column, estimate), late]))


def _value(page: Page, x: float, y: float, *, column: Column, estimate: Estimate | None, bold: bool, run: Run) -> None:
    if estimate is None:
        page.write(x, y, words.NONE, VALUE, ha="right", color=FAINT)
        return
    spread = spread_text(run, column, estimate)
    shift = text_width(spread, SMALL) + 0.05 if spread else 0.0
    page.write(x, y, spread, SMALL, ha="right", color=SOFT)
    weight = "bold" if bold else "normal"
    page.write(x - shift, y, words.value(column, estimate), VALUE, ha="right", weight=weight)


def _difference(page: Page, x: float, y: float, *, text: str, clear: bool, width: float) -> None:
    size = min(SMALL, SMALL * (width - 0.08) / text_width(text, SMALL))
    page.write(x, y, text, size, ha="right", color=INK if clear else FAINT)
