"""The large objects of the scenes, one for each image class: their solids, and the texture that goes with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Box:
    """An axis-aligned box in the frame of its body."""

    low: Point
    high: Point


@dataclass(frozen=True)
class Lathe:
    """A solid of revolution about the y axis: x² + z² <= a + b y + c y² for 0 <= y <= top."""

    a: float
    b: float
    c: float
    top: float


Design = tuple[str, tuple[Box | Lathe, ...], float]
"""Texture, solids and the radius about the vertical that holds them, for a height in metres."""


def _ball(h: float) -> Design:
    return "stripes", (Lathe(0.0, h, -1.0, h),), 0.5 * h


def _drum(h: float) -> Design:
    return "dots", (Lathe(0.13 * h * h, 0.0, 0.0, h),), 0.37 * h


def _cone(h: float) -> Design:
    return "rings", (Lathe(0.25 * h * h, -0.5 * h, 0.25, h),), 0.5 * h


def _vase(h: float) -> Design:
    """A waist of 0.15 h between ends of 0.42 h: x² + z² = w² + c (y - h/2)²."""
    end, waist = 0.42 * h, 0.15 * h
    bend = 4 * (end * end - waist * waist) / (h * h)
    return "zigzag", (Lathe(end * end, -bend * h, bend, h),), 0.42 * h


def _box(h: float) -> Design:
    half = 0.42 * h
    return "checks", (Box((-half, 0.0, -half), (half, h, half)),), 0.6 * h


def _arch(h: float) -> Design:
    half, leg, deep, lintel = 0.52 * h, 0.24 * h, 0.16 * h, 0.72 * h
    left = Box((-half, 0.0, -deep), (leg - half, lintel, deep))
    right = Box((half - leg, 0.0, -deep), (half, lintel, deep))
    return "slants", (left, right, Box((-half, lintel, -deep), (half, h, deep))), 0.55 * h


SOLIDS: dict[str, Callable[[float], Design]] = {
    "ball": _ball,
    "box": _box,
    "drum": _drum,
    "cone": _cone,
    "vase": _vase,
    "arch": _arch,
}
SHAPES = tuple(SOLIDS)
SPREADS = (1.0, 0.79, 0.99, 1.08, 1.1, 1.0)
"""Relative heights in the picture at which the shapes cover equal areas, so that no area gives the class away."""
