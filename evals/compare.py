"""Compare two checkpoints on the same images: `gramlab compare A B`, for every evaluation that both have."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from common.interrupts import listen

    listen()

from common.command import answer, columns, end, parsed
from common.disk import write_text
from common.errors import BadInput
from evals import arguments
from evals.results.differences import Comparison, Difference, compare
from evals.results.evaluations import find

FEW_IMAGES = 20
MANY_METRICS = 10


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 2 for input that the user can mend."""
    return answer(lambda: _run(argv))


def _run(argv: list[str] | None) -> int:
    args = parsed(arguments.compare, "compare", argv)
    if args.plot is not None and args.plot.suffix.lower() not in arguments.PICTURES:
        raise BadInput(f"got --plot {args.plot}: want a file ending in {', '.join(arguments.PICTURES)}; do rename it")
    found = compare(find(args.a), find(args.b), metrics=args.metric, tasks=args.task)
    print(report(found, args.a, args.b))
    if args.out is not None:
        write_rows(args.out, found.differences, args.a, args.b)
        print(f"\n{len(found.differences)} rows written to {args.out}")
    if args.plot is not None:
        _draw(args.plot, found.differences, args.a, args.b)
        print(f"\npicture written to {args.plot}")
    return 0


def report(found: Comparison, a: str, b: str) -> str:
    """The comparison for reading: a table with a heading for each evaluation, then what to bear in mind."""
    cells = [("metric", "A", "B", "B − A", "95 % interval", "verdict for B"), *map(_cells, found.differences)]
    numbers = [[cell.rjust(max(map(len, column))) for cell in column] for column in list(zip(*cells, strict=True))[1:5]]
    texts = [[row[0] for row in cells], *numbers, [row[5] for row in cells]]
    title, *lines = columns(list(zip(*texts, strict=True))).split("\n")
    body, last = [f"  {title}"], ""
    for heading, line in zip(map(_heading, found.differences), lines, strict=True):
        body += [f"  {line}"] if heading == last else ["", heading, f"  {line}"]
        last = heading
    return "\n".join([f"A  {a}", f"B  {b}", "", *body, "", *_notes(found)])


def _heading(one: Difference) -> str:
    count = f"{one.images} images"
    if one.images < max(one.images_a, one.images_b):
        count = f"only the {one.images} images that both have: A has {one.images_a}, B has {one.images_b}"
    return f"{one.about} ({count})"


def _cells(one: Difference) -> tuple[str, ...]:
    label = one.named.label + (f" ({one.unit})" if one.unit else "")
    span = f"{one.write(one.low)} to {one.write(one.high)}"
    verdict = f"{one.verdict} ({one.judgement})" if one.judgement else one.verdict
    return label, one.write(one.a), one.write(one.b), one.write(one.difference, "+"), span, verdict


def _notes(found: Comparison) -> list[str]:
    notes = [
        "Intervals: 95 %, paired bootstrap over the test images; undecided: the interval holds zero, or the difference "
        "may be one of rounding.",
        "They cover the choice of test images alone, not other training seeds.",
    ]
    fewest, metrics = min(one.images for one in found.differences), len(found.differences)
    if fewest < FEW_IMAGES:
        notes.append(f"A bootstrap over as few as {fewest} images gives intervals that are too narrow.")
    if metrics > MANY_METRICS:
        chance = f"{metrics / 20:.0f} of {metrics}"
        notes.append(f"Each interval stands for its metric alone: between equals, about {chance} leave out zero.")
    for title, lines in (("Not compared:", found.refused), ("On one side alone:", found.unpaired)):
        notes += ["", title, *(f"  {line}" for line in lines)] if lines else []
    return notes


def write_rows(path: Path, differences: Sequence[Difference], a: str, b: str) -> None:
    """One JSON line for each difference, numbers that are not finite as null; the file is replaced whole."""
    lines = []
    for one in differences:
        fields = {"from": a, "to": b, **one.about._asdict(), **asdict(one), "verdict": one.verdict}
        del fields["about"]
        safe = {k: None if isinstance(x, float) and not math.isfinite(x) else x for k, x in fields.items()}
        lines.append(json.dumps(safe) + "\n")
    write_text(path, "".join(lines))


def _draw(path: Path, differences: Sequence[Difference], a: str, b: str) -> None:
    from evals.pictures.forest import forest_figure
    from evals.pictures.sheet import save

    save(forest_figure(differences, a=a, b=b), path)


if __name__ == "__main__":
    end(main())
