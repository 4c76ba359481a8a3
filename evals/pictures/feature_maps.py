"""A page of patch features: principal components as colours, and the similarity of all patches to a chosen one.

`common.feature_maps` computes both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from common.errors import BadInput
from common.feature_maps import POINTS, Point, basis, patch_at, similarity
from evals.features.feature_set import FeatureSet
from evals.pictures.sheet import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    SMALL,
    VERMILION,
    SheetColumn,
    lay_out,
    show,
    show_photo,
    style,
)

WIDTH = 1.9
SMALLEST = 0.07  # inches: a frame around a patch is drawn at least this large
_COLOURS = (VERMILION, BLUE, GREEN, PURPLE, ORANGE, SKY)


@dataclass(frozen=True)
class PatchSample:
    """An image as the backbone saw it, uint8 [H W 3], and its patch features."""

    key: str
    image: np.ndarray
    patches: Float[Tensor, "D h w"]


def sample(features: FeatureSet, index: int) -> PatchSample:
    """One image of a set whose patches were kept. The image is shown whole, so the view must have been whole too."""
    height, width = features.grid(index)
    patches = features.patches(index).T.reshape(-1, height, width)
    return PatchSample(features.keys[index], features.dataset.image(index), patches)


def pca_maps(patches: Sequence[Float[Tensor, "D h w"]]) -> list[Float[np.ndarray, "h w 3"]]:
    """The first three principal components of all these patches together, as colours in 0..1; see `basis`."""
    grids = [_grid(one) for one in patches]
    common = basis(grids)
    return [common.colours(one) for one in grids]


def similarity_maps(
    patches: Float[Tensor, "D h w"], points: Sequence[Point] = POINTS
) -> list[Float[np.ndarray, "h w"]]:
    """Cosine similarity, -1..1, of every patch with the one under each point (relative y, x)."""
    return [similarity(_grid(patches), point) for point in points]


def _grid(patches: Float[Tensor, "D h w"]) -> Float[np.ndarray, "h w D"]:
    return patches.detach().cpu().double().permute(1, 2, 0).numpy()


def read_points(texts: Sequence[str]) -> tuple[Point, ...]:
    """Points written as `y,x`, shares of height and width from the top left corner.

    Raises:
        BadInput: something else than two numbers in 0..1.
    """
    points = []
    for text in texts:
        try:
            y, x = (float(part) for part in text.split(","))
        except ValueError:
            y = x = -1.0
        if not (0 <= y <= 1 and 0 <= x <= 1):
            raise BadInput(f"got point {text!r}: want y,x as shares of height and width; do write 0.5,0.25")
        points.append((y, x))
    return tuple(points)


def features_figure(
    samples: Sequence[PatchSample],
    *,
    title: str,
    points: Sequence[Point] = POINTS,
) -> Figure:
    """A row for each image: the image, its patches' principal components as colours, once those of all images together
    and once its own, and the similarity of all its patches to each chosen one, in colours over the range of all maps.
    """
    maps = [similarity_maps(one.patches, points) for one in samples]
    low, high = _limits(maps)
    columns = [
        SheetColumn("Image", WIDTH),
        SheetColumn("Components, all images", WIDTH),
        SheetColumn("Components, this image", WIDTH),
        *(SheetColumn(f"Similarity to {n}", WIDTH, colour=_colour(n)) for n in range(1, len(points) + 1)),
        SheetColumn("Cosine", 0.12, gap=0.5, narrow=True),
    ]
    with style():
        aspects = [one.image.shape[0] / one.image.shape[1] for one in samples]
        sheet = lay_out(columns, [_caption(one) for one in samples], aspects=aspects, title=title, note=_NOTE)
        scale = ScalarMappable(Normalize(low, high), cmap="magma")
        rows = zip(sheet.panels, samples, pca_maps([one.patches for one in samples]), maps, strict=True)
        for panels, one, components, similar in rows:
            show_photo(panels[0], one.image)
            show(panels[1], components, like=one.image)
            show(panels[2], pca_maps([one.patches])[0], like=one.image)
            for number, point in enumerate(points, 1):
                show(panels[2 + number], similar[number - 1], like=one.image, cmap=scale.cmap, norm=scale.norm)
                _frame(panels[2 + number], one, point, colour=_colour(number))
                _frame(panels[0], one, point, colour=_colour(number), label=str(number))
            sheet.figure.colorbar(scale, cax=panels[-1])
    return sheet.figure


_NOTE = (
    "Components: the first three principal components of the patches as red, green and blue (1st to 99th percentile); "
    "those of all images together share their colours, those of one image do not. Similarity: cosine between the "
    "framed patch and every other, on one scale for the whole page. Each flat square is one patch."
)


def _caption(one: PatchSample) -> str:
    return f"{one.key}  ({one.patches.shape[1]} × {one.patches.shape[2]} patches)"


def _colour(number: int) -> str:
    return _COLOURS[(number - 1) % len(_COLOURS)]


def _limits(maps: Sequence[Sequence[np.ndarray]]) -> tuple[float, float]:
    low = min((float(one.min()) for row in maps for one in row), default=0.0)
    return min(low, 1 - 1e-3), 1.0  # features that are all alike still span a scale


def _frame(axes: Axes, one: PatchSample, point: Point, *, colour: str, label: str = "") -> None:
    """Outline the chosen patch, larger than it is where it would be too small to see."""
    grid = (one.patches.shape[1], one.patches.shape[2])
    cells = [side / count for side, count in zip(one.image.shape[:2], grid, strict=True)]
    middle = [(place + 0.5) * cell for place, cell in zip(patch_at(point, grid), cells, strict=True)]
    least = SMALLEST / WIDTH * one.image.shape[1]
    high, wide = (max(cell, least) for cell in cells)
    corner = (middle[1] - wide / 2, middle[0] - high / 2)
    edge = [withStroke(linewidth=3.0, foreground="white")]
    axes.add_patch(Rectangle(corner, wide, high, fill=False, edgecolor=colour, linewidth=1.4, path_effects=edge))
    if label:  # at the upper right corner, at another one where that would leave the image
        right, up = middle[1] < 0.85 * one.image.shape[1], middle[0] > 0.15 * one.image.shape[0]
        place = (corner[0] + wide * right, corner[1] + high * (not up))
        axes.annotate(
            label, place, xytext=(2 if right else -2, 1 if up else -1), textcoords="offset points", size=SMALL + 1,
            weight="bold", color=colour, path_effects=edge, ha="left" if right else "right",
            va="bottom" if up else "top",
        )  # fmt: skip
