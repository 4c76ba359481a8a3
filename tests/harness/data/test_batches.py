"""Batches: functions of (seed, step) alone, and Gram crops that share the student's geometry."""

import dataclasses
import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate
from torch.testing import assert_close

from common.errors import BadInput
from evals.backbones.weights import IMAGENET_MEAN, IMAGENET_STD
from evals.datasets.layouts.image_folder import ImageFolder
from harness.data.batches import Batches, GramCrops, stream
from harness.data.pool import Pool
from harness.losses.ibot import Ibot
from harness.recipe import Crops
from harness.settings import Data

CROPS = Crops(global_size=32, local_size=16, local_count=3)
GOLDEN_INDICES = [1, 15, 11, 5]
GOLDEN_MASKS = "c14d04ac86d57d00"
GOLDEN_MEAN = -0.351322
PLAIN = dataclasses.replace(
    CROPS, jitter=0, grayscale=0, blur_global_1=0, blur_global_2=0, blur_local=0, solarize_global_2=0
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i in range(24):
        target = folder / "train" / f"class{i % 3}" / f"{i:02}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(i).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((70 + i, 60), Image.Resampling.BICUBIC).save(target)
    return folder


def batches(root, crops=CROPS, *, gram=None, share=0.3, seed=0, batch=4, **options):
    return Batches(
        Pool({"photos": ImageFolder(root)}),
        data=Data(batch_size=batch, homogeneous_share=share),
        crops=crops,
        ibot=Ibot(),
        gram=gram,
        patch=8,
        seed=seed,
        **options,
    )


def gram_crops(*, times=1, undistorted=True, needed=lambda step: True):
    return GramCrops([times * CROPS.global_size], undistorted=undistorted, needed=needed)


def same(a, b):
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(a, b, strict=True))


def test_a_batch_has_the_shapes_that_training_expects(root):
    batch = batches(root, gram=gram_crops(times=2))[0]
    assert batch.globals.shape == (2, 4, 3, 32, 32)
    assert batch.locals.shape == (3, 4, 3, 16, 16)
    assert batch.gram is not None
    assert batch.gram.shape == (2, 4, 3, 64, 64)
    assert batch.masks.shape == (8, 16)
    assert batch.indices.shape == (4,)
    assert {x.dtype for x in (batch.globals, batch.locals, batch.gram)} == {torch.float32}


def test_no_local_crops_give_an_empty_tensor(root):
    assert batches(root, dataclasses.replace(CROPS, local_count=0))[0].locals.shape == (0, 4, 3, 16, 16)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_stream_is_the_batches_of_its_steps_whatever_the_workers_and_the_start(root, workers):
    late = gram_crops(times=2, needed=lambda step: step >= 5)
    source = batches(root, gram=late)
    want = [batches(root, gram=late)[step] for step in range(3, 8)]
    got = list(stream(source, 3, 8, workers=workers))
    assert all(same(a, b) for a, b in zip(want, got, strict=True))


