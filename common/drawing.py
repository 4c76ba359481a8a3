"""What pictures and reports draw alike: one look whatever the user has set, and text that is measured beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text
from matplotlib.textpath import text_to_path

from common.errors import printable

SANS = "DejaVu Sans"  # comes with matplotlib

_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": [SANS],
    "font.monospace": ["DejaVu Sans Mono"],
    "text.parse_math": False,  # a "$" in a name is a dollar, not a formula
    "text.hinting": "none",  # else bitmap text is wider than the measured one
    "axes.linewidth": 0.6,
    "pdf.fonttype": 42,
}


def style(own: Mapping[str, Any]) -> Any:
    """A context in which only this look and what is its user's `own` count, whatever the matplotlibrc says."""
    defaults = {key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith("backend")}
    look: dict[Any, Any] = {**defaults, **_STYLE, **own}
    return matplotlib.rc_context(look)


@cache
def _letters(file: str) -> frozenset[int]:
    return frozenset(get_font(file).get_charmap()) | {ord("\n")}


def drawable(text: str, font: FontProperties) -> str:
    r"""The text with \u732b or the like for each letter that the font lacks, so that names stay unlike each other.

    A byte of a file's name that is no UTF-8 becomes \xe9 or the like.
    """
    letters = _letters(findfont(font))
    if all(ord(letter) in letters for letter in text):
        return text
    return "".join(x if ord(x) in letters else x.encode("unicode_escape").decode() for x in printable(text))


def make_drawable(figure: Figure) -> None:
    """Every text of the figure in letters that its font has: what `text_width` and its like have measured."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(drawable(text.get_text(), text.get_fontproperties()))


@lru_cache(maxsize=50_000)
def text_width(text: str, size: float, *, weight: str = "normal", family: str = SANS) -> float:
    """Width of one line in inches."""
    font = FontProperties(family=family, weight=weight, size=size)
    text = drawable(text, font)
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72 if text else 0.0


def shorten(text: str, width: float, size: float, *, weight: str = "normal", family: str = SANS) -> str:
    """The text, its middle replaced by an ellipsis where it is wider than `width` inches."""
    text = drawable(text, FontProperties(family=family, weight=weight))
    if text_width(text, size, weight=weight, family=family) <= width:
        return text
    low, high = 0, len(text) - 1
    while low < high:
        keep = (low + high + 1) // 2
        if text_width(_cut(text, keep), size, weight=weight, family=family) <= width:
            low = keep
        else:
            high = keep - 1
    return _cut(text, low)


def _cut(text: str, keep: int) -> str:
    head = (keep + 1) // 2
    tail = keep - head
    return text[:head] + "…" + (text[-tail:] if tail else "")


def wrap(
    text: str, width: float, size: float, *, weight: str = "normal", family: str = SANS, lines: int = 99
) -> list[str]:
    """Break the text into lines of at most `width` inches, at most `lines` of them; what is left over ends in "…"."""
    done: list[str] = []
    for paragraph in text.splitlines():
        current = ""
        for word in filter(None, paragraph.split(" ")):  # keeps words together that a no-break space joins
            word = shorten(word, width, size, weight=weight, family=family)
            joined = f"{current} {word}".strip()
            if text_width(joined, size, weight=weight, family=family) <= width:
                current = joined
            else:
                done.append(current)
                current = word
        done.append(current)
    done = [line for line in done if line]
    if len(done) > lines:
        last = done[lines - 1]
        while last and text_width(last + " …", size, weight=weight, family=family) > width:
            last = last.rpartition(" ")[0]
        done = [*done[: lines - 1], f"{last} …"]
    return done
