"""Where two arms differ most: the images, by rule, on which one of them gains, loses and stands in the middle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps

from common.drawing import shorten
from common.errors import BadInput
from common.palette import UNLABELLED
from common.steps import KINDS, job_name, step_name
from evals.results.metrics import metric_of
from evals.results.outcomes import load_outcomes
from evals.results.pictured import ImageKey, set_name
from reports import words
from reports.compared import Differences
from reports.estimates import Column, primary
from reports.features import blocks
from reports.features.blocks import CAPTION, GAP, Panel
from reports.features.maps import Maps, Picture
from reports.features.reading import Checkpoint
from reports.features.stages import Sides, gap_by_arm
from reports.page import BOTTOM, LEFT, RIGHT, SOFT, Look, Page, new_page
from reports.pairing import outcomes_path

WRONG, UNJUDGED = (213, 94, 0), (26, 26, 26)
HEADINGS = 0.34  # inches above the panels
FAR = 0.99  # share of the depth errors that the colours span


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
    sign = 1 if column.kind.higher_is_better else -1
    gain = {image: sign * (values[1][image] - values[0][image]) for image in known}
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
    step = (
        run.folder
        / job_name(at.lane, at.seed)
        / step_name(at.step, KINDS["student" if run.judges_students else "teacher"])
    )
    path = outcomes_path(step, column, evaluations=run.evaluations)
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
    measure = f"{column.title} on {column.dataset}"
    page = new_page(
        shorten(f"Where {arm.lane} and {base.lane} differ most", RIGHT - LEFT, 15, weight="bold"),
        f"{shorten(arm.lane, 2.5, 8.5)} is the arm that is furthest from the baseline in {measure}. Images by rule, of "
        f"those kept: the one on which it gains most, the median, the one on which it loses most, by {column.title} of "
        f"that image alone, seed {arm.seed}, step {_steps(pair)}. Read it so: does what changes lie at edges, in "
        "single patches, or all over?",
        size=8.5,
    )
    kind = _kind(maps, column, found)
    columns = _columns(maps, kind, found, pair)
    top = page.head + HEADINGS + 0.1
    aspect = blocks.aspect_of([maps.pictures.images[case.image].image for case in found])
    width = (RIGHT - LEFT - GAP * (len(columns) - 1)) / len(columns)
    height = (BOTTOM - 0.1 - top) / len(found) - CAPTION - GAP
    width = min(width, height / aspect)
    height = width * aspect
    for number, (heading, whose, _) in enumerate(columns):
        x = LEFT + number * (width + GAP)
        page.write(x, top - 0.06, shorten(heading, width, 7.5, weight="bold"), 7.5, weight="bold")
        if whose is not None:
            page.swatch(x, top - 0.24, looks[whose], length=0.2)
            page.write(x + 0.25, top - 0.2, shorten(whose, width - 0.27, 7.5), 7.5, color=SOFT)
    for row, case in enumerate(found):
        y = top + row * (CAPTION + height + GAP)
        page.write(LEFT, y + 0.14, shorten(_caption(column, case, pair), RIGHT - LEFT, 7.5), 7.5, color=SOFT)
        for number, (_, _, draw) in enumerate(columns):
            x = LEFT + number * (width + GAP)
            blocks.place(page, draw(case.image), x=x, y=y + CAPTION, width=width, height=height)
    return page


def _steps(pair: tuple[Checkpoint, Checkpoint]) -> str:
    base, arm = pair
    return str(arm.step) if base.step == arm.step else f"{arm.step} (of the baseline {base.step})"


def _caption(column: Column, case: Case, pair: tuple[Checkpoint, Checkpoint]) -> str:
    before, after = (words.number(value * words.scale(column), words.digits(column)) for value in case[2:])
    unit = words.unit(column)
    change = words.number((case.arm - case.baseline) * words.scale(column), words.digits(column), signed=True)
    said = (
        f"{before} with {pair[0].lane}, {after} with {pair[1].lane} ({change} {words.difference_unit(column)}".rstrip()
    )
    return f"{case.words}: {column.title} {f'in {unit}: ' if unit else ''}{said}) – {case.image.key}"


def _kind(maps: Maps, column: Column, found: Sequence[Case]) -> str | None:
    """Which prediction is shown: that which is measured, else one that was kept."""
    kinds = [k for k in ("segmentation", "depth") if getattr(maps.pictures.images[found[0].image], k) is not None]
    return column.eval if column.eval in kinds else kinds[0] if kinds else None


Draw = Callable[[ImageKey], Panel]


def _columns(
    maps: Maps, kind: str | None, found: Sequence[Case], pair: tuple[Checkpoint, Checkpoint]
) -> list[tuple[str, str | None, Draw]]:
    """Heading, whose it is, and what draws an image."""

    def of(at: Checkpoint, pick: Callable) -> Draw:
        return lambda image: _panel(pick(shown) if (shown := maps.of(at, image)) else None)

    columns: list[tuple[str, str | None, Draw]] = [("image", None, lambda image: _panel(maps.truth(image).image))]
    if kind is not None:
        columns.append(("truth", None, lambda image: _panel(getattr(maps.truth(image), kind))))
        columns += [("predicted", at.lane, of(at, lambda shown: getattr(shown, kind))) for at in pair]
        mistakes = _wrong(maps) if kind == "segmentation" else _far(maps, found, pair)
        title = "wrong pixels" if kind == "segmentation" else "blue nearer, red farther"
        columns += [(title, at.lane, lambda image, at=at: mistakes(at, image)) for at in pair]
    columns += [("components", at.lane, of(at, lambda shown: shown.components)) for at in pair]
    if kind is None:
        columns += [("similarity to middle", at.lane, of(at, lambda shown: shown.similar[0])) for at in pair]
    return columns


def _panel(picture: Picture | None) -> Panel:
    return Panel(None if picture is None else picture.rgb)


def _wrong(maps: Maps) -> Callable[[Checkpoint, ImageKey], Panel]:
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

    return draw


def _far(
    maps: Maps, found: Sequence[Case], pair: tuple[Checkpoint, Checkpoint]
) -> Callable[[Checkpoint, ImageKey], Panel]:
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
        shown = colormaps["RdBu_r"](np.clip(np.nan_to_num(one) / most / 2 + 0.5, 0, 1))[..., :3]
        rgb = np.where(np.isfinite(one)[..., None], shown, 189 / 255)
        return Panel(np.rint(rgb * 255).astype(np.uint8), f"±{most:.1f} m")

    return draw
