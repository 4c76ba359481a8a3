"""Prepares ADE20K's scene-parsing set in its published layout, from its archive or an unpacked copy of it."""

from __future__ import annotations

import re
from pathlib import Path

from tqdm import tqdm

from common.errors import BadInput
from evals.datasets.layouts.ade20k import LAYOUT
from evals.datasets.layouts.files import known_folder
from evals.datasets.preparing.archive import unpack
from evals.datasets.preparing.downloads import SCENE_PARSING, find
from evals.datasets.preparing.target import Target

PLACE = re.compile(r"(?:^|/)((?:images|annotations)/(?:training|validation)/[^/.][^/]*\.(?:jpg|png))$")
LISTS = re.compile(r"(?:^|/)((?:objectInfo150|sceneCategories)\.txt)$")
FOLDER = "ADEChallengeData2016"


def prepare(downloads: Path, target: Target) -> None:
    """Fill the target with images/ and annotations/ from ADEChallengeData2016.zip, or from the unpacked folder."""
    if downloads.suffix == ".zip" or (downloads / SCENE_PARSING.names[0]).is_file():
        archive = downloads if downloads.suffix == ".zip" else find(downloads, SCENE_PARSING)
        if not archive.is_file():
            raise BadInput(f"got no file {archive}: want {SCENE_PARSING}; fetch it, or correct --from")
        unpack(archive, target, chosen=place_of, want=SCENE_PARSING)
        return
    source = next((folder for folder in (downloads, downloads / FOLDER) if (folder / "images").is_dir()), None)
    if source is None:
        find(downloads, SCENE_PARSING)
    else:
        _link(source, target)


def place_of(name: str) -> str | None:
    """Where a member of the archive belongs, None where it is no part of the set."""
    found = None if "__MACOSX" in name else PLACE.search(name) or LISTS.search(name)
    return found[1] if found else None


def _link(source: Path, target: Target) -> None:
    for part in ("images", "annotations"):
        for split in ("training", "validation"):
            known_folder(source / part / split, what=f"unpacked {part}", layout=LAYOUT)
    names = sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
    chosen = [name for name in names if place_of(name) == name]
    for name in tqdm(chosen, desc=f"linking {source.name}", unit="file", disable=None):
        target.link(name, source / name)
