from __future__ import annotations

import numpy as np
import pytest
import torch

from common.errors import BadInput
from evals.datasets.labelled_set import IGNORE
from evals.features.feature_set import FeatureSet
from evals.fitting.softmax import solve
from evals.judging.pixel_classes import shares_of
from evals.protocols.reading import load
from evals.results.bootstrap import interval
from evals.tasks.segmentation import quick
from evals.tasks.segmentation.quick import QuickSegmentation, evaluate, training_patches
from tests.evals.toys import bilinear, featured, forty_classes, maps_brought_to


def oracle(images: int, *, pixels: int, seed: int, stripes: bool = False, shuffle: bool = False) -> FeatureSet:
    """One-hot patches under masks that are constant on each patch, 4 classes, grids of 5 x 6."""
    draw = np.random.default_rng(seed)
    maps = draw.integers(0, 4, (images, 5, 6))
    if stripes:
        maps = np.broadcast_to(maps[:, :, :1], maps.shape)
    tokens = np.eye(4)[maps.reshape(-1)]
    if shuffle:
        tokens = tokens[draw.permutation(len(tokens))]
    masks = [np.kron(m, np.ones((pixels, pixels))).astype(np.uint8) for m in maps]
    return featured(tokens, [(5, 6)] * images, masks, "abcd")


def settings_of(**changes: float) -> QuickSegmentation:
    return load("segmentation-quick", QuickSegmentation, **changes)


def score(train: FeatureSet, test: FeatureSet, **settings: float) -> float:
    return interval("miou", evaluate(settings_of(**settings), train, test), resamples=1000).value  # pyright: ignore


def test_an_oracle_scores_one_at_the_patches_own_resolution():
    assert score(oracle(40, pixels=1, seed=0), oracle(10, pixels=1, seed=1)) == 1.0


def test_an_oracle_scores_one_at_the_masks_resolution():
    assert score(oracle(40, pixels=8, seed=0, stripes=True), oracle(10, pixels=8, seed=1, stripes=True)) == 1.0


def test_a_shuffled_oracle_scores_chance():
    found = score(oracle(200, pixels=1, seed=0, shuffle=True), oracle(200, pixels=1, seed=1, shuffle=True))
    assert found < 0.2  # a constant guess has 0.25 / 4, an independent one 1 / 7


def test_areas_and_miou_equal_mmsegmentations_own_metric():
    from mmseg.evaluation import IoUMetric

    draw = np.random.default_rng(0)
    grids = [(3, 4), (5, 2), (4, 4)] * 5
    shapes = [(24, 33), (41, 16), (32, 32)] * 5
    masks = [draw.choice([0, 1, 2, 4, IGNORE], shape).astype(np.uint8) for shape in shapes]  # nobody has class 3
    tokens = np.concatenate([draw.standard_normal((h * w, 6)) for h, w in grids])
    features = featured(tokens, grids, masks, "abcde")
    found = evaluate(settings_of(iterations=5), features, features)

    shares = np.concatenate([shares_of(m, g, 5) for m, g in zip(masks, grids, strict=True)])
    z = (tokens - tokens.mean(0)) / tokens.std(0)
    weight, bias = solve(torch.tensor(z).float(), torch.tensor(shares), l2=1e-4, iterations=5)
    logits = (torch.tensor(z).float() @ weight + bias).split([h * w for h, w in grids])
    metric = IoUMetric(ignore_index=IGNORE, iou_metrics=["mIoU"])
    metric.dataset_meta = {"classes": list("abcde")}
    samples = [
        {
            "pred_sem_seg": {"data": bilinear(x, grid, mask.shape).argmax(0)[None]},
            "gt_sem_seg": {"data": torch.tensor(mask)[None]},
        }
        for x, grid, mask in zip(logits, grids, masks, strict=True)
    ]
    metric.process({}, samples)
    theirs = metric.compute_metrics(metric.results)
    assert round(100 * interval("miou", found).value, 2) == pytest.approx(theirs["mIoU"], abs=0.011)
    assert round(100 * interval("pixel_accuracy", found).value, 2) == pytest.approx(theirs["aAcc"], abs=0.011)
    unseen = (found["predicted"] + found["truth"]).sum(0)
    assert unseen.tolist().count(0) == 1  # so that a class was left out of the mean


