"""Hundreds of generated bad experiments: a plan or a refusal in our words, never another error, and nothing is made."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from common.bounds import described
from common.errors import BadInput
from harness import memory
from harness.config import load
from harness.graph import jobs
from harness.pointless import pointless
from harness.run import main
from harness.settings import Experiment
from harness.timeline import planned_arms, timeline

CPU = torch.device("cpu")
THEIRS = re.compile(
    r"\b(None|True|False|Errno)\b|\w(Error|Exception|Config|Node)\b|Interpolation|\b__\w+__|<class|at 0x[0-9a-f]{6}|"
    r"(?i:traceback|omegaconf|hydra|pydantic|antlr|mismatched|recursion|keyword argument)"
)
PLAIN = (None, True, -1, 0, 1, 3, 7.5, "x", "", " ", "2.0", "8", [], {}, [1], [[]], {"a": None}, {"a": {"b": 1}})
LARGE = (2**31, 2**63, 2**70, 10**30, -(2**70), 10**400, 1e300, -1e300, 1e-320, 4096, 10**6, 10**9, {"a": 10**12})
TEXTS = (
    "inf", "nan", ".inf", "-.nan", "1e999", "???", "${steps}", "${a}", "${", "${oc.env:NO_SUCH}", "${oc.decode:'inf'}",
    "${.x}", "${oc.create:{a: 1}}", "a\nb", "a\0b", "..", "/", "a/b", "-a", "~", "x" * 300, "é" * 60, "caf\udce9",
    "\u202e", "010", "1:30", "0x10", "1_000", "null", "yes", "2024-01-01", "trunk", "a'b", 'a"b', "{", "]", "=",
)  # fmt: skip
KEYS = [setting.key.replace("NAME", "scenes") for setting in described(Experiment)]
SECTIONS = sorted({key.rpartition(".")[0] for key in KEYS} - {""})
STRANGE = (
    "nothing", "gram.nothing", "hydra", "hydra.run.dir", "defaults", "arms.plain", "model.args.depth", "gram[0]", "a b",
    "seeds.0", "steps.x", "data.sources.scenes.x", "model.args.checkpoint_path", "model.args.pretrained", "é", "1",
    "arms.anchored.steps", "trunk.overrides.gram.weight", "data.sources.new.kind", "arms.new.gram.weight",
)  # fmt: skip
SIGNS = "=~+-[]{}(),:.'\"$\\ @/%#*?!<>|&;\t\n\0é0a1"
DEFAULTS = (
    "5", "x", "{model: nano}", "[5]", "[null]", "[tiny]", "[_self_, _self_]", "[model: nano, model: vits]", "[[a]]",
    "[model: null]", "[modle: nano]", "[model: ../nano]", "['x\\ny']", "[model: '${a}']", "[recipe: nano]",
)  # fmt: skip


def nested(key: str, value: object) -> dict:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value  # pyright: ignore[reportReturnType]


def laid(base: dict, over: dict) -> dict:
    """One mapping over another, where a mapping meets a mapping."""
    found = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = laid(found[key], value) if both else value
    return found


def cases(text: str, count: int, *, seed: int) -> Iterator[tuple[bytes, list[str]]]:
    """Files with overrides for them, each kind of mistake in turn."""
    rng, good = random.Random(seed), yaml.safe_load(text)
    for number in range(count):
        key = rng.choice((*KEYS, *KEYS, *SECTIONS, *STRANGE))
        value = rng.choice((*PLAIN, *LARGE, *TEXTS))
        kind = number % 8
        if kind == 0:
            yield yaml.safe_dump(laid(good, nested(key, value)), allow_unicode=False).encode(), []
        elif kind == 1:
            yield text.encode(), [f"{rng.choice(('', '', '+', '++', '~'))}{key}={written(value)}"]
        elif kind == 2:
            yield yaml.safe_dump(laid(good, {"arms": {"plain": {key: value}}})).encode(), []
        elif kind == 3:
            yield spoiled(text.encode(), rng), []
        elif kind == 4:
            yield text.encode(), ["".join(rng.choices(SIGNS, k=rng.randint(1, 12)))]
        elif kind == 5:
            yield text.encode(), [f"{key}={''.join(rng.choices(SIGNS, k=rng.randint(1, 8)))}"]
        elif kind == 6:
            yield f"defaults: {rng.choice(DEFAULTS)}\n{text}".encode(), []
        else:
            some = (f"{rng.choice(KEYS)}={written(rng.choice((*PLAIN, *TEXTS)))}" for _ in range(3))
            yield text.encode(), [*some]


def written(value: object) -> str:
    """A value as a command line has it."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()


