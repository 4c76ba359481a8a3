from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from common.errors import BadInput
from evals.datasets.catalogue import open_set
from evals.datasets.labelled_set import LabelledSet
from evals.protocols.reading import load
from evals.tasks.depth.published import (
    evaluate,
    fit,
    fresh_head,
    judge,
    judged,
    loss_of,
    metrics,
    options_at,
    predict_depth,
)
from evals.tasks.depth.settings import PublishedDepth
from evals.tasks.depth.views import batch_of, cut, recolour
from tests.evals.published_checks import assert_equal_from_workers, untouched
from tests.evals.toys import pixels, tiny_vit

FRAME = (480, 640)
# The proportions of NYU's frame at 32 pixels: the crop is 28 × 36
TINY = {"size": 32, "iterations": 4, "batch_size": 3, "warmup": 2, "plain_iterations": 1, "validate_every": 4}
STILL = {"rotate": 0.0, "recolour": 0.0}


class Written:
    """Images whose red and green spell each pixel's depth in millimetres; `truth` may hold other maps."""

    name, split, classes, segments, has_depth = "written", "val", (), (), True

    def __init__(self, depths: list[np.ndarray], truth: list[np.ndarray] | None = None) -> None:
        self.written, self.truth = depths, depths if truth is None else truth

    def __len__(self) -> int:
        return len(self.written)

    def key(self, index: int) -> str:
        return f"image-{index}"

    def image(self, index: int) -> np.ndarray:
        millimetres = np.round(self.written[index] * 1000).astype(np.int64)
        return np.stack([millimetres // 256, millimetres % 256, 0 * millimetres], 2).astype(np.uint8)

    def depth(self, index: int) -> np.ndarray:
        return self.truth[index]


def depths(images: int, shape: tuple[int, int], seed: int = 0) -> list[np.ndarray]:
    """Maps in which every pixel is drawn on its own from 0.5 to 9.5 m: nothing can be interpolated."""
    draw = np.random.default_rng(seed)
    return [(draw.integers(500, 9500, shape) / 1000).astype(np.float32) for _ in range(images)]


def reader(patches: Tensor) -> Tensor:
    """The oracle: metres from the two colours."""
    high, low = (patches[:, :2] * 255).round().unbind(1)
    return ((high * 256 + low).double() / 1000).float()[:, None].clamp_min(1e-4)


def settings(**changes: Any) -> PublishedDepth:
    return load("depth-standard", PublishedDepth, **(TINY | changes))


@pytest.fixture(scope="module")
def scenes() -> tuple[LabelledSet, LabelledSet]:
    train, test = (open_set("scenes", split=split, size=32, count=5) for split in ("train", "val"))
    return train, test


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 3.0e-7), (6400, 1.403e-4), (12_799, 2.253e-4), (12_800, 2.250e-4), (25_600, 7.5e-5), (38_399, 1.2e-8)],
)
def test_the_rate_has_the_published_values(step: int, rate: float):
    assert options_at(load("depth-standard", PublishedDepth), step)["lr"] == pytest.approx(rate, rel=4e-4)


def test_the_first_beta_is_zero_in_the_warm_up_and_then_climbs():
    protocol = load("depth-standard", PublishedDepth)
    assert [options_at(protocol, step)["betas"] for step in (0, 12_799)] == [(0.0, 0.99)] * 2
    after = [options_at(protocol, step)["betas"][0] for step in range(12_800, 38_400, 800)]
    assert after[0] == pytest.approx(0.85)
    assert after == sorted(after)
    assert options_at(protocol, 38_399)["betas"][0] == pytest.approx(0.95, abs=1e-6)


def test_the_published_crop_is_416_by_544_of_a_frame_and_shrinks_with_it():
    protocol = load("depth-standard", PublishedDepth)
    assert protocol.views.crop == (416, 544)
    assert dataclasses.replace(protocol, size=240).views.crop == (208, 272)


@pytest.mark.parametrize("shape", [(32, 32), (32, 45), (45, 32)])
@pytest.mark.parametrize("flip", [False, True])
def test_an_oracle_has_no_error(shape: tuple[int, int], flip: bool):
    found = judge(settings(), pixels(), reader, Written(depths(3, shape)), flip=flip)
    counted = {"squared_error", "pixels", "known_pixels", "outside_pixels"}
    assert set(found) == {"keys", *metrics(settings()), *counted}
    assert {name: found[name].max() for name in ("rmse", "abs_rel", "silog", "squared_error")} == dict.fromkeys(
        ("rmse", "abs_rel", "silog", "squared_error"), 0
    )
    assert (found["delta1"] == 1).all()
    assert (found["pixels"] == math.prod(shape)).all()


