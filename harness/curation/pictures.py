"""Gathers what the PDF of a curation shows: counts by source, sizes of clusters, and a few images of each part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized

import numpy as np
from PIL import Image

from common.command import number_of
from common.draws import philox
from harness.curation.lowest import BLOCK, Points, lowest
from harness.curation.manifest import Curated
from harness.curation.sampling import members_of
from harness.curation.settings import Curation
from harness.data.pool import Pool
from reports.curation.story import Picture, Sheet, Sizes, Story, Strip

SIDE = 96  # pixels of a small image
ACROSS = 14
CLUSTERS, PAIRS, SEEDS = 36, 42, 12  # that are shown


def story(settings: Curation, pool: Pool, seeds: Pool | None, found: Curated) -> Story:
    """All that the pages show."""
    clusters = [found.hierarchy.clusters(number + 1) for number in range(len(settings.levels))]
    columns = ("source", "images", "near-duplicates", "sampled", "retrieved", "kept", "share before", "after")
    return Story(
        name=str(settings.name),
        question=settings.question,
        facts=[("source", settings.source), ("expected", settings.expected), *facts(settings, found.seeds, clusters)],
        columns=columns,
        rows=_table(pool, found),
        sizes=_sizes(found),
        sheets=[_clusters(pool, found), _duplicates(pool, found), *_retrieved(pool, seeds, found)],
    )


def facts(settings: Curation, seeds: Sized, clusters: Sequence[int]) -> list[tuple[str, str]]:
    """What is asked for, stage by stage, by its title; `clusters` of each level."""
    levels = " → ".join(f"{count:,}" for count in clusters)
    again = ", ".join(f"{level.resamplings} × {level.closest}" for level in settings.levels)
    target, members = settings.clustering.target, settings.clustering.members
    taken = "drawn from each cluster" if members == "random" else "those closest to each centroid"
    sampled = "none" if target is None else f"{target:,} images asked for, {taken}"
    brought = f"{settings.retrieval.neighbours} neighbours of each of {len(seeds)} seeds" if len(seeds) else "none"
    alike = settings.duplicates
    same = "kept" if alike is None else f"dropped from a cosine of {alike:g} on, within clusters of level 1"
    return [
        ("backbone", f"{settings.backbone}, centre crops of {settings.size} px"),
        ("clusters", f"{levels} from the images upwards; resamplings × closest points: {again}"),
        ("near-duplicates", same),
        ("sampling", sampled),
        ("retrieval", brought),
    ]


def _table(pool: Pool, found: Curated) -> list[list[str]]:
    """A row for each source and one for all: images, what of them was dropped and kept, their shares."""
    ends = np.cumsum([len(one) for one in pool.sources.values()])
    parts = (found.dropped.images, found.sampled.images, found.retrieved.images, found.kept)
    counts = [np.diff([0, *ends])]
    counts += [np.bincount(np.searchsorted(ends, part, side="right"), minlength=len(ends)) for part in parts]
    rows = []
    for name, *own in [*zip(pool.sources, *counts, strict=True), ("all", *(part.sum() for part in counts))]:
        shares = (own[0] / max(counts[0].sum(), 1), own[-1] / max(counts[-1].sum(), 1))
        rows.append([name, *(f"{count:,}" for count in own), *(f"{share:.1%}" for share in shares)])
    return rows


def _sizes(found: Curated) -> list[Sizes]:
    after = found.hierarchy.path(members_of(found.hierarchy, found.kept))
    before, sizes = found.hierarchy.levels[0].array("sizes"), []
    for level in range(1, len(found.hierarchy.levels) + 1):
        sizes.append(Sizes(level, before, np.bincount(after[:, level - 1], minlength=len(before))))
        above = found.hierarchy.parents(level)
        before = np.bincount(above, weights=before, minlength=above.max() + 1).astype(int)
    return sizes


def _clusters(pool: Pool, found: Curated) -> Sheet:
    """Some images of the largest clusters of the top level, those that are kept first."""
    top = _sizes(found)[-1]
    shown = np.argsort(-top.before, kind="stable")[:CLUSTERS]
    quota = np.zeros(len(top.before), int)
    quota[shown] = ACROSS
    some = lowest(_scored(found), quota)
    strips = []
    for cluster in shown.tolist():
        images = some.indices[some.groups == cluster]
        title = f"cluster {cluster}: {number_of(int(top.before[cluster]), 'image')}, {top.after[cluster]:,} kept"
        strips.append(Strip(title, [Picture(_small(pool, int(image))) for image in images]))
    more = f"; {len(top.before) - len(shown)} smaller ones are not shown" if len(shown) < len(top.before) else ""
    return Sheet("Clusters of the top level", f"Drawn from each, images that are kept before others{more}.", strips)


def _scored(found: Curated) -> Iterator[Points]:
    for number, start in enumerate(range(0, len(found.hierarchy.members), BLOCK)):
        path = found.hierarchy.path(found.hierarchy.members[start : start + BLOCK])
        drawn = philox(0, number, "curation/shown").random(len(path))
        images = start + np.arange(len(path))
        yield Points(path[:, -1], drawn - np.isin(images, found.kept), images)


def _duplicates(pool: Pool, found: Curated) -> Sheet:
    """Pairs from the least alike to the most alike: what the threshold takes away."""
    order = np.argsort(found.dropped.cosines, kind="stable")
    order = order[np.unique(np.linspace(0, len(order) - 1, min(PAIRS, len(order))).astype(int))]
    pairs = [(found.dropped.twins[at], found.dropped.images[at], found.dropped.cosines[at]) for at in order]
    strips = []
    for first in range(0, len(pairs), ACROSS // 2):
        own = pairs[first : first + ACROSS // 2]
        pictures = [
            one
            for twin, image, cosine in own
            for one in (
                Picture(_small(pool, int(twin)), "stays", marked=True),
                Picture(_small(pool, int(image)), f"cosine {cosine:.3f}"),
            )
        ]
        strips.append(Strip(f"cosines of {own[0][2]:.3f} to {own[-1][2]:.3f}", pictures))
    told = f"{len(found.dropped.images):,} images repeat one that stays (framed, left of it)"
    least = f"; {len(pairs)} of them, the least alike first" if len(pairs) < len(found.dropped.images) else ""
    return Sheet("Near-duplicates that were dropped", f"{told}{least}.", strips)


def _retrieved(pool: Pool, seeds: Pool | None, found: Curated) -> Iterator[Sheet]:
    """Some seeds, each with those images that are nearest to it and to no other seed."""
    if seeds is None:
        return
    strips = []
    for seed in np.unique(np.linspace(0, len(seeds) - 1, SEEDS).round().astype(int)).tolist():
        own = np.flatnonzero(found.retrieved.seeds == seed)
        own = own[np.argsort(-found.retrieved.cosines[own], kind="stable")][: ACROSS - 1]
        pictures = [Picture(_small(seeds, seed), "seed", marked=True)]
        for at in own:
            words = f"cosine {found.retrieved.cosines[at]:.3f}"
            pictures.append(Picture(_small(pool, int(found.retrieved.images[at])), words))
        strips.append(Strip(found.seeds[seed], pictures))
    told = f"{number_of(len(found.retrieved.images), 'image')}; each stands with the seed that it is nearest to"
    some = f"; {len(strips)} of {len(seeds):,} seeds" if len(strips) < len(seeds) else ""
    yield Sheet("What seeds brought in", f"{told}{some}.", strips)


def _small(pool: Pool, index: int) -> np.ndarray:
    """The centre square of an image, small."""
    image = pool.image(index)
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    square = Image.fromarray(image[top : top + side, left : left + side])
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def words(pool: Pool, found: Curated) -> str:
    """What became of the pool, in one line."""
    return (
        f"{len(pool):,} images: {len(found.dropped.images):,} near-duplicates, {len(found.sampled.images):,} sampled, "
        f"{len(found.retrieved.images):,} retrieved, {len(found.kept):,} kept"
    )
