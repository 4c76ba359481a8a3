"""Plans of what cannot be or does nothing: each is told once, by the setting, with its value and what is wanted."""

import re

import pytest

from common.errors import BadInput
from evals.datasets.settings import Set
from harness.config import arm_settings
from harness.eval_settings import Evals, EvaluationTask
from harness.graph import jobs
from harness.pointless import pointless
from harness.timeline import PlannedArm, planned_arms

TRUNK = {"trunk.steps": 4, "steps": 12, "gram.start_step": 4}
FROM_FORK = {"schedule.counts_from": "segment"}
GRAM = {"gram.weight": 2.0}
ALARM = {**GRAM, "gram.start": "alarm", "gram.measure": "dse"}
ONE_SET = Evals(every=9, size=32, sets={"s": Set(count=4)}, tasks={"h": EvaluationTask(protocol="health", test="s")})


@pytest.fixture
def notes(tiny, change, tmp_path):
    def of(values):
        arms = {"arms": {"plain": {}, "anchored": GRAM}}
        experiment = change(tiny, {"runtime.folder": str(tmp_path), **TRUNK, **arms, **values})
        return pointless(planned_arms(jobs(experiment, fingerprint=lambda data: "24 rooms")))

    return of


def test_a_plan_without_fault_has_no_notes(notes):
    assert notes({}) == []
    assert notes({"optimizer.warmup_steps": 11, "teacher.temperature_warmup_steps": 11}) == []
    assert notes({"optimizer.lr_end": 0.0, "schedule.end_step": 12}) == []
    assert notes({"arms": {"a": {**GRAM, "gram.update_every": 7, "gram.warmup_steps": 8}}}) == []
    assert notes({"arms": {"a": {**ALARM, "gram.measure_every": 5}}}) == []


