"""Prepares NYU Depth v2 from its public downloads: as BTS lays it out, and its labelled part in ADE20K's layout."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common.errors import BadInput, listing
from evals.datasets.labelled_set import IGNORE
from evals.datasets.layouts.nyu.lists import TEST, TRAIN
from evals.datasets.layouts.nyu.mat import NyuMat
from evals.datasets.preparing.archive import unpack
from evals.datasets.preparing.downloads import LABELLED, MAPPING, SPLITS, SYNC, find, look_for
from evals.datasets.preparing.target import Target

FOCAL = 518.8579  # pixels, of the Kinect's colour camera; the third column of BTS's lists
FRAME = (480, 640)
INSIDE = (slice(7, 474), slice(7, 632))  # what BTS leaves of a frame: undistortion gave it a white border
FRAMES = re.compile(r"(?:^|/)([^/.][^/]*)/((?:rgb|sync_depth)_\d+\.(?:jpg|png))$")


def prepare(downloads: Path, target: Target) -> None:
    """Fill the target with BTS's layout: test/ from the labelled file; sync/ for training, or train/ without it."""
    labelled, sync = look_for(downloads, LABELLED), look_for(downloads, SYNC)
    if labelled is None and sync is None:
        find(downloads, LABELLED)
    if labelled is not None:
        find(downloads, SPLITS)
        _write_list(target, TEST, _convert(labelled, "test", target), downloads)
    if sync is not None:
        pairs = _pairs(_gather(sync, target), sync)
        _write_list(target, TRAIN, pairs, downloads)
    elif labelled is not None:
        _write_list(target, TRAIN, _convert(labelled, "train", target), None)
        print(f"{TRAIN}: the labelled part alone; published numbers train on {SYNC.names[0]}, see above")


def prepare_40(downloads: Path, target: Target) -> None:
    """Fill the target with images/, annotations/ (1 to 39, 0 = ignore) and depth/ (mm) of the labelled part."""
    labelled = find(downloads, LABELLED)
    find(downloads, SPLITS)
    find(downloads, MAPPING)
    for split, folder in (("train", "training"), ("test", "validation")):
        dataset = NyuMat(labelled, split)
        names = [f"{folder}/{dataset.key(index)}.png" for index in range(len(dataset))]
        target.need_room(target.count_missing([f"depth/{name}" for name in names]) * 3 * FRAME[0] * FRAME[1])
        for index in _counted(dataset):
            mask = dataset.mask(index)
            target.put_picture(f"images/{names[index]}", dataset.image(index))
            target.put_picture(f"annotations/{names[index]}", np.where(mask == IGNORE, 0, mask + 1).astype(np.uint8))
            target.put_picture(f"depth/{names[index]}", millimetres(dataset.depth(index)))


def millimetres(depth: np.ndarray) -> np.ndarray:
    """uint16 [H, W] from metres: whole millimetres, the fraction cut off as BTS does."""
    return np.clip(depth * np.float32(1000), 0, 65535).astype(np.uint16)


def framed(image: np.ndarray) -> np.ndarray:
    """A frame with its border made black, as BTS does; images of another size than the sensor's stay as they are."""
    if image.shape[:2] != FRAME:
        return image
    black = np.zeros_like(image)
    black[INSIDE] = image[INSIDE]
    return black


def _convert(labelled: Path, split: str, target: Target) -> list[tuple[str, str]]:
    """Write the images of a split as BTS names them, numbered from 0; (image, depth) of each."""
    dataset = NyuMat(labelled, split)
    pairs = [_names(dataset.room(index), int(dataset.key(index)) - 1) for index in range(len(dataset))]
    target.need_room(target.count_missing([f"{split}/{depth}" for _, depth in pairs]) * 2 * FRAME[0] * FRAME[1])
    for index in _counted(dataset):
        image, depth = pairs[index]
        target.put_picture(f"{split}/{image}", framed(dataset.image(index)))
        target.put_picture(f"{split}/{depth}", millimetres(dataset.depth(index)))
    return pairs


def _names(room: str, number: int) -> tuple[str, str]:
    return f"{room}/rgb_{number:05d}.jpg", f"{room}/sync_depth_{number:05d}.png"


def _counted(dataset: NyuMat) -> Iterator[int]:
    yield from tqdm(range(len(dataset)), desc=f"converting {dataset.split}", unit="image", disable=None)


def _gather(sync: Path, target: Target) -> list[str]:
    """Bring the synchronised frames below sync/; their names there, as SCENE/FILE."""
    if sync.is_file():
        places = unpack(sync, target, chosen=place_of, want=SYNC)
        return [place.removeprefix("sync/") for place in places]
    names = sorted(f"{match[1]}/{match[2]}" for path in sync.glob("*/*") if (match := FRAMES.search(path.as_posix())))
    if not names:
        raise BadInput(f"got no rgb_*.jpg in the folders of {sync}: want {SYNC}; fetch it again")
    for name in tqdm(names, desc="linking sync", unit="file", disable=None):
        target.link(f"sync/{name}", sync / name)
    return names


def place_of(name: str) -> str | None:
    """Where a member of sync.zip belongs, None where it is no frame."""
    found = None if "__MACOSX" in name else FRAMES.search(name)
    return f"sync/{found[1]}/{found[2]}" if found else None


def _pairs(names: list[str], sync: Path) -> list[tuple[str, str]]:
    """Each image with the depth of its number; images without are named and left out."""
    there = set(names)
    images = [name for name in names if "/rgb_" in name]
    pairs = [(name, re.sub(r"/rgb_(\d+)\.\w+$", r"/sync_depth_\1.png", name)) for name in images]
    found = [pair for pair in pairs if pair[1] in there]
    alone = [image for image, depth in pairs if depth not in there]
    if not found:
        raise BadInput(f"got no rgb_*.jpg with its sync_depth_*.png in {sync}: want {SYNC}; fetch it again")
    if alone:
        print(f"{len(alone)} images without depth are left out: {listing(alone)}")
    return found


def _write_list(target: Target, name: str, pairs: list[tuple[str, str]], downloads: Path | None) -> None:
    """The list as published where it is among the downloads, else one of all pairs, in order of their paths."""
    published = downloads / name if downloads else None
    if published is not None and published.is_file():
        target.put_bytes(name, published.read_bytes())
        return
    lines = [f"/{image} /{depth} {FOCAL}\n" for image, depth in sorted(pairs)]
    target.put_bytes(name, "".join(lines).encode())
    if downloads is not None and name == TRAIN:
        print(f"{name}: all {len(pairs)} pairs; published numbers train on those of BTS's list of this name, see above")
