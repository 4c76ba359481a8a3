"""Affinities: which other patches a patch is most like is to be as for the teacher."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import kl_div

from harness.losses.precision import guarded, refuse_cold, unit_length
from harness.losses.relations.sets import refuse_unlike


def _refuse(student: Tensor, teacher: Tensor, temperature: float = 0.1) -> None:
    refuse_unlike(student, teacher, least=2)
    refuse_cold(temperature)


@guarded(_refuse)
def affinity_loss(
    student: Float[Tensor, "N Q D"], teacher: Float[Tensor, "N Q E"], temperature: float = 0.1
) -> Float[Tensor, ""]:
    """KL(teacher ‖ student) in nats of each patch's affinities to the others, mean over patches and N sets.

    Affinities of patch i: the softmax over all j ≠ i of cos(i, j) / temperature. A patch is left out of its own, where
    its cosine of 1 would take most of the mass and say nothing.
    student, teacher: patches after the final norm. The teacher receives no gradient; its width E may differ from D.
    Blind to: rotation or reflection, the length of each patch, one number added to all cosines of a patch. Sees: a
    shift.
    Raises BadInput for shapes that do not fit, one patch alone, or temperature <= 0.
    Source: CompRess, arXiv 2010.14713 §3, and SEED, arXiv 2101.04731 §3.2, there between images; without oneself: PKT,
    arXiv 1803.10837 §3.
    """
    ours, theirs = (_log_affinities(x, temperature) for x in (student, teacher.detach()))
    return kl_div(ours, theirs.to(ours.dtype), reduction="sum", log_target=True) / (ours.shape[0] * ours.shape[1])


def _log_affinities(patches: Float[Tensor, "N Q D"], temperature: float) -> Float[Tensor, "N Q Q-1"]:
    units = unit_length(patches)
    return (_without_diagonal(units @ units.mT) / temperature).log_softmax(-1)


def _without_diagonal(square: Float[Tensor, "N Q Q"]) -> Float[Tensor, "N Q Q-1"]:
    """Read on from entry (0, 1), the diagonal is every (Q + 1)-th entry, the last of a row of Q + 1."""
    sets, side, _ = square.shape
    return square.flatten(1)[:, 1:].unflatten(1, (side - 1, side + 1))[..., :-1].reshape(sets, side, side - 1)
