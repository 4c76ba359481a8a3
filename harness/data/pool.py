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
from evals.datasets.inventory import line
from evals.datasets.labelled_set import LabelledSet
from evals.datasets.reading import UnfitFiles
from evals.datasets.settings import open_one
from evals.datasets.subset import places_of
from harness.data_settings import Components, Data

MEMORY = 1 << 30  # bytes


class Fault(NamedTuple):
    """Why an image cannot be read, and the setting of its source that would read it where size alone forbids it."""

    told: str
    megapixels: int | None = None


class Pool:
    """One index space over sources, in their order; decoded images are kept up to `memory` bytes.

    components: name -> sorted indices. By image class they are called "source/class"; a source without classes is one
    component under its own name, and a class without images is none. Images that are `excluded`, source -> keys, keep
    their place, so that no draw changes: where one of them is drawn, the next of its component is taken.

    Raises BadInput for no source or an empty one, and for keys that a source has not, or that leave a component empty.
    """

    def __init__(
        self,
        sources: Mapping[str, LabelledSet],
        components: Components = "image_class",
        *,
        excluded: Mapping[str, Sequence[str]] | None = None,
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
        self._instead = self._stand_ins()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def key(self, index: int) -> str:
        """ "source/key", unique in the pool and stable between runs."""
        which, within = self._place(index)
        return f"{self._names[which]}/{self._sets[which].key(within)}"

    def image(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3]. Raises BadInput naming the source and file of an image that cannot be read."""
        index = self._instead.get(index, index)
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        image = self._read(index)
        if image.nbytes <= self._room:
            self._room -= image.nbytes
            self._kept[index] = image
        return image

    def preload(self) -> None:
        """Decodes until the memory is full: before worker processes start, so that they share what is kept."""
        for index in Bar(range(len(self)), desc="decoding", unit="image", lines=False):
            if self.image(index).nbytes > self._room:
                return

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

    def is_excluded(self, index: int) -> bool:
        """Whether another image is taken where this one is drawn."""
        return index in self._instead

    def fault(self, index: int) -> Fault | None:
        """Why an image cannot be read, whether it is excluded or not; None where it can."""
        try:
            self._decoded(index)
        except TooLarge as error:
            return Fault(found(error), error.megapixels)
        except UnfitFiles as error:  # names what to set
            return Fault(str(error).removeprefix("got "))
        except BadInput as error:
            return Fault(found(error))
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

    def _stand_ins(self) -> dict[int, int]:
        """For each excluded index the next one of its component that is not, around its end."""
        out = set(self.places(self.excluded))
        found: dict[int, int] = {}
        for part, members in self.components.items() if out else ():
            kept = np.array([index not in out for index in members.tolist()])
            if not kept.any():
                raise BadInput(
                    f"got every image of {part} in data.sources.{part.partition('/')[0]}.exclude: want one left at "
                    "least; choose classes without it"
                )
            rest = members[kept]
            for index in members[~kept].tolist():
                found[index] = int(rest[np.searchsorted(rest, index) % len(rest)])
        return found

    def _place(self, index: int) -> tuple[int, int]:
        which = int(np.searchsorted(self._starts, index, side="right")) - 1
        return which, int(index - self._starts[which])

    def _read(self, index: int) -> np.ndarray:
        try:
            return self._decoded(index)
        except UnfitFiles:  # names what to set for all
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
    labels = np.array([source.label(index) for index in range(len(source))])
    parts = {f"{name}/{title}": np.flatnonzero(labels == label) for label, title in enumerate(source.classes)}
    return {part: members for part, members in parts.items() if len(members)}


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
    return Pool(sources, settings.components, excluded=excluded, memory=memory)


class Pools:
    """The pools of an experiment, each opened once however many arms draw from it."""

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache
        self._open: dict[str, Pool] = {}

    def __call__(self, settings: Data) -> Pool:
        key = repr((settings.sources, settings.components))
        if key not in self._open:
            self._open[key] = open_pool(settings, cache=self._cache)
        return self._open[key]
