"""The table of losses: what the step adds up, and what plan, cost estimate and report know of it.

A new loss is a file of this folder with its formula, its settings, its terms and their factors; here it gets an entry
and its section of the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import field
from typing import Any, NamedTuple

from torch import Tensor

from common.schema import settings
from harness.losses import dino, gram, ibot, koleo
from harness.losses.dino import Dino
from harness.losses.gram import Gram
from harness.losses.ibot import Ibot
from harness.losses.inputs import Outputs, Targets
from harness.losses.koleo import Koleo


class Loss(NamedTuple):
    """How a loss enters the total.

    terms: from its settings, the student's answers and the teachers' targets to its terms by name, before their
        factors; none where it is off.
    factors: from its settings, its weight in the step and the number of local crops to the factor of each term in the
        total.
    titles: what the report calls each term.
    retitled: from all settings of it that are drawn together to other titles of terms that mean several things.
    anchored: it is kept to the Gram teacher: its weight changes over steps, it spans orders of magnitude, and alone it
        teaches nothing new. There is one Gram teacher, that of `gram`; another relation takes the place of the matrix
        of cosines in that section (`gram.relation`), it is no second loss beside it.
    per_image: from its settings, whether it is a mean over images, and so is defined for some of the batch.
    over: from its settings and the masks of a part of a step's batch, how many things of that part its terms are means
        over: by them the means of parts add up to that of the step. Parts are of equally many images.
    """

    terms: Callable[[Any, Outputs, Targets], dict[str, Tensor]]
    factors: Callable[[Any, float, int], dict[str, float]]
    titles: Mapping[str, str]
    anchored: bool = False
    per_image: Callable[[Any], bool] = lambda own: True
    over: Callable[[Any, Tensor], int] = lambda own, masks: len(masks)
    retitled: Callable[[Collection[Any]], Mapping[str, str]] = lambda found: {}


LOSSES: dict[str, Loss] = {
    "dino": Loss(dino.terms, dino.factors, dino.TITLES),
    "ibot": Loss(ibot.terms, ibot.factors, ibot.TITLES, over=ibot.over),
    "koleo": Loss(koleo.terms, koleo.factors, koleo.TITLES, per_image=lambda own: False),
    "gram": Loss(
        gram.terms,
        gram.factors,
        gram.TITLES,
        anchored=True,
        per_image=lambda own: own.level == "image",
        over=gram.over,
        retitled=gram.titles,
    ),
}


@settings
class LossSettings:
    """The section of each loss in an experiment's settings, under its name in `LOSSES`."""

    dino: Dino = field(default_factory=Dino)
    ibot: Ibot = field(default_factory=Ibot)
    koleo: Koleo = field(default_factory=Koleo)
    gram: Gram = field(default_factory=Gram)


def titles(found: Collection[LossSettings], *, before: Mapping[str, str] | None = None) -> dict[str, str]:
    """What each term is called where these settings are drawn together; `before`: where nothing of them says so."""
    usual = {term: title for one in LOSSES.values() for term, title in one.titles.items()} | dict(before or {})
    for name, one in LOSSES.items():
        usual |= one.retitled([getattr(own, name) for own in found])
    return usual
