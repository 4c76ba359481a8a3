"""The training step: EMA, what the teachers receive, when the Gram teacher is renewed, what a Gram arm changes."""

import math
from copy import deepcopy
from pathlib import Path

import pytest
import torch

from evals.backbones.exported import export
from harness import schedules
from harness.beginning import fresh_state
from harness.forward import forward, weigh
from harness.gram_view import resize_patches
from harness.losses.gram import Gram
from harness.losses.relations.gram import gram_loss
from harness.model import backbone_args, encode
from harness.state import follow, frozen_copy
from harness.step import NonFinite, train_step

CPU = torch.device("cpu")


def parameters(module):
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def anchored(tiny, change):
    return change(tiny, {"gram.weight": 2.0, "gram.start_step": 2, "steps": 20})


def test_the_teacher_is_the_closed_form_average_of_the_students(tiny, take_steps):
    state = fresh_state(tiny, 0, CPU)
    expected = {name: p.double() for name, p in parameters(state.teacher).items()}
    momentum = tiny.teacher.momentum
    students = []
    for _ in range(4):
        take_steps(tiny, 1, state=state)
        students.append(parameters(state.student))
    for name, start in expected.items():
        average = momentum**4 * start
        for k, student in enumerate(students, start=1):
            average = average + (1 - momentum) * momentum ** (4 - k) * student[name].double()
        torch.testing.assert_close(state.teacher.get_parameter(name).double(), average, rtol=1e-5, atol=1e-7)


def test_momentum_zero_makes_the_teacher_the_student(tiny):
    state = fresh_state(tiny, 0, CPU)
    with torch.no_grad():
        for parameter in state.student.parameters():
            parameter.add_(1.0)
    follow(state.teacher, state.student, 0.0)
    assert equal(parameters(state.teacher), parameters(state.student))


def test_no_teacher_receives_a_gradient(anchored, take_steps):
    state, _ = take_steps(anchored, 4)
    assert state.gram_teacher is not None
    for module in (state.teacher, state.gram_teacher):
        assert all(p.grad is None and not p.requires_grad for p in module.parameters())
        assert not module.training


def test_all_of_the_student_receives_a_gradient(anchored, make_batches):
    state = fresh_state(anchored, 0, CPU)
    total, *_ = forward(state, make_batches(anchored)[0], schedules.at(anchored, 0), anchored, seed=0)
    total.backward()
    assert [name for name, p in state.student.named_parameters() if p.grad is None] == []


def test_the_batch_is_not_changed_by_the_step(anchored, make_batches, take_steps):
    batch = make_batches(anchored)[3]
    before = deepcopy(batch)
    state, _ = take_steps(anchored, 3)
    train_step(state, batch, schedules.at(anchored, 3), anchored, seed=0)
    for mine, theirs in zip(batch, before, strict=True):
        assert torch.equal(mine, theirs) if isinstance(mine, torch.Tensor) else mine == theirs


# --- the Gram teacher


@pytest.mark.parametrize(
    ("gram", "expected"),
    [
        (Gram(weight=1.0, start_step=3), {3: 3}),
        (Gram(weight=1.0, start_step=3, teacher_step=1), {1: 1}),
        (Gram(weight=1.0, start_step=3, teacher_step=1, update_every=2), {1: 1, 5: 5, 7: 7}),
        (Gram(weight=1.0, start_step=2, update_every=3), {2: 2, 5: 5}),
    ],
)
def test_the_gram_teacher_is_the_ema_teacher_of_exactly_the_renewing_steps(tiny, change, take_steps, gram, expected):
    settings = change(tiny, {"gram": gram, "steps": 20})
    state = fresh_state(settings, 0, CPU)
    teachers, renewed = {}, {}
    for step in range(8):
        teachers[step] = parameters(state.teacher.backbone)  # the EMA after `step` steps
        before = None if state.gram_teacher is None else parameters(state.gram_teacher)
        take_steps(settings, 1, state=state)
        after = None if state.gram_teacher is None else parameters(state.gram_teacher)
        if after is not None and (before is None or not equal(before, after)):
            renewed[step] = next(k for k, teacher in teachers.items() if equal(teacher, after))
    assert renewed == expected


def test_the_gram_teacher_is_a_copy_and_not_the_teacher_itself(tiny):
    state = fresh_state(tiny, 0, CPU)
    copy = frozen_copy(state.teacher.backbone)
    with torch.no_grad():
        state.teacher.backbone.cls_token.add_(1.0)
    assert not torch.equal(copy.cls_token, state.teacher.backbone.cls_token)
    assert frozen_copy(state.teacher.backbone, into=copy) is copy
    assert torch.equal(copy.cls_token, state.teacher.backbone.cls_token)


