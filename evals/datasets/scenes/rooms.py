"""The composition of a scene: a room, a camera, one large object, some clutter, drawn from random numbers.

Only operations that IEEE 754 rounds exactly are used (+ - * / sqrt and comparisons), and angles are given by their
tangents, so that a scene is the same number for number on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np

from evals.datasets.scenes.solids import SHAPES, SOLIDS, SPREADS, Box, Lathe, Point

SEGMENTS = ("wall", "floor", "ceiling", "window", "clutter", *SHAPES)
SPLITS = ("train", "val", "test")

Colour = tuple[float, float, float]
Draw = Callable[[float, float], float]


@dataclass(frozen=True)
class Body:
    """A solid standing on the floor at (x, z), turned about the vertical; `radius` and `height` bound it.

    `cell` is the size of the texture's period relative to the height.
    """

    segment: int
    texture: str
    solids: tuple[Box | Lathe, ...]
    x: float
    z: float
    cosine: float
    sine: float
    radius: float
    height: float
    cell: float
    tones: tuple[Colour, Colour]


@dataclass(frozen=True)
class Window:
    """A pane in the wall at the high or the low end of `axis` (0 or 2), from `left` to `right` along the other axis."""

    axis: int
    high_end: bool
    left: float
    right: float
    bottom: float
    top: float


@dataclass(frozen=True)
class Camera:
    """Height in metres, rows of the rotation (right, up, forward), and the tangent of half the field of view."""

    height: float
    right: Point
    up: Point
    forward: Point
    half_view: float


@dataclass(frozen=True)
class Room:
    """Everything a picture needs. The camera stands at x = z = 0, the floor is y = 0; lengths in metres."""

    low: Point
    high: Point
    camera: Camera
    light: Point
    ambient: float
    bodies: tuple[Body, ...]
    window: Window | None
    wall_texture: str
    floor_texture: str
    tones: tuple[Colour, ...]


def draws(seed: int, split: str, index: int | str) -> Draw:
    """Uniform numbers between two bounds, from a counter-based generator keyed by a hash of the arguments."""
    digest = hashlib.sha256(f"scenes/{seed}/{split}/{index}".encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))

    def draw(low: float, high: float) -> float:
        return low + (high - low) * generator.random()

    return draw


def pick(draw: Draw, options: tuple[str, ...]) -> str:
    return options[int(draw(0, len(options)))]


def shape_of(seed: int, split: str, index: int) -> int:
    """The image class: each run of len(SHAPES) indices holds every shape once, in an order of its own."""
    block, place = divmod(index, len(SHAPES))
    draw = draws(seed, split, f"block-{block}")
    order = list(range(len(SHAPES)))
    for last in range(len(order) - 1, 0, -1):
        other = int(draw(0, last + 1))
        order[last], order[other] = order[other], order[last]
    return order[place]


def compose(seed: int, split: str, index: int) -> Room:
    """The scene with this index: the same for the same arguments, whatever was composed before."""
    draw = draws(seed, split, index)
    shape = shape_of(seed, split, index)
    height, half_view, share = draw(0.9, 1.3), draw(0.5, 0.65), draw(0.4, 0.6) * SPREADS[shape]
    distance = height / (2 * share * half_view)
    camera = _camera(draw, height, distance, half_view)
    aside = draw(-0.3, 0.3) * half_view * distance
    flat = sqrt(camera.forward[0] * camera.forward[0] + camera.forward[2] * camera.forward[2])
    x = distance * camera.forward[0] / flat + aside * camera.right[0]
    z = distance * camera.forward[2] / flat + aside * camera.right[2]
    body = _body(draw, shape, height, (x, z))
    low, high = _walls(draw, body)
    clutter = tuple(_clutter(draw, body, side) for side in _sides(draw))
    return Room(
        low=low,
        high=high,
        camera=camera,
        light=(draw(low[0] + 0.3, high[0] - 0.3), high[1] - 0.2, draw(0.0, max(0.1, z - 0.3))),
        ambient=draw(0.35, 0.55),
        bodies=(body, *clutter),
        window=_window(draw, low, high),
        wall_texture=pick(draw, ("plain", "bricks", "panels")),
        floor_texture=pick(draw, ("plain", "tiles", "planks")),
        tones=_surfaces(draw),
    )


def _turn(tangent: float) -> tuple[float, float]:
    """Cosine and sine of the angle whose tangent is given."""
    cosine = 1 / sqrt(1 + tangent * tangent)
    return cosine, tangent * cosine


def _camera(draw: Draw, object_height: float, distance: float, half_view: float) -> Camera:
    """Looks at the upper half of the object or just above it."""
    height = draw(0.9, 1.5)
    target = 0.6 * object_height + draw(-0.15, 0.35) * half_view * distance
    yaw_cos, yaw_sin = _turn(draw(-0.5, 0.5))
    tilt_cos, tilt_sin = _turn((height - target) / distance)
    return Camera(
        height=height,
        right=(yaw_cos, 0.0, -yaw_sin),
        up=(yaw_sin * tilt_sin, tilt_cos, yaw_cos * tilt_sin),
        forward=(yaw_sin * tilt_cos, -tilt_sin, yaw_cos * tilt_cos),
        half_view=half_view,
    )


def _body(draw: Draw, shape: int, h: float, place: tuple[float, float]) -> Body:
    """The large object: shape and texture belong together, colours have no part in it."""
    name = SHAPES[shape]
    texture, solids, radius = SOLIDS[name](h)
    cosine, sine = _turn(draw(-0.6, 0.6))
    return Body(
        segment=SEGMENTS.index(name),
        texture=texture,
        solids=solids,
        x=place[0],
        z=place[1],
        cosine=cosine,
        sine=sine,
        radius=radius,
        height=h,
        cell=draw(0.85, 1.15),
        tones=_pair(draw),
    )


def _walls(draw: Draw, body: Body) -> tuple[Point, Point]:
    """A room around camera and object whose diagonal, and so every depth, stays below 10 m."""
    left = min(0.0, body.x - body.radius) - draw(0.7, 1.8)
    right = max(0.0, body.x + body.radius) + draw(0.7, 1.8)
    back = body.z + body.radius + draw(0.6, 2.2)
    return (left, 0.0, -0.4), (right, draw(2.0, 2.6), back)


def _sides(draw: Draw) -> tuple[float, ...]:
    """Where clutter lies: to the left and to the right of the object, or on one side only."""
    one = -1.0 if draw(0, 1) < 0.5 else 1.0
    return (one, -one) if draw(0, 1) < 0.5 else (one,)


def _clutter(draw: Draw, body: Body, side: float) -> Body:
    """A pebble or a plank beside the object, of one colour."""
    size = draw(0.14, 0.2) * body.height
    reach = body.radius + draw(1.1, 1.5) * size
    cosine, sine = _turn(draw(-0.8, 0.8))
    if draw(0, 1) < 0.5:
        flat = draw(0.35, 0.6)  # of its width: x² + z² = r² - (y - flat r)² / flat²
        solid: Box | Lathe = Lathe(0.0, 2 * size / flat, -1 / (flat * flat), 2 * flat * size)
    else:
        solid = Box((-size, 0.0, -0.4 * size), (size, 0.5 * size, 0.4 * size))
    tone = _colour(draw, 0.1, 0.8)
    return Body(
        segment=SEGMENTS.index("clutter"),
        texture="plain",
        solids=(solid,),
        x=body.x + side * reach * cosine,
        z=body.z - abs(reach * sine),
        cosine=cosine,
        sine=sine,
        radius=1.1 * size,
        height=solid.top if isinstance(solid, Lathe) else solid.high[1],
        cell=1.0,
        tones=(tone, tone),
    )


def _window(draw: Draw, low: Point, high: Point) -> Window | None:
    axis, high_end = ((2, True), (0, False), (0, True))[int(draw(0, 3))]
    start, end = (low[0], high[0]) if axis == 2 else (0.5, high[2])
    width, left = draw(0.8, 1.4), draw(0, 1)
    left = start + 0.2 + left * max(0.0, end - start - 0.4 - width)
    bottom = draw(0.7, 1.0)
    window = Window(axis, high_end, left, left + width, bottom, min(bottom + draw(0.7, 1.1), high[1] - 0.15))
    return window if draw(0, 1) < 0.75 else None


def _colour(draw: Draw, low: float, high: float) -> Colour:
    """Linear RGB of a random hue, muted so that hue does not drown shape, and a brightness between the bounds."""
    hue, saturation, value = draw(0, 6), draw(0.1, 0.5), draw(low, high)
    sector = int(hue)
    rest = hue - sector
    p, q, t = value * (1 - saturation), value * (1 - saturation * rest), value * (1 - saturation * (1 - rest))
    wheel = ((value, t, p), (q, value, p), (p, value, t), (p, q, value), (t, p, value), (value, p, q))
    return wheel[sector % 6]


def _pair(draw: Draw) -> tuple[Colour, Colour]:
    """A light and a dark tone of independent hues, in random order."""
    light, dark = _colour(draw, 0.6, 0.95), _colour(draw, 0.03, 0.2)
    return (light, dark) if draw(0, 1) < 0.5 else (dark, light)


def _surfaces(draw: Draw) -> tuple[Colour, ...]:
    """Two tones each for wall, floor, ceiling and window; the second differs little from the first.

    Rooms are alike in brightness and faint in texture: what tells two pictures apart, once hue is set aside, is the
    object in them. In rooms from dark to bright a small model learns to tell rooms apart, and no classes.
    """
    tones: list[Colour] = []
    for low, high in ((0.3, 0.5), (0.3, 0.5), (0.4, 0.6), (0.6, 0.95)):
        base, factor = _colour(draw, low, high), draw(0.5, 0.7)
        tones += [base, (base[0] * factor, base[1] * factor, base[2] * factor)]
    return tuple(tones)
