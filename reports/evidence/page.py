"""python reports/evidence/page.py PAGE [--check]: fill the blocks of a hand-written page from tables of results.

A block stands between two comments, which GitHub and mkdocs do not show:

    <!-- verdicts relations_confirm miou knn/top1 -->
    ... written by this command ...
    <!-- end -->

Its first word is one of `KINDS`, the others say what of which experiment; docs/tables.md lists them.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

    from common.interrupts import listen

    listen()

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from common.command import Parser, answer, end
from common.disk import whole
from common.drawing import make_drawable
from common.errors import BadInput, nearest
from reports.evidence.atlas_blocks import contour, gains, slopes
from reports.evidence.blocks import cost, falls, values, verdicts
from reports.evidence.changes import change, regained
from reports.evidence.curve import curve
from reports.evidence.filled import Filled
from reports.evidence.label_free import alarms, ranks
from reports.evidence.stored import Shelf
from reports.page import style

KINDS: dict[str, Callable[[Shelf, Sequence[str]], Filled]] = {
    "falls": falls,
    "verdicts": verdicts,
    "curve": curve,
    "values": values,
    "change": change,
    "regained": regained,
    "cost": cost,
    "ranks": ranks,
    "alarms": alarms,
    "gains": gains,
    "contour": contour,
    "law": slopes,
}
COMMENT = re.compile(r"<!-- *(.*?) *-->")
END = "end"
DPI, COLOURS = 160, 256
SEEN, FEW = 48, 2e-4  # of 255 levels, a difference that is seen; the share of pixels that may differ so


@dataclass(frozen=True)
class Block:
    """What stands between two comments of a page, the lines `first` and `last`, counted from 0."""

    first: int
    last: int
    words: tuple[str, ...]

    @property
    def kind(self) -> str:
        return self.words[0]


def fill(page: Path, shelf: Shelf) -> tuple[str, dict[Path, Figure]]:
    """The page as the tables want it, and its figures by where they belong."""
    lines = page.read_text(encoding="utf-8").split("\n")
    figures: dict[Path, Figure] = {}
    found = [(block, _filled(page, block, shelf)) for block in blocks(page, lines)]
    for block, filled in reversed(found):
        text = filled.text
        for name, figure in filled.figures.items():
            figures[shelf.folder / name] = figure
            link = Path(os.path.relpath(shelf.folder / name, page.parent)).as_posix()
            text = text.replace(f"]({name})", f"]({link})")
        lines[block.first + 1 : block.last] = ["", *text.split("\n"), ""]
    return "\n".join(lines), figures


def _filled(page: Path, block: Block, shelf: Shelf) -> Filled:
    try:
        return KINDS[block.kind](shelf, block.words[1:])
    except BadInput as error:
        raise BadInput(f"{page}:{block.first + 1}: {error}") from error


def blocks(page: Path, lines: Sequence[str]) -> Iterator[Block]:
    """The blocks of a page, the first one first. Raises BadInput at one that is unknown or has no end.

    Comments that no `<!-- end -->` follows, before another comment, are none.
    """
    begun: tuple[int, tuple[str, ...]] | None = None
    for number, line in enumerate(lines):
        if not (found := COMMENT.fullmatch(line.strip())):
            continue
        words = tuple(found[1].split())
        if words[:1] == (END,):
            if begun is None:
                raise BadInput(f"{page}:{number + 1}: got an end of no block: want <!-- KIND ... --> before it")
            yield Block(begun[0], number, _known(page, *begun))
            begun = None
            continue
        _refuse_endless(page, begun)
        begun = (number, words) if words else None
    _refuse_endless(page, begun)


def _known(page: Path, first: int, words: tuple[str, ...]) -> tuple[str, ...]:
    if words[0] not in KINDS:
        do = nearest(words[0], KINDS, otherwise=f"known: {', '.join(KINDS)}")
        raise BadInput(f"{page}:{first + 1}: got a block {words[0]}: want a kind of block; {do}")
    return words


def _refuse_endless(page: Path, begun: tuple[int, tuple[str, ...]] | None) -> None:
    if begun is not None and begun[1][0] in KINDS:
        raise BadInput(f"{page}:{begun[0] + 1}: got a block {begun[1][0]} without an end: want <!-- {END} --> after it")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 0, or 2 with one line on stderr for a page that is stale or cannot be filled."""
    return answer(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    parser = Parser(prog="reports/evidence/page.py", description="Fill the blocks of a page from tables of results.")
    parser.add_argument("page", type=Path, help="a Markdown file")
    where = "a folder for each experiment, as `gramlab tables --out` writes them (default: PAGE without .md)"
    parser.add_argument("--tables", type=Path, metavar="FOLDER", help=where)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail where text or pictures are not as written"
    )
    options = parser.parse_args(argv)
    if not options.page.is_file():
        raise BadInput(f"got no page {options.page}: want a Markdown file; give docs/results.md")
    shelf = Shelf(options.tables or options.page.with_suffix(""))
    with style():
        text, figures = fill(options.page, shelf)
        if options.check:
            refuse_stale(options.page, text)
            for path, figure in figures.items():
                refuse_another(options.page, path, _draw(figure))
        else:
            _write(options.page, text, figures)
    return 0


def refuse_stale(page: Path, text: str) -> None:
    """Raises BadInput where a page does not hold this text, with the first line that is another one."""
    old, new = page.read_text(encoding="utf-8").split("\n"), text.split("\n")
    if old == new:
        return
    places = (place for place, (one, two) in enumerate(zip(old, new, strict=False)) if one != two)
    place = next(places, min(len(old), len(new)))
    raise BadInput(
        f"{page}:{place + 1}: got a line that the tables do not give: want the page as they fill it; "
        f"run python reports/evidence/page.py {page}"
    )


def refuse_another(page: Path, path: Path, picture: Image.Image) -> None:
    """Raises BadInput where there is no picture like this one; on other processors a few pixels may differ."""
    do = f"run python reports/evidence/page.py {page}"
    if not path.is_file():
        raise BadInput(f"got no picture {path}: want what {page} shows; {do}")
    with Image.open(path) as there:
        sides = [np.asarray(one.convert("RGB"), int) for one in (there, picture)]
    unlike = sides[0].shape != sides[1].shape or (np.abs(sides[0] - sides[1]).max(axis=2) > SEEN).mean() > FEW
    if unlike:
        raise BadInput(f"got a picture {path} that the tables do not give: want it as they draw it; {do}")


def _write(page: Path, text: str, figures: Mapping[Path, Figure]) -> None:
    with ExitStack() as together:
        together.enter_context(whole(page)).write_text(text, encoding="utf-8")
        for path, figure in figures.items():
            _draw(figure).save(together.enter_context(whole(path)), optimize=True)


def _draw(figure: Figure) -> Image.Image:
    """A picture of 256 colours, a third of the size: a repository keeps every version of it."""
    make_drawable(figure)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    return Image.open(content).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)


if __name__ == "__main__":
    end(main())
