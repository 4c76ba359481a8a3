"""docs/schedules.md: its two recipe schedules and the cool-down, against formulas written here and its own tables.

The oracle builds whole curves as arrays, after §7 of the recipe: a line whose end is left out, then half a cosine with
both ends in it.
"""

import re
from pathlib import Path

import numpy as np
import pytest

from harness.config import load
from harness.graph import jobs
from harness.schedules import at, counts_from_segment, end

PAGE = Path(__file__).resolve().parents[2] / "docs" / "schedules.md"
EXAMPLES = ("7B", "ViT-L", "cool-down")
COLUMNS = ("lr", "last_layer_lr", "weight_decay", "momentum", "temperature")


def line(first, last, steps):
    return np.linspace(first, last, steps, endpoint=False)


def cosine(first, last, steps):
    return last + (first - last) * (1 + np.cos(np.pi * np.linspace(0, 1, steps))) / 2


def flat(value, steps):
    return np.full(steps, value)


def frozen(rates, steps):
    return np.where(np.arange(len(rates)) < steps, 0.0, rates)


def of_7b():
    rate = np.concatenate([line(0, 5e-5 * 4 * np.sqrt(4096 / 1024), 100_000), flat(4e-4, 900_000)])
    anchored = np.concatenate([cosine(0, 2.0, 1000), flat(2.0, 199_000)])
    temperature = np.concatenate([line(0.04, 0.07, 100_000), flat(0.07, 900_000)])
    return {
        "trunk": (0, [rate, frozen(rate, 5000), flat(0.04, 10**6), flat(0.994, 10**6), temperature, flat(0.0, 10**6)]),
        "refined": (10**6, [*(flat(v, 200_000) for v in (2.4e-4, 2.4e-4, 0.04, 0.999, 0.07)), anchored]),
    }


def of_vit_l():
    scale, all_, warm = 4 * np.sqrt(2048 / 1024), 125_000, 12_500
    rate = np.concatenate([line(0, 1e-3 * scale, warm), cosine(1e-3 * scale, 1e-6 * scale, all_ - warm)])
    temperature = np.concatenate([line(0.04, 0.07, 37_500), flat(0.07, all_ - 37_500)])
    decay, momentum = cosine(0.04, 0.4, all_), cosine(0.992, 1.0, all_)
    return {"plain": (0, [rate, frozen(rate, 1250), decay, momentum, temperature, flat(0.0, all_)])}


def of_the_cool_down():
    def arm(rate):
        return (10**6, [rate, rate, *(flat(v, 250_000) for v in (0.04, 0.994, 0.07, 0.0))])

    rate = np.concatenate([line(0, 5e-5, 10_000), flat(5e-5, 990_000)])
    others = [flat(v, 10**6) for v in (0.04, 0.994, 0.07, 0.0)]
    return {
        "trunk": (0, [rate, rate, *others]),
        "constant": arm(flat(5e-5, 250_000)),
        "cooled": arm(cosine(5e-5, 0, 250_000)),
        "straight": arm(np.linspace(5e-5, 0, 250_000)),
    }


ORACLES = dict(zip(EXAMPLES, (of_7b, of_vit_l, of_the_cool_down), strict=True))


def examples():
    """The experiment and the table of each section of the page that has them."""
    parts = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.M)[1:]
    return dict(zip(EXAMPLES, parts, strict=True))


def planned(name, folder):
    (block,) = re.findall(r"^```yaml\n(.*?)^```", examples()[name], re.M | re.S)
    path = folder / "shown.yaml"
    path.write_text(block)
    found = jobs(load(path, [f"runtime.folder={folder}"]), fingerprint=lambda data: "none")
    return {job.arm: job for job in found}


def values(job, step):
    now = at(job.settings, step, origin=job.origin, stop=job.stop)
    return [*(getattr(now, column) for column in COLUMNS), now.factors["gram"]]


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_value_is_that_of_the_formulas_of_the_recipe(name, tmp_path):
    found = planned(name, tmp_path)
    for arm, (first, curves) in ORACLES[name]().items():
        job = found[arm]
        assert (job.start, job.stop - job.start) == (first, len(curves[0]))
        edges = {0, 1, 1249, 1250, 4999, 5000, 12_499, 12_500, 37_499, 37_500, 99_999, 100_000, 500, 999}
        spread = {int(share * (len(curves[0]) - 1)) for share in np.linspace(0, 1, 101)}
        for place in sorted(step for step in edges | spread if step < len(curves[0])):
            expected = [curve[place] for curve in curves]
            assert values(job, first + place) == pytest.approx(expected, rel=1e-9, abs=1e-15), (arm, place)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_tables_of_the_page_hold_these_values(name, tmp_path):
    found, oracle = planned(name, tmp_path), ORACLES[name]()
    rows = re.findall(r"^\| ([a-z]+) \| (\d+) \| (.*) \|$", examples()[name], re.M)
    assert len(rows) >= 6
    for arm, step, shown in rows:
        first, curves = oracle[arm]
        assert [f"{curve[int(step) - first]:.6g}" for curve in curves] == shown.split(" | "), (arm, step)
        assert [f"{value:.6g}" for value in values(found[arm], int(step))] == shown.split(" | "), (arm, step)


def test_only_what_has_no_end_of_its_own_can_be_extended(tmp_path):
    big, vit_l, cooling = (planned(name, tmp_path) for name in EXAMPLES)
    assert [end(job.settings, job.stop) for job in big.values()] == [None] * 3
    assert end(vit_l["plain"].settings, 125_000) == 125_000
    assert {arm: end(job.settings, job.stop) for arm, job in cooling.items()} == {
        "trunk": None,
        "constant": None,
        "cooled": 1_250_000,
        "straight": 1_250_000,
    }
    assert [arm for arm, job in cooling.items() if counts_from_segment(job.settings)] == ["cooled", "straight"]
