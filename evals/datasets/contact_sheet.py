"""Draws images of a set with their masks and depth: `python evals/datasets/contact_sheet.py scenes --out sheet.png`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from evals.command import Parser, answer
from evals.datasets.base import IGNORE, LabelledSet
from evals.datasets.catalogue import KINDS, open_set
from evals.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf", ".svg", ".jpg")


def colours(count: int) -> np.ndarray:
    """float [256, 3]: a colour for each of `count` pixel classes, black for `IGNORE`."""
    from matplotlib import colormaps

    table = np.zeros((256, 3))
    places = np.arange(count)
    table[:count] = colormaps["tab20"](places)[:, :3] if count <= 20 else _far_apart(count)
    table[IGNORE] = 0
    return table


def _far_apart(count: int) -> np.ndarray:
    """float [count, 3]: colours far from one another and from black, grey and white in CIELAB, chosen greedily."""
    shades = np.linspace(0, 1, 9)
    rgb = np.stack(np.meshgrid(shades, shades, shades, indexing="ij"), -1).reshape(-1, 3)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4339, 0.2126, 0.0178], [0.3762, 0.7152, 0.1095], [0.1899, 0.0722, 0.8727]]  # by the D65 white
    x, y, z = np.cbrt(linear @ np.array(to_xyz)).T
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)
    calm = (np.hypot(lab[:, 1], lab[:, 2]) < 85) & (lab[:, 0] > 25)
    nearest = np.min([np.linalg.norm(lab - [grey, 0, 0], axis=1) for grey in (0, 50, 100)], 0) * calm
    chosen: list[int] = []
    for _ in range(count):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
    return rgb[chosen]


def draw(dataset: LabelledSet, *, columns: int = 8, rows: int = 3) -> Figure:
    """Images at even distances through the set; beneath each its mask and its depth, where the set has them."""
    from matplotlib.figure import Figure

    kinds = ["image", *(["mask"] if dataset.segments else []), *(["depth"] if dataset.has_depth else [])]
    shown = min(len(dataset), columns * rows)
    rows = -(-shown // columns)
    high, wide = dataset.image(0).shape[:2]
    panel = 1.5 * min(high / wide, 2) + 0.15
    figure = Figure(figsize=(1.5 * columns, panel * rows * len(kinds) + 0.9), layout="constrained")
    axes = figure.subplots(rows * len(kinds), columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    palette = colours(len(dataset.segments))
    for place in range(shown):
        row, column = divmod(place, columns)
        for line, kind in enumerate(kinds):
            _panel(axes[row * len(kinds) + line, column], dataset, place * len(dataset) // shown, kind, palette)
    figure.suptitle(f"{dataset.name} / {dataset.split}: {shown} of {len(dataset)} images", fontsize=11)
    if dataset.segments:
        _legend(figure, dataset.segments, palette)
    return figure


def _panel(axis: Axes, dataset: LabelledSet, index: int, kind: str, palette: np.ndarray) -> None:
    if kind == "image":
        axis.imshow(dataset.image(index))
        title = dataset.classes[dataset.label(index)] if dataset.classes else Path(dataset.key(index)).stem
        axis.set_title(title, fontsize=7, pad=2)
    elif kind == "mask":
        axis.imshow(palette[dataset.mask(index)], interpolation="nearest")
    else:
        depth = dataset.depth(index)
        axis.imshow(np.ma.masked_equal(depth, 0), cmap="viridis_r")
        axis.set_title(f"to {depth.max():.1f} m", fontsize=6, pad=1)


def _legend(figure: Figure, segments: tuple[str, ...], palette: np.ndarray) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=palette[number], label=name) for number, name in enumerate(segments[:40])]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 12), fontsize=6, frameon=False)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description="Draws images of a data set with their masks and depth.")
    parser.add_argument("kind", help=", ".join(KINDS))
    parser.add_argument("--root", type=Path, help="folder of a set that is read from files")
    parser.add_argument("--split", default="train")
    parser.add_argument("--size", type=int, help="pixels a side, for scenes")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes")
    parser.add_argument("--count", type=int, help="scenes to render, or size of an evenly spread subset")
    parser.add_argument("--classes", nargs="+", help="names, or one of ade20k, nyu40, camvid for masks")
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("sheet.png"), help=", ".join(SUFFIXES))
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 2 for input that the user can mend."""
    return answer(lambda: _run(argv))


def _run(argv: list[str] | None) -> int:
    args = vars(_arguments(argv))
    out, columns, rows = args.pop("out"), args.pop("columns"), args.pop("rows")
    if out.suffix.lower() not in SUFFIXES or not out.parent.is_dir():
        want = f"a file in an existing folder, ending in {', '.join(SUFFIXES)}"
        raise BadInput(f"got --out {out}: want {want}; correct --out")
    if columns < 1 or rows < 1:
        raise BadInput(f"got {columns} columns and {rows} rows: want at least 1; correct --columns or --rows")
    figure = draw(open_set(**args), columns=columns, rows=rows)
    temporary = out.with_name(f".{out.stem}.partial{out.suffix}")
    figure.savefig(temporary, dpi=110)
    temporary.replace(out)
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
