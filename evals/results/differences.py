"""Differences of two checkpoints on the same images, from the per-image outcomes that evaluations left behind.

Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from common.errors import BadInput, nearest
from evals.results.bootstrap import paired_difference, value
from evals.results.evaluations import Evaluation, EvaluationKey
from evals.results.metrics import METRICS, RELATIVE, Metric, metric_of, write_number
from evals.results.verdicts import ROUNDING


@dataclass(frozen=True)
class Difference:
    """One metric of both in its own unit, shares as fractions; `difference` is B − A, `low` and `high` bound it (95 %).

    All of these are of the `images` that both sides have, out of `images_a` and `images_b`.
    """

    about: EvaluationKey
    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    images: int
    images_a: int
    images_b: int

    @property
    def verdict(self) -> str:
        """B's value is "higher" or "lower", or it is "undecided": the interval holds zero or rests on one image, or
        the difference may be one of rounding."""
        rounding = ROUNDING * max(abs(self.a), abs(self.b))
        if self.images < 2 or not (self.low > 0 or self.high < 0) or abs(self.difference) <= rounding:
            return "undecided"
        return "higher" if self.low > 0 else "lower"

    @property
    def judgement(self) -> str:
        """Whether the verdict is "better" or "worse"; "" where it is undecided."""
        if self.verdict == "undecided" or self.metric in RELATIVE:  # drift is neither good nor bad
            return ""
        return "better" if (self.verdict == "higher") == self.named.higher_is_better else "worse"

    @property
    def named(self) -> Metric:
        return metric_of(self.metric)

    @property
    def factor(self) -> float:
        """What turns a number into `unit`s for reading."""
        return 100.0 if self.named.share else 1.0

    @property
    def unit(self) -> str:
        return "%" if self.named.share else self.named.unit

    def write(self, number: float, sign: str = "") -> str:
        """A value, difference or bound of this row in `unit`s, all with as many decimal places as tell enough."""
        largest = max((abs(x) for x in (self.a, self.b) if math.isfinite(x)), default=0.0)
        return write_number(self.named, number, like=largest, sign=sign)


class Comparison(NamedTuple):
    """Differences, and in words what could not be compared: `refused` pairs, and evaluations of one side alone."""

    differences: list[Difference]
    refused: list[str]
    unpaired: list[str]


def compare(
    first: Mapping[EvaluationKey, Evaluation],
    second: Mapping[EvaluationKey, Evaluation],
    *,
    metrics: Sequence[str] = (),
    tasks: Sequence[str] = (),
) -> Comparison:
    """Second minus first, B − A, for every metric of every evaluation that both have.

    Args:
        metrics: names of metrics, `top1` standing for `top1@10` too; () takes all.
        tasks: names of tasks, of data sets, or of both as `segmentation@nyuv2`; () takes all.

    Raises:
        BadInput: nothing can be compared; the reasons are named.
    """
    _refuse_unknown({**first, **second}, metrics, tasks)
    first, second = ({a: e for a, e in side.items() if _chosen(a, tasks)} for side in (first, second))
    both = sorted((about for about in first if about in second), key=lambda about: _place(about, first[about]))
    reasons = {about: _unlike(first[about], second[about]) for about in both}
    differences = [
        difference
        for about in both
        if not reasons[about]
        for difference in _differences(about, first[about], second[about], metrics)
    ]
    refused = [f"{about}: {reason}" for about, reason in reasons.items() if reason]
    refused += [f"{about}: {drift}" for about in both for drift in _drifts_apart(first[about], second[about])]
    twins, unpaired = _alone(first, second)
    refused += twins
    if not differences:
        why = (
            "; ".join((*refused, *(f"{line} alone" for line in unpaired))) or "the chosen tasks and metrics are in none"
        )
        raise BadInput(f"got nothing to compare ({why}): want an evaluation that both have; do evaluate both alike")
    return Comparison(differences, refused, unpaired)


def _alone(
    first: Mapping[EvaluationKey, Evaluation], second: Mapping[EvaluationKey, Evaluation]
) -> tuple[list[str], list[str]]:
    """Of evaluations that one side alone has, those whose settings alone are unlike, and the others, a line each."""
    alone = {"A": [about for about in first if about not in second], "B": [x for x in second if x not in first]}
    twins = [(a, b) for a in alone["A"] for b in alone["B"] if a[:-1] == b[:-1]]
    unlike = [f"{a}: unlike settings (protocol hash {a.protocol_hash} in A, {b.protocol_hash} in B)" for a, b in twins]
    paired = {about for twin in twins for about in twin}
    unpaired = [
        f"{about} #{about.protocol_hash}: {side}" for side, own in alone.items() for about in own if about not in paired
    ]
    return unlike, unpaired


def _refuse_unknown(found: Mapping[EvaluationKey, Evaluation], metrics: Sequence[str], tasks: Sequence[str]) -> None:
    names = {name for about in found for name in _names(about)}
    measured = {name for one in found.values() for metric in one.metrics for name in (metric, metric.partition("@")[0])}
    for kind, given, known in (("metric", metrics, measured), ("task", tasks, names)):
        for word in given:
            if word not in known:
                plain = ", ".join(sorted(name for name in known if "@" not in name))
                hint = nearest(word, sorted(known), otherwise="do correct it")
                raise BadInput(f"got {kind} '{word}': want one of {plain}; {hint}")


def _names(about: EvaluationKey) -> set[str]:
    return {about.eval, about.dataset, f"{about.eval}@{about.dataset}"}


def _chosen(about: EvaluationKey, tasks: Sequence[str]) -> bool:
    return not tasks or bool(_names(about) & set(tasks))


def _place(about: EvaluationKey, evaluation: Evaluation) -> tuple[int, EvaluationKey]:
    """Evaluations come in the order of their first metric in METRICS: whole images before pixels before health."""
    known = list(METRICS)
    return min(known.index(metric.partition("@")[0]) for metric in evaluation.metrics), about


def _unlike(first: Evaluation, second: Evaluation) -> str:
    """Why the two must not be compared; "" where they may."""
    if first.against != second.against and not {*first.metrics, *second.metrics} & RELATIVE:
        return "heads that were fitted on unlike training sets"
    if not np.intersect1d(first.keys, second.keys).size:
        return f"no image in common ({len(first.keys)} in A, {len(second.keys)} in B)"
    if first.data != second.data and np.array_equal(np.sort(first.keys), np.sort(second.keys)):
        both = f"data {first.data} in A, {second.data} in B"
        return f"unlike files or class lists behind the same images ({both}): do evaluate both on one folder"
    for name in sorted(first.outcomes.keys() & second.outcomes.keys()):
        a, b = (side.outcomes[name].shape[1:] for side in (first, second))
        if a != b:
            return f"unlike classes ({name} has {a} in A, {b} in B)"
    return ""


def _drifts_apart(first: Evaluation, second: Evaluation) -> list[str]:
    """Metrics of both that are measured from a reference, where the two have unlike ones, in words."""
    shared = RELATIVE & {*first.metrics} & {*second.metrics} if first.against != second.against else ()
    return [f"{metric_of(name).label} from unlike reference backbones" for name in sorted(shared)]


def _differences(
    about: EvaluationKey, first: Evaluation, second: Evaluation, wanted: Sequence[str]
) -> Iterator[Difference]:
    _, mine, theirs = np.intersect1d(first.keys, second.keys, return_indices=True)
    a = {name: x[mine] for name, x in first.outcomes.items()}
    b = {name: x[theirs] for name, x in second.outcomes.items()}
    for metric in first.metrics:
        if metric not in second.metrics or (wanted and not {metric, metric.partition("@")[0]} & set(wanted)):
            continue
        if metric in RELATIVE and first.against != second.against:
            continue
        gap, low, high = paired_difference(metric, a, b)
        yield Difference(
            about, metric, value(metric, a), value(metric, b), gap, low, high,
            images=len(mine), images_a=len(first.keys), images_b=len(second.keys),
        )  # fmt: skip
