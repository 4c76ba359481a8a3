"""What follows from measured rates, and that rates can be measured here; never how high they are."""

import math
import os

import pytest
import torch

from common import machine, speed

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("float32", "bfloat16", "chosen", "words"),
    [
        (78e9, 1e9, "float32", "bfloat16 runs at 0.013 times the rate of float32 here (1 against 78 GFLOP/s)"),
        (140e9, 390e9, "bfloat16", "2.8 times the rate of float32 here (390 against 140 GFLOP/s)"),
        (100e9, 149e9, "float32", "it is taken from 1.5 times on"),
        (100e9, 150e9, "bfloat16", "1.5 times the rate"),
    ],
)
def test_bfloat16_is_chosen_only_where_it_is_faster_by_the_stated_margin(float32, bfloat16, chosen, words):
    found, why = speed.choose_precision({"float32": float32, "bfloat16": bfloat16})
    assert found == chosen
    assert why.startswith(f"{chosen}, chosen by auto: ")
    assert words in why


@pytest.mark.parametrize(
    ("rates", "chosen", "why"),
    [
        ({1: 5.0}, 1, "on one core"),
        ({1: 10.0, 2: 4.0}, 1, "measured: 2 at 0.4 times its rate, as where other processes keep the cores busy"),
        ({1: 10.0, 2: 10.4}, 1, "measured: 2 at 1 times its rate"),
        ({1: 10.0, 2: 18.0}, 2, "measured: 1 at 0.56 times its rate"),
        ({1: 10.0, 2: 19.0, 4: 35.0, 6: 36.0}, 4, "measured: 1 at 0.29, 2 at 0.54, 6 at 1 times its rate"),
        ({1: 10.0, 2: 19.0, 4: 9.0}, 2, "measured: 1 at 0.53, 4 at 0.47 times its rate, as where other processes keep"),
    ],
)
def test_the_fewest_threads_near_the_best_rate_are_chosen(rates, chosen, why):
    found, words = speed.choose_threads(rates)
    assert found == chosen
    assert words.startswith(why)
    assert words.endswith("busy") == ("other processes" in why)


@pytest.mark.parametrize("width", [1, 96, 384])
def test_a_block_of_any_width_has_some_rate_and_draws_no_random_number(width):
    before = torch.get_rng_state()
    for precision in ("float32", "bfloat16"):
        assert 1e6 < speed.block_rate(CPU, width=width, precision=precision, seconds=0.01) < 1e15
    assert torch.equal(torch.get_rng_state(), before)


def test_both_precisions_have_a_rate_here_and_the_threads_are_as_before():
    before = torch.get_num_threads()
    rates = speed.precision_rates(CPU, width=32)
    assert rates.keys() == {"float32", "bfloat16"}
    assert all(math.isfinite(rate) and rate > 0 for rate in rates.values())
    assert torch.get_num_threads() == before


def test_each_precision_runs_once_before_it_counts_so_that_loading_kernels_slows_neither(monkeypatch):
    seen, now = [], [0.0]

    def measured(device: torch.device, *, precision: str, **_: object) -> float:
        seen.append(precision)
        now[0] += 10.0 if len(seen) <= 2 else 0.5
        return 9.0 if len(seen) <= 2 else 1.0

    monkeypatch.setattr(speed, "block_rate", measured)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    assert speed.precision_rates(CPU) == {"float32": 1.0, "bfloat16": 1.0}
    assert seen == ["float32", "bfloat16"] * 3  # to load, then for 2 seconds


def test_threads_are_measured_in_powers_of_two_up_to_all_cores(monkeypatch):
    seen = []

    def measured(device: torch.device, **_: object) -> float:
        seen.append(torch.get_num_threads())
        return 1.0

    before = torch.get_num_threads()
    monkeypatch.setattr(speed, "block_rate", measured)
    monkeypatch.setattr(machine, "cores", lambda: 6)
    assert speed.thread_rates() == dict.fromkeys((1, 2, 4, 6), 1.0)
    assert seen == [1, 2, 4, 6]
    assert torch.get_num_threads() == before


def test_cores_are_those_that_this_process_may_use():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system binds no process to cores")
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(mine)})
    try:
        assert machine.cores() == 1
    finally:
        os.sched_setaffinity(0, mine)


def test_the_line_of_a_benchmark_names_the_machine_and_how_fast_bfloat16_is_on_it(monkeypatch):
    monkeypatch.setattr(speed, "precision_rates", lambda device: {"float32": 1e11, "bfloat16": 2e9})
    line = speed.machine_line(CPU)
    assert line.startswith(f"{machine.cpu_name()}, {machine.cores()} cores; ")
    assert "0.02 times the rate of float32 here (2 against 100 GFLOP/s)" in line
