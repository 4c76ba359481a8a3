from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from common.errors import BadInput
from evals.features.feature_set import FeatureSet
from evals.protocols.reading import load
from evals.tasks.depth.errors import notes
from evals.tasks.depth.quick import QuickDepth, evaluate, predict


class Depths:
    name, split, classes, segments = "depths", "train", (), ()

    def __init__(self, maps: list[np.ndarray], has_depth: bool = True) -> None:
        self.maps, self.has_depth = maps, has_depth

    def __len__(self) -> int:
        return len(self.maps)

    def key(self, index: int) -> str:
        return f"image-{index}"

    def depth(self, index: int) -> np.ndarray:
        return self.maps[index]


def featured(tokens: np.ndarray, maps: list[np.ndarray], grid: tuple[int, int], has_depth: bool = True) -> FeatureSet:
    x = torch.from_numpy(tokens.astype(np.float32))
    grids = torch.tensor([grid] * len(maps))
    return FeatureSet.in_memory(Depths(maps, has_depth), x[: len(maps)], tokens=x, grids=grids)  # pyright: ignore


def settings_of(**changes: float) -> QuickDepth:
    return load("depth-quick", QuickDepth, **changes)


def oracle(images: int, *, pixels: int, seed: int, shuffle: bool = False) -> FeatureSet:
    """Patches that hold the log-depth among noise; depth is constant on each patch (and image, if pixels > 1)."""
    draw = np.random.default_rng(seed)
    depth = np.exp(draw.uniform(-0.5, 2, (images, 4, 5))).astype(np.float32)
    if pixels > 1:
        depth[:] = depth[:, :1, :1]
    tokens = np.concatenate([np.log(depth).reshape(-1, 1), draw.standard_normal((images * 20, 3))], 1)
    if shuffle:
        tokens = tokens[draw.permutation(len(tokens))]
    return featured(tokens, [np.kron(d, np.ones((pixels, pixels), np.float32)) for d in depth], (4, 5))


@pytest.mark.parametrize("pixels", [1, 8])
def test_an_oracle_has_no_error(pixels: int):
    protocol = settings_of(l2=1e-9)
    found = evaluate(protocol, oracle(50, pixels=pixels, seed=0), oracle(20, pixels=pixels, seed=1))
    assert found["rmse"].max() < 1e-3
    assert (found["delta1"] == 1).all()


def test_a_shuffled_oracle_is_no_better_than_a_constant():
    train, test = oracle(50, pixels=1, seed=0), oracle(50, pixels=1, seed=1)
    constant = math.exp(float(np.mean([np.log(test.dataset.depth(i)) for i in range(50)])))
    guess = np.mean([np.sqrt(np.mean((test.dataset.depth(i) - constant) ** 2)) for i in range(50)])
    shuffled = evaluate(settings_of(), oracle(50, pixels=1, seed=0, shuffle=True), test)["rmse"].mean()
    assert shuffled == pytest.approx(guess, rel=0.05)
    assert evaluate(settings_of(), train, test)["rmse"].mean() < 0.05 * guess


def test_predictions_are_interpolated_in_metres_and_clamped():
    logs = torch.tensor([1.0, 2.0, 5.0, 50.0]).log()
    found = predict(settings_of(), logs, (2, 2), (4, 4))
    assert found[0, 0] == pytest.approx(1.0)
    assert found[0, 1] == pytest.approx(1.25)
    assert found[3, 3] == 10.0
    assert predict(settings_of(max_depth=80.0), logs, (2, 2), (4, 4))[3, 3] == pytest.approx(50.0)


def test_a_patch_that_overflows_is_the_farthest_and_spoils_no_neighbour():
    logs = torch.tensor([0.0, 1e6, 0.0, 0.0])
    found = predict(settings_of(), logs, (2, 2), (8, 8))
    assert np.isfinite(found).all()
    assert found[0, 7] == 10.0
    assert found[0, 0] == found[7, 0] == 1.0


