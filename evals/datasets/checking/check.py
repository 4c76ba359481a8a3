"""Reads every file of a set and says all that is wrong with it at once, before anything is computed on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from common.errors import listing
from common.progress import Bar
from evals.datasets.catalogue import KNOWN, Known, part_of
from evals.datasets.checking.depth_look import ROOM, is_rooms, no_known_depth, odd_median, unknown_way
from evals.datasets.checking.mask_look import absent, is_whole, refuse_absent, refuse_one_class, refuse_unclear_base
from evals.datasets.checking.problems import Problems
from evals.datasets.decoding.mask_file import told_reading
from evals.datasets.labelled_set import IGNORE, LabelledSet
from evals.datasets.layouts.ade20k import segment_names
from evals.datasets.layouts.file_set import FileSet
from evals.datasets.layouts.files import SPLIT_NAMES, usual_split


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a set holds. `pixels` counts by pixel class; `unmasked` and `without_depth` count images without any valid
    pixel; `depth` is the range in metres and `median` that of the images' medians, 0 where the set has none. `partial`
    says what of a published set is missing, "" where nothing is; `warnings` are sentences for the user."""

    name: str
    split: str
    images: int
    segments: tuple[str, ...]
    pixels: tuple[int, ...]
    ignored: int
    unmasked: int
    depth: tuple[float, float]
    median: float
    without_depth: int
    partial: str
    warnings: tuple[str, ...]
    look: str = ""  # at what of its images is not told by every file alike, as their levels
    counted: str = ""  # how values of masks became classes
    outside: str = ""  # how much of the known depth does not count

    def __str__(self) -> str:
        told = [f"{self.name}/{self.split}: {self.images} images, all readable", *filter(None, [self.look])]
        if self.segments:
            share = self.ignored / max(self.ignored + sum(self.pixels), 1)
            counted = f" ({self.counted})" if self.counted else ""
            classes = f"{sum(map(bool, self.pixels))} of {len(self.segments)} pixel classes{counted}"
            told.append(f"{classes}, {share:.1%} unlabelled")
        if self.depth[1]:
            room = f"(rooms: {ROOM})" if is_rooms(self.median) else f"(unlike a room's {ROOM})"
            told.append(f"depth {self.depth[0]:.2f} to {self.depth[1]:.2f} m, median {self.median:.2f} m {room}")
        if self.outside:
            told.append(self.outside)
        if self.without_depth:
            told.append(f"images without depth: {self.without_depth}")
        notes = [self.partial] if self.partial else []
        return "\n  note: ".join([", ".join(told), *notes, *self.warnings])


def check(dataset: LabelledSet, *, known: str | None = None, valid: tuple[float, float] | None = None) -> Checked:
    """Read every image, mask and depth map of a set once.

    All problems together are one `BadInput`, a line for each kind: unreadable files, masks and depth of another size or
    mode than wanted, values that no class has, and a list of classes of which a whole training split lacks more than
    half. `known` is
    the name of a public set whose size it should have; without it, sets with ADE20K's 150 classes are compared with
    that one. `valid` are the metres, exclusive, between which depth counts.
    """
    tally = _Tally(dataset, valid)
    for index in Bar(range(len(dataset)), desc=f"checking {dataset.name}/{dataset.split}", unit="image"):
        tally.see(dataset, index)
    tally.refuse(dataset)
    lacking = absent(dataset, tally.pixels)
    if dataset.split in SPLIT_NAMES[0]:  # a held-out split may lack classes
        refuse_absent(dataset, lacking)
    named = KNOWN[known] if known else _by_classes(dataset)
    return Checked(
        name=dataset.name,
        split=dataset.split,
        images=len(dataset),
        segments=dataset.segments,
        pixels=tuple(int(count) for count in tally.pixels[: len(dataset.segments)]),
        ignored=int(tally.pixels[IGNORE]),
        unmasked=tally.unmasked,
        depth=(tally.near if dataset.has_depth else 0.0, tally.far),
        median=tally.median,
        without_depth=tally.without_depth,
        partial=_partial(dataset, named) if named and is_whole(dataset) else "",
        warnings=tuple(_warnings(dataset, tally, lacking)),
        look=str(dataset.look) if isinstance(dataset, FileSet) else "",
        counted=told_reading(dataset.reading) if isinstance(dataset, FileSet) else "",
        outside=tally.outside_valid(),
    )


