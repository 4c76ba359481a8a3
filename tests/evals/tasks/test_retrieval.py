from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from common.errors import BadInput
from evals import mmseg_bridge
from evals.datasets.catalogue import open_set
from evals.datasets.labelled_set import IGNORE
from evals.features.feature_set import FeatureSet
from evals.features.view import cells
from evals.judging.pixel_classes import shares_of
from evals.protocols.reading import load
from evals.results.bootstrap import interval
from evals.tasks.retrieval import Retrieval, evaluate, memory_bank, metrics
from tests.evals.toys import bilinear, featured, forty_classes, maps_brought_to


def oracle(images: int, *, pixels: int, seed: int, stripes: bool = False, shuffle: bool = False) -> FeatureSet:
    """Patches along the axis of their class, at any length, under masks that are constant on each of them."""
    draw = np.random.default_rng(seed)
    maps = draw.integers(0, 4, (images, 5, 6))
    if stripes:
        maps = np.broadcast_to(maps[:, :, :1], maps.shape)
    tokens = np.eye(4)[maps.reshape(-1)] * draw.uniform(0.1, 9, (images * 30, 1))
    if shuffle:
        tokens = tokens[draw.permutation(len(tokens))]
    masks = [np.kron(m, np.ones((pixels, pixels))).astype(np.uint8) for m in maps]
    return featured(tokens, [(5, 6)] * images, masks)


def noisy(images: int, *, seed: int, classes: int = 4, width: int = 6) -> FeatureSet:
    """Random patches of unlike grids under random masks with holes."""
    draw = np.random.default_rng(seed)
    grids = [[(3, 4), (5, 2), (4, 4)][i % 3] for i in range(images)]
    shapes = [[(24, 33), (41, 16), (32, 32)][i % 3] for i in range(images)]
    masks = [draw.choice([*range(classes), IGNORE], shape).astype(np.uint8) for shape in shapes]
    tokens = draw.standard_normal((sum(h * w for h, w in grids), width))
    return featured(tokens, grids, masks)


def protocol(**changes: Any) -> Retrieval:
    return load("retrieval-quick", Retrieval, **{"k": 5, **changes})


def score(train: FeatureSet, test: FeatureSet, **changes: Any) -> float:
    return interval("miou", evaluate(protocol(**changes), train, test), resamples=100).value


@pytest.mark.parametrize(("pixels", "stripes"), [(1, False), (8, True)])
def test_an_oracle_scores_one(pixels: int, stripes: bool):
    train, test = (oracle(12, pixels=pixels, seed=s, stripes=stripes) for s in (0, 1))
    assert score(train, test) == 1.0
    assert score(train, test, memory=80) == 1.0


def test_a_shuffled_oracle_scores_chance():
    train, test = (oracle(60, pixels=1, seed=s, shuffle=True) for s in (0, 1))
    assert score(train, test) < 0.2  # a constant guess has 0.25 / 4, an independent one 1 / 7


def test_areas_equal_a_plain_search_through_scikit_learn():
    train, test = noisy(9, seed=0), noisy(7, seed=1)
    found = evaluate(protocol(temperature=0.1), train, test)
    bank = train.tokens[:].numpy()  # pyright: ignore[reportOptionalSubscript]
    labels = np.concatenate([shares_of(train.dataset.mask(i), train.grid(i), 4) for i in range(9)])
    index = NearestNeighbors(n_neighbors=5, metric="cosine", algorithm="brute").fit(bank)
    for image in range(7):
        distance, places = index.kneighbors(test.patches(image).numpy())
        weights = np.exp((1 - distance) / 0.1)
        votes = np.stack([w @ labels[p] / w.sum() for w, p in zip(weights, places, strict=True)])
        mask = test.dataset.mask(image)
        guess = bilinear(torch.from_numpy(votes).float(), test.grid(image), mask.shape).argmax(0)
        theirs = mmseg_bridge.intersect_and_union(guess, mask, num_classes=4)
        for name, areas in zip(("intersect", "predicted", "truth"), theirs, strict=True):
            np.testing.assert_array_equal(found[name][image], areas)


def test_no_map_of_all_classes_is_held_at_the_size_of_a_mask(monkeypatch: pytest.MonkeyPatch):
    features = forty_classes()
    sizes = maps_brought_to((50, 60), monkeypatch)
    evaluate(protocol(), features, features)
    assert max(sizes) <= 16


def test_one_neighbour_in_a_memory_of_the_test_patches_gives_the_patches_back():
    test = noisy(6, seed=0)
    found = evaluate(protocol(k=1), test, test)
    for image in range(6):
        mask = test.dataset.mask(image)
        votes = torch.from_numpy(shares_of(mask, test.grid(image), 4))
        guess = bilinear(votes, test.grid(image), mask.shape).argmax(0)
        assert found["intersect"][image].sum() == int((guess.numpy() == mask)[mask != IGNORE].sum())


def test_pixels_without_a_label_count_nowhere():
    train, test = oracle(12, pixels=4, seed=0), oracle(4, pixels=4, seed=1)
    whole = evaluate(protocol(), train, test)
    test.dataset.mask(0)[:8] = IGNORE
    holed = evaluate(protocol(), train, test)
    assert holed["truth"].sum() == whole["truth"].sum() - 8 * 24
    assert holed["predicted"][0].sum() == holed["truth"][0].sum() == 12 * 24


