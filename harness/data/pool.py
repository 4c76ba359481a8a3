"""Several named sets as one pool of training images, with the components that batches can be drawn from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.errors import BadInput, found
from common.progress import Bar
from evals.datasets.decoding.image_file import TooLarge
from evals.datasets.decoding.unreadable import is_unreadable
from evals.datasets.inventory import line
from evals.datasets.labelled_set import LabelledSet
from evals.datasets.layouts.shards.places import ShardFault
from evals.datasets.reading import UnfitFiles
from evals.datasets.settings import open_one
from evals.datasets.subset import places_of
from harness.data.stand_ins import StandIns
from harness.data_settings import Components, Data, Unreadable

MEMORY = 1 << 30  # bytes


class Fault(NamedTuple):
    """Why an image cannot be read, the setting of its source that would read it where size alone forbids it, and
    whether its file itself is at fault, so that it may be skipped."""

    told: str
    megapixels: int | None = None
    skippable: bool = False


class Pool:
    """One index space over sources, in their order; decoded images are kept up to `memory` bytes.

    components: name -> sorted indices. By image class they are called "source/class"; a source without classes is one
    component under its own name, and a class without images is none. Images that are `excluded`, source -> keys, keep
    their place, so that no draw changes: where one of them is drawn, the next of its component is taken. So it is for
    images that turn out to be unreadable, where these are to be `skipped`.

    Raises BadInput for no source or an empty one, and for keys that a source has not, or that leave a component empty.
    """

    def __init__(
        self,
        sources: Mapping[str, LabelledSet],
        components: Components = "image_class",
        *,
        excluded: Mapping[str, Sequence[str]] | None = None,
        unreadable: Unreadable = "stop",
        memory: int = MEMORY,
    ) -> None:
        if not sources:
            raise BadInput("got no training source: want at least one; set data.sources.<name>.kind")
        for name, source in sources.items():
            if len(source) == 0:
                raise BadInput(f"got no image in source {name!r}: want at least one; check its root, split and classes")
        self.sources = dict(sources)
        self._sets = list(self.sources.values())
        self._names = list(self.sources)
        self._starts = np.cumsum([0, *map(len, self._sets)])
        self._room = memory
        self._kept: dict[int, np.ndarray] = {}
        self.components: dict[str, np.ndarray] = {}
        for start, (name, source) in zip(self._starts, self.sources.items(), strict=False):
            parts = _by_class(name, source) if components == "image_class" else {name: np.arange(len(source))}
            self.components |= {part: start + members for part, members in parts.items()}
        self.excluded = {name: tuple(dict.fromkeys(keys)) for name, keys in (excluded or {}).items() if keys}
        self._skips = unreadable == "skip"
        self.stand_in = StandIns(self.components, self.places(self.excluded))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def key(self, index: int) -> str:
        """ "source/key", unique in the pool and stable between runs."""
        which, within = self._place(index)
        return f"{self._names[which]}/{self._sets[which].key(within)}"

    def image(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3]. Raises BadInput naming the source and file of an image that cannot be read, unless skipped.

        What cannot be read is read once more before it is skipped: a disk may have failed for a moment.
        """
        failed: int | None = None
        while True:
            at = self.stand_in(index)
            kept = self._kept.get(at)
            if kept is not None:
                return kept
            try:
                image = self._read(at)
            except BadInput as error:
                if not (self._skips and is_unreadable(error)) or at == failed:
                    raise
                failed = at
                self.skip_unreadable([at])
                continue
            if image.nbytes <= self._room:
                self._room -= image.nbytes
                self._kept[at] = image
            return image

    def skip_unreadable(self, indices: Iterable[int]) -> None:
        """Take others, from now on, in place of those of these images that cannot be read."""
        for index in indices:
            fault = None if index in self.stand_in.skipped else self.fault(index)
            if fault and fault.skippable:
                self.stand_in.skipped[index] = fault.told

    def preload(self) -> None:
        """Decodes until the memory is full: before worker processes start, so that they share what is kept."""
        for index in Bar(range(len(self)), desc="decoding", unit="image", lines=False):
            if self.image(index).nbytes > self._room:
                break
        self.stand_in.met()  # nothing was drawn

    def keep_no_more(self) -> None:
        """What is kept stays, nothing is added: for worker processes, whose copies would add up."""
        self._room = 0

    def source(self, index: int) -> str:
        """The name of the source that an image is from."""
        return self._names[self._place(index)[0]]

    @property
    def whole_sources(self) -> dict[str, np.ndarray]:
        """Name of a source -> sorted indices of its images."""
        ends = zip(self._names, self._starts.tolist(), self._starts[1:].tolist(), strict=False)
        return {name: np.arange(start, stop) for name, start, stop in ends}

    def located(self, index: int) -> tuple[str, int]:
        """The name of the source that an image is from, and its number there."""
        which, within = self._place(index)
        return self._names[which], within

    def index(self, source: str, place: int) -> int | None:
        """The index of an image, by its source and its number there; None where there is none."""
        if source not in self.sources or not 0 <= place < len(self.sources[source]):
            return None
        return int(self._starts[self._names.index(source)]) + place

    def is_excluded(self, index: int) -> bool:
        """Whether another image is taken where this one is drawn."""
        return index in self.stand_in.excluded

    def fault(self, index: int) -> Fault | None:
        """Why an image cannot be read, whether it is excluded or not; None where it can. Raises ShardFault."""
        try:
            self._decoded(index)
        except TooLarge as error:
            return Fault(found(error), error.megapixels)
        except ShardFault:  # of no image
            raise
        except UnfitFiles as error:  # names what to set
            return Fault(str(error).removeprefix("got "))
        except BadInput as error:
            return Fault(found(error), skippable=is_unreadable(error))
        return None

    def remedy(self, indices: Iterable[int]) -> str:
        """The settings that leave these images out as well, as words of a command line."""
        lists: dict[str, list[str]] = {}
        for which, within in map(self._place, indices):
            name = self._names[which]
            listed = lists.setdefault(name, [_quoted(key) for key in self.excluded.get(name, ())])
            listed.append(_quoted(self._sets[which].key(within)))
        return " ".join(f'"data.sources.{name}.exclude=[{",".join(listed)}]"' for name, listed in lists.items())

    def places(self, keys: Mapping[str, Sequence[str]]) -> list[int]:
        """The indices of images, source -> keys. Raises BadInput for keys that a source has not."""
        starts = dict(zip(self._names, self._starts.tolist(), strict=False))
        return [starts[name] + at for name, own in keys.items() for at in places_of(self.sources[name], own)]

    def found(self) -> dict[str, str]:
        """A line for each source: what it holds, and what was passed over."""
        lines = {}
        for name, source in self.sources.items():
            count = sum(part == name or part.startswith(f"{name}/") for part in self.components)
            whole = source.found()
            out = self.excluded.get(name, ())
            skipped = {**whole.skipped, **({"excluded": out} if out else {})}
            told = replace(whole, images=whole.images - len(out), skipped=skipped)
            lines[name] = line(f"{name}/{source.split}", told, components=count)
        return lines

    def _place(self, index: int) -> tuple[int, int]:
        which = int(np.searchsorted(self._starts, index, side="right")) - 1
        return which, int(index - self._starts[which])

    def _read(self, index: int) -> np.ndarray:
        """Writable, as torch asks for, though nobody writes to it."""
        try:
            return np.require(self._decoded(index), requirements=["C", "W"])
        except (UnfitFiles, ShardFault):  # names what to do for all
            raise
        except BadInput as error:
            got = str(error).rpartition("; ")[0]
            raise BadInput(f"{got}; set {self.remedy([index])} to go on without it") from error

    def _decoded(self, index: int) -> np.ndarray:
        which, within = self._place(index)
        try:
            image = self._sets[which].image(within)
        except BadInput:
            raise
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise BadInput(f"cannot read image {self.key(index)}: {error}; replace or remove the file") from error
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            got = f"{image.dtype} {list(image.shape)}"
            raise BadInput(f"image {self.key(index)} is {got}: want uint8 [H, W, 3]; replace or remove the file")
        return image


