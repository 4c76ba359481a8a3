"""Crops against torchvision: the same pixels for the same box, the same distribution of boxes."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2 import functional as vision

from common import draws
from harness.data.crops import DRAWS, boxes, cut, draw_boxes, draw_flips, windows
from harness.data.engines import ENGINES

RATIO = (3 / 4, 4 / 3)


def photo(height=60, width=80, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)


def pixels(image):
    return torch.from_numpy(np.array(image))


def planes(image):
    return np.moveaxis(np.asarray(image), -1, 0).astype(int)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("grain", [0, 25])
@pytest.mark.parametrize("size", [16, 48, 96, 224])
@pytest.mark.parametrize("flip", [False, True])
def test_a_cut_equals_torchvisions_resized_crop_within_rounding(engine, grain, size, flip):
    """Smooth and noisy pictures, made smaller and larger; torchvision hands PIL's pictures to Pillow."""
    noise = np.random.default_rng(1).normal(0, grain, (60, 80, 3))
    image = Image.fromarray((np.asarray(photo()) + noise).clip(0, 255).astype(np.uint8))
    left, top, width, height = 7, 5, 50, 41
    want = vision.resized_crop(image, top, left, height, width, [size, size], InterpolationMode.BICUBIC)
    want = vision.horizontal_flip(want) if flip else want
    box, resized = np.array([[left, top, width, height]]), ENGINES[engine].resized
    off = cut([pixels(image)], box, np.array([flip]), size=size, resized=resized)[0].numpy() - planes(want)
    assert np.abs(off).max() <= 2
    assert (off != 0).mean() < 0.02
    assert abs(off.mean()) < 0.005


@pytest.mark.parametrize("engine", ENGINES)
def test_a_cut_of_the_whole_image_at_its_own_size_is_the_image(engine):
    image, whole = photo(32, 32), np.array([[0, 0, 32, 32]])
    found = cut([pixels(image)], whole, np.array([False]), size=32, resized=ENGINES[engine].resized)
    assert np.array_equal(found[0].numpy(), planes(image))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("extent", [(1, 1), (1, 7), (3, 2)])
def test_the_smallest_images_can_be_cut_too(engine, extent):
    image, whole = photo(*extent), np.array([[0, 0, *extent[::-1]]])
    found = cut([pixels(image)], whole, np.array([True]), size=8, resized=ENGINES[engine].resized)[0].numpy()
    want = planes(image.resize((8, 8), Image.Resampling.BICUBIC).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert np.abs(found - want).max() <= 1


@pytest.mark.parametrize("extent", [(60, 80), (375, 500), (9, 400), (400, 9), (1, 1), (3, 2)])
@pytest.mark.parametrize("scale", [(0.05, 0.32), (0.32, 1.0), (1.0, 1.0)])
def test_boxes_lie_inside_the_image(extent, scale):
    table = draws.uniforms(0, 0, "test", 500, DRAWS)
    left, top, width, height = boxes(np.tile(extent, (500, 1)), table, scale=scale, ratio=RATIO).T
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (width >= 1).all()
    assert (height >= 1).all()
    assert (left + width <= extent[1]).all()
    assert (top + height <= extent[0]).all()


@pytest.mark.parametrize("extent", [(60, 80), (100, 40)])
@pytest.mark.parametrize("scale", [(0.05, 0.32), (0.32, 1.0)])
def test_boxes_are_distributed_as_torchvisions(extent, scale):
    """Means and spreads of place and extent, over 3,000 boxes each: within five standard errors."""
    count = 3000
    ours = boxes(
        np.tile(extent, (count, 1)), draws.uniforms(0, 0, "test", count, DRAWS), scale=scale, ratio=RATIO
    ).astype(float)
    blank = torch.empty(3, *extent)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [RandomResizedCrop.get_params(blank, list(scale), [3 / 4, 4 / 3]) for _ in range(count)]
    theirs = np.array([(left, top, width, height) for top, left, height, width in drawn], float)
    for a, b in (
        (ours, theirs),
        (ours**2, theirs**2),
        (ours * ours[:, [1, 2, 3, 0]], theirs * theirs[:, [1, 2, 3, 0]]),
    ):
        error = np.sqrt((a.var(0) + b.var(0)) / count)
        assert (np.abs(a.mean(0) - b.mean(0)) < 5 * error + 1e-9).all()


@pytest.mark.parametrize(("extent", "want"), [((9, 400), (194, 0, 12, 9)), ((400, 9), (0, 194, 9, 12))])
def test_an_image_too_long_for_any_try_gives_its_middle(extent, want):
    got = boxes(np.array([extent]), draws.uniforms(0, 0, "test", 1, DRAWS), scale=(0.9, 1.0), ratio=RATIO)
    assert tuple(got[0]) == want


def test_draws_belong_to_the_sample_the_view_and_the_step():
    def drawn(step=0, view="global/0", count=8):
        return draw_boxes(0, step, view, sizes=np.tile((60, 80), (count, 1)), scale=(0.05, 1.0), ratio=RATIO)

    assert np.array_equal(drawn(count=16)[:8], drawn())
    assert not np.array_equal(drawn(view="global/1"), drawn())
    assert not np.array_equal(drawn(step=1), drawn())


def test_flips_come_as_often_as_asked():
    for probability in (0.0, 0.3, 1.0):
        share = draw_flips(0, 0, "local/0", count=4000, probability=probability).mean()
        assert share == pytest.approx(probability, abs=0.03)


def test_boxes_have_the_range_of_shapes_that_is_asked_for():
    table = draws.uniforms(0, 0, "test", 500, DRAWS)
    sizes = np.tile((300, 300), (500, 1))
    _, _, width, height = boxes(sizes, table, scale=(0.05, 0.32), ratio=(2.0, 3.0)).T
    assert 1.95 < (width / height).min() < 2.05
    assert 2.9 < (width / height).max() < 3.05
    _, _, width, height = boxes(sizes, table, scale=(0.05, 0.32), ratio=(1.0, 1.0)).T
    assert (width == height).all()


def test_windows_are_parts_of_their_crop_on_the_grid_of_patches_anywhere_on_it():
    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (400, 3, 32, 32), dtype=np.uint8))
    found = windows(0, 0, "local/0", crops, size=16, patch=8)
    places = [(top, left) for top in (0, 8, 16) for left in (0, 8, 16)]
    seen = [
        [place for place in places if torch.equal(crop[:, place[0] :, place[1] :][:, :16, :16], window)]
        for crop, window in zip(crops, found, strict=True)
    ]
    assert all(len(one) == 1 for one in seen)
    assert min(sum(one == [place] for one in seen) for place in places) > 20
    assert torch.equal(windows(0, 0, "local/0", crops, size=32, patch=8), crops)


@pytest.mark.parametrize("engine", ENGINES)
def test_crops_that_are_resized_are_what_pillow_makes_of_them_within_rounding(engine):
    whole = pixels(photo(64, 64)).movedim(-1, 0)[None]
    want = planes(photo(64, 64).resize((32, 32), Image.Resampling.BICUBIC))
    assert np.abs(ENGINES[engine].resized(whole, 32)[0].numpy() - want).max() <= 1
    assert torch.equal(ENGINES[engine].resized(whole, 64), whole)
