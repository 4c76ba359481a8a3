"""Watches over the dense features of a run without labels: a start at an alarm, and the best of a ring as Gram teacher.

Every `gram.measure_every` steps the EMA teacher is measured on images of the pool. What follows is a function of the
values alone: when the alarm was raised, which of the last measured teachers is the best. So values and ring are part
of the state, and a run that was cut off chooses as if it had not been.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from common.errors import BadInput
from evals.features.view import View, prepare
from evals.results.alarm import raised
from evals.tasks.health import dse
from evals.tasks.health.health import locality
from evals.tasks.health.patch_grid import Patches
from evals.tasks.health.settings import Health
from evals.tasks.methods import protocol_of
from harness import gram_teacher
from harness.backbones.convnext import Encoder
from harness.data.pixels import as_float, normalise
from harness.data.pool import Pool
from harness.losses.anchoring import Anchoring
from harness.losses.gram import Gram
from harness.model import encode, patch_size

AT_ONCE = 16  # images of a forward pass


@dataclass
class Seen:
    """What a run has measured of its EMA teacher: values by step, and those that may still be chosen, frozen."""

    values: dict[int, float] = field(default_factory=dict)
    ring: dict[int, Encoder] = field(default_factory=dict)


# --- what follows from the values


def settled(gram: Gram, values: Mapping[int, float], *, stop: int) -> Gram:
    """The settings once an alarm was raised before step `stop`: the loss begins there. Until then as they are."""
    step = raised(values, share=gram.alarm_drop) if gram.awaits_alarm else None
    return gram if step is None or step >= stop else replace(gram, start="step", start_step=step)


def best(values: Mapping[int, float]) -> int:
    """The step with the highest value; of equal ones the last."""
    return max(values, key=lambda step: (values[step], step))


def chosen(gram: Gram, values: Mapping[int, float], step: int) -> int:
    """The step whose EMA teacher is the best of those that were measured last, up to `step`."""
    last = [one for one in values if one <= step][-(gram.ring or 1) :]
    return best({one: values[one] for one in last})


def told(
    gram: Gram, values: Mapping[int, float], *, step: int, stop: int, start: int = 0, anew: bool = False
) -> Iterator[dict[str, Any]]:
    """The record of what was measured, and decided from `start` up to `step`, in the order in which it happened.

    anew: another Gram teacher is chosen at `start`, though the loss was on before.
    """
    own = settled(gram, values, stop=stop)
    rows = [{"step": at, "kind": "measured", "value": value} for at, value in values.items() if at <= step]
    events = gram_teacher.events(own, start, step + 1)
    if anew and gram_teacher.is_on(own, start - 1):
        events = [{"step": start, "kind": "gram_update"}, *(one for one in events if one["step"] > start)]
    for event in events:
        choice = {"teacher": chosen(own, values, event["step"])} if gram_teacher.source(own).chosen else {}
        rows.append({**event, **choice})
    yield from sorted(rows, key=lambda row: row["step"])


# --- measuring


def too_coarse(gram: Anchoring, side: int) -> str | None:
    """Why images of `side` × `side` patches cannot be measured, and what is wanted; None where they can."""
    if not gram.is_watched or side >= 3:
        return None
    few = f"gram.measure={gram.measure}: {side} x {side} patches an image"
    return f"{few}: want at least 3 x 3; do use larger global crops"


class Watch:
    """Called before a step is taken with what was seen and the EMA teacher's backbone: measures where that is due.

    size: side of the images; stop: the last step of the run; start: the first of the segment.
    learnt: the first step whose network has learnt something: random ones score no worse than young ones.
    earlier: the exported EMA backbones of steps before `start` that a choice from there on is among, which are measured
        first; None where none is made at the start.

    Raises:
        BadInput: too few images or patches for the measure.
    """

    def __init__(
        self,
        gram: Gram,
        pool: Pool,
        *,
        size: int,
        patch: int,
        stop: int,
        start: int = 0,
        learnt: int = 0,
        earlier: Mapping[int, Path] | None = None,
    ):
        self.gram, self.pool, self.size, self.stop = gram, pool, size, stop
        self.start, self.learnt, self.earlier = start, learnt, earlier
        self.protocol = cast(Health, protocol_of("health"))
        if gram.is_watched:
            self._refuse_few()
            if said := too_coarse(gram, size // patch):
                raise BadInput(said)

    def __call__(self, seen: Seen, network: Encoder, step: int) -> bool:
        """Whether it was due; the value and the network are then in `seen`."""
        before = [] if seen.values else [*(self.earlier or {}).items()]
        for at, folder in before:
            device = next(network.parameters()).device
            self.add(seen, gram_teacher.read(folder, self.gram, like=network, device=device), at)
        if step in seen.values or not self.is_due(seen, step):
            return bool(before)
        self.add(seen, network, step)
        return True

    def add(self, seen: Seen, network: Encoder, step: int) -> None:
        """Measure a network, and keep it for as long as it may be chosen."""
        seen.values[step] = value = self.measure(network)
        if self.gram.ring is not None and gram_teacher.source(self.gram).chosen:
            last = [*seen.values][-self.gram.ring :]
            # What is older and no better can never be chosen again
            ring = {at: one for at, one in seen.ring.items() if at in last and seen.values[at] > value}
            seen.ring = {**ring, step: deepcopy(network).cpu().requires_grad_(False).eval()}

    def told(self, seen: Seen, step: int) -> Iterator[dict[str, Any]]:
        """The record of it."""
        anew = self.earlier is not None
        return told(self.gram, seen.values, step=step, stop=self.stop, start=self.start, anew=anew)

    def is_due(self, seen: Seen, step: int) -> bool:
        """At multiples of the period, and where a choice is made."""
        gram = self.gram
        if not gram.is_watched:
            return False
        first = max(gram.measured_from(max(gram.first_step, self.start)), self.learnt)
        now = settled(gram, seen.values, stop=self.stop)
        choice = gram_teacher.is_renewed(now, step) or (gram_teacher.is_on(now, step) and not seen.ring)
        return (step >= first and step % gram.measure_every == 0) or (gram_teacher.source(gram).chosen and choice)

    @torch.no_grad()
    def measure(self, network: Encoder) -> float:
        """The label-free measure of the patches of a network."""
        device = next(network.parameters()).device
        tokens = [encode(network, images.to(device)).patches.float() for images in self.images.split(AT_ONCE)]
        side = self.size // patch_size(network)
        if self.gram.measure == "locality":
            return float(torch.cat([locality(one, (side, side)) for one in tokens]).double().mean())
        patches = Patches.in_memory(torch.cat(tokens), (side, side)).as_units()
        return float(dse.measure(patches, self.protocol, device=device).dse.mean())

    @cached_property
    def images(self) -> Float[Tensor, "n 3 S S"]:
        """Evenly spread over the pool, their centre squares, normalised; the same at every measurement."""
        count = min(self.gram.measure_images, len(self.pool))
        places = np.linspace(0, len(self.pool) - 1, count).round().astype(int)
        view = View("crop", self.size)
        pixels = [prepare(self.pool.image(int(place)), view, stride=1) for place in places]
        return normalise(as_float(np.stack(pixels)))

    def _refuse_few(self) -> None:
        if len(self.pool) < self.protocol.group_size:
            raise BadInput(
                f"gram.measure={self.gram.measure}: the pool has {len(self.pool)} images: want at least "
                f"{self.protocol.group_size}"
            )
