"""Which patches the relation is between: levels and tokens against plain loops, and both forms of the Gram loss."""

import pytest
import torch
from torch.testing import assert_close

from harness.losses.gram import RELATIONS, Gram, terms
from harness.losses.inputs import Outputs, Targets
from harness.losses.relations.gram import gram_loss

LEVELS = ["image", "batch"]
MASKS = torch.tensor([[1, 1, 0, 0, 1], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 1, 1, 1, 0]], dtype=torch.bool)
CHOSEN = {  # [level][tokens]: sets of (crop, patch)
    ("image", "masked"): [[(0, 0), (0, 1), (0, 4)], [(3, 0), (3, 1), (3, 2), (3, 3)]],
    ("image", "unmasked"): [
        [(0, 2), (0, 3)],
        [(1, 0), (1, 1), (1, 2), (1, 3), (1, 4)],
        [(2, 0), (2, 2), (2, 3), (2, 4)],
    ],
    ("batch", "masked"): [[(0, 0), (0, 1), (0, 4), (2, 1), (3, 0), (3, 1), (3, 2), (3, 3)]],
    ("batch", "unmasked"): [
        [(0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (2, 0), (2, 2), (2, 3), (2, 4), (3, 4)]
    ],
}


def patches(seed, crops=4, count=5, width=3):
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(crops, count, width, dtype=torch.float64, generator=draws)


def term(own, student, teacher, masks=MASKS):
    none = torch.zeros(())
    return terms(own, Outputs(none, None, None, none, student, masks), Targets(none, None, teacher, none))


@pytest.mark.parametrize(
    ("relation", "level", "tokens"),
    [(name, *which) for name in RELATIONS for which in CHOSEN if which[0] == "image" or name != "features"],
)
def test_masked_or_unmasked_patches_are_compared_as_if_there_were_no_others(relation, level, tokens):
    own = Gram(weight=1.0, relation=relation, level=level, tokens=tokens)
    student, teacher = patches(1), patches(2)
    sets = [
        [torch.stack([side[place] for place in places])[None] for side in (student, teacher)]
        for places in CHOSEN[level, tokens]
    ]
    want = sum(RELATIONS[relation].loss(own, *sides) for sides in sets) / len(sets)
    assert_close(term(own, student, teacher)["gram"], want)


@pytest.mark.parametrize(("level", "tokens"), CHOSEN)
def test_patches_that_take_no_part_get_no_gradient(level, tokens):
    student = patches(1).requires_grad_()
    term(Gram(weight=1.0, level=level, tokens=tokens), student, patches(2))["gram"].backward()
    assert student.grad is not None
    moved = {(crop, patch) for crop, patch in student.grad.abs().sum(-1).nonzero().tolist()}
    assert moved == {place for places in CHOSEN[level, tokens] for place in places}


@pytest.mark.parametrize("level", LEVELS)
def test_all_patches_are_compared_whatever_is_masked(level):
    own, student, teacher = Gram(weight=1.0, level=level), patches(1), patches(2)
    sides = [x if level == "image" else x.flatten(0, 1)[None] for x in (student, teacher)]
    for masks in (MASKS, ~MASKS):
        assert torch.equal(term(own, student, teacher, masks)["gram"], gram_loss(*sides))


def test_a_gram_teacher_without_the_students_patches_is_a_mistake_and_no_loss_of_nothing():
    with pytest.raises(AssertionError, match="the student did not hand out its patches"):
        term(Gram(weight=1.0), None, patches(2))
    assert term(Gram(weight=1.0), patches(1), None) == {}


@pytest.mark.parametrize("level", LEVELS)
def test_there_is_no_term_where_no_patch_takes_part(level):
    own = Gram(weight=1.0, level=level, tokens="masked")
    assert term(own, patches(1), patches(2), torch.zeros_like(MASKS)) == {}


@pytest.mark.parametrize("negatives", ["keep", "clamp", "clamp_teacher"])
@pytest.mark.parametrize("level", LEVELS)
def test_both_forms_give_one_gradient_where_the_weight_is_divided_by_the_square_of_the_patches(level, negatives):
    count = 5 if level == "image" else 20
    gradients = []
    for form, weight in (("mean", 2.0), ("frobenius", 2.0 / count**2)):
        own = Gram(weight=weight, level=level, negatives=negatives, form=form)
        student = patches(1).requires_grad_()
        (own.weight * term(own, student, patches(2))["gram"]).backward()
        gradients.append(student.grad)
    assert_close(gradients[0], gradients[1], rtol=1e-12, atol=1e-15)
    assert gradients[0].abs().max() > 1e-3


@pytest.mark.parametrize("relation", RELATIONS)
def test_every_relation_in_float32_is_within_a_hundred_thousandth_of_float64(relation):
    own = Gram(weight=1.0, relation=relation)
    exact = term(own, patches(1, count=5, width=16), patches(2, count=5, width=16))["gram"]
    found = term(own, patches(1, count=5, width=16).float(), patches(2, count=5, width=16).float())["gram"]
    assert found.dtype == torch.float32
    assert exact > 0.01
    assert_close(found.double(), exact, atol=0, rtol=1e-5)
