"""The sheet that every page of a report is drawn on: A4 landscape, its look and that of every arm.

Lengths are inches and the origin is the top left corner, so that text can flow downwards. The first eight colours are
those of Okabe and Ito ("Color Universal Design", 2008), told apart with the common colour-vision deficiencies; line
style and marker repeat the distinction for grey print, and where more arms than these have a colour each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from common import drawing
from common.drawing import shorten, text_width, wrap

WIDTH, HEIGHT = 11.69, 8.27
LEFT, RIGHT, TOP, BOTTOM = 0.55, WIDTH - 0.55, 0.5, HEIGHT - 0.55
INK, SOFT, FAINT, HAIR = "#1a1a1a", "#5c5c5c", "#9a9a9a", "#d9d9d9"
WARN, WARN_FILL = "#b34700", "#fdf3ea"
TRUNK_COLOUR = "#8a8a8a"
T = TypeVar("T")

_COLOURS = (
    *("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#9c8f00"),
    *("#3b1f8f", "#a50f37", "#8bc34a", "#7a4a21", "#9b5de5", "#ff8a80", "#00515c", "#c8b560"),
)
_DASHES: tuple[Any, ...] = (
    "-",
    "-",
    (0, (6, 1.6)),
    (0, (6, 1.4, 1.2, 1.4)),
    (0, (3, 1.2)),
    "-",
    (0, (1.3, 1.2)),
    (0, (8, 1, 3, 1)),
)
_MARKERS = ("o", "s", "^", "v", "P", "X", "h", "p")

_STYLE = {
    "font.size": 8.0,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#ececec",
    "grid.linewidth": 0.5,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.solid_capstyle": "round",
    "pdf.compression": 6,
}


def style() -> Any:
    """A context in which only the look of reports counts."""
    return drawing.style(_STYLE)


@dataclass(frozen=True)
class Look:
    """How an arm is drawn on every page."""

    colour: str
    dash: Any
    marker: str


def looks(arms: Sequence[str], baseline: str) -> dict[str, Look]:
    """A look for each arm: the baseline is black and solid, the others follow in their order, none of one colour."""
    ordered = [baseline, *(arm for arm in arms if arm != baseline)]
    count = len(_MARKERS)
    chosen = {}
    for position, arm in enumerate(ordered):
        turn, index = divmod(position, count)
        chosen[arm] = Look(_colour(position), _DASHES[(index + 3 * turn) % count], _MARKERS[(index + turn) % count])
    return chosen


def _colour(position: int) -> str:
    """One of the colours; beyond them the same but black anew, darker and lighter by turns."""
    if position < len(_COLOURS):
        return _COLOURS[position]
    turn, index = divmod(position - len(_COLOURS), len(_COLOURS) - 1)
    share, end = 0.65 ** (turn // 2 + 1), float(turn % 2)
    red, green, blue = (share * part + (1 - share) * end for part in to_rgb(_COLOURS[index + 1]))
    return to_hex((red, green, blue))


@dataclass
class Page:
    """One sheet; `write` and `rule` place things at (x, y) inches from the top left corner.

    head: where its subtitle ends.
    """

    figure: Figure
    head: float = TOP

    def write(self, x: float, y: float, text: str, size: float = 8, **how: Any) -> None:
        """Text with its first base line at `y`."""
        how.setdefault("va", "baseline")
        how.setdefault("color", INK)
        self.figure.text(x / WIDTH, 1 - y / HEIGHT, text, fontsize=size, **how)

    def flow(
        self, x: float, y: float, lines: Sequence[str], size: float = 8, *, leading: float = 1.38, **how: Any
    ) -> float:
        """Lines below one another from the top edge `y`; returns the bottom edge."""
        step = size * leading / 72
        for number, line in enumerate(lines):
            self.write(x, y + number * step + size / 72, line, size, **how)
        return y + len(lines) * step

    def rule(self, x0: float, x1: float, y: float, *, colour: str = HAIR, width: float = 0.6) -> None:
        ends = [x0 / WIDTH, x1 / WIDTH], [1 - y / HEIGHT] * 2
        self.figure.add_artist(Line2D(*ends, color=colour, linewidth=width, solid_capstyle="butt"))

    def box(self, x: float, y: float, width: float, height: float, *, fill: str) -> None:
        corner = (x / WIDTH, 1 - (y + height) / HEIGHT)
        patch = Rectangle(
            corner, width / WIDTH, height / HEIGHT, facecolor=fill, edgecolor="none", transform=self.figure.transFigure
        )
        self.figure.add_artist(patch)

    def swatch(self, x: float, y: float, look: Look, *, length: float = 0.3) -> None:
        """A line sample with its marker, centred on height `y`."""
        xs = [x / WIDTH, (x + length / 2) / WIDTH, (x + length) / WIDTH]
        line = Line2D(xs, [1 - y / HEIGHT] * 3, color=look.colour, linestyle=look.dash, linewidth=1.4)
        dot = Line2D(xs[1:2], [1 - y / HEIGHT], color=look.colour, marker=look.marker, markersize=4, linestyle="none")
        self.figure.add_artist(line)
        self.figure.add_artist(dot)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        return self.figure.add_axes((x / WIDTH, 1 - (y + height) / HEIGHT, width / WIDTH, height / HEIGHT))


def each(count: int, *, most: int) -> int:
    """How many things a page has, of at most so many, where all pages are of nearly equal fill."""
    return -(-count // -(-count // most))


def even_groups(items: Sequence[T], *, most: int) -> list[Sequence[T]]:
    """What goes on one page after the other, at most so many on each, so that all are of nearly equal fill."""
    size = each(len(items), most=most) if items else 1
    return [items[start : start + size] for start in range(0, len(items), size)]


def new_page(title: str = "", subtitle: str = "", *, size: float = 9.0) -> Page:
    """An empty sheet with its title; the footer is added when all pages are known (`number_pages`)."""
    page = Page(Figure(figsize=(WIDTH, HEIGHT), facecolor="white"))
    if title:
        page.write(LEFT, TOP + 0.14, title, 15, weight="bold")
    if subtitle:
        page.head = page.flow(LEFT, TOP + 0.24, wrap(subtitle, RIGHT - LEFT, size, lines=2), size, color=SOFT)
    return page


def number_pages(pages: Sequence[Page], name: str) -> None:
    """Write the footer: the experiment's name and the page number."""
    for number, page in enumerate(pages, start=1):
        page.rule(LEFT, RIGHT, BOTTOM + 0.12)
        page.write(LEFT, BOTTOM + 0.28, shorten(f"Gramlab · {name}", 8.0, 7), 7, color=SOFT)
        page.write(RIGHT, BOTTOM + 0.28, f"{number} / {len(pages)}", 7, color=SOFT, ha="right")


def legend(
    page: Page,
    y: float,
    entries: Sequence[tuple[str, Look]],
    *,
    left: float = LEFT,
    right: float = RIGHT,
    size: float = 8.5,
) -> float:
    """Arms in rows, as many as fit beside one another; returns the bottom edge."""
    x, step = left, 0.024 * size
    for name, look in entries:
        label = shorten(name, 4.6, size)
        width = 0.38 + text_width(label, size) + 0.3
        if x > left and x + width - 0.3 > right:
            x, y = left, y + step
        page.swatch(x, y + 0.06, look)
        page.write(x + 0.38, y + 0.06 + 0.005 * size, label, size)
        x += width
    return y + step


TRUNK_LOOK = Look(TRUNK_COLOUR, "-", "o")
