"""The one home of mmsegmentation, imported inside functions: metrics, class lists, data-set definitions, transforms.

mmsegmentation's data-set module imports `mmcv.ops`, which the pure-Python `mmcv-lite` lacks. Where no real one is
installed, a stand-in with the names it asks for takes its place; each raises when it is called.
"""

from __future__ import annotations

import importlib
import random
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

_OPS = (
    "CrissCrossAttention",
    "DeformConv2d",
    "ModulatedDeformConv2d",
    "PSAMask",
    "point_sample",
    "sigmoid_focal_loss",
)
LONG = 1 << 24  # a long side that no image reaches: the short side alone decides


def intersect_and_union(
    prediction: Tensor | np.ndarray, label: Tensor | np.ndarray, *, num_classes: int, ignore_index: int = 255
) -> tuple[Int[np.ndarray, " C"], Int[np.ndarray, " C"], Int[np.ndarray, " C"]]:
    """Areas in pixels by class: intersection, prediction, truth (`IoUMetric.intersect_and_union`)."""
    guess, truth = (torch.as_tensor(x).cpu().long() for x in (prediction, label))
    areas = metric("IoUMetric").intersect_and_union(guess, truth, num_classes, ignore_index)
    intersect, _, guessed, labelled = (area.numpy().astype(np.int64) for area in areas)
    return intersect, guessed, labelled


def ade20k_classes() -> tuple[str, ...]:
    """The 150 classes of ADE20K's scene parsing, in mask order after the zero is taken off."""
    # mmsegmentation writes 'bed '
    return tuple(name.strip() for name in definition("ADE20KDataset")["classes"])


@cache
def definition(name: str) -> dict[str, Any]:
    """METAINFO of one of mmsegmentation's data sets, e.g. "ADE20KDataset" or "NYUDataset"."""
    with _quiet():
        _ensure_ops()
        datasets = importlib.import_module("mmseg.datasets")
    return dict(getattr(datasets, name).METAINFO)


@cache
def metric(name: str) -> Any:
    """The class of one of mmsegmentation's metrics, e.g. "IoUMetric" or "DepthMetric"."""
    with _quiet():
        return getattr(importlib.import_module("mmseg.evaluation"), name)


@dataclass(frozen=True, kw_only=True)
class SegmentationViews:
    """How a training view for segmentation is drawn; lengths in pixels, intensities on a scale of 0 to 255."""

    short_side: int
    scale: tuple[float, float]  # range of the factor on the short side
    crop: int  # side of the square
    category_cap: float  # the largest share of labelled pixels that one class may have in a crop, in ten attempts
    flip: float
    brightness: int
    contrast: tuple[float, float]
    saturation: tuple[float, float]
    hue: int  # in OpenCV's units of two degrees


def segmentation_view(
    image: UInt8[np.ndarray, "H W 3"],
    mask: UInt8[np.ndarray, "H W"],
    views: SegmentationViews,
    *,
    seed: int,
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    """One view of an RGB image and its mask, at most `crop` high and wide: resized, cut, flipped, colours changed.

    By mmsegmentation's transforms, in the order of its ADE20K pipeline. The same seed gives the same view, and the
    global random states stay as they were.
    """
    results = {"img": image[:, :, ::-1], "gt_seg_map": mask, "seg_fields": ["gt_seg_map"]}
    found = _apply(_segmentation_transforms(views), results, seed)
    return np.ascontiguousarray(found["img"][:, :, ::-1]), np.ascontiguousarray(found["gt_seg_map"])


@dataclass(frozen=True, kw_only=True)
class DepthViews:
    """How a training view for depth is placed: rotation up to `degrees` either way, `crop` as (height, width)."""

    degrees: float
    rotate: float
    flip: float
    crop: tuple[int, int]


def depth_view(
    image: UInt8[np.ndarray, "H W 3"], depth: Float[np.ndarray, "H W"], views: DepthViews, *, seed: int
) -> tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "h w"]]:
    """One view of an RGB image and its depth, at most `crop` high and wide: rotated about the centre, flipped, cut.

    By mmsegmentation's transforms. What a rotation brings in is black and of unknown depth (0). The same seed gives the
    same view, and the global random states stay as they were.
    """
    results = {"img": image, "gt_depth_map": depth, "seg_fields": ["gt_depth_map"]}
    found = _apply(_depth_transforms(views), results, seed)
    return np.ascontiguousarray(found["img"]), np.ascontiguousarray(found["gt_depth_map"])


def resize_short(image: UInt8[np.ndarray, "H W 3"], side: int) -> UInt8[np.ndarray, "h w 3"]:
    """An image at this short side, aspect kept, as mmsegmentation resizes them (bilinear)."""
    return _resize(side).transform({"img": image})["img"]


def resize_depth(depth: Float[np.ndarray, "H W"], side: int) -> Float[np.ndarray, "h w"]:
    """A depth map at this short side, as mmsegmentation resizes them (nearest, so that unknown stays 0)."""
    results = {"gt_depth_map": depth, "seg_fields": ["gt_depth_map"], "img": np.zeros((*depth.shape, 1), np.uint8)}
    return _resize(side).transform(results)["gt_depth_map"]


def _resize(side: int) -> Any:
    return _transforms("Resize")(scale=(LONG, side), keep_ratio=True)


def _apply(transforms: Sequence[Any], results: dict[str, Any], seed: int) -> dict[str, Any]:
    with _seeded(seed):
        for transform in transforms:
            results = transform.transform(results)
    return results


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """mmsegmentation's transforms draw from the global states alone: these start from the seed and are put back."""
    numbers, plain = np.random.get_state(), random.getstate()  # noqa: NPY002
    key = np.random.SeedSequence(seed).generate_state(4)
    np.random.seed(key)  # noqa: NPY002
    random.seed(int(key[0]))
    try:
        yield
    finally:
        np.random.set_state(numbers)  # noqa: NPY002
        random.setstate(plain)


@cache
def _segmentation_transforms(views: SegmentationViews) -> tuple[Any, ...]:
    return (
        _transforms("RandomResize")(
            scale=(LONG, views.short_side), ratio_range=views.scale, resize_type=_transforms("Resize"), keep_ratio=True
        ),
        _transforms("RandomCrop")(crop_size=(views.crop, views.crop), cat_max_ratio=views.category_cap),
        _transforms("RandomFlip")(prob=views.flip),
        _transforms("PhotoMetricDistortion")(
            brightness_delta=views.brightness,
            contrast_range=views.contrast,
            saturation_range=views.saturation,
            hue_delta=views.hue,
        ),
    )


@cache
def _depth_transforms(views: DepthViews) -> tuple[Any, ...]:
    return (
        _transforms("RandomRotate")(prob=views.rotate, degree=views.degrees, pad_val=0, seg_pad_val=0),
        _transforms("RandomFlip")(prob=views.flip),
        _transforms("RandomCrop")(crop_size=views.crop),
    )


@cache
def _transforms(name: str) -> Any:
    with _quiet():
        _ensure_ops()
        module = importlib.import_module("mmseg.datasets.transforms")
        plain = importlib.import_module("mmcv.transforms")
    return getattr(module, name, None) or getattr(plain, name)


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
