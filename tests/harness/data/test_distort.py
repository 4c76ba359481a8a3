"""Distortions against torchvision's functional operations, image by image."""

import pytest
import torch
from torch.testing import assert_close
from torchvision.transforms.v2 import functional as vision

from harness.crop_settings import Crops
from harness.data import distort

SHAPES = [(6, 3, 24, 24), (3, 3, 17, 20)]


def images(shape=SHAPES[0], seed=0):
    """Random colours with what is special in them: grey, black, white, primary colours and ties."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    special = [[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 0.7, 0.7]]
    x[0, :, 0, : len(special)] = torch.tensor(special).T
    return x


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("ours", "theirs", "factors"),
    [
        (distort.brightness, vision.adjust_brightness, (0.6, 1.0, 1.4, 0.0, 0.9, 1.1)),
        (distort.contrast, vision.adjust_contrast, (0.6, 1.0, 1.4, 0.0, 0.9, 1.1)),
        (distort.saturation, vision.adjust_saturation, (0.8, 1.0, 1.2, 0.0, 0.9, 1.1)),
        (distort.hue, vision.adjust_hue, (-0.1, 0.0, 0.1, 0.5, -0.5, 0.03)),
    ],
)
def test_colour_operations_equal_torchvisions(shape, ours, theirs, factors):
    x = images(shape)
    factors = factors[: len(x)]
    want = torch.stack([theirs(image, factor) for image, factor in zip(x, factors, strict=True)])
    assert_close(ours(x, torch.tensor(factors).view(-1, 1, 1, 1)), want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_grayscale_equals_torchvisions(shape):
    assert_close(distort.grayscale(images(shape)), vision.rgb_to_grayscale(images(shape)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kernel", [1, 5, 9, 17])
def test_blur_equals_torchvisions(shape, kernel):
    x, sigmas = images(shape), torch.tensor([0.1, 0.3, 0.7, 1.1, 1.6, 2.0])[: shape[0]]
    want = torch.stack(
        [vision.gaussian_blur(image, [kernel] * 2, [float(s)] * 2) for image, s in zip(x, sigmas, strict=True)]
    )
    assert_close(distort.blur(x, sigmas.view(-1, 1, 1, 1), kernel=kernel), want, atol=1e-5, rtol=0)


def test_solarisation_equals_torchvisions_on_every_8_bit_value():
    x = (torch.arange(256, dtype=torch.uint8)).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    want = vision.solarize(x, 128).float() / 255
    assert_close(distort.solarize(x.float() / 255), want, atol=1e-6, rtol=0)


def plan_of(count, **changes):
    """A plan that does nothing, but for `changes`."""
    no = torch.zeros(count, dtype=torch.bool)
    factors = torch.tensor([1.0, 1.0, 1.0, 0.0]).expand(count, 4)
    still = distort.Distortions(no, torch.arange(4).expand(count, 4), factors, no, no, torch.ones(count), no)
    return still._replace(**changes)


def test_a_plan_of_nothing_changes_nothing():
    assert torch.equal(distort.distort(images(), plan_of(6)), images())


def test_a_plan_equals_torchvisions_operations_in_its_order():
    plan = distort.draw(0, 0, "test", count=24, crops=Crops(), blur=0.5, solarize=0.3)
    x = images((24, 3, 16, 16))
    adjust = (vision.adjust_brightness, vision.adjust_contrast, vision.adjust_saturation, vision.adjust_hue)
    wanted = []
    for i, image in enumerate(x):
        if plan.jitter[i]:
            for kind in plan.order[i].tolist():
                image = adjust[kind](image, float(plan.factors[i, kind]))
        if plan.grayscale[i]:
            image = vision.rgb_to_grayscale(image, 3)
        if plan.blur[i]:
            image = vision.gaussian_blur(image, [9, 9], [float(plan.sigma[i])] * 2)
        if plan.solarize[i]:
            image = torch.where(image >= 0.5, 1 - image, image)
        wanted.append(image)
    # An image whose value lies within rounding of the solarisation's threshold may fall on either side.
    off = (distort.distort(x.clone(), plan) - torch.stack(wanted)).abs() > 2e-5
    assert off.float().mean() < 1e-3
    assert off[~plan.solarize].sum() == 0


def test_an_image_is_treated_the_same_alone_and_in_a_batch():
    plan = distort.draw(0, 0, "test", count=8, crops=Crops(), blur=0.5, solarize=0.3)
    x = images((8, 3, 16, 16))
    alone = [distort.distort(x[[i]], distort.Distortions(*(part[[i]] for part in plan))) for i in range(8)]
    assert_close(distort.distort(x.clone(), plan), torch.cat(alone), atol=1e-6, rtol=0)


def test_drawn_plans_have_the_shares_and_ranges_of_the_settings():
    plan = distort.draw(0, 0, "test", count=8000, crops=Crops(), blur=0.5, solarize=0.2)
    shares = {name: getattr(plan, name).float().mean().item() for name in ("jitter", "grayscale", "blur", "solarize")}
    assert shares == pytest.approx({"jitter": 0.8, "grayscale": 0.2, "blur": 0.5, "solarize": 0.2}, abs=0.02)
    low, high = plan.factors.amin(0), plan.factors.amax(0)
    assert_close(low, torch.tensor([0.6, 0.6, 0.8, -0.1]), atol=2e-3, rtol=0)
    assert_close(high, torch.tensor([1.4, 1.4, 1.2, 0.1]), atol=2e-3, rtol=0)
    assert plan.sigma.min() >= 0.1
    assert plan.sigma.max() <= 2.0
    assert_close(plan.order.float().mean(0), torch.full((4,), 1.5), atol=0.06, rtol=0)
    assert (plan.order.sort(1).values == torch.arange(4)).all()


def test_a_sample_is_distorted_the_same_in_a_larger_batch():
    small, large = (distort.draw(0, 3, "test", count=n, crops=Crops(), blur=0.5) for n in (4, 9))
    assert all(torch.equal(a, b[:4]) for a, b in zip(small, large, strict=True))


def test_no_jitter_strength_leaves_colours_alone():
    crops = Crops(brightness=0, contrast=0, saturation=0, hue=0, grayscale=0)
    plan = distort.draw(0, 0, "test", count=6, crops=crops)
    assert_close(distort.distort(images(), plan), images(), atol=1e-5, rtol=0)


def test_the_blur_grows_with_magnification():
    x = images((6, 3, 32, 32))
    every = torch.ones(6, dtype=torch.bool)
    got = distort.distort(x.clone(), plan_of(6, blur=every, sigma=torch.full((6,), 0.8)), magnification=2.0)
    assert_close(got, distort.blur(x, torch.full((6, 1, 1, 1), 1.6), kernel=17), atol=1e-6, rtol=0)


@pytest.mark.parametrize("side", [5, 6, 8])
def test_the_kernel_never_exceeds_a_small_crop(side):
    plan = plan_of(2, blur=torch.ones(2, dtype=torch.bool), sigma=torch.full((2,), 2.0))
    assert distort.distort(images((2, 3, side, 8)), plan).isfinite().all()
    assert distort.odd(9, limit=side) <= side


def test_contrast_of_a_large_picture_does_not_depend_on_the_number_of_threads():
    picture, threads = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)), torch.get_num_threads()
    found = []
    for count in (1, 2):
        torch.set_num_threads(count)
        found.append(distort.contrast(picture.clone(), torch.full((1, 1, 1, 1), 0.6)))
    torch.set_num_threads(threads)
    assert torch.equal(*found)
