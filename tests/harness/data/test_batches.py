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
from harness.crop_settings import Crops
from harness.data.batches import Batches, GramCrops, views
from harness.data.pool import Pool
from harness.data.stream import stream
from harness.data_settings import Data
from harness.losses.ibot import Ibot

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


def batches(root, crops=CROPS, *, gram=None, share=0.3, seed=0, batch=4, augment="cpu", **options):
    return Batches(
        Pool({"photos": ImageFolder(root)}),
        data=Data(batch_size=batch, homogeneous_share=share, augment=augment),
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


@pytest.mark.parametrize("augment", ["cpu", "device"])
@pytest.mark.parametrize(
    "crops",
    [
        CROPS,
        dataclasses.replace(CROPS, share_color_jitter=True),
        dataclasses.replace(CROPS, locals_within_globals=True, local_count=4),
    ],
    ids=["usual", "shared colours", "windows"],
)
@pytest.mark.parametrize("student_too", [False, True])
def test_a_part_that_is_made_alone_is_that_of_the_whole_batch_and_only_its_images_are_read(
    root, augment, crops, student_too
):
    gram = gram_crops(times=2, undistorted=False)._replace(student_too=student_too)
    whole = list(stream(batches(root, crops, gram=gram, augment=augment), 3, 5, device=torch.device("cpu")))
    for which in range(2):
        one = batches(root, crops, gram=gram, augment=augment, part=(which, 2))
        got = list(stream(one, 3, 5, device=torch.device("cpu")))
        assert all(same(a, b.parts(2)[which]) for a, b in zip(got, whole, strict=True))
        assert {*one.pool._kept} == {index for batch in got for index in batch.own.tolist()}


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


# --- switches


def colours(images):
    """Mean of each channel of each crop, in [0, 1]: what a jitter changes whatever box it is in."""
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
    return (images * std + mean).mean((-1, -2))


GREY_OR_NOT = dataclasses.replace(PLAIN, grayscale=0.5)


def test_arms_with_equal_and_with_larger_gram_crops_see_the_same_student_pixels(root):
    once, twice = (batches(root, gram=gram_crops(times=times))[3] for times in (1, 2))
    assert torch.equal(once.globals, twice.globals)
    assert torch.equal(once.locals, twice.locals)


@pytest.mark.parametrize("undistorted", [True, False])
def test_student_crops_made_from_gram_crops_are_these_made_smaller(root, undistorted):
    def made(times, crops, student_too=True):
        gram = gram_crops(times=times, undistorted=undistorted)._replace(student_too=student_too)
        return batches(root, crops, gram=gram)[3]

    for crops in (PLAIN, CROPS):
        official, ours = made(2, crops), made(2, crops, student_too=False)
        assert not torch.equal(official.globals, ours.globals)
        assert torch.equal(official.gram, ours.gram)
        assert torch.equal(official.locals, ours.locals)
        assert_close(official.globals.mean(), ours.globals.mean(), atol=0.05, rtol=0)
        assert torch.equal(made(1, crops).globals, made(1, crops, student_too=False).globals)
    if undistorted:  # in 8 bits, before any distortion
        mean, std = (torch.tensor(value).view(3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
        plain = made(2, PLAIN)
        large = ((plain.gram[0, 0] * std + mean) * 255).round().to(torch.uint8).movedim(0, -1).numpy()
        small = np.asarray(Image.fromarray(large).resize((32, 32), Image.Resampling.BICUBIC)).astype(int)
        got = ((plain.globals[0, 0] * std + mean) * 255).round().to(torch.uint8).movedim(0, -1).numpy()
        assert np.abs(got - small).max() <= 1


def test_before_the_gram_loss_begins_student_crops_come_straight_from_the_image(root):
    late = gram_crops(times=2, needed=lambda step: step >= 5)._replace(student_too=True)
    assert torch.equal(batches(root, gram=late)[4].globals, batches(root)[4].globals)


def test_a_shared_colour_jitter_makes_all_crops_of_an_image_grey_or_none(root):
    shared = dataclasses.replace(GREY_OR_NOT, share_color_jitter=True)

    def grey(crops):
        batch = batches(root, crops, batch=8)[1]
        views = [colours(view) for view in (*batch.globals, *batch.locals)]
        return torch.stack([(view.amax(1) - view.amin(1)) < 0.01 for view in views])

    assert (grey(shared).all(0) | ~grey(shared).any(0)).all()
    assert grey(shared).any()
    assert not grey(shared).all()
    assert (grey(GREY_OR_NOT).any(0) & ~grey(GREY_OR_NOT).all(0)).any()


def test_a_shared_colour_jitter_is_one_of_the_whole_image_before_it_is_cut(root, tmp_path):
    """As crops of images that were jittered beforehand, with no jitter of their own (recipe §8)."""
    shared = dataclasses.replace(PLAIN, jitter=1.0, grayscale=0.5, share_color_jitter=True)
    source = batches(root, shared)
    composed = source.composition(1)
    indices, images = composed.indices, source._images(composed)
    jittered = [Image.fromarray(image.numpy(force=True)) for image in source._jittered(1, images)]
    for number, path in enumerate(sorted(root.rglob("*.png"), key=lambda path: (path.parent.name, path.name))):
        target = tmp_path / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        places = [place for place, index in enumerate(indices.tolist()) if index == number]
        (jittered[places[0]] if places else Image.open(path)).save(target)
    got, want = source[1], batches(tmp_path, PLAIN)[1]
    assert torch.equal(got.globals, want.globals)
    assert torch.equal(got.locals, want.locals)
    assert not torch.equal(got.globals, batches(root, PLAIN)[1].globals)


@pytest.mark.parametrize("undistorted", [True, False])
def test_a_shared_colour_jitter_reaches_gram_crops_that_are_distorted_alone(root, undistorted):
    gram, shared = gram_crops(undistorted=undistorted), dataclasses.replace(CROPS, share_color_jitter=True)
    got, usual = batches(root, shared, gram=gram)[1], batches(root, gram=gram)[1]
    assert got.gram is not None
    assert torch.equal(got.gram, usual.gram) == undistorted
    assert torch.equal(got.gram, got.globals) != undistorted


def test_local_crops_within_global_ones_are_windows_of_them_on_the_grid_half_of_either(root):
    within = dataclasses.replace(PLAIN, locals_within_globals=True, local_count=4)
    batch = batches(root, within)[1]
    corners = (0, 8, 16)
    for number, local in enumerate(batch.locals):
        for image, crop in zip(batch.globals[number // 2], local, strict=True):
            assert any(torch.equal(image[:, y : y + 16, x : x + 16], crop) for y in corners for x in corners)
    free = batches(root, dataclasses.replace(within, locals_within_globals=False))[1]
    assert torch.equal(free.globals, batch.globals)
    assert not torch.equal(free.locals, batch.locals)


def test_mirrored_crops_are_the_others_mirrored(root):
    straight, mirrored = (batches(root, dataclasses.replace(PLAIN, flip=chance))[1] for chance in (0.0, 1.0))
    assert torch.equal(straight.globals.flip(-1), mirrored.globals)
    assert torch.equal(straight.locals.flip(-1), mirrored.locals)


@pytest.mark.parametrize("chances", [(1.0, 0.1, 0.5), (0.0, 0.9, 0.5)], ids=["as published", "as run"])
def test_blur_comes_as_often_as_published_or_as_the_official_code_runs_it(root, chances):
    """The code applies the complement of what it declares (recipe §8): both are chances that can be given."""
    names = ("blur_global_1", "blur_global_2", "blur_local")
    crops = dataclasses.replace(CROPS, **dict(zip(names, chances, strict=True)))
    source = batches(root, crops, batch=50)
    both, local = views(crops, source.sides[0])
    for view, want in zip((*both, local[0]), chances, strict=True):
        blurred = torch.cat([source._plan(step, view).blur for step in range(20)])
        assert blurred.float().mean().item() == pytest.approx(want, abs=0.05)


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


# --- who makes the crops


@pytest.mark.parametrize("gram", [None, gram_crops(times=2), gram_crops(times=2, undistorted=False)])
@pytest.mark.parametrize("changes", [{}, {"share_color_jitter": True}, {"locals_within_globals": True}])
def test_a_device_makes_the_same_crops_in_batches_but_for_rounding(root, gram, changes):
    """Both on the CPU. A value beside the threshold of the solarisation may fall on either side of it."""
    crops = dataclasses.replace(CROPS, **changes)
    ours, theirs = (batches(root, crops, gram=gram, augment=name)[3] for name in ("cpu", "device"))
    assert torch.equal(ours.masks, theirs.masks)
    assert torch.equal(ours.indices, theirs.indices)
    for name in ("globals", "locals", *(("gram",) if gram else ())):
        off = (getattr(ours, name) - getattr(theirs, name)).abs()
        assert off.mean() < 1e-3
        assert (off > 0.1).float().mean() < 1e-3


@pytest.mark.parametrize("workers", [0, 2])
def test_what_loaders_leave_to_a_device_is_made_there_of_the_same_draws(root, workers):
    source = batches(root, augment="device", gram=gram_crops(times=2))
    found = list(stream(source, 3, 6, workers=workers, device=torch.device("cpu")))
    assert all(same(batch, source[step]) for step, batch in enumerate(found, start=3))


def test_a_batch_that_is_held_stays_as_it_is_while_others_are_made(root):
    source = batches(root)
    held = source[0]
    kept = held._replace(globals=held.globals.clone(), locals=held.locals.clone())
    for step in range(1, 4):
        source[step]
    assert same(held, kept)
