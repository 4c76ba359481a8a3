"""Two-tone patterns on the bodies of a scene, each dark on about half of its area whatever the pattern.

A pattern takes the body, the surface points and the outward normals there, both in the body's frame, and says where
the second tone shows. Periods are fractions of the body's height, so that they survive small pictures.
"""

from __future__ import annotations

import numpy as np

from evals.datasets.scenes.rooms import Body

Vectors = tuple[np.ndarray, ...]


def odd(value: np.ndarray) -> np.ndarray:
    """Whether the whole part of a number is odd, by exact operations."""
    half = np.floor(value) * np.float32(0.5)
    return half != np.floor(half)


def around(point: Vectors) -> np.ndarray:
    """A stand-in for the angle about the vertical, 0 to 4: exact where the arc tangent would not be."""
    x, _, z = point
    part = z / (np.abs(x) + np.abs(z) + np.float32(1e-6))
    return np.where(x >= 0, part + 1, 3 - part)


def plain(body: Body, point: Vectors, normal: Vectors) -> np.ndarray:
    return np.zeros(point[0].shape, dtype=bool)


def stripes(body: Body, point: Vectors, normal: Vectors) -> np.ndarray:
    """Upright, five across."""
    return odd(point[0] * (8 / (body.height * body.cell)) + np.float32(100.5))


def rings(body: Body, point: Vectors, normal: Vectors) -> np.ndarray:
    """Level, all the way up."""
    return odd(point[1] * (8 / (body.height * body.cell)) + 100)


def checks(body: Body, point: Vectors, normal: Vectors) -> np.ndarray:
    """Cubes of two colours; the shrinking keeps the faces off the cubes' borders."""
    scale = 0.998 * 4.5 / (body.height * body.cell)
    x, y, z = (np.floor(part * scale + shift) for part, shift in zip(point, (100.5, 100.01, 100.5), strict=True))
    return odd(x + y + z)


def dots(body: Body, point: Vectors, normal: Vectors) -> np.ndarray:
    """Staggered discs on the mantle, half of its area; the lid is left plain."""
    row = point[1] * (4.2 / (body.height * body.cell)) + 100
    column = around(point) * 2 + np.floor(row) * np.float32(0.5)
    u, v = column - np.floor(column) - np.float32(0.5), row - np.floor(row) - np.float32(0.5)
    return (u * u + v * v < np.float32(0.155)) & (normal[1] != 1)


def zigzag(body: Body, point: Vectors, normal: Vectors) -> np.ndarray:
    """Level bands that go up and down once in a quarter turn."""
    place = around(point)
    ramp = np.abs(place - np.floor(place) - np.float32(0.5)) * np.float32(2.5)
    return odd(point[1] * (7 / (body.height * body.cell)) + ramp + 100)


def slants(body: Body, point: Vectors, normal: Vectors) -> np.ndarray:
    """Diagonal bands."""
    return odd((point[0] + point[1] + point[2]) * (6 / (body.height * body.cell)) + 100)


TEXTURES = {
    "plain": plain,
    "stripes": stripes,
    "rings": rings,
    "checks": checks,
    "dots": dots,
    "zigzag": zigzag,
    "slants": slants,
}
