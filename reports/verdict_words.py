"""Verdicts in words: what each rests on, and what an undecided one would take."""

from __future__ import annotations

import math

from evals.results.crossed import ALPHA
from evals.results.verdicts import MOST_SEEDS
from reports import words
from reports.compared import Difference, Differences, foremost_of
from reports.run_folder import Run

NOTHING = "no outcomes of images kept"
LIMITED = "none would do (the images limit it)"
CHANCE = "nothing tells how far chance could have gone"
NO_SPREAD = f"no spread: {CHANCE}; more evaluation images or seeds would"


def word(one: Difference) -> str:
    """The verdict, or what there is in its place; of a sign of health the way it differs, no gain by itself."""
    if one.verdict is not None:
        shown = one.verdict.word in ("better", "worse")
        return ("higher" if one.value > 0 else "lower") if shown and one.column.eval == "health" else one.verdict.word
    return "neither good nor bad" if one.over in ("images", "seeds and images") else "no verdict"


def brief(one: Difference) -> str:
    """The verdict for a narrow place: "no worse" is short for it; "" where there is none, or seeds are too few."""
    said = word(one)
    return {"no worse than the margin": "no worse", "too few seeds": "", "no verdict": ""}.get(said, said)


def note(one: Difference) -> str:
    """What the word does not tell: why it is not another one, and what would decide it; "" where it tells all."""
    verdict = one.verdict
    if verdict is None:
        return "" if one.over in ("images", "seeds and images") else NOTHING
    if verdict.word == "worse" and verdict.p_no_worse < ALPHA / 2:
        return "by less than the margin"
    if verdict.word == "too few seeds":
        return "one seed tells nothing of others"
    if verdict.word in ("better", "worse"):
        return ""
    if math.isnan(verdict.p_different):
        return "the same training as the baseline's"
    if not verdict.has_spread:
        return NO_SPREAD
    return "; ".join(filter(None, [_corrected(one), _seeds(one)]))


def _corrected(one: Difference) -> str:
    """Where the interval by itself would have shown something."""
    verdict, higher = one.verdict, one.column.kind.higher_is_better
    least = one.low if higher else -one.high
    if verdict is None or verdict.comparisons < 2:
        return ""
    if one.excludes_zero:
        return f"the interval leaves out zero, but not after correction for {verdict.comparisons} comparisons (Holm)"
    if verdict.word == "undecided" and verdict.margin and least > -verdict.margin:
        return f"the interval keeps the margin, but not after correction for {verdict.comparisons} comparisons (Holm)"
    return ""


def _seeds(one: Difference) -> str:
    needed = more_seeds(one)
    if needed == LIMITED:
        return "more seeds cannot decide it: the images limit it"
    return f"would take {needed} more seed{'' if needed == 'about 1' else 's'}" if needed else ""


def more_seeds(one: Difference) -> str:
    """ "about 4", "more than 1000", or "none would do …"; "" where there is nothing to estimate."""
    needed = one.verdict.seeds_needed if one.verdict else None
    if needed is None:
        return ""
    if math.isinf(needed):
        return LIMITED
    return f"more than {MOST_SEEDS}" if needed > MOST_SEEDS else f"about {int(needed) - one.seeds}"


def short(run: Run, compared: Differences) -> list[str]:
    """The end of a run in a few lines: what page one says, and how many more seeds undecided arms would take."""
    lines = words.headline(run, compared)
    for column in words.leading(run):
        shown = foremost_of(run, compared, column)
        if found := [one for one in shown if more_seeds(one)]:
            listed = ", ".join(f"{one.arm} {more_seeds(one)}" for one in found)
            lines.append(f"undecided in {column.title}, more seeds it would take: {listed}")
        if still := [one.arm for one in shown if note(one) == NO_SPREAD]:
            listed = ", ".join(still)
            lines.append(f"undecided in {column.title}, since {CHANCE} (more images or seeds would): {listed}")
    return list(filter(None, [*lines, words.interval_note(run, compared)]))
