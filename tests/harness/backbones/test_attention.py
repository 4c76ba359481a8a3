"""Attention on a CPU: near to that of wide numbers, in bfloat16, of many tokens, however many are taken at a time."""

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


LONG = 400


def long_given(scale):
    """A few crops of many tokens; a scale of 30 makes scores whose powers no float32 holds."""
    draw = torch.Generator().manual_seed(1)
    qkv = scale * torch.randn(2, LONG, 3, HEADS, WIDTH, generator=draw)
    angles = torch.rand(LONG, 1, 1, WIDTH // 2, generator=draw).mul_(6).repeat(1, 1, 1, 2)
    return qkv.bfloat16(), angles.sin(), angles.cos()


@pytest.mark.parametrize("scores", [1, 150 * LONG, attention.SCORES])
@pytest.mark.parametrize("scale", [1, 30])
def test_many_tokens_come_out_head_by_head_as_in_wide_numbers(scale, scores, monkeypatch):
    monkeypatch.setattr(attention, "SCORES", scores)
    qkv, sin, cos = long_given(scale)
    wide = attention.attended(qkv.double(), sin.double(), cos.double())
    q, k, v = (heads.transpose(1, 2) for heads in attention._turned(qkv.float(), sin, cos).unbind(2))
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    ours = attention._by_heads(qkv.float(), sin, cos)
    assert (ours.double() - wide).norm() <= 2 * (theirs.double() - wide).norm()


@pytest.mark.parametrize("scale", [1, 30])
def test_many_tokens_in_bfloat16_are_rounded_about_as_few_are(scale):
    qkv, sin, cos = long_given(scale)
    wide = attention.attended(qkv.double(), sin.double(), cos.double())
    by_crops = attention._Attended.apply(qkv, sin, cos)
    assert (attention._by_heads(qkv, sin, cos).double() - wide).norm() <= 1.1 * (by_crops.double() - wide).norm()


def test_many_tokens_that_a_gradient_is_asked_of_get_one():
    qkv, sin, cos = long_given(1)
    assert attention._is_taken_by_heads(qkv)
    assert not attention._is_taken_by_heads(qkv.float().requires_grad_())
    qkv.requires_grad_()
    attention.attended(qkv, sin, cos).sum().backward()
    assert qkv.grad.isfinite().all()


def test_a_number_that_is_none_is_passed_on_to_its_crop_alone():
    qkv, sin, cos = long_given(1)
    qkv[0, 7, 0, 1] = torch.nan
    found = attention._by_heads(qkv.float(), sin, cos)
    assert found[0, 7, 1].isnan().all()
    assert found[0, :, 0].isfinite().all()
    assert found[1].isfinite().all()
