"""The student's noise depends on seed, step, block and branch alone; stochastic depth keeps its share, unbiased."""

from itertools import combinations

import pytest
import torch

from harness.model import Network, encode, initialise
from harness.noise import BlockDraw, kept_crops, student_noise


@pytest.fixture(scope="module")
def noisy(tiny, change):
    return change(tiny, {"model.drop_path": 0.4})


@pytest.mark.parametrize(("crops", "rate", "kept"), [(10, 0.4, 6), (8, 0.3, 5), (8, 0.5, 4), (3, 0.9, 1), (1, 0.5, 1)])
def test_the_floor_of_the_kept_share_is_computed_and_at_least_one(crops, rate, kept):
    found = kept_crops(0, 0, "drop_path", crops=crops, rate=rate)
    assert len(found) == kept
    assert found.tolist() == sorted(set(found.tolist()))
    assert set(found.tolist()) <= set(range(crops))


def test_rate_zero_and_no_crops_keep_all():
    assert kept_crops(0, 0, "drop_path", crops=8, rate=0.0) is None
    assert kept_crops(0, 0, "drop_path", crops=0, rate=0.4) is None


def test_every_crop_is_kept_equally_often():
    counts = torch.zeros(6)
    for step in range(1200):
        counts[kept_crops(0, step, "drop_path", crops=6, rate=0.5)] += 1
    assert (counts / 1200 - 0.5).abs().max() < 0.06  # four standard deviations


def test_kept_branches_count_for_the_dropped_ones_so_that_the_mean_is_unbiased(tiny):
    network = Network(tiny)
    initialise(network, torch.Generator().manual_seed(0))
    backbone = network.backbone.eval()
    backbone.norm = torch.nn.Identity()
    with torch.no_grad():
        for block in backbone.blocks:
            block.gamma_1.fill_(1.0)
            block.gamma_2.zero_()
        backbone.blocks[1].gamma_1.zero_()
        images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        whole = encode(backbone, images)
        off = BlockDraw(None, None, None)
        drawn = [
            encode(backbone, images, draws=[BlockDraw(None, torch.tensor(kept), None), off])
            for kept in combinations(range(4), 2)
        ]
    assert not torch.allclose(drawn[0].patches, whole.patches, atol=1e-4)
    for part in ("cls", "patches"):
        mean = torch.stack([getattr(tokens, part) for tokens in drawn]).mean(0)
        torch.testing.assert_close(mean, getattr(whole, part), rtol=1e-5, atol=1e-6)


def test_noise_depends_on_seed_step_block_and_branch_only(noisy, make_batches):
    batches = make_batches(noisy)
    first, other = batches[0], batches[7]
    noise = student_noise(0, 3, first, noisy, depth=4)
    assert _plain(student_noise(0, 3, other, noisy, depth=4)) == _plain(noise)  # not on the images
    torch.manual_seed(99)
    assert _plain(student_noise(0, 3, first, noisy, depth=4)) == _plain(noise)  # not on torch's generator
    assert _plain(student_noise(0, 3, first, noisy, depth=6))["global"][:4] == _plain(noise)["global"]  # not on depth
    for seed, step in ((1, 3), (0, 4)):
        changed = _plain(student_noise(seed, step, first, noisy, depth=4))
        assert changed["global"] != _plain(noise)["global"]


def test_blocks_branches_and_crop_sizes_draw_apart(noisy, make_batches):
    noise = student_noise(0, 0, make_batches(noisy)[0], noisy, depth=8)
    ropes = [draw.rope for kind in noise.values() for draw in noise[next(iter(noise))] + kind]
    assert len(set(ropes)) == 16
    kept = {(draw.attention, draw.mlp) for draw in _plain(noise)["global"]}
    assert len(kept) > 4
    assert any(attention != mlp for attention, mlp in kept)


def test_drawing_leaves_the_global_generator_alone(noisy, make_batches):
    batch = make_batches(noisy)[0]
    before = torch.get_rng_state()
    student_noise(0, 0, batch, noisy, depth=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_noise_is_drawn_when_it_is_off(tiny, change, make_batches):
    quiet = change(tiny, {"model.rope_rescale": None})
    noise = student_noise(0, 0, make_batches(quiet)[0], quiet, depth=2)
    assert all(draw == BlockDraw(None, None, None) for kind in noise.values() for draw in kind)


def _plain(noise):
    return {
        kind: [BlockDraw(d.rope, tuple(d.attention.tolist()), tuple(d.mlp.tolist())) for d in draws]
        for kind, draws in noise.items()
    }