def _by_class(name: str, source: LabelledSet) -> dict[str, np.ndarray]:
    if not source.classes:
        return {name: np.arange(len(source))}
    given = getattr(source, "labels", None)  # of sets with too many images to ask for each
    labels = np.array([source.label(index) for index in range(len(source))]) if given is None else given
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=len(source.classes)))
    parts = zip(source.classes, np.split(order, ends[:-1]), strict=True)
    return {f"{name}/{title}": members for title, members in parts if len(members)}


def fingerprint(pool: Pool) -> str:
    """Hex over the names and contents of all sources; another order of sources is another pool."""
    parts = [[name, source.split, source.fingerprint()] for name, source in pool.sources.items()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _quoted(key: str) -> str:
    """A key as an element of a list, on a command line and in YAML."""
    return key if re.fullmatch(r"[\w./+-]+", key) else "'{}'".format(key.replace("'", r"\'"))


def open_pool(settings: Data, *, cache: Path | None = None, memory: int = MEMORY) -> Pool:
    """The pool of `data.sources`; cache: folder for what sets keep between runs. Raises BadInput as they do."""
    sources, faults = {}, []
    for name, one in settings.sources.items():
        try:
            sources[name] = open_one(name, one, cache=cache, leave_out=False)
        except BadInput as error:
            faults.append(f"data.sources.{name}: {error}")
    if faults:
        raise BadInput("\n".join(faults))
    excluded = {name: one.exclude for name, one in settings.sources.items()}
    return Pool(sources, settings.components, excluded=excluded, unreadable=settings.unreadable, memory=memory)


class Pools:
    """The pools of an experiment, each opened once however many arms draw from it."""

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache
        self._open: dict[str, Pool] = {}

    def __call__(self, settings: Data) -> Pool:
        key = repr((settings.sources, settings.components, settings.unreadable))
        if key not in self._open:
            self._open[key] = open_pool(settings, cache=self._cache)
        return self._open[key]
