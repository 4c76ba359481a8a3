"""What rows tell of each component: counts that add up, losses that are those of its images alone, and no more."""

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.records import CurvePoint, read_lines
from evals.datasets.settings import Set
from harness import schedules
from harness.beginning import fresh_state
from harness.components import MOST, Tally, some_terms
from harness.data.pool import open_pool
from harness.forward import losses, masked_positions, study, teach
from harness.found import _composed
from harness.losses.inputs import Outputs, Targets
from harness.step import train_step
from harness.train import train

CPU = torch.device("cpu")
ROOMS = {name: Set(size=32, count=count, seed=count) for name, count in (("some", 8), ("others", 16))}
GRAM = {"gram.weight": 2.0, "gram.start_step": 0, "gram.teacher": "ema", "gram.resolution": 2.0}
PREFIX = "components"


@pytest.fixture(scope="module")
def two(tiny, change):
    return change(tiny, {"data.sources": ROOMS, "data.batch_size": 6})


@pytest.fixture(scope="module")
def both(two):
    return open_pool(two.data)


@pytest.fixture(scope="module")
def answers(two, change, both, make_batches):
    """A batch with what the networks say of it, Gram loss included."""
    settings = change(two, GRAM)
    state, batch = fresh_state(settings, 0, CPU), make_batches(settings, pool=both)[3]
    for parameter in state.teacher.parameters():
        parameter.data.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(7)))
    masked, now = masked_positions(batch), schedules.at(settings, 3)
    (targets,) = teach(state, [batch], now, settings)
    plain = {"global": None, "local": None}
    with torch.no_grad():
        return study(state.student, batch, masked, plain, settings, whole=True), targets, settings


def nothing(job, step, folder):
    return {}


def curve(job):
    return read_lines(job.folder / "metrics.jsonl", CurvePoint).rows


@pytest.mark.parametrize("places", [[0, 2, 3], [5], [0, 1, 2, 3, 4, 5]], ids=str)
def test_losses_of_some_images_are_those_of_a_batch_of_these_alone(answers, places):
    """Written out over the batch's crops, in float64, from the formulas of the recipe (§3, §4, §6.1)."""
    outputs, targets, settings = answers
    got = some_terms(outputs, targets, np.array(places), settings)
    student, local, masked = (
        own.logits().detach().double() for own in (outputs.dino_global, outputs.dino_local, outputs.ibot)
    )
    teacher = targets.dino.double()

    def entropy(logits, probabilities):
        return -(probabilities * (logits / 0.1).log_softmax(-1)).sum(-1)

    crops = [view * 6 + image for view in (0, 1) for image in places]
    by_crop = entropy(masked, targets.ibot.double()).split(outputs.masks.sum(1).tolist())
    means = [float(by_crop[crop].mean()) if len(by_crop[crop]) else 0.0 for crop in crops]
    cosines = [torch.nn.functional.normalize(x[crops].double(), dim=-1) for x in (outputs.patches, targets.gram)]
    want = {
        "dino_global": torch.stack([entropy(student[a, i], teacher[1 - a, i]) for a in (0, 1) for i in places]).mean(),
        "dino_local": torch.stack(
            [entropy(view[i], target[i]) for view in local for target in teacher for i in places]
        ).mean(),
        "ibot": sum(means) / len(crops),
        "gram": (cosines[0] @ cosines[0].mT - cosines[1] @ cosines[1].mT).square().mean(),
    }
    assert {name: float(value) for name, (value, _) in got.items()} == pytest.approx(
        {name: float(value) for name, value in want.items()}, rel=2e-5
    )


def test_losses_of_all_components_together_are_those_of_the_batch(answers):
    outputs, targets, settings = answers
    with torch.no_grad():
        whole = losses(outputs, targets, settings)
    parts = [np.array([0, 4]), np.array([1, 2, 3]), np.array([5])]
    terms = [some_terms(outputs, targets, part, settings) for part in parts]
    for name in terms[0]:
        mean = sum(len(part) * float(own[name][0]) for part, own in zip(parts, terms, strict=True)) / 6
        assert mean == pytest.approx(float(whole[name]), rel=1e-5)


@pytest.mark.parametrize(("level", "has_gram"), [("image", True), ("batch", False)])
def test_what_is_no_mean_over_images_is_told_of_no_component(answers, change, level, has_gram):
    outputs, targets, settings = answers
    got = some_terms(outputs, targets, np.array([1, 2]), change(settings, {"gram.level": level}))
    assert set(got) == {"dino_global", "dino_local", "ibot"} | ({"gram"} if has_gram else set())
    assert "koleo" in losses(outputs, targets, settings)


def test_a_step_with_nothing_masked_and_no_local_crops_has_losses_by_component(answers):
    outputs, targets, settings = answers
    nothing_masked = {"ibot": None, "dino_local": None, "masks": torch.zeros_like(outputs.masks)}
    outputs = Outputs(**{**outputs._asdict(), **nothing_masked})
    targets = Targets(**{**targets._asdict(), "ibot": None})
    assert set(some_terms(outputs, targets, np.array([1]), settings)) == {"dino_global", "gram"}


