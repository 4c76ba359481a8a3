"""The one home of mmsegmentation, imported inside functions: areas, class lists, data-set definitions.

mmsegmentation's data-set module imports `mmcv.ops`, which the pure-Python `mmcv-lite` lacks. Where no real one is
installed, a stand-in with the names it asks for takes its place; each raises when it is called.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

_OPS = (
    "CrissCrossAttention",
    "DeformConv2d",
    "ModulatedDeformConv2d",
    "PSAMask",
    "point_sample",
    "sigmoid_focal_loss",
)


def intersect_and_union(
    prediction: Tensor | np.ndarray, label: Tensor | np.ndarray, *, num_classes: int, ignore_index: int = 255
) -> tuple[Int[np.ndarray, " C"], Int[np.ndarray, " C"], Int[np.ndarray, " C"], Int[np.ndarray, " C"]]:
    """Areas in pixels by class: intersection, union, prediction, truth (`IoUMetric.intersect_and_union`)."""
    guess, truth = (torch.as_tensor(x).cpu().long() for x in (prediction, label))
    areas = _metric_class().intersect_and_union(guess, truth, num_classes, ignore_index)
    intersect, union, guessed, labelled = (area.numpy().astype(np.int64) for area in areas)
    return intersect, union, guessed, labelled


def ade20k_classes() -> tuple[str, ...]:
    """The 150 classes of ADE20K's scene parsing, in mask order after the zero is taken off."""
    return tuple(definition("ADE20KDataset")["classes"])


def ade20k_palette() -> tuple[tuple[int, int, int], ...]:
    """The RGB colours, 0 to 255, that go with `ade20k_classes`."""
    return tuple((int(r), int(g), int(b)) for r, g, b in definition("ADE20KDataset")["palette"])


@cache
def definition(name: str) -> dict[str, Any]:
    """METAINFO of one of mmsegmentation's data sets, e.g. "ADE20KDataset" or "NYUDataset"."""
    with _quiet():
        _ensure_ops()
        datasets = importlib.import_module("mmseg.datasets")
    return dict(getattr(datasets, name).METAINFO)


@cache
def _metric_class() -> Any:
    with _quiet():
        return importlib.import_module("mmseg.evaluation").IoUMetric


def _ensure_ops() -> None:
    try:
        importlib.import_module("mmcv.ops")
    except ImportError:
        sys.modules["mmcv.ops"] = _stand_in()


def _stand_in() -> ModuleType:
    module = ModuleType("mmcv.ops", "Names of mmcv's compiled operations, none of which is installed.")
    module.__file__, module.__path__ = __file__, []
    for name in _OPS:
        setattr(module, name, _absent(name))
    return module


def _absent(name: str) -> type:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError(f"mmcv.ops.{name} needs compiled operations: install the full mmcv")

    # A class, since mmsegmentation hands some of these names to its registries as types
    return type(name, (), {"__new__": refuse})


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
