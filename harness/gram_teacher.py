"""The Gram teacher: where it comes from, when its loss is on and it is renewed, what is said of it.

DINOv3 (arXiv 2508.10104) §4.2. What it sees is in `harness/gram_view.py`. Which relation is kept to it is a
loss's own matter (`harness/losses/gram.py`). A new source is an entry of `SOURCES` and a name in the settings
(`harness/losses/anchoring.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from common.disk import checksum
from common.errors import BadInput
from evals.backbones.addresses import load
from evals.backbones.exported import WEIGHTS
from evals.tasks.methods import protocol_of
from harness.backbones.convnext import Encoder, lacking, width
from harness.backbones.vit import ROPE_DTYPE
from harness.crop_settings import Crops
from harness.data.sizes import sides
from harness.losses.anchoring import Anchoring, GramTeacher
from harness.losses.gram import RELATIONS, Gram
from harness.losses.relations.difference import in_channels
from harness.model import patch_size, sizes_of
from harness.settings import Experiment


class Source(NamedTuple):
    """Where a Gram teacher comes from.

    words: what the plan calls it.
    live: it is the EMA teacher as it moves, not a network of its own.
    copied: the step before which it is first copied from the EMA teacher; None where it never is.
    folder: the exported backbone that it is read from before training; None where the run itself makes it.
    first: it is the network that training started from at step 0.
    chosen: it is the best of those that were measured, each time that it is copied.
    """

    words: Callable[[Anchoring], str]
    live: bool = False
    copied: Callable[[Anchoring], int | None] = lambda gram: None
    folder: Callable[[Anchoring], str | None] = lambda gram: None
    first: bool = False
    chosen: bool = False


def snapshot_step(gram: Anchoring) -> int | None:
    """The step whose EMA teacher is frozen; None where that is not known beforehand."""
    if gram.awaits_alarm:
        return None
    return gram.first_step if gram.teacher_step is None else gram.teacher_step


SOURCES: dict[GramTeacher, Source] = {
    "snapshot": Source(lambda gram: f"EMA of {_copied(gram)}", copied=snapshot_step),
    "ema": Source(lambda gram: "ema", live=True),
    "checkpoint": Source(lambda gram: "checkpoint", folder=lambda gram: gram.checkpoint),
    "start": Source(lambda gram: "the first weights", first=True),
    "best_dense": Source(lambda gram: f"best of the last {gram.ring} by {gram.measure}", chosen=True),
}


def source(gram: Anchoring) -> Source:
    """The source that the settings name."""
    return SOURCES[gram.teacher]


# --- when


def is_on(gram: Anchoring, step: int) -> bool:
    """Whether `step` computes the loss."""
    return gram.weight > 0 and not gram.awaits_alarm and step >= gram.first_step


def is_renewed(gram: Anchoring, step: int) -> bool:
    """Whether the Gram teacher becomes a copy of the EMA teacher just before `step` is taken."""
    if gram.weight == 0 or source(gram).live:
        return False
    first = gram.first_step if source(gram).chosen and not gram.awaits_alarm else source(gram).copied(gram)
    return step in renewals(gram, step + 1) or step == first


def is_lacking(gram: Anchoring, step: int, own: Encoder | None) -> bool:
    """Whether it is chosen at `step` since there is none yet: its loss began before an arm that chooses anew."""
    return own is None and source(gram).chosen and is_on(gram, step)


def renewals(gram: Anchoring, stop: int) -> range:
    """The steps before `stop` just before which the Gram teacher is renewed, its first copy aside."""
    every, first = gram.update_every, gram.first_renewal
    if gram.weight == 0 or gram.awaits_alarm or every is None:
        return range(0)
    first = gram.first_step + every if first is None else first
    return range(first, stop if gram.max_renewals is None else min(stop, first + gram.max_renewals * every), every)


def measured(gram: Anchoring, start: int, stop: int) -> range:
    """The steps from `start` to `stop`, that one too, at which the EMA teacher is measured whatever is found."""
    every = gram.measure_every
    first = max(start, gram.measured_from(gram.first_step))
    return range(first + -first % every, stop + 1, every) if gram.is_watched else range(0)


def most_kept(gram: Anchoring) -> int:
    """How many measured EMA teachers are kept beside the Gram teacher."""
    return (gram.ring or 0) if gram.weight > 0 and source(gram).chosen else 0


def earlier_steps(gram: Anchoring, fork: int, *, learnt: int = 0) -> tuple[int, ...]:
    """The steps before `fork` whose EMA teachers must be kept: of the first Gram teacher, or of all it is chosen from.

    An alarm is raised by what is measured from the fork on, and so is the choice at it.
    learnt: the first step whose network has learnt something; no choice is among those before it.
    """
    if gram.weight == 0:
        return ()
    if source(gram).chosen and not gram.awaits_alarm:
        first = gram.measured_from(max(gram.first_step, fork))
        return tuple(step for step in range(first, fork, gram.measure_every) if step >= learnt)
    step = source(gram).copied(gram)
    return (step,) if step is not None and step < fork else ()


def is_inherited(gram: Anchoring, parent: Anchoring) -> bool:
    """Whether an arm goes on with the Gram teacher that its parent has at the fork: both name the same first one."""
    named = [(one.teacher, one.start, source(one).copied(one), given_folder(one)) for one in (gram, parent)]
    alike = named[0] == named[1] and (not gram.is_watched or is_watched_alike(gram, parent))
    return is_separate(gram) and is_separate(parent) and alike


def is_watched_alike(gram: Anchoring, parent: Anchoring) -> bool:
    """Whether an arm goes on with what its parent has measured: both measure and decide alike."""
    keys = ("start", "measure", "measure_every", "measure_images", "ring", "alarm_drop", "first_step")
    return gram.is_watched and parent.is_watched and all(getattr(gram, key) == getattr(parent, key) for key in keys)


def as_counted(gram: Gram, *, on: bool) -> Gram:
    """The settings for counting one step: off, or on from step 0, without what only says when."""
    if not on:
        return Gram()
    now = {"start_step": 0, "teacher_step": None, "warmup_steps": 0, "update_every": None, "first_renewal": None}
    now |= {"weight_end": None, "max_renewals": None, "start": "step"}
    return replace(gram, weight=1.0, **now)


# --- from where


def is_separate(gram: Anchoring) -> bool:
    """Whether it is a network of its own beside student and EMA teacher."""
    return gram.weight > 0 and not source(gram).live


def is_first(gram: Anchoring) -> bool:
    """Whether it is the network that training started from, which is made again where the run has gone on since."""
    return gram.weight > 0 and source(gram).first


def given_folder(gram: Anchoring) -> Path | None:
    """The exported backbone that the settings give, where the loss is on."""
    folder = source(gram).folder(gram) if gram.weight > 0 else None
    return None if folder is None else Path(folder)


def content(gram: Anchoring) -> dict[str, Any]:
    """What stands in a run's identity beside the settings: the content of a given backbone, under the path's key, and
    by which protocol it is measured.

    Raises:
        BadInput: no exported backbone lies there.
    """
    watched = {"protocol": protocol_of("health").hash()} if gram.is_watched else {}
    folder = given_folder(gram)
    if folder is None:
        return watched
    if not (folder / WEIGHTS).is_file():
        raise BadInput(f"gram.checkpoint={folder}: no exported backbone there; want a folder with {WEIGHTS}")
    return watched | {"checkpoint": checksum(folder / WEIGHTS)[:16]}


def form(settings: Experiment) -> dict[str, str]:
    """What stands in a run's identity where the Gram loss comes from matrices between channels in some of its steps.

    They give the same number by other roundings, and runs from before there was this form had been trained without it.
    """
    gram, model = settings.gram, sizes_of(settings.model)
    images = 2 * settings.data.batch_size if gram.level == "batch" else 1
    most = images * (max(one.globals for one in sides(settings.crops)) // model.patch) ** 2
    able = gram.weight > 0 and RELATIONS[gram.relation].by_channels and gram.negatives == "keep"
    return {"matrices": "channels"} if able and in_channels(most, model.width) else {}


def read(folder: Path, gram: Gram, *, like: Encoder, device: torch.device) -> Encoder:
    """A Gram teacher from an exported backbone, frozen; `like` is the EMA teacher's backbone.

    Raises:
        BadInput: as `refuse_unlike`.
    """
    network = load(str(folder)).model
    refuse_unlike(network, gram, like)
    network = cast(Encoder, network)
    setattr(network, ROPE_DTYPE, getattr(like, ROPE_DTYPE, torch.float32))
    return network.to(device).requires_grad_(False).eval()


def refuse_unlike(network: nn.Module, gram: Gram, like: Encoder) -> None:
    """Raises `BadInput` for what is no Gram teacher of this student, whose backbone `like` is, on any device.

    That is no vision transformer, another size of patch, or, where it is to be renewed, another architecture than the
    student's, or another width where the relation needs the same.
    """
    if lack := lacking(network):
        raise BadInput(f"a Gram teacher of {type(network).__name__}: want a vision transformer; {lack}")
    network = cast(Encoder, network)
    if patch_size(network) != patch_size(like):
        raise BadInput(f"a Gram teacher of patch {patch_size(network)}: want the student's {patch_size(like)}")
    if gram.update_every is not None and _shapes(network) != _shapes(like):
        raise BadInput(
            "a Gram teacher of another architecture: it cannot be renewed from the student's EMA; want "
            "gram.update_every=null"
        )
    if gram.relation == "features" and width(network) != width(like):
        raise BadInput(
            f"a Gram teacher of width {width(network)}: want the student's {width(like)} with gram.relation=features, "
            "or another relation"
        )


def _shapes(network: Encoder) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


# --- what is said of it


def events(gram: Anchoring, start: int, stop: int) -> list[dict[str, Any]]:
    """When the loss begins and when the teacher is renewed afterwards, in the steps from `start` to `stop`."""
    if gram.weight == 0 or gram.awaits_alarm:
        return []
    begins = [{"step": gram.first_step, "kind": "gram_start"}] if gram.first_step >= start else []
    return begins + [{"step": step, "kind": "gram_update"} for step in renewals(gram, stop) if step >= start]


def words(gram: Gram, own: Crops | None = None) -> str:
    """What is kept, where not the cosines, of whom, when that is renewed, how strongly and from which step."""
    if gram.weight == 0:
        return "off"
    times = sorted({one.gram / one.globals for one in sides(own or Crops(), resolution=gram.resolution)})
    larger = "–".join(f"{factor:g}" for factor in dict.fromkeys((times[0], times[-1])))
    kept = "" if gram.relation == "gram" else f"{RELATIONS[gram.relation].title} of "
    teacher = f"{kept}{source(gram).words(gram)} ×{larger}{_renewed(gram)}"
    end = "" if gram.weight_end is None else f", going to {gram.weight_end:g}"
    return f"{teacher}, weight {gram.weight:g} from {_begins(gram)}{end}"


def phrase(gram: Gram, own: Crops | None = None) -> str:
    """The same as a sentence of its own, which says that it is Gram anchoring."""
    said = words(gram, own)
    if gram.weight == 0:
        return f"Gram {said}"
    return f"Gram: {said}" if gram.relation == "gram" else said


def _copied(gram: Anchoring) -> str:
    """The step of its first copy, as far as it is known beforehand."""
    return "the alarm" if gram.awaits_alarm else f"step {snapshot_step(gram)}"


def _begins(gram: Anchoring) -> str:
    """The step of the loss, as far as it is known beforehand."""
    if gram.awaits_alarm:
        return f"an alarm after {gram.first_step}: {gram.measure} {gram.alarm_drop:.3g} below best"
    return f"step {gram.first_step}"


def _renewed(gram: Anchoring) -> str:
    """How often it is renewed, in words."""
    if gram.update_every is None:
        return ""
    first = "" if gram.first_renewal is None else f" from {gram.first_renewal}"
    most = {None: "", 1: ", once"}.get(gram.max_renewals, f", {gram.max_renewals} times")
    return f", renewed every {gram.update_every}{first}{most}"
