"""What to read a run with care for: its own notes, and what its tables and settings give reason to say."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from common.errors import listing
from reports import words
from reports.estimates import Unknown, columns, mixed
from reports.run_folder import Run

FEW_IMAGES = 50
SLOWED, APART = 1.5, 15.0  # seeds of a lane whose times differ by more than this factor, and by so many seconds


def cautions(run: Run) -> list[str]:
    """The experiment's own notes, then the others, a sentence each."""
    notes = list(run.notes)
    if len(run.seeds) == 1 and not any("seed" in note.lower() for note in notes):
        notes.append("One seed: differences between arms prove nothing.")
    if len(run.seeds) == 2:
        notes.append("Two seeds: intervals of 95 % hold the true difference in 90 to 95 of 100 cases only.")
    return [
        *notes,
        *collapsed(run),
        *passed_over(run),
        *few_images(run),
        *same_origin(run),
        *slowed(run),
        *skipped(run),
        *mixed(run),
        *foreign(run),
    ]


def collapsed(run: Run) -> list[str]:
    """That all images came to look alike to a network, by the first sign of it in an arm's own part of the curve."""
    found = []
    for (lane, seed), status in run.status.items():
        part, sign = run.part(lane, seed), status.collapse
        if sign is not None and part.start < sign.step and (part.stop is None or sign.step <= part.stop):
            found.append(f"{run.who(lane, seed)} from step {sign.since} to {sign.step} and maybe on: {sign.words}")
    return [f"Signs of collapse: {listing(found)}."] if found else []


def passed_over(run: Run) -> list[str]:
    """That arms learnt nothing from some of the batches that others learnt from."""
    found = []
    for lane, bad in run.bad_steps.items():
        steps = [f"{one.step} ({listing(one.terms)})" for one in bad]
        found.append(f"{run.who(*lane)} {'steps' if len(steps) > 1 else 'step'} {listing(steps)}")
    said = "Passed over without learning from the batch, since not all was finite"
    return [f"{said}: {listing(found)}."] if found else []


def foreign(run: Run) -> list[str]:
    """That the run was written by another version, or holds measures that this one does not know."""
    written, here = run.environment.get("gramlab"), installed()
    found = [f"Written by Gramlab {written}, read by {here}."] if written and here and written != here else []
    unknown = [column.title for column in columns(run) if isinstance(column.kind, Unknown)]
    return found + ([f"Measures that this version does not know: {listing(unknown)}."] if unknown else [])


def installed() -> str:
    """The version that reads; "" where it is no installed package."""
    try:
        return version("gramlab")
    except PackageNotFoundError:
        return ""


def few_images(run: Run) -> list[str]:
    """That intervals over few images are unreliable: what images they hold by chance decides then."""
    counts: dict[str, int] = {}
    for row in run.rows:
        counts[row.dataset] = min(row.images, counts.get(row.dataset, row.images))
    few = [f"{images} of {dataset}" for dataset, images in counts.items() if 0 < images < FEW_IMAGES]
    return [f"Fewer than {FEW_IMAGES} evaluation images make intervals unreliable: {listing(few)}."] if few else []


def same_origin(run: Run) -> list[str]:
    """That training images lie in one place with those of an evaluation: what is gained there may hold there alone.

    Of sets that are drawn nothing is said: they lie nowhere, and training may draw the same.
    """
    sources = run.config.get("data", {}).get("sources", {}).values()
    sets = run.config.get("evals", {}).get("sets", {})
    placed = [(one.get("name") or name, one) for name, one in sets.items() if one.get("root")]
    akin = {name for name, one in placed if any(_akin(one, other) for other in sources)}
    judged = dict.fromkeys(row.dataset for row in run.rows)
    inside = [name for name in judged if name in akin]
    if not inside:
        return []
    apart = [name for name in judged if name in dict(placed) and name not in akin]
    rest = f"; {', '.join(apart)} {'are' if len(apart) > 1 else 'is'} not" if apart else ""
    return [f"Training images are of the origin of {', '.join(inside)}, and gains may hold there alone{rest}."]


def _akin(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two sets have one root, or one root lies within the other; those that are drawn have none."""
    mine, its = (str(each.get("root") or "").rstrip("/") + "/" for each in (one, other))
    return "/" not in (mine, its) and (mine.startswith(its) or its.startswith(mine))


def skipped(run: Run) -> list[str]:
    """That images of training could not be read and others were taken for them: how many by lane, and the first few."""
    counts: dict[str, set[str]] = {}
    for (lane, _), skips in run.skipped.items():
        counts.setdefault(lane, set()).update(f"{skip.source}/{skip.image}" for skip in skips)
    if not counts:
        return []
    lanes = listing([f"{len(names)} of {lane}" for lane, names in counts.items()])
    names = listing(sorted(set().union(*counts.values())))
    return [f"Training images that could not be read were skipped, and others stood in: {lanes} ({names})."]


def slowed(run: Run) -> list[str]:
    """That seeds of an arm took unlike times, as where something else, or another job of the run, used the machine."""
    found = []
    for lane in run.lanes:
        taken = [one.seconds for (arm, _), one in run.status.items() if arm == lane and one.state == "done"]
        known = [seconds for seconds in taken if seconds]
        if len(known) > 1 and max(known) > SLOWED * min(known) and max(known) - min(known) > APART:
            found.append(f"{lane} {words.span(min(known))} to {words.span(max(known))}")
    said = "Seeds of an arm took unlike times, as on a machine that does other work too: read times with care"
    return [f"{said} ({listing(found)})."] if found else []
