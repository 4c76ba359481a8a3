"""Predicted segmentation and depth beside the truth, image by image, with each image's own score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy import ndimage

from common.drawing import text_width
from common.palette import colours
from evals.datasets.labelled_set import IGNORE
from evals.pictures.sheet import (
    LINE,
    MARGIN,
    SMALL,
    SOFT,
    UNKNOWN,
    VERMILION,
    Sheet,
    SheetColumn,
    lay_out,
    show,
    show_photo,
    style,
)

WIDTH = 2.3
KEPT = (1.0, 99.0)  # percentiles of depth and error that the colours span
_HANDLE = 0.55  # inches that a legend entry takes beside its text
_BAR = 0.12
_NAME = 6.5  # points: names inside the areas
_FINE = 400  # pixels a side of the masks in which room for names is looked for
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


@dataclass(frozen=True)
class SegmentationSample:
    """`image` uint8 [H W 3]; `truth` and `prediction` integers [h w], pixel classes, `IGNORE` where not judged."""

    key: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray


@dataclass(frozen=True)
class DepthSample:
    """`image` uint8 [H W 3]; `truth` and `prediction` float [h w] in metres.

    Truth is 0 where unknown or not judged; the prediction may be NaN where not judged.
    """

    key: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray


def segmentation_figure(samples: Sequence[SegmentationSample], segments: tuple[str, ...], *, title: str) -> Figure:
    """A row for each image: image, true classes, predicted classes, wrong pixels. The legend names what occurs."""
    columns = [SheetColumn(heading, WIDTH) for heading in ("Image", "Truth", "Prediction", "Wrong pixels")]
    with style():
        entries = _entries(samples, segments)
        across = _across(entries, sum(column.width + column.gap for column in columns))
        sheet = lay_out(
            columns,
            [f"{one.key}  ({segmentation_score(one)})" for one in samples],
            aspects=[one.image.shape[0] / one.image.shape[1] for one in samples],
            title=title,
            note="Scores are those of the one image, over its labelled pixels. Wrong pixels are orange, those "
            "without a label black.",
            foot=0.2 + -(-len(entries) // across) * SMALL * LINE * 1.15,
        )
        palette = colours(len(segments))
        for panels, one in zip(sheet.panels, samples, strict=True):
            show_photo(panels[0], one.image)
            for axes, mask in zip(panels[1:3], (one.truth, one.prediction), strict=True):
                show(axes, palette[mask], like=one.image)
                _write_names(axes, mask, segments, palette, like=one.image)
            _mistakes(panels[3], one)
        _legend(sheet, entries, across)
    return sheet.figure


def segmentation_score(one: SegmentationSample) -> str:
    """Mean IoU over the classes in the image's truth or prediction, and pixel accuracy, in words."""
    known = one.truth != IGNORE
    if not known.any():
        return "nothing labelled"
    truth, guess = one.truth[known], one.prediction[known]
    shares = [
        np.mean((truth == c) & (guess == c)) / np.mean((truth == c) | (guess == c)) for c in np.union1d(truth, guess)
    ]
    return f"mIoU {np.mean(shares):.0%}, pixel accuracy {np.mean(truth == guess):.0%}"