NOTED = [
    (
        {"arms": {"a": {**ALARM, "gram.measure_every": 6}}},
        "arms.a: gram.measure_every=6: no alarm can be raised, for the second measurement would be at step 12, but it "
        "ends at 12; want less",
    ),
    (
        {"arms": {"a": {"gram.weight": 5.0, "gram.form": "frobenius"}}},
        "arms.a: gram.weight=5: with gram.form=frobenius as much as 1.28e+03 of the mean; want 0.02 for 5 of that",
    ),
    (
        {"arms": {"a": {**GRAM, "gram.form": "frobenius", "gram.level": "batch"}}},
        "arms.a: gram.weight=2: with gram.form=frobenius as much as 3.28e+04 of the mean; want 0.00012 for 2 of that",
    ),
    (
        {"optimizer.warmup_steps": 12},
        "every arm: optimizer.warmup_steps=12: optimizer.lr=0.001 is never reached; want fewer than its 12 steps",
    ),
    (
        {"optimizer.warmup_steps": 8, **FROM_FORK},
        "arms.plain, arms.anchored: optimizer.warmup_steps=8: optimizer.lr=0.001 is never reached; want "
        "fewer than its 8 steps",
    ),
    (
        {"optimizer.warmup_steps": 6, **FROM_FORK},
        "trunk: optimizer.warmup_steps=6: optimizer.lr=0.001 is never reached; want fewer than its 4 steps",
    ),
    (
        {"teacher.temperature_warmup_steps": 99},
        "every arm: teacher.temperature_warmup_steps=99: teacher.temperature=0.07 is never reached; want "
        "fewer than its 12 steps",
    ),
    (
        {"optimizer.freeze_backbone_steps": 12},
        "every arm: optimizer.freeze_backbone_steps=12: the backbone is never trained; want fewer than its 12 steps",
    ),
    (
        {"optimizer.freeze_last_layer_steps": 12},
        "every arm: optimizer.freeze_last_layer_steps=12: the prototypes are never trained; want fewer than "
        "its 12 steps",
    ),
    (
        {"gram.warmup_steps": 9},
        "arms.anchored: gram.warmup_steps=9: of gram.weight=2 only 1.92 is reached; want at most 8 steps",
    ),
    (
        {"gram.start_step": 11, "gram.warmup_steps": 9},
        "arms.anchored: gram.warmup_steps=9: of gram.weight=2 only 0 is reached; want at most 1 steps",
    ),
    (
        {"gram.update_every": 8},
        "arms.anchored: gram.update_every=8: the first renewal would be at step 12, but it ends at 12; want "
        "less, or null",
    ),
    (
        {"arms": {"plain": {}}, "gram.update_every": 2},
        "everywhere: gram.weight=0: this loss is off throughout, and gram.start_step=4, gram.update_every=2 "
        "without effect; want above 0 for it",
    ),
    (
        {"arms": {"off": {"gram.weight": 0.0, "gram.resolution": 2.0}, "on": {"gram.weight": 2.0}}},
        "arms.off: gram.resolution=2.0: gram.weight is 0 beside it; want it above 0",
    ),
    (
        {"koleo.weight": 0.0},
        "everywhere: koleo.weight=0: this loss is off throughout; want above 0 for it",
    ),
    (
        {"evals": ONE_SET},
        "every arm: evals.every=9: more than its 8 steps; want less, for a curve",
    ),
    (
        {"optimizer.lr_end": 1e-5, **FROM_FORK},
        "arms.plain, arms.anchored: schedule.end_step=null: optimizer.lr_end=1e-05 is due at its last step, 12, so it "
        "cannot be made longer later; want schedule.end_step=12 for one that may be",
    ),
    (
        {"optimizer.lr_end": 1e-5, **FROM_FORK},
        "trunk: schedule.end_step=null: optimizer.lr_end=1e-05 is due at its last step, 4, so it cannot be made longer "
        "later; want schedule.end_step=4 for one that may be",
    ),
    (
        {"arms": {"a": {**FROM_FORK, "optimizer.lr_end": 0.0}, "b": {"from": "a", "steps": 20}}},
        "arms.a: schedule.end_step=null: optimizer.lr_end=0 is due at its last step, 12, so it cannot be made longer "
        "later; want schedule.end_step=12 for one that may be",
    ),
    (
        {"teacher.momentum_end": 1.0},
        "arms.plain, arms.anchored: teacher.momentum_end=1: at its fork, step 4, it leaps from 1 to 0.929, for trunk "
        "comes to its end there; want one schedule.end_step for both",
    ),
    (
        {"schedule.end_step": 8},
        "every arm: schedule.end_step=8: nothing has an end; want optimizer.lr_end or another, or null",
    ),
    (
        FROM_FORK,
        "every arm: schedule.counts_from=segment: nothing counts from there; want a warm-up or an end, or run",
    ),
    (
        {"optimizer.lr_start": 1e-4},
        "every arm: optimizer.lr_start=0.0001: there is no warm-up; want optimizer.warmup_steps, or 0",
    ),
    (
        {"optimizer.lr_end": 0.0, "schedule.end_step": 9},
        "arms.plain, arms.anchored: optimizer.lr_end=0: nothing is learnt from step 9 to 12; want more, or it later",
    ),
    (
        {"teacher.momentum_end": 1.0, "schedule.end_step": 9},
        "arms.plain, arms.anchored: teacher.momentum_end=1: the EMA teacher stands still from step 9 to 12; want less, "
        "or it later",
    ),
    (
        {"dino.local_weight": 0.0},
        "every arm: crops.local_count=2: made and not seen, for dino.local_weight=0; want 0",
    ),
    (
        {"dino.local_weight_start": 1.0, "arms": {"plain": {}}},
        "everywhere: dino.local_weight_start=1: what it goes with, the Gram weight, is 0 throughout; want null",
    ),
    (
        {"dino.weight": 0.0},
        "every arm: crops.local_count=2: made and not seen, for dino.weight=0; want 0",
    ),
    (
        {"ibot.mask_probability": 0.1},
        "every arm: ibot.mask_probability=0.1: none of 8 crops is masked, iBOT is 0; want more",
    ),
    (
        {"data.batch_size": 1},
        "every arm: koleo.weight=0.1: one image has no neighbour, KoLeo is 0; want 0, or a larger batch",
    ),
    (
        {"data.homogeneous_share": 0.1, "data.components": "source"},
        "every arm: data.homogeneous_share=0.1: of one source every batch is; want data.components=image_class, or 0",
    ),
    (
        {"gram.student_from_gram_crop": True},
        "arms.anchored: gram.student_from_gram_crop=true: Gram crops are of the student's size; want larger ones, or "
        "false",
    ),
    (
        {"data.homogeneous": {"scenes": 1.0}},
        "every arm: data.homogeneous={'scenes': 1.0}: no batch is; want data.homogeneous_share above 0, or null",
    ),
    (
        {"data.mixed": {"scenes": 1.0}, "data.homogeneous_share": 1.0},
        "every arm: data.mixed={'scenes': 1.0}: no batch is mixed; want data.homogeneous_share below 1, or null",
    ),
    (
        {"trunk.steps": 0, "gram.start_step": 0},
        "arms.anchored: gram.start_step=0: the Gram teacher is the untrained network; want a later step, or a trunk",
    ),
]


