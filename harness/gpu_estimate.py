"""What each of several GPUs holds of a model that does not fit one, by FSDP2, and how many hours they take together.

An estimate from the counted step, for the plan; no GPU was asked. Weights, gradients and moments are float32 and lie
spread over all GPUs (`harness/shards.py`): a block's weights are gathered before it is computed, the next one's while
it is, and its gradients go back where they belong. Products are bfloat16; where blocks are not recomputed, their
rounded weights stay until the way back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from common.command import columns
from harness.cost import block_cost, flops, step_cost
from harness.counted import Cost, alike, keeping
from harness.job import Job
from harness.model import sizes_of

GPU = "H100"
GPU_BYTES = 80e9
GPU_RATE = 989e12  # operations a second, dense bfloat16, of the H100 SXM's data sheet
UTILISATION = 0.4  # of that rate, that a step is taken to reach
PUBLISHED = {"vit_7b_patch16_dinov3": 61_440}  # hours of an H100 for a model (DINOv3, arXiv 2508.10104)
COUNTS = (8, 64, 256)  # GPUs; the published 7B model was trained on 256
LIBRARIES_BYTES = 3 * 2**30  # of a process on a GPU: its context, kernels, buffers of NCCL
MASTER, HALF = 4, 2  # bytes of a number in float32, in bfloat16


class Share(NamedTuple):
    """Bytes on each GPU at a step's peak.

    states: weights, gradients and moments; teachers: EMA, Gram and frozen ones; gathered: what is whole for a while.
    activations: what is saved for the backward pass, logits of the prototypes included.
    """

    states: float
    teachers: float
    gathered: float
    activations: float

    @property
    def total(self) -> float:
        """With the libraries."""
        return sum(self) + LIBRARIES_BYTES


class Counted(NamedTuple):
    """A step, what each block adds to it, the number of blocks, and bytes of activations where they are recomputed."""

    step: Cost
    block: Cost
    depth: int
    recomputed: float


def largest_step(job: Job) -> Counted:
    """Of a job, whose backbone must have blocks that are alike."""
    settings, gram = keeping(job.settings), _is_anchored(job)
    again = replace(settings, runtime=replace(settings.runtime, recompute=True))
    step, anew = (step_cost(one, gram=gram, teacher=job.teacher) for one in (settings, again))
    return Counted(step, block_cost(settings, gram=gram), sizes_of(settings.model).depth, anew.activations)


def share(of: Counted, *, processes: int, recomputed: bool, accumulate: int = 1) -> Share:
    """What each of these processes holds by FSDP2.

    Args:
        recomputed: blocks keep their inputs alone and are computed again on the way back.
        accumulate: parts of its batch that a process takes in turn.
    """
    part = processes * accumulate
    weights, block = of.step.weights / MASTER, of.block.weights / MASTER  # numbers
    ends = weights - of.depth * block  # embedding and heads, which stay gathered
    gradients = 2 * MASTER * max(block, ends)  # as they were made, and as they are sent
    whole = 2 * MASTER * block + MASTER * ends + HALF * (ends + block) + gradients
    if not recomputed:
        whole += HALF * block * (of.depth - 1)
    kept = of.recomputed if recomputed else of.step.activations
    return Share(4 * of.step.weights / processes, of.step.teachers / processes, whole, kept / part)


def parts(of: Counted, images: int, *, processes: int) -> int | None:
    """The fewest equal parts that each batch is taken in by these many GPUs where blocks are recomputed; None where one
    image is too much."""
    each = images // processes
    for count in (count for count in range(1, each + 1) if each % count == 0):
        if share(of, processes=processes, recomputed=True, accumulate=count).total <= GPU_BYTES:
            return count
    return None


def hours(job: Job, *, recomputed: bool) -> float:
    """Of a GPU, for all steps of a job at `UTILISATION`."""
    operations = flops(keeping(job.settings), job.start, job.stop, origin=job.origin, teacher=job.teacher)
    if recomputed:  # the student's blocks once more, which is half of their backward pass
        block = block_cost(keeping(job.settings), gram=_is_anchored(job))
        operations += (job.stop - job.start) * block.backward / 2 * sizes_of(job.settings.model).depth
    return operations / (GPU_RATE * UTILISATION) / 3600


def lines(jobs: Sequence[Job]) -> list[str]:
    """For the plan: what each GPU holds of the jobs that one does not, and the hours of all of these."""
    large = {job.arm: job for job in jobs if _is_large(job)}
    if not large:
        return []
    head = ("arm", "GPUs", "images each", "at a time", "states", "teachers", "gathered", "activations", "in all")
    rows = [(*head, "nothing recomputed"), *(row for job in large.values() for row in _rows(job))]
    told = f"GiB on each {GPU} of 80 GB by FSDP2, blocks recomputed (by the counted step, held against no GPU):"
    return [told, *(f"  {line}" for line in columns(rows).splitlines()), *map(_hours, large.values())]


def _is_large(job: Job) -> bool:
    own = job.settings
    return alike(own.model) and step_cost(own, gram=_is_anchored(job), teacher=job.teacher).memory > GPU_BYTES


def _is_anchored(job: Job) -> bool:
    """Whether any of its steps is."""
    return job.settings.gram.weight > 0 and job.settings.gram.first_step < job.stop


def _rows(job: Job) -> Iterator[tuple[str, ...]]:
    of, images = largest_step(job), job.settings.data.batch_size
    for number, processes in enumerate(COUNTS):
        turns = parts(of, images, processes=processes)
        if images % processes:
            continue
        each = images // processes
        how = {"processes": processes, "accumulate": turns or max(each, 1)}
        found, kept = (share(of, recomputed=recomputed, **how) for recomputed in (True, False))
        numbers = [f"{value / 2**30:.1f}" for value in (*found, found.total, kept.total)]
        taken = f"{each / turns:g}" if turns else "1, too much"
        yield (job.arm if number == 0 else "", str(processes), str(each), taken, *numbers)


def _hours(job: Job) -> str:
    plain, again = (hours(job, recomputed=recomputed) for recomputed in (False, True))
    text = (
        f"  {job.arm}: {plain:,.0f} hours of an {GPU} at {UTILISATION:.0%} of its {GPU_RATE / 1e12:g} TFLOP/s, "
        f"{again:,.0f} with blocks recomputed"
    )
    published = PUBLISHED.get(str(job.settings.model.name))
    if published is None or job.start > 0:
        return text
    return f"{text}; the published {published:,} would be {UTILISATION * plain / published:.0%}"