def test_an_oracle_has_no_error_in_whole_frames_and_only_the_eigen_crop_counts():
    """Outside rows 45 to 470 and columns 41 to 600 the truth is another one."""
    written = depths(1, FRAME)
    truth = depths(1, FRAME, seed=1)
    truth[0][45:471, 41:601] = written[0][45:471, 41:601]
    seen: dict[int, np.ndarray] = {}
    data = Written(written, truth)
    found = judge(load("depth-standard", PublishedDepth), pixels(), reader, data, flip=True, watch=seen.__setitem__)
    assert found["rmse"].tolist() == [0]
    assert found["pixels"].tolist() == [(471 - 45) * (601 - 41)]
    rows, columns = np.nonzero(np.isfinite(seen[0]))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (45, 470, 41, 600)
    assert len(rows) == found["pixels"][0]


def test_an_oracle_that_reads_another_image_has_the_error_of_chance():
    """Two independent draws from one distribution differ by sqrt(2) deviations in the root mean square.

    7,200 independent pixels: the relative standard error of the mean is below 0.006.
    """
    wrong = Written(depths(5, (32, 45), seed=1), depths(5, (32, 45), seed=2))
    deviation = np.concatenate([depth.ravel() for depth in wrong.truth]).std()
    found = judge(settings(), pixels(), reader, wrong)["rmse"].mean()
    assert found == pytest.approx(math.sqrt(2) * deviation, rel=0.02)


def test_an_oracle_is_right_on_training_views_whatever_moves_them():
    """Box, crop, mirror and filling up move images and depth together; what they bring in is unknown."""
    protocol = settings(**STILL)
    for shape in ((32, 60), (48, 32)):
        data = Written(depths(4, shape))
        data_batches = [batch_of(data, protocol, step) for step in range(3)]
        for step, batch in enumerate(data_batches):
            assert batch.images.shape == (3, 28, 36, 3)
            assert loss_of(protocol, pixels(), reader, step, batch).item() == pytest.approx(0, abs=1e-15)
        known = torch.stack([batch.targets for batch in data_batches]) > 0
        assert known[..., : min(shape[1], 36)].all()
        assert not known[..., min(shape[1], 36) :].any()


def test_the_box_of_a_frame_is_cut_out_for_training_and_other_images_stay_whole():
    protocol = load("depth-standard", PublishedDepth)
    frame = Written(depths(1, FRAME))
    image, depth = cut(protocol, frame.image(0), frame.depth(0))
    assert np.array_equal(depth, frame.depth(0)[45:472, 43:608])
    assert np.array_equal(image, frame.image(0)[45:472, 43:608])
    half = dataclasses.replace(protocol, size=240)
    assert cut(half, frame.image(0), frame.depth(0))[1].shape == (214, 283)
    other = Written(depths(1, (240, 320)))
    assert np.array_equal(cut(half, other.image(0), other.depth(0))[1], other.depth(0))
    assert cut(protocol, other.image(0), other.depth(0))[0].shape == (480, 640, 3)


def test_whole_frames_are_judged_inside_the_eigen_crop_and_within_the_valid_range():
    protocol = load("depth-standard", PublishedDepth)
    truth = np.full(FRAME, 2.0, dtype=np.float32)
    truth[100, 100:103] = 0.0, 10.0, 0.001
    found = judged(protocol, truth)
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (45, 470, 41, 600)
    assert found.sum() == 426 * 560 - 3
    assert judged(protocol, truth[:, :600]).sum() == 480 * 600 - 3


def test_predictions_are_clamped_and_reach_any_shape():
    image = Written([np.full((32, 40), 60.0, dtype=np.float32)]).image(0)
    found = predict_depth(pixels(), reader, image, settings(), shape=(64, 80))
    assert found.shape == (64, 80)
    assert (found == 10).all()
    nothing = predict_depth(pixels(), lambda patches: 0 * patches[:, :1], image, settings(), shape=(32, 40))
    assert nothing.min() == np.float32(0.001)


