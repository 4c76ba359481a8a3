"""Results as LaTeX: a float with a booktabs table for each group of measures, for pdfLaTeX and its successors."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

from reports.paper.sheet import Cell, Grid, Head, Sheet

INDENT = "    "
LINE = 100  # letters of the caption's lines
LONG = 12  # letters of a title, beyond which it takes two lines
SPECIAL = {
    **{letter: f"\\{letter}" for letter in "{}$&#%_"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}"},
    **{">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}", "[": "{[}", "*": "{*}"},
    **{"\u2212": "$-$", "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "°": r"$^{\circ}$", "∞": r"$\infty$"},
    **{"↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\rightarrow$", "←": r"$\leftarrow$", "µ": r"$\mu$"},
    **{"≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$", "–": "--", "—": "---", "…": r"\dots{}", "§": r"\S{}"},
    **{"\u00a0": "~", "\u202f": r"\,", "\0": "{}"},
}
_SMALL = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi o pi rho varsigma sigma tau upsilon"
_SMALL += " phi chi psi omega"
_CAPITALS = "A B Gamma Delta E Z H Theta I K Lambda M N Xi O Pi P - Sigma T Upsilon Phi X Psi Omega"
for _first, _names in ((0x3B1, _SMALL), (0x391, _CAPITALS)):
    for _place, _name in enumerate(_names.split()):
        SPECIAL[chr(_first + _place)] = f"$\\{_name}$" if len(_name) > 1 else _name


def text(sheets: Sequence[Sheet]) -> str:
    """The file: comments that say what it needs, then the tables, those of the leading measures first."""
    sheet = sheets[0]
    body = "\n\n".join(_float(one, grid, number) for one in sheets for number, grid in enumerate(one.grids, start=1))
    head = [f"{sheet.name}, Gramlab {sheet.version}".rstrip(), r"needs \usepackage{booktabs}"]
    if letters := foreign(body):
        head.append(
            f"pdfLaTeX has no letters for {' '.join(letters)}: XeLaTeX and LuaLaTeX have, in a font that has them"
        )
    head += [f"not done: {line}" for line in sheet.missing]
    return "".join(f"% {' '.join(line.split())}\n" for line in head) + body + "\n"


def escaped(plain: str) -> str:
    """Text as LaTeX sets it; no sign of it is taken for a command, and what has none of its own becomes one."""
    apart = re.sub("-(?=-)", "-\0", plain.replace("\0", " "))  # two hyphens would become a dash
    return "".join(SPECIAL.get(letter, letter if letter.isprintable() else " ") for letter in apart)


def foreign(body: str) -> list[str]:
    """The letters that pdfLaTeX does not know by itself, each once: all beyond the Latin ones of Europe."""
    return sorted({letter for letter in body if ord(letter) > 0x17F})


def _float(sheet: Sheet, grid: Grid, number: int) -> str:
    label = re.sub(r"[^A-Za-z0-9]+", "-", sheet.label).strip("-")
    told = sheet.caption if number == 1 else [f"As in Table~\\ref{{tab:{label}}}."]
    more = [f"{sheet.name}." if number == 1 else f"{sheet.name}, other measures.", *told]
    if number == 1:
        more.append(f"Protocols: {sheet.protocols}.")
    caption = " ".join(one if "\\ref{" in one else escaped(one) for one in more)
    lines = [
        r"\begin{table}",
        *(f"  {line}" for line in (r"\centering", r"\small", r"\setlength{\tabcolsep}{3pt}")),
        *textwrap.wrap(f"\\caption{{{caption}}}", LINE, initial_indent="  ", subsequent_indent=INDENT,
                       break_long_words=False, break_on_hyphens=False),
        f"  \\label{{tab:{label}{'' if number == 1 else f'-{number}'}}}",
        f"  \\begin{{tabular}}{{@{{}}l{'r' * len(grid.heads)}@{{}}}}",
        *(INDENT + line for line in (r"\toprule", *_head(grid), r"\midrule", *_rows(grid), r"\bottomrule")),
        r"  \end{tabular}",
        r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines)


def _head(grid: Grid) -> Iterator[str]:
    titles = [_two_lines(head) for head in grid.heads]
    if any(upper for upper, _ in titles):
        yield _row("", [escaped(upper) for upper, _ in titles])
    yield _row("Arm", [escaped(lower) for _, lower in titles])
    yield _row("", [_small(head.where) for head in grid.heads])


def _two_lines(head: Head) -> tuple[str, str]:
    """The title with its arrow, in two lines where it is long."""
    words = head.title.split()
    cuts = range(1, len(words)) if len(head.title) > LONG else range(1)
    cut = min(cuts, key=lambda at: max(len(" ".join(words[:at])), len(" ".join(words[at:]))), default=0)
    return " ".join(words[:cut]), " ".join(filter(None, [*words[cut:], head.arrow]))


def _rows(grid: Grid) -> Iterator[str]:
    """Three lines an arm: values, what they are above the baseline, and the interval of that."""
    for place, (arm, cells) in enumerate(grid.rows):
        changed = any(cell.change for cell in cells)
        if place and (changed or any(cell.change for cell in grid.rows[place - 1][1])):
            yield r"\addlinespace"
        yield _row(escaped(arm), [_value(cell) for cell in cells])
        if changed:
            yield _row("", [_small(f"{cell.change} {cell.verdict}") for cell in cells])
        if any(cell.interval for cell in cells):
            yield _row("", [_small(cell.interval) for cell in cells])


def _row(first: str, rest: list[str]) -> str:
    return " & ".join([first, *rest]).strip() + r" \\"


def _value(cell: Cell) -> str:
    value = f"\\textbf{{{escaped(cell.value)}}}" if cell.best else escaped(cell.value)
    return " ".join(filter(None, [value, _small(cell.spread)]))


def _small(plain: str) -> str:
    return f"{{\\scriptsize {escaped(plain.strip())}}}" if plain.strip() else ""
