from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from common import disk
from common.errors import BadInput
from common.unwritable import Unwritable
from evals.backbones.backbone import Backbone, wrap
from evals.features import store
from evals.features.extract import WAITING, Look, Shown, extract, of_one_shape
from evals.features.scale import fit_scale
from evals.features.view import View, cells, prepare


class Pictures:
    """Random pictures of two shapes."""

    name, split, classes, segments, has_depth = "pictures", "train", ("a", "b"), (), False

    def __init__(self, count: int = 7, content: int = 0) -> None:
        self.count, self.content, self.reads = count, content, 0

    def __len__(self) -> int:
        return self.count

    def key(self, index: int) -> str:
        return f"picture-{index}"

    def image(self, index: int) -> np.ndarray:
        self.reads += 1
        shape = (32, 48, 3) if index % 3 else (56, 40, 3)
        return np.random.default_rng(index + 100 * self.content).integers(0, 256, shape, dtype=np.uint8)

    def label(self, index: int) -> int:
        return index % 2

    def mask(self, index: int) -> np.ndarray:
        raise NotImplementedError

    def depth(self, index: int) -> np.ndarray:
        raise NotImplementedError

    def fingerprint(self) -> str:
        return f"{self.content:02x}{self.count:02x}"

    def stamp(self) -> str:
        return self.fingerprint()


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        args = {"embed_dim": 48, "depth": 1, "num_heads": 2, "img_size": 32, "patch_size": 8, "init_values": 1.0}
        model = timm.create_model("vit_small_patch16_dinov3_qkvb", num_classes=0, dynamic_img_size=True, **args)
    return wrap(model, name="tiny")


def alone(backbone: Backbone, image: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    features = backbone(torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255)
    return features.pooled[0], features.patches[0].flatten(1).T


def test_every_image_keeps_its_own_features_whatever_the_batches(backbone: Backbone):
    pictures = Pictures()
    found = extract(backbone, pictures, View("whole", 32), dense=True, batch_size=2)
    assert found.keys[3] == "picture-3"
    for i in range(7):
        pooled, patches = alone(backbone, prepare(pictures.image(i), View("whole", 32), stride=8))
        assert found.grid(i) == ((4, 6) if i % 3 else (6, 4))  # 56 x 40 to 45 x 32 to 48 x 32
        assert torch.allclose(found.pooled[i], pooled, atol=1e-4)
        assert torch.allclose(found.patches(i), patches, atol=1e-4)
        assert torch.allclose(found.mean[i : i + 1][0], patches.mean(0), atol=1e-4)
    assert torch.equal(found.dense()[found.rows()], torch.cat([found.patches(i) for i in range(7)]))
    assert torch.equal(found.dense()[:], torch.cat([found.patches(i) for i in found.order()]))
    assert found.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]


def test_crops_are_the_centre_of_the_resized_image_and_keep_no_patches(backbone: Backbone):
    image = Pictures().image(1)
    wide = Image.fromarray(image).resize((24, 16), Image.Resampling.BICUBIC)
    assert (prepare(image, View("crop", 16), stride=8) == np.asarray(wide)[:, 4:20]).all()
    wider = Image.fromarray(image).resize((30, 20), Image.Resampling.BICUBIC)
    assert (prepare(image, View("crop", 16, 0.8), stride=8) == np.asarray(wider)[2:18, 7:23]).all()
    assert prepare(image, View("crop", 32), stride=8).base is image  # nothing to resize
    found = extract(backbone, Pictures(), View("crop", 16))
    with pytest.raises(BadInput, match="without patches"):
        found.dense()


@pytest.mark.parametrize("shape", [(427, 640), (640, 427), (331, 500), (500, 331), (300, 300), (256, 301), (90, 1000)])
@pytest.mark.parametrize(("size", "crop_pct", "goal"), [(224, 0.875, 256), (224, 1.0, 224), (15, 0.9, 17)])
def test_crops_are_torchvisions_to_the_pixel(shape: tuple[int, int], size: int, crop_pct: float, goal: int):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    published = Compose([Resize(goal, InterpolationMode.BICUBIC), CenterCrop(size)])
    ours = prepare(image, View("crop", size, crop_pct), stride=1)
    np.testing.assert_array_equal(ours, np.asarray(published(Image.fromarray(image))))


def test_sides_are_rounded_to_the_stride_and_never_to_nothing():
    assert prepare(np.zeros((30, 100, 3), np.uint8), View("whole", 32), stride=16).shape == (32, 112, 3)
    assert prepare(np.zeros((64, 3, 3), np.uint8), View("whole", 8), stride=8).shape == (168, 8, 3)


def test_extraction_leaves_the_global_random_states_alone(backbone: Backbone):
    before, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    extract(backbone, Pictures(), View("whole", 16))
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == legacy).all()  # noqa: NPY002


