from __future__ import annotations

import pytest
import torch
from torch import nn

from evals.fitting import linear_head
from evals.fitting.linear_head import LinearHead


def test_the_head_starts_small_and_without_a_bias_and_its_start_follows_the_seed():
    head = LinearHead(384, 150, init_std=0.01, seed=3)
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not head.bias.any()
    assert torch.equal(head.weight, LinearHead(384, 150, init_std=0.01, seed=3).weight)
    assert not torch.equal(head.weight, LinearHead(384, 150, init_std=0.01, seed=4).weight)


def test_the_head_is_batch_norm_and_a_convolution():
    head = LinearHead(6, 3, init_std=0.5, seed=0)
    patches = torch.randn(4, 6, 5, 2, generator=torch.Generator().manual_seed(0)) * 3 + 1
    theirs = nn.Sequential(nn.BatchNorm2d(6), nn.Conv2d(6, 3, 1))
    theirs[1].load_state_dict({"weight": head.weight, "bias": head.bias})
    torch.testing.assert_close(head(patches), theirs(patches))
    torch.testing.assert_close(head.eval()(patches), theirs.eval()(patches))


@pytest.mark.parametrize("training", [True, False])
def test_a_head_is_judged_in_evaluation_mode_and_left_as_it_was(training: bool):
    head = LinearHead(2, 2, init_std=1, seed=0).train(training)
    with linear_head.judging(head):
        assert not head.norm.training
    assert head.norm.training == training
    with linear_head.judging(lambda patches: patches):
        pass
