"""Which images a job leaves out of its training, and since which step: `excluded.json` in the job's folder.

The list is no part of a job's hash, so that a run goes on when a file turns out to be broken: each image that it names
keeps its place in the draws and another is taken for it (`harness.data.pool`), so a run that stopped at the broken file
ends as one that left it out from the start.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from common.disk import write_json
from common.errors import BadInput, listing
from common.records import Step, read_record
from harness.data.pool import Pool
from harness.job import Job

log = logging.getLogger("gramlab")
REMEDY = "restore it or move the folder away"


Keys = dict[str, list[str]]  # source -> images by their keys


@dataclass(frozen=True)
class Since:
    """Images that are left out of all batches after `step`, the last one before."""

    step: Step
    images: Keys


@dataclass(frozen=True)
class Excluded:
    """`excluded.json`, in the order in which the list grew."""

    excluded: list[Since]


def recorded(folder: Path) -> list[Since]:
    """What a job's folder says. Raises `BadInput` where it is damaged."""
    path = folder / "excluded.json"
    return read_record(path, Excluded, remedy=REMEDY).excluded if path.exists() else []


def refuse_shorter(job: Job) -> None:
    """Raises `BadInput` where the settings take back what the job has left out: a list may only grow."""
    wanted = _wanted(job)
    back = [
        (name, key)
        for since in recorded(job.folder)
        for name, keys in since.images.items()
        for key in keys
        if key not in wanted.get(name, ())
    ]
    if back:
        name, key = back[0]
        raise BadInput(
            f"{job.folder} left {listing([key for _, key in back])} out of training: want it in "
            f"data.sources.{name}.exclude still, since such a list may only grow; put {key} back, or move "
            f"{job.folder} away"
        )


def note(job: Job, pool: Pool, *, step: int) -> None:
    """Write down what is left out from `step` on and was not before; say where it may have been used until then."""
    before = recorded(job.folder)
    known = {(name, key) for since in before for name, keys in since.images.items() for key in keys}
    new = {name: [key for key in keys if (name, key) not in known] for name, keys in _wanted(job).items()}
    new = {name: keys for name, keys in new.items() if keys}
    if not new:
        return
    rows = [asdict(one) for one in (*before, Since(step, new))]
    write_json(job.folder / "excluded.json", {"excluded": rows})
    places = pool.places(new)
    log.info("%s: from step %d on without %s", job.name, step, listing([pool.key(place) for place in places]))
    if step > job.root.start and (readable := [pool.key(place) for place in places if not pool.fault(place)]):
        told = (
            "%s: %s can be read, so the steps up to %d may have seen it: another run than one without it from the start"
        )
        log.warning(told, job.name, listing(readable), step)


def _wanted(job: Job) -> Keys:
    """What the job's settings leave out."""
    return {name: list(dict.fromkeys(one.exclude)) for name, one in job.settings.data.sources.items() if one.exclude}