def test_the_backbone_predicts_and_trains_in_the_precision_of_the_protocol(scenes: tuple[LabelledSet, LabelledSet]):
    full, backbone = settings(), tiny_vit()
    half, head = dataclasses.replace(full, precision="bfloat16"), fresh_head(full, backbone)
    image, batch = scenes[1].image(0), batch_of(scenes[0], full, 0)
    guesses = [predict_depth(backbone, head, image, protocol, shape=(32, 32)) for protocol in (full, half)]
    assert not np.array_equal(*guesses)
    assert loss_of(full, backbone, head, 0, batch) != loss_of(half, backbone, head, 0, batch)


def test_the_mirror_image_is_averaged_in_its_own_place():
    """A head that adds the column to the depth: with the mirror image every column has the mean column."""
    image = Written([depths(1, (32, 41))[0] / 2]).image(0)
    read = (image[:, :, 0].astype(np.float64) * 256 + image[:, :, 1]) / 1000

    def slanted(patches: Tensor) -> Tensor:
        return reader(patches) + 0.1 * torch.arange(patches.shape[3])

    found = predict_depth(pixels(), slanted, image, settings(), shape=(32, 41), flip=True)
    np.testing.assert_allclose(found, read + 2.0, rtol=1e-5)


def test_colours_change_by_chance_within_their_ranges_and_stay_in_range():
    images = torch.full((200, 3, 1, 1), 0.5)
    protocol = settings(batch_size=200)
    found = recolour(protocol, 3, images)
    assert torch.equal(found, recolour(protocol, 3, images))
    assert not torch.equal(found, recolour(protocol, 4, images))
    changed = (found != images).flatten(1).any(1)
    assert 70 < int(changed.sum()) < 130
    assert 0.5**1.1 * 0.75 * 0.9 <= float(found.min()) < 0.36
    assert 0.68 < float(found.max()) <= 0.5**0.9 * 1.25 * 1.1
    assert (found[changed].amax(1) > found[changed].amin(1)).all()
    assert float(recolour(protocol, 3, torch.ones(200, 3, 1, 1)).max()) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(workers: int, scenes: tuple[LabelledSet, LabelledSet]):
    assert_equal_from_workers(partial(batch_of, scenes[0], settings()), workers)


def test_a_head_learns_and_leaves_everything_else_as_it_was(scenes: tuple[LabelledSet, LabelledSet]):
    protocol = settings(iterations=60, batch_size=4, warmup=10, rate=0.02, validate_every=30)
    backbone = tiny_vit()
    backbone.model.train()
    with untouched(backbone):
        head = fresh_head(protocol, backbone)
        outcomes = fit(protocol, backbone, head, *scenes)

    start = fresh_head(protocol, backbone)
    assert outcomes["rmse"].mean() < 0.8 * judge(protocol, backbone, start, scenes[1])["rmse"].mean()
    batch = batch_of(scenes[0], protocol, 1000)
    losses = [loss_of(protocol, backbone, one, 9, batch).item() for one in (head, start)]
    assert losses[0] < 0.8 * losses[1]


def test_the_best_validation_is_kept_and_its_head_is_the_one_that_is_watched(scenes: tuple[LabelledSet, LabelledSet]):
    protocol, backbone = settings(iterations=8, warmup=0, rate=3.0, final_ratio=1.0, flip_average=False), tiny_vit()
    seen: dict[int, np.ndarray] = {}
    best = evaluate(dataclasses.replace(protocol, validate_every=1), backbone, *scenes, watch=seen.__setitem__)
    last = evaluate(dataclasses.replace(protocol, validate_every=8), backbone, *scenes)
    assert best["rmse"].mean() < last["rmse"].mean()
    assert sorted(seen) == list(range(5))
    truth = scenes[1].depth(3)
    assert np.array_equal(np.isfinite(seen[3]), (truth > 0.001) & (truth < 10))
    assert np.nanmean((seen[3] - truth) ** 2) == pytest.approx(best["rmse"][3] ** 2, rel=1e-4)


