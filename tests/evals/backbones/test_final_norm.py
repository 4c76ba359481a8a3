from __future__ import annotations

import pytest
import torch
from torch import nn

from evals.backbones.addresses import load
from evals.backbones.backbone import wrap
from evals.backbones.final_norm import inputs_of, lengths
from evals.backbones.timm_models import create


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "eva02_tiny_patch14_224", "test_convnext"])
def test_lengths_are_those_of_the_last_block_before_the_final_norm(name: str):
    backbone = load(f"random:{name}")
    images = torch.rand(2, 3, 2 * backbone.stride, 3 * backbone.stride, generator=torch.Generator().manual_seed(0))
    features = backbone(images)
    model = backbone.model.eval()
    normalised = (images - torch.tensor(backbone.mean).view(3, 1, 1)) / torch.tensor(backbone.std).view(3, 1, 1)
    with torch.no_grad():
        (raw,) = model.forward_intermediates(normalised, indices=1, norm=False, intermediates_only=True)  # pyright: ignore
    assert features.lengths.shape == features.patches.shape[::2] + features.patches.shape[3:]
    torch.testing.assert_close(features.lengths, raw.norm(dim=1), rtol=1e-4, atol=1e-4)


def test_a_long_patch_shows_although_the_final_norm_hides_it():
    model = create("test_vit", {})
    block = model.blocks[-1]  # pyright: ignore

    def stretch(_: nn.Module, __: object, out: torch.Tensor) -> torch.Tensor:
        out = out.clone()
        out[:, 5] *= 100  # the fifth token is patch 4, after one class token
        return out

    block.register_forward_hook(stretch)  # pyright: ignore
    features = wrap(model, name="stretched")(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    found = features.lengths.flatten()
    assert int(found.argmax()) == 4
    assert found[4] > 20 * found.median()
    after = features.patches.norm(dim=1).flatten()
    assert after[4] < 2 * after.median()


def test_where_no_norm_is_seen_the_patches_themselves_count():
    patches = torch.rand(2, 5, 3, 4)
    torch.testing.assert_close(lengths([], patches), patches.norm(dim=1))
    torch.testing.assert_close(lengths([torch.rand(2, 5)], patches), patches.norm(dim=1))  # a pooled vector alone
    with inputs_of(None) as seen:
        pass
    assert seen == []


def test_watching_a_norm_ends_with_the_block():
    norm = nn.LayerNorm(3)
    with inputs_of(norm) as seen:
        norm(torch.zeros(1, 2, 3))
    norm(torch.zeros(1, 2, 3))
    assert len(seen) == 1
