"""Signs of collapse: told once, as soon as they last, neither of a network that learns nor of one that begins to."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
import torch

from common.records import Collapse
from harness import collapse
from harness.beginning import fresh_state
from harness.collapse import LASTING, OLD, Watchman, signs, token_rank
from harness.components import Tally
from harness.config import load
from harness.schedules import at
from harness.standings import read_status
from harness.step import train_step
from harness.train import train

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
K = 16  # prototypes of the tiny experiment
HEALTHY = {"cls_rank": 20.0, "student_entropy": 0.95 * math.log(K), "target_entropy": 0.4 * math.log(K)}
COLLAPSED = {"cls_rank": 1.4, "student_entropy": 0.1, "target_entropy": 0.9999 * math.log(K)}
WORDS = {
    "cls_rank": "the class tokens span 1.40 directions",
    "student_entropy": "the student serves all images with 1.11 prototypes",
    "target_entropy": "the entropy of the targets is within 0.01% of ln K",
}


def nothing(job, step, folder):
    return {}


def told(watch: Watchman, rows: Iterable[Mapping[str, float]], *, every: int = 10, first: int = 10) -> list[str]:
    """All that is told of rows that are `every` steps apart."""
    return [said for number, row in enumerate(rows) for said in watch({"step": first + every * number, **row})]


@pytest.fixture
def watch(tiny) -> Watchman:
    return Watchman(tiny, origin=0)


@pytest.mark.parametrize("series", COLLAPSED)
def test_a_sign_that_lasts_is_told_once_with_its_value_and_since_when(watch, series):
    bad = HEALTHY | {series: COLLAPSED[series]}
    said = told(watch, [HEALTHY] * 10 + [bad] * 30)
    assert len(said) == 1
    assert said[0].startswith(f"step {110 + LASTING}: collapse, by its signs since step 110: {WORDS[series]}")
    assert watch.found == Collapse(110 + LASTING, 110, series, COLLAPSED[series], watch.found.words)
    assert watch.found.words.startswith(WORDS[series])


@pytest.mark.parametrize("every", [1, 10, 25, 100])
def test_a_sign_lasts_by_steps_and_by_rows_however_far_these_are_apart(watch, every):
    (said,) = told(
        watch, [HEALTHY] * 3 + [COLLAPSED | {"student_entropy": 2.5, "target_entropy": 1.0}] * 100, every=every
    )
    since = 10 + 3 * every
    at = since + max(2 * every, math.ceil(LASTING / every) * every)
    assert said.startswith(f"step {at}: collapse, by its signs since step {since}: ")


def test_what_comes_and_goes_is_no_collapse_and_one_that_comes_back_is_told_again(watch):
    assert told(watch, ([HEALTHY] * 3 + [COLLAPSED] * 5) * 9) == []
    said = told(watch, [HEALTHY] + [COLLAPSED] * 9 + [HEALTHY] * 3 + [COLLAPSED] * 9, first=1000)
    assert [line.split(":")[0] for line in said] == ["step 1060"] * 3 + ["step 1180"] * 3
    assert watch.found.step == 1060


def test_a_network_that_has_not_learnt_yet_is_told_of_when_it_is_old(tiny, change):
    watch = Watchman(change(tiny, {"optimizer.warmup_steps": 100}), origin=1000)
    assert told(watch, [HEALTHY] + [COLLAPSED] * ((1000 + 100 + OLD) // 10 - 2)) == []
    said = told(watch, [COLLAPSED] * 50, first=1000 + 100 + OLD)
    assert [line.split(":")[0] for line in said] == [f"step {1000 + 100 + OLD}"] * 3


def test_steps_that_were_passed_over_and_rows_of_an_earlier_version_say_nothing(watch):
    old = {key: value for key, value in COLLAPSED.items() if key != "cls_rank"}
    rows = [HEALTHY] * 3 + [old, {}] * 9 + [dict.fromkeys(COLLAPSED, math.nan)]
    assert [re.search(r"span|serves|entropy", said)[0] for said in told(watch, rows)] == ["serves", "entropy"]


def test_of_class_tokens_that_learn_nothing_and_of_a_frozen_teacher_no_sign_is_read(tiny, change):
    assert [sign.column for sign in signs(tiny)] == ["cls_rank", "student_entropy", "target_entropy"]
    assert signs(change(tiny, {"dino.weight": 0.0})) == []
    taught = signs(change(tiny, {"distillation.teacher": "large.safetensors"}))
    assert [sign.column for sign in taught] == ["cls_rank", "student_entropy"]


def test_the_rank_counts_directions():
    square = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(0)))[0]
    assert float(token_rank(square.unflatten(0, (2, 6)))) == pytest.approx(12, rel=1e-5)
    alike = square[:1].expand(8, 12).unflatten(0, (2, 4))
    assert float(token_rank(alike)) == pytest.approx(1, abs=1e-2)
    assert float(token_rank(torch.stack([square[:2], 2 * square[:2]]))) == pytest.approx(2, rel=1e-2)
    assert math.isnan(token_rank(torch.full((2, 4, 12), math.inf)))


def test_a_run_tells_in_its_log_and_in_its_status_also_when_it_goes_on(make_job, pool, monkeypatch, caplog):
    """Residual branches that are shut: every class token is the same. It counts as old here from the first step on."""
    monkeypatch.setattr(collapse, "OLD", 0)
    monkeypatch.setattr(collapse, "LASTING", 4)
    args = {"model.args.init_values": 1e-9, "optimizer.lr": 1e-12, "runtime.checkpoint_every": 1}
    with caplog.at_level(logging.WARNING, "gramlab"):
        train(job := make_job({**args, "steps": 3}), pool, nothing, device=CPU)
        assert (caplog.text, read_status(job.folder).collapse) == ("", None)
        train(job := make_job({**args, "steps": 5}), pool, nothing, device=CPU)
        first = read_status(job.folder).collapse
        assert (first.since, first.step, first.series) == (1, 5, "cls_rank")
        assert first.value == pytest.approx(1, abs=0.01)
        assert (
            caplog.text.count("plain-s0 step 5: collapse, by its signs since step 1: the class tokens span 1.00 dir")
            == 1
        )
        (job.folder / "status.json").unlink()
        train(job, pool, nothing, device=CPU)
        assert read_status(job.folder).collapse == first
        train(job := make_job({**args, "steps": 7}), pool, nothing, device=CPU)
    assert read_status(job.folder).collapse == first
    assert caplog.text.count("the class tokens span") == 1


def demo_curves() -> dict[tuple[str, int], dict[int, dict[str, float]]]:
    """The entropies that the demo's report shows: by arm and seed, and by step."""
    page = (ROOT / "docs" / "demo" / "report.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="twin">(.*?)</script>', page, re.DOTALL)[1])
    titles = {"Entropy of the targets": "target_entropy", "Entropy of the student": "student_entropy"}
    found = dict[tuple[str, int], dict[int, dict[str, float]]]()
    for sheet in data["sheets"].values():
        if (name := titles.get(sheet["titles"][-1])) is not None:
            for arm, seed, step, value in sheet["rows"]:
                if seed is not None:
                    found.setdefault((arm, seed), {}).setdefault(int(step), {})[name] = value
    return found


def test_of_the_curves_of_the_demo_nothing_is_told():
    """As its report shows them, its networks being healthy all the way."""
    settings, curves = load(ROOT / "experiments" / "gram_ablation.yaml"), demo_curves()
    assert len(curves) == 9
    for rows in curves.values():
        watch = Watchman(settings, origin=0)
        assert [said for step, row in rows.items() for said in watch({"step": step, **row})] == []
        assert len(rows) == 12
        assert all(trail.well == 12 for trail in watch.trails if trail.sign.column != "cls_rank")


def test_the_rank_does_not_depend_on_how_a_step_is_split(tiny, change, pool, make_batches):
    found = list[float]()
    for parts in (1, 2, 4):
        settings = change(tiny, {"koleo.weight": 0.0, "runtime.accumulate": parts})
        state, tally = fresh_state(settings, 0, CPU), Tally(pool, settings.data)
        batch = make_batches(settings)[0]
        train_step(state, batch, at(settings, 0), settings, seed=0, tally=tally)
        tally.count(batch)
        found.append(tally.row()["cls_rank"])
    assert 1 < found[0] < 8
    assert found == pytest.approx([found[0]] * 3, rel=1e-5)
