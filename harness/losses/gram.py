"""Anchoring to a Gram teacher: the student keeps a relation between patches that an earlier teacher had."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Annotated, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from common.bounds import About, Positive
from common.schema import settings
from harness.losses.anchoring import Anchoring
from harness.losses.inputs import Outputs, Targets
from harness.losses.relations.affinities import affinity_loss
from harness.losses.relations.cka import cka_loss
from harness.losses.relations.distances import distance_loss
from harness.losses.relations.features import feature_loss
from harness.losses.relations.gram import Form, Negatives, gram_loss

GramRelation = Literal["gram", "cka", "distances", "affinities", "features"]
GramLevel = Literal["image", "batch"]
GramTokens = Literal["all", "masked", "unmasked"]


@settings
class Gram(Anchoring):
    """Gram anchoring (§4.2): which relation between patches is kept, in the way that `Anchoring` says."""

    relation: Annotated[
        GramRelation,
        About(
            "what is kept of the teacher's patches; `gram`: the cosines between them; `cka`: their centred kernel, up "
            "to a factor; `distances`: those between them, up to a factor; `affinities`: a softmax over the cosines; "
            "`features`: each patch by itself, the control",
            "DINOv3 §4.2; PaKA, arXiv 2509.05606; RKD, 1904.05068; CompRess, 2010.14713; FitNets, 1412.6550",
        ),
    ] = "gram"
    level: Annotated[
        GramLevel,
        About(
            "whose patches are compared with each other; `image`: those of a crop; `batch`: those of both crops of "
            "all images; not with `features`, which compares none",
            "official code (`image` for 7B)",
        ),
    ] = "image"
    tokens: Annotated[
        GramTokens,
        About(
            "which patches take part; `masked`: those that are masked for the student; `unmasked`: the others; a crop "
            "that has fewer than two of them is left out at image level",
            "official code (`all` for 7B; the others at batch level alone)",
        ),
    ] = "all"
    negatives: Annotated[
        Negatives,
        About(
            "what becomes of negative cosines, with `gram.relation: gram`; `clamp`: those of both sides count as 0; "
            "`clamp_teacher`: those of the teacher only",
            "official code (`keep` for 7B)",
        ),
    ] = "keep"
    form: Annotated[
        Form,
        About(
            "what is taken of the squared differences of cosines, with `gram.relation: gram`; `mean`; `frobenius`: "
            "their sum, for which `gram.weight` is divided by the square of the number of patches in a set",
            "`mean`: official code; `frobenius`: DINOv3 §4.2",
        ),
    ] = "mean"
    temperature: Annotated[
        Positive, About("divides the cosines, with `gram.relation: affinities`", "Gramlab; SEED, arXiv 2101.04731")
    ] = 0.1

    def conflicts(self) -> Iterator[str]:
        """What belongs to another teacher or to another relation; nothing while the loss is off."""
        yield from Anchoring.conflicts(self)
        if self.weight == 0:
            return
        for key in ("level", "negatives", "form", "temperature"):
            value, usual = getattr(self, key), getattr(Gram, key)
            if value != usual and key not in RELATIONS[self.relation].keys:
                of = ", ".join(name for name, one in RELATIONS.items() if key in one.keys)
                yield f"{key}={value}: want {usual} with relation={self.relation}, or relation={of}"


class Relation(NamedTuple):
    """What can be kept of the teacher's patches.

    title: what plan and report call it.
    loss: from the settings and N sets of patches of student and teacher [N, Q, D] to a number.
    keys: the settings of `Gram` that it heeds.
    matrices: of the size of a set's, that are held at once where patches are compared; with the gradient, measured.
    by_channels: they may be those between channels (`harness/losses/relations/difference.py`).
    """

    title: str
    loss: Callable[[Gram, Tensor, Tensor], Tensor]
    keys: tuple[str, ...] = ("level",)
    matrices: int = 3
    by_channels: bool = False


RELATIONS: dict[GramRelation, Relation] = {
    "gram": Relation(
        "Gram",
        lambda own, student, teacher: gram_loss(student, teacher, negatives=own.negatives, form=own.form),
        keys=("level", "negatives", "form"),
        by_channels=True,
    ),
    "cka": Relation("CKA", lambda own, student, teacher: cka_loss(student, teacher), matrices=4, by_channels=True),
    "distances": Relation("Distances", lambda own, student, teacher: distance_loss(student, teacher), matrices=6),
    "affinities": Relation(
        "Affinities",
        lambda own, student, teacher: affinity_loss(student, teacher, own.temperature),
        keys=("level", "temperature"),
        matrices=5,
    ),
    "features": Relation("Features", lambda own, student, teacher: feature_loss(student, teacher), keys=(), matrices=0),
}
TITLES = {"gram": "Gram"}
MANY = "Anchoring"  # more relations than a title has room for


def titles(found: Collection[Gram]) -> dict[str, str]:
    """The term by what is kept in settings that are drawn together; nothing where the loss is off in all of them."""
    kept = [*dict.fromkeys(RELATIONS[own.relation].title for own in found if own.weight > 0)]
    return {"gram": ", ".join(kept) if len(kept) < 3 else MANY} if kept else {}


def terms(own: Gram, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
    """Patches of the global crops, masked as they are, against those of the Gram teacher, where the loss is on."""
    if targets.gram is None:
        return {}
    assert outputs.patches is not None, "there is a Gram teacher, but the student did not hand out its patches"
    student, teacher, masks = outputs.patches, targets.gram, outputs.masks
    if own.level == "batch":
        student, teacher = (outputs.ranks.together(x) for x in (student, teacher))
        masks = outputs.ranks.together(masks)
    found = [RELATIONS[own.relation].loss(own, *pair) for pair in compared(own, student, teacher, masks)]
    return {"gram": torch.stack(found).mean()} if found else {}


def over(own: Gram, masks: Bool[Tensor, "C P"]) -> int:
    """How many sets of patches the term is a mean over; one where all patches are compared with each other."""
    if own.level == "batch":
        return 1
    if own.tokens == "all":
        return len(masks)
    return int(((masks if own.tokens == "masked" else ~masks).sum(1) > 1).sum())


def factors(own: Gram, weight: float, local_crops: int) -> dict[str, float]:
    """The weight at this step."""
    return {"gram": weight}


def compared(
    own: Gram, student: Float[Tensor, "C P D"], teacher: Float[Tensor, "C P E"], masks: Bool[Tensor, "C P"]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Patches that are compared with each other, of both sides [N, Q, …]: those of each crop or of all crops.

    Where not all patches take part, sets differ in size and come one by one; one of fewer than two patches does not.
    """
    if own.level == "batch":
        student, teacher, masks = (x.flatten(0, 1).unsqueeze(0) for x in (student, teacher, masks))
    if own.tokens == "all":
        yield student, teacher
        return
    for crop, taking_part in enumerate(masks if own.tokens == "masked" else ~masks):
        places = taking_part.nonzero().squeeze(1).to(student.device)
        if len(places) > 1:
            yield student[crop, places].unsqueeze(0), teacher[crop, places].unsqueeze(0)
