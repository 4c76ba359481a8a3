"""An experiment's arms as points of an atlas: where they lie by their settings, and how far they fell or gained there.

The gain by Gram anchoring at a point is the difference between an arm with it and the arm that is the same without it:
equal in every setting but those of `gram`. A law is a straight line through the points, in doublings of the settings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from evals.results.crossed import ALPHA
from reports import words
from reports.estimates import Column, of_column, seed_ways, student_interval
from reports.evidence import falls
from reports.evidence.stored import Stored
from reports.run_folder import TRUNK

GRAM = "gram."
WEIGHT = "gram.weight"
KINDS = ("gain", "fall")


@dataclass(frozen=True)
class Point:
    """An arm's place: its settings by dotted key. `value` is a mean over `seeds`, with its 95 % interval over them.

    A gain is `over` the arm that is equal without Gram anchoring, at `step`.
    """

    arm: str
    settings: Mapping[str, Any]
    value: float
    low: float
    high: float
    seeds: int
    over: str = ""
    step: int | None = None


@dataclass(frozen=True)
class Law:
    """value = `constant` + Σ `slopes` · log2(setting / its geometric mean), by least squares over `points`.

    `halves` are half the widths of the slopes' intervals (95 %), Student's t over residuals. `error` is the root mean
    square of each point's distance from the law that was fitted without it, `flat` that from the mean of the others.
    """

    keys: tuple[str, ...]
    constant: float
    slopes: tuple[float, ...]
    halves: tuple[float, ...]
    error: float
    flat: float
    points: int


def points(tables: Stored, column: Column, kind: str) -> list[Point]:
    """The points of all arms that have one, "gain" or "fall"; a fall is that of arms without Gram anchoring."""
    settings = settings_of(tables)
    anchored = {arm for arm, own in settings.items() if own.get(WEIGHT)}
    if kind == "fall":
        return [*_fallen(tables, column, {arm: own for arm, own in settings.items() if arm not in anchored})]
    bare = {_bare(own): arm for arm, own in settings.items() if arm not in anchored}
    pairs = {arm: bare[_bare(settings[arm])] for arm in settings if arm in anchored and _bare(settings[arm]) in bare}
    return [point for arm, partner in pairs.items() if (point := _gain(tables, column, arm, partner, settings[arm]))]


def scale(column: Column, kind: str) -> tuple[float, int, str]:
    """Factor, digits and unit in which a "gain" or a "fall" is shown."""
    if kind == "fall":
        return words.fall_scale(column)
    return words.scale(column), words.digits(column), words.difference_unit(column)


def settings_of(tables: Stored) -> dict[str, dict[str, Any]]:
    """Of each arm by dotted key, as far as arms differ in them."""
    lanes = tables.jobs.sort_values(["place", "seed"])
    found = zip(lanes["arm"], lanes["settings"], strict=True)
    return {arm: json.loads(text) for arm, text in found if arm != TRUNK}


def is_number(value: Any) -> bool:
    """Whether a setting has a place along an axis: yes and no have none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def law(found: Sequence[Point], keys: Sequence[str]) -> Law | None:
    """None where the points are too few, or where a setting does not vary by itself or is not a number above 0."""
    design = np.array([[_log2(point.settings.get(key)) for key in keys] for point in found])
    values = np.array([point.value for point in found])
    count, unknowns = len(found), len(keys) + 1
    if count <= unknowns or not np.isfinite(design).all() or not np.isfinite(values).all():
        return None
    design = np.column_stack([np.ones(count), design - design.mean(axis=0)])
    if np.linalg.matrix_rank(design) < unknowns:
        return None
    inverse = np.linalg.inv(design.T @ design)
    fitted = inverse @ design.T @ values
    residuals = values - design @ fitted
    spread = math.sqrt(float(residuals @ residuals) / (count - unknowns))
    half = float(stdtrit(count - unknowns, 1 - ALPHA / 2)) * spread * np.sqrt(np.diag(inverse))
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
    alone = residuals / np.maximum(1 - leverage, 1e-12)
    others = (values - values.mean()) * count / (count - 1)
    slopes, halves = tuple(fitted[1:].tolist()), tuple(half[1:].tolist())
    return Law(tuple(keys), float(fitted[0]), slopes, halves, _rms(alone), _rms(others), count)


def _fallen(tables: Stored, column: Column, arms: Mapping[str, Mapping[str, Any]]) -> Iterator[Point]:
    for arm, own in arms.items():
        if (found := falls.falls(tables.run, column, arm)) is not None:
            yield Point(arm, own, found.value, found.low, found.high, found.seeds)


def _gain(tables: Stored, column: Column, arm: str, over: str, settings: Mapping[str, Any]) -> Point | None:
    """At the last step that all seeds of both were evaluated at; above 0 where the arm is better."""
    mine, theirs = (seed_ways(tables.run, column, lane) for lane in (arm, over))
    own = {row.step for row in of_column(tables.run, column) if row.arm == arm}
    common = own.intersection(*mine.values(), *(theirs.get(seed, {}) for seed in mine))
    if not common:
        return None
    last = max(common)
    gained = [column.direction * (mine[seed][last] - theirs[seed][last]) for seed in mine]
    return Point(arm, settings, *student_interval(gained), len(gained), over, last)


def _bare(settings: Mapping[str, Any]) -> str:
    """All settings but those of Gram anchoring."""
    return json.dumps({key: value for key, value in settings.items() if not key.startswith(GRAM)}, sort_keys=True)


def _log2(value: Any) -> float:
    return math.log2(value) if is_number(value) and value > 0 else math.nan


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
