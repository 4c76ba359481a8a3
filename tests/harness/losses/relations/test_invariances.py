"""To what each relation is blind and what it sees, as docs/relations.md tells it, and what holds of all of them."""

import pytest
import torch
from torch.testing import assert_close

from common.errors import BadInput
from harness.losses.gram import RELATIONS, Gram

NAMES = list(RELATIONS)


def patches(images=3, count=6, width=4, seed=0, dtype=torch.float64):
    return torch.randn(images, count, width, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def loss(name, student, teacher):
    return RELATIONS[name].loss(Gram(relation=name), student, teacher)


def turned(x):
    return x @ torch.linalg.qr(patches(1, 4, 4, seed=9)[0]).Q


def mirrored(x):
    return x * torch.tensor([-1.0, 1, 1, 1], dtype=x.dtype)


def scaled(x):
    return 3 * x


def lengthened(x):
    return x * (0.1 + patches(x.shape[0], x.shape[1], 1, seed=7).abs())


def shifted(x):
    return x + patches(1, 1, 4, seed=8)


def stretched(x):
    return x * torch.tensor([2.0, 1, 1, 1], dtype=x.dtype)


def shuffled(x):
    return x.roll(1, dims=1)


BLIND = {
    "gram": {turned, mirrored, scaled, lengthened},
    "cka": {turned, mirrored, scaled, shifted},
    "distances": {turned, mirrored, scaled, shifted},
    "affinities": {turned, mirrored, scaled, lengthened},
    "features": {scaled, lengthened},
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", [turned, mirrored, scaled, lengthened, shifted, stretched, shuffled])
def test_a_relation_is_blind_to_these_changes_of_the_student_and_sees_the_others(name, change):
    student = patches(seed=1)
    for teacher in (patches(seed=2), student):  # of any distance, and equal
        before, after = loss(name, student, teacher), loss(name, change(student), teacher)
        if change in BLIND[name]:
            assert_close(after, before, atol=1e-12, rtol=1e-9)
        else:
            assert (after - before).abs() > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_sets_and_patches_may_come_in_any_order_if_it_is_the_same_for_both(name):
    student, teacher = patches(seed=1), patches(seed=2)
    moved = (x[[2, 0, 1]][:, [4, 1, 5, 0, 3, 2]] for x in (student, teacher))
    assert_close(loss(name, *moved), loss(name, student, teacher))


@pytest.mark.parametrize("name", NAMES)
def test_sets_are_averaged(name):
    student, teacher = patches(seed=1), patches(seed=2)
    alone = [loss(name, student[i : i + 1], teacher[i : i + 1]) for i in range(3)]
    assert_close(loss(name, student, teacher), torch.stack(alone).mean())


@pytest.mark.parametrize("name", NAMES)
def test_equal_patches_lose_nothing_and_pull_nowhere(name):
    student = patches(dtype=torch.float32).requires_grad_()
    found = loss(name, student, student)
    found.backward()
    assert found.abs() < 1e-7
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-7


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [3, 10])  # fewer patches than channels, and so many more that channels are compared
def test_gradients_are_right_and_none_reaches_the_gram_teacher(name, count):
    student, teacher = patches(2, count, 4, seed=1).requires_grad_(), patches(2, count, 4, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(name, s, teacher), student)
    loss(name, student, teacher).backward()
    assert teacher.grad is None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [0.0, 1e-6, 1e4])
def test_zero_tiny_and_huge_patches_give_finite_values_and_gradients(name, factor):
    student = (factor * patches(dtype=torch.float32)).requires_grad_()
    found = loss(name, student, factor * patches(seed=1, dtype=torch.float32))
    found.backward()
    assert found.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_worked_in_float32_whatever_the_autocast(name, dtype):
    student, teacher = (patches(seed=s, dtype=torch.float32).to(dtype) for s in (1, 2))
    want = loss(name, student.float(), teacher.float())
    with torch.autocast("cpu", torch.bfloat16):
        got = loss(name, student, teacher)
    assert got.dtype == torch.float32
    assert torch.equal(got, want)


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_within_1e_5_of_float64(name):
    student, teacher = patches(2, 64, 32, seed=1), patches(2, 64, 32, seed=2)
    for near in (1.0, 1e-2):
        close = teacher + near * student
        assert_close(
            loss(name, close.float(), teacher.float()).double(), loss(name, close, teacher), atol=1e-6, rtol=1e-5
        )


@pytest.mark.parametrize("name", [name for name in NAMES if name != "features"])
def test_a_teacher_of_another_width_is_fine_where_patches_are_compared_with_each_other(name):
    student = patches(width=4)
    wider = torch.cat([turned(student), torch.zeros(3, 6, 2, dtype=student.dtype)], 2)
    assert loss(name, student, wider).abs() < 1e-12
    assert loss(name, student, patches(width=7, seed=1)) > 1e-3


def test_features_of_two_widths_are_refused_with_the_way_out():
    words = r"got student \[3, 6, 4\], teacher \[3, 6, 7\]: want equal widths for gram\.relation=features; take another"
    with pytest.raises(BadInput, match=words):
        loss("features", patches(width=4), patches(width=7))


@pytest.mark.parametrize("name", ["cka", "distances", "affinities"])
def test_one_patch_alone_has_no_relation(name):
    with pytest.raises(BadInput, match=r"got student \[3, 1, 4\].*: want two patches to compare; take larger crops"):
        loss(name, patches(count=1), patches(count=1))


@pytest.mark.parametrize("name", NAMES)
def test_a_relation_runs_on_the_meta_device(name):
    student = torch.empty(2, 9, 4, device="meta", requires_grad=True)
    found = loss(name, student, torch.empty(2, 9, 4, device="meta"))
    found.backward()
    assert found.shape == ()
