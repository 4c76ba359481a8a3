from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common import draws
from common.errors import BadInput
from evals.datasets.catalogue import open_set
from evals.datasets.labelled_set import LabelledSet
from evals.fitting import augmented
from evals.protocols.reading import load
from evals.results import bootstrap
from evals.tasks.segmentation.published import (
    PublishedSegmentation,
    batch_of,
    drop_channels,
    evaluate,
    fit,
    fresh_head,
    judge,
    loss_of,
    metrics,
    options_at,
    pixel_loss,
    rate_at,
)
from tests.evals.published_checks import assert_equal_from_workers, untouched
from tests.evals.toys import pixels, tiny_vit

PALETTE = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250], [250, 250, 20], [20, 250, 250]], dtype=np.uint8)
CLASSES = len(PALETTE)
PLAIN = {"scale": (1.0, 1.0), "brightness": 0, "contrast": (1.0, 1.0), "saturation": (1.0, 1.0), "hue": 1}
TINY = {"size": 32, "iterations": 4, "batch_size": 3, "warmup": 1, "validate_every": 4, "rate": 0.05}


class Painted:
    """Images whose colours name the class of each pixel; `truth` [n H W] may say something else."""

    name, split, classes, has_depth = "painted", "val", (), False
    segments = tuple("abcde")

    def __init__(self, painted: np.ndarray, truth: np.ndarray | None = None) -> None:
        self.images, self.masks = PALETTE[painted], painted.astype(np.uint8) if truth is None else truth

    def __len__(self) -> int:
        return len(self.images)

    def key(self, index: int) -> str:
        return f"image-{index}"

    def image(self, index: int) -> np.ndarray:
        return self.images[index]

    def mask(self, index: int) -> np.ndarray:
        return self.masks[index]


def painted(images: int = 6, shape: tuple[int, int] = (32, 45), seed: int = 0) -> np.ndarray:
    """Class maps [n H W] in which every pixel is drawn on its own: nothing can be interpolated."""
    return np.random.default_rng(seed).integers(0, CLASSES, (images, *shape))


def reader(patches: Tensor) -> Tensor:
    """The oracle: logits by the distance to the colour of each class."""
    colours = torch.from_numpy(PALETTE).float() / 255
    return -(patches[:, None] - colours[None, :, :, None, None]).square().sum(2)


def settings(**changes: Any) -> PublishedSegmentation:
    return load("segmentation-standard", PublishedSegmentation, **(TINY | changes))


def miou(outcomes: dict[str, np.ndarray]) -> float:
    return bootstrap.interval("miou", outcomes, resamples=2).value


@pytest.fixture(scope="module")
def scenes() -> tuple[LabelledSet, LabelledSet]:
    train, test = (open_set("scenes", split=split, size=32, count=5) for split in ("train", "val"))
    return train, test


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 1e-9), (750, 4.906e-4), (1499, 9.619e-4), (1500, 9.965e-4), (20_000, 5.0e-4), (39_999, 0.0)]
)
def test_the_rate_has_the_published_values(step: int, rate: float):
    protocol = load("segmentation-standard", PublishedSegmentation)
    assert rate_at(protocol, step) == pytest.approx(rate, rel=2e-4, abs=1e-11)


def test_the_published_views_are_squares_of_512_and_the_windows_move_by_341():
    protocol = load("segmentation-standard", PublishedSegmentation)
    assert (protocol.views.short_side, protocol.views.crop) == (512, 512)
    assert (round(protocol.window * 512), round(protocol.window_stride * 512)) == (512, 341)


@pytest.mark.parametrize("shape", [(32, 32), (32, 45), (70, 32)])
def test_an_oracle_is_all_right_through_the_sliding_windows(shape: tuple[int, int]):
    truth = painted(shape=shape)
    masks = truth.astype(np.uint8)
    masks[:, :5] = 255
    found = judge(settings(window=0.5, window_stride=0.3), pixels(), reader, Painted(truth, masks))
    assert {
        metric: bootstrap.interval(metric, found, resamples=2).value for metric in metrics(settings())
    } == dict.fromkeys(metrics(settings()), 1.0)
    assert found["truth"].sum() == (masks != 255).sum()
    assert found["keys"].tolist() == [f"image-{i}" for i in range(6)]


def test_an_oracle_is_all_right_on_training_views_and_has_no_loss_but_where_something_is_unlabelled():
    """Crops, flips and filling up move images and masks together."""
    protocol = settings(dropout=0.0, crop=1.25, **PLAIN)
    data = Painted(painted(shape=(32, 60)))
    batch = batch_of(data, protocol, 0)
    assert batch.images.shape == (3, 40, 40, 3)
    assert batch.sides.tolist() == [[32, 40]] * 3
    assert (batch.targets[:, 32:] == 255).all()
    guess = reader(augmented.pictures(batch.images, batch.sides, pixels())).argmax(1)
    assert torch.equal(guess[:, :32], batch.targets[:, :32].long())
    sure = partial(loss_of, protocol, pixels(), lambda patches: 1000 * reader(patches))
    assert sure(0, batch) == 0
    shares = [
        float((batch_of(data, protocol, step).images[:, :, 0, 0] != batch.images[:, :, 0, 0]).float().mean())
        for step in (0, 1)
    ]
    assert shares[0] == 0 < shares[1]


