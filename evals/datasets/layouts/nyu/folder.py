"""NYU Depth v2 (Silberman, Hoiem, Kohli, Fergus, ECCV 2012): file lists, a folder of files, or the labelled .mat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evals.datasets.labelled_set import LabelledSet
from evals.datasets.layouts.ade20k import assumed_list, pixel_classes, split_images, stray_notes
from evals.datasets.layouts.file_set import FileSet, Found
from evals.datasets.layouts.files import Passed
from evals.datasets.layouts.nyu.lists import NyuList, has_lists
from evals.datasets.layouts.nyu.mat import MAT_NAME, NyuMat
from evals.datasets.layouts.partners import partners

FOLDER_LAYOUT = "images/{training,validation}/*.jpg beside depth/{training,validation}/*.png"
LAYOUT = f"nyudepthv2_{{train,test}}_files_with_gt.txt with their files, {FOLDER_LAYOUT}, or {MAT_NAME}"


def open_nyu(root: Path, split: str = "train", **rest: Any) -> LabelledSet:
    """The set in the form that `root` has: BTS's file lists, a folder of images and depth, or the .mat file."""
    if root.suffix == ".mat":
        return NyuMat(root, split, **rest)
    if not (root / "images").is_dir():
        if has_lists(root):
            return NyuList(root, split, **rest)
        if (root / MAT_NAME).is_file():
            return NyuMat(root / MAT_NAME, split, **rest)
    return NyuFolder(root, split, **rest)


class NyuFolder(FileSet):
    """images/<split>/NAME.jpg beside depth/<split>/NAME.png: 16 bits, millimetres, 0 = unknown.

    Where annotations/<split> is there too, its pixel classes are read as ADE20K's are, by default with the 39 names
    of NYU40.
    """

    kind = "nyu"
    assumed = ""  # as Ade20k's

    def find(self, root: Path, split: str, classes: Sequence[str] | None) -> Found:
        passed = Passed()
        images = split_images(root, split, passed, layout=LAYOUT)
        self.assumed = assumed_list(self.reading, classes, images, "nyu40")
        part = images[0].parent.name
        self._beside = [root / "depth" / part, root / "annotations" / part]
        depths = partners(images, self._beside[0], what="depth", layout=FOLDER_LAYOUT)
        masked = classes is not None or self._beside[1].is_dir()
        masks = partners(images, self._beside[1], what="annotation", layout=FOLDER_LAYOUT) if masked else []
        segments = pixel_classes(self.reading, classes, "nyu40") if masked else ()
        self.without_mask = f"masks: want {root / 'annotations'}; add it or leave segmentation out"
        return Found(images, masks=masks, depths=depths, segments=segments, passed=passed)

    def notes(self) -> list[str]:
        return stray_notes(self._images[0].parent, *(folder for folder in self._beside if folder.is_dir()))
