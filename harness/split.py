"""How the terms, the gradients and the losses of a split step become those of its whole batch.

A step's batch is split over W processes, and in each over A parts that are taken in turn: N / (W · A) images a part.
All that compares images, or is a mean over things of which parts have unlike numbers, is defined on the whole batch
(docs/distributed.md), so that results do not depend on the split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from common.errors import BadInput
from common.ranks import Ranks
from harness.data.batches import Batch
from harness.losses.koleo import is_local
from harness.losses.table import LOSSES
from harness.settings import Experiment
from harness.shards import is_cut

TERMS = tuple(term for loss in LOSSES.values() for term in loss.titles)


class Learnt(NamedTuple):
    """What a part of a batch gives: the total to descend on, its terms, and the student's mean prediction [K]."""

    total: Tensor
    terms: Mapping[str, Tensor]
    prediction: Tensor


def refuse_split(settings: Experiment, world: int) -> None:
    """Raises `BadInput` for what cannot be split as is asked: an uneven batch, losses that reach over parts taken in
    turn, what needs a whole teacher or is compiled where each process holds a part."""
    if settings.runtime.shard and settings.gram.is_watched:
        raise BadInput(
            f"runtime.shard=true with gram.measure={settings.gram.measure}: features are watched by one process, and "
            "none has a whole teacher: want runtime.shard=false, or a Gram teacher and a start that nothing is "
            "measured for (gram.teacher=ema, snapshot, start or checkpoint; gram.start=step)"
        )
    if settings.runtime.shard and settings.runtime.compile:
        raise BadInput(
            "runtime.shard=true with runtime.compile=true: blocks are gathered as they are run, and never compiled so: "
            "want one of them, runtime.compile=false where the model does not fit one device"
        )
    batch, turns = settings.data.batch_size, settings.runtime.accumulate
    if batch % (world * turns):
        over = f"{world} processes" + (f" and runtime.accumulate={turns}" if turns > 1 else "")
        raise BadInput(f"data.batch_size={batch} over {over}: want a multiple of {world * turns}; change one of them")
    if turns == 1:
        return
    part = batch // (world * turns)
    if settings.koleo.weight > 0 and not is_local(settings.koleo, part):
        raise BadInput(
            f"runtime.accumulate={turns} with koleo.group={settings.koleo.group or 'null'}: nearest neighbours lie in "
            f"parts that are not there at once: want a koleo.group that divides the {part} images of a part, "
            "koleo.weight=0, or more processes"
        )
    if settings.gram.weight > 0 and settings.gram.level == "batch":
        raise BadInput(
            f"runtime.accumulate={turns} with gram.level=batch: it compares patches of parts that are not there at "
            "once: want gram.level=image, or more processes"
        )


def shares(parts: Sequence[Batch], settings: Experiment, ranks: Ranks) -> list[dict[str, float]]:
    """For each part what the terms of each loss are multiplied by, so that their mean over all parts is the step's.

    A loss for which no part has anything is left out.
    """
    if (everywhere := len(parts) * ranks.world) == 1:
        return [dict.fromkeys(LOSSES, 1.0)]
    own = [[loss.over(getattr(settings, name), part.masks) for name, loss in LOSSES.items()] for part in parts]
    totals = ranks.reduced(torch.tensor(own).sum(0), "sum").tolist()
    return [
        {name: count * everywhere / total for name, count, total in zip(LOSSES, counts, totals, strict=True) if total}
        for counts in own
    ]


def averaging(module: nn.Module, ranks: Ranks) -> nn.Module:
    """The module, the gradients of which are averaged over the processes on the way back; by itself where it is cut."""
    if ranks.world == 1 or any(map(is_cut, module.children())):
        return module
    return DistributedDataParallel(module, find_unused_parameters=True)


def adding_up(module: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
    """A context in which the gradients of a part are only added up, unless it is the last one in turn.

    Of a module that is cut, those of each part go where they belong at once: no process ever holds all of them.
    """
    return module.no_sync() if isinstance(module, DistributedDataParallel) and not last else nullcontext()


def merged(learnt: Sequence[Learnt], entropy: Tensor, ranks: Ranks) -> tuple[Learnt, Tensor]:
    """What all parts of all processes give together, and the mean of their targets' entropies."""
    if len(learnt) * ranks.world == 1:
        return learnt[0], entropy
    zero = torch.zeros_like(learnt[0].total)
    rows = [
        torch.stack([one.total, *(one.terms.get(term, zero) for term in TERMS), *_known(one, zero)]) for one in learnt
    ]
    prediction = torch.stack([one.prediction for one in learnt]).mean(0)
    means = ranks.mean(torch.cat([torch.stack(rows).mean(0), entropy[None].to(zero), prediction.to(zero)]))
    n = len(TERMS)
    total, values, known, entropy, prediction = means.split([1, n, n, 1, len(prediction)])
    terms = {term: value for term, value, parts in zip(TERMS, values, known, strict=True) if parts > 0}
    return Learnt(total[0], terms, prediction), entropy[0]


def _known(one: Learnt, zero: Tensor) -> list[Tensor]:
    """For each term 1 where the part has it: one without any masked patch, say, has none."""
    return [zero + (term in one.terms) for term in TERMS]