def test_a_fresh_copy_overwrites_nan(tiny):
    state = fresh_state(tiny, 0, CPU)
    copy = frozen_copy(state.teacher.backbone)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.fill_(math.nan)
    frozen_copy(state.teacher.backbone, into=copy)
    assert all(p.isfinite().all() for p in copy.parameters())


def gram_term(settings, state, batch, *, step):
    return forward(state, batch, schedules.at(settings, step), settings, seed=0)[1]["gram"]


def student_patches(settings, state, batch, *, step):
    from harness.noise import student_noise

    noise = student_noise(0, step, batch, settings, depth=2)
    crops = batch.globals.flatten(0, 1)
    return encode(
        state.student.backbone, crops, mask_token=state.student.mask_token, masks=batch.masks, draws=noise["global"]
    ).patches


def test_the_gram_term_compares_masked_student_patches_with_the_snapshots_unmasked_ones(
    anchored, take_steps, make_batches
):
    state, _ = take_steps(anchored, 4)
    batch = make_batches(anchored)[4]
    with torch.no_grad():
        theirs = encode(state.gram_teacher, batch.gram.flatten(0, 1)).patches
        expected = gram_loss(student_patches(anchored, state, batch, step=4), theirs)
        torch.testing.assert_close(gram_term(anchored, state, batch, step=4), expected)


def test_the_ema_teacher_anchors_live_and_needs_no_third_network(tiny, change, take_steps, make_batches):
    settings = change(tiny, {"gram": Gram(weight=2.0, start_step=1, teacher="ema")})
    state, _ = take_steps(settings, 4)
    assert state.gram_teacher is None
    batch = make_batches(settings)[4]
    with torch.no_grad():
        theirs = encode(state.teacher.backbone, batch.gram.flatten(0, 1)).patches
        expected = gram_loss(student_patches(settings, state, batch, step=4), theirs)
        torch.testing.assert_close(gram_term(settings, state, batch, step=4), expected)


def test_a_larger_gram_crop_is_brought_down_to_the_students_grid(anchored, change, take_steps, make_batches):
    settings = change(anchored, {"gram.resolution": 2.0})
    state, _ = take_steps(settings, 3)
    batch = make_batches(settings)[3]
    assert batch.gram.shape[-1] == 2 * batch.globals.shape[-1]
    with torch.no_grad():
        large = encode(state.gram_teacher, batch.gram.flatten(0, 1)).patches
        assert large.shape[1] == 4 * 16
        small = resize_patches(large, 8, 4)
        expected = gram_loss(student_patches(settings, state, batch, step=3), small)
        torch.testing.assert_close(gram_term(settings, state, batch, step=3), expected)


def test_a_checkpoint_anchors_with_the_exported_backbone(tiny, change, take_steps, make_job, tmp_path: Path):
    from harness.beginning import resume

    source, _ = take_steps(tiny, 2, seed=5)
    folder = tmp_path / "gram_teacher"
    export(source.teacher.backbone, folder, timm_name=tiny.model.name, timm_args=backbone_args(tiny.model))
    gram = Gram(weight=2.0, start_step=1, teacher="checkpoint", checkpoint=str(folder))
    job = make_job({"gram": gram})
    state = resume(job, CPU)
    assert equal(parameters(state.gram_teacher), parameters(source.teacher.backbone))
    assert not state.gram_teacher.training
    assert all(not p.requires_grad for p in state.gram_teacher.parameters())
    take_steps(job.settings, 3, state=state)
    assert equal(parameters(state.gram_teacher), parameters(source.teacher.backbone))


def test_anchoring_to_itself_without_masks_and_noise_costs_nothing(tiny, change, make_batches):
    quiet = {
        "ibot.mask_probability": 0.0,
        "model.rope_rescale": None,
        "crops.jitter": 0.0,
        "crops.grayscale": 0.0,
        "crops.blur_global_1": 0.0,
        "crops.blur_global_2": 0.0,
        "crops.solarize_global_2": 0.0,
    }
    settings = change(tiny, {**quiet, "gram": Gram(weight=2.0, teacher="ema")})
    state = fresh_state(settings, 0, CPU)
    assert gram_term(settings, state, make_batches(settings)[0], step=0).item() < 1e-10


