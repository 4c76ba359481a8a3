"""The paper's table on Gram anchoring beside what the arms of a run gave, and why the two may not be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from common.drawing import shorten, wrap
from reports import words
from reports.compared import Differences
from reports.estimates import Column, final, primary
from reports.lane_settings import setting
from reports.page import BOTTOM, FAINT, INK, LEFT, RIGHT, SOFT, Look, Page, new_page
from reports.run_folder import Run

SOURCE = "DINOv3 (arXiv 2508.10104), the ablation of Gram anchoring with the 7B model"


class Published(NamedTuple):
    """A row of the paper's table: the step of the Gram teacher, its input's size, and the three measures."""

    teacher: str
    resolution: str
    linear: float
    miou: float
    rmse: float


TABLE = (
    Published("none", "–", 88.2, 50.3, 0.307),
    Published("200 k", "×1", 88.0, 53.6, 0.285),
    Published("200 k", "×2", 88.0, 55.7, 0.281),
    Published("100 k", "×2", 87.9, 55.7, 0.284),
    Published("1 M", "×2", 88.1, 54.9, 0.290),
)
NOT_COMPARABLE = (
    "Only the signs and the order of differences can be set beside one another, never values or sizes: the paper's "
    "model has 6.7 billion parameters and 1 M steps behind it, and was judged on ImageNet-1k, ADE20k and NYUv2 by "
    "other protocols than the arms of this run, whose model, data, length and margins are others."
)
ROW, START = 0.3, 0.5
LEFT_EDGES = (0.85, 1.4, 2.5, 3.65, 4.75)  # inches from the left edge of a table, right-aligned


def published_pages(run: Run, compared: Differences, arm_looks: Mapping[str, Look]) -> list[Page]:
    """The page; none where the run has no arm with Gram anchoring and mIoU."""
    arms, shown = rows_of(run)
    if not arms:
        return []
    ours = f"below each value its difference from {run.baseline}; intervals are on page one"
    caption = f"Left: {SOURCE}. Right: this run, {ours}. {NOT_COMPARABLE}"
    page = new_page("The paper's table of Gram teachers beside ours")
    top = page.flow(LEFT, page.head + 0.28, wrap(caption, RIGHT - LEFT, 9, lines=4), 9, color=SOFT) + 0.3
    _theirs(page, top)
    _ours(page, run, compared, arms, shown, arm_looks, y=top)
    return [page]


def rows_of(run: Run) -> tuple[list[str], list[Column]]:
    """The arms, those without Gram anchoring first, and the measures that the paper's table has; neither, or both."""
    miou = primary(run, "dense", metric="miou")
    anchored = [arm for arm in run.arms if setting(run, arm, "gram.weight")]
    if miou is None or not anchored:
        return [], []
    shown = [column for column in (primary(run, "global"), miou, primary(run, "dense", metric="rmse")) if column]
    return [*(arm for arm in run.arms if arm not in anchored), *anchored], shown


def teacher_words(run: Run, arm: str) -> tuple[str, str]:
    """Which Gram teacher an arm has, and at which size it sees: "step 200", "×2"."""
    if not setting(run, arm, "gram.weight"):
        return "none", words.NONE
    kind, step, resolution = (setting(run, arm, f"gram.{name}") for name in ("teacher", "teacher_step", "resolution"))
    starts = [event.step for event in run.events.get(arm, ()) if event.kind == "gram_start"]
    named = {"start": "first weights", "ema": "live EMA", "checkpoint": "given", "best_dense": "best of a ring"}
    at = step if step is not None else min(starts, default=None)
    renewed = ", renewed" if any(event.kind == "gram_update" for event in run.events.get(arm, ())) else ""
    said = named.get(str(kind), f"step {at}" if at is not None else "at the start")
    return said + renewed, f"×{resolution:g}" if isinstance(resolution, int | float) else words.NONE


def _theirs(page: Page, y: float) -> None:
    for edge, text in zip(
        LEFT_EDGES, ("teacher", "input", "IN1k linear ↑", "ADE20k mIoU ↑", "NYU RMSE ↓"), strict=True
    ):
        page.write(LEFT + edge - 0.3, y, text, 8, ha="right", weight="bold")
    page.rule(LEFT, LEFT + 4.5, y + 0.08, colour=INK)
    first = TABLE[0]
    for number, row in enumerate(TABLE, start=1):
        base = y + number * ROW
        cells = [row.teacher, row.resolution, f"{row.linear:.1f}", f"{row.miou:.1f}", f"{row.rmse:.3f}"]
        changes = (row.linear - first.linear, row.miou - first.miou, row.rmse - first.rmse)
        for place, (edge, text) in enumerate(zip(LEFT_EDGES, cells, strict=True)):
            page.write(LEFT + edge - 0.3, base, text, 9, ha="right")
            if place > 1 and number > 1:
                said = words.number(changes[place - 2], 3 if place == 4 else 1, signed=True)
                page.write(LEFT + edge - 0.3, base + 0.12, said, 7, ha="right", color=FAINT)


def _ours(
    page: Page,
    run: Run,
    compared: Differences,
    arms: Sequence[str],
    shown: Sequence[Column],
    arm_looks: Mapping[str, Look],
    *,
    y: float,
) -> None:
    left, name = LEFT + 4.75, LEFT + 6.0
    step = (RIGHT - name - 1.5) / max(len(shown), 1)
    page.write(left, y, "arm", 8, weight="bold")
    page.write(name, y, "teacher, input", 8, weight="bold")
    for place, column in enumerate(shown, start=1):
        title = shorten(f"{column.title} {words.arrow(column)}", step - 0.05, 8, weight="bold")
        page.write(name + 1.5 + place * step, y, title, 8, ha="right", weight="bold")
    page.rule(left, RIGHT, y + 0.08, colour=INK)
    room = int((BOTTOM - y) / ROW) - 1
    for number, arm in enumerate(arms[:room], start=1):
        base = y + number * ROW
        page.write(left, base, shorten(arm, 1.2, 8.5), 8.5, color=arm_looks[arm].colour, weight="bold")
        page.write(name, base, shorten(" ".join(teacher_words(run, arm)), 1.45, 8), 8)
        for place, column in enumerate(shown, start=1):
            _cell(page, run, compared, column, arm, x=name + 1.5 + place * step, y=base)
    if len(arms) > room:
        page.write(left, BOTTOM, f"and {len(arms) - room} more arms: page one", 7, color=SOFT)


def _cell(page: Page, run: Run, compared: Differences, column: Column, arm: str, *, x: float, y: float) -> None:
    value, change = final(run, column, arm), compared.get((column, arm, "steps"))
    page.write(x, y, words.NONE if value is None else words.value(column, value), 9, ha="right")
    if change is not None:
        page.write(x, y + 0.12, words.amount(column, change), 7, ha="right", color=FAINT)
