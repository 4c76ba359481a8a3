"""Where two arms differ most: the images, by rule, on which one of them gains, loses and stands in the middle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps

from common.drawing import shorten, wrap
from common.errors import BadInput
from common.palette import UNKNOWN, UNLABELLED, coloured
from evals.results.metrics import metric_of
from evals.results.outcomes import load_outcomes
from evals.results.pictured import ImageKey, set_name
from reports import words
from reports.compared import Differences
from reports.estimates import Column, primary
from reports.features import blocks
from reports.features.blocks import BETWEEN, FOOT, GAP, LABEL, NAMES, Panel, panel
from reports.features.legends import classes_legend
from reports.features.maps import Maps, Picture, Shown, Truth
from reports.features.stages import Sides, gap_by_arm
from reports.page import BOTTOM, LEFT, RIGHT, SOFT, Look, Page, new_page
from reports.pairing import Checkpoint, outcomes_path

ERROR = colormaps["RdBu_r"]
WRONG, UNJUDGED = (213, 94, 0), (26, 26, 26)
WORDS = 0.36  # inches above an image's panels
EXPLAINED = {
    "depth": "Error: predicted minus true depth, red too far, blue too near, on one scale for the page; grey: unknown. "
    "True and predicted depth of an image share their colours, near ones light.",
    "segmentation": "Wrong pixels are orange, those without a label black. True and predicted classes:",
}
FAR = 0.99  # share of the depth errors that the colours span


Draw = Callable[[ImageKey], Panel]


class Row(NamedTuple):
    """Pictures beside one another: what they are, whose (baseline and arm, or nobody's), and what draws an image's."""

    words: str
    whose: tuple[str, ...]
    draw: Sequence[Draw]


class Case(NamedTuple):
    """An image, why it is shown, and the measure on it alone, of the baseline and of the arm."""

    words: str
    image: ImageKey
    baseline: float
    arm: float


def difference_pages(maps: Maps, beside: Sides, compared: Differences, arm_looks: Mapping[str, Look]) -> list[Page]:
    """None where there is no second arm, no dense measure, or no image that both were judged on."""
    run, column = maps.run, primary(maps.run, "dense")
    late = beside.stages[-1].by_arm
    gaps = [(gap, arm) for arm, gap in gap_by_arm(run, compared) if arm in late]
    if column is None or not gaps or run.baseline not in late:
        return []
    arm = max(gaps, key=lambda one: one[0])[1]
    found = cases(maps, column, late[run.baseline], late[arm])
    return [_page(maps, column, found, (late[run.baseline], late[arm]), arm_looks)] if found else []


def cases(maps: Maps, column: Column, baseline: Checkpoint, arm: Checkpoint) -> list[Case]:
    """Of the pictured images those with the largest gain, the median one and the largest loss, each once."""
    values = [by_image(maps, column, at) for at in (baseline, arm)]
    known = [image for image in maps.images if all(np.isfinite(own.get(image, np.nan)) for own in values)]
    if not known:
        return []
    gain = {image: column.direction * (values[1][image] - values[0][image]) for image in known}
    ranked = sorted(known, key=lambda image: -gain[image])  # ties in the order of the set
    best, middle, worst = ranked[0], ranked[(len(ranked) - 1) // 2], ranked[-1]
    said = {
        best: "largest gain" if gain[best] > 0 else "smallest loss" if gain[best] < 0 else "no change",
        worst: "largest loss" if gain[worst] < 0 else "smallest gain" if gain[worst] > 0 else "no change",
    }
    order = {best: said[best], middle: "median", worst: said[worst]} | said
    return [Case(why, image, values[0][image], values[1][image]) for image, why in order.items()]


def by_image(maps: Maps, column: Column, at: Checkpoint) -> dict[ImageKey, float]:
    """The measure on each pictured image alone, from what it contributed; {} where that was not kept."""
    run = maps.run
    path = outcomes_path(run.step_folder(at.lane, at.seed, at.step), column, evaluations=run.evaluations)
    try:
        outcomes = load_outcomes(path) if path is not None else {"keys": np.zeros(0, str)}
        keys = [str(key) for key in outcomes["keys"]]
        wanted = [image for image in maps.images if set_name(image) == f"{column.dataset}/{column.split}"]
        places = {image: keys.index(image.key) for image in wanted if image.key in keys}
        if not places:
            return {}
        counts = np.eye(len(keys))[[*places.values()]]
        return dict(zip(places, map(float, metric_of(column.metric).measure(outcomes, counts)), strict=True))
    except (BadInput, KeyError, ValueError):  # foreign files give no page, not no report
        return {}


def _page(
    maps: Maps, column: Column, found: Sequence[Case], pair: tuple[Checkpoint, Checkpoint], looks: Mapping[str, Look]
) -> Page:
    base, arm = pair
    page = new_page(
        shorten(f"Where {arm.lane} and {base.lane} differ most", RIGHT - LEFT, 15, weight="bold"),
        f"{shorten(arm.lane, 2.5, 8.5)} is the arm that is furthest from the baseline in {column.title} on "
        f"{column.dataset}. Read it so: does what changes lie at edges, in single patches, or all over?",
        size=8.5,
    )
    said = (
        f"By rule, of the images that are kept: the one on which {shorten(arm.lane, 1.5, 7.5)} gains most, the median, "
        f"the one on which it loses most, by {column.title} on that image alone; seed {arm.seed}, step {_steps(pair)}."
    )
    page.head = page.flow(LEFT, page.head + 0.03, wrap(said, RIGHT - LEFT, 7.5, lines=2), 7.5, color=SOFT)
    kind = _kind(maps, column, found)
    rows = _rows(maps, kind, found, pair)
    top, aspect = page.head + 0.15, blocks.aspect_of([maps.pictures.images[case.image].image for case in found])
    wide = (RIGHT - LEFT - BETWEEN * 2) / 3
    high = (BOTTOM - FOOT - top - WORDS - NAMES) / len(rows) - GAP
    width = min((wide - LABEL - GAP) / 2, high / aspect)
    for number, case in enumerate(found):
        x = LEFT + number * (wide + BETWEEN)
        _case(page, column, case, rows, looks, x=x, y=top, width=width, height=width * aspect)
    page.write(LEFT, BOTTOM - 0.16, EXPLAINED.get(kind or "", ""), 7, color=SOFT)
    if kind == "segmentation":
        classes_legend(page, maps, [case.image for case in found], pair)
    return page


def _case(
    page: Page, column: Column, case: Case, rows: Sequence[Row], looks: Mapping[str, Look],
    *, x: float, y: float, width: float, height: float,
) -> None:  # fmt: skip
    """An image's block: what is true on top, below it the baseline on the left and the arm on the right."""
    places = (x + LABEL, x + LABEL + width + GAP)
    room = (RIGHT - LEFT - BETWEEN * 2) / 3
    page.write(x, y + 0.12, shorten(_caption(column, case), room, 8, weight="bold"), 8, weight="bold")
    page.write(x, y + 0.27, shorten(case.image.key, room, 7.5), 7.5, color=SOFT)
    y += WORDS
    for number, row in enumerate(rows):
        if row.whose and not rows[number - 1].whose:
            for place, arm in zip(places, row.whose, strict=True):
                page.swatch(place, y + 0.07, looks[arm], length=0.2)
                page.write(place + 0.25, y + 0.105, shorten(arm, width - 0.27, 7.5), 7.5)
            y += NAMES
        blocks.turned(page, row.words, x=x, y=y, height=height)
        for place, draw in zip(places, row.draw, strict=False):
            blocks.place(page, draw(case.image), x=place, y=y, width=width, height=height)
        y += height + GAP


def _steps(pair: tuple[Checkpoint, Checkpoint]) -> str:
    base, arm = pair
    return str(arm.step) if base.step == arm.step else f"{arm.step} (of the baseline {base.step})"


def _caption(column: Column, case: Case) -> str:
    before, after = (words.number(value * words.scale(column), words.digits(column)) for value in case[2:])
    change = words.number((case.arm - case.baseline) * words.scale(column), words.digits(column), signed=True)
    said = f"{case.words}: {before} to {after} {words.unit(column)}".rstrip()
    return f"{said} ({change} {words.difference_unit(column)}".rstrip() + ")"


def _kind(maps: Maps, column: Column, found: Sequence[Case]) -> str | None:
    """Which prediction is shown: that which is measured, else one that was kept."""
    kinds = [k for k in ("segmentation", "depth") if getattr(maps.pictures.images[found[0].image], k) is not None]
    return column.eval if column.eval in kinds else kinds[0] if kinds else None


def _rows(maps: Maps, kind: str | None, found: Sequence[Case], pair: tuple[Checkpoint, Checkpoint]) -> list[Row]:
    """What is drawn of each image, from top to bottom."""
    whose = (pair[0].lane, pair[1].lane)

    def both(title: str, pick: Callable[[Shown], Picture | None]) -> Row:
        return Row(title, whose, [partial(_of, maps, pick, at) for at in pair])

    def known(pick: Callable[[Truth], Picture | None]) -> Draw:
        return lambda image: panel(pick(maps.truth(image)))

    components = both("components", attrgetter("components"))
    if kind is None:
        middle = both("similar to middle", lambda shown: shown.similar[0])
        return [Row("image", (), [known(attrgetter("image"))]), components, middle]
    title, mistakes = _wrong(maps) if kind == "segmentation" else _far(maps, found, pair)
    return [
        Row("image, truth", (), [known(attrgetter("image")), known(attrgetter(kind))]),
        both("predicted", attrgetter(kind)),
        Row(title, whose, [partial(mistakes, at) for at in pair]),
        components,
    ]


def _of(maps: Maps, pick: Callable[[Shown], Picture | None], at: Checkpoint, image: ImageKey) -> Panel:
    return panel(pick(shown) if (shown := maps.of(at, image)) else None)


def _wrong(maps: Maps) -> tuple[str, Callable[[Checkpoint, ImageKey], Panel]]:
    """Orange where the class is wrong, black where none is known, over the grey image."""

    def draw(at: Checkpoint, image: ImageKey) -> Panel:
        known, seen = maps.pictures.images[image], maps.seen(at, image)
        truth, guess = known.segmentation, seen.segmentation if seen else None
        if truth is None or guess is None or truth.shape != guess.shape:
            return Panel(None)
        grey = (80 + 0.65 * known.image.mean(2, keepdims=True)).astype(np.uint8).repeat(3, 2)
        grey[truth != guess] = WRONG
        grey[truth == UNLABELLED] = UNJUDGED
        return Panel(grey)

    return "wrong", draw


def _far(
    maps: Maps, found: Sequence[Case], pair: tuple[Checkpoint, Checkpoint]
) -> tuple[str, Callable[[Checkpoint, ImageKey], Panel]]:
    """Predicted minus true metres, on one scale for the page."""

    def error(at: Checkpoint, image: ImageKey) -> np.ndarray | None:
        truth, seen = maps.pictures.images[image].depth, maps.seen(at, image)
        guess = seen.depth if seen else None
        if truth is None or guess is None or truth.shape != guess.shape:
            return None
        return np.where(truth > 0, guess.astype(float) - truth.astype(float), np.nan)

    errors = [one for at in pair for case in found if (one := error(at, case.image)) is not None]
    sizes = np.abs(np.concatenate([one[np.isfinite(one)] for one in errors])) if errors else np.zeros(0)
    most = max(float(np.quantile(sizes, FAR)), 1e-3) if sizes.size else 1.0

    def draw(at: Checkpoint, image: ImageKey) -> Panel:
        if (one := error(at, image)) is None:
            return Panel(None)
        shown = coloured(np.nan_to_num(one) / most / 2 + 0.5, ERROR)
        return Panel(np.where(np.isfinite(one)[..., None], shown, np.array(UNKNOWN, np.uint8)))

    return f"error, ±{most:.1f} m", draw