# --- what a Gram arm changes


@pytest.fixture(scope="module")
def trunk(tiny, take_steps):
    """A state after three plain steps, for arms to fork from."""
    return take_steps(tiny, 3)[0]


def in_float64(batch):
    crops = {name: getattr(batch, name) for name in ("globals", "locals", "gram")}
    return batch._replace(**{name: one.double() for name, one in crops.items() if one is not None})


def fork_gradients(settings, trunk, batch):
    """Of a step in float64, so that sums of gradients agree to far more than any processor's float32 rounds."""
    state = deepcopy(trunk)
    for network in (state.student, state.teacher):
        network.double()
    now = schedules.at(settings, 3)
    if now.renew_gram_teacher:
        state.gram_teacher = frozen_copy(state.teacher.backbone)
    total, terms, _ = forward(state, batch, now, settings, seed=0)
    total.backward()
    return terms, {name: p.grad.clone() for name, p in state.student.named_parameters()}, state


ARMS = {
    "snapshot": {"weight": 2.0, "start_step": 3},
    "ema": {"weight": 2.0, "start_step": 3, "teacher": "ema"},
    "twice": {"weight": 2.0, "start_step": 3, "resolution": 2.0},
    "distorted": {"weight": 2.0, "start_step": 3, "undistorted": False},
}


@pytest.mark.parametrize("arm", ARMS)
def test_a_gram_arm_changes_the_fork_step_through_its_gram_term_alone(tiny, change, trunk, make_batches, arm):
    settings = change(tiny, {"gram": Gram(**ARMS[arm])})
    plain_batch, batch = in_float64(make_batches(tiny)[3]), in_float64(make_batches(settings)[3])
    for name in ("globals", "locals", "masks", "indices"):
        assert torch.equal(getattr(plain_batch, name), getattr(batch, name)), name
    plain_terms, plain, _ = fork_gradients(tiny, trunk, plain_batch)
    terms, with_gram, state = fork_gradients(settings, trunk, batch)
    assert set(terms) - set(plain_terms) == {"gram"}
    for name, term in plain_terms.items():  # the last MLP computes picked tokens alone or all, which rounds otherwise
        torch.testing.assert_close(terms[name], term, rtol=1e-12, atol=0)
    state.student.zero_grad()
    (2.0 * gram_term(settings, state, batch, step=3)).backward()
    alone = {name: p.grad for name, p in state.student.named_parameters()}
    assert max(grad.abs().max() for grad in alone.values() if grad is not None) > 1e-4
    for name, grad in with_gram.items():
        through_gram = torch.zeros_like(grad) if alone[name] is None else alone[name]
        torch.testing.assert_close(grad, plain[name] + through_gram, rtol=1e-10, atol=1e-12)
        assert ("head" not in name) or alone[name] is None, f"the Gram loss reaches {name}"


def test_a_vanishing_gram_weight_is_the_plain_arm(tiny, change, trunk, take_steps):
    def after(weight):
        settings = change(tiny, {"gram": Gram(weight=weight, start_step=3)})
        return parameters(take_steps(settings, 3, state=deepcopy(trunk))[0].student)

    plain = after(0.0)

    def distance(weight):
        return max((p - plain[name]).abs().max().item() for name, p in after(weight).items())

    assert distance(1e-30) < 1e-6  # the last MLP sees other tokens beside, whose products round otherwise
    assert 0 < distance(1e-4) < distance(2.0) / 10


def test_before_its_start_an_anchored_run_is_the_plain_run(tiny, change, take_steps):
    settings = change(tiny, {"gram": Gram(weight=2.0, start_step=4, teacher_step=1)})
    plain, anchored = take_steps(tiny, 4)[0], take_steps(settings, 4)[0]
    assert anchored.gram_teacher is not None
    assert equal(parameters(plain.student), parameters(anchored.student))


# --- the total


def test_terms_are_weighed_as_the_recipe_does(tiny, change):
    settings = change(tiny, {"crops.local_count": 8, "dino.local_weight": 0.5, "gram.weight": 2.0})
    terms = {name: torch.tensor(1.0) for name in ("dino_global", "dino_local", "ibot", "koleo", "gram")}
    factors = schedules.at(settings, 0).factors

    def total(*names):
        return weigh({name: terms[name] for name in names}, factors).item()

    assert total("dino_global") == pytest.approx(1 / 9)
    assert total("dino_local") == pytest.approx(0.5 * 8 / 9)
    assert total("ibot") == 1.0
    assert total("koleo") == pytest.approx(0.2)
    assert total("gram") == 2.0
    assert total(*terms) == pytest.approx(1 / 9 + 4 / 9 + 1 + 0.2 + 2)


