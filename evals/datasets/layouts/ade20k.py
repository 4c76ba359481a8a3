"""Segmentation sets in the layout of ADE20K: images/<split>/NAME.jpg beside annotations/<split>/NAME.png."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.errors import BadInput, listing
from evals.datasets.labelled_set import IGNORE
from evals.datasets.layouts.file_set import FileSet, Found
from evals.datasets.layouts.files import Passed, folders_in, images_in, known_folder, split_folder
from evals.datasets.layouts.partners import partners, strays
from evals.datasets.reading import Reading

LAYOUT = "images/{training,validation}/*.jpg beside annotations/{training,validation}/*.png"
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


def pixel_classes(reading: Reading, classes: Sequence[str] | None, default: str) -> tuple[str, ...]:
    """The classes of a set's masks: those that `values` or `palette` names, ordered by `classes`, or else these."""
    named = reading.named()
    if not named:
        return segment_names(classes, default)
    names = segment_names(named if classes is None else classes, default)
    if odd := [name for name in (*named, *names) if (name in named) != (name in names)]:
        place, key = ("classes", "values or palette")[:: 1 if odd[0] in names else -1]
        raise BadInput(f"got class '{odd[0]}' in {place} alone: want the same names in {key}; correct one of them")
    return names


def split_images(root: Path, split: str, passed: Passed, *, layout: str = LAYOUT) -> list[Path]:
    """The images of a split, from `root`/images/`split`; `passed` takes down what else lies there.

    `layout` is what an error says should be there.
    """
    folder = known_folder(root, what="root", layout=layout) / "images"
    if not folder.is_dir():
        below = next((part for part in folders_in(root) if (part / "images").is_dir()), None)
        hint = f"did you mean {below}?" if below else "correct the path or finish the download"
        raise BadInput(f"got image folder {folder} (missing): want {layout}; {hint}")
    part = split_folder(folder, split)
    if part is None:
        part = known_folder(folder / split, what="image folder", layout=layout)
    images = images_in(part, passed)
    for inside in folders_in(part):
        passed.add("folder", inside)
    if not images:
        want = f"want files like .jpg or .png ({layout})"
        raise BadInput(f"got no image in {part}: {want}; correct the path or split, or finish the download")
    stems: dict[str, Path] = {}
    for path in images:
        if path.stem in stems:
            raise BadInput(f"got {stems[path.stem]} and {path.name}: want one image of a name; remove one of them")
        stems[path.stem] = path
    return images


def stray_notes(images: Path, *folders: Path) -> list[str]:
    """A sentence for each folder beside `images` that holds files without an image."""
    found = [(folder, strays(images, folder)) for folder in folders]
    return [
        f"files in {folder} without an image in {images}: {len(lone)} ({listing([path.name for path in lone])})"
        for folder, lone in found
        if lone
    ]


def assumed_list(reading: Reading, classes: Sequence[str] | None, images: Sequence[Path], default: str) -> str:
    """The known list that stands for classes of which nobody told the names; "" where files, too, say that it is it."""
    told = classes is not None or bool(reading.named()) or (default == "ade20k" and images[0].stem.startswith("ADE_"))
    return "" if told else default


class Ade20k(FileSet):
    """Images with pixel classes; `classes` are their names, a known list as ["nyu40"], or by default ADE20K's 150.

    As published (ADEChallengeData2016), 0 in a mask is "other objects" and ignored; `Reading` says how others count.
    """

    kind = "ade20k"
    assumed = ""  # the list of classes that is taken for want of one

    def find(self, root: Path, split: str, classes: Sequence[str] | None) -> Found:
        passed = Passed()
        images = split_images(root, split, passed)
        self.assumed = assumed_list(self.reading, classes, images, "ade20k")
        self._beside = root / "annotations" / images[0].parent.name
        masks = partners(images, self._beside, what="annotation", layout=LAYOUT)
        return Found(images, masks=masks, segments=pixel_classes(self.reading, classes, "ade20k"), passed=passed)

    def notes(self) -> list[str]:
        return stray_notes(self._images[0].parent, self._beside)
