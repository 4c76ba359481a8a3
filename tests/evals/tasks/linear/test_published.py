from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import RandomResizedCrop

from common import draws
from common.errors import BadInput
from evals.backbones.backbone import Backbone, wrap
from evals.backbones.timm_models import create
from evals.datasets.catalogue import open_set
from evals.datasets.labelled_set import LabelledSet
from evals.features import frozen
from evals.protocols.reading import load
from evals.tasks.linear import published
from evals.tasks.linear.grid import Heads
from evals.tasks.linear.published import (
    PublishedLinear,
    augmented,
    crop_box,
    evaluate,
    fit,
    judge_on,
    metrics,
    portion_of,
    read,
)
from tests.evals.published_checks import untouched

CODE, PAPER = (load(f"linear-{kind}", PublishedLinear) for kind in ("code", "paper"))
TINY = {"size": 32, "epochs": 1, "epoch_steps": 4, "batch_size": 10}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    """With open residual branches: the class token of a new network hardly knows of the image, in any precision."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        args = {"embed_dim": 48, "depth": 1, "num_heads": 2, "img_size": 32, "patch_size": 8, "init_values": 1.0}
        return wrap(create("vit_small_patch16_dinov3_qkvb", args), name="tiny")


@pytest.fixture(scope="module")
def scenes() -> LabelledSet:
    return open_set("scenes", split="train", size=32, count=48)


class Reds:
    """The class is how red the left half is; the right half is noise."""

    split, segments, has_depth = "train", (), False

    def __init__(self, count: int, *, name: str = "reds", classes: tuple[str, ...] = ("little", "much")) -> None:
        self.count, self.name, self.classes = count, name, classes

    def __len__(self) -> int:
        return self.count

    def key(self, index: int) -> str:
        return f"{self.name}-{index}"

    def image(self, index: int) -> np.ndarray:
        image = np.random.default_rng(index).integers(0, 255, (36, 48, 3), dtype=np.uint8)
        image[:, :24, 0] = 40 + 170 * self.label(index)
        return image

    def label(self, index: int) -> int:
        return index % 2


def weights(fitted: Heads) -> Tensor:
    return torch.cat([torch.cat([x.flatten() for x in fitted.parameters(i)]) for i in range(len(fitted.heads))])


def test_the_published_grids_have_their_sizes():
    assert (len(CODE.heads), len(PAPER.heads)) == (13, 30)
    assert [head.input for head in CODE.heads] == ["cls_mean"] * 13
    assert [head.rate for head in CODE.heads] == pytest.approx([4 * rate for rate in CODE.rates])  # 1024 / 256
    assert [head.rate for head in CODE.heads][:3] == pytest.approx([4e-5, 8e-5, 2e-4])
    steps = (1, 2, 5)
    assert sorted({head.rate for head in PAPER.heads}) == pytest.approx(
        [m * 10**e for e in range(-4, 1) for m in steps]
    )
    assert {head.decay for head in PAPER.heads} == {0.0, 1e-5}
    assert {head.input for head in PAPER.heads} == {"cls"}


@pytest.mark.parametrize("batch", [128, 1024])
def test_no_two_heads_bear_one_name_at_any_batch_size(batch: int):
    assert len({str(head) for head in replace(CODE, batch_size=batch).heads}) == 13
    assert len({f"{head.rate:.5f}" for head in replace(CODE, batch_size=128).heads}) == 12  # the published hazard


def test_lengths_follow_the_training_set_on_paper_and_a_fixed_epoch_in_code():
    assert CODE.steps(9469) == CODE.steps(1_281_167) == 12_500
    assert PAPER.steps(1_281_167) == 10 * 1252
    assert PAPER.steps(1024) == 10


def test_every_head_becomes_what_torchs_sgd_makes_of_it_alone(backbone: Backbone, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(published, "PORTION", 4)  # batches of ten come in three portions
    train = Reds(14)
    protocol = replace(CODE, **TINY, inputs=("cls", "cls_mean"), rates=(0.5, 2.0), decays=(0.0, 0.1))
    fitted = fit(protocol, backbone, train)
    seen: list[tuple[dict[str, Tensor], Tensor]] = []
    for step in range(4):
        parts = [portion_of(protocol, train, 3 * step + place) for place in range(3)]
        assert [len(part.labels) for part in parts] == [4, 4, 2]
        images, labels = torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts])
        seen.append((read(frozen.features(backbone, images), protocol.inputs), labels))
    assert len(fitted.heads) == 8
    for index, head in enumerate(fitted.heads):
        width = seen[0][0][head.input].shape[1]
        layer = torch.nn.Linear(width, 2)
        draw = draws.torch_generator(protocol.seed, f"start/{head.input}")
        with torch.no_grad():
            layer.weight.copy_(0.01 * torch.randn(width, 2, generator=draw).T)
            layer.bias.zero_()
        optimizer = torch.optim.SGD(layer.parameters(), lr=head.rate, momentum=0.9, weight_decay=head.decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
        for x, labels in seen:
            optimizer.zero_grad()
            F.cross_entropy(layer(x[head.input]), labels).backward()
            optimizer.step()
            schedule.step()
        assert torch.allclose(fitted.parameters(index)[0], layer.weight.T, atol=1e-5)
        assert torch.allclose(fitted.parameters(index)[1], layer.bias, atol=1e-5)


def test_a_short_probe_learns_what_a_random_network_shows(backbone: Backbone, scenes: LabelledSet):
    short = replace(CODE, **TINY | {"epoch_steps": 60, "batch_size": 24, "rates": (0.1, 1.0, 10.0)})
    found = evaluate(short, backbone, Reds(60), Reds(40, name="unseen"))
    assert found["correct"].mean() > 0.9
    found = evaluate(replace(short, crop_area=(0.6, 1.0)), backbone, scenes, scenes)
    assert found["correct"].mean() > 2 / len(scenes.classes)
    assert found["in_top5"].mean() > found["correct"].mean()
    assert list(found["keys"]) == [scenes.key(index) for index in range(48)]
    assert metrics(short) == ("top1", "top5")


def test_worker_processes_change_nothing_and_everything_else_stays_as_it_was(backbone: Backbone):
    protocol = replace(PAPER, **TINY, rates=(1.0,))
    with untouched(backbone):
        fitted = [fit(protocol, backbone, Reds(14), workers=workers) for workers in (0, 2)]
        judged = [judge_on(Reds(9), fitted[0], protocol, backbone, workers=workers) for workers in (0, 2)]
    assert torch.equal(weights(fitted[0]), weights(fitted[1]))
    assert torch.equal(judged[0].loss, judged[1].loss)


CHANGES: list[dict[str, Any]] = [
    {"size": 24},
    {"precision": "bfloat16"},
    {"seed": 1},
    {"crop_area": (0.5, 1.0)},
    {"crop_aspect": (0.5, 2.0)},
    {"flip": 1.0},
    {"inputs": ("mean",)},
    {"rates": (2.0,)},
    {"rate_batch": 256},
    {"decays": (0.1,)},
    {"momentum": 0.5},
    {"init_std": 0.1},
    {"epochs": 2},
    {"epoch_steps": 5},
    {"epoch_steps": None},
    {"batch_size": 11},
]
# Who asks for an evaluation cuts the sets; `crop_pct` is that of test views, which have a test of their own
OUTSIDE = {"name", "version", "train_images", "test_images", "crop_pct"}


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_every_setting_of_the_training_changes_the_head(backbone: Backbone, changes: dict[str, Any]):
    base = replace(PAPER, **TINY, rates=(1.0,), decays=(0.0,))
    found = [weights(fit(protocol, backbone, Reds(14))) for protocol in (base, replace(base, **changes))]
    assert not torch.equal(*found)


def test_heads_are_judged_in_the_precision_of_the_protocol(backbone: Backbone):
    protocol = replace(PAPER, **TINY, rates=(1.0,))
    fitted = fit(protocol, backbone, Reds(14))
    whole, half = (
        judge_on(Reds(9), fitted, replace(protocol, precision=p), backbone).loss for p in ("float32", "bfloat16")
    )
    assert ((whole - half).abs() > 1e-5 * whole).all()  # by more than float32 rounds


def test_every_setting_is_tried():
    assert {name for change in CHANGES for name in change} | OUTSIDE == {
        field.name for field in fields(PublishedLinear)
    }


def test_crops_that_patches_of_14_do_not_divide_are_seen_in_the_mean_colour():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        args = {"embed_dim": 48, "depth": 1, "num_heads": 2, "img_size": 42}
        fourteen = wrap(create("vit_small_patch14_dinov2", args), name="tiny")
    protocol = replace(PAPER, **TINY, rates=(1.0,), inputs=("cls", "cls_mean"))  # 32 px
    train, test = Reds(14), Reds(5)
    padded = torch.tensor(fourteen.mean).view(1, 3, 1, 1).repeat(5, 1, 42, 42)
    padded[:, :, 5:37, 5:37] = published.centre_portion(protocol, test, 0).images.permute(0, 3, 1, 2) / 255
    features = fourteen(padded)
    wanted = {"cls": features.pooled, "cls_mean": torch.cat([features.pooled, features.patches.mean((2, 3))], 1)}
    fitted = fit(protocol, fourteen, train)
    assert torch.equal(
        judge_on(test, fitted, protocol, fourteen).correct,
        fitted.logits(wanted).argmax(2) == torch.tensor([test.label(i) for i in range(5)])[:, None],
    )
    assert torch.isfinite(weights(fitted)).all()
    assert len(evaluate(protocol, fourteen, train, test)["correct"]) == 5


def test_the_test_view_is_a_centre_crop_of_the_resized_image(backbone: Backbone):
    protocol = replace(PAPER, **TINY)
    assert published.centre_portion(protocol, Reds(3), 0).images.shape == (3, 32, 32, 3)
    views = [published.centre_portion(replace(protocol, crop_pct=pct), Reds(3), 0).images for pct in (0.875, 1.0)]
    assert not torch.equal(*views)
    assert round(CODE.size / CODE.crop_pct) == 256


def test_views_are_functions_of_the_seed_and_the_position():
    protocol = replace(CODE, **TINY)
    train = Reds(14)
    first, again, other = (portion_of(protocol, train, number).images for number in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, portion_of(replace(protocol, seed=1), train, 3).images)


def test_boxes_lie_in_the_image_and_are_spread_as_torchvisions():
    boxes = np.array(
        [crop_box(60, 80, draws.pcg64(0, "boxes", n), area=(0.08, 1), aspect=(0.75, 4 / 3)) for n in range(600)]
    )
    top, left, height, width = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 60).all()
    assert (left + width <= 80).all()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = [RandomResizedCrop.get_params(torch.empty(3, 60, 80), [0.08, 1], [0.75, 4 / 3]) for _ in range(600)]
    for ours, other in zip((height * width, width / height), _sizes(theirs), strict=True):
        assert np.quantile(ours, [0.01, 0.25, 0.5, 0.75, 0.99]) == pytest.approx(
            np.quantile(other, [0.01, 0.25, 0.5, 0.75, 0.99]), rel=0.12
        )


def _sizes(boxes: list[tuple[int, int, int, int]]) -> tuple[np.ndarray, np.ndarray]:
    _, _, height, width = np.array(boxes).T
    return height * width, width / height


def test_where_no_box_fits_the_largest_centre_crop_is_taken():
    assert crop_box(10, 100, draws.pcg64(0, "boxes"), area=(1, 1), aspect=(0.75, 4 / 3)) == (0, 43, 10, 13)
    assert crop_box(100, 10, draws.pcg64(0, "boxes"), area=(1, 1), aspect=(0.75, 4 / 3)) == (43, 0, 13, 10)


def test_a_whole_crop_is_the_resized_image_and_a_flip_mirrors_it():
    protocol = replace(CODE, size=40, crop_area=(1.0, 1.0), crop_aspect=(1.0, 1.0))
    image = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    plain, mirrored = (augmented(image, replace(protocol, flip=p), draws.pcg64(0, "x")) for p in (0.0, 1.0))
    assert (plain == image).all()
    assert (mirrored == image[:, ::-1]).all()


def test_sets_sizes_and_settings_that_cannot_be_are_refused(backbone: Backbone):
    protocol = replace(PAPER, **TINY)
    with pytest.raises(BadInput, match=r"'much' is in .* alone"):
        evaluate(protocol, backbone, Reds(4), Reds(4, classes=("little", "vast")))
    with pytest.raises(BadInput, match="without image classes"):
        evaluate(protocol, backbone, Reds(4, classes=()), Reds(4))
    with pytest.raises(BadInput, match="without images"):
        evaluate(protocol, backbone, Reds(4), Reds(0))
    with pytest.raises(BadInput, match="got one class"):
        evaluate(protocol, backbone, Reds(1), Reds(4))
    for changes, reason in (
        ({"crop_area": (0.5, 0.1)}, "crop_area"),
        ({"crop_aspect": (1.0,)}, "crop_aspect"),
        ({"crop_pct": 0.0}, "crop_pct"),
        ({"epochs": 0}, "epochs=0"),
        ({"epoch_steps": 0}, "epoch_steps=0"),
        ({"rate_batch": 0}, "rate_batch=0"),
    ):
        with pytest.raises(BadInput, match=reason):
            replace(protocol, **changes)


def test_a_grid_is_checked_with_the_rates_of_the_file():
    with pytest.raises(
        BadInput, match=r"^linear-code: rates=\[0\.01, 0\.01\]: want a list of one or more different values"
    ):
        replace(CODE, rates=(0.01, 0.01))
    with pytest.raises(BadInput, match=r"^linear-code: inputs\[0\]='max': want one of cls, mean, cls_mean"):
        replace(CODE, inputs=("max",))


def test_a_grid_that_diverges_is_refused_and_one_good_head_saves_it(backbone: Backbone):
    protocol = replace(PAPER, **TINY, decays=(0.0,))
    with pytest.raises(BadInput, match="lower the rates"):
        evaluate(replace(protocol, rates=(1e38,)), backbone, Reds(14), Reds(9))
    good = evaluate(replace(protocol, rates=(1.0,)), backbone, Reds(14), Reds(9))
    saved = evaluate(replace(protocol, rates=(1.0, 1e38)), backbone, Reds(14), Reds(9))
    assert (good["correct"] == saved["correct"]).all()
