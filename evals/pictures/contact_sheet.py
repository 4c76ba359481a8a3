"""Draws images of a set with what is known of them: `gramlab look scenes --out sheet.png`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

    from common.interrupts import listen

    listen()

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from common.command import answer, end, parsed
from common.drawing import text_width
from common.errors import BadInput, nearest
from common.palette import colours
from evals import arguments
from evals.arguments import SHEETS
from evals.datasets.catalogue import KINDS, KNOWN, open_named, open_set
from evals.datasets.labelled_set import IGNORE, LabelledSet
from evals.datasets.set_file import is_set_file, read_set
from evals.datasets.settings import open_one
from evals.pictures.palette import facing, parted
from evals.pictures.sheet import save, style

NAMED = 40  # classes in the legend
FINE = 6.0  # points
UNLABELLED = "not labelled"
FACING = "red right, green up"
DEPTH = colormaps["viridis_r"].with_extremes(bad="0.85")


def draw(dataset: LabelledSet, *, columns: int = 8, rows: int = 3) -> Figure:
    """Images at even distances through the set; beneath each its mask, depth, normals and parts, where known."""
    kinds = ["image", *(["mask"] if dataset.segments else []), *(["depth"] if dataset.has_depth else [])]
    kinds += ["normals", "parts"] if dataset.has_surfaces else []
    shown = min(len(dataset), columns * rows)
    rows = -(-shown // columns)
    height, width = dataset.image(0).shape[:2]
    panel = 1.5 * min(height / width, 2) + 0.15
    wide = 1.5 * columns
    named = (*dataset.segments[:NAMED], UNLABELLED) if dataset.segments else ()
    across = _across(named, wide)
    foot = -(-len(named) // across) * 0.13
    figure = Figure(figsize=(wide, panel * rows * len(kinds) + foot + 0.45), layout="constrained")
    axes = figure.subplots(rows * len(kinds), columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    palette = colours(len(dataset.segments))
    for place in range(shown):
        row, column = divmod(place, columns)
        for line, kind in enumerate(kinds):
            _panel(axes[row * len(kinds) + line, column], dataset, place * len(dataset) // shown, kind, palette)
    figure.suptitle(f"{dataset.name} / {dataset.split}: {shown} of {len(dataset)} images", fontsize=11)
    if named:
        _legend(figure, named, palette, across)
    return figure


def _panel(axis: Axes, dataset: LabelledSet, index: int, kind: str, palette: np.ndarray) -> None:
    if kind == "image":
        axis.imshow(dataset.image(index))
        title = dataset.classes[dataset.label(index)] if dataset.classes else Path(dataset.key(index)).stem
        axis.set_title(title, fontsize=7, pad=2)
    elif kind == "mask":
        axis.imshow(palette[dataset.mask(index)], interpolation="nearest")
    elif kind == "normals":
        axis.imshow(facing(dataset.surfaces(index).normals), interpolation="nearest")
        axis.set_title(FACING, fontsize=6, pad=1)
    elif kind == "parts":
        parts = dataset.surfaces(index).parts
        axis.imshow(parted(parts), interpolation="nearest")
        axis.set_title(f"{len(np.unique(parts))} parts", fontsize=6, pad=1)
    else:
        depth = dataset.depth(index)
        known = depth[depth > 0]
        axis.imshow(np.ma.masked_equal(depth, 0), cmap=DEPTH)
        far = f"yellow {known.min():.1f}, blue {known.max():.1f} m" if known.size else "nothing known"
        axis.set_title(far + (", grey unknown" if known.size < depth.size else ""), fontsize=6, pad=1)


def _across(names: Sequence[str], wide: float) -> int:
    """How many names of the legend fit beside one another."""
    return max(1, int(wide / max((text_width(name, FINE) + 0.4 for name in names), default=wide)))


def _legend(figure: Figure, named: tuple[str, ...], palette: np.ndarray, across: int) -> None:
    colour = {UNLABELLED: palette[IGNORE]}
    handles = [Patch(color=colour.get(name, palette[number]), label=name) for number, name in enumerate(named)]
    figure.legend(handles=handles, loc="outside lower center", ncols=across, fontsize=FINE, frameon=False)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 2 for input that the user can mend."""
    return answer(lambda: _run(argv))


def _run(argv: list[str] | None) -> int:
    args = vars(parsed(arguments.look, "look", argv))
    out, columns, rows = args.pop("out"), args.pop("columns"), args.pop("rows")
    if out.suffix.lower() not in SHEETS or not out.parent.is_dir():
        want = f"a file in an existing folder, ending in {', '.join(SHEETS)}"
        raise BadInput(f"got --out {out}: want {want}; correct --out")
    if columns < 1 or rows < 1:
        raise BadInput(f"got {columns} columns and {rows} rows: want at least 1; correct --columns or --rows")
    dataset = _opened(args.pop("set"), **args)
    with style():
        figure = draw(dataset, columns=columns, rows=rows)
    save(figure, out)
    print(out)
    return 0


def _opened(name: str, *, root: Path | None, size: int | None, seed: int, **given: Any) -> LabelledSet:
    """The set of this kind, name or file; a name that is both is the known set where no folder is given."""
    if is_set_file(name):
        return _of_file(Path(name), {"root": root, "size": size, "seed": seed or None, **given})
    given["split"] = given["split"] or "train"
    if name not in KINDS and name not in KNOWN:
        hint = nearest(name, (*KINDS, *KNOWN), otherwise="correct it")
        raise BadInput(f"got data set '{name}': want {', '.join(dict.fromkeys((*KINDS, *KNOWN)))}; {hint}")
    if name in KINDS and (root is not None or name not in KNOWN):
        return open_set(name, root=root, size=size, seed=seed, **given)
    if size is not None or seed:
        raise BadInput(f"got --size or --seed for {name}: want none, they belong to scenes; leave them out")
    return open_named(name, root=root, option="--root FOLDER", **given)


def _of_file(path: Path, given: dict[str, Any]) -> LabelledSet:
    """The set of a YAML file; what the command line gives as well wins."""
    if given.pop("root") is not None:
        raise BadInput(f"got --root beside {path}: want the root that the file names; leave --root out")
    told = {key: value for key, value in given.items() if value is not None}
    one = read_set(path, called=path.stem, split="train")
    return open_one(path.stem, replace(one, **told), cache=None)


if __name__ == "__main__":
    end(main())
