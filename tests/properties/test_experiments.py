"""Generated experiment files and overrides: planned, or refused in one line for each fault, and nothing is made."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from common.bounds import described
from harness import memory
from harness.config import load
from harness.graph import jobs
from harness.pointless import pointless
from harness.run import main
from harness.settings import Experiment
from harness.timeline import planned_arms, timeline
from tests.properties.generated import answered, cases, held

CPU = torch.device("cpu")
KEYS = [setting.key.replace("NAME", "scenes") for setting in described(Experiment)]
SECTIONS = sorted({key.rpartition(".")[0] for key in KEYS} - {""})
OFTEN = st.sampled_from(
    [None, True, False, -1, 0, 1, 2, 0.5, 10**6, 2**31, 10**30, math.inf, math.nan, "", "x", [], {}]
)
SCALARS = st.one_of(OFTEN, st.integers(), st.floats(), st.text(max_size=12), st.dates().map(str))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.one_of(st.sampled_from(KEYS), st.sampled_from(KEYS), st.sampled_from(SECTIONS), st.text(max_size=10))
SIGNS = st.text(alphabet="=~+-[]{}(),:.'\"$\\ @/%#*?!<>|&;\t\n0é1ax", max_size=16)


def planned(path: Path, words: list[str]) -> None:
    """All that is refused before a network is built."""
    experiment = load(path, words)
    if not experiment.arms:
        return
    memory.check(experiment, CPU)
    paths = planned_arms(jobs(experiment, fingerprint=lambda data: "24 rooms"))
    pointless(paths)
    timeline(experiment, paths, record={})


def nested(key: str, value: Any) -> Any:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def laid(base: dict[Any, Any], over: dict[Any, Any]) -> dict[Any, Any]:
    """One mapping over another, where a mapping meets a mapping."""
    found = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = laid(found[key], value) if both else value
    return found


@pytest.fixture(scope="module")
def tiny(place: Path, tiny_text: Any) -> Path:
    path = place / "tiny.yaml"
    path.write_text(tiny_text(place))
    return path


@pytest.fixture(scope="module")
def good(tiny: Path) -> dict[str, Any]:
    return yaml.safe_load(tiny.read_text())


def unharmed(path: Path, content: bytes, words: list[str]) -> int:
    """The exit code; what lay on the disk is as it was."""
    path.write_bytes(content)
    before = held(path.parent)
    found = answered(lambda: planned(path, words), *words, content.decode("utf-8", "replace"))
    assert held(path.parent) == before
    return found.code


@cases(150)
@given(settings=st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=3))
def test_an_experiment_file_with_generated_settings_is_planned_or_refused(tiny, good, settings):
    text = good
    for key, value in settings:
        text = laid(text, nested(key, value))
    unharmed(tiny, yaml.safe_dump(text, allow_unicode=True).encode("utf-8", "replace"), [])


@cases(60)
@given(
    arms=st.dictionaries(
        st.text(max_size=8) | st.sampled_from(["plain", "trunk", "a"]),
        st.dictionaries(NAMES | st.sampled_from(["from", "at", "inherit", "grid", "steps"]), VALUES, max_size=3)
        | VALUES,
        max_size=3,
    )
)
def test_an_experiment_file_with_generated_arms_is_planned_or_refused(tiny, good, arms):
    unharmed(tiny, yaml.safe_dump({**good, "arms": arms}, allow_unicode=True).encode("utf-8", "replace"), [])


@cases(80)
@given(start=st.integers(0, 1500), length=st.integers(0, 200), between=st.binary(max_size=30))
def test_an_experiment_file_whose_bytes_are_cut_and_filled_is_planned_or_refused(tiny, good, start, length, between):
    whole = yaml.safe_dump(good, sort_keys=False).encode()
    unharmed(tiny, whole[:start] + between + whole[start + length :], [])


@cases(60)
@given(content=st.text(max_size=60) | SIGNS)
def test_any_text_as_an_experiment_file_is_refused_or_planned(tiny, content):
    unharmed(tiny, content.encode("utf-8", "surrogatepass"), [])


def written(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()


@cases(120)
@given(
    words=st.lists(st.tuples(st.sampled_from(["", "", "+", "++", "~"]), NAMES, VALUES.map(written) | SIGNS), max_size=3)
)
def test_generated_overrides_are_planned_or_refused(tiny, good, words):
    unharmed(tiny, yaml.safe_dump(good).encode(), [f"{sign}{key}={value}" for sign, key, value in words])


@cases(60)
@given(words=st.lists(st.text(max_size=20) | SIGNS, min_size=1, max_size=3))
def test_any_words_in_place_of_overrides_are_refused_or_planned(tiny, good, words):
    unharmed(tiny, yaml.safe_dump(good).encode(), words)


@cases(25)
@given(words=st.lists(st.tuples(NAMES, SCALARS.map(written)), min_size=1, max_size=2))
def test_the_command_itself_ends_in_a_plan_or_a_refusal_and_leaves_nothing_but_the_plan(tiny, good, words, capsys):
    tiny.write_bytes(yaml.safe_dump(good).encode())
    own = [f"{key}={value}" for key, value in words if key not in ("name", "runtime.folder", "runtime.cache")]
    before = held(tiny.parent)
    code = main([str(tiny), "--plan", *(word for word in own if not word.startswith("-"))])
    said = capsys.readouterr().err
    assert (code, said == "") in ((0, True), (2, False)), said
    made = {name for name in held(tiny.parent) if name not in before}
    assert {Path(name).name for name in made} <= ({"plan.pdf"} if code == 0 else set())
    for name in made:
        (tiny.parent / name).unlink()
