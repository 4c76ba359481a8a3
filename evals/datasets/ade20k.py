"""Segmentation sets in the layout of ADE20K: images/<split>/NAME.jpg beside annotations/<split>/NAME.png."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evals.datasets.base import IGNORE
from evals.datasets.files import (
    digest,
    images_in,
    known_folder,
    opened,
    partners,
    read_rgb,
    same_size,
    split_folder,
    spread,
)
from evals.errors import BadInput

# fmt: off
NYU40 = (  # class 40, otherprop, is ignored
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture",
    "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes",
    "ceiling", "books", "refrigerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard",
    "person", "night stand", "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture",
)
CAMVID = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car", "pedestrian", "bicyclist",
)
# fmt: on


def _ade20k_names() -> tuple[str, ...]:
    from evals.mmseg_bridge import ade20k_classes

    return tuple(ade20k_classes())


NAMED = {"ade20k": _ade20k_names, "nyu40": lambda: NYU40, "camvid": lambda: CAMVID}


def segment_names(classes: Sequence[str] | None, default: str) -> tuple[str, ...]:
    """The pixel classes: the given names, or a known list by its name alone, as in ["nyu40"]."""
    chosen = [default] if classes is None else list(classes)
    names = NAMED[chosen[0]]() if len(chosen) == 1 and chosen[0] in NAMED else tuple(chosen)
    if not 1 < len(names) < IGNORE:
        known = ", ".join(NAMED)
        want = f"want 2 to 254 names or one of {known}"
        raise BadInput(f"got {len(names)} classes {list(names)}: {want}; correct classes")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInput(f"got class '{twice}' twice: want distinct names; correct classes")
    return names


def split_images(root: Path, split: str) -> list[Path]:
    """The images of a split, from `root`/images/`split`."""
    folder = known_folder(known_folder(root, what="root") / "images", what="image folder")
    part = split_folder(folder, split)
    if part is None:
        part = known_folder(folder / split, what="image folder")
    images = images_in(part)
    if not images:
        raise BadInput(f"got no image in {part}: want files like .jpg or .png; correct root or split")
    stems: dict[str, Path] = {}
    for path in images:
        if path.stem in stems:
            raise BadInput(f"got {stems[path.stem]} and {path.name}: want one image of a name; remove one of them")
        stems[path.stem] = path
    return images


def read_mask(path: Path, names: Sequence[str]) -> np.ndarray:
    """uint8 [H, W] from an 8-bit annotation: 0 and 255 become `IGNORE`, v becomes class v - 1."""
    with opened(path) as image:
        if image.mode not in ("L", "P"):
            raise BadInput(f"got {path} in mode {image.mode}: want an 8-bit mask of one channel; convert it")
        values = np.array(image)
    labelled = values[values != IGNORE]
    top = int(labelled.max(initial=0))
    if top > len(names):
        raise BadInput(f"got value {top} in {path}: want 0 to {len(names)} (one per class) or 255; correct classes")
    values[values == 0] = IGNORE
    values[values != IGNORE] -= 1
    return values


class Ade20k:
    """Images with pixel classes; `classes` are their names, a known list as ["nyu40"], or by default ADE20K's 150."""

    classes: tuple[str, ...] = ()
    has_depth = False

    def __init__(
        self,
        root: Path,
        split: str = "train",
        *,
        name: str | None = None,
        count: int | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        images = split_images(root, split)
        masks = partners(images, root / "annotations" / images[0].parent.name, what="annotation")
        self.root, self.split, self.name = root, split, name or root.resolve().name
        self.segments = segment_names(classes, "ade20k")
        self._images, self._masks = spread(images, count), spread(masks, count)

    def __len__(self) -> int:
        return len(self._images)

    def key(self, index: int) -> str:
        return self._images[index].relative_to(self.root).as_posix()

    def image(self, index: int) -> np.ndarray:
        return read_rgb(self._images[index])

    def label(self, index: int) -> int:
        raise BadInput(f"got set '{self.name}' without image classes: want kind folder or scenes; correct kind")

    def mask(self, index: int) -> np.ndarray:
        mask = read_mask(self._masks[index], self.segments)
        same_size(self._masks[index], (mask.shape[0], mask.shape[1]), self._images[index])
        return mask

    def depth(self, index: int) -> np.ndarray:
        raise BadInput(f"got set '{self.name}' without depth: want kind nyu or scenes; correct kind")

    def fingerprint(self) -> str:
        return digest([*self._images, *self._masks], "ade20k", self.segments)