def test_an_oracle_that_reads_another_image_scores_chance():
    """Of K equally frequent classes a blind guess hits 1/K of the pixels: IoU = (1/K²) / (2/K − 1/K²) = 1 / (2K − 1).

    25,920 independent pixels: the mean over five classes has a standard error below 0.0015.
    """
    truth = painted(images=18, seed=1)
    wrong = Painted(painted(images=18, seed=2), truth.astype(np.uint8))
    assert miou(judge(settings(), pixels(), reader, wrong)) == pytest.approx(1 / (2 * CLASSES - 1), abs=0.006)


def test_the_loss_is_cross_entropy_over_all_pixels_ignored_ones_in_the_denominator():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 5, 6, generator=draw).requires_grad_()
    masks = torch.randint(0, 4, (3, 10, 12), generator=draw).to(torch.uint8)
    masks[0, :5], masks[2] = 255, 255
    to_pixels = partial(F.interpolate, size=(10, 12), mode="bilinear", align_corners=False)
    ours = pixel_loss(logits, masks, to_pixels)
    ours.backward()
    gradient, logits.grad = logits.grad, None
    plain = F.cross_entropy(to_pixels(logits), masks.long(), ignore_index=255, reduction="none").mean()
    plain.backward()
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(gradient, logits.grad)
    assert plain.item() < F.cross_entropy(to_pixels(logits), masks.long(), ignore_index=255).item()


def test_dropout_takes_whole_features_and_keeps_the_mean():
    patches = torch.ones(20, 500, 2, 3)
    dropped = drop_channels(patches, 0.1, draws.torch_generator(0, "dropout"))
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.9])
    assert (dropped.amax((2, 3)) == dropped.amin((2, 3))).all()
    assert float(dropped.mean()) == pytest.approx(1, abs=0.02)
    assert torch.equal(dropped, drop_channels(patches, 0.1, draws.torch_generator(0, "dropout")))
    assert torch.equal(drop_channels(patches, 0.0, draws.torch_generator(0, "dropout")), patches)


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(workers: int, scenes: tuple[LabelledSet, LabelledSet]):
    assert_equal_from_workers(partial(batch_of, scenes[0], settings()), workers)


def test_a_head_learns_and_leaves_everything_else_as_it_was(scenes: tuple[LabelledSet, LabelledSet]):
    protocol = settings(iterations=60, batch_size=4, warmup=5, validate_every=25)
    backbone = tiny_vit()
    backbone.model.train()
    with untouched(backbone):
        head = fresh_head(protocol, backbone, len(scenes[0].segments))
        outcomes = fit(protocol, backbone, head, *scenes)

    start = fresh_head(protocol, backbone, len(scenes[0].segments))
    assert miou(outcomes) > 1.4 * miou(judge(protocol, backbone, start, scenes[1]))
    batch = batch_of(scenes[0], protocol, 1000)
    losses = [loss_of(protocol, backbone, one, 0, batch).item() for one in (head, start)]
    assert losses[0] < 0.8 * losses[1]


def test_the_backbone_predicts_and_trains_in_the_precision_of_the_protocol(scenes: tuple[LabelledSet, LabelledSet]):
    full, backbone = settings(), tiny_vit()
    half = dataclasses.replace(full, precision="bfloat16")
    head = fresh_head(full, backbone, len(scenes[0].segments))
    areas = [judge(protocol, backbone, head, scenes[1])["predicted"] for protocol in (full, half)]
    assert not np.array_equal(*areas)
    batch = batch_of(scenes[0], full, 0)
    assert loss_of(full, backbone, head, 0, batch) != loss_of(half, backbone, head, 0, batch)


def test_the_best_validation_is_kept_and_its_head_is_the_one_that_is_watched(scenes: tuple[LabelledSet, LabelledSet]):
    """A rate that first learns and then ruins the head: what is kept beats what it ends with."""
    protocol, backbone = settings(iterations=12, warmup=0, validate_every=1), tiny_vit()
    seen: dict[int, np.ndarray] = {}
    best = evaluate(protocol, backbone, *scenes, watch=seen.__setitem__)
    ends = [miou(evaluate(dataclasses.replace(protocol, validate_every=every), backbone, *scenes)) for every in (12, 5)]
    assert miou(best) >= max(ends)
    assert miou(best) > min(ends)
    assert sorted(seen) == list(range(5))
    known = scenes[1].mask(3) != 255
    assert (seen[3] == scenes[1].mask(3))[known].sum() == best["intersect"][3].sum()


