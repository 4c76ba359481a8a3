"""The watch over dense features: when the alarm is raised, what the ring holds, how a resumed run decides."""

import json
from itertools import chain, repeat

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from common.errors import BadInput
from evals.tasks.health import dse
from evals.tasks.health.patch_grid import Patches
from evals.tasks.methods import protocol_of
from harness import dense_watch, gram_teacher
from harness.beginning import fresh_state
from harness.dense_watch import Seen, Watch, chosen, settled, told
from harness.graph import jobs
from harness.job_folder import snapshot_folder, state_path
from harness.losses.gram import Gram
from harness.mending import bring_to_end
from harness.model import encode
from harness.train import RECORD, look_of, train

CPU = torch.device("cpu")
MEASURED = {"gram.weight": 2.0, "gram.measure": "dse", "gram.measure_every": 1, "gram.measure_images": 8}
BEST = {**MEASURED, "gram.teacher": "best_dense", "gram.ring": 3, "gram.start_step": 3, "gram.update_every": 2}
ALARM = {**MEASURED, "gram.start": "alarm", "gram.alarm_drop": 0.001, "gram.start_step": 1}


def nothing(job, step, folder):
    return {}


def end(job):
    return load_file(state_path(job, job.stop))


def record(job):
    return [json.loads(line) for line in (job.folder / RECORD).read_text().splitlines()]


@pytest.fixture
def trained(tiny, change, pool, tmp_path):
    """Trains one arm with these settings; the job."""

    def of(values, *, name="runs", steps=8, evaluate=nothing, **more):
        own = {"runtime.folder": str(tmp_path / name), "arms": {"plain": {}}, "steps": steps, **values, **more}
        job = jobs(change(tiny, own), fingerprint=lambda data: "24 rooms")[-1]
        train(job, pool, evaluate, device=CPU)
        return job

    return of


@pytest.fixture
def falling(monkeypatch):
    """Values in place of the measure, by the number of measurements; the network's own part is tested by itself."""

    def use(values):
        left = chain(values, repeat(values[-1]))
        monkeypatch.setattr(Watch, "measure", lambda self, network: next(left))

    return use


# --- what follows from the values


def test_before_the_alarm_there_is_no_loss_and_from_it_on_that_of_a_start_at_its_step():
    gram = Gram(weight=2.0, start="alarm", measure="dse", start_step=4, warmup_steps=3, update_every=5)
    assert settled(gram, {4: 1.0}, stop=100) is gram
    assert not any(gram_teacher.is_on(gram, step) or gram.weight_at(step) for step in range(100))
    now = settled(gram, {4: 1.0, 9: 0.5}, stop=100)
    assert [now.weight_at(step) for step in (8, 9, 10, 11)] == pytest.approx([0, 0, 1, 2])
    assert [step for step in range(100) if gram_teacher.is_renewed(now, step)][:3] == [9, 14, 19]
    assert settled(gram, {4: 1.0, 9: 0.5}, stop=9) is gram


def test_the_best_of_the_last_measured_ones_is_chosen_and_of_equal_ones_the_newest():
    gram = Gram(weight=1.0, teacher="best_dense", measure="dse", ring=3)
    values = {0: 9.0, 10: 2.0, 20: 3.0, 30: 3.0, 40: 1.0, 50: 0.5}
    assert [chosen(gram, values, step) for step in (0, 10, 20, 30, 40, 50)] == [0, 0, 0, 30, 30, 30]


def test_the_ring_holds_only_what_can_still_be_chosen_and_that_is_the_best_of_the_last(tiny, pool, falling):
    """Against the definition, with random values: the ring's best is the best of the last three."""
    values = np.random.default_rng(0).integers(0, 6, 40).astype(float).tolist()
    falling(values)
    gram = Gram(weight=1.0, teacher="best_dense", measure="dse", measure_every=1, ring=3)
    look, seen = Watch(gram, pool, size=32, patch=8, stop=100), Seen()
    network = fresh_state(tiny, 0, CPU).teacher.backbone
    for step in range(40):
        look(seen, network, step)
        assert dense_watch.best({at: seen.values[at] for at in seen.ring}) == chosen(gram, seen.values, step)
        assert len(seen.ring) <= 3


# --- measuring