def test_the_cache_returns_the_same_features_without_reading_images(backbone: Backbone, tmp_path: Path):
    first = extract(backbone, Pictures(), View("whole", 16), dense=True, cache=tmp_path)
    again = Pictures()
    second = extract(backbone, again, View("whole", 16), dense=True, cache=tmp_path)
    assert again.reads == 0
    assert torch.equal(first.pooled[:], second.pooled[:])
    assert torch.equal(first.dense()[:], second.dense()[:])
    assert all(torch.equal(first.patches(i), second.patches(i)) for i in range(7))
    memory = extract(backbone, Pictures(), View("whole", 16), dense=True)
    assert torch.equal(memory.dense()[:], second.dense()[:])
    assert torch.equal(memory.mean[:], second.mean[:])


def test_the_cache_is_never_used_for_other_weights_data_or_transform(backbone: Backbone, tmp_path: Path):
    def reads(pictures: Pictures, **change: object) -> int:
        settings = {"view": View("whole", 16), "precision": "float32", **change}
        extract(backbone, pictures, cache=tmp_path, **settings)  # pyright: ignore
        return pictures.reads

    assert reads(Pictures()) == 7
    assert reads(Pictures(content=1)) == 7
    assert reads(Pictures(), view=View("whole", 24)) == 7
    assert reads(Pictures(), view=View("crop", 16)) == 7
    assert reads(Pictures(), view=View("crop", 16, 0.8)) == 7
    assert reads(Pictures(), precision="bfloat16") == 7
    weight = next(backbone.parameters())
    original = weight.detach().clone()
    with torch.no_grad():
        weight.add_(0.01)
        assert reads(Pictures()) == 7
        weight.copy_(original)
    assert reads(Pictures()) == 0