CHANGES: dict[str, Any] = {
    "size": 40,
    "precision": "bfloat16",
    "seed": 1,
    "scale": (0.5, 1.0),
    "crop": 0.75,
    "category_cap": 0.2,
    "flip": 0.0,
    "brightness": 5,
    "contrast": (0.9, 1.1),
    "saturation": (0.9, 1.1),
    "hue": 60,
    "dropout": 0.5,
    "init_std": 0.1,
    "iterations": 5,
    "batch_size": 2,
    "weight_decay": 0.5,
    "clip": 0.01,
    "validate_every": 1,
    "window": 0.7,
    "window_stride": 0.2,
}
SCHEDULE: dict[str, Any] = {"rate": 0.01, "betas": (0.5, 0.999), "warmup": 3, "warmup_ratio": 0.5}
OUTSIDE = {"name", "version", "train_images", "test_images"}  # who asks for an evaluation cuts the sets


@pytest.fixture(scope="module")
def trace(scenes: tuple[LabelledSet, LabelledSet]) -> Callable[..., bytes]:
    """The bytes of the head and of the outcomes that a protocol leads to."""
    backbone = tiny_vit()

    def of(**changes: Any) -> bytes:
        protocol = settings(**({"warmup": 2, "window": 0.75, "rate": 0.5} | changes))
        head = fresh_head(protocol, backbone, len(scenes[0].segments))
        outcomes = fit(protocol, backbone, head, *scenes)
        arrays = [
            *(tensor.numpy() for tensor in head.state_dict().values()),
            *(outcomes[k] for k in ("predicted", "truth")),
        ]
        return b"".join(array.tobytes() for array in arrays)

    return of


@pytest.fixture(scope="module")
def unchanged(trace: Callable[..., bytes]) -> bytes:
    return trace()


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_changes_the_result(name: str, trace: Callable[..., bytes], unchanged: bytes):
    assert trace(**{name: CHANGES[name]}) != unchanged


@pytest.mark.parametrize("name", SCHEDULE)
def test_every_setting_of_the_schedule_changes_what_the_optimizer_is_told(name: str):
    told = [[options_at(settings(**more), step) for step in range(4)] for more in ({}, {name: SCHEDULE[name]})]
    assert told[0] != told[1]


def test_every_setting_is_tried_and_equal_settings_give_equal_results(trace: Callable[..., bytes], unchanged: bytes):
    assert CHANGES.keys() | SCHEDULE.keys() | OUTSIDE == {
        field.name for field in dataclasses.fields(PublishedSegmentation)
    }
    assert trace() == unchanged


BAD: list[dict[str, Any]] = [
    {"size": 0},
    {"scale": (1.0,)},
    {"scale": (2.0, 0.5)},
    {"scale": (0.0, 1.0)},
    {"crop": 0.0},
    {"crop": 0.01},
    {"category_cap": 1.5},
    {"flip": -0.1},
    {"brightness": -1},
    {"contrast": (1.5, 0.5)},
    {"saturation": (-1.0, 1.0)},
    {"hue": 0},
    {"dropout": 1.0},
    {"init_std": -0.01},
    {"iterations": 0},
    {"batch_size": 0},
    {"rate": 0.0},
    {"rate": math.nan},
    {"betas": (0.9, 1.0)},
    {"betas": (0.9, 0.99, 0.999)},
    {"weight_decay": -1e-3},
    {"clip": 0.0},
    {"warmup": -5},
    {"warmup_ratio": 2.0},
    {"validate_every": 0},
    {"window": 0.0},
    {"window_stride": 0.0},
    {"window_stride": 1.5},
]


@pytest.mark.parametrize("change", BAD, ids=str)
def test_settings_that_cannot_be_are_refused(change: dict[str, Any]):
    with pytest.raises(BadInput, match=rf"^segmentation-standard: {next(iter(change))}(\[\d\])?=.*: want "):
        settings(**change)


def test_every_setting_with_a_limit_is_tried():
    assert {name for change in BAD for name in change} | {"precision", "seed"} == CHANGES.keys() | SCHEDULE.keys()


def test_sets_that_do_not_fit_are_refused(scenes: tuple[LabelledSet, LabelledSet]):
    bare, good = Painted(painted()), Painted(painted())
    bare.segments = ()
    blank = Painted(painted(), np.full((6, 32, 45), 255, dtype=np.uint8))
    for train, test, words in (
        (bare, good, "without pixel classes"),
        (good, blank, "no labelled pixel in painted"),
        (blank, good, "no labelled pixel in painted"),
        (scenes[0], good, "unlike pixel classes in scenes"),
    ):
        with pytest.raises(BadInput, match=words):
            evaluate(settings(), pixels(), train, test)


def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_iteration(scenes: tuple[LabelledSet, LabelledSet]):
    with pytest.raises(BadInput, match=r"got loss (nan|inf) at iteration [123] of segmentation"):
        evaluate(settings(rate=1e30, warmup=0), tiny_vit(), *scenes)
    assert math.isfinite(miou(evaluate(settings(), tiny_vit(), *scenes)))
