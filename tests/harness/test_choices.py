"""Precision and threads that a run leaves to the machine: settled before identities, said, kept when it goes on."""

import pytest
import torch

from common import machine, speed
from common.errors import BadInput
from harness.choices import settle_precision, settle_threads
from harness.config import arm_settings, science, trunk_settings
from harness.graph import jobs

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
UNITS, NO_UNITS = {"float32": 1e11, "bfloat16": 3e11}, {"float32": 1e11, "bfloat16": 1e9}


@pytest.fixture
def on(monkeypatch):
    """`on(rates)`: a machine of these rates; `on(None)`: one on which nothing may be measured."""

    def pretend(rates):
        def measured(*_: object, **__: object) -> dict:
            if rates is None:
                pytest.fail("nothing had to be measured")
            return rates

        monkeypatch.setattr(speed, "precision_rates", measured)
        monkeypatch.setattr(speed, "thread_rates", measured)

    return pretend


@pytest.fixture
def unnamed(monkeypatch):
    """No variable names a number of threads; torch's own is put back afterwards."""
    before = torch.get_num_threads()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    yield
    torch.set_num_threads(before)


# --- precision


@pytest.mark.parametrize(("rates", "chosen"), [(UNITS, "bfloat16"), (NO_UNITS, "float32")])
def test_auto_is_what_the_machine_is_good_at_and_the_identity_carries_that(tiny, change, on, rates, chosen):
    on(rates)
    settled, said = settle_precision(change(tiny, {"precision": "auto"}), CPU, record={})
    assert settled == change(tiny, {"precision": chosen})
    assert [line.startswith(f"precision: {chosen}, chosen by auto: bfloat16 runs at ") for line in said] == [True]
    made, plain = (
        [job.identity for job in jobs(one, fingerprint=lambda data: "24 rooms")]
        for one in (settled, change(tiny, {"precision": chosen}))
    )
    assert made == plain


def test_auto_of_an_arm_and_of_the_trunk_is_settled_too(tiny, change, on):
    on(UNITS)
    arms = {"plain": {}, "half": {"precision": "auto"}, "whole": {"precision": "float32"}}
    given = change(tiny, {"arms": arms, "trunk.steps": 2, "trunk.overrides": {"precision": "auto"}})
    settled, said = settle_precision(given, CPU, record={"config": {"precision": "float32"}})
    assert settled.precision == "float32"
    assert trunk_settings(settled).precision == "bfloat16"
    found = {arm: arm_settings(settled, arm).precision for arm in arms}
    assert found == {"plain": "float32", "half": "bfloat16", "whole": "float32"}
    assert len(said) == 1


@pytest.mark.parametrize("values", [{"precision": "bfloat16"}, {"arms": {"a": {"precision": "bfloat16"}}}])
def test_bfloat16_that_is_asked_for_stays_and_is_said_to_be_slow(tiny, change, on, values):
    on(NO_UNITS)
    settled, said = settle_precision(given := change(tiny, values), CPU, record={})
    assert settled == given
    assert said == ["precision: bfloat16 runs at 0.01 times the rate of float32 here (1 against 100 GFLOP/s)"]


def test_nothing_is_measured_where_all_is_float32(tiny, on):
    on(None)
    assert settle_precision(tiny, CPU, record={}) == (tiny, [])


@pytest.mark.parametrize("before", ["float32", "bfloat16"])
def test_auto_is_what_the_run_had_before_and_nothing_is_measured(tiny, change, on, before):
    on(None)
    settled, said = settle_precision(change(tiny, {"precision": "auto"}), CPU, record={"config": {"precision": before}})
    assert settled == change(tiny, {"precision": before})
    assert said == [f"precision: {before}, as this run had before"]


def test_auto_of_an_arm_and_of_the_trunk_is_what_each_had_before(tiny, change, on):
    on(None)
    record = {
        "config": {"precision": "float32", "trunk": {"overrides": {"precision": "bfloat16"}}},
        "arms": {"a": {"overrides": {"precision": "float32"}}, "b": {"overrides": {"precision": "bfloat16"}}},
    }
    own = {"precision": "auto"}
    given = change(tiny, {"arms": {"a": own, "b": own}, "trunk.steps": 2, "trunk.overrides": own})
    settled, said = settle_precision(given, CPU, record=record)
    assert trunk_settings(settled).precision == "bfloat16"
    assert [arm_settings(settled, arm).precision for arm in "ab"] == ["float32", "bfloat16"]
    assert said == ["precision: bfloat16 and float32, as this run had before"]


