"""Curate a pool: `gramlab curate experiments/curate.yaml [key=value ...] [--plan]`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from common.interrupts import listen

    listen()

import numpy as np

from common.command import answer, end, parsed
from common.errors import BadInput
from common.machine import pick_device
from common.progress import telling
from common.ranks import Ranks, device_of, started
from evals.backbones.addresses import load as load_backbone
from evals.backbones.backbone import Backbone
from evals.datasets.settings import Set, open_one
from evals.features.view import refuse_uneven
from harness import arguments
from harness.config import identity
from harness.curation.duplicates import drop
from harness.curation.embeddings import embed, embed_few, whole_shards
from harness.curation.hierarchy import cluster
from harness.curation.manifest import NAME, Curated, about, refuse_other, write_manifest
from harness.curation.pictures import facts, story, words
from harness.curation.retrieval import Retrieved, refuse_unlike, retrieve
from harness.curation.sampling import sample
from harness.curation.settings import Curation, load
from harness.data.pool import Pool, fingerprint
from reports.curation.build import build

log = logging.getLogger("gramlab")


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 done, 2 bad input, 130 interrupted (the same command goes on)."""
    return answer(lambda: _run(argv))


def _run(argv: list[str] | None) -> int:
    args = parsed(arguments.curate, "curate", argv)
    settings = load(args.curation, args.overrides)
    with started() as ranks, telling():
        return curate(settings, ranks, plan_only=args.plan)


def curate(settings: Curation, ranks: Ranks, *, plan_only: bool = False) -> int:
    """Everything from the pool to the manifest and its PDF."""
    pool = open_images(settings.data.sources, settings, section="data.sources")
    _refuse_beyond(settings, len(pool))
    seeds = _seeds(settings, pool)
    device = device_of(pick_device(settings.device))
    backbone = load_backbone(settings.backbone, device=device)
    refuse_uneven(f"size={settings.size} for {backbone.name}", settings.size, backbone.stride)
    told = about(settings, pool=fingerprint(pool), backbone=backbone.fingerprint)
    refuse_other(settings.home / NAME, told)
    lines = [*plan(settings, pool, seeds, backbone, ranks)]  # which every process refuses alike
    if ranks.first:
        print(*lines, sep="\n", flush=True)
    if plan_only:
        return 0
    found = find(settings, pool, seeds, backbone, ranks)
    if ranks.first:
        write_manifest(settings.home / NAME, pool, found, told)
        print(words(pool, found))
        print(settings.home / NAME, build(story(settings, pool, seeds, found), settings.home), sep="\n")
    return 0


def find(settings: Curation, pool: Pool, seeds: Pool | None, backbone: Backbone, ranks: Ranks) -> Curated:
    """All stages, those done that are not there yet."""
    home, device = settings.home / "stages", backbone.device
    images = embed(pool, backbone, size=settings.size, precision=settings.precision, home=home,
                   given=_given(settings), ranks=ranks, batch_size=settings.batch_size,
                   workers=settings.workers)  # fmt: skip
    hierarchy = cluster(images, settings.levels, rounds=settings.rounds, seed=settings.seed, home=home, ranks=ranks,
                        device=device)  # fmt: skip
    stage, dropped = drop(images, hierarchy, settings.duplicates, home=home, ranks=ranks)
    sampled = sample(hierarchy, dropped, settings.clustering, seed=settings.seed, home=home, after=stage.address,
                     ranks=ranks)  # fmt: skip
    retrieved = Retrieved(np.empty(0, int), np.empty(0, int), np.empty(0))
    if seeds is not None:
        rows = embed_few(seeds, backbone, size=settings.size, precision=settings.precision).numpy()
        after = identity(fingerprint(seeds), stage.address)
        neighbours = settings.retrieval.neighbours
        retrieved = retrieve(images, rows, neighbours, dropped, home=home, after=after, ranks=ranks)
    names = () if seeds is None else tuple(seeds.key(number) for number in range(len(seeds)))
    return Curated(hierarchy, dropped, sampled, retrieved, names)


def open_images(sets: dict[str, Set], settings: Curation, *, section: str) -> Pool:
    """The images of these sets, without those that they exclude, decoded anew at each use."""
    found = {}
    for name, one in sets.items():
        try:
            found[name] = open_one(name, one, cache=Path(settings.cache))
        except BadInput as error:
            raise BadInput(f"{section}.{name}: {error}") from error
    return Pool(found, "source", memory=0)


def plan(settings: Curation, pool: Pool, seeds: Pool | None, backbone: Backbone, ranks: Ranks) -> Iterator[str]:
    """What is there and what will be done, a line each."""
    yield f"curation {settings.name}: {settings.question}"
    yield from (f"source {told}" for told in pool.found().values())
    yield from (f"seeds {told}" for told in (seeds.found().values() if seeds else ()))
    yield from (
        f"{title}: {told}" for title, told in facts(settings, seeds or (), [x.clusters for x in settings.levels])
    )
    folder, done = whole_shards(pool, backbone, size=settings.size, precision=settings.precision,
                                home=settings.home / "stages", given=_given(settings))  # fmt: skip
    shared = f", shared by {ranks.world} processes" if ranks.world > 1 else ""
    yield f"embeddings: of {done:,} of {len(pool):,} images in {folder}; others are made on {backbone.device}{shared}"
    there = "; its manifest is there, of the same settings" if (settings.home / NAME).exists() else ""
    yield f"folder: {settings.home}{there}"


def _given(settings: Curation) -> Path | None:
    return Path(settings.embeddings) if settings.embeddings else None


def _refuse_beyond(settings: Curation, images: int) -> None:
    """Refuse what asks for more than the pool has."""
    if settings.levels[0].clusters > images:
        got = f"got levels[0].clusters={settings.levels[0].clusters} for {images} images"
        raise BadInput(f"{got}: want no more clusters than images; take fewer")
    if (settings.clustering.target or 0) > images:
        got = f"got clustering.target={settings.clustering.target} for {images} images"
        raise BadInput(f"{got}: want no more than the pool has; take fewer")
    if settings.retrieval.seeds and settings.retrieval.neighbours > images:
        got = f"got retrieval.neighbours={settings.retrieval.neighbours} for {images} images"
        raise BadInput(f"{got}: want no more than the pool has; take fewer")


def _seeds(settings: Curation, pool: Pool) -> Pool | None:
    if not settings.retrieval.seeds:
        return None
    seeds = open_images(settings.retrieval.seeds, settings, section="retrieval.seeds")
    refuse_unlike(seeds, pool, settings.data.sources, settings.retrieval.seeds)
    return seeds


if __name__ == "__main__":
    end(main())
