"""Image classes of labelled sets: whether two sets share them, whether they can be learnt, a part of each held out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from common.draws import pcg64
from common.errors import BadInput

if TYPE_CHECKING:
    from evals.datasets.labelled_set import LabelledSet


def shared_classes(train: LabelledSet, test: LabelledSet) -> int:
    """How many classes the sets have. Raises BadInput where their lists differ: labels would mean different things."""
    ours, theirs = train.classes, test.classes
    if ours == theirs:
        return len(ours)
    first, second = (f"{one.name}/{one.split}" for one in (train, test))
    odd = [(first, sorted(set(ours) - set(theirs))), (second, sorted(set(theirs) - set(ours)))]
    what = ", ".join(f"{names[0]!r} is in {place} alone" for place, names in odd if names) or "in another order"
    do = f"choose those of {second} that {first} has too, by its setting `classes`"
    if not set(ours) & set(theirs):
        do = "name the classes in a table where folders are patients, clips or days (docs/my-data.md)"
    raise BadInput(
        f"got {len(ours)} classes in {first} and {len(theirs)} in {second} ({what}): want one list for both; {do}"
    )


def two_classes(labels: Int[Tensor, " n"], dataset: LabelledSet) -> None:
    """Raises BadInput where there is nothing to tell apart."""
    if len(labels.unique()) < 2:
        raise BadInput(f"got one class in {dataset.name}: want at least two; add classes or name another set")


def learnable(train: LabelledSet, test: LabelledSet, *, held_out: bool = False) -> None:
    """Raises BadInput where labels alone show that no head can be fitted, or, with `held_out`, none chosen."""
    shared_classes(train, test)
    labels = torch.tensor([train.label(index) for index in range(len(train))])
    two_classes(labels, train)
    if held_out and int(labels.bincount().max()) < 2:
        raise _one_each(len(labels))


def hold_out(labels: Int[Tensor, " n"], *, share: float, seed: int) -> Bool[Tensor, " n"]:
    """A random `share` of each class, at least one image of a class that has two or more.

    Raises:
        BadInput: every class has a single image.
    """
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = torch.nonzero(labels == label).flatten()
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        order = pcg64(seed, "held out", int(label)).permutation(len(members))
        held[members[torch.from_numpy(order[:count])]] = True
    if not held.any():
        raise _one_each(len(labels))
    return held


def _one_each(images: int) -> BadInput:
    return BadInput(f"got {images} training images, one per class: want two of a class at least; add images")


def hits(logits: Float[Tensor, "*b C"], labels: Int[Tensor, "*b"]) -> tuple[Bool[Tensor, "*b"], Bool[Tensor, "*b"]]:
    """Whether the class is the first, and one of the first five, of these scores; one of −∞ was never learnt."""
    own, five = labels.unsqueeze(-1), logits.topk(min(5, logits.shape[-1]), -1).indices
    known = logits.gather(-1, own)[..., 0].isfinite()
    return logits.argmax(-1) == labels, (five == own).any(-1) & known