def test_the_cache_is_not_used_by_a_version_that_sees_other_pixels(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    extract(backbone, Pictures(), View("crop", 16), cache=tmp_path)
    monkeypatch.setattr(store, "VERSION", store.VERSION + 1)
    again = Pictures()
    extract(backbone, again, View("crop", 16), cache=tmp_path)
    assert again.reads == 7


def test_what_a_killed_extraction_left_goes_with_the_next_one_and_that_of_living_ones_stays(
    backbone: Backbone, tmp_path: Path
):
    class Copied(Pictures):
        def image(self, index: int) -> np.ndarray:
            if index == 5:
                (half,) = tmp_path.rglob(".partial-*")
                shutil.copytree(half, half.with_name(".partial-of-the-dead"))
            return super().image(index)

    extract(backbone, Copied(), View("whole", 16), cache=tmp_path, batch_size=1)
    (left,) = tmp_path.rglob(".partial-*")
    assert (left / "pooled" / "pooled.f32").stat().st_size
    disk.sweep.cache_clear()  # a process looks once
    with disk.fragment(left.parent / "other") as living:
        assert not left.exists()
        disk.sweep.cache_clear()
        extract(backbone, Pictures(), View("whole", 16), dense=True, cache=tmp_path)
        whole = [left.with_name(kind) for kind in ("dense", "pooled")]
        assert sorted(left.parent.iterdir()) == sorted([living.parent, *whole])


def test_a_cache_on_a_full_disk_is_told_as_such_and_holds_nothing(backbone: Backbone, tmp_path: Path, files_at_most):
    with (
        files_at_most(100),
        pytest.raises(Unwritable, match=rf"cannot write {tmp_path}/features/\w+/pooled \(.*, or name another cache \("),
    ):
        extract(backbone, Pictures(), View("whole", 16), cache=tmp_path)
    assert not [path for path in tmp_path.glob("features/**/*") if path.is_file()]
    extract(backbone, Pictures(), View("whole", 16), cache=tmp_path)


def test_patches_serve_who_needs_none_and_are_added_for_who_does(backbone: Backbone, tmp_path: Path):
    pooled = extract(backbone, Pictures(), View("whole", 16), cache=tmp_path)
    assert pooled.tokens is None
    dense, again = Pictures(), Pictures()
    extract(backbone, dense, View("whole", 16), dense=True, cache=tmp_path)
    extract(backbone, again, View("whole", 16), cache=tmp_path)
    assert (dense.reads, again.reads) == (7, 0)


@pytest.mark.parametrize("name", ["card.json", "pooled.f32", "mean.f32", "tokens.f32", "places.npy"])
@pytest.mark.parametrize(("kept", "filled"), [(0.0, False), (0.5, False), (0.99, False), (0.5, True)])
def test_a_damaged_cache_entry_is_made_again(backbone: Backbone, tmp_path: Path, name: str, kept: float, filled: bool):
    """`filled` keeps the length, with zeros in place of what is lost."""
    first = extract(backbone, Pictures(), View("whole", 16), dense=True, cache=tmp_path)
    tokens = first.dense()[:]
    (path,) = tmp_path.rglob(name)
    whole = path.read_bytes()
    left = whole[: int(len(whole) * kept)]
    path.write_bytes(left.ljust(len(whole), b"\0") if filled else left)
    again = Pictures()
    second = extract(backbone, again, View("whole", 16), dense=True, cache=tmp_path)
    assert again.reads == 7
    assert torch.equal(tokens, second.dense()[:])
    assert [found.read_bytes() == whole for found in tmp_path.rglob(name)] == [True]


def test_an_extraction_that_fails_leaves_no_entry(backbone: Backbone, tmp_path: Path):
    class Torn(Pictures):
        def image(self, index: int) -> np.ndarray:
            if index == 5:
                raise BadInput("got unreadable image picture-5")
            return super().image(index)

    with pytest.raises(BadInput, match="picture-5"):
        extract(backbone, Torn(), View("whole", 16), batch_size=1, cache=tmp_path)
    assert [path for path in tmp_path.glob("features/**/*") if path.is_file()] == []


@pytest.mark.parametrize("stored", [False, True])
def test_a_selection_holds_the_features_of_its_images_in_their_order(backbone: Backbone, tmp_path: Path, stored: bool):
    whole = extract(backbone, Pictures(), View("whole", 16), dense=True, cache=tmp_path if stored else None)
    some = whole.select([5, 0, 3], Pictures(3))
    assert some.keys == ("picture-5", "picture-0", "picture-3")
    assert torch.equal(some.pooled[:], whole.pooled[[5, 0, 3]])  # pyright: ignore
    assert [some.grid(i) for i in range(3)] == [whole.grid(i) for i in (5, 0, 3)]
    assert all(torch.equal(some.patches(i), whole.patches(j)) for i, j in enumerate((5, 0, 3)))
    assert torch.equal(some.dense()[some.rows()], torch.cat([some.patches(i) for i in range(3)]))


def test_worker_processes_change_no_feature_and_pass_errors_on(backbone: Backbone):
    here, there = (extract(backbone, Pictures(), View("whole", 16), dense=True, workers=n) for n in (0, 2))
    pickle.dumps(Look(Pictures(), View("whole", 16), 8))  # what other start methods than fork send over
    assert torch.equal(here.dense()[:], there.dense()[:])
    assert torch.equal(here.pooled[:], there.pooled[:])


def test_many_shapes_wait_in_bounded_number():
    shapes = [(8 * (1 + i % 50), 8, 3) for i in range(300)]
    images = iter([Shown(i, np.zeros(shape, np.uint8), False) for i, shape in enumerate(shapes)])
    taken = 0

    def counted():
        nonlocal taken
        for shown in images:
            taken += 1
            yield shown

    given = 0
    for batch in of_one_shape(counted(), 4, shape=lambda shown: shown.image.shape):
        assert taken - given <= WAITING * 4
        assert len({shown.image.shape for shown in batch}) == 1
        given += len(batch)
    assert given == 300


def test_bfloat16_gives_nearly_the_same_features(backbone: Backbone):
    full = extract(backbone, Pictures(), View("crop", 16))
    half = extract(backbone, Pictures(), View("crop", 16), precision="bfloat16")
    assert half.pooled.dtype == torch.float32
    assert (full.pooled[:] - half.pooled[:]).abs().max() > 1e-3  # float32 itself rounds to some 1e-6 here
    assert torch.nn.functional.cosine_similarity(full.pooled, half.pooled).min() > 0.99


def test_sizes_that_do_not_fit_name_one_that_does(backbone: Backbone):
    with pytest.raises(BadInput, match=r"^got size 30 for .* with patches of 8: want a multiple; try 32$"):
        extract(backbone, Pictures(), View("crop", 30))
    with pytest.raises(BadInput, match="got no images"):
        extract(backbone, Pictures(count=0), View("crop", 16))


def test_features_that_are_not_finite_are_refused():
    args = {"embed_dim": 48, "depth": 1, "num_heads": 2, "img_size": 32, "patch_size": 8}
    model = timm.create_model("vit_small_patch16_dinov3_qkvb", num_classes=0, **args)
    torch.nn.init.constant_(model.norm.weight, float("nan"))  # pyright: ignore
    with pytest.raises(BadInput, match="not finite"):
        extract(wrap(model, name="broken"), Pictures(), View("crop", 32))


def test_pixels_belong_to_the_patch_over_their_centre():
    assert cells((4, 4), (2, 2)).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    assert cells((1, 5), (1, 2)).tolist() == [[0, 0, 1, 1, 1]]
    for shape, grid in (((37, 50), (5, 7)), ((3, 3), (6, 6))):
        found = cells(shape, grid)
        assert found[-1, -1] <= grid[0] * grid[1] - 1
        rows = [int((i + 0.5) / shape[0] * grid[0]) for i in range(shape[0])]
        assert (found[:, 0] // grid[1]).tolist() == rows


def test_standardised_features_have_no_mean_and_unit_deviation_and_dead_ones_stay_dead():
    x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-2, 1, 1e2, 0]) + 5
    z = fit_scale(x, block=128)(x)
    assert torch.allclose(z.mean(0), torch.zeros(4), atol=1e-3)
    assert torch.allclose(z.std(0, correction=0)[:3], torch.ones(3), atol=1e-2)
    assert z[:, 3].abs().max() < 1e-3
