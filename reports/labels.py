"""Labels that keep clear of one another, of the data and of the frame: greedy placement, no randomness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from common.drawing import text_width
from reports.page import FAINT, HEIGHT, WIDTH

_RADII = (0.09, 0.14, 0.22, 0.32, 0.45, 0.6, 0.8, 1.05)
_ANGLES = np.deg2rad([0, 180, 30, -30, 150, -150, 60, -60, 120, -120, 90, -90])


@dataclass(frozen=True)
class Label:
    """Text for the point (x, y) in data units; one that is not `required` is dropped where there is no free place."""

    text: str
    x: float
    y: float
    colour: str
    size: float = 7.5
    weight: str = "normal"
    required: bool = True


Box = tuple[float, float, float, float]


def place(axes: Axes, labels: Sequence[Label], obstacles: np.ndarray) -> None:
    """Write each label near its point, required ones first; `obstacles` [n, 2] are points in data units."""
    dots = _inches(axes, obstacles)
    frame = axes.get_position()
    bounds = (frame.x0 * WIDTH, frame.y0 * HEIGHT, frame.x1 * WIDTH, frame.y1 * HEIGHT)
    taken: list[Box] = []
    for label in sorted(labels, key=lambda label: not label.required):
        anchor = _inches(axes, np.array([[label.x, label.y]]))[0]
        box, crowded = _best_box(label, anchor, dots=dots, taken=taken, bounds=bounds)
        if crowded and not label.required:
            continue
        taken.append(box)
        _draw(axes, label, anchor, box=box)


def along(points: np.ndarray, *, pieces: int = 24) -> np.ndarray:
    """Points [n, 2] of a broken line, made dense, so that lines count as obstacles too."""
    if len(points) < 2:
        return points
    shares = np.linspace(0, 1, pieces, endpoint=False)[:, None]
    dense = [start + shares * (end - start) for start, end in pairwise(points)]
    return np.concatenate([*dense, points[-1:]])


def _inches(axes: Axes, points: np.ndarray) -> np.ndarray:
    return axes.transData.transform(points) / axes.figure.dpi if len(points) else np.empty((0, 2))


def _best_box(
    label: Label, anchor: np.ndarray, *, dots: np.ndarray, taken: Sequence[Box], bounds: Box
) -> tuple[Box, bool]:
    """The cheapest box around the anchor, and whether it still touches another label or several data points."""
    wide, high = text_width(label.text, label.size, weight=label.weight) + 0.03, label.size * 1.25 / 72
    choices = []
    for radius in _RADII:
        for angle in _ANGLES:
            box = _box(anchor, radius, angle, wide=wide, high=high)
            hits = _dots_inside(box, dots)
            overlap = sum(_overlap(box, other) for other in taken)
            outside = wide * high - _overlap(box, bounds)
            cost = 400 * overlap / (wide * high) + 400 * outside / (wide * high) + 0.6 * min(hits, 30) + 6 * radius
            choices.append((cost, len(choices), box, overlap > 0 or outside > 1e-9 or hits > 2))
    _, _, box, crowded = min(choices, key=lambda choice: choice[:2])
    return box, crowded


def _box(anchor: np.ndarray, radius: float, angle: float, *, wide: float, high: float) -> Box:
    """A box whose nearest edge or corner lies `radius` from the anchor in the direction of `angle`."""
    across, up = np.cos(angle), np.sin(angle)
    x = anchor[0] + radius * across + (across - 1) / 2 * wide
    y = anchor[1] + radius * up + (up - 1) / 2 * high
    return (x, y, x + wide, y + high)


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _dots_inside(box: Box, dots: np.ndarray) -> int:
    if not len(dots):
        return 0
    inside = (dots[:, 0] > box[0]) & (dots[:, 0] < box[2]) & (dots[:, 1] > box[1]) & (dots[:, 1] < box[3])
    return int(inside.sum())


def _draw(axes: Axes, label: Label, anchor: np.ndarray, *, box: Box) -> None:
    figure, size = axes.figure, np.array([WIDTH, HEIGHT])
    middle = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    nearest = np.clip(anchor, [box[0], box[1]], [box[2], box[3]])
    if np.hypot(*(nearest - anchor)) > 0.2:
        line = np.stack([anchor, nearest]) / size
        axes.plot(line[:, 0], line[:, 1], color=FAINT, linewidth=0.5, transform=figure.transFigure, zorder=4)
    text = axes.text(
        float(middle[0] / WIDTH),
        float(middle[1] / HEIGHT),
        label.text,
        fontsize=label.size,
        weight=label.weight,
        color=label.colour,
        ha="center",
        va="center",
        transform=figure.transFigure,
        zorder=20,
    )
    text.set_path_effects([withStroke(linewidth=2.2, foreground="white")])
