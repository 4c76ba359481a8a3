"""gramlab report runs/<experiment> [--png FOLDER] [--tables] [--watch]: make its report and tables anew."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from common.interrupts import listen

    listen()

from common.command import answer, end, parsed
from common.disk import whole
from common.errors import BadInput
from reports import arguments, words
from reports.compared import Differences, compare
from reports.figures import render
from reports.live.watching import watch
from reports.page import Page, style
from reports.pdf import PNG_DPI, as_pdf
from reports.run_folder import Run, read
from reports.tidy import measured
from reports.twin.page import twin
from reports.verdict_table import verdict_table
from reports.verdict_words import short


def build(
    folder: Path,
    *,
    draws: bool = True,
    png: Path | None = None,
    tell: Callable[[str], object] | None = None,
    warn: Callable[[str], object] | None = None,
) -> Path:
    """Write `report.pdf`, `report.html`, `results.csv` and `verdicts.csv` into the run's folder; returns the first.

    All are replaced whole, at the end: a failing call leaves the old ones. The same tables give the same bytes.
    Raises BadInput when the folder, its experiment.json or every result row is missing.

    Args:
        draws: whether the first two are written; without them the third is returned.
        png: a folder for each page as PNG.
        tell: is told, line by line, what was found; warn: what is missing or damaged.
    """
    run = read(folder)
    if warn is not None:
        for line in words.incomplete(run):
            warn(line)
    compared = compare(run)
    with ExitStack() as together:
        if draws:
            pdf, page = _drawn(run, compared, png)
            together.enter_context(whole(folder / "report.pdf")).write_bytes(pdf)
            together.enter_context(whole(folder / "report.html")).write_text(page, encoding="utf-8")
        for name, table in {"results.csv": measured(run), "verdicts.csv": verdict_table(run, compared)}.items():
            table.to_csv(together.enter_context(whole(folder / name)), index=False, lineterminator="\n")
    if tell is not None:
        for line in short(run, compared):
            tell(line)
    return folder / ("report.pdf" if draws else "results.csv")


def _drawn(run: Run, compared: Differences, png: Path | None) -> tuple[bytes, str]:
    """The PDF and the page for a browser; each page of the first as PNG in a folder, where that is given."""
    with style():
        pages = render(run, compared)
        pdf = as_pdf(pages, title=run.name)
        if png is not None:
            _write_pngs(png, pages)
        return pdf, twin(run, compared)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 0, or 2 with one line on stderr for input that the user can mend."""
    return answer(lambda: _run(argv), afterwards="the same command does it again")


def _run(argv: Sequence[str] | None) -> int:
    options = parsed(arguments.report, "report", argv)
    if options.png is not None and options.png.exists() and not options.png.is_dir():
        raise BadInput(f"got the file {options.png} for --png: want a folder for the pages; name another")
    arguments.refuse_contrary(options)
    if options.watch:
        return watch(options.folder, host=options.host, port=options.port)
    warn = partial(print, file=sys.stderr)
    print(build(options.folder, draws=not options.tables, png=options.png, warn=warn))
    return 0


def _write_pngs(folder: Path, pages: Sequence[Page]) -> None:
    for number, page in enumerate(pages, start=1):
        with whole(folder / f"page-{number}.png") as new:
            page.figure.savefig(new, dpi=PNG_DPI, metadata={"Software": None})


if __name__ == "__main__":
    end(main())
