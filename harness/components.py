"""What each component of the data gave to training: its share of the images since the last row, its losses in a row.

A loss that is a mean over images is defined for some of them; KoLeo, and Gram matrices of a whole batch, are not.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from common.ranks import Ranks
from harness.collapse import MOST_IMAGES, token_rank
from harness.data.batches import Batch
from harness.data.mixing import Composition, mixture, named
from harness.data.pool import Pool
from harness.data_settings import Data
from harness.losses.inputs import Outputs, Targets, of_images
from harness.losses.table import LOSSES
from harness.settings import Experiment

MOST = 24  # components of which losses are logged: each is a handful of columns
PREFIX = "components"  # of their columns, `components/NAME/share`


def watched(pool: Pool, data: Data) -> dict[str, np.ndarray]:
    """The components that rows tell apart, as sorted indices into the pool: the first `MOST` of those that could be."""
    known = named(pool)
    return {name: known[name] for name in distinct(pool, data)[:MOST]}


def distinct(pool: Pool, data: Data) -> list[str]:
    """Sources, then what batches are of alone or mixed from; none where that is one alone, of which a row itself tells.

    Without names any component of the pool may be a batch's only one.
    """
    alone = data.homogeneous or (pool.components if data.homogeneous_share else ())
    names = [*dict.fromkeys([*pool.sources, *alone, *(data.mixed or ())])]
    return names if len(names) > 1 else []


class Tally:
    """Counts the images of each component until a row is written, and takes apart the losses of the row's own step."""

    def __init__(self, pool: Pool, data: Data) -> None:
        self.members, asked = watched(pool, data), mixture(pool, data)
        self.asked = {name: asked.expected(members) for name, members in self.members.items()}
        self._clear()

    def _clear(self) -> None:
        self.homogeneous: list[bool] = []
        self.images = Counter[str]()
        # of each part of the row's own step: a component, and of each term its mean and over how many things it is one
        self.parts: list[tuple[str, dict[str, tuple[float, int]]]] = []
        self.tokens: list[tuple[int, Tensor]] = []  # class tokens of each part, by the place of its first image

    def forget(self) -> None:
        """What was judged of a step that was not taken."""
        self.parts, self.tokens = [], []

    def count(self, batch: Composition | Batch) -> None:
        """A step's images."""
        self.homogeneous.append(batch.component is not None)
        self.images["all of them"] += len(batch.indices)
        self.images.update({name: len(places) for name, places in self.places(np.asarray(batch.indices)).items()})

    def places(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Which images of a batch are from each component that has any in it."""
        found = {}
        for name, members in self.members.items():
            at = np.searchsorted(members, indices).clip(max=len(members) - 1)
            if (here := members[at] == indices).any():
                found[name] = np.flatnonzero(here)
        return found

    def judge(self, batch: Batch, outputs: Outputs, targets: Targets, settings: Experiment) -> None:
        """The losses of a part of a step by component, without gradient, and its class tokens; a second look at all
        logits, so for rows alone."""
        self.tokens.append((batch.first, outputs.cls.detach()[:, : max(MOST_IMAGES - batch.first, 0)].float().cpu()))
        for name, own in self.places(batch.own.numpy()).items():
            terms = some_terms(outputs, targets, own, settings)
            self.parts.append((name, {term: (float(value), over) for term, (value, over) in terms.items()}))

    def gather(self, ranks: Ranks) -> None:
        """Take in what the same step's parts in other processes have found."""
        self.parts = [part for parts in ranks.gathered(self.parts) for part in parts]
        self.tokens = [part for parts in ranks.gathered(self.tokens) for part in parts]

    def losses(self) -> dict[str, dict[str, float]]:
        """The terms of each component over all parts of a step."""
        found = defaultdict[str, dict[str, list[tuple[float, int]]]](lambda: defaultdict(list))
        for name, terms in self.parts:
            for term, own in terms.items():
                found[name][term].append(own)
        return {name: {term: mean_over(own) for term, own in terms.items()} for name, terms in found.items()}

    def row(self) -> dict[str, float]:
        """The columns of a row, and a new beginning."""
        found, known = {"homogeneous_share": sum(self.homogeneous) / len(self.homogeneous)}, self.losses()
        for name, asked in self.asked.items():
            shares = {"asked": asked, "share": self.images[name] / self.images["all of them"]}
            columns = shares | known.get(name, {})
            found |= {f"{PREFIX}/{name}/{column}": value for column, value in columns.items()}
        if self.tokens:
            tokens = [own for _, own in sorted(self.tokens, key=lambda part: part[0])]
            found["cls_rank"] = token_rank(torch.cat(tokens, 1))
        self._clear()
        return found


def mean_over(means: Sequence[tuple[float, int]]) -> float:
    """The mean over all things of means over some of them."""
    whole = max(sum(over for _, over in means), 1)  # of crops that are masked there may be none
    return sum(mean * (over / whole) for mean, over in means)


@torch.no_grad()
def some_terms(
    outputs: Outputs, targets: Targets, places: np.ndarray, settings: Experiment
) -> dict[str, tuple[Tensor, int]]:
    """The terms that are defined for images at these places of the batch, and over how many things they are means."""
    part = of_images(outputs, targets, torch.from_numpy(places))
    return {
        term: (value, loss.over(getattr(settings, name), part[0].masks))
        for name, loss in LOSSES.items()
        if loss.per_image(getattr(settings, name))
        for term, value in loss.terms(getattr(settings, name), *part).items()
    }
