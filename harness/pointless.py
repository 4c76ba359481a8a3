"""What a plan can mean but should not: refused where it is impossible, noted where it does nothing, by its setting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from common.errors import BadInput, listing
from common.schema import shown
from harness import gram_teacher
from harness.arms import TRUNK
from harness.config import as_dict
from harness.data.sizes import sides
from harness.data_settings import Data
from harness.impossible import impossible, unseen
from harness.losses.anchoring import Anchoring
from harness.losses.table import LOSSES
from harness.model import sizes_of
from harness.schedules import At, counts_from_segment, end, ends
from harness.settings import Experiment
from harness.timeline import PlannedArm

LARGEST_WEIGHT = 1e3  # of the mean of a Gram loss that somebody could mean
MOVED: dict[str, Callable[[At], float]] = {  # what has an end, by the setting of that
    "optimizer.lr_end": lambda now: now.lr,
    "optimizer.weight_decay_end": lambda now: now.weight_decay,
    "teacher.momentum_end": lambda now: now.momentum,
    "gram.weight_end": lambda now: max(
        now.factors[term] for one in LOSSES.values() if one.anchored for term in one.titles
    ),
}


def pointless(found: Sequence[PlannedArm]) -> list[str]:
    """Notes on what the experiment's arms and trunk hold without use, a line each.

    Raises:
        BadInput: what no run can do, all of it.
    """
    if refused := [*_told(found, impossible), *unseen(found)]:
        raise BadInput("\n".join(refused))
    parents = {one.name: one for one in found}
    leaves = [one for one in found if not _goes_on(one, found)]
    clocks = [one for one in found if one in leaves or one.settings.schedule.counts_from == "segment"]
    notes = [*_told(clocks, warm_ups), *_told(leaves, unreached), *_told(found, fixed), *_told(found, idle)]
    notes += _told(found, lambda one: jumps(one, parents.get(one.parent or "")))
    notes += _told(found, lambda one: unheard(one, parents.get(one.parent or "")))
    return [f"note: {line}" for line in (*(f"everywhere: {line}" for line in off(found)), *notes)]


def _told(found: Sequence[PlannedArm], check: Callable[[PlannedArm], Iterator[str]]) -> list[str]:
    """Each line of the check once, after those that it holds of."""
    lines = dict[str, list[str]]()
    for one in found:
        for line in check(one):
            lines.setdefault(line, []).append(one.name if one.name == TRUNK else f"arms.{one.name}")
    return [f"{_names(names, len(found))}: {line}" for line, names in lines.items()]


def _names(names: Sequence[str], of: int) -> str:
    return "every arm" if len(names) == of > 1 else listing(names)


def _goes_on(one: PlannedArm, found: Sequence[PlannedArm]) -> bool:
    """Whether it is a trunk with arms, or an arm that another one continues from its end."""
    return any(other.parent == one.name and (one.name == TRUNK or other.start == one.stop) for other in found)


# --- never reached


def unreached(one: PlannedArm) -> Iterator[str]:
    """What an arm is too short for."""
    yield from _gram_in_time(one)
    own = one.settings
    if own.evals.tasks and own.evals.every > one.stop - one.start:
        yield f"evals.every={own.evals.every}: more than its {one.stop - one.start} steps; want less, for a curve"


def fixed(one: PlannedArm) -> Iterator[str]:
    """That it must stay as long as it is."""
    key = next(iter(ends(one.settings)), None)
    if key is not None and end(one.settings, one.stop) is not None:
        yield (
            f"schedule.end_step=null: {key}={ends(one.settings)[key]:g} is due at its last step, {one.stop}, so it "
            f"cannot be made longer later; want schedule.end_step={one.stop} for one that may be"
        )


def warm_ups(one: PlannedArm) -> Iterator[str]:
    """Warm-ups that are longer than what counts them."""
    optimizer, teacher = one.settings.optimizer, one.settings.teacher
    taken = one.stop - one.origin
    for key, length, never in (
        ("optimizer.warmup_steps", optimizer.warmup_steps, f"optimizer.lr={optimizer.lr:g} is never reached"),
        (
            "teacher.temperature_warmup_steps",
            teacher.temperature_warmup_steps,
            f"teacher.temperature={teacher.temperature:g} is never reached",
        ),
        ("optimizer.freeze_backbone_steps", optimizer.freeze_backbone_steps, "the backbone is never trained"),
        ("optimizer.freeze_last_layer_steps", optimizer.freeze_last_layer_steps, "the prototypes are never trained"),
    ):
        if length >= taken:
            yield f"{key}={length}: {never}; want fewer than its {taken} steps"


def _gram_in_time(one: PlannedArm) -> Iterator[str]:
    gram = one.settings.gram
    if gram.weight == 0:
        return
    if gram.awaits_alarm:
        second = (-(-gram.first_step // gram.measure_every) + 1) * gram.measure_every  # the first that can have fallen
        if second >= one.stop:
            yield (
                f"gram.measure_every={gram.measure_every}: no alarm can be raised, for the second measurement would be "
                f"at step {second}, but it ends at {one.stop}; want less"
            )
    elif (reached := gram.weight_at(one.stop - 1)) < gram.weight:
        yield (
            f"gram.warmup_steps={gram.warmup_steps}: of gram.weight={gram.weight:g} only {reached:.3g} is reached; "
            f"want at most {one.stop - gram.first_step} steps"
        )
    yield from no_renewal(one)


def no_renewal(one: PlannedArm) -> Iterator[str]:
    """A Gram teacher that would be renewed after the end."""
    gram = one.settings.gram
    every, given = gram.update_every, gram.first_renewal
    first = gram.first_step + (every or 0) if given is None else given
    if gram.weight > 0 and every is not None and first >= one.stop:
        key = f"gram.update_every={every}" if given is None else f"gram.first_renewal={given}"
        yield f"{key}: the first renewal would be at step {first}, but it ends at {one.stop}; want less, or null"


# --- without effect


def off(found: Sequence[PlannedArm]) -> Iterator[str]:
    """Losses that are off everywhere although something is said of them, and a weight that goes with one of them."""
    for name in LOSSES:
        sections = [getattr(one.settings, name) for one in found]
        usual = type(sections[0])()
        if any(section.weight for section in sections) or sections[0] == usual:
            continue
        own, default = as_dict(sections[0]), as_dict(usual)
        said = [
            f"{name}.{key}={shown(value)}" for key, value in own.items() if value != default[key] and key != "weight"
        ]
        without = f", and {', '.join(said)} without effect" if said else ""
        yield f"{name}.weight=0: this loss is off throughout{without}; want above 0 for it"
    start = next((at for one in found if (at := one.settings.dino.local_weight_start) is not None), None)
    if start is not None and not any(one.settings.gram.weight for one in found):
        yield f"dino.local_weight_start={start:g}: what it goes with, the Gram weight, is 0 throughout; want null"


def unheard(one: PlannedArm, parent: PlannedArm | None) -> Iterator[str]:
    """What an arm changes of a loss that is off in it."""
    for name in LOSSES if parent else ():
        own, before = (as_dict(getattr(it.settings, name)) for it in (one, parent) if it)
        for key, value in own.items() if own["weight"] == 0 else ():
            if key != "weight" and value != before[key]:
                yield f"{name}.{key}={shown(value)}: {name}.weight is 0 beside it; want it above 0"


def idle(one: PlannedArm) -> Iterator[str]:
    """Settings that do nothing, training that does, and a weight that is one of another loss."""
    yield from inert(one)
    yield from _idle_steps(one)
    yield from _of_the_mean(one.settings)


def inert(one: PlannedArm) -> Iterator[str]:
    """Settings whose effect another one takes away, each at the head of its line."""
    own = one.settings
    schedule, optimizer = own.schedule, own.optimizer
    if schedule.end_step is not None and not ends(own):
        yield f"schedule.end_step={schedule.end_step}: nothing has an end; want optimizer.lr_end or another, or null"
    if schedule.counts_from == "segment" and not counts_from_segment(own):
        yield "schedule.counts_from=segment: nothing counts from there; want a warm-up or an end, or run"
    if optimizer.lr_start and not optimizer.warmup_steps:
        yield f"optimizer.lr_start={optimizer.lr_start:g}: there is no warm-up; want optimizer.warmup_steps, or 0"
    yield from _idle_gram(own.gram)
    yield from _idle_losses(own)
    yield from _idle_mixing(own.data)


def _idle_mixing(data: Data) -> Iterator[str]:
    if data.homogeneous is not None and data.homogeneous_share == 0:
        yield f"data.homogeneous={shown(data.homogeneous)}: no batch is; want data.homogeneous_share above 0, or null"
    if data.mixed is not None and data.homogeneous_share == 1:
        yield f"data.mixed={shown(data.mixed)}: no batch is mixed; want data.homogeneous_share below 1, or null"
    by_source = data.components == "source" and data.homogeneous is None
    if data.homogeneous_share > 0 and by_source and len(data.sources) == 1:
        yield (
            f"data.homogeneous_share={data.homogeneous_share:g}: of one source every batch is; want "
            "data.components=image_class, or 0"
        )


def _idle_steps(one: PlannedArm) -> Iterator[str]:
    """Steps in which nothing is learnt, and a Gram teacher that has learnt nothing."""
    own, stop = one.settings, one.stop
    done = own.schedule.end_step
    if done is not None and done < stop and own.optimizer.lr_end == 0:
        yield f"optimizer.lr_end=0: nothing is learnt from step {done} to {stop}; want more, or it later"
    if done is not None and done < stop and own.teacher.momentum_end == 1:
        yield f"teacher.momentum_end=1: the EMA teacher stands still from step {done} to {stop}; want less, or it later"
    source, untrained = gram_teacher.source(own.gram), own.first_trained > 0
    first = own.gram.first_step if source.chosen and not own.gram.awaits_alarm else source.copied(own.gram)
    if own.gram.weight > 0 and untrained and one.begin == 0 and first == 0:
        key = "start_step" if own.gram.teacher_step is None else "teacher_step"
        yield f"gram.{key}=0: the Gram teacher is the untrained network; want a later step, or a trunk"
    if gram_teacher.is_first(own.gram) and untrained and one.begin == 0:
        yield "gram.teacher=start: the Gram teacher is the untrained network; want weights to start from, or snapshot"


def _idle_gram(gram: Anchoring) -> Iterator[str]:
    usual = type(gram)()
    for key, why in gram.unused().items() if gram.weight > 0 else ():
        if (value := getattr(gram, key)) != getattr(usual, key):
            yield f"gram.{key}={shown(value)}: {why}, or leave it out"


def _of_the_mean(own: Experiment) -> Iterator[str]:
    """A weight of a sum over all pairs of patches that was likely meant for their mean."""
    gram, patch = own.gram, sizes_of(own.model).patch
    crops = 1 if gram.level == "image" else 2 * own.data.batch_size
    patches = crops * round(max(one.globals for one in sides(own.crops)) / patch) ** 2
    if gram.form == "frobenius" and gram.weight * patches**2 > LARGEST_WEIGHT:
        yield (
            f"gram.weight={gram.weight:g}: with gram.form=frobenius as much as {gram.weight * patches**2:.3g} of the "
            f"mean; want {gram.weight / patches**2:.2g} for {gram.weight:g} of that"
        )


def _idle_losses(own: Experiment) -> Iterator[str]:
    crops, images = own.crops, own.data.batch_size
    larger = any(one.gram > one.globals for one in sides(crops, resolution=own.gram.resolution))
    if own.gram.weight and own.gram.student_from_gram_crop and not larger:
        yield "gram.student_from_gram_crop=true: Gram crops are of the student's size; want larger ones, or false"
    if crops.local_count and not own.dino.sees_locals:
        zero = "dino.weight" if not own.dino.weight else "dino.local_weight"
        yield f"crops.local_count={crops.local_count}: made and not seen, for {zero}=0; want 0"
    masked = own.ibot.mask_probability
    if own.ibot.weight and not int(2 * images * masked):
        yield f"ibot.mask_probability={masked:g}: none of {2 * images} crops is masked, iBOT is 0; want more"
    if own.koleo.weight and images == 1:
        yield f"koleo.weight={own.koleo.weight:g}: one image has no neighbour, KoLeo is 0; want 0, or a larger batch"


def jumps(one: PlannedArm, parent: PlannedArm | None) -> Iterator[str]:
    """Values that leap at a fork, since parent and child come to the same end at different steps."""
    if parent is None or one.origin == one.start:
        return
    sections = ("optimizer", "teacher", "schedule")
    if any(getattr(one.settings, name) != getattr(parent.settings, name) for name in sections):
        return
    before, after = parent.at(one.start), one.at(one.start)
    for key, value in ends(one.settings).items():
        if key == "gram.weight_end" and one.settings.gram != parent.settings.gram:
            continue
        left, right = MOVED[key](before), MOVED[key](after)
        if left != right:
            yield (
                f"{key}={value:g}: at its fork, step {one.start}, it leaps from {left:.3g} to {right:.3g}, for "
                f"{parent.name} comes to its end there; want one schedule.end_step for both"
            )
