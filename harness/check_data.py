"""Reads every training image once before a run: what cannot be read is named with the setting that leaves it out."""

from __future__ import annotations

from collections.abc import Mapping

from common.errors import BadInput, listing
from common.machine import cores
from common.progress import Bar
from common.workers import batches
from evals.datasets.catalogue import KINDS
from harness.data.pool import Fault, Pool
from harness.data_settings import Data

SHOWN = 10  # files whose fault is told


def check_data(data: Data, pool: Pool) -> str:
    """One line about the images that are read from files, excluded ones left aside, in all processes of the machine.

    Raises:
        BadInput: names those that cannot be read and would not be skipped, the setting that lets the large ones pass,
            and the one that leaves out the others.
    """
    places = [index for index in range(len(pool)) if _is_read(data, pool, index)]
    workers = cores() if len(places) > 1 else 0
    found = batches(lambda at: pool.fault(places[at]), len(places), workers=workers)
    with Bar(found, total=len(places), desc="checking training images", unit="image") as bar:
        faults = {place: fault for place, fault in zip(places, bar, strict=True) if fault}
    if not faults:
        return f"all {len(places):,} training images that lie in files can be read"
    if _are_skipped(data, pool, faults):
        names = listing([pool.key(place) for place in faults], most=SHOWN)
        return f"{len(faults):,} of {len(places):,} training images cannot be read and will be skipped ({names})"
    told = [f"  {fault.told}" for fault in list(faults.values())[:SHOWN]]
    rest = [f"  and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
    head = f"got {len(faults):,} of {len(places):,} training images that cannot be read: want whole images"
    raise BadInput("\n".join([f"{head}; {_remedies(pool, faults)}", *told, *rest]))


def _are_skipped(data: Data, pool: Pool, faults: Mapping[int, Fault]) -> bool:
    """Whether a run would skip all of these."""
    few = len(faults) <= int(data.unreadable_share * len(pool))
    return data.unreadable == "skip" and few and all(fault.skippable for fault in faults.values())


def _remedies(pool: Pool, faults: dict[int, Fault]) -> str:
    """What to do in words of a command line: let large images pass, leave out what cannot be read at all."""
    most: dict[str, int] = {}
    for place, fault in faults.items():
        if fault.megapixels:
            most[pool.source(place)] = max(fault.megapixels, most.get(pool.source(place), 0))
    if not most:
        return f"replace them, or go on without them by\n  {pool.remedy(faults)}"
    wider = " ".join(f'"data.sources.{name}.max_megapixels={value}"' for name, value in most.items())
    others = [place for place, fault in faults.items() if not fault.megapixels]
    then = "replace the others, or go on without them by" if others else "or go on without them by"
    return f"read the large ones by\n  {wider}\n{then}\n  {pool.remedy(others or faults)}"


def _is_read(data: Data, pool: Pool, index: int) -> bool:
    source = pool.source(index)
    return not KINDS[data.sources[source].kind].rendered and not pool.is_excluded(index)
