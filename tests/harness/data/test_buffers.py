"""Memory that is used again: never while anything of a tensor is alive."""

import gc
import pickle

import torch

from harness.data.buffers import Buffers


def test_memory_comes_back_once_nobody_holds_the_tensor():
    buffers = Buffers()
    first = buffers.empty(2, 3, 4)
    place = first.data_ptr()
    del first
    gc.collect()
    assert buffers.empty(4, 3, 2).data_ptr() == place


def test_memory_is_not_lent_twice_while_a_view_of_it_or_its_array_is_held():
    buffers = Buffers()
    tensor = buffers.empty(2, 3).fill_(1)
    view, array = tensor[1], tensor.numpy()[0]
    del tensor
    gc.collect()
    other = buffers.empty(2, 3).fill_(2)
    assert (view == 1).all()
    assert (array == 1).all()
    assert (other == 2).all()


def test_sizes_that_differ_have_memory_of_their_own():
    buffers = Buffers()
    for shape in [(3,), (4,), (0, 5), (2, 2)]:
        assert buffers.empty(*shape).shape == torch.Size(shape)


def test_buffers_go_to_another_process():
    buffers = Buffers()
    buffers.empty(5)
    assert pickle.loads(pickle.dumps(buffers)).empty(5).shape == (5,)
