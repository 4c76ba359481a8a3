"""Casts the rays of a scene: colour, segment and depth for every pixel.

Elementwise float32 arithmetic that IEEE 754 rounds exactly, no sums over arrays: the same picture on every machine.
The forward component of a ray's direction is 1 in the camera's frame, so the ray's parameter is the depth.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from evals.datasets.scenes.rooms import Body, Room, Window
from evals.datasets.scenes.solids import Box, Lathe
from evals.datasets.scenes.textures import TEXTURES

WALL, FLOOR, CEILING, WINDOW = range(4)
SAMPLES = 2
_FAR = np.float32(1e6)


class Rays(NamedTuple):
    """Directions in the room's frame, each float32 [n, n]."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray


class Buffers(NamedTuple):
    """What the rays have met so far, each [n, n]; `tone` is a row of the palette, and `side` says whether a wall there
    would stand across the x axis.
    """

    depth: np.ndarray
    segment: np.ndarray
    side: np.ndarray
    tone: np.ndarray
    shade: np.ndarray


def picture(room: Room, size: int) -> np.ndarray:
    """uint8 [size, size, 3]: the mean of 2 x 2 samples a pixel, encoded with gamma 2."""
    with np.errstate(all="ignore"):
        buffers = _cast(room, size * SAMPLES, paint=True)
        palette = np.array([*room.tones, *(tone for body in room.bodies for tone in body.tones)], dtype=np.float32)
        colour = palette[buffers.tone] * buffers.shade[..., None]
        mean = (colour[::2, ::2] + colour[::2, 1::2] + colour[1::2, ::2] + colour[1::2, 1::2]) * np.float32(0.25)
        return np.floor(np.sqrt(np.minimum(mean, 1)) * 255 + np.float32(0.5)).astype(np.uint8)


