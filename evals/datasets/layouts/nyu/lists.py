"""NYU Depth v2 as BTS (Lee et al., arXiv 1907.10326) lays it out: file lists over JPEG and 16-bit PNG.

DINOv2's and DINOv3's depth evaluation (DINOv3, arXiv 2508.10104, app. D) reads these lists: 24,231 training images of
the raw recordings, synchronised, and the 654 test images of the labelled part with their measured depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.errors import BadInput, listing
from common.spread import spread
from evals.datasets.layouts.file_set import FileSet, Found
from evals.datasets.layouts.files import known_folder

TRAIN, TEST = "nyudepthv2_train_files_with_gt.txt", "nyudepthv2_test_files_with_gt.txt"
LISTS = {
    "train": (TRAIN, "nyu_train.txt"),
    "test": (TEST, "nyu_test.txt"),
}
PARTS = {"train": "train", "training": "train", "val": "test", "validation": "test", "test": "test"}
FOLDERS = {"train": ("", "sync", "train", "official_splits/train"), "test": ("", "test", "official_splits/test")}
LAYOUT = f"{TRAIN} over sync/SCENE/rgb_*.jpg and sync_depth_*.png, {TEST} over test/SCENE/ likewise"
PROBES = 50


def has_lists(root: Path) -> bool:
    """Whether the folder holds one of BTS's lists."""
    return any((root / name).is_file() for names in LISTS.values() for name in names)


class NyuList(FileSet):
    """The images of a list whose lines are `rgb_path depth_path focal_length`, as in "/den/rgb_00001.jpg …".

    Paths count from `root` or from its sub-folder sync, train or test (also below official_splits), whichever holds
    them, with or without a leading slash. Depth is 16 bits of millimetres, 0 = unknown. Lines whose depth is "None"
    and repeated ones are left out and counted in `skipped`.
    """

    kind = "nyu"
    without_mask = "masks: want a set with annotations/, as `evals/prepare.py nyu40` makes it; use that"

    def find(self, root: Path, split: str, classes: Sequence[str] | None) -> Found:
        known_folder(root, what="root", layout=LAYOUT)
        if classes is not None:
            raise BadInput(f"got classes for the file lists in {root}: want none, they have no masks; leave them out")
        self.list = list_of(root, split)
        pairs, self.skipped = read_list(self.list)
        base = _base(root, PARTS[split], self.list, pairs)
        found = [(base / image, base / depth) for image, depth in pairs]
        _refuse_missing(self.list, base, found)
        images, depths = zip(*found, strict=True)
        return Found(images, depths=depths)

    def notes(self) -> list[str]:
        return [f"{self.skipped} lines of {self.list} without depth, or repeated, are left out"] if self.skipped else []


def list_of(root: Path, split: str) -> Path:
    """The list of a split."""
    if split not in PARTS:
        raise BadInput(f"got split '{split}' for {root}: want one of {', '.join(PARTS)}; correct split")
    names = LISTS[PARTS[split]]
    found = next((root / name for name in names if (root / name).is_file()), None)
    if found is None:
        raise BadInput(
            f"got no {names[0]} in {root} for split '{split}': want {LAYOUT}; `evals/prepare.py nyu` makes it"
        )
    return found


def read_list(path: Path) -> tuple[list[tuple[str, str]], int]:
    """(image, depth) of each line, as paths without a leading slash, and how many lines are left out.

    Those are lines without depth ("None"), and repeated ones.
    """
    pairs: dict[str, str] = {}
    skipped = 0
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) < 2 or ".." in Path(fields[0]).parts + Path(fields[1]).parts:
            want = "want `rgb_path depth_path focal_length` below its folder"
            raise BadInput(f"got line {number} of {path}, {line.strip()[:80]!r}: {want}; correct it")
        image, depth = (field.lstrip("/") for field in fields[:2])
        if depth == "None" or image in pairs:
            skipped += 1
        else:
            pairs[image] = depth
    if not pairs:
        want = "want `rgb_path depth_path focal_length` in each line"
        raise BadInput(f"got no image with depth in {path}: {want}; fetch it again")
    return list(pairs.items()), skipped


def _base(root: Path, part: str, path: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    """The folder that the paths of a list count from: the one that holds most of a few of them."""
    probes = [image for image, _ in spread(pairs, PROBES)]
    held = {folder: sum((root / folder / image).is_file() for image in probes) for folder in FOLDERS[part]}
    best = max(held, key=lambda folder: held[folder])
    if not held[best]:
        tried = ", ".join(str(root / folder) for folder in held)
        some = listing(probes)
        raise BadInput(f"got none of the images of {path} ({some}) in {tried}: want {LAYOUT}; finish the download")
    return root / best


def _refuse_missing(path: Path, base: Path, found: Sequence[tuple[Path, Path]]) -> None:
    missing = [file for pair in found for file in pair if not file.is_file()]
    if missing:
        some = listing([file.relative_to(base).as_posix() for file in missing])
        got = f"got no file for {len(missing)} of the {2 * len(found)} names in {path} (in {base}: {some})"
        raise BadInput(f"{got}: want {LAYOUT}; finish the download")