def test_who_watches_is_shown_what_is_judged_and_nan_elsewhere():
    train, test = oracle(20, pixels=1, seed=0), oracle(6, pixels=1, seed=1)
    test.dataset.depth(2)[0, :3] = 0.0, 10.0, 0.001
    shown: dict[int, np.ndarray] = {}
    found = evaluate(settings_of(), train, test, watch=shown.__setitem__)
    for index, rmse in enumerate(found["rmse"]):
        gap = shown[index] - test.dataset.depth(index)
        assert np.sqrt(np.nanmean(gap**2)) == pytest.approx(rmse, rel=1e-5)
    assert np.argwhere(np.isnan(shown[2])).tolist() == [[0, 0], [0, 1], [0, 2]]
    assert not np.isnan(shown[3]).any()


@pytest.mark.parametrize("change", [{"l2": 1.0}, {"min_depth": 2.0}, {"max_depth": 4.0}])
def test_every_setting_counts(change: dict[str, float]):
    train, test = oracle(20, pixels=1, seed=0), oracle(6, pixels=1, seed=1)
    one, other = (evaluate(settings_of(**more), train, test)["squared_error"] for more in ({}, change))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    "change", [{"l2": 0.0}, {"l2": -1.0}, {"min_depth": 0.0}, {"min_depth": 10.0}, {"max_depth": math.inf}, {"size": 0}]
)
def test_settings_that_cannot_be_are_refused(change: dict[str, float]):
    with pytest.raises(BadInput, match=rf"^depth-quick: {next(iter(change))}(\[\d\])?=.*: want "):
        settings_of(**change)


def test_invalid_pixels_teach_nothing_and_images_without_depth_are_left_out():
    train, test = oracle(50, pixels=1, seed=0), oracle(20, pixels=1, seed=1)
    others = Depths([train.dataset.depth(index) for index in range(3, 50)])
    rest = train.select(range(3, 50), others)  # pyright: ignore[reportArgumentType]
    spoilt = oracle(50, pixels=1, seed=0)
    for index, value in enumerate((0.0, 11.0, 1e6)):
        spoilt.dataset.depth(index)[:] = value
    test.dataset.depth(3)[:] = 0
    whole, without, found = (evaluate(settings_of(), features, test) for features in (train, rest, spoilt))
    np.testing.assert_array_equal(found["rmse"], without["rmse"])
    assert (found["rmse"] != whole["rmse"]).all()  # so that what the three images teach would be seen
    assert len(found["keys"]) == len(found["rmse"]) == len(found["delta1"]) == 19
    assert "image-3" not in found["keys"]


def test_known_depth_that_does_not_count_is_counted_and_told():
    train, test = oracle(20, pixels=4, seed=0), oracle(10, pixels=4, seed=1)
    for index, values in enumerate(((0, 11), (0.0005, 10), (2, 3), (0, 0))):
        test.dataset.depth(index)[:] = np.resize(values, test.dataset.depth(index).shape)
    found = evaluate(settings_of(), train, test)
    size = test.dataset.depth(0).size
    assert found["keys"].tolist() == [f"image-{index}" for index in (2, *range(4, 10))]
    assert found["known_pixels"].tolist() == [size] * 7
    assert found["outside_pixels"].tolist() == [0] * 7
    assert list(notes(settings_of(), test.dataset, found)) == ["images without depth that counts are left out: 3"]
    test.dataset.depth(5)[0, 0] = 12
    test.dataset.depth(6)[0, 0] = 0
    found = evaluate(settings_of(), train, test)
    assert found["known_pixels"].tolist() == [size, size, size, size - 1, size, size, size]
    assert found["outside_pixels"].tolist() == [0, 0, 1, 0, 0, 0, 0]
    share = f"{1 / (7 * size - 1):.2%} of the known depth is outside 0.001 to 10 m and does not count"
    assert list(notes(settings_of(), test.dataset, found)) == [
        share,
        "images without depth that counts are left out: 3",
    ]


def test_sets_without_depth_are_refused():
    good = oracle(4, pixels=1, seed=0)
    empty = featured(np.eye(4)[:1], [np.zeros((2, 2), np.float32)], (1, 1))
    for train, test in ((empty, good), (good, empty)):
        with pytest.raises(BadInput, match="no valid depth"):
            evaluate(settings_of(), train, test)
    with pytest.raises(BadInput, match="without depth"):
        evaluate(settings_of(), good, featured(np.eye(4)[:1], [np.ones((2, 2))], (1, 1), has_depth=False))
