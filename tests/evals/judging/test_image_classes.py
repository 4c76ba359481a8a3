from __future__ import annotations

from typing import Any

import pytest
import torch

from common.errors import BadInput
from evals.judging.image_classes import hold_out, shared_classes, two_classes
from tests.evals.toys import Labels


def of(classes: str) -> Any:
    return Labels(torch.zeros(3), classes)


def test_sets_share_their_classes_only_in_one_order():
    assert shared_classes(of("abc"), of("abc")) == 3
    for other, words in (
        ("abd", "'c' is in made/train alone, 'd' is in made/train alone"),
        ("acb", "in another order"),
    ):
        with pytest.raises(BadInput, match=f"got 3 classes in made/train and 3 in made/train .{words}.: want one list"):
            shared_classes(of("abc"), of(other))


def test_one_class_is_nothing_to_tell_apart():
    two_classes(torch.tensor([1, 1, 0]), of("ab"))
    with pytest.raises(BadInput, match="got one class in made: want at least two"):
        two_classes(torch.tensor([1, 1, 1]), of("ab"))


def test_a_tenth_of_each_class_is_held_out():
    labels = torch.tensor([0] * 100 + [1] * 20 + [2] * 3 + [3])
    held = hold_out(labels, share=0.1, seed=0)
    assert [int(held[labels == c].sum()) for c in range(4)] == [10, 2, 1, 0]
    assert torch.equal(held, hold_out(labels, share=0.1, seed=0))
    assert not torch.equal(held, hold_out(labels, share=0.1, seed=1))


def test_nothing_can_be_held_out_of_classes_of_one():
    with pytest.raises(BadInput, match="got 3 training images, one per class"):
        hold_out(torch.arange(3), share=0.5, seed=0)
