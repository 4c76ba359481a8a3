"""What is kept of a few test images so that features can be drawn: arrays of each checkpoint, and each image once.

Two kinds of file, both of arrays without pickle and with a record in JSON that says what they are: `features.npz` of a
checkpoint, in the folder of its step, and `images-N.npz` of the N images and what is known of them, in that of its
segment. Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.bounds import Natural
from common.disk import whole
from common.errors import BadInput, first_line
from common.records import read_line

FOLDER, FEATURES = "pictures", "features.npz"
FORMAT = 1
RECORD = "about"


class ImageKey(NamedTuple):
    """Which image of which set."""

    dataset: str
    split: str
    key: str


@dataclass(frozen=True)
class About:
    """The record: of which weights, at which short side of the input in pixels, and for each image in turn which it is.

    segmentation, depth: by set, as `nyuv2/val`, the protocol of the head that predicted (name and hash), where one did.
    segments: by set, the names of the pixel classes.
    """

    format: Natural
    size: Natural
    images: list[ImageKey]
    backbone: str = ""
    segmentation: dict[str, str] = field(default_factory=dict)
    depth: dict[str, str] = field(default_factory=dict)
    segments: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """An image as the backbones saw it, uint8 [H W 3], but small, and what is known of it at the same pixels.

    segmentation: uint8 [H W], pixel classes, 255 where there is none.
    depth: float16 [H W] in metres, 0 where unknown.
    """

    image: np.ndarray
    segmentation: np.ndarray | None = None
    depth: np.ndarray | None = None


@dataclass(frozen=True)
class Seen:
    """What a checkpoint makes of an image: its patches, float16 [h w D], and what its heads predict as in `Known`.

    Depth is NaN where it was not judged.
    """

    features: np.ndarray
    segmentation: np.ndarray | None = None
    depth: np.ndarray | None = None


# By array: its types, and the number of its dimensions
ARRAYS = {"image": ("|u1", 3), "features": ("<f2", 3), "segmentation": ("|u1", 2), "depth": ("<f2", 2)}


def set_name(image: ImageKey) -> str:
    """The set that an image is of, as records name it."""
    return f"{image.dataset}/{image.split}"


def features_path(step: Path, evaluations: str) -> Path:
    """Where the features of a step lie, below its folder; `evaluations` is the identity of what asked for them."""
    return step / FOLDER / evaluations / FEATURES


def images_folder(segment: Path, evaluations: str) -> Path:
    """Where the images lie, below the folder of a segment."""
    return segment / FOLDER / evaluations


def save(path: Path, about: About, found: Mapping[ImageKey, Known] | Mapping[ImageKey, Seen]) -> None:
    """Write one of the two files, whole or not at all; equal arrays give equal bytes. Raises `Unwritable`."""
    arrays = {RECORD: np.array(json.dumps(asdict(about)))}
    for number, image in enumerate(about.images):
        given = {name: array for name, array in vars(found[image]).items() if array is not None}
        arrays |= {f"{number}/{name}": array.astype(ARRAYS[name][0]) for name, array in given.items()}
    with whole(path) as new, new.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_record(path: Path) -> About:
    """The record of either file alone. Raises BadInput, one line, where it is not as it was saved."""
    return _load(path, ())[0]


def load_known(path: Path) -> tuple[About, dict[ImageKey, Known]]:
    """The images of `images-N.npz`. Raises BadInput, one line, where it is not as it was saved."""
    about, arrays = _load(path, None)
    return about, {image: Known(**_of(path, arrays[image], "image")) for image in about.images}


def load_seen(path: Path, wanted: Collection[ImageKey] | None = None) -> tuple[About, dict[ImageKey, Seen]]:
    """What a checkpoint makes of the wanted images that its file holds, of all by default; others are not read.

    Raises BadInput, one line, where it is not as it was saved.
    """
    about, arrays = _load(path, wanted)
    return about, {image: Seen(**_of(path, own, "features")) for image, own in arrays.items()}


def _load(path: Path, wanted: Collection[ImageKey] | None) -> tuple[About, dict[ImageKey, dict[str, np.ndarray]]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            about = read_line(str(archive[RECORD]).encode(), About)
            numbers = {str(number): image for number, image in enumerate(about.images)}
            chosen = {number: image for number, image in numbers.items() if wanted is None or image in wanted}
            found: dict[ImageKey, dict[str, np.ndarray]] = {image: {} for image in chosen.values()}
            for place in archive.files:
                number, _, name = place.partition("/")
                if number in chosen:
                    found[chosen[number]][name] = archive[place]
    except Exception as error:  # damage is a dozen kinds of error in zipfile, zlib, tokenize and numpy
        said = first_line(error)
        raise BadInput(f"got unreadable pictures {path} ({said}): want what an evaluation wrote; remove it") from error
    if about.format != FORMAT:
        raise BadInput(f"got pictures {path} of format {about.format}: want {FORMAT}; use a newer version")
    return about, found


def _of(path: Path, arrays: dict[str, np.ndarray], first: str) -> dict[str, np.ndarray]:
    """The arrays of an image, the first of which must be there. Raises BadInput."""
    wrong = next(_wrong(arrays, first), "")
    if wrong:
        raise BadInput(f"got pictures {path} with {wrong}: want what an evaluation wrote; remove it")
    return {name: arrays[name] for name in (first, "segmentation", "depth") if name in arrays}


def _wrong(arrays: dict[str, np.ndarray], first: str) -> Iterator[str]:
    if first not in arrays:
        yield f"an image without {first}"
    for name, array in arrays.items():
        if name in ARRAYS and ((array.dtype.str, array.ndim) != ARRAYS[name] or not array.size):
            yield f"{name} of type {array.dtype} and shape {array.shape}"
    if first == "image" and first in arrays:
        for name, array in arrays.items():
            if name in ARRAYS and array.shape[:2] != arrays[first].shape[:2]:
                yield f"{name} of shape {array.shape} beside an image of {arrays[first].shape}"
    elif first in arrays and not np.isfinite(arrays[first]).all():
        yield "features that are not finite"
