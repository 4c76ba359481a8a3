"""The last pages: what the arms change, what they took, environment, data, protocols, the resolved configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.drawing import shorten, text_width
from reports import words
from reports.effort import effort
from reports.lane_settings import lookup
from reports.page import BOTTOM, FAINT, INK, LEFT, RIGHT, SOFT, TOP, Look, Page, even_groups, new_page
from reports.run_folder import Run

COLUMNS, GAP, SIZE = 5, 0.22, 6.5
ON_PAGE_ONE = ("question", "source", "expected", "cost")
STEP = SIZE * 1.36 / 72
WIDTH = (RIGHT - LEFT - GAP * (COLUMNS - 1)) / COLUMNS
START = TOP + 0.5
KEY_WIDTH, ROW = 2.5, 0.185
MOST_ARMS = 8
LONGEST = 6  # list items shown
READING = "First what each arm sets in place of the shared value (grey); then what all ran on, and every setting."


@dataclass(frozen=True)
class Item:
    """A line of a block: key and value, or a heading alone."""

    key: str
    value: Any = None
    heading: bool = False
    depth: int = 0


def provenance_pages(run: Run, arm_looks: Mapping[str, Look]) -> list[Page]:
    """The overrides in full width, then everything else in columns, over as many pages as it takes."""
    pages = [new_page("Configuration and environment", READING)]
    y = START + 0.1
    for beside in even_groups(run.arms, most=MOST_ARMS):
        y = _overrides(pages, run, beside, arm_looks=arm_looks, y=y)
    _columns(pages, blocks(run), y)
    return pages


def shown(value: Any, *, longest: int = LONGEST) -> str:
    """A setting as YAML would write it; lists beyond `longest` items are cut and say how many are left out."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {shown(item, longest=longest)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = [shown(item, longest=longest) for item in value[:longest]]
        rest = [f"… {len(value) - longest} more"] if len(value) > longest else []
        return "[" + ", ".join(items + rest) + "]"
    return str(value).replace("\n", " ")


def _overrides(pages: list[Page], run: Run, arms: Sequence[str], *, arm_looks: Mapping[str, Look], y: float) -> float:
    """The table of what each arm sets: settings down, arms across; grey where an arm keeps the shared value."""
    keys = list(dict.fromkeys(key for arm in arms for key in run.overrides.get(arm, {})))
    width = min((RIGHT - LEFT - KEY_WIDTH) / (len(arms) + 1), 2.0)
    rest = list(keys)
    while rest:
        page = pages[-1]
        if BOTTOM - y < 0.4 + 2 * ROW:
            pages.append(new_page("Configuration and environment, continued"))
            page, y = pages[-1], START
        _override_head(page, arms, arm_looks, width=width, y=y)
        y += 0.3
        room = max(1, int((BOTTOM - y) / ROW))
        for key in rest[:room]:
            _override_row(page, run, arms, key=key, width=width, y=y)
            y += ROW
        rest = rest[room:]
    return y + 0.25 if keys else y


def _override_head(page: Page, arms: Sequence[str], arm_looks: Mapping[str, Look], *, width: float, y: float) -> None:
    page.write(LEFT, y + 0.1, "What the arms set", 8, weight="bold")
    page.write(LEFT + KEY_WIDTH, y + 0.1, "shared", 7.5, color=SOFT)
    for place, arm in enumerate(arms, start=1):
        x = LEFT + KEY_WIDTH + place * width
        text = shorten(arm, width - 0.08, 7.5, weight="bold")
        page.write(x, y + 0.1, text, 7.5, weight="bold", color=arm_looks[arm].colour)
    page.rule(LEFT, RIGHT, y + 0.18, colour=INK)


def _override_row(page: Page, run: Run, arms: Sequence[str], *, key: str, width: float, y: float) -> None:
    mono = {"family": "monospace"}
    page.write(LEFT, y + 0.1, shorten(key, KEY_WIDTH - 0.1, 7, **mono), 7, **mono)
    base = shown(lookup(run.config, key, absent=""))
    page.write(LEFT + KEY_WIDTH, y + 0.1, shorten(base, width - 0.08, 7, **mono), 7, color=SOFT, **mono)
    for place, arm in enumerate(arms, start=1):
        mine = run.overrides.get(arm, {})
        text = shorten(shown(mine[key]), width - 0.08, 7, **mono) if key in mine else "·"
        page.write(LEFT + KEY_WIDTH + place * width, y + 0.1, text, 7, color=INK if key in mine else FAINT, **mono)
    page.rule(LEFT, RIGHT, y + ROW - 0.03)