def spoiled(content: bytes, rng: random.Random) -> bytes:
    """The file with bytes that do not belong there, or in another encoding."""
    at = rng.randrange(len(content))
    return rng.choice(
        (
            content[:at],
            content[:at] + rng.randbytes(3) + content[at:],
            content[:at] + bytes([rng.choice(b"\t\0{}[]:&*!|>'\"%@`,#?-\r\n")]) + content[at:],
            content.decode().encode("utf-16"),
            content[:at] + "é".encode("latin-1") + content[at:],
            content + content[:at],
            b"a: " + b"[" * 3000,
            b"a: &x [*x]\n" + content,
        )
    )


def judged(error: BadInput, overrides: list[str]) -> None:
    """A refusal is one line, or a heading with a line each, in our words."""
    lines = str(error).splitlines()
    assert lines
    assert all(line.startswith(("  ", "arms.", "trunk.", "trunk: ", "every arm: ")) for line in lines[1:])
    own = str(error)
    for override in overrides:
        own = own.replace(override, "")
    own = re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`|=\S+", "", own)  # what the file said itself
    assert not (found := THEIRS.search(own)), f"{found} in {error}"


def writes_elsewhere(path: Path, words: list[str]) -> bool:
    """Whether the plan's drawing would go to another place than that of the test."""
    try:
        return not Path(load(path, words).runtime.folder).resolve().is_relative_to(path.parent)
    except (BadInput, ValueError):
        return False


@pytest.fixture
def place(tmp_path, tiny_text, monkeypatch):
    """An empty folder to stand in, with the tiny experiment's text."""
    monkeypatch.chdir(tmp_path)
    return tmp_path, tiny_text(tmp_path)


def test_generated_bad_experiments_are_planned_or_refused_in_our_words_and_nothing_is_made(place):
    folder, text = place
    path = folder / "tiny.yaml"
    planned = refused = 0
    for content, overrides in cases(text, 300, seed=0):
        path.write_bytes(content)
        try:
            experiment = load(path, overrides)
            memory.check(experiment, CPU)
            paths = planned_arms(jobs(experiment, fingerprint=lambda data: "24 rooms"))
            pointless(paths)
            timeline(experiment, paths, record={})
            planned += 1
        except BadInput as error:
            judged(error, overrides)
            refused += 1
        except Exception as error:
            raise AssertionError(f"{overrides} {content[-300:]!r}") from error
        assert [*folder.iterdir()] == [path]
    assert planned > 5
    assert refused > 150


@pytest.mark.slow  # plans are counted on the meta device
def test_generated_bad_experiments_end_the_command_in_a_plan_or_a_refusal(place, capsys):
    folder, text = place
    path: Path = folder / "tiny.yaml"
    for content, overrides in cases(text, 240, seed=1):
        path.write_bytes(content)
        words = [override for override in overrides if not override.startswith("-")]
        if writes_elsewhere(path, words):
            continue
        code = main([str(path), "--plan", *words])
        said = capsys.readouterr()
        assert (code, said.err == "") in ((0, True), (2, False)), (content[-300:], words, said)
        made = {file for file in folder.rglob("*") if file.is_file()} - {path}
        assert {file.name for file in made} == ({"plan.pdf"} if code == 0 else set()), (content[-300:], words, said)
        for file in made:
            file.unlink()