def test_the_measure_is_dse_of_the_health_protocol_on_images_spread_over_the_pool(tiny, pool):
    gram = Gram(weight=1.0, start="alarm", measure="dse", measure_images=8)
    look, network = Watch(gram, pool, size=32, patch=8, stop=9), fresh_state(tiny, 3, CPU).teacher.backbone
    places = [0, 3, 7, 10, 13, 16, 20, 23]  # of 24 images
    mean, std = (np.array(one, dtype=np.float32) for one in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = np.stack([(pool.image(place).astype(np.float32) / 255 - mean) / std for place in places])
    images = torch.from_numpy(pixels).movedim(-1, 1)
    torch.testing.assert_close(look.images, images)
    with torch.no_grad():
        tokens = encode(network, images).patches
    found = dse.measure(Patches.in_memory(tokens, (4, 4)).as_units(), protocol_of("health"))
    assert look.measure(network) == pytest.approx(float(found.dse.mean()), rel=1e-5)
    assert look.measure(network) == look.measure(network)


def test_with_mixed_sizes_the_measure_sees_the_side_that_most_steps_have(make_job, pool):
    """`crops.global_size` is no science there, and the patch need not divide it."""
    sizes = [{"global_size": size, "local_size": 16, "probability": share} for size, share in ((32, 0.4), (48, 0.6))]
    jobs = [make_job({**ALARM, "crops.sizes": sizes, "crops.global_size": unused}) for unused in (36, 224)]
    assert len({job.identity for job in jobs}) == 1
    assert [look_of(job, pool).images.shape[-1] for job in jobs] == [48, 48]


def test_too_few_patches_are_refused_before_anything_is_measured(pool):
    gram = Gram(weight=1.0, start="alarm", measure="locality")
    with pytest.raises(BadInput, match=r"gram.measure=locality: 2 x 2 patches an image: want at least 3 x 3"):
        Watch(gram, pool, size=16, patch=8, stop=9)
    Watch(Gram(), pool, size=16, patch=8, stop=9)


# --- in training


@pytest.mark.slow
@pytest.mark.parametrize("values", [BEST, ALARM, {**BEST, **ALARM}], ids=["best", "alarm", "both"])
def test_a_run_that_is_killed_and_resumed_decides_alike_bit_for_bit(trained, same, tmp_path, values):
    class Killed(Exception):
        pass

    def kill(at):
        def evaluate(job, step, folder):
            if step == at:
                raise Killed
            return {}

        return evaluate

    every = {"runtime.checkpoint_every": 1, "evals.every": 1}
    whole = trained(values, **every)
    for at in (3, 4):
        for evaluate in (kill(at), nothing):
            try:
                again = trained(values, name=f"cut{at}", evaluate=evaluate, **every)
            except Killed:
                continue
        assert same(end(again), end(whole)), at
        assert record(again) == record(whole), at
    assert [row for row in record(whole) if row["kind"] != "measured"], "something was decided"


def test_the_gram_teacher_is_the_measured_network_that_was_best(trained, falling, take_steps, tiny, same, caplog):
    caplog.set_level("INFO")
    falling([5.0, 4.0, 3.0, 2.0, 1.0, 0.5])
    job = trained({**BEST, "gram.update_every": None}, steps=6)
    # measured before steps 1 … 6; the ring of step 3 holds those of steps 1, 2 and 3
    best = take_steps(tiny, 1)[0].teacher.backbone.state_dict()
    held = {key.removeprefix("anchor."): value for key, value in end(job).items() if key.startswith("anchor.")}
    assert same(held, best)
    (start,) = [row for row in record(job) if row["kind"] == "gram_start"]
    assert start == {"step": 3, "kind": "gram_start", "teacher": 1}
    assert f"{job.name} step 3: the Gram loss begins; teacher: EMA of step 1" in caplog.messages


def test_an_alarm_starts_the_very_run_that_names_its_step(trained, falling, same):
    falling([3.0, 4.0, 3.9, 2.0, 1.0, 1.0, 1.0])
    own = {**ALARM, "gram.alarm_drop": 0.2, "gram.warmup_steps": 3}
    found = trained(own)
    assert [row["step"] for row in record(found) if row["kind"] == "gram_start"] == [4]  # measured from step 1 on
    named = trained({"gram.weight": 2.0, "gram.start_step": 4, "gram.warmup_steps": 3}, name="named")
    theirs = {key: value for key, value in end(found).items() if not key.startswith("ring.")}
    assert same(theirs, end(named))


def test_a_run_whose_alarm_is_never_raised_is_the_run_without_the_loss(trained, same):
    found = trained({**ALARM, "gram.alarm_drop": 1.0})
    assert same(end(found), end(trained({}, name="plain")))
    assert {row["kind"] for row in record(found)} == {"measured"}


def test_workers_change_nothing_of_a_run_with_an_alarm(trained, same, falling):
    falling([3.0, 4.0, 2.0, 2.0, 1.0, 1.0, 1.0])
    one = trained(ALARM)
    falling([3.0, 4.0, 2.0, 2.0, 1.0, 1.0, 1.0])
    assert same(end(one), end(trained(ALARM, name="workers", **{"runtime.workers": 1})))


def test_the_record_tells_what_was_measured_and_decided_in_order():
    gram = Gram(weight=1.0, start="alarm", measure="dse", teacher="best_dense", ring=2, update_every=10)
    values = {0: 1.0, 10: 2.0, 20: 1.0, 30: 0.5}
    rows = [*told(gram, values, step=30, stop=100)]
    assert [(row["step"], row["kind"], row.get("teacher")) for row in rows] == [
        (0, "measured", None),
        (10, "measured", None),
        (20, "measured", None),
        (20, "gram_start", 10),
        (30, "measured", None),
        (30, "gram_update", 20),
    ]


def test_an_arm_that_chooses_where_its_parent_was_anchored_already_says_so():
    gram = Gram(
        weight=1.0, teacher="best_dense", measure="dse", measure_every=10, ring=2, start_step=10, update_every=15
    )
    values = {30: 2.0, 40: 1.0, 50: 3.0}
    rows = [*told(gram, values, step=60, stop=100, start=40, anew=True)]
    assert [(row["step"], row["teacher"]) for row in rows if row["kind"] == "gram_update"] == [(40, 30), (55, 50)]


# --- at a fork

AT_FORK = {**MEASURED, "gram.measure_every": 2, "gram.teacher": "best_dense", "gram.ring": 3}


@pytest.fixture
def run(tiny, change, pool, tmp_path):
    """Mends and trains all jobs of an experiment with a trunk of six steps; the jobs by arm."""

    def of(arms, *, name="runs", evaluate=nothing, **more):
        own = {"runtime.folder": str(tmp_path / name), "trunk.steps": 6, "steps": 9, "arms": arms, **more}
        found = jobs(change(tiny, own), fingerprint=lambda data: "24 rooms")
        for job in found:
            bring_to_end([job], found, pool, evaluate, device=CPU)
        return {job.arm: job for job in found}

    return of


def anchor(job):
    return {key: value for key, value in end(job).items() if key.startswith("anchor.")}


def choices(job):
    return [(row["kind"], row["step"], row["teacher"]) for row in record(job) if "teacher" in row]


@pytest.mark.slow
def test_an_arm_chooses_among_what_its_trunk_went_through_as_a_run_without_a_fork_does(run, trained, falling, same):
    """At a fork in the trunk and in an arm of it: the best is that of step 2, which the trunk kept unasked."""
    late = {"from": "plain", "at": 7, **AT_FORK}
    values = [9.0, 5.0, 6.0, 4.0, 3.0, 2.0, 1.0, 0.5]
    for name, arms, start in (("trunk", {"best": AT_FORK}, 6), ("arm", {"plain": {}, "best": late}, 7)):
        measured = values if start == 6 else values[1:]  # of steps 2, 4, 6, 8; 4, 6, 7, 8
        falling(measured)
        found = run(arms, name=name)["best"]
        falling(measured)
        alone = trained({**AT_FORK, "gram.start_step": start}, name=f"{name}-alone", steps=9)
        assert choices(found) == [("gram_start", start, 2 if start == 6 else 6)], name
        assert record(found) == record(alone), name
        assert same(end(found), end(alone)), name


@pytest.mark.slow
def test_a_choice_at_a_fork_leaves_the_trunk_the_same_segment_and_is_made_when_it_was_passed_too(run, same):
    whole = run({"best": AT_FORK}, name="whole")
    plain = run({"plain": {}})
    kept = [snapshot_folder(plain["trunk"], step) for step in (2, 4)]
    assert not any(folder.exists() for folder in kept)
    found = run({"plain": {}, "best": AT_FORK})
    assert found["trunk"].identity == plain["trunk"].identity == whole["trunk"].identity
    assert all(folder.exists() for folder in kept)
    assert same(end(found["best"]), end(whole["best"]))
    assert record(found["best"]) == record(whole["best"])


@pytest.mark.slow
def test_an_arm_that_was_killed_after_its_choice_at_a_fork_goes_on_with_it(run, same):
    def kill(job, step, folder):
        if job.arm == "best" and step == 7:
            raise InterruptedError
        return {}

    every = {"evals.every": 1, "runtime.checkpoint_every": 1}
    whole = run({"best": AT_FORK}, name="whole", **every)["best"]
    with pytest.raises(InterruptedError):
        run({"best": AT_FORK}, evaluate=kill, **every)
    again = run({"best": AT_FORK}, **every)["best"]
    assert same(end(again), end(whole))
    assert record(again) == record(whole)


@pytest.mark.slow
def test_an_arm_of_a_chosen_teacher_keeps_it_and_compares_only_values_of_the_same_images(run, falling, same):
    """An arm with the same settings goes on with the ring, one at another size with the teacher alone."""
    falling([9.0, 5.0, 6.0, 4.0, 3.0, 2.0, 1.0, 0.5, 0.4, 0.3])
    child = {"from": "best", "steps": 12}
    large = {"crops.global_size": 48}
    found = run({"best": AT_FORK, "same": {**child, "optimizer.lr": 5e-4}, "large": {**child, **large}})
    assert same(anchor(found["same"]), anchor(found["best"]))
    assert same(anchor(found["large"]), anchor(found["best"]))
    del found["trunk"]
    measured = {arm: [row["step"] for row in record(job) if row["kind"] == "measured"] for arm, job in found.items()}
    assert measured == {"best": [2, 4, 6, 8], "same": [2, 4, 6, 8, 10, 12], "large": [9, 10, 12]}
