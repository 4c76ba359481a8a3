from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evals import live
from evals.backbone import Backbone, wrap
from evals.errors import BadInput, NonFiniteFeatures


class Reporter(nn.Module):
    """A model that gives the normalised image itself as its feature map; one parameter, so that it has a device."""

    feature_info = ({"reduction": 1},)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward_intermediates(self, images: Tensor, **_: object) -> tuple[Tensor, list[Tensor]]:
        return images, [images * self.scale]


class Means(Reporter):
    """The same with the means of patches of 3 × 3."""

    feature_info = ({"reduction": 3},)

    def forward_intermediates(self, images: Tensor, **_: object) -> tuple[Tensor, list[Tensor]]:
        return images, [torch.nn.functional.avg_pool2d(images, 3) * self.scale]


@pytest.fixture
def backbone() -> Backbone:
    return wrap(Reporter(), name="pixels", mean=(0.5, 0.25, 0.75), std=(0.5, 0.5, 0.5))


def a_batch(step: int, *, fails_at: int | None = None) -> Tensor:
    if step == fails_at:
        raise BadInput("got a broken image: want a sound one; do mend it")
    return torch.from_numpy(live.generator(3, "toy", step).random(4))


def test_each_epoch_of_the_stream_shows_every_image_once_in_an_order_of_its_own():
    stream = live.Stream(7, seed=1)
    epochs = [[stream[7 * epoch + place] for place in range(7)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [live.Stream(7, seed=1)[p] for p in (20, 0, 13)] == [epochs[2][6], epochs[0][0], epochs[1][6]]
    assert [live.Stream(50, seed=2)[p] for p in range(50)] != [live.Stream(50, seed=1)[p] for p in range(50)]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_whatever_the_number_of_workers(workers: int):
    found = list(live.batches(a_batch, 5, workers=workers))
    assert all(torch.equal(one, a_batch(step)) for step, one in enumerate(found))
    assert len(found) == 5


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_input_reaches_the_caller_in_one_line_from_a_worker_too(workers: int):
    made = live.batches(functools.partial(a_batch, fails_at=1), 3, workers=workers)
    next(made)
    with pytest.raises(BadInput, match=r"^got a broken image: want a sound one; do mend it$"):
        next(made)


def test_the_global_random_state_is_untouched_by_batches_and_generators():
    before, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    list(live.batches(a_batch, 2))
    torch.rand(3, generator=live.torch_generator(0, "toy"))
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numbers, np.random.get_state()[1])  # noqa: NPY002


def test_patch_maps_come_back_to_their_pixels_when_the_stride_does_not_divide_the_sides():
    """A ramp, seen as the means of patches of 3 in the centre of 21 × 12, is the same ramp away from the border."""
    coarse = wrap(Means(), name="means", mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0))
    ramp = torch.linspace(0, 1, 20 * 11).view(1, 1, 20, 11).expand(1, 3, -1, -1)
    patches, to_pixels = live.encode(coarse, ramp)
    assert patches.shape == (1, 3, 7, 4)
    found = to_pixels(patches) + 0.5
    assert found.shape == ramp.shape
    torch.testing.assert_close(found[:, :, 5:15, 5:6], ramp[:, :, 5:15, 5:6])


def test_views_are_filled_up_with_what_the_backbone_makes_zero(backbone: Backbone):
    views = [np.full((2, 3, 3), 255, np.uint8), np.full((4, 2, 3), 255, np.uint8)]
    stacked, sides = live.stack(views, (4, 5), fill=0), torch.tensor([[2, 3], [4, 2]])
    assert stacked.shape == (2, 4, 5, 3)
    found = live.pictures(stacked, sides, backbone, alter=lambda images: images / 2 + 0.125)
    inside = torch.zeros(2, 4, 5, dtype=torch.bool)
    inside[0, :2, :3], inside[1, :, :2] = True, True
    assert (found.movedim(1, -1)[inside] == 0.625).all()
    assert (live.features(backbone, found).patches.movedim(1, -1)[~inside] == 0).all()


def test_generators_depend_on_seed_purpose_and_number():
    keys = [(0, "views", 0), (1, "views", 0), (0, "order", 0), (0, "views", 1)]
    drawn = [live.generator(*key).random() for key in keys]
    drawn += [float(torch.rand((), generator=live.torch_generator(*key))) for key in keys]
    assert len({round(x, 6) for x in drawn}) == 2 * len(keys)
    assert live.generator(0, "views", 1).random() == live.generator(0, "views", 1).random()


def test_bytes_and_fractions_of_the_same_images_give_the_same_features(backbone: Backbone):
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), dtype=np.uint8))
    found = live.features(backbone, images)
    same = live.features(backbone, images.permute(0, 3, 1, 2).float() / 255)
    assert torch.equal(found.patches, same.patches)
    assert found.patches.shape == (2, 3, 3, 4)
    assert not found.patches.requires_grad
    torch.testing.assert_close(found.patches[1, 2, 0, 1], (images[1, 0, 1, 2] / 255 - 0.75) / 0.5)


def test_features_are_float32_under_autocast_and_refused_when_not_finite(backbone: Backbone):
    assert live.features(backbone, torch.rand(1, 3, 2, 2), precision="bfloat16").patches.dtype == torch.float32
    with pytest.raises(NonFiniteFeatures, match="pixels"):
        live.features(backbone, torch.full((1, 3, 2, 2), torch.nan))


def test_padding_is_centred_zero_inside_and_taken_off_again(backbone: Backbone):
    images = torch.rand(2, 3, 5, 8)
    padded, corner = live.pad_to_stride(images, 7, colour=backbone.mean)
    assert padded.shape == (2, 3, 7, 14)
    assert corner == (1, 3)
    seen = live.features(backbone, padded).patches
    assert (seen[:, :, 0] == 0).all()
    assert (seen[:, :, :, 11:] == 0).all()
    assert torch.equal(live.upsample(padded, (7, 14), corner, (5, 8)), images)
    assert live.pad_to_stride(images, 1, colour=backbone.mean) == (images, (0, 0))


@pytest.mark.parametrize(("every", "steps", "expected"), [(2, 6, [1, 3, 5]), (4, 6, [3, 5]), (9, 6, [5])])
def test_heads_are_judged_at_each_interval_and_once_at_the_end(every: int, steps: int, expected: list[int]):
    """The published code judged after every iteration where the interval does not divide the length."""
    assert [step for step in range(steps) if live.due(step, every, steps)] == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a second device")
def test_the_backbone_comes_back_to_its_device(backbone: Backbone):
    with live.lent(backbone, "cuda") as device:
        assert backbone.device.type == device.type == "cuda"
    assert backbone.device.type == "cpu"