@pytest.mark.parametrize(("values", "line"), NOTED, ids=[line for _, line in NOTED])
def test_what_does_nothing_is_noted_by_its_setting(notes, values, line):
    assert f"note: {line}" in notes(values)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"optimizer.lr_end": 0.0, "optimizer.warmup_steps": 12, "trunk.steps": 0},
            "every arm: optimizer.warmup_steps=12: want fewer than the 12 steps until optimizer.lr_end=0 is due, at "
            "step 12, or a later schedule.end_step",
        ),
        (
            {"optimizer.lr_end": 0.0, "schedule.end_step": 4, **FROM_FORK},
            "arms.plain, arms.anchored: schedule.end_step=4: want more than 4, from where it counts",
        ),
        (
            {
                "arms": {"plain": {}, "a": {**GRAM, "gram.start": "alarm", "gram.measure": "dse"}},
                "crops.global_size": 16,
            },
            "arms.a: gram.measure=dse: 2 x 2 patches an image: want at least 3 x 3; do use larger global crops",
        ),
        (
            {"arms": {"plain": {}, "a": {**GRAM, "gram.weight_end": 0.5, "gram.warmup_steps": 8}}},
            "arms.a: gram.weight_end=0.5: due at step 12, when the way there has not begun: want a schedule.end_step "
            "above 12, or null",
        ),
    ],
)
def test_what_cannot_be_is_refused(notes, values, line):
    with pytest.raises(BadInput, match=f"^{re.escape(line)}$"):
        notes(values)


def test_the_way_to_the_last_gram_weight_may_begin_two_steps_before_it_is_due(notes):
    arm = {**GRAM, "gram.weight_end": 0.5, "gram.warmup_steps": 7, "schedule.end_step": 12}
    assert notes({"arms": {"a": arm}}) == []


def test_weights_of_another_network_are_refused_by_the_plan(notes):
    with pytest.raises(BadInput, match=r"^trunk: got trunk\.checkpoint=.* of another shape: .*: want model\.name, "):
        notes({"trunk.checkpoint": "experiments/trunks/scenes_nano.safetensors"})


def test_a_gram_loss_that_would_begin_after_its_arms_last_step_is_refused(tiny, change):
    late = change(arm_settings(change(tiny, {"arms": {"a": GRAM}}), "a"), {"gram.start_step": 5})
    with pytest.raises(BadInput, match=r"^arms\.a: gram\.start_step=5: want below 5, where it ends$"):
        pointless([PlannedArm("a", late, begin=0, origin=0, start=0, stop=5)])


def test_arms_with_the_same_line_share_it_and_many_are_counted(notes):
    arms = {f"a{number}": {**GRAM, "gram.update_every": 50} for number in range(5)}
    assert notes({"arms": {"plain": {}, **arms}}) == [
        "note: arms.a0, arms.a1, arms.a2 and 2 more: gram.update_every=50: the first renewal would be at step 54, "
        "but it ends at 12; want less, or null"
    ]


def test_what_an_arm_begins_may_be_finished_by_one_that_goes_on_from_it(notes):
    chain = {"a": GRAM, "b": {"from": "a", "steps": 20}, "c": {"from": "a", "at": 8, "steps": 20}}
    slow = {"optimizer.warmup_steps": 15, "gram.update_every": 10}
    assert notes({"arms": chain, **slow}) == []
    assert len(notes({"arms": {"a": chain["a"], "c": chain["c"]}, **slow})) == 2  # `a` itself ends at step 12
