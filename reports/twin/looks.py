"""The looks that arms have on pages of the report, for a screen: light and dark, as lines and marks of SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.colors import to_hex, to_rgb

from reports.page import TRUNK_LOOK, Look
from reports.run_folder import TRUNK, Run

DARK = (0.08, 0.09, 0.1)  # the paper of the dark page
TELLING = 3.2  # contrast that a line has with the dark paper: WCAG 2.2 asks for 3 (1.4.11)


class Lane(NamedTuple):
    """A lane as a page draws it; its colour is a variable of the style sheet, so that both themes have their own.

    mark: a shape of Vega, or the outline of one in a square from -1 to 1.
    """

    name: str
    label: str
    variable: str
    light: str
    dark: str
    dash: list[float]
    mark: str
    outline: str

    @property
    def dashes(self) -> str:
        return " ".join(f"{length:g}" for length in self.dash)

    @property
    def colours(self) -> str:
        """The line of the style sheet that says what the colour is."""
        return f"--{self.variable}: light-dark({self.light}, {self.dark});"


def lanes_of(run: Run, arm_looks: Mapping[str, Look]) -> list[Lane]:
    """The trunk, if there is one, then the arms."""
    return [_lane(lane, number, arm_looks.get(lane, TRUNK_LOOK)) for number, lane in enumerate(run.lanes)]


def _lane(name: str, number: int, look: Look) -> Lane:
    label = "trunk (shared)" if name == TRUNK else name
    dash = [] if look.dash == "-" else [1.5 * length for length in look.dash[1]]
    outline = _OUTLINES[look.marker]
    mark = _NAMED.get(look.marker, outline)
    return Lane(name, label, f"arm-{number}", to_hex(look.colour), _on_dark(look.colour), dash, mark, outline)


def _on_dark(colour: str) -> str:
    """The colour, with as much white in it as tells it from the dark paper."""
    red, green, blue = to_rgb(colour)
    needed = TELLING if red + green + blue else 14  # black is to be as plain on dark paper
    shares = (0.02 * n for n in range(51))
    lighter = ((red + share * (1 - red), green + share * (1 - green), blue + share * (1 - blue)) for share in shares)
    return to_hex(next(one for one in lighter if _contrast(one, DARK) >= needed))


def _contrast(one: Sequence[float], other: Sequence[float]) -> float:
    """Of WCAG: from 1 to 21."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(rgb: Sequence[float]) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _polygon(corners: int, *, turned: float = 0.0) -> str:
    angles = [2 * math.pi * corner / corners - math.pi / 2 + turned for corner in range(corners)]
    return "M" + "L".join(f"{math.cos(angle):.3f},{math.sin(angle):.3f}" for angle in angles) + "Z"


_NAMED = {"o": "circle", "s": "square", "^": "triangle-up", "v": "triangle-down", "P": "cross"}
_OUTLINES = {
    "o": "M1,0A1,1,0,1,1,-1,0A1,1,0,1,1,1,0Z",
    "s": "M-.85,-.85H.85V.85H-.85Z",
    "^": _polygon(3),
    "v": _polygon(3, turned=math.pi),
    "P": "M-1,-.35H-.35V-1H.35V-.35H1V.35H.35V1H-.35V.35H-1Z",
    "X": "M-.95,-.55L-.55,-.95L0,-.4L.55,-.95L.95,-.55L.4,0L.95,.55L.55,.95L0,.4L-.55,.95L-.95,.55L-.4,0Z",
    "h": _polygon(6),
    "p": _polygon(5),
}