def test_the_loss_is_the_weighed_sum_of_its_terms(anchored, take_steps):
    _, rows = take_steps(anchored, 3)
    for row in rows:
        expected = (
            row["dino_global"] / 3 + row["dino_local"] * 2 / 3 + row["ibot"] + 0.2 * row["koleo"]
        ) + 2 * row.get("gram", 0.0)
        assert row["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_term_that_is_off_is_not_computed(tiny, change, take_steps):
    off = {"ibot.weight": 0.0, "koleo.weight": 0.0, "dino.local_weight": 0.0}
    _, rows = take_steps(change(tiny, off), 1)
    assert {"ibot", "koleo", "dino_local", "gram"}.isdisjoint(rows[0])
    _, rows = take_steps(change(tiny, {"dino.weight": 0.0, "crops.local_count": 0}), 1)
    assert {"dino_global", "dino_local"}.isdisjoint(rows[0])


def test_no_mask_at_all_leaves_the_other_terms(tiny, change, take_steps):
    _, rows = take_steps(change(tiny, {"ibot.mask_probability": 0.0}), 1)
    assert "ibot" not in rows[0]
    assert math.isfinite(rows[0]["loss"])


def test_a_batch_of_one_and_equal_images_stay_finite(tiny, change, make_batches):
    settings = change(tiny, {"data.batch_size": 1})
    state = fresh_state(settings, 0, CPU)
    batch = make_batches(settings)[0]
    alike = batch._replace(globals=torch.zeros_like(batch.globals), locals=torch.zeros_like(batch.locals))
    for given in (batch, alike):
        train_step(state, given, schedules.at(settings, 0), settings, seed=0)
    assert all(p.isfinite().all() for p in state.student.parameters())


def test_a_uniform_model_starts_at_ln_k(tiny, take_steps):
    _, rows = take_steps(tiny, 1)
    assert rows[0]["dino_global"] == pytest.approx(math.log(16), rel=0.01)
    assert rows[0]["student_entropy"] == pytest.approx(math.log(16), rel=0.01)


def test_a_non_finite_term_stops_the_step_before_anything_moves(anchored, take_steps, make_batches, weights, same):
    state, _ = take_steps(anchored, 3)
    before = weights(state)
    batch = make_batches(anchored)[3]
    bad = batch._replace(globals=batch.globals.clone())
    bad.globals[0, 0, 0, 0, 0] = math.nan
    with pytest.raises(NonFinite, match=r"step 3: dino_global=nan, dino_local=nan, ibot=.*gram=nan"):
        train_step(state, bad, schedules.at(anchored, 3), anchored, seed=0)
    assert same(weights(state), before)
    assert state.step == 3


def test_a_gradient_that_overflows_stops_the_step_before_anything_moves(
    tiny, change, take_steps, make_batches, weights, same
):
    settings = change(tiny, {"koleo.weight": 1e38})  # every term is finite, their gradient is not
    state, _ = take_steps(tiny, 2)
    before = weights(state)
    batch = make_batches(settings)[2]
    with pytest.raises(NonFinite, match=r"step 2: dino_global=\d.*koleo=-?\d.*, grad_norm=(inf|nan); images ") as error:
        train_step(state, batch, schedules.at(settings, 2), settings, seed=0)
    assert str(error.value).endswith(f"images {', '.join(map(str, batch.indices.tolist()))} of the pool")
    assert same(weights(state), before)
    assert state.step == 2
    assert all(p.grad is None for p in state.student.parameters())


def test_bfloat16_keeps_weights_in_float32_and_stays_near_float32(tiny, change, take_steps):

    state, rows = take_steps(change(tiny, {"precision": "bfloat16", "gram.weight": 1.0}), 2)
    _, exact = take_steps(change(tiny, {"gram.weight": 1.0}), 2)
    assert {p.dtype for p in state.student.parameters()} == {torch.float32}
    assert rows[1]["loss"] != exact[1]["loss"]
    assert rows[1]["loss"] == pytest.approx(exact[1]["loss"], rel=0.05)


def test_steps_leave_the_global_generator_alone(anchored, take_steps):
    state = fresh_state(anchored, 0, CPU)
    before = torch.get_rng_state()
    take_steps(anchored, 4, state=state)
    assert torch.equal(torch.get_rng_state(), before)
