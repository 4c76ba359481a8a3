"""What a page can be filled with of an arm between its own steps: gains and losses, and what came back of a loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.errors import BadInput
from reports import words
from reports.estimates import Column, Estimate, seed_ways, student_interval
from reports.evidence.asked import Asked, asked, heading, title
from reports.evidence.filled import Filled, plural, several, table
from reports.evidence.stored import Shelf


def change(shelf: Shelf, given: Sequence[str]) -> Filled:
    """`EXPERIMENT FROM TO METRIC... [arms: ARM...]`: what each arm gained or lost between two steps, by seed."""
    got, (first, last) = _at(shelf, given, 2)
    found = [[_values(got, column, arm, first, last) for column in got.columns] for arm in got.arms]
    counted = _counted(got, found, first, last)
    rows = [[f"`{arm}`", *map(_changed, got.columns, of_arm)] for arm, of_arm in zip(got.arms, found, strict=True)]
    head = ["arm", *(heading(got, column, difference=True) for column in got.columns)]
    said = f"From step {words.count(first)} to step {words.count(last)}; mean of {counted}."
    return Filled(f"{table(head, rows)}\n\n{said}")


def regained(shelf: Shelf, given: Sequence[str]) -> Filled:
    """`EXPERIMENT BEST FALLEN LAST METRIC... [arms: ARM...]`: what is back, later, of a loss between two steps."""
    got, steps = _at(shelf, given, 3)
    found = [[_values(got, column, arm, *steps) for column in got.columns] for arm in got.arms]
    counted = _counted(got, found, *steps)
    rows = [[f"`{arm}`", *map(_back, got.columns, of_arm)] for arm, of_arm in zip(got.arms, found, strict=True)]
    head = ["arm", *(f"{title(got.run, column)}, % of the loss" for column in got.columns)]
    best, fallen, last = map(words.count, steps)
    said = (
        f"What is back at step {last} of the loss between steps {best} and {fallen}: 0 is the value of step {fallen}, "
        f"100 that of step {best}; none where no loss is shown; {counted}."
    )
    return Filled(f"{table(head, rows)}\n\n{said}")


def share_back(values: np.ndarray) -> Estimate:
    """Of `values` [seeds, 3], at the best, the fallen and the last step, (last - fallen) / (best - fallen).

    It is a ratio of means, for a mean of ratios is at the mercy of the seed that lost least; the mean loss must not be
    0. The interval is Student's t over what each seed has back beyond the common share of its own loss.
    """
    lost, back = values[:, 0] - values[:, 1], values[:, 2] - values[:, 1]
    count, share = len(values), back.mean() / lost.mean()
    beyond = (back - share * lost) / lost.mean()
    return Estimate(*student_interval((share + beyond).tolist()), 0, count, "seeds" if count > 1 else "")


def _at(shelf: Shelf, given: Sequence[str], count: int) -> tuple[Asked, list[int]]:
    """What is asked for, and the steps behind the experiment's name."""
    steps = given[1 : count + 1]
    if len(steps) < count or not all(step.isdecimal() for step in steps):
        want = {2: "two steps", 3: "three steps"}[count]
        raise BadInput(f"got {' '.join(steps) or 'no steps'}: want {want} behind the experiment; give numbers")
    return asked(shelf, [given[0], *given[count + 1 :]]), [*map(int, steps)]


def _values(got: Asked, column: Column, arm: str, *steps: int) -> np.ndarray:
    """[seeds, steps], of each seed that was evaluated at all of them on the arm's way from step 0."""
    ways = seed_ways(got.run, column, arm).values()
    return np.array([[way[step] for step in steps] for way in ways if {*steps} <= way.keys()]).reshape(-1, len(steps))


def _counted(got: Asked, found: Sequence[Sequence[np.ndarray]], *steps: int) -> str:
    """Over how many seeds, and what that gives. Raises BadInput where no arm has values at all of these steps."""
    counts = {len(values) for of_arm in found for values in of_arm} - {0}
    if not counts:
        said = ", ".join(map(str, steps[:-1])) + f" and {steps[-1]}"
        raise BadInput(f"got steps {said}: want those at which an arm of {got.tables.name} was evaluated")
    bounds = ", so no interval" if counts == {1} else "; brackets: 95 % intervals over seeds"
    return plural(several(sorted(counts)), "seed") + bounds


def _changed(column: Column, values: np.ndarray) -> str:
    if not len(values):
        return words.NONE
    changes = (values[:, 1] - values[:, 0]).tolist()
    return words.difference(column, Estimate(*student_interval(changes), 0, len(changes), "seeds"))


def _back(column: Column, values: np.ndarray) -> str:
    """ "41 [22, 60]"; nothing where a loss is not shown, of which no share can be told."""
    losses = column.direction * (values[:, 0] - values[:, 1])
    lost, low, _ = student_interval(losses.tolist())
    if not (low if len(values) > 1 else lost) > 0:
        return words.NONE
    found = share_back(values)
    share, low, high = (words.number(100 * x, 0) for x in (found.value, found.low, found.high))
    return share + (f" [{low}, {high}]" if found.over else "")
