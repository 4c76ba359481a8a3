"""The table of sets that can be prepared: from which downloads, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evals.datasets.catalogue import KNOWN
from evals.datasets.preparing import ade20k, nyu
from evals.datasets.preparing.downloads import LABELLED, MAPPING, SCENE_PARSING, SPLITS, SYNC, TRAIN_LIST, Download
from evals.datasets.preparing.target import Target


@dataclass(frozen=True)
class Preparation:
    """Something to prepare: from which downloads, how, and the name and tasks under which it is evaluated."""

    downloads: tuple[Download, ...]
    prepare: Callable[[Path, Target], None]
    known: str
    evals: str


TASKS = {
    "ade20k": Preparation((SCENE_PARSING,), ade20k.prepare, "ade20k", "ade20k"),
    "nyu": Preparation((LABELLED, SPLITS, SYNC, TRAIN_LIST), nyu.prepare, "nyu", "nyu"),
    "nyu40": Preparation((LABELLED, SPLITS, MAPPING), nyu.prepare_40, "nyuv2", "segmentation@nyuv2 depth@nyuv2"),
}
CHECKED = tuple(dict.fromkeys((*KNOWN, *TASKS)))