def truth(room: Room, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Segments, uint8 [size, size], and depth in metres, float32 [size, size], at the pixels' centres."""
    with np.errstate(all="ignore"):
        buffers = _cast(room, size, paint=False)
    return buffers.segment, buffers.depth


def _cast(room: Room, size: int, *, paint: bool) -> Buffers:
    rays = rays_of(room, size)
    buffers = enclosure(room, rays, paint=paint)
    for number, body in enumerate(room.bodies):
        _stand(room, body, rays, buffers, tone=2 * (WINDOW + 1 + number), paint=paint)
    return buffers


def rays_of(room: Room, size: int) -> Rays:
    """Through the pixels' centres."""
    camera = room.camera
    across = ((2 * np.arange(size) + 1).astype(np.float32) / size - 1) * camera.half_view
    u, v = across[None, :], -across[:, None]
    turned = zip(camera.right, camera.up, camera.forward, strict=True)
    x, y, z = (u * right + (v * up + forward) for right, up, forward in turned)
    return Rays(x, y, z)


def enclosure(room: Room, rays: Rays, *, paint: bool) -> Buffers:
    """Walls, floor, ceiling and window, met from inside."""
    start = (0.0, room.camera.height, 0.0)
    ends = [  # the amount matters where a direction is zero: never met, whatever the zero's sign
        np.abs(np.where(direction > 0, np.float32(high - origin), np.float32(low - origin)) / direction)
        for direction, origin, low, high in zip(rays, start, room.low, room.high, strict=True)
    ]
    side = ends[0] < ends[2]
    upright = np.where(side, ends[0], ends[2])
    level = ends[1] < upright
    depth = np.where(level, ends[1], upright)
    segment = np.where(level, np.where(rays.y > 0, np.uint8(CEILING), np.uint8(FLOOR)), np.uint8(WALL))
    x, y, z = rays.x * depth, rays.y * depth + room.camera.height, rays.z * depth
    along = np.where(side, z, x)
    if room.window is not None:
        segment[_pane(room.window, rays, side, along, y) & (segment == WALL)] = WINDOW
    if not paint:
        return Buffers(depth, segment, side, depth, depth)
    tone = 2 * segment.astype(np.intp)
    tone += _room_texture(room, segment, along, (x, y, z))
    return Buffers(depth, segment, side, tone, _room_shade(room, segment, side, (x, y, z)))


def _pane(window: Window, rays: Rays, side: np.ndarray, along: np.ndarray, y: np.ndarray) -> np.ndarray:
    ahead = rays.z > 0 if window.axis == 2 else rays.x > 0
    wall = (~side if window.axis == 2 else side) & (ahead == window.high_end)
    return wall & (along > window.left) & (along < window.right) & (y > window.bottom) & (y < window.top)


def _fraction(value: np.ndarray) -> np.ndarray:
    return value - np.floor(value)


def _room_texture(room: Room, segment: np.ndarray, along: np.ndarray, point: tuple[np.ndarray, ...]) -> np.ndarray:
    """bool [n, n]: True where a surface shows its second tone."""
    x, y, z = point
    second = np.zeros(segment.shape, dtype=bool)
    wall, floor = segment == WALL, segment == FLOOR
    if room.wall_texture == "bricks":
        row = y * 4
        shifted = along * 2 + np.floor(row) * np.float32(0.5)
        second |= wall & ((_fraction(row) < 0.18) | (_fraction(shifted) < 0.1))
    elif room.wall_texture == "panels":
        second |= wall & (_fraction(along * np.float32(1.4)) < 0.12)
    if room.floor_texture == "tiles":
        second |= floor & ((_fraction(x * 2) < 0.1) | (_fraction(z * 2) < 0.1))
    elif room.floor_texture == "planks":
        second |= floor & (_fraction(x * np.float32(2.5)) < 0.15)
    if room.window is not None:
        bars = (_fraction(along * 2) < 0.15) | (_fraction(y * 2) < 0.15)
        second |= (segment == WINDOW) & bars
    return second


def _room_shade(room: Room, segment: np.ndarray, side: np.ndarray, point: tuple[np.ndarray, ...]) -> np.ndarray:
    """Lambert's law for the lamp, an ambient part, and soft dark patches on the floor beneath the bodies."""
    lamp = [np.float32(light) - at for light, at in zip(room.light, point, strict=True)]
    across = np.abs(np.where(side, lamp[0], lamp[2]))
    facing = np.where((segment == FLOOR) | (segment == CEILING), np.abs(lamp[1]), across)
    shade = _lit(room, facing, lamp)
    shade[segment == WINDOW] = 1
    floor = np.nonzero(segment == FLOOR)
    x, z = point[0][floor], point[2][floor]
    dark = np.ones_like(x)
    for body in room.bodies:
        from_x, from_z = x - body.x, z - body.z
        reach = (from_x * from_x + from_z * from_z) * (0.55 / (body.radius * body.radius))
        dark = np.minimum(dark, reach * reach + np.float32(0.3))
    shade[floor] *= dark
    return shade


def _lit(room: Room, facing: np.ndarray, lamp: list[np.ndarray]) -> np.ndarray:
    square = lamp[0] * lamp[0] + lamp[1] * lamp[1] + lamp[2] * lamp[2]
    direct = np.maximum(facing, 0) / np.sqrt(square) * (1 - room.ambient)
    return direct + room.ambient


class Meeting(NamedTuple):
    """Where a body is nearer than what else was met, in the part `area` of the picture: there, at its pixels `near`.

    All but `local` are [m] for these pixels: depth, the outward normal (any length) in the body's frame, and which of
    the body's solids it is. `local` are the rays of the area in the body's frame, from `origin` there.
    """

    area: tuple[slice, slice]
    near: tuple[np.ndarray, ...]
    origin: tuple[Any, Any, Any]
    local: tuple[np.ndarray, ...]
    depth: np.ndarray
    normal: tuple[np.ndarray, ...]
    solid: np.ndarray


def meet(room: Room, body: Body, rays: Rays, depth: np.ndarray) -> Meeting | None:
    """Where a body stands before what is `depth` away, [n, n], into which its own depth is written; None: nowhere."""
    area = _frame(room, body, rays.x.shape[0])
    local = _into(body, *(part[area] for part in rays))
    origin = _into(body, -body.x, room.camera.height, -body.z)
    found, normal, solid = _nearest(body, origin, local)
    near = np.nonzero(found < depth[area])
    if not len(near[0]):
        return None
    depth[area][near] = found[near]
    return Meeting(area, near, origin, local, found[near], tuple(part[near] for part in normal), solid[near])


def _stand(room: Room, body: Body, rays: Rays, buffers: Buffers, *, tone: int, paint: bool) -> None:
    """Writes a body into the buffers where it is nearer than what is there."""
    met = meet(room, body, rays, buffers.depth)
    if met is None:
        return
    area, near, facing = met.area, met.near, met.normal
    buffers.segment[area][near] = body.segment
    if not paint:
        return
    point = tuple(part[near] * met.depth + start for part, start in zip(met.local, met.origin, strict=True))
    second = TEXTURES[body.texture](body, point, facing)
    buffers.tone[area][near] = tone + second
    light = _into(body, room.light[0] - body.x, room.light[1], room.light[2] - body.z)
    lamp = [np.float32(at) - part for at, part in zip(light, point, strict=True)]
    toward = lamp[0] * facing[0] + lamp[1] * facing[1] + lamp[2] * facing[2]
    length = np.sqrt(facing[0] * facing[0] + facing[1] * facing[1] + facing[2] * facing[2])
    buffers.shade[area][near] = _lit(room, toward / length, lamp)


def _into(body: Body, x: Any, y: Any, z: Any) -> tuple[Any, Any, Any]:
    """A vector of the room, of numbers or of arrays, in the body's own frame."""
    return x * body.cosine - z * body.sine, y, x * body.sine + z * body.cosine


def _frame(room: Room, body: Body, size: int) -> tuple[slice, slice]:
    """The part of the picture that can show the body: its bounding box, projected."""
    camera = room.camera
    columns, rows = [], []
    for corner in range(8):
        x = body.x + (body.radius if corner & 1 else -body.radius)
        y = (body.height if corner & 2 else 0.0) - camera.height
        z = body.z + (body.radius if corner & 4 else -body.radius)
        u, v, ahead = (x * axis[0] + y * axis[1] + z * axis[2] for axis in (camera.right, camera.up, camera.forward))
        if ahead < 0.05:
            return slice(0, size), slice(0, size)
        columns.append((u / (ahead * camera.half_view) + 1) * 0.5 * size)
        rows.append((1 - v / (ahead * camera.half_view)) * 0.5 * size)
    return _span(rows, size), _span(columns, size)


def _span(places: list[float], size: int) -> slice:
    return slice(min(size, max(0, int(min(places)) - 1)), max(0, min(size, int(max(places)) + 2)))


def _nearest(body: Body, origin: tuple, rays: tuple) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Nearest depth over the body's solids, the outward normal (any length) there, and the number of the solid."""
    depth, normal = _hit(body.solids[0], origin, rays)
    which = np.zeros(depth.shape, np.uint8)
    for number, solid in enumerate(body.solids[1:], 1):
        other, its = _hit(solid, origin, rays)
        nearer = other < depth
        depth = np.where(nearer, other, depth)
        normal = [np.where(nearer, new, old) for new, old in zip(its, normal, strict=True)]
        which[nearer] = number
    return depth, normal, which


def _hit(solid: Box | Lathe, origin: tuple, rays: tuple) -> tuple[np.ndarray, list[np.ndarray]]:
    return _hit_box(solid, origin, rays) if isinstance(solid, Box) else _hit_lathe(solid, origin, rays)


def _hit_box(box: Box, origin: tuple, rays: tuple) -> tuple[np.ndarray, list[np.ndarray]]:
    """The last of the three slabs entered, if none is left before."""
    enter, leave = [], []
    for at, direction, low, high in zip(origin, rays, box.low, box.high, strict=True):
        one, two = np.float32(low - at) / direction, np.float32(high - at) / direction
        enter.append(np.minimum(one, two))
        leave.append(np.maximum(one, two))
    near = np.maximum(np.maximum(enter[0], enter[1]), enter[2])
    far = np.minimum(np.minimum(leave[0], leave[1]), leave[2])
    depth = np.where((near < far) & (near > 0), near, _FAR)
    normal = [np.where(near == first, -np.copysign(np.float32(1), d), 0) for first, d in zip(enter, rays, strict=True)]
    return depth, normal


def _hit_lathe(lathe: Lathe, origin: tuple, rays: tuple) -> tuple[np.ndarray, list[np.ndarray]]:
    """The nearest of the two meetings with the mantle and the two with the lids."""
    (ox, oy, oz), (dx, dy, dz) = origin, rays
    square = dx * dx + dz * dz
    a = square - dy * dy * lathe.c
    b = dx * ox + dz * oz - dy * (0.5 * lathe.b + lathe.c * oy)
    c = ox * ox + oz * oz - lathe.a - lathe.b * oy - lathe.c * oy * oy
    root = b * b - a * c
    spread = np.sqrt(np.maximum(root, 0))
    one, two = (-b - spread) / a, (spread - b) / a
    mantle = np.full_like(a, _FAR)
    for at in (np.maximum(one, two), np.minimum(one, two)):
        height = dy * at + oy
        mantle = np.where((root > 0) & (at > 0) & (height >= 0) & (height <= lathe.top), at, mantle)
    lid = np.float32(lathe.top - oy) / dy
    x, z = dx * lid + ox, dz * lid + oz
    within = x * x + z * z <= lathe.a + lathe.b * lathe.top + lathe.c * lathe.top * lathe.top
    lidded = within & (lid > 0) & (lid < mantle) & (dy < 0)
    depth = np.where(lidded, lid, mantle)
    x, y, z = dx * depth + ox, dy * depth + oy, dz * depth + oz
    slope = -(y * lathe.c + 0.5 * lathe.b)
    return depth, [np.where(lidded, 0, x), np.where(lidded, 1, slope), np.where(lidded, 0, z)]