def test_patches_beyond_the_limit_are_left_out_evenly():
    train = oracle(41, pixels=1, seed=0)
    train.dataset.mask(7)[:] = IGNORE
    known = np.delete(np.arange(41 * 30), np.s_[210:240])
    for most in (1, 100, 1199, 1200, 5000):
        x, shares = training_patches(train, 4, most=most)
        places = np.arange(min(most, 1200)) * 1200 // min(most, 1200)
        assert torch.equal(x, train.dense()[torch.from_numpy(known[places])])
        assert torch.equal(x, shares)  # of an oracle


def test_shares_are_held_of_the_chosen_patches_alone(monkeypatch: pytest.MonkeyPatch):
    train = noise(30, seed=0)
    asked: list[int] = []

    def noted(mask: np.ndarray, grid: tuple[int, int], classes: int) -> np.ndarray:
        asked.extend(i for i in range(30) if train.dataset.mask(i) is mask)
        return shares_of(mask, grid, classes)

    monkeypatch.setattr(quick, "shares_of", noted)
    training_patches(train, 4, most=3)
    assert asked == [0, 10, 20]


def test_no_map_of_all_classes_is_held_at_the_size_of_a_mask(monkeypatch: pytest.MonkeyPatch):
    features = forty_classes()
    sizes = maps_brought_to((50, 60), monkeypatch)
    evaluate(settings_of(), features, features)
    assert max(sizes) <= 16


def test_learning_leaves_the_features_as_they_were():
    train, test = oracle(20, pixels=1, seed=0), oracle(5, pixels=1, seed=1)
    before = train.dense()[:].clone()
    evaluate(settings_of(), train, test)
    assert torch.equal(train.dense()[:], before)


def noise(images: int, *, seed: int) -> FeatureSet:
    draw = np.random.default_rng(seed)
    masks = [draw.integers(0, 4, (5, 6)).astype(np.uint8) for _ in range(images)]
    return featured(draw.standard_normal((images * 30, 8)), [(5, 6)] * images, masks, "abcd")


@pytest.mark.parametrize("change", [{"l2": 0.1}, {"iterations": 1}, {"max_patches": 200}])
def test_every_setting_counts(change: dict[str, float]):
    one, other = (evaluate(settings_of(**more), noise(9, seed=0), noise(5, seed=1)) for more in ({}, change))
    assert not np.array_equal(one["predicted"], other["predicted"])


@pytest.mark.parametrize(
    "change", [{"l2": -1e-4}, {"l2": 0.0}, {"iterations": 0}, {"max_patches": 0}, {"size": 0}, {"test_images": 0}]
)
def test_settings_that_cannot_be_are_refused(change: dict[str, float]):
    with pytest.raises(BadInput, match=rf"^segmentation-quick: {next(iter(change))}(\[\d\])?=.*: want "):
        settings_of(**change)


def test_results_repeat_and_the_global_random_state_stays():
    train, test = oracle(20, pixels=2, seed=0), oracle(10, pixels=2, seed=1)
    before = torch.get_rng_state()
    first, second = evaluate(settings_of(), train, test), evaluate(settings_of(), train, test)
    assert all((first[name] == second[name]).all() for name in first)
    assert torch.equal(torch.get_rng_state(), before)


def test_it_works_where_gradients_are_off():
    with torch.no_grad():
        assert score(oracle(40, pixels=1, seed=0), oracle(10, pixels=1, seed=1)) == 1.0


def test_sets_that_do_not_fit_are_refused():
    good = oracle(4, pixels=1, seed=0)
    blank = featured(np.eye(4)[:1], [(1, 1)], [np.full((2, 2), IGNORE, np.uint8)], "abcd")
    with pytest.raises(BadInput, match="no labelled pixel"):
        evaluate(settings_of(), blank, good)
    with pytest.raises(BadInput, match="unlike pixel classes"):
        evaluate(settings_of(), good, featured(np.eye(4)[:1], [(1, 1)], [np.zeros((2, 2), np.uint8)], "ab"))
    with pytest.raises(BadInput, match="without pixel classes"):
        evaluate(settings_of(), good, featured(np.eye(4)[:1], [(1, 1)], [np.zeros((2, 2), np.uint8)], ""))
