"""The axes of the report's figures: ticks in plain numbers, few of them, without formulas."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from reports.page import FAINT, SOFT

MINUS = "\u2212"


def plain(value: float, _position: int | None = None) -> str:
    """ "0.25", "-3" with a true minus, "2e-5" where zeros would not fit."""
    if value == 0 or 1e-5 <= abs(value) < 1e5:
        text = np.format_float_positional(value, precision=4, fractional=False, trim="-")
    else:
        text = f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")
    return text.replace("-", MINUS)


def steps_text(step: float, _position: int | None = None) -> str:
    """Steps as people say them: "400", "12k", "1.5M"."""
    for size, letter in ((1e6, "M"), (1e4, "k")):
        if abs(step) >= size:
            return f"{step / (1e3 if letter == 'k' else size):.4g}{letter}"
    return f"{step:.0f}"


def scaled(axis: Axis, *, ticks: int = 6) -> None:
    """Round ticks in plain numbers."""
    axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(plain))


def step_axis(axes: Axes, first: float, last: float, *, label: bool) -> None:
    """The training step along x, with a little air on both sides."""
    span = max(last - first, 1.0)
    axes.set_xlim(first - 0.03 * span, last + 0.03 * span)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(steps_text))
    axes.tick_params(axis="x", labelbottom=True)
    if label:
        axes.set_xlabel("step")


def logarithmic(axes: Axes, low: float, high: float) -> None:
    """A log scale along y with ticks at 1, 2, 5 where decades alone would be too few."""
    axes.set_yscale("log")
    few = math.log10(high / low) < 2.5
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=8))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(plain))
    axes.yaxis.set_minor_formatter(NullFormatter())


def titled(axes: Axes, title: str, note: str) -> None:
    """A panel's name in bold and, on the right, how it is to be read."""
    axes.set_title(title, fontsize=9, loc="left", weight="bold", pad=5)
    axes.set_title(note, fontsize=7, loc="right", color=SOFT, pad=5)


def fork_line(axes: Axes, step: int, *, text: str = "") -> None:
    """Where arms leave the trunk, or one another."""
    axes.axvline(step, color=FAINT, linewidth=0.7, linestyle=(0, (2, 2)), zorder=1)
    if text:
        axes.text(step, 1.0, f" {text}", transform=axes.get_xaxis_transform(), fontsize=7, color=SOFT, va="top")
