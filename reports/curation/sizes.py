"""The page of cluster sizes: how uneven the pool is, level by level, and how even what is kept of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import FuncFormatter

from reports.curation.story import Sizes
from reports.page import BOTTOM, LEFT, RIGHT, TOP, Look, Page, legend, new_page

BEFORE, AFTER = Look("#9a9a9a", "-", "o"), Look("#0072B2", "-", "s")
APART = 0.75  # inches between panels


def sizes_page(sizes: Sequence[Sizes]) -> Page:
    """A panel a level, from the top down: clusters in order of their size, on a logarithmic scale."""
    page = new_page(
        "Sizes of clusters, before and after",
        "Clusters of each level from the largest to the smallest, in the pool and in what is kept, each in its own "
        "order; a flat line is an even one. Clusters without an image lie below the scale.",
    )
    y = legend(page, TOP + 0.72, [("images in the pool", BEFORE), ("images kept", AFTER)])
    across = min(len(sizes), 3)
    down = -(-len(sizes) // across)
    width = (RIGHT - LEFT - 0.35 - (across - 1) * APART) / across
    height = (BOTTOM - y - 0.55 - (down - 1) * APART) / down - 0.3
    for number, one in enumerate(reversed(sizes)):
        row, column = divmod(number, across)
        left, top = LEFT + 0.35 + column * (width + APART), y + 0.45 + row * (height + APART + 0.3)
        _panel(page, one, left, top, width, min(height, 3.6))
    return page


def _panel(page: Page, one: Sizes, left: float, top: float, width: float, height: float) -> None:
    axes = page.axes(left, top, width, height)
    for counts, look in ((one.before, BEFORE), (one.after, AFTER)):
        ordered = np.sort(counts)[::-1]
        ordered = ordered[ordered > 0]
        mark = look.marker if len(ordered) <= 40 else None
        axes.plot(
            np.arange(1, len(ordered) + 1), ordered, color=look.colour, marker=mark, markersize=2.5, linewidth=1.4
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    axes.set_xlabel("clusters by rank")
    axes.set_ylabel("images")
    page.write(left - 0.35, top - 0.28, f"Level {one.level}: {len(one.before):,} clusters", 10, weight="bold")
    page.write(left - 0.35, top - 0.1, f"share of the largest: {_share(one.before)} → {_share(one.after)}", 8)


def _share(counts: np.ndarray) -> str:
    return f"{counts.max() / max(counts.sum(), 1):.1%}" if len(counts) else "–"
