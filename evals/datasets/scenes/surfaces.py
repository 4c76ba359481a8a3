"""The surfaces that a scene's rays meet: which way each faces, and which part of the scene it belongs to.

Elementwise float32 arithmetic that IEEE 754 rounds exactly, as in raycast.py: the same numbers on every machine.
"""

from __future__ import annotations

import numpy as np

from evals.datasets.labelled_set import Surfaces
from evals.datasets.scenes.raycast import CEILING, FLOOR, WALL, Buffers, Meeting, Rays, enclosure, meet, rays_of
from evals.datasets.scenes.rooms import Body, Room

FIRST_SOLID = 7  # parts before it: the walls at low x, high x, low z and high z, floor, ceiling, window
_ONE = np.float32(1)


def surfaces(room: Room, size: int) -> Surfaces:
    """Normals, float32 [size, size, 3], and parts, uint8 [size, size], at the pixels' centres.

    The parts of a room are its four walls, floor, ceiling and window, and after them the solids of one body after the
    other: two walls that meet in a corner are two, and so are the legs and the lintel of an arch.
    """
    with np.errstate(all="ignore"):
        rays = rays_of(room, size)
        buffers = enclosure(room, rays, paint=False)
        normal, part = _faces(rays, buffers), _parts(rays, buffers)
        first = FIRST_SOLID
        for body in room.bodies:
            if met := meet(room, body, rays, buffers.depth):
                part[met.area][met.near] = first + met.solid
                for axis, values in zip(normal, _turned_back(body, met), strict=True):
                    axis[met.area][met.near] = values
            first += len(body.solids)
        return Surfaces(_seen_by_camera(room, normal), part)


def _parts(rays: Rays, buffers: Buffers) -> np.ndarray:
    """uint8 [n, n], of the empty room."""
    wall = np.where(buffers.side, rays.x > 0, 2 + (rays.z > 0))
    return np.where(buffers.segment == WALL, wall, FIRST_SOLID - 4 + buffers.segment).astype(np.uint8)


def _faces(rays: Rays, buffers: Buffers) -> tuple[np.ndarray, ...]:
    """x, y and z, each [n, n], of the normals of the empty room, in the room's frame."""
    floor, ceiling = buffers.segment == FLOOR, buffers.segment == CEILING
    upright = ~(floor | ceiling)
    x = np.where(upright & buffers.side, -np.copysign(_ONE, rays.x), 0)
    z = np.where(upright & ~buffers.side, -np.copysign(_ONE, rays.z), 0)
    return x, np.where(floor, _ONE, np.where(ceiling, -_ONE, 0)), z


def _turned_back(body: Body, met: Meeting) -> tuple[np.ndarray, ...]:
    """The normals of a body, of any length, in the room's frame."""
    x, y, z = met.normal
    return x * body.cosine + z * body.sine, y, z * body.cosine - x * body.sine


def _seen_by_camera(room: Room, normal: tuple[np.ndarray, ...]) -> np.ndarray:
    """Normals of any length, each of their parts [n, n], turned into the camera's frame and of unit length.

    Where there is no direction, as at the tip of a cone, all is 0.
    """
    x, y, z = normal
    camera = room.camera
    turned = [x * axis[0] + y * axis[1] + z * axis[2] for axis in (camera.right, camera.up, camera.forward)]
    length = np.sqrt(turned[0] * turned[0] + turned[1] * turned[1] + turned[2] * turned[2])
    return np.stack([np.where(length > 0, part / length, 0) for part in turned], -1)
