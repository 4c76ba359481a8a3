from __future__ import annotations

import numpy as np
import pytest

from common.errors import BadInput
from evals.results import bootstrap
from evals.results.bootstrap import interval, intervals, paired_difference, resample

SHARES = ("miou", "mean_accuracy", "fscore", "precision", "recall", "dice")
METRICS = ("top1", "top1@10", "rmse", "pixel_accuracy", *SHARES)


def outcomes(images: int = 12, classes: int = 6, seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    truth, predicted = draw.integers(1, 50, (2, images, classes))
    intersect = (np.minimum(truth, predicted) * draw.random((images, classes))).astype(int)
    truth[:, -1] = predicted[:, -1] = intersect[:, -1] = 0  # a class that nobody saw
    truth[:, -2] = intersect[:, -2] = 0  # one that was only guessed
    intersect[:, -3] = 0  # and one that was never hit
    return {
        "keys": np.array([f"image-{i}" for i in range(images)]),
        "correct": draw.random(images) < 0.6,
        "intersect": intersect,
        "predicted": predicted,
        "truth": truth,
        "correct@10": draw.random(images) < 0.3,
        "rmse": draw.random(images),
    }


def by_class(metric: str, right: int, guess: int, truth: int) -> float | None:
    """One class's ratio, None where mmsegmentation has NaN."""
    if metric == "fscore":
        if not right:
            return None
        precision, recall = right / guess, right / truth
        return 2 * precision * recall / (precision + recall)
    bottom = {
        "miou": guess + truth - right, "precision": guess, "recall": truth, "mean_accuracy": truth,
        "dice": (guess + truth) / 2,
    }[metric]  # fmt: skip
    return right / bottom if bottom else None


def slow(metric: str, data: dict[str, np.ndarray], drawn: np.ndarray) -> float:
    """The metric on a list of image indices, image by image."""
    sums = {name: sum(data[name][i] for i in drawn) for name in ("intersect", "predicted", "truth")}
    if metric == "pixel_accuracy":
        return sums["intersect"].sum() / sums["truth"].sum()
    if metric in ("top1", "top1@10", "rmse"):
        name = metric.replace("top1", "correct")
        return sum(float(data[name][i]) for i in drawn) / len(drawn)
    ratios = [by_class(metric, *map(int, areas)) for areas in zip(*sums.values(), strict=True)]
    known = [ratio for ratio in ratios if ratio is not None]
    return sum(known) / len(known)


@pytest.mark.parametrize("metric", METRICS)
def test_the_interval_equals_a_slow_loop_over_the_same_resamples(metric: str):
    data = outcomes()
    counts = np.concatenate(list(resample(12, 1000, seed=3)))
    drawn = [np.repeat(np.arange(12), row.astype(int)) for row in counts]
    low, high = np.percentile([slow(metric, data, d) for d in drawn], [2.5, 97.5])
    found = interval(metric, data, resamples=1000, seed=3)
    np.testing.assert_allclose(found, (slow(metric, data, np.arange(12)), low, high), rtol=1e-12)


def test_resamples_are_the_recorded_ones():
    """Others would move published intervals under an unchanged hash of a protocol."""
    counts = [np.concatenate(list(resample(6, 3, seed=seed))).tolist() for seed in (0, 1)]
    assert counts == [
        [[1, 2, 0, 2, 0, 1], [2, 1, 0, 1, 1, 1], [0, 0, 0, 4, 1, 1]],
        [[2, 0, 1, 1, 1, 1], [0, 2, 1, 0, 1, 2], [0, 2, 1, 2, 1, 0]],
    ]


def test_resamples_draw_as_many_images_as_there_are_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch):
    whole = np.concatenate(list(resample(30, 50, seed=1)))
    monkeypatch.setattr(bootstrap, "CELLS_PER_CHUNK", 200)
    parts = list(resample(30, 50, seed=1))
    assert len(parts) > 1
    assert (np.concatenate(parts) == whole).all()
    assert (whole.sum(1) == 30).all()


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    draw = np.random.default_rng(0)
    keys, hits = np.arange(200), 0
    for trial in range(200):
        low, high = interval("top1", {"keys": keys, "correct": draw.random(200) < 0.7}, resamples=1000, seed=trial)[1:]
        hits += low <= 0.7 <= high
    assert 0.90 <= hits / 200 <= 0.985


def test_the_interval_agrees_with_the_normal_one_for_many_images():
    correct = np.arange(1000) < 700
    _, low, high = interval("top1", {"keys": np.arange(1000), "correct": correct})
    half = 1.96 * np.sqrt(0.7 * 0.3 / 1000)
    np.testing.assert_allclose((low, high), (0.7 - half, 0.7 + half), atol=0.004)


def test_intervals_of_many_metrics_are_those_of_each_alone():
    assert intervals(METRICS, outcomes()) == {metric: interval(metric, outcomes()) for metric in METRICS}


def test_class_means_equal_mmsegmentations_own():
    import torch
    from mmseg.evaluation import IoUMetric

    data = outcomes()
    areas = [torch.from_numpy(data[name].sum(0)).double() for name in ("intersect", "predicted", "truth")]
    right, guess, truth = areas
    theirs = IoUMetric.total_area_to_metrics(right, guess + truth - right, guess, truth, ["mIoU", "mDice", "mFscore"])
    names = {"IoU": "miou", "Acc": "mean_accuracy", "Dice": "dice", "Fscore": "fscore", "Precision": "precision",
             "Recall": "recall"}  # fmt: skip
    for name, ours in names.items():
        assert interval(ours, data).value == pytest.approx(np.nanmean(theirs[name]), rel=1e-9), name
    assert interval("pixel_accuracy", data).value == pytest.approx(float(theirs["aAcc"]), rel=1e-9)


def test_the_same_seed_gives_the_same_interval():
    assert interval("miou", outcomes()) == interval("miou", outcomes())
    assert interval("miou", outcomes(), seed=1) != interval("miou", outcomes(), seed=2)


def test_a_paired_difference_matches_images_by_key_and_leaves_the_rest_out():
    one, other = outcomes(seed=1), outcomes(seed=2)
    order = np.random.default_rng(0).permutation(12)[:10]
    shuffled = {name: values[order] for name, values in other.items()}
    kept = np.sort(order)
    expected = slow("miou", other, kept) - slow("miou", one, kept)
    found = paired_difference("miou", one, shuffled)
    np.testing.assert_allclose(found.value, expected, rtol=1e-12)
    assert found.low <= found.value <= found.high


def test_pairing_makes_the_interval_narrower_than_the_two_alone():
    draw = np.random.default_rng(0)
    hard = draw.random(300)
    one = {"keys": np.arange(300), "rmse": hard}
    other = {"keys": np.arange(300), "rmse": hard + 0.01 + 0.001 * draw.standard_normal(300)}
    found = paired_difference("rmse", one, other)
    assert 0 < found.low < found.value < found.high
    alone = interval("rmse", one)
    assert found.high - found.low < (alone.high - alone.low) / 50


def test_identical_outcomes_differ_by_nothing():
    assert paired_difference("miou", outcomes(), outcomes()) == (0.0, 0.0, 0.0)


def test_impossible_requests_are_refused():
    with pytest.raises(BadInput, match="top1"):
        interval("top2", outcomes())
    with pytest.raises(BadInput, match="without images"):
        interval("top1", {"keys": np.array([]), "correct": np.array([])})
    with pytest.raises(BadInput, match="no image in common"):
        paired_difference("top1", outcomes(), {**outcomes(), "keys": np.array([f"other-{i}" for i in range(12)])})
