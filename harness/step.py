"""One training step as a function that reads as the paper does: teach, study, weigh, descend, follow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from common.products import fast_linear
from common.ranks import ALONE, Ranks
from harness import gram_teacher
from harness.components import Tally
from harness.data.batches import Batch
from harness.forward import autocast, learn, mean_of, teach, watched
from harness.losses.inputs import Targets
from harness.model import Network
from harness.optimizer import clip_gradients, descend, freeze_backbone
from harness.schedules import At
from harness.settings import Experiment
from harness.shards import is_cut, own, within
from harness.split import Learnt, adding_up, averaging, merged, shares
from harness.state import State, follow, renewed


class NonFinite(ArithmeticError):
    """A loss, its gradient or evaluated features are not finite; raised before the optimizer is touched.

    terms: the names of those that are not. sound: whether all weights of the student are finite.
    """

    def __init__(self, said: str, terms: Sequence[str] = ()) -> None:
        super().__init__(said)
        self.terms, self.sound = (*terms,), True


def train_step(
    state: State,
    batch: Batch,
    at: At,
    settings: Experiment,
    *,
    seed: int,
    tally: Tally | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, Tensor]:
    """Take one step in place and return its detached terms by name. Raises `NonFinite` before any weight changes.

    batch: this process's images of the step, which are taken in `runtime.accumulate` parts, one after the other.
    tally: gets the losses of the batch's components. ranks: the processes that share the step.
    """
    renew_gram_teacher(state, at, settings, ranks)
    parts, learner = batch.parts(settings.runtime.accumulate), learner_of(state, at, ranks)
    with autocast(batch.globals.device, settings.precision), fast_linear():
        targets = teach(state, parts, at, settings, ranks=ranks)
    learnt = studied(learner, parts, targets, at, settings, seed=seed, tally=tally, ranks=ranks)
    if tally is not None:
        tally.gather(ranks)
    (total, terms, prediction), entropy = merged(learnt, mean_of([one.entropy for one in targets]), ranks)
    norm = clip_gradients(state.student, settings.optimizer.clip)
    try:
        refuse_non_finite({**terms, "grad_norm": norm}, batch, at.step)
    except NonFinite as error:
        error.sound = is_finite(state.student, ranks)
        state.optimizer.zero_grad(set_to_none=True)
        raise
    descend(state.optimizer, at)
    follow(state.teacher, state.student, at.momentum)
    state.step = at.step + 1
    if ranks.world > 1:
        state.shared = state.step
    return {"loss": total, **terms, **watched(entropy, prediction), "grad_norm": norm}


def studied(
    learner: nn.Module,
    parts: Sequence[Batch],
    targets: Sequence[Targets],
    at: At,
    settings: Experiment,
    *,
    ranks: Ranks,
    **more: Any,
) -> list[Learnt]:
    """The student's answers to each part in turn, all but their gradients, which add up in its weights."""
    learnt = list[Learnt]()
    for part, asked, share in zip(parts, targets, shares(parts, settings, ranks), strict=True):
        with adding_up(learner, last=part is parts[-1]):
            one = learner(part, asked, at, settings, share=share, ranks=ranks, **more)
            (one.total / len(parts)).backward()
        learnt.append(one._replace(total=one.total.detach()))
    return learnt


def pass_over(state: State, at: At, settings: Experiment) -> None:
    """Leave a step out in place: schedules go on and a Gram teacher is renewed on its step, but nothing is learnt from
    the batch: no weight, no moment of the optimizer and no EMA changes. Other processes are sent the state afterwards,
    or pass over the step as well where they hold parts of it.
    """
    renew_gram_teacher(state, at, settings, ALONE)
    state.step = at.step + 1
    if is_cut(state.student):
        state.shared = state.step


def renew_gram_teacher(state: State, at: At, settings: Experiment, ranks: Ranks) -> None:
    """Where the step asks for another one. Done twice it is done once."""
    if at.renew_gram_teacher or gram_teacher.is_lacking(settings.gram, at.step, state.gram_teacher):
        state.gram_teacher = renewed(state, settings, ranks)


def learner_of(state: State, at: At, ranks: Ranks) -> nn.Module:
    """The student as it is called in this step, its backbone frozen or not."""
    if at.backbone_frozen == next(state.student.backbone.parameters()).requires_grad:
        freeze_backbone(state.student, at.backbone_frozen)
        state.learner = None  # which knows what is trained
    if state.learner is None:
        state.learner = averaging(Learner(state.student), ranks)
    return state.learner


class Learner(nn.Module):
    """A student, called as a whole from a part of a batch to the total that it descends on."""

    def __init__(self, student: Network) -> None:
        super().__init__()
        self.student = student

    def forward(self, part: Batch, targets: Targets, at: At, settings: Experiment, **more: Any) -> Learnt:
        """As `learn`, all but the total detached."""
        found = within(self.student, partial(learn, self.student, part, targets, at, settings, **more))
        return found._replace(terms={name: term.detach() for name, term in found.terms.items()})


def is_finite(network: Network, ranks: Ranks) -> bool:
    """Whether all weights are, by the parts of all processes."""
    wrong = torch.stack([~own(weight).isfinite().all() for weight in network.parameters()]).any().float()
    return not ranks.reduced(wrong, "max")


def refuse_non_finite(terms: dict[str, Tensor], batch: Batch, step: int) -> None:
    """Raise `NonFinite`, naming every term and the batch's images by their place in the pool, unless all are finite."""
    values = torch.stack([term.detach().float() for term in terms.values()])
    finite = values.isfinite().tolist()
    if all(finite):
        return
    bad = [name for name, is_finite in zip(terms, finite, strict=True) if not is_finite]
    listed = ", ".join(f"{name}={value:.4g}" for name, value in zip(terms, values.tolist(), strict=True))
    raise NonFinite(f"step {step}: {listed}; images {', '.join(map(str, batch.indices.tolist()))} of the pool", bad)