def test_the_stream_leaves_the_global_generator_alone(root):
    before = torch.get_rng_state()
    list(stream(batches(root), 0, 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_steps_and_seeds_differ(root):
    first = batches(root)[0]
    for other in (batches(root)[1], batches(root, seed=1)[0]):
        assert not torch.equal(first.globals, other.globals)
        assert not torch.equal(first.locals, other.locals)
        assert not torch.equal(first.masks, other.masks)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("undistorted", [True, False])
def test_gram_crops_change_nothing_else_in_the_batch(root, times, undistorted):
    gram = gram_crops(times=times, undistorted=undistorted)
    without, with_gram = batches(root)[6], batches(root, gram=gram)[6]
    assert without.gram is None
    assert same(without._replace(gram=0), with_gram._replace(gram=0))


def test_without_distortions_the_gram_crop_at_x1_is_the_global_crop(root):
    batch = batches(root, PLAIN, gram=gram_crops())[2]
    assert batch.gram is not None
    assert torch.equal(batch.gram, batch.globals)


def test_a_distorted_gram_crop_at_x1_is_the_global_crop(root):
    batch = batches(root, gram=gram_crops(undistorted=False))[2]
    assert batch.gram is not None
    assert torch.equal(batch.gram, batch.globals)


def test_an_undistorted_gram_crop_is_the_crop_before_its_distortions(root):
    plain, batch = batches(root, PLAIN)[2], batches(root, gram=gram_crops())[2]
    assert batch.gram is not None
    assert torch.equal(batch.gram, plain.globals)
    assert not torch.equal(batch.gram, batch.globals)


@pytest.mark.parametrize("undistorted", [True, False])
def test_a_larger_gram_crop_shows_the_same_content(root, undistorted):
    gram = gram_crops(times=2, undistorted=undistorted)
    batch = batches(root, PLAIN if undistorted else CROPS, gram=gram)[2]
    assert batch.gram is not None
    smaller = interpolate(batch.gram.flatten(0, 1), scale_factor=0.5, mode="bilinear", antialias=True)
    for ours, theirs in zip(batch.globals.flatten(0, 1), smaller, strict=True):
        assert np.corrcoef(ours.flatten(), theirs.flatten())[0, 1] > 0.95


def test_pixels_are_normalised_with_imagenets_mean_and_deviation(tmp_path):
    Image.new("RGB", (40, 40), (255, 0, 51)).save(tmp_path / "flat.png")
    batch = batches(tmp_path, PLAIN)[0]
    want = (torch.tensor([1.0, 0.0, 0.2]) - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    assert_close(batch.globals, want.view(3, 1, 1).expand_as(batch.globals), atol=1e-5, rtol=0)


def test_a_sample_does_not_depend_on_the_number_of_others(root):
    """The first samples of a larger batch hold other images, so only what is drawn is compared: one image, repeated."""
    one = ImageFolder(root, count=1)

    def crops(batch):
        few = Batches(Pool({"one": one}), data=Data(batch_size=batch), crops=CROPS, ibot=Ibot(), patch=8, seed=0)
        return few[1]

    assert_close(crops(8).globals[:, :4], crops(4).globals, atol=1e-6, rtol=0)
    assert_close(crops(8).locals[:, :4], crops(4).locals, atol=1e-6, rtol=0)


def test_homogeneous_batches_name_their_component(root):
    for step in range(5):
        source = batches(root, share=1.0)
        batch = source[step]
        assert batch.component is not None
        assert np.isin(batch.indices.numpy(), source.pool.components[batch.component]).all()
    assert batches(root, share=0.0)[0].component is None


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_ends_the_stream_in_one_line_that_names_it(tmp_path, workers):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(BadInput, match=r"broken\.png") as caught:
        list(stream(batches(tmp_path), 0, 2, workers=workers))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["global_size", "local_size"])
def test_crops_that_the_patch_does_not_divide_are_refused(root, key):
    with pytest.raises(BadInput, match=f"got crops.{key}=30 with patches of 8: want a multiple; try 32"):
        batches(root, dataclasses.replace(CROPS, **{key: 30}))


def test_which_images_a_batch_holds_is_known_without_reading_one(root):
    source = batches(root, share=0.5)
    said = [source.composition(step) for step in range(12)]
    assert not source.pool._kept
    assert [one.component for one in said] == [source[step].component for step in range(12)]
    assert all(np.array_equal(one.indices, source[step].indices) for step, one in enumerate(said))
    assert len({one.component is None for one in said}) == 2


def test_draws_of_a_step_are_the_recorded_ones(root):
    """Indices, masks and the sizes of what is drawn do not depend on the machine; pixels may, in the last digit."""
    batch = batches(root)[11]
    assert batch.indices.tolist() == GOLDEN_INDICES
    assert hashlib.sha256(batch.masks.numpy().tobytes()).hexdigest()[:16] == GOLDEN_MASKS
    assert batch.globals.mean().item() == pytest.approx(GOLDEN_MEAN, abs=1e-4)
