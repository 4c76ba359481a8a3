"""The public downloads: what they are called, how large they are, and where their makers publish them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.errors import BadInput
from evals.datasets.layouts.nyu.lists import TRAIN
from evals.datasets.layouts.nyu.mat import BYTES, MAT_NAME, SPLIT_FILES
from evals.datasets.layouts.nyu.mat import MAPPING as MAPPING_NAME


@dataclass(frozen=True)
class Contents:
    """What an archive holds at most that is the published one, rounded up: files, their bytes, bytes of one file."""

    files: int
    total: int
    largest: int


@dataclass(frozen=True)
class Download:
    """A file to fetch. `size` is for people; `names` are those under which it is found, its own name first."""

    names: tuple[str, ...]
    what: str
    size: str
    page: str
    contents: Contents | None = None

    def __str__(self) -> str:
        return f"{self.names[0]}, {self.what}, {self.size}, from {self.page}"


SCENE_PARSING = Download(
    ("ADEChallengeData2016.zip",),
    "ADE20K scene parsing, 150 classes",
    "0.9 GB",
    "http://sceneparsing.csail.mit.edu (http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip)",
    Contents(files=44_500, total=2 * 10**9, largest=16 * 10**6),
)
LABELLED = Download(
    (MAT_NAME,),
    "NYU Depth v2, labelled part: 1449 images",
    f"2.8 GB ({BYTES:,} bytes)",
    "https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html",
)
SPLITS = Download(
    SPLIT_FILES,
    "its official split, 795 training and 654 test images",
    "2.6 kB",
    "http://horatio.cs.nyu.edu/mit/silberman/indoor_seg_sup/splits.mat or https://github.com/ankurhanda/nyuv2-meta-data",
)
MAPPING = Download(
    (MAPPING_NAME,),
    "its 894 labels as 40 classes (Gupta et al., CVPR 2013)",
    "a few kB",
    "https://github.com/ankurhanda/nyuv2-meta-data",
)
SYNC = Download(
    ("sync.zip", "sync"),
    "NYU Depth v2, raw recordings synchronised for training by BTS",
    "some GB",
    "https://github.com/cleinc/bts/tree/master/pytorch",
    Contents(files=200_000, total=32 * 10**9, largest=4 * 10**6),
)
TRAIN_LIST = Download(
    (TRAIN,),
    "BTS's list of 24,231 training images",
    "1.9 MB",
    "https://github.com/cleinc/bts/tree/master/train_test_inputs",
)


def look_for(folder: Path, download: Download) -> Path | None:
    """The download in a folder, or None."""
    return next((folder / name for name in download.names if (folder / name).exists()), None)


def find(folder: Path, download: Download) -> Path:
    """The download in a folder; `BadInput` says what it is and where to fetch it."""
    found = look_for(folder, download)
    if found is None:
        state = "" if folder.is_dir() else " (no folder)"
        raise BadInput(f"got no {download.names[0]} in {folder}{state}: want {download}; fetch it, or correct --from")
    return found
