from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from common.errors import BadInput
from evals.datasets.catalogue import open_set
from evals.features.feature_set import FeatureSet
from evals.protocols.reading import load
from evals.results.bootstrap import interval
from evals.tasks.health.health import cls_patch_cosine, evaluate, gram_drift, locality, measure, metrics
from evals.tasks.health.settings import Health

GRID = (4, 5)


class Images:
    name, split, classes, segments, has_depth = "made", "val", (), (), False

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def key(self, index: int) -> str:
        return f"image-{index}"


def protocol(**changes: Any) -> Health:
    return load("health-quick", Health, **{"group_clusters": 6, **changes})


def made(images: int = 10, *, width: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Smooth patches [n 20 D] around an image's own mean, and class tokens [n D] near that mean."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.randn(images, width, 2, 3, generator=draw)
    maps = torch.nn.functional.interpolate(coarse, size=GRID, mode="bilinear") + 0.3
    noise = torch.randn(images, 20, width, generator=draw)
    return maps.flatten(2).mT + 0.2 * noise, maps.mean((2, 3)) + 0.2 * torch.randn(images, width, generator=draw)


def featured(tokens: Tensor, pooled: Tensor, grid: tuple[int, int] = GRID) -> FeatureSet:
    grids = torch.tensor([grid] * len(tokens))
    return FeatureSet.in_memory(Images(len(tokens)), pooled, tokens=tokens.flatten(0, 1), grids=grids)  # pyright: ignore


def values(tokens: Tensor, pooled: Tensor, **changes: Any) -> dict[str, float]:
    found = measure(tokens, pooled, protocol=protocol(**changes), grid=GRID)
    return {name: float(x.mean()) for name, x in found.items()}


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def test_class_tokens_are_compared_with_every_patch():
    tokens, pooled = made(3)
    x, c = tokens.double().numpy(), pooled.double().numpy()
    expected = [np.mean([cosine(patch, c[i]) for patch in x[i]]) for i in range(3)]
    np.testing.assert_allclose(cls_patch_cosine(tokens, pooled).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("grid", [(4, 5), (2, 10), (20, 1)])
def test_locality_equals_a_plain_loop_over_pairs_of_patches(grid: tuple[int, int]):
    x = made(2)[0].double().numpy()
    places = [divmod(p, grid[1]) for p in range(20)]
    for image, found in zip(x, locality(torch.from_numpy(x), grid).tolist(), strict=True):
        gaps = []
        for p, (r, c) in enumerate(places):
            others = [q for q in range(20) if q != p]
            near = [q for q in others if max(abs(places[q][0] - r), abs(places[q][1] - c)) == 1]
            far = [q for q in others if q not in near]
            near_mean, far_mean = (np.mean([cosine(image[p], image[q]) for q in side]) for side in (near, far))
            gaps.append(near_mean - far_mean)
        assert found == pytest.approx(np.mean(gaps), rel=1e-9)


def test_a_patch_without_a_farther_one_is_left_out_of_locality():
    x = torch.zeros(1, 9, 2)
    x[0, :, 0] = 1
    x[0, 4] = torch.tensor([0.0, 1.0])  # the centre of 3 x 3 has all others for neighbours
    near_corner, near_edge = 2 / 3, 4 / 5
    assert float(locality(x, (3, 3))) == pytest.approx(((near_corner - 1) * 4 + (near_edge - 1) * 4) / 8, rel=1e-6)


@pytest.mark.parametrize(("patches", "widths"), [(6, (9, 9)), (9, (6, 6)), (9, (6, 4)), (6, (9, 12))])
def test_gram_drift_equals_the_difference_of_the_matrices(patches: int, widths: tuple[int, int]):
    draw = torch.Generator().manual_seed(0)
    one, other = (torch.randn(3, patches, width, generator=draw) for width in widths)
    grams = [np.array([[[cosine(a, b) for b in z] for a in z] for z in x.double().numpy()]) for x in (one, other)]
    expected = ((grams[0] - grams[1]) ** 2).mean((1, 2))
    np.testing.assert_allclose(gram_drift(one, other).numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(gram_drift(other, 5 * one).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("patches", [40, 100])
def test_gram_drift_keeps_its_digits_where_two_networks_nearly_agree(patches: int):
    draw = torch.Generator().manual_seed(0)
    one = torch.randn(2, patches, 64, generator=draw)
    one = one / one.norm(dim=2, keepdim=True)
    other = one + 1e-5 * torch.randn(one.shape, generator=draw)
    x, y = (torch.nn.functional.normalize(z.double(), dim=2) for z in (one, other))
    expected = (x @ x.mT - y @ y.mT).square().mean((1, 2))
    assert float(expected.max()) < 1e-8
    np.testing.assert_allclose(gram_drift(one, other).numpy(), expected.numpy(), rtol=5e-3)
    assert gram_drift(one, one).tolist() == [0.0, 0.0]


def test_high_norm_patches_raise_the_outliers_by_their_share():
    tokens, pooled = made()
    tokens = torch.nn.functional.normalize(tokens, dim=2)
    assert values(tokens, pooled)["norm_outliers"] == 0
    tokens[:, 3] *= 3.5
    tokens[0, :4] *= 4
    assert values(tokens, pooled)["norm_outliers"] == pytest.approx((10 + 3) / 200)
    assert values(tokens, pooled, outlier_factor=15.0)["norm_outliers"] == 0


def test_outliers_that_the_final_norm_hides_are_found_before_it():
    tokens, pooled = made()
    before = 2 * torch.nn.functional.normalize(tokens, dim=2)
    before[:, 7] *= 10
    after = torch.nn.functional.layer_norm(before, (7,))
    found = measure(after, pooled, protocol=protocol(), grid=GRID, lengths=before.norm(dim=2))
    hidden = measure(after, pooled, protocol=protocol(), grid=GRID)
    assert hidden["norm_outliers"].mean() == 0
    assert found.pop("norm_outliers").mean() == pytest.approx(10 / 200)
    assert all((found[name] == hidden[name]).all() for name in found)


def test_turning_the_feature_space_changes_no_measure():
    tokens, pooled = made()
    turn = torch.linalg.qr(torch.randn(7, 7, generator=torch.Generator().manual_seed(1)))[0]
    assert values(tokens @ turn, pooled @ turn) == pytest.approx(values(tokens, pooled), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("unit_length", [True, False])
def test_the_unit_of_the_features_changes_no_measure(unit_length: bool):
    tokens, pooled = made()
    first, second = (values(s * tokens, s * pooled, unit_length=unit_length) for s in (1, 8))
    assert second == pytest.approx(first, rel=1e-5, abs=1e-6)


def test_collapsed_features_have_rank_one_no_locality_and_no_nan():
    found = values(torch.full((8, 20, 7), 0.3), torch.full((8, 7), -0.3))
    assert found["cls_patch_cosine"] == pytest.approx(-1, abs=1e-6)
    assert found["locality"] == pytest.approx(0, abs=1e-6)
    assert found["effective_rank"] == pytest.approx(1)
    assert found["rankme"] == pytest.approx(1, abs=1e-6)
    assert found["norm_outliers"] == 0
    assert (found["dse_inter"], found["dse_intra"]) == (0, 0)
    assert found["dse_dim"] == pytest.approx(1 / 7, abs=1e-6)
    empty = values(torch.zeros(8, 20, 7), torch.zeros(8, 7))
    assert all(math.isfinite(x) for x in empty.values())


def test_random_features_fill_more_dimensions_than_those_of_a_plane():
    draw = torch.Generator().manual_seed(0)
    full = torch.randn(30, 20, 7, generator=draw)
    flat = full[..., :2] @ torch.randn(2, 7, generator=draw)
    high, low = values(full, full.mean(1)), values(flat, flat.mean(1))
    for name in ("effective_rank", "rankme"):
        assert low[name] <= 2 + 1e-6 < 6 < high[name]
    assert low["dse_dim"] <= 2 / 7 + 1e-6 < high["dse_dim"]


def test_noise_between_neighbours_lowers_locality():
    tokens, pooled = made()
    noisy = tokens + torch.randn(tokens.shape, generator=torch.Generator().manual_seed(1))
    assert values(noisy, pooled)["locality"] < 0.5 * values(tokens, pooled)["locality"]


def test_features_of_a_set_and_loose_tensors_measure_alike():
    tokens, pooled = made()
    loose = measure(tokens, pooled, protocol=protocol(), grid=GRID, reference=tokens + 0.1)
    found = evaluate(protocol(), featured(tokens, pooled), reference=featured(tokens + 0.1, pooled))
    assert found.pop("keys").tolist() == [f"image-{i}" for i in range(10)]
    assert tuple(found) == metrics(protocol(), reference=True) == tuple(loose)
    for name, x in found.items():
        assert x.shape == (10,)
        np.testing.assert_array_equal(x, loose[name])
    alone = evaluate(protocol(), featured(tokens, pooled))
    assert tuple(alone)[1:] == metrics(protocol())


def test_drift_needs_a_reference_and_widths_may_differ():
    tokens, pooled = made()
    assert "gram_drift" not in measure(tokens, pooled, protocol=protocol(), grid=GRID)
    wider = torch.cat([tokens, torch.zeros(10, 20, 3)], 2)
    found = measure(tokens, pooled, protocol=protocol(), grid=GRID, reference=wider)
    np.testing.assert_allclose(found["gram_drift"], 0, atol=1e-12)


def test_where_patches_are_stored_changes_nothing():
    tokens, pooled = made()
    kept = featured(tokens, pooled)
    order = [7, 2, 9, 0, 1, 3, 8, 4, 6, 5]
    starts = torch.tensor([order.index(i) * 20 for i in range(10)])
    rows = tokens[order].flatten(0, 1)
    moved = replace(kept, tokens=rows, lengths=rows.norm(dim=1, keepdim=True), starts=starts)
    for name, x in evaluate(protocol(), kept).items():
        np.testing.assert_array_equal(x, evaluate(protocol(), moved)[name])


def test_every_metric_has_an_interval_around_it():
    found = evaluate(protocol(), featured(*made(40)), reference=featured(*made(40, seed=1)))
    for name in metrics(protocol(), reference=True):
        value, low, high = interval(name, found, resamples=200)
        assert value == pytest.approx(found[name].mean())
        assert low <= value <= high
        assert low < high or name == "norm_outliers"


def test_half_precision_in_training_is_measured_in_float32():
    tokens, pooled = made()
    found = measure(tokens.bfloat16().requires_grad_(), pooled.bfloat16(), protocol=protocol(), grid=GRID)
    exact = measure(tokens.bfloat16().float(), pooled.bfloat16().float(), protocol=protocol(), grid=GRID)
    for name, x in exact.items():
        np.testing.assert_array_equal(found[name], x)


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ({"group_size": 5}, {"dse", "dse_inter", "dse_intra"}),
        ({"group_clusters": 5}, {"dse", "dse_inter", "dse_intra"}),
        ({"image_clusters": 2}, {"dse", "dse_intra"}),
        ({"rounds": 1}, {"dse", "dse_inter", "dse_intra"}),
        ({"positions": 3}, {"dse", "dse_dim"}),
        ({"dim_weight": 2.0}, {"dse"}),
        ({"unit_length": False}, {"dse", "dse_inter", "dse_intra", "dse_dim"}),
        ({"outlier_factor": 1.2}, {"norm_outliers"}),
        ({"seed": 1}, {"dse", "dse_inter", "dse_intra", "dse_dim"}),
    ],
)
def test_every_setting_moves_what_it_belongs_to_and_nothing_else(change: dict[str, Any], moved: set[str]):
    tokens, pooled = made()
    one, other = (values(tokens, pooled, **{"positions": 19, **more}) for more in ({}, change))
    assert {name for name in one if one[name] != other[name]} == moved


def test_measuring_leaves_its_input_and_the_global_random_state_alone():
    tokens, pooled = made()
    copies, before = (tokens.clone(), pooled.clone()), torch.get_rng_state()
    measure(tokens, pooled, protocol=protocol(), grid=GRID)
    assert torch.equal(tokens, copies[0])
    assert torch.equal(pooled, copies[1])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_protocol_that_ships_runs_on_rendered_rooms():
    rooms = open_set("scenes", split="val", size=32, count=9)
    x = torch.stack([torch.from_numpy(rooms.image(i)).float().reshape(8, 4, 8, 12) for i in range(9)])
    tokens = x.permute(0, 1, 3, 2, 4).reshape(9, 64, 48)  # pixels of each 4 x 4 patch
    found = evaluate(load("health-quick", Health), FeatureSet.in_memory(
        rooms, tokens.mean(1), tokens=tokens.flatten(0, 1), grids=torch.tensor([[8, 8]] * 9)
    ))  # fmt: skip
    assert found["locality"].mean() > 0
    assert all(np.isfinite(found[name]).all() for name in metrics(load("health-quick", Health)))


def test_input_that_does_not_fit_is_refused():
    tokens, pooled = made()
    with pytest.raises(BadInput, match="got 7 images: want at least 8"):
        values(tokens[:7], pooled[:7])
    for changes in ({"positions": 0}, {"rounds": 0}, {"outlier_factor": 0.0}):
        with pytest.raises(BadInput, match=f"^health-quick: {next(iter(changes))}=0.*: want"):
            protocol(**changes)
    with pytest.raises(BadInput, match="got 2 x 2 patches an image"):
        measure(tokens[:, :4], pooled, protocol=protocol())
    with pytest.raises(BadInput, match="got 20 patches an image: want 4 x 4"):
        measure(tokens, pooled, protocol=protocol())
    with pytest.raises(BadInput, match=r"want \[B, P, D\] and \[B, D\]"):
        measure(tokens, pooled[:9], protocol=protocol(), grid=GRID)
    with pytest.raises(BadInput, match=r"got lengths \[9, 20\] for patches \[10, 20, 7\]"):
        measure(tokens, pooled, protocol=protocol(), grid=GRID, lengths=tokens[:9].norm(dim=2))
    with pytest.raises(BadInput, match="without patches"):
        evaluate(protocol(), FeatureSet.in_memory(Images(10), pooled))  # pyright: ignore[reportArgumentType]
    unlike = featured(tokens, pooled)
    unlike.grids[0] = torch.tensor([5, 4])  # pyright: ignore[reportOptionalSubscript]
    with pytest.raises(BadInput, match="unlike grids"):
        evaluate(protocol(), unlike)
    with pytest.raises(BadInput, match="other images"):
        evaluate(protocol(), featured(tokens, pooled), reference=featured(tokens[:9], pooled[:9]))
    with pytest.raises(BadInput, match="the same images and grid"):
        measure(tokens, pooled, protocol=protocol(), grid=GRID, reference=tokens[:9])
    with pytest.raises(BadInput, match="the same images and grid"):
        evaluate(protocol(), featured(tokens, pooled), reference=featured(tokens, pooled, (5, 4)))