def test_auto_of_an_arm_that_is_new_to_the_run_is_measured(tiny, change, on):
    on(UNITS)
    given = change(tiny, {"precision": "auto", "arms": {"old": {}, "new": {"precision": "auto"}}})
    record = {"config": {"precision": "float32"}, "arms": {"old": {"overrides": {}}}}
    settled, said = settle_precision(given, CPU, record=record)
    assert [arm_settings(settled, arm).precision for arm in ("old", "new")] == ["float32", "bfloat16"]
    assert [line[:40] for line in said] == [
        "precision: float32, as this run had befo",
        "precision: bfloat16, chosen by auto: bfl",
    ]


def test_a_precision_that_is_not_settled_has_no_identity(tiny, change):
    with pytest.raises(BadInput, match="precision=auto has no identity"):
        science(change(tiny, {"precision": "auto"}), data_fingerprint="x")


# --- threads


def test_threads_of_the_settings_come_first(tiny, change, on, unnamed, monkeypatch):
    on(None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    said = settle_threads(change(tiny, {"runtime.threads": 2}), CPU, record={"environment": {"threads": 1}})
    assert said == "threads: 2, by runtime.threads"
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_a_number_in_the_environment_is_taken_as_torch_took_it(tiny, on, unnamed, monkeypatch, name):
    on(None)
    monkeypatch.setenv(name, "1")
    before = torch.get_num_threads()
    assert settle_threads(tiny, CPU, record={"environment": {"threads": 7}}) == f"threads: {before}, by {name}"
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("value", ["x", "0", "-1", "1.5", "2x"])
def test_a_variable_that_torch_cannot_read_is_no_source_of_threads_and_is_told(tiny, on, unnamed, monkeypatch, value):
    on({1: 10.0, 2: 4.0})
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    said = settle_threads(tiny, CPU, record={})
    assert said.startswith("threads: 1, measured: ")
    assert said.endswith(f"; OMP_NUM_THREADS='{value}' is no number and is not heeded")


def test_more_threads_than_cores_could_ever_serve_are_refused(tiny, change, on, unnamed, monkeypatch):
    on(None)
    monkeypatch.setattr(machine, "cores", lambda: 2)
    with pytest.raises(BadInput, match=r"runtime\.threads=33: want at most 32 on 2 cores"):
        settle_threads(change(tiny, {"runtime.threads": 33}), CPU, record={})


def test_a_run_goes_on_with_the_threads_it_had_last(tiny, on, unnamed, monkeypatch):
    on(None)
    monkeypatch.setattr(machine, "cores", lambda: 4)
    said = settle_threads(tiny, CPU, record={"environment": {"threads": 3}})
    assert said == "threads: 3, as this run had before: with others its bits would differ"
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("record", [{}, {"environment": {}}, {"environment": {"threads": 64}}])
def test_threads_are_measured_where_nobody_named_them_or_the_cores_do_not_suffice(
    tiny, on, unnamed, monkeypatch, record
):
    on({1: 10.0, 2: 4.0})
    monkeypatch.setattr(machine, "cores", lambda: 2)
    said = settle_threads(tiny, CPU, record=record)
    assert said == "threads: 1, measured: 2 at 0.4 times its rate, as where other processes keep the cores busy"
    assert torch.get_num_threads() == 1


def test_threads_beside_a_gpu_are_torchs_own_choice(tiny, on, unnamed):
    on(None)
    before = torch.get_num_threads()
    assert settle_threads(tiny, CUDA, record={}) == f"threads: {before}, torch's own choice"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_jobs_that_run_side_by_side_have_their_share_of_the_cores(device, tiny, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    try:
        told = settle_threads(tiny, torch.device(device), record={}, share=(2, "of 4 cores for 2 jobs at once"))
        assert told == "threads: 2, of 4 cores for 2 jobs at once"
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
