"""Writes the manifest: a row for each image of the pool, in its order, with its clusters and what became of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common.disk import whole
from common.errors import BadInput
from evals.datasets.layouts.manifest import verified
from evals.datasets.layouts.manifest_rows import KEY, Digest
from evals.datasets.layouts.shards.places import is_address
from evals.datasets.reading import Reading
from evals.datasets.settings import Set
from harness.config import as_dict
from harness.curation.duplicates import Dropped, among
from harness.curation.hierarchy import Hierarchy
from harness.curation.lowest import BLOCK
from harness.curation.retrieval import Retrieved
from harness.curation.sampling import Sampled
from harness.curation.settings import MACHINERY, Curation, differing
from harness.data.pool import Pool

NAME = "manifest.parquet"


@dataclass(frozen=True)
class Curated:
    """All that was found about a pool."""

    hierarchy: Hierarchy
    dropped: Dropped
    sampled: Sampled
    retrieved: Retrieved
    seeds: tuple[str, ...]  # names of the seeds

    @cached_property
    def kept(self) -> np.ndarray:
        """Images that are sampled or retrieved, ascending."""
        return np.union1d(self.sampled.images, self.retrieved.images)


def about(settings: Curation, *, pool: str, backbone: str) -> dict[str, Any]:
    """What a manifest's metadata says of how it was made; `pool` and `backbone` are fingerprints."""
    science = {key: value for key, value in as_dict(settings).items() if key not in MACHINERY}
    sources = {name: opening(name, one) for name, one in settings.data.sources.items()}
    found = {"pool": pool, "weights": backbone, "levels": len(settings.levels), "settings": science}
    return {"sources": sources, **found}


def opening(name: str, one: Set) -> dict[str, Any]:
    """A set's settings as `open_set` takes them, wherever the command that opens it is given."""
    reading = {field.name: field.default for field in fields(Reading)}
    plain = {key: value for key, value in as_dict(one).items() if key not in reading}
    told = {key: as_dict(getattr(one, key)) for key, usual in reading.items() if getattr(one, key) != usual}
    root = one.root if one.root is None or is_address(one.root) else str(Path(one.root).expanduser().absolute())
    return {**plain, "root": root, "name": one.name or name, "reading": told}


def refuse_other(path: Path, mine: dict[str, Any]) -> None:
    """Refuse to replace a manifest of other settings, or one that somebody has changed."""
    if not path.exists():
        return
    held = verified(path)
    if said := differing(held["settings"], mine["settings"]):
        raise BadInput(f"got other settings than {path} was made with ({said}): want another name; or move it away")
    for key, what in (("pool", "pool"), ("weights", "backbone")):
        if held[key] != mine[key]:
            raise BadInput(f"got another {what} than {path} was made from: want another name; or move it away")


def write_manifest(path: Path, pool: Pool, found: Curated, told: dict[str, Any]) -> None:
    """The whole file, or none."""
    names = [f"level_{number + 1}" for number in range(len(found.hierarchy.levels))]
    schema = pa.schema(
        [("source", pa.string()), ("image", pa.string()), ("place", pa.int64())]
        + [(name, pa.int32()) for name in names]
        + [("distance", pa.float32()), ("sampled", pa.bool_()), ("retrieved", pa.bool_()), ("kept", pa.bool_())]
        + [("why", pa.string()), ("near", pa.string()), ("cosine", pa.float32())]
    )
    digest = Digest()
    with whole(path) as new, pq.ParquetWriter(new, schema) as file:
        for start in range(0, len(pool), BLOCK):
            batch = pa.record_batch(_columns(pool, found, start, names), schema=schema)
            digest.add(batch)
            file.write_batch(batch)
        file.add_key_value_metadata({KEY.decode(): json.dumps({**told, "digest": digest.hex()})})


def _columns(pool: Pool, found: Curated, start: int, names: list[str]) -> dict[str, Any]:
    members = found.hierarchy.members[start : start + BLOCK]
    count = len(members)
    whose = [pool.located(start + place) for place in range(count)]
    path = found.hierarchy.path(members)
    dropped = found.dropped.among(start, count)
    sampled, retrieved = (among(x.images, start, count) for x in (found.sampled, found.retrieved))
    near, cosine = np.full(count, None, object), np.full(count, np.nan, np.float32)
    for place, other, value in _near(pool, found, start, count):
        near[place], cosine[place] = other, value
    return {
        "source": [source for source, _ in whose],
        "image": [pool.sources[source].key(place) for source, place in whose],
        "place": [place for _, place in whose],
        **{name: path[:, level].astype(np.int32) for level, name in enumerate(names)},
        "distance": np.sqrt(found.hierarchy.apart[start : start + BLOCK]),
        "sampled": sampled,
        "retrieved": retrieved,
        "kept": sampled | retrieved,
        "why": _why(dropped, sampled, retrieved),
        "near": near.tolist(),
        "cosine": pa.array(cosine, from_pandas=True),
    }


def _near(pool: Pool, found: Curated, start: int, count: int) -> Iterator[tuple[int, str, float]]:
    """The images of a block that repeat another or were retrieved: the place, the other's name, the cosine."""
    for images, others, cosines, named in (
        (found.dropped.images, found.dropped.twins, found.dropped.cosines, pool.key),
        (found.retrieved.images, found.retrieved.seeds, found.retrieved.cosines, found.seeds.__getitem__),
    ):
        low, high = np.searchsorted(images, [start, start + count])
        for at in range(low, high):
            yield int(images[at] - start), named(int(others[at])), float(cosines[at])


def _why(dropped: np.ndarray, sampled: np.ndarray, retrieved: np.ndarray) -> list[str]:
    """What became of each image."""
    words = np.where(dropped, "near-duplicate", "not sampled")
    words = np.where(sampled & retrieved, "sampled and retrieved", np.where(sampled, "sampled", words))
    return np.where(retrieved & ~sampled, "retrieved", words).tolist()