class _Tally:
    """Counts over the images seen so far, and what was wrong with them."""

    def __init__(self, dataset: LabelledSet, valid: tuple[float, float] | None) -> None:
        self._valid, self._known, self._outside = valid, 0, 0
        self.problems = Problems(dataset)
        self.pixels = np.zeros(256, dtype=np.int64)
        self.unmasked = self.without_depth = 0
        self.near, self.far = np.inf, 0.0
        self.medians: list[float] = []

    def see(self, dataset: LabelledSet, index: int) -> None:
        """Count one image in."""
        attempt = self.problems.attempt
        attempt("image", index)
        if dataset.classes:
            attempt("label", index)
        if dataset.segments and (mask := attempt("mask", index)) is not None:
            counts = np.bincount(mask.ravel(), minlength=256)
            self.pixels += counts
            self.unmasked += not counts[:IGNORE].any()
        if dataset.has_depth and (depth := attempt("depth", index)) is not None:
            self._measure(depth[depth > 0])

    def _measure(self, known: np.ndarray) -> None:
        self.without_depth += not known.size
        if known.size:
            self.near, self.far = min(self.near, float(known.min())), max(self.far, float(known.max()))
            self.medians.append(float(np.median(known)))
            self._known += known.size
            low, high = self._valid or (0, np.inf)
            self._outside += np.count_nonzero((known <= low) | (known >= high))

    def outside_valid(self) -> str:
        """How much of the known depth does not count, in words; "" where nothing tells what does."""
        if not (self._valid and self._known):
            return ""
        share = f"{self._outside / self._known:.2%}" if self._outside else "none"
        return f"{share} of it outside {self._valid[0]:g} to {self._valid[1]:g} m"

    @property
    def median(self) -> float:
        """Metres: over images, of each image's median."""
        return float(np.median(self.medians)) if self.medians else 0.0

    def refuse(self, dataset: LabelledSet) -> None:
        """Raise one `BadInput` over all problems, or over a set without any content, if there are any."""
        self.problems.refuse()
        if dataset.segments and self.unmasked == len(dataset):
            if isinstance(dataset, FileSet):
                refuse_unclear_base(dataset, self.pixels)
            refuse_one_class(dataset, self.pixels)
        if dataset.has_depth and self.without_depth == len(dataset):
            raise no_known_depth(dataset, len(dataset))


def _by_classes(dataset: LabelledSet) -> Known | None:
    named = PurePosixPath(dataset.key(0)).stem.startswith("ADE_")
    return KNOWN["ade20k"] if named and dataset.segments == segment_names(None, "ade20k") else None


def _partial(dataset: LabelledSet, known: Known) -> str:
    """What a published set has more than this one: the number of images and, where they are numbered, which."""
    told = part_of(dataset, known)
    if told and known.stem:
        split = usual_split(dataset.split)
        here = {PurePosixPath(dataset.key(index)).stem for index in range(len(dataset))}
        numbered = [known.stem.format(split=split, number=number + 1) for number in range(max(known.published[split]))]
        missing = [stem for stem in numbered if stem not in here]
        told += f": {listing(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    return told


def _warnings(dataset: LabelledSet, tally: _Tally, lacking: list[str]) -> list[str]:
    found = dataset.notes() if isinstance(dataset, FileSet) else []
    if lacking:
        found.append(f"{len(lacking)} of {len(dataset.segments)} classes never occur ({listing(lacking)})")
    if tally.unmasked:
        found.append(f"images without a labelled pixel: {tally.unmasked}")
    if tally.medians and (odd := odd_median(tally.median)):
        found.append(odd)
    if way := unknown_way(dataset, tally.far):
        found.append(f"the farthest depth is {tally.far:g} m: {way}")
    return found