def test_rows_hold_the_share_of_images_that_each_component_gave_since_the_row_before(make_job, both, make_batches):
    values = {"data.sources": ROOMS, "data.homogeneous_share": 0.4, "runtime.log_every": 4, "steps": 10}
    job = make_job({**values, "data.homogeneous": {"some": 1.0}})
    train(job, both, nothing, device=CPU)
    batches = make_batches(job.settings, pool=both)
    drawn = [batches.composition(step).indices < 8 for step in range(10)]
    rows = curve(job)
    for row, steps in zip(rows, (drawn[:4], drawn[4:8], drawn[8:]), strict=True):
        assert row[f"{PREFIX}/some/share"] == pytest.approx(np.mean(steps))
        assert row[f"{PREFIX}/others/share"] == pytest.approx(1 - np.mean(steps))
        assert row[f"{PREFIX}/some/asked"] == pytest.approx(0.4 + 0.6 / 3)
    lonely = [row["step"] for row in rows if not any(f"{PREFIX}/others/" in key and "dino" in key for key in row)]
    assert lonely == [step for step in (4, 8, 10) if drawn[step - 1].all()]


def test_columns_of_components_reach_tensorboard(make_job, both):
    job = make_job({"data.sources": ROOMS, "steps": 2})
    train(job, both, nothing, device=CPU)
    events = EventAccumulator(str(job.folder / "tensorboard"))
    events.Reload()
    tags = events.Tags()["scalars"]
    own = {f"train/{PREFIX}/{name}/{column}" for name in ROOMS for column in ("asked", "share", "ibot")}
    assert own <= set(tags)
    for tag in own:
        key = tag.removeprefix("train/")
        want = {row["step"]: row[key] for row in curve(job) if key in row}
        assert {one.step: one.value for one in events.Scalars(tag)} == pytest.approx(want)


def test_one_source_without_names_has_no_columns_of_its_own(make_job, pool):
    job = make_job({"steps": 2})
    train(job, pool, nothing, device=CPU)
    assert not any(key.startswith(PREFIX) for row in curve(job) for key in row)


def test_classes_that_may_be_a_batch_alone_are_told_apart_though_nothing_names_them(make_job, pool, make_batches):
    job = make_job({"data.homogeneous_share": 0.7, "runtime.log_every": 5, "steps": 10})
    train(job, pool, nothing, device=CPU)
    batches = make_batches(job.settings, pool=pool)
    assert len(pool.components) > 1
    for row, steps in zip(curve(job), (range(5), range(5, 10)), strict=True):
        drawn = np.concatenate([batches.composition(step).indices for step in steps])
        for name, members in pool.components.items():
            assert row[f"{PREFIX}/{name}/share"] == pytest.approx(np.isin(drawn, members).mean())
            assert row[f"{PREFIX}/{name}/asked"] == pytest.approx(len(members) / len(pool))
    of_one = [row for row in curve(job) if batches.composition(int(row["step"]) - 1).component]
    assert of_one
    for row in of_one:
        name = batches.composition(int(row["step"]) - 1).component
        assert row[f"{PREFIX}/{name}/ibot"] == pytest.approx(row["ibot"], rel=1e-5)


def test_looking_at_components_changes_no_bit_of_training(two, both, make_batches, weights, same):
    def trained(tally):
        state, batches = fresh_state(two, 0, CPU), make_batches(two, pool=both)
        for step in range(3):
            train_step(state, batches[step], schedules.at(two, step), two, seed=0, tally=tally)
        return weights(state)

    assert same(trained(None), trained(Tally(both, two.data)))


def test_a_run_that_was_cut_off_writes_the_rows_of_one_that_was_not(make_job, both, tmp_path):
    class Cut(Exception):
        pass

    def dies(job, step, folder):
        if step == 3:
            raise Cut
        return {}

    values = {"data.sources": ROOMS, "runtime.log_every": 4, "steps": 6}
    cut, whole = (make_job({**values, "evals.every": 3}, folder=tmp_path / name) for name in ("cut", "whole"))
    with pytest.raises(Cut):
        train(cut, both, dies, device=CPU)
    train(cut, both, nothing, device=CPU)
    train(whole, both, nothing, device=CPU)
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in curve(job)] for job in (cut, whole)]
    assert rows[0] == rows[1]


def test_a_thousand_components_make_a_bounded_number_of_columns(change, two):
    sources = {f"source{number}": Set(size=32, count=1, seed=number) for number in range(MOST + 6)}
    data = change(two, {"data.sources": sources}).data
    tally = Tally(open_pool(data), data)
    assert [*tally.members] == [*sources][:MOST]
    assert _composed(data, open_pool(data)) == ["curves tell 24 of 30 components apart, the first ones"]
