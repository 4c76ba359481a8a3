from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import BadInput
from common.feature_maps import POINTS, patch_at
from evals.datasets.catalogue import open_set
from evals.features.feature_set import FeatureSet
from evals.pictures.feature_maps import (
    PatchSample,
    features_figure,
    pca_maps,
    read_points,
    sample,
    similarity_maps,
)
from evals.pictures.sheet import write

SCALES = (9.0, 4.0, 2.0)


def planted(grid: tuple[int, int] = (6, 8), width: int = 16, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches [D h w] spanned by three orthogonal directions of known spread, and the coordinates [3 h w]."""
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(3, grid[0] * grid[1], generator=draw, dtype=torch.float64)
    hidden = torch.linalg.qr((hidden - hidden.mean(1, keepdim=True)).T)[0].T * torch.tensor(SCALES)[:, None]
    directions = torch.linalg.qr(torch.randn(width, 3, generator=draw, dtype=torch.float64))[0]
    patches = (directions @ hidden + 5).reshape(width, *grid)
    return patches.float(), hidden.reshape(3, *grid)


def test_the_colours_are_the_planted_components_up_to_sign():
    patches, hidden = planted()
    (colours,) = pca_maps([patches])
    assert colours.shape == (6, 8, 3)
    for channel in range(3):
        shown, truth = colours[..., channel].ravel(), hidden[channel].numpy().ravel()
        inside = (shown > 0) & (shown < 1)
        assert inside.sum() > 40
        assert abs(np.corrcoef(shown[inside], truth[inside])[0, 1]) == pytest.approx(1, abs=1e-5)


def test_signs_and_scales_do_not_depend_on_chance():
    patches, _ = planted()
    np.testing.assert_allclose(pca_maps([patches])[0], pca_maps([patches * 3 + 7])[0], atol=1e-4)
    shuffled = patches.flip(1)
    np.testing.assert_allclose(pca_maps([shuffled])[0][::-1], pca_maps([patches])[0], atol=1e-4)


@pytest.mark.parametrize("loading", [-0.9, 0.9])
def test_a_component_rises_with_the_feature_that_it_loads_on_most(loading: float):
    ramp = torch.linspace(-1, 1, 24).reshape(1, 4, 6)
    (colours,) = pca_maps([ramp * torch.tensor([0.3, loading, -0.2, 0.1])[:, None, None]])
    assert colours[0, 0, 0] == (0 if loading > 0 else 1)
    assert colours[-1, -1, 0] == (1 if loading > 0 else 0)


def test_equal_patches_have_equal_colours_in_all_images_of_whatever_grid():
    patches, _ = planted()
    first, second = pca_maps([patches, torch.cat([patches[:, 2:4], planted(seed=1)[0]], 1)])
    assert (first.shape, second.shape) == ((6, 8, 3), (8, 8, 3))
    np.testing.assert_array_equal(first[2:4], second[:2])


def test_a_few_outliers_do_not_make_the_rest_grey():
    ramp = torch.linspace(-1, 1, 400)
    ramp[7] = 500
    (colours,) = pca_maps([(ramp[None] * torch.tensor([0.9, 0.1])[:, None]).reshape(2, 20, 20)])
    assert colours[..., 0].std() > 0.25


def test_components_without_variance_are_mid_grey():
    line = torch.arange(12.0).reshape(1, 3, 4) * torch.randn(8, 1, 1, generator=torch.Generator().manual_seed(0))
    (colours,) = pca_maps([line])
    assert colours[..., 0].std() > 0.2
    assert (colours[..., 1:] == 0.5).all()
    assert (pca_maps([torch.randn(2, 3, 4)])[0][..., 2] == 0.5).all()


def test_similarity_is_one_at_the_chosen_patch_and_nowhere_more():
    patches = torch.randn(12, 5, 7, generator=torch.Generator().manual_seed(0))
    for point, found in zip(POINTS, similarity_maps(patches), strict=True):
        place = patch_at(point, (5, 7))
        assert found[place] == pytest.approx(1)
        assert found.argmax() == np.ravel_multi_index(place, (5, 7))
        other = patches[:, 4, 6], patches[:, *place]
        assert found[4, 6] == pytest.approx(float(torch.cosine_similarity(*other, dim=0)), abs=1e-6)


@pytest.mark.parametrize(
    ("point", "place"), [((0.0, 0.0), (0, 0)), ((1.0, 1.0), (3, 5)), ((0.5, 0.5), (2, 3)), ((0.24, 0.99), (0, 5))]
)
def test_a_point_falls_into_the_patch_under_it(point: tuple[float, float], place: tuple[int, int]):
    assert patch_at(point, (4, 6)) == place


def test_points_are_read_as_shares_of_height_and_width():
    assert read_points(["0.5,0.25", "0, 1"]) == ((0.5, 0.25), (0.0, 1.0))
    for wrong in ("0.5", "1.5,0", "a,b", "0.1,0.2,0.3", "nan,0"):
        with pytest.raises(BadInput, match="want y,x as shares"):
            read_points([wrong])


def test_the_page_has_a_row_for_each_image_and_a_column_for_each_point(tmp_path: Path):
    images = [np.full((48, 64, 3), 90, np.uint8), np.full((64, 64, 3), 200, np.uint8)]
    samples = [PatchSample(f"image-{n}", image, planted(seed=n)[0]) for n, image in enumerate(images)]
    figure = features_figure(samples, title="Features of $x_1$", points=((0.5, 0.5), (0.1, 0.9)))
    texts = [text.get_text() for text in figure.texts]
    for said in ("Features of $x_1$", "Image", "Similarity to 2", "Cosine", "image-1  (6 × 8 patches)"):
        assert said in texts
    assert "Similarity to 3" not in texts
    pictures = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(pictures) == 2 * 5
    assert pictures[3].get_array().shape == (6, 8)  # patches stay patches: nothing is smoothed
    assert pictures[3].get_interpolation() == "nearest"
    assert pictures[3].get_clim() == pictures[8].get_clim()
    np.testing.assert_array_equal(pictures[1].get_extent(), [0, 64, 48, 0])
    path = write(tmp_path, "features", figure)
    assert np.asarray(Image.open(path).convert("RGB")).std() > 20


def test_features_that_are_all_alike_are_drawn_too(tmp_path: Path):
    one = PatchSample("a", np.zeros((8, 8, 3), np.uint8), torch.ones(5, 4, 4))
    assert write(tmp_path, "alike", features_figure([one], title="alike")).is_file()


def test_a_sample_has_its_images_patches_in_place():
    dataset = open_set("scenes", split="val", size=32, count=2)
    tokens = torch.arange(20.0).reshape(10, 2)  # 2 × 2 patches, then 2 × 3
    grids = torch.tensor([[2, 2], [2, 3]])
    features = FeatureSet.in_memory(dataset, torch.zeros(2, 2), tokens=tokens, grids=grids)
    one = sample(features, 1)
    assert one.key == dataset.key(1)
    assert one.patches.shape == (2, 2, 3)
    assert one.patches[:, 1, 0].tolist() == tokens[4 + 3].tolist()
