"""What of a plan no run can do, a line each, by its setting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from common.errors import BadInput
from harness import checkpoint
from harness.data.sizes import most_seen, sides
from harness.dense_watch import too_coarse
from harness.model import sizes_of
from harness.schedules import ends
from harness.timeline import PlannedArm


def impossible(one: PlannedArm) -> Iterator[str]:
    """Weights of another network, ends before the way to them, a Gram loss after the last step, patches too few."""
    own, begin = one.settings, one.origin
    if one.parent is None and own.weights is not None:
        try:
            checkpoint.refuse_unfit(Path(own.weights), own)
        except BadInput as error:
            yield str(error)
    until = own.schedule.end_step or one.stop
    if ends(own) and until <= begin:
        yield f"schedule.end_step={until}: want more than {begin}, from where it counts"
    elif own.optimizer.lr_end is not None and begin + own.optimizer.warmup_steps >= until:
        yield (
            f"optimizer.warmup_steps={own.optimizer.warmup_steps}: want fewer than the {until - begin} steps until "
            f"optimizer.lr_end={own.optimizer.lr_end:g} is due, at step {until}, or a later schedule.end_step"
        )
    if own.gram.weight > 0 and own.gram.weight_end is not None and own.gram.warm_step + 1 >= until:
        yield (
            f"gram.weight_end={own.gram.weight_end:g}: due at step {until}, when the way there has not begun: want a "
            f"schedule.end_step above {own.gram.warm_step + 1}, or null"
        )
    if own.gram.weight > 0 and own.gram.first_step >= one.stop:
        yield f"gram.start_step={own.gram.first_step}: want below {one.stop}, where it ends"
    if said := too_coarse(own.gram, most_seen(sides(own.crops)) // sizes_of(own.model).patch):
        yield said


def unseen(found: Sequence[PlannedArm]) -> Iterator[str]:
    """Crops for a Gram teacher that there is nowhere; an arm without one may share its sizes with one that has it."""
    for one in found:
        for number, own in enumerate(one.settings.crops.sizes or ()):
            if own.gram_size is not None and not any(other.settings.gram.weight for other in found):
                key = f"crops.sizes[{number}].gram_size={own.gram_size}"
                yield f"{key}: no arm has a Gram teacher to see it; want gram.weight above 0, or null"
                return
