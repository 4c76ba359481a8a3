"""Attention in bfloat16 on a CPU: near to that of wide numbers, however many crops are taken at a time."""

import pytest
import torch

from harness.backbones import attention

CROPS, TOKENS, HEADS, WIDTH = 5, 37, 3, 16


def given(dtype):
    draw = torch.Generator().manual_seed(0)
    qkv = torch.randn(CROPS, TOKENS, 3, HEADS, WIDTH, generator=draw).bfloat16()
    angles = torch.rand(TOKENS, 1, 1, WIDTH // 2, generator=draw).mul_(6).repeat(1, 1, 1, 2)
    by = torch.randn(CROPS, TOKENS, HEADS, WIDTH, generator=draw).bfloat16()
    return qkv.to(dtype).requires_grad_(), angles.sin().to(dtype), angles.cos().to(dtype), by.to(dtype)


def found(dtype):
    """What comes out of tokens of bfloat16 that are taken in another type, and their gradient."""
    qkv, sin, cos, by = given(dtype)
    y = attention.attended(qkv, sin, cos)
    y.backward(by)
    return y.detach().double(), qkv.grad.double()


def by_torchs_kernel():
    qkv, sin, cos, by = given(torch.bfloat16)
    turned = attention._Turned.apply(qkv[:, :, :2], sin, cos)
    q, k, v = (heads.transpose(1, 2) for heads in (*turned.unbind(2), qkv[:, :, 2]))
    y = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    y.backward(by)
    return y.detach().double(), qkv.grad.double()


def test_its_rounding_is_at_most_half_as_much_again_as_that_of_torchs_kernel():
    for ours, theirs, wide in zip(found(torch.bfloat16), by_torchs_kernel(), found(torch.float64), strict=True):
        assert (ours - wide).norm() <= 1.5 * (theirs - wide).norm()


@pytest.mark.parametrize("cached", [1, 2 * 4 * HEADS * TOKENS**2])
def test_crops_that_are_taken_one_by_one_or_in_pairs_come_out_as_they_do_together(cached, monkeypatch):
    together = found(torch.bfloat16)
    monkeypatch.setattr(attention, "CACHED", cached)
    for apart, whole in zip(found(torch.bfloat16), together, strict=True):
        torch.testing.assert_close(apart, whole, rtol=2**-7, atol=2**-7)
