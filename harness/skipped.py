"""Which unreadable images a job has skipped, and since which step: `skipped.json` in the job's folder.

With `data.unreadable: skip` another image is taken for one that cannot be read, as for those that settings exclude
(`harness.excluded`). The list is no part of a job's hash and only grows; who goes on with the job, makes a part of it
again or forks from it takes the same others from the beginning, also where the file was mended meanwhile.
"""

from __future__ import annotations

import logging
from dataclasses import asdict

import numpy as np

from common.command import number_of
from common.disk import write_json
from common.errors import BadInput, listing
from common.skips import FILE, REMEDY, Skip, recorded
from harness.data.mixing import Mixture, mixture
from harness.data.pool import Pool
from harness.job import Job, holder

log = logging.getLogger("gramlab")
SHOWN = 16  # images in a line


class Skips:
    """What a job skips of a pool: what it and those that it goes on from have skipped before, and what turns up now.

    Raises `BadInput` for images that are gone, and where they are more than the settings allow.
    """

    def __init__(self, job: Job, pool: Pool) -> None:
        self.job, self.pool = job, pool
        self.rows = recorded(job.folder)
        self._known, self._drawn = _known(job, pool), Drawn(job, pool)
        self._refuse_many([*self._known])
        if self._known:
            pool.stand_in.skipped.update({index: skip.reason for index, skip in self._known.items()})
            names = listing([pool.key(index) for index in self._known])
            images = number_of(len(self._known), "unreadable image")
            log.info("%s: skips %s as before (%s)", job.name, images, names)

    def note(self, step: int) -> None:
        """Write down what was skipped in making the batch of a step, or in measuring before it, and never before.

        Raises `BadInput`, and writes nothing, where more are skipped by now than the settings allow.
        """
        own = {(skip.source, skip.place) for skip in self.rows}
        new = {index: at for index in self.pool.stand_in.met() if (at := self.pool.located(index)) not in own}
        if not new:
            return
        self._refuse_many([*dict.fromkeys([*self._known, *new])])
        for index, (source, place) in new.items():
            image, reason = self.pool.sources[source].key(place), self.pool.stand_in.skipped[index]
            self._known[index] = Skip(step, source, place, image, reason)
            self.rows.append(self._known[index])
            log.warning("%s step %d: skipped %s (%s)", self.job.name, step, self.pool.key(index), reason)
        write_json(self.job.folder / FILE, {"skipped": [asdict(one) for one in self.rows]})
        if seen := [self.pool.key(index) for index in new if self._drawn.before(index, step)]:
            told = "%s: %s could be read in a step before %d: another run than one without it from the start"
            log.warning(told, self.job.name, listing(seen), step)

    def _refuse_many(self, indices: list[int]) -> None:
        """Raises `BadInput` where more images than the share of the settings are skipped."""
        share = self.job.settings.data.unreadable_share
        if len(indices) <= (most := int(share * len(self.pool))):
            return
        path = self.job.folder / FILE
        names = listing([self.pool.key(index) for index in indices], most=SHOWN)
        where = f"; {path}" if len(indices) > SHOWN and path.exists() else ""
        got = f"got {len(indices):,} of {len(self.pool):,} training images that cannot be read ({names}{where})"
        raise BadInput(
            f"{got}: want at most {most:,} to skip, data.unreadable_share={share:g} of all; mend them, or allow more"
        )


class Drawn:
    """Which images were drawn before a step, on the way from step 0; asked for when one is skipped, so rarely."""

    def __init__(self, job: Job, pool: Pool) -> None:
        self.job, self.pool = job, pool
        self._upto, self._images = 0, np.zeros(0, bool)
        self._mixtures: dict[str, Mixture] = {}

    def before(self, index: int, step: int) -> bool:
        """Whether an image was drawn in a step before this one; `step` never falls."""
        if not len(self._images):
            self._images = np.zeros(len(self.pool), bool)
        for at in range(self._upto, step):
            own = holder(self.job, at + 1)
            if own.name not in self._mixtures:
                self._mixtures[own.name] = mixture(self.pool, own.settings.data)
            self._images[self._mixtures[own.name].compose(own.seed, at).indices] = True
        self._upto = max(self._upto, step)
        return bool(self._images[index])


def _known(job: Job, pool: Pool) -> dict[int, Skip]:
    """What the job, and those that it goes on from, have skipped, by the indices of the images.

    Raises `BadInput` for an image that is not where it was.
    """
    found = {}
    for skip in (skip for one in job.path for skip in recorded(one.folder)):
        index = pool.index(skip.source, skip.place)
        if index is None or pool.sources[skip.source].key(skip.place) != skip.image:
            got = (
                f"got no image {skip.source}/{skip.image} at place {skip.place} of its source, which {job.name} skipped"
            )
            raise BadInput(f"{got}: want the data as it was; {REMEDY}")
        found[index] = skip
    return found
