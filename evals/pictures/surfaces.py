"""Predicted normals and boundaries beside the truth, image by image, with each image's own score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from evals.pictures.palette import facing, parted
from evals.pictures.sheet import UNKNOWN, Sheet, SheetColumn, lay_out, show, show_photo, style
from evals.tasks.boundaries import average_precision, boundary_cells
from evals.tasks.normals import angles, errors

WIDTH = 2.3
MOST = 60.0  # degrees at which the colours of errors end
_BAR = 0.12


@dataclass(frozen=True)
class NormalSample:
    """`image` uint8 [H W 3]; `truth` and `prediction` unit vectors [h w 3], 0 and NaN where not judged."""

    key: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray


@dataclass(frozen=True)
class BoundarySample:
    """`image` uint8 [H W 3]; `parts` numbers [h w]; `prediction` the probability [r c] of a boundary in each cell."""

    key: str
    image: np.ndarray
    parts: np.ndarray
    prediction: np.ndarray


def normals_figure(samples: Sequence[NormalSample], *, title: str) -> Figure:
    """A row for each image: image, true and predicted normals, and the angle between them."""
    scale = ScalarMappable(Normalize(0, MOST), cmap="inferno")
    headings = ("Image", "True normals", "Predicted normals", "Angle between them")
    with style():
        sheet = _sheet(
            headings,
            samples,
            [normals_score(one) for one in samples],
            title=title,
            note="Scores are those of the one image, over the pixels whose normal is known. Red surfaces face to the "
            "right, green ones upwards, blue ones the camera.",
        )
        for panels, one in zip(sheet.panels, samples, strict=True):
            show_photo(panels[0], one.image)
            show(panels[1], facing(one.truth), like=one.image)
            show(panels[2], facing(one.prediction), like=one.image)
            known = one.truth.any(-1)
            off = np.ma.masked_where(~known, angles(one.prediction, one.truth))
            show(panels[3], off, like=one.image, cmap=scale.get_cmap().with_extremes(bad=UNKNOWN), norm=scale.norm)
            sheet.figure.colorbar(scale, cax=panels[4], extend="max", format="%g°")
    return sheet.figure


def normals_score(one: NormalSample) -> str:
    """The mean angle, and the share of pixels within 11.25 degrees, in words."""
    known = one.truth.any(-1)
    if not known.any():
        return "no normal known"
    found = errors(one.prediction[known], one.truth[known])
    return f"mean angle {found['angle']:.1f}°, within 11.25° {found['within_11']:.0%}"


def boundaries_figure(samples: Sequence[BoundarySample], *, title: str) -> Figure:
    """A row for each image: image, its parts, the cells through which a boundary runs, and their probability."""
    scale = ScalarMappable(Normalize(0, 1), cmap="magma")
    headings = ("Image", "Parts", "Cells with a boundary", "Predicted probability")
    with style():
        sheet = _sheet(
            headings,
            samples,
            [boundaries_score(one) for one in samples],
            title=title,
            note="Scores are those of the one image, over its patches. Grey cells hold no pixel.",
        )
        for panels, one in zip(sheet.panels, samples, strict=True):
            show_photo(panels[0], one.image)
            show(panels[1], parted(one.parts), like=one.image)
            grid = one.prediction.shape
            held, holds = boundary_cells(one.parts, (grid[0], grid[1]))
            truth = np.ma.masked_all(held.shape)
            truth[held] = holds
            for axes, values in ((panels[2], truth.reshape(grid)), (panels[3], one.prediction)):
                cmap = scale.get_cmap().with_extremes(bad=UNKNOWN)
                show(axes, values, like=one.image, cmap=cmap, norm=scale.norm)
            sheet.figure.colorbar(scale, cax=panels[4])
    return sheet.figure


def boundaries_score(one: BoundarySample) -> str:
    """Average precision and the share of cells with a boundary, which an order by chance gets, in words."""
    held, holds = boundary_cells(one.parts, (one.prediction.shape[0], one.prediction.shape[1]))
    if holds.all() or not holds.any():
        return "all cells are alike"
    return f"AP {average_precision(one.prediction.ravel()[held], holds):.0%}, by chance {holds.mean():.0%}"


def _sheet(
    headings: Sequence[str],
    samples: Sequence[NormalSample] | Sequence[BoundarySample],
    scores: Sequence[str],
    *,
    title: str,
    note: str,
) -> Sheet:
    columns = [*(SheetColumn(heading, WIDTH) for heading in headings), SheetColumn("", _BAR, gap=0.5, narrow=True)]
    captions = [f"{one.key}  ({score})" for one, score in zip(samples, scores, strict=True)]
    aspects = [one.image.shape[0] / one.image.shape[1] for one in samples]
    return lay_out(columns, captions, aspects=aspects, title=title, note=note)