CHANGES: dict[str, Any] = {
    "size": 40,
    "precision": "bfloat16",
    "seed": 1,
    "frame": (30, 32),
    "box": (5, 3, 30, 28),
    "eigen": (4, 28, 4, 20),
    "min_depth": 2.0,
    "max_depth": 4.0,
    "rotate": 0.0,
    "degrees": 20.0,
    "flip": 0.0,
    "crop": (16, 24),
    "recolour": 0.0,
    "gamma": (0.5, 1.5),
    "brightness": (0.5, 1.5),
    "colour": (0.5, 1.5),
    "bins": 64,
    "bin_floor": 0.5,
    "init_std": 0.1,
    "mean_weight": 0.5,
    "log_shift": 0.1,
    "plain_iterations": 3,
    "iterations": 5,
    "batch_size": 2,
    "weight_decay": 0.5,
    "clip": 0.001,
    "validate_every": 1,
    "flip_average": False,
}
SCHEDULE: dict[str, Any] = {
    "rate": 0.01,
    "warmup": 1,
    "warmup_ratio": 0.5,
    "final_ratio": 0.1,
    "warmup_beta1": 0.9,
    "beta1": (0.5, 0.6),
    "beta2": 0.9,
}
OUTSIDE = {"name", "version", "train_images", "test_images"}  # who asks for an evaluation cuts the sets
# Scenes of 32 × 32 are taken for whole frames
FRAMED = {
    "frame": (32, 32), "box": (2, 3, 30, 28), "eigen": (2, 30, 3, 28), "crop": (24, 24), "rate": 0.3, "rotate": 1.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def trace(scenes: tuple[LabelledSet, LabelledSet]) -> Callable[..., bytes]:
    """The bytes of the head and of the outcomes that a protocol leads to."""
    backbone = tiny_vit()

    def of(**changes: Any) -> bytes:
        protocol = settings(**(FRAMED | changes))
        outcomes = evaluate(protocol, backbone, *scenes)
        return b"".join(outcomes[name].tobytes() for name in (*metrics(protocol), "pixels"))

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
    assert CHANGES.keys() | SCHEDULE.keys() | OUTSIDE == {field.name for field in dataclasses.fields(PublishedDepth)}
    assert trace() == unchanged


BAD: list[dict[str, Any]] = [
    {"size": 0},
    {"frame": (0, 640)},
    {"box": (1, 2, 3)},
    {"box": (43, 45, 641, 472)},
    {"box": (43, 45, 40, 472)},
    {"eigen": (45, 471, 600, 600)},
    {"eigen": (45, 481, 41, 601)},
    {"min_depth": 0.0},
    {"min_depth": 10.0},
    {"max_depth": math.inf},
    {"rotate": -0.5},
    {"degrees": -2.5},
    {"flip": 1.5},
    {"crop": (416,)},
    {"crop": (1, 544)},
    {"recolour": 2.0},
    {"gamma": (1.1, 0.9)},
    {"gamma": (0.0, 1.0)},
    {"brightness": (-0.5, 1.0)},
    {"colour": (1.1, 0.9)},
    {"bins": 0},
    {"bin_floor": 0.0},
    {"init_std": -1.0},
    {"mean_weight": -0.15},
    {"log_shift": -1e-3},
    {"plain_iterations": -1},
    {"iterations": 0},
    {"batch_size": 0},
    {"rate": -3e-4},
    {"weight_decay": math.nan},
    {"warmup": -5},
    {"warmup_ratio": -1e-3},
    {"final_ratio": 2.0},
    {"warmup_beta1": 1.0},
    {"beta1": (0.85, 1.0)},
    {"beta2": 1.0},
    {"clip": 0.0},
    {"validate_every": 0},
]


@pytest.mark.parametrize("change", BAD, ids=str)
def test_settings_that_cannot_be_are_refused(change: dict[str, Any]):
    with pytest.raises(BadInput, match=rf"^depth-standard: {next(iter(change))}(\[\d\])?=.*: want "):
        settings(**change)


def test_every_setting_with_a_limit_is_tried():
    without = {"precision", "seed", "flip_average"}
    assert {name for change in BAD for name in change} | without == CHANGES.keys() | SCHEDULE.keys()


def test_images_without_valid_depth_are_left_out_and_sets_without_it_refused():
    maps = depths(3, (32, 40))
    maps[1][:] = 0
    found = judge(settings(), pixels(), reader, Written(maps))
    assert found["keys"].tolist() == ["image-0", "image-2"]
    assert all(len(values) == 2 for values in found.values())
    good, empty, bare = Written(maps), Written([np.zeros((32, 40), dtype=np.float32)]), Written(maps)
    bare.has_depth = False
    for train, test, words in (
        (good, empty, "no valid depth in written"),
        (empty, good, "no valid depth in written"),
        (bare, good, "without depth"),
    ):
        with pytest.raises(BadInput, match=words):
            evaluate(settings(), pixels(), train, test)


def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_iteration(scenes: tuple[LabelledSet, LabelledSet]):
    with pytest.raises(BadInput, match=r"got loss (nan|inf) at iteration [123] of depth"):
        evaluate(settings(rate=1e30, warmup=0), tiny_vit(), *scenes)
