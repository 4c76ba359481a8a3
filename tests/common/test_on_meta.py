"""The meta device: what is remembered of a call is what torch would have made of it, and nothing else is remembered."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from common import on_meta
from common.on_meta import Operations

CALLS = {
    "scaled by a whole number": lambda x: x * 2,
    "scaled by a fraction": lambda x: x * 2.0,
    "by a truth value": lambda x: x * True,
    "halves": lambda x: x.half() + 1,
    "whole numbers": lambda x: x.long() * 2,
    "whole numbers by fractions": lambda x: x.long() * 2.0,
    "columns first": lambda x: x.mT.exp(),
    "broadcast": lambda x: x + x[:, :1],
    "a layer norm": lambda x: F.layer_norm(x, x.shape[-1:]),
    "several results": lambda x: torch.topk(x, 2),
    "a list": lambda x: torch.cat([x, x]),
    "other lists": lambda x: torch.cat([x, x, x]),
    "views of one tensor": lambda x: x.chunk(2),
    "products": lambda x: x @ x.mT,
    "pixels": lambda x: F.interpolate(x[None, None], scale_factor=2, mode="bicubic"),
    "attention": lambda x: F.scaled_dot_product_attention(*[x.expand(1, 2, *x.shape)] * 3),
}


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(on_meta, "_known", {})


def told(found):
    """Each result's shape, strides, type, place in its memory, and how large that is."""
    results = found if isinstance(found, tuple | list) else (found,)
    return [
        (one.shape, one.stride(), one.dtype, one.storage_offset(), one.untyped_storage().nbytes()) for one in results
    ]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_is_made_again_is_as_torch_makes_it(call):
    x = torch.empty(4, 6, device="meta")
    with FlopCounterMode(display=False) as counter:
        expected = told(call(x))
    for others in (CALLS, {}, {}):  # after all others; then the same again
        for other in others.values():
            with Operations():
                other(torch.empty(4, 6, device="meta"))
        with Operations() as operations:
            found = call(torch.empty(4, 6, device="meta"))
        assert told(found) == expected
        assert operations.flops == counter.get_total_flops()


def test_gradients_and_their_operations_are_those_that_torch_finds():
    def step():
        inner = torch.nn.Linear(6, 8), torch.nn.LayerNorm(8), torch.nn.GELU(), torch.nn.Linear(8, 2)
        layer = torch.nn.Sequential(*inner).to("meta")
        inner[1].bias.requires_grad_(False)  # so that the norm gives None for it
        layer(torch.empty(3, 6, device="meta")).square().mean().backward()
        given = torch.empty(3, 8, device="meta")
        asked = given, given, [8], *[given[:, :1]] * 2, inner[1].weight, inner[1].bias, [True, True, False]
        of_x, of_scale, of_shift = torch.ops.aten.native_layer_norm_backward(*asked)
        assert of_shift is None
        return [told(one.grad) for one in layer.parameters() if one.requires_grad] + [told(of_x), told(of_scale)]

    with FlopCounterMode(display=False) as counter:
        expected = step()
    for _ in range(2):
        with Operations() as operations:
            assert step() == expected
        assert operations.flops == counter.get_total_flops() > 0
    assert torch.ops.aten.native_layer_norm_backward.default in {key[0] for key in on_meta._known}


def test_what_writes_into_a_tensor_gives_that_one_back_and_views_share_its_memory():
    for _ in range(2):
        x, y = torch.empty(4, 6, device="meta"), torch.empty(4, 6, device="meta")
        with Operations():
            assert x.add_(1) is x
            assert torch.add(x, 1, out=y) is y
            assert x.T.untyped_storage()._cdata == x.untyped_storage()._cdata
            assert x.exp().untyped_storage()._cdata != x.untyped_storage()._cdata
            assert torch.ops.aten._unsafe_view(x, [24]).untyped_storage()._cdata == x.untyped_storage()._cdata
            y.t_()
            x.resize_(2, 2)
        assert (y.shape, x.shape) == ((6, 4), (2, 2))


def test_a_mistake_is_one_each_time():
    for _ in range(2):
        with Operations(), pytest.raises(RuntimeError):
            torch.mm(torch.empty(4, 6, device="meta"), torch.empty(4, 6, device="meta"))


def test_numbers_and_draws_elsewhere_are_as_ever():
    def numbers():
        torch.manual_seed(0)
        x = torch.randn(5, 3)
        return [x, x.clone().uniform_(), (x > 0).nonzero(), torch.arange(3.0).mean(), torch.tensor(2.0) * x]

    expected = numbers()
    for _ in range(2):
        with Operations():
            found = numbers()
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    x = torch.empty(3, device="meta")
    with Operations():  # a number in a tensor on the CPU weighs in by its type unlike one in Python
        assert [(x.half() * by).dtype for by in (torch.ones(1, device="meta"), 2.0)] == [torch.float32, torch.float16]


def test_modules_are_made_there_without_memory_and_know_their_buffers():
    with on_meta.on_meta():
        made = torch.nn.BatchNorm1d(4)
    assert {one.device.type for one in (*made.parameters(), *made.buffers())} == {"meta"}
    assert dict(made.named_buffers())["num_batches_tracked"].dtype == torch.long


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(on_meta, "FULL", 3)
    with Operations():
        for length in range(1, 9):
            assert torch.empty(length, device="meta").exp().shape == (length,)
            assert len(on_meta._known) <= 3