def _write_names(
    axes: Axes, mask: np.ndarray, segments: tuple[str, ...], palette: np.ndarray, *, like: np.ndarray
) -> None:
    """The name of each class inside its area where the words fit, so that nobody has to tell all colours apart."""
    step = -(-max(mask.shape) // _FINE)
    mask = mask[::step, ::step]
    stretch = [ours / theirs for ours, theirs in zip(like.shape[:2], mask.shape, strict=True)]
    across, down = (like.shape[1] / WIDTH / by for by in reversed(stretch))  # pixels of the mask in an inch
    for number in np.setdiff1d(mask, [IGNORE]):
        wide = text_width(segments[number], _NAME) + 0.06
        place = _room(mask == number, wide=wide * across, high=(_NAME * LINE + 0.02) * down)
        if place is not None:
            y, x = ((at + 0.5) * by for at, by in zip(place, stretch, strict=True))
            dark = palette[number] @ _LUMINANCE < 0.5
            axes.text(x, y, segments[number], size=_NAME, color="white" if dark else "black", ha="center", va="center")


def _room(area: np.ndarray, *, wide: float, high: float) -> tuple[int, int] | None:
    """The middle of a box of this size (pixels) inside the area, as far from its edge as can be; None without one."""
    box = [2 * int(side / 2) + 1 for side in (high, wide)]
    fits = ndimage.minimum_filter(area.astype(np.uint8), size=box, mode="constant")
    inside = np.asarray(ndimage.distance_transform_edt(np.pad(area, 1)))[1:-1, 1:-1] * fits
    return divmod(int(inside.argmax()), area.shape[1]) if inside.any() else None


def _mistakes(axes: Axes, one: SegmentationSample) -> None:
    show_photo(axes, (48 + 0.8 * one.image.mean(2, keepdims=True).repeat(3, 2)).astype(np.uint8))
    unknown = one.truth == IGNORE
    wrong = (one.truth != one.prediction) & ~unknown
    over = wrong[..., None] * np.array(to_rgba(VERMILION, 0.8)) + unknown[..., None] * np.array(to_rgba("black", 0.9))
    show(axes, over, like=one.image)


def _entries(samples: Sequence[SegmentationSample], segments: tuple[str, ...]) -> list[Patch]:
    seen = np.unique(np.concatenate([np.append(np.unique(one.truth), np.unique(one.prediction)) for one in samples]))
    palette = colours(len(segments))
    names = {int(c): "not labelled" if c == IGNORE else segments[c] for c in seen}
    return [Patch(facecolor=palette[c], edgecolor=SOFT, linewidth=0.4, label=name) for c, name in names.items()]


def _across(entries: Sequence[Patch], room: float) -> int:
    """The most columns in which the legend's entries, filled in from the left, fit beside one another."""
    widths = [text_width(str(entry.get_label()), SMALL) + _HANDLE for entry in entries]
    fitting = (n for n in range(len(widths), 1, -1) if sum(map(max, np.array_split(widths, n))) <= room)
    return next(fitting, 1)


def _legend(sheet: Sheet, entries: Sequence[Patch], across: int) -> None:
    wide, high = sheet.figure.get_size_inches()
    place = (MARGIN / wide, (MARGIN + sheet.foot - 0.12) / high)
    sheet.figure.legend(
        handles=entries, loc="upper left", bbox_to_anchor=place, ncols=across, fontsize=SMALL, frameon=False,
        borderpad=0, borderaxespad=0, handlelength=1.3, handleheight=1.0, columnspacing=1.5, labelspacing=0.35,
    )  # fmt: skip


def depth_figure(samples: Sequence[DepthSample], *, title: str) -> Figure:
    """A row for each image: image, true and predicted depth on one scale, and prediction minus truth."""
    bar = SheetColumn("m", _BAR, gap=0.5, narrow=True)
    columns = [
        SheetColumn("Image", WIDTH),
        SheetColumn("True depth", WIDTH),
        SheetColumn("Predicted depth", WIDTH),
        bar,
        SheetColumn("Prediction − truth", WIDTH),
        bar,
    ]
    with style():
        sheet = lay_out(
            columns,
            [f"{one.key}  ({depth_score(one)})" for one in samples],
            aspects=[one.image.shape[0] / one.image.shape[1] for one in samples],
            title=title,
            note="Scores are those of the one image. Truth and prediction share a row's scale, the differences share "
            "one for the page: red is too far, blue too near. Grey: depth unknown.",
        )
        error = _error_scale(samples)
        for panels, one in zip(sheet.panels, samples, strict=True):
            known, scale = one.truth > 0, _depth_scale(one)
            show_photo(panels[0], one.image)
            _depths(panels[1], one.truth, scale, known=known, like=one.image)
            _depths(panels[2], one.prediction, scale, known=np.ones_like(known), like=one.image)
            sheet.figure.colorbar(scale, cax=panels[3]).ax.invert_yaxis()
            _depths(panels[4], one.prediction - one.truth, error, known=known, like=one.image)
            sheet.figure.colorbar(error, cax=panels[5])
    return sheet.figure


def depth_score(one: DepthSample) -> str:
    """RMSE and δ1 (share of pixels within a factor of 1.25) over the known pixels, in words."""
    known = one.truth > 0
    if not known.any():
        return "no depth known"
    truth, guess = one.truth[known].astype(float), one.prediction[known].astype(float)
    rmse = np.sqrt(np.mean((guess - truth) ** 2))
    near = np.maximum(guess, truth) < 1.25 * np.minimum(guess, truth)
    return f"RMSE {rmse:.2f} m, δ1 {near.mean():.0%}"


def _depths(axes: Axes, depth: np.ndarray, scale: ScalarMappable, *, known: np.ndarray, like: np.ndarray) -> None:
    cmap = scale.get_cmap().with_extremes(bad=UNKNOWN)
    show(axes, np.ma.masked_where(~known, depth), like=like, cmap=cmap, norm=scale.norm)


def _depth_scale(one: DepthSample) -> ScalarMappable:
    given = one.truth[one.truth > 0], one.prediction[np.isfinite(one.prediction)]
    parts = [np.percentile(part, KEPT) for part in given if part.size]
    low, high = min((part[0] for part in parts), default=0.0), max((part[1] for part in parts), default=1.0)
    return ScalarMappable(Normalize(low, max(high, low + 1e-3)), cmap="viridis_r")


def _error_scale(samples: Sequence[DepthSample]) -> ScalarMappable:
    errors = np.concatenate([np.abs(one.prediction - one.truth)[one.truth > 0].ravel() for one in samples])
    errors = errors[np.isfinite(errors)]
    most = max(float(np.percentile(errors, KEPT[1])), 1e-3) if errors.size else 1.0
    return ScalarMappable(Normalize(-most, most), cmap="RdBu_r")