def test_memory_holds_labelled_patches_alone_and_as_many_of_each_image():
    train = oracle(10, pixels=4, seed=0)
    for index in range(10):
        mask = train.dataset.mask(index)
        mask[:, :4] = IGNORE
        mask[cells((20, 24), (5, 6)) == 9] = IGNORE
    bank, labels = memory_bank(train, most=10**6)
    assert len(bank) == 10 * 24
    assert (labels.sum(1) == 1).all()
    assert torch.equal(bank.argmax(1), labels.argmax(1))
    few, _ = memory_bank(train, most=100)
    assert len(few) == 100
    owners = [{tuple(row) for row in train.patches(i).tolist()} for i in range(10)]
    assert [sum(tuple(row) in owner for row in few.tolist()) for owner in owners] == [10] * 10


def test_a_larger_memory_serves_noisy_patches_better():
    def made(images: int, seed: int) -> FeatureSet:
        features = oracle(images, pixels=1, seed=seed)
        noise = np.random.default_rng(seed).standard_normal((images * 30, 4))
        masks = [features.dataset.mask(i) for i in range(images)]
        return featured(features.tokens[:].numpy() + noise, [(5, 6)] * images, masks)  # pyright: ignore

    train, test = made(80, 0), made(30, 1)
    assert score(train, test, memory=20) < score(train, test, memory=2400, k=30, temperature=0.1)


def test_where_patches_are_stored_changes_nothing():
    train, test = noisy(5, seed=0), noisy(6, seed=1)
    order = [4, 0, 5, 2, 1, 3]
    sizes = [h * w for h, w in map(test.grid, order)]
    starts = dict(zip(order, np.cumsum(sizes) - sizes, strict=True))
    tokens = torch.cat([test.patches(i) for i in order])
    places = torch.tensor([int(starts[i]) for i in range(6)])
    moved = replace(test, tokens=tokens, starts=places)
    first, second = evaluate(protocol(), train, test), evaluate(protocol(), train, moved)
    assert all((first[name] == second[name]).all() for name in first)


def test_who_watches_is_shown_what_was_judged():
    train, test = noisy(5, seed=0), noisy(6, seed=1)
    shown: dict[int, np.ndarray] = {}
    found = evaluate(protocol(), train, test, watch=lambda index, guess: shown.update({index: guess}))
    for index in range(6):
        mask = test.dataset.mask(index)
        right = [int(((shown[index] == mask) & (mask == c)).sum()) for c in range(4)]
        assert found["intersect"][index].tolist() == right


@pytest.mark.parametrize("change", [{"k": 2}, {"memory": 30}, {"temperature": 0.5}])
def test_every_setting_counts(change: dict[str, float]):
    train, test = noisy(5, seed=0), noisy(6, seed=1)
    one, other = (evaluate(protocol(**more), train, test)["predicted"] for more in ({}, change))
    assert (one != other).any()


def test_results_repeat_and_the_global_random_state_stays():
    train, test = noisy(5, seed=0), noisy(6, seed=1)
    before = torch.get_rng_state()
    first, second = (evaluate(protocol(memory=30), train, test) for _ in range(2))
    assert all((first[name] == second[name]).all() for name in first)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_protocol_that_ships_beats_a_constant_guess_on_rendered_rooms():
    def pixels(split: str, count: int) -> FeatureSet:
        rooms = open_set("scenes", split=split, size=32, count=count)
        images = torch.stack([torch.from_numpy(rooms.image(i)).float() for i in range(count)])
        patches = images.reshape(count, 8, 4, 8, 4, 3).mean((2, 4)).reshape(-1, 3) / 128 - 1
        return FeatureSet.in_memory(rooms, patches[:count], tokens=patches, grids=torch.tensor([[8, 8]] * count))

    shipped = load("retrieval-quick", Retrieval)
    found = evaluate(shipped, pixels("train", 16), pixels("val", 8))
    assert metrics(shipped) == ("miou", "pixel_accuracy", "mean_accuracy")
    values = {name: interval(name, found, resamples=50).value for name in metrics(shipped)}
    areas = found["truth"].sum(0)
    assert values["miou"] > 1.5 * areas.max() / areas.sum() / np.count_nonzero(areas)  # that of a constant guess
    assert all(0 < value < 1 for value in values.values())


def test_input_that_does_not_fit_is_refused():
    good = oracle(4, pixels=1, seed=0)
    blank = featured(np.eye(4)[:1], [(1, 1)], [np.full((2, 2), IGNORE, np.uint8)])
    with pytest.raises(BadInput, match="no labelled pixel"):
        evaluate(protocol(), blank, good)
    with pytest.raises(BadInput, match="unlike pixel classes"):
        evaluate(protocol(), good, featured(np.eye(4)[:1], [(1, 1)], [np.zeros((2, 2), np.uint8)], "ab"))
    with pytest.raises(BadInput, match="without pixel classes"):
        evaluate(protocol(), good, featured(np.eye(4)[:1], [(1, 1)], [np.zeros((2, 2), np.uint8)], ""))
    with pytest.raises(BadInput, match="got k=5 and 4 labelled patches"):
        evaluate(protocol(memory=4), good, good)


@pytest.mark.parametrize("change", [{"memory": 0}, {"k": 0}, {"temperature": 0.0}, {"temperature": -1.0}, {"size": 0}])
def test_settings_that_cannot_be_are_refused(change: dict[str, float]):
    with pytest.raises(BadInput, match=rf"^retrieval-quick: {next(iter(change))}(\[\d\])?=.*: want "):
        protocol(**change)