def blocks(run: Run) -> list[list[Item]]:
    """Time, environment and data first, then one block per section of the configuration, plain settings together."""
    blocks = [_time(run), _block("Environment", run.environment), _data(run), _prints(run), _protocols(run)]
    config = {key: value for key, value in run.config.items() if key not in ("arms", *ON_PAGE_ONE)}
    plain = {key: value for key, value in config.items() if not isinstance(value, Mapping)}
    sections = {key: value for key, value in config.items() if isinstance(value, Mapping)}
    if not sections.get("sweep", {}).get("objectives"):  # nothing is searched
        sections.pop("sweep", None)
    blocks += [_block("Experiment", plain)] + [_block(key, section) for key, section in sections.items()]
    return [block for block in blocks if len(block) > 1]


def _block(title: str, section: Mapping[str, Any]) -> list[Item]:
    return [Item(title, heading=True), *_items(section, 0)]


def _items(section: Mapping[str, Any], depth: int) -> Iterator[Item]:
    for key, value in section.items():
        if isinstance(value, Mapping) and value:
            yield Item(str(key), "", depth=depth)
            yield from _items(value, depth + 1)
        else:
            yield Item(str(key), value, depth=depth)


def _time(run: Run) -> list[Item]:
    """How long each lane trained with a seed, and all of them together, what they share once."""
    lanes = [(lane, taken) for lane in run.lanes if (taken := effort(run, lane).seconds) is not None]
    once = {}
    for (lane, seed), status in run.status.items():
        part = run.part(lane, seed)
        once[part.segment or (lane, seed), part.start] = status.seconds or 0.0
    items = [Item(lane, words.span(taken)) for lane, taken in lanes]
    total = [Item("all, with every seed", words.span(sum(once.values())))] if items else []
    return [Item("Training, mean of a seed", heading=True), *items, *total]


def _prints(run: Run) -> list[Item]:
    """The fingerprints of the data that was evaluated on: another one is other data."""
    found = dict.fromkeys((f"{row.dataset}, {row.split}", row.data) for row in run.rows)
    return [Item("Fingerprints of data", heading=True), *(Item(name, data) for name, data in sorted(found) if data)]


def _data(run: Run) -> list[Item]:
    """How many images each evaluation was computed from."""
    images = {(row.dataset, row.eval): row.images for row in sorted(run.rows, key=lambda row: row.images)}
    items = [Item(f"{dataset}, {name}", words.count(images[dataset, name])) for dataset, name in sorted(images)]
    return [Item("Evaluation images", heading=True), *items]


def _protocols(run: Run) -> list[Item]:
    """Which protocol, and which version of it, stands behind each evaluation."""
    found = sorted({(row.eval, row.protocol, row.protocol_hash) for row in run.rows})
    items = [
        Item(protocol if protocol.startswith(name) else f"{name} {protocol}", digest)
        for name, protocol, digest in found
    ]
    return [Item("Protocols", heading=True), *items]


def _columns(pages: list[Page], blocks: Sequence[Sequence[Item]], top: float) -> None:
    """Let the blocks flow down the columns and on to further pages; a heading never stands alone at a foot."""
    if BOTTOM - top < 12 * STEP:
        pages.append(new_page("Configuration and environment, continued"))
        top = START
    column, y = 0, top
    for block in blocks:
        for place, item in enumerate(block):
            need = STEP * (4 if item.heading else 1)
            if y + need > BOTTOM:
                column, y = column + 1, top
                if column == COLUMNS:
                    pages.append(new_page("Configuration and environment, continued"))
                    column, y, top = 0, START, START
                if not item.heading and place:
                    y = _item(
                        pages[-1], Item(f"{block[0].key} (continued)", heading=True), LEFT + column * (WIDTH + GAP), y=y
                    )
            y = _item(pages[-1], item, LEFT + column * (WIDTH + GAP), y=y)
        y += 1.2 * STEP


def _item(page: Page, item: Item, x: float, *, y: float) -> float:
    """Write a line and return the height below it."""
    if item.heading:
        page.write(x, y + 0.1, shorten(item.key, WIDTH, 8, weight="bold"), 8, weight="bold")
        page.rule(x, x + WIDTH, y + 0.15)
        return y + 0.19
    mono, inset = {"family": "monospace"}, x + 0.1 * min(item.depth, 6)
    key = shorten(item.key, (x + WIDTH - inset) * (0.62 if item.value != "" else 1.0), SIZE, **mono)
    page.write(inset, y + 0.09, key, SIZE, color=SOFT, **mono)
    room = x + WIDTH - inset - text_width(key, SIZE, **mono) - 0.1
    page.write(x + WIDTH, y + 0.09, _fitted(item.value, room), SIZE, ha="right", **mono)
    return y + STEP


def _fitted(value: Any, room: float) -> str:
    """The value in at most `room` inches: fewer items of a list first, then an ellipsis in the middle."""
    texts = [shown(value, longest=longest) for longest in (LONGEST, 4, 2, 1)]
    fitting = [text for text in texts if text_width(text, SIZE, family="monospace") <= room]
    return fitting[0] if fitting else shorten(texts[-1], room, SIZE, family="monospace")
