"""Crops on the CPU against torchvision, operation by operation and as a whole, and against the batched form."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from torchvision import transforms as plain
from torchvision.transforms.v2 import functional as vision

from evals.backbones.weights import IMAGENET_MEAN, IMAGENET_STD
from harness.crop_settings import Crops
from harness.data import distort
from harness.data.engines import ENGINES
from harness.data.one_by_one import Picture, distorted

SIDES = [(24, 24), (17, 20), (5, 5)]
NEAR = {"atol": 1e-5, "rtol": 0}  # of 1: 8 bits tell 0.004 apart


def image(extent=SIDES[0], seed=0):
    """Random colours with what is special in them, uint8 [3, H, W]: grey, black, white, primary colours and ties."""
    x = torch.randint(0, 256, (3, *extent), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    special = [[0, 0, 0], [255, 255, 255], [128, 128, 128], [255, 0, 0], [0, 180, 180]]
    x[:, 0, : len(special)] = torch.tensor(special, dtype=torch.uint8).T
    return x


def after(x, operation, *parameters):
    """What an operation makes of an image, in [0, 1]."""
    picture = Picture(*x.shape[-2:])
    picture.take(x.numpy())
    operation(picture, *parameters)
    return torch.from_numpy(picture.colours / 255).movedim(-1, 0)


@pytest.mark.parametrize("extent", SIDES)
@pytest.mark.parametrize(
    ("ours", "theirs", "factors"),
    [
        (Picture.brightness, vision.adjust_brightness, (0.0, 0.6, 0.9, 1.0, 1.1, 1.4)),
        (Picture.contrast, vision.adjust_contrast, (0.0, 0.6, 0.9, 1.0, 1.1, 1.4)),
        (Picture.saturation, vision.adjust_saturation, (0.0, 0.8, 0.9, 1.0, 1.1, 1.2)),
        (Picture.hue, vision.adjust_hue, (-0.5, -0.1, 0.0, 0.03, 0.1, 0.5)),
    ],
)
def test_colour_operations_equal_torchvisions(extent, ours, theirs, factors):
    for seed, factor in enumerate(factors):
        x = image(extent, seed)
        assert_close(after(x, ours, factor), theirs(x.float() / 255, factor), **NEAR)


@pytest.mark.parametrize("extent", SIDES)
def test_grayscale_equals_torchvisions(extent):
    want = vision.rgb_to_grayscale(image(extent).float() / 255, 3)
    assert_close(after(image(extent), Picture.grayscale), want, **NEAR)


@pytest.mark.parametrize("extent", SIDES)
@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.69, 0.7, 1.1, 2.0])
@pytest.mark.parametrize("kernel", [1, 5, 9])
def test_blur_equals_torchvisions(extent, sigma, kernel):
    want = vision.gaussian_blur(image(extent).float() / 255, [kernel] * 2, [sigma] * 2)
    assert_close(after(image(extent), Picture.blur, sigma, kernel), want, **NEAR)


def test_solarisation_equals_torchvisions_on_every_8_bit_value():
    x = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).expand(3, 16, 16)
    assert_close(after(x, Picture.solarize), vision.solarize(x, 128).float() / 255, **NEAR)


@pytest.mark.parametrize("side", [5, 16, 65])
@pytest.mark.parametrize("magnification", [1.0, 2.0])
@pytest.mark.parametrize("normalised", [True, False])
def test_whole_plans_give_what_they_give_in_batches(side, magnification, normalised):
    plan = distort.draw(0, 0, "test", count=64, crops=Crops(), blur=0.5, solarize=0.2)
    views = torch.stack([image((side, side), seed) for seed in range(64)])
    how = {"magnification": magnification, "normalised": normalised}
    ours, theirs = (ENGINES[name].distorted(views, plan, **how) for name in ("cpu", "device"))
    assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_plan_of_nothing_normalises_alone(engine):
    views = torch.stack([image(), image(seed=1)])
    found = ENGINES[engine].distorted(views, distort.nothing(2))
    want = vision.normalize(views.float() / 255, list(IMAGENET_MEAN), list(IMAGENET_STD))
    assert_close(found, want, **NEAR)
    assert_close(ENGINES[engine].distorted(views, distort.nothing(2), normalised=False), views / 255, **NEAR)


def test_neither_threads_nor_the_other_images_change_a_bit():
    cv2 = pytest.importorskip("cv2")
    plan = distort.draw(0, 0, "test", count=8, crops=Crops(), blur=1.0, solarize=0.5)
    views = torch.stack([image((225, 224), seed) for seed in range(8)])
    threads = cv2.getNumThreads()
    found = []
    for count in (1, 2, 5):
        cv2.setNumThreads(count)
        found.append(distorted(views, plan))
    cv2.setNumThreads(threads)
    alone = torch.cat([distorted(views[[at]], plan.of(at)) for at in range(8)])
    assert all(torch.equal(one, alone) for one in found)


def test_over_many_draws_colours_are_distributed_as_by_torchvisions_transforms():
    """Mean, spread, contrast and sharpness of one picture under the recipe's distortions: within five standard errors.

    torchvision's work on Pillow's 8 bits, ours on float32, so a bias of half a level is let pass.
    """
    count, settings = 1500, Crops()
    coarse = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((24, 24), Image.Resampling.BICUBIC)
    jitter = plain.ColorJitter(settings.brightness, settings.contrast, settings.saturation, settings.hue)
    theirs = plain.Compose(
        [
            plain.RandomApply([jitter], settings.jitter),
            plain.RandomGrayscale(settings.grayscale),
            plain.RandomApply([plain.GaussianBlur(9, (0.1, 2.0))], 0.5),
            plain.RandomSolarize(128, 0.2),
            plain.ToTensor(),
        ]
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wanted = torch.stack([theirs(picture) for _ in range(count)])
    plan = distort.draw(0, 0, "test", count=count, crops=settings, blur=0.5, solarize=0.2)
    views = torch.from_numpy(np.array(picture)).movedim(-1, 0).expand(count, 3, 24, 24).contiguous()
    for ours, other in zip(seen(distorted(views, plan, normalised=False)), seen(wanted), strict=True):
        error = ((ours.var(0) + other.var(0)) / count).sqrt()
        assert ((ours.mean(0) - other.mean(0)).abs() < 5 * error + 0.5 / 255).all()


def seen(x):
    """Of each image: the mean of each channel, their squares, contrast, chroma, and what differs between neighbours."""
    means = x.mean((2, 3))
    yield means
    yield means.square()
    yield x.std((2, 3))
    yield (x.amax(1) - x.amin(1)).mean((1, 2))[:, None]
    yield x.diff(dim=3).abs().mean((1, 2, 3))[:, None]
