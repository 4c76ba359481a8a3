"""Settings of a curation: the pool, the backbone that looks at it, clusters, near-duplicates, sampling, retrieval."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt, Lt

from common.bounds import About, Batch, Count, Label, Name, Natural, Pixels, Place, Real, Seed
from common.errors import BadInput
from common.schema import filled, settings, shown
from evals.datasets.settings import Set
from evals.features.view import Precision
from harness.config import resolved
from harness.layers import composed
from harness.overrides import parsed, put
from harness.settings import Device

PAPER = "DINOv3 §3.1; arXiv 2405.15613"


@settings
class Images:
    """The pool: named sources of any kind."""

    sources: Annotated[dict[Label, Set], About("name → a set, as `data.sources` of an experiment")] = field(
        default_factory=dict
    )


@settings
class Level:
    """One level of the hierarchy, which clusters the centroids of the level below it, the first one the images."""

    clusters: Annotated[Count, About("how many, fewer than on the level below", PAPER)]
    resamplings: Annotated[
        Natural, About("times that k-means runs again on the points nearest to their centroids", PAPER)
    ] = 0
    closest: Annotated[Count, About("points of each cluster that such a run sees", PAPER)] = 10


@settings
class Clustering:
    """Balanced sampling from the clusters, from the top level down."""

    target: Annotated[
        Count | None, About("images to sample; null = none, and the manifest holds what is retrieved alone")
    ] = None
    members: Annotated[
        Literal["random", "closest"], About("which of a cluster's images are taken, drawn or nearest to its centroid")
    ] = "random"


@settings
class Retrieval:
    """Images of the pool near those of a seed set."""

    seeds: Annotated[dict[Label, Set], About("name → a set of seeds; {} = no retrieval")] = field(default_factory=dict)
    neighbours: Annotated[
        Count, About("images of the pool that each seed brings in", "DINOv2 §3, arXiv 2304.07193")
    ] = 4


@settings
class Curation:
    """From a pool of images to a manifest of those worth training on."""

    name: Annotated[Name | None, About("folder of the manifest below `folder`; null = the file's name")] = None
    question: Annotated[str, About("what the curation is for, in one sentence")] = ""
    source: Annotated[str, About("paper and section")] = ""
    expected: Annotated[str, About("the result that would be no surprise")] = ""
    cost: Annotated[str, About("time and hardware, in words")] = ""
    data: Images = field(default_factory=Images)
    backbone: Annotated[str, About("whose features say what is alike; any address of `gramlab eval`")]
    size: Annotated[Pixels, About("side of the centre crop that it sees, a multiple of its patch")] = 224
    precision: Annotated[Precision, About("in which it computes")] = "float32"
    batch_size: Annotated[Batch, About("images of a forward pass; machinery")] = 64
    levels: Annotated[list[Level], About("the hierarchy from the images upwards; clusters fall from level to level")]
    rounds: Annotated[Count, About("most updates of the centroids in a run of k-means", PAPER)] = 50
    duplicates: Annotated[
        Annotated[Real, Gt(0), Lt(1)] | None,
        About("cosine from which two images of one cluster count as the same, and the first stays; null = all stay"),
    ] = 0.98
    clustering: Clustering = field(default_factory=Clustering)
    retrieval: Retrieval = field(default_factory=Retrieval)
    seed: Annotated[Seed, About("of k-means starts and of what is drawn")] = 0
    embeddings: Annotated[
        Place | None, About("folder of embeddings made before, of this backbone and pool; null = below the run's own")
    ] = None
    folder: Annotated[Place, About("where the run's folder lies; machinery")] = "runs"
    cache: Annotated[Place, About("where rendered scenes are kept; machinery")] = ".cache/gramlab"
    workers: Annotated[Natural, About("processes that read images; machinery")] = 0
    device: Annotated[Device, About("`auto` takes CUDA when there is one; machinery")] = "auto"

    def conflicts(self) -> Iterator[str]:
        """No pool, levels that do not fall, more clusters than a resampling has points, nothing to do."""
        if not self.data.sources:
            yield "data.sources={}: want one source at least; set data.sources.<name>.kind"
        counts = [level.clusters for level in self.levels]
        if not counts or any(below <= above for below, above in pairwise(counts)):
            yield f"levels={counts}: want one level at least, and fewer clusters on each than on the one below"
        if self.clustering.target is None and not self.retrieval.seeds:
            yield "clustering.target=null: want a number, or retrieval.seeds, or nothing would be kept"

    @property
    def home(self) -> Path:
        """Where all of its files lie."""
        return Path(self.folder) / str(self.name)


MACHINERY = ("name", "question", "source", "expected", "cost", "data", "embeddings", "folder", "cache")
MACHINERY += ("batch_size", "workers", "device")


def load(path: str | Path, overrides: Sequence[str] = ()) -> Curation:
    """The curation of a YAML file with `key=value` words applied. Raises `BadInput` with all that is wrong in it."""
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"got no file {path}: want a YAML such as experiments/curate.yaml; correct the path")
    plain = composed(path, {}, added={})
    if "arms" in plain:
        raise BadInput(f"got {path}, an experiment: want a curation, which has levels; or do gramlab run {path}")
    for change in parsed(overrides):
        if change.removes:
            raise BadInput(f"got {change.text}: want key=value; set it to null, or to {{}} for none")
        put(plain, change.key, change.value, of=Curation)
    found = filled(Curation, resolved(plain, where=path.name), where=path.name)
    if found.name is None:
        found = dataclasses.replace(found, name=path.stem)
    return found


def differing(one: dict[str, object], other: dict[str, object]) -> str:
    """The first setting that differs between two, in words; "" where none does."""
    for key in [*one, *other]:
        if one.get(key) != other.get(key):
            return f"{key}={shown(one.get(key))} and not {shown(other.get(key))}"
    return ""
