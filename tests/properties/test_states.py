"""Training states with any header, sealed anew as anyone can: what is called whole can be read, all else is damage."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_saver import save

from common.disk import checksum
from common.errors import BadInput
from evals.backbones import states
from evals.backbones.digest import sealed
from evals.backbones.state_folder import FILES, HEADER
from evals.backbones.state_header import Header, parsed
from harness import distillation
from harness.beginning import fresh_state
from harness.checkpoint import Damaged, about, load_state, tensors_of, verified_step
from harness.dense_watch import Seen
from harness.state import State, frozen_copy
from tests.properties.generated import cases

NAME = "step_000003.safetensors"
NUMBER = count()


class Whole(NamedTuple):
    """A state with all that one can hold, and what it is in a file and in a folder."""

    state: State
    tensors: Mapping[str, Tensor]
    said: Mapping[str, str]
    folder: Path
    card: str


@pytest.fixture(scope="module")
def whole(tiny: Any, place: Path) -> Whole:
    state = fresh_state(tiny, 0, torch.device("cpu"))
    state.step, state.gram_teacher = 3, frozen_copy(state.teacher.backbone)
    state.seen = Seen({1: 0.5, 2: 0.25}, {2: frozen_copy(state.teacher.backbone)})
    tensors = {name: one.detach().contiguous() for name, one in tensors_of(state).items()}
    folder = place / "parts"
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    with warnings.catch_warnings(action="ignore"):
        save(tensors, storage_writer=writer, no_dist=True)
    return Whole(state, tensors, about(state, "mine"), folder, json.dumps(asdict(tiny), default=str))


def written(whole: Whole, said: Mapping[str, Any], place: Path, *, as_folder: bool) -> Path:
    """A state with this header, where training would leave it."""
    path = place / str(next(NUMBER)) / "plain-s0" / "states" / NAME
    path.parent.mkdir(parents=True)
    (path.parent.parent / "identity.json").write_text(whole.card)
    if as_folder:
        shutil.copytree(whole.folder, path)
        (path / HEADER).write_text(json.dumps(sealed(said, {})))
    else:
        save_file(dict(whole.tensors), path, metadata=sealed(said, whole.tensors))
    return path


def honest(whole: Whole, *, as_folder: bool) -> dict[str, Any]:
    files = {path.name: checksum(path) for path in whole.folder.glob("*.safetensors")}
    return {**whole.said, **({FILES: files} if as_folder else {})}


def refused(whole: Whole, path: Path) -> str | None:
    """Why a state is taken for damaged, by all that read one; None where all of them take it."""
    doors: tuple[Callable[[], int], ...] = (
        lambda: verified_step(path, identity=None),
        lambda: loaded(whole.state, path),
        lambda: distillation.content(path)["step"],
        lambda: int(states.load(str(path)).extra["step"]),
    )
    found = [opened(door) for door in doors]
    if not isinstance(found[0], BadInput):
        assert found == [3] * 4
        return None
    assert [type(one) for one in found] == [Damaged, Damaged, BadInput, BadInput]
    assert not any("\n" in str(one) for one in found)
    return str(found[0])


def loaded(state: State, path: Path) -> int:
    load_state(state, path, identity=None)
    return state.step


def opened(door: Callable[[], int]) -> int | BadInput:
    try:
        return door()
    except BadInput as error:
        return error


@pytest.mark.parametrize("as_folder", [False, True], ids=["file", "folder"])
def test_what_training_writes_is_taken(whole: Whole, place: Path, as_folder: bool):
    assert refused(whole, written(whole, honest(whole, as_folder=as_folder), place, as_folder=as_folder)) is None
    assert (whole.state.step, whole.state.seen.values, [*whole.state.seen.ring]) == (3, {1: 0.5, 2: 0.25}, [2])


NINES = "9" * 5000
TEXTS = {
    "step": ["", "x", "03", "-3", "3.0", "٣", "4", NINES, "3\n"],
    "identity": ["mine\nyours", "\x1b[2J"],
    "anchor": ["", "x", "True", "[1]", "null", "1", "false", "[" * 100_000],
    "seen": [
        "", "x", "[1]", "null", "3", "{}", '{"ring": 3}', '{"values": [1], "ring": []}', '{"values": 3, "ring": []}',
        '{"values": [[1, 0.5], [2, 0.25]], "ring": 2}', '{"values": [[1, 0.5], [2, 0.25]], "ring": [2, 2]}',
        '{"values": [[1, 0.5], [2, 0.25]], "ring": []}', '{"values": [[1, 0.5], [2, 0.25]], "ring": [1]}',
        '{"values": [[1, 0.5]], "ring": [2]}', '{"values": [[1, 0.5], [2, "x"]], "ring": [2]}',
        '{"values": [[[], 0.5], [2, 0.25]], "ring": [2]}', '{"values": [[1, 0.5, 1], [2, 0.25]], "ring": [2]}',
        '{"values": [[-1, 0.5], [2, 0.25]], "ring": [2]}', f'{{"values": [[{NINES}, 0.5], [2, 0.25]], "ring": [2]}}',
        "[" * 100_000,
    ],
}  # fmt: skip
OTHERS: dict[str, list[Any]] = {
    **{entry: [3, None, True, ["mine"], {"a": 1}] for entry in TEXTS},
    FILES: [None, 3, [], {}, {NAME: 5}, {NAME: None}, {NAME: "0" * 64}, {"../x.safetensors": "0" * 64}],
}


@pytest.mark.parametrize("as_folder", [False, True], ids=["file", "folder"])
@pytest.mark.parametrize(("entry", "value"), [(entry, one) for entry, some in TEXTS.items() for one in some])
def test_an_entry_of_other_text_is_damage(whole: Whole, place: Path, entry: str, value: str, as_folder: bool):
    said = {**honest(whole, as_folder=as_folder), entry: value}
    assert refused(whole, written(whole, said, place, as_folder=as_folder))


@pytest.mark.parametrize(("entry", "value"), [(entry, one) for entry, some in OTHERS.items() for one in some])
def test_an_entry_of_another_kind_is_damage(whole: Whole, place: Path, entry: str, value: Any):
    assert refused(whole, written(whole, {**honest(whole, as_folder=True), entry: value}, place, as_folder=True))


@pytest.mark.parametrize("value", [None, 5, "x", "0" * 64, ["0"]])
def test_the_digest_of_a_part_that_is_none_is_damage(whole: Whole, place: Path, value: Any):
    said = honest(whole, as_folder=True)
    said[FILES] = dict.fromkeys(said[FILES], value)
    assert refused(whole, written(whole, said, place, as_folder=True))


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner), max_leaves=6
)
STEPS = st.integers(-1, 4) | st.sampled_from([10**18, 2**64, True])
PAIRS = st.tuples(STEPS | SCALARS, st.floats() | SCALARS)
SEEN = st.fixed_dictionaries(
    {}, optional={"values": st.lists(PAIRS, max_size=3) | VALUES, "ring": st.lists(STEPS, max_size=3) | VALUES}
)
SAID = {
    entry: st.sampled_from(TEXTS[entry]) | st.text(max_size=12) | VALUES.map(json.dumps) for entry in TEXTS
} | {"more": st.text(max_size=4)}  # fmt: skip
WORDS = st.fixed_dictionaries({}, optional={**SAID, "seen": SEEN.map(json.dumps) | SAID["seen"]})


@given(said=WORDS, without=st.sets(st.sampled_from(sorted(TEXTS)), max_size=1))
@cases(60)
def test_whatever_a_file_says_it_is_read_or_damaged(whole: Whole, place: Path, said: Any, without: set[str]):
    kept = {key: value for key, value in honest(whole, as_folder=False).items() if key not in without}
    refused(whole, written(whole, {**kept, **said}, place, as_folder=False))


@given(
    said=st.fixed_dictionaries({}, optional={**{entry: SAID[entry] | VALUES for entry in SAID}, FILES: VALUES}),
    without=st.sets(st.sampled_from([*sorted(TEXTS), FILES]), max_size=1),
)
@cases(60)
def test_whatever_a_folder_says_it_is_read_or_damaged(whole: Whole, place: Path, said: Any, without: set[str]):
    kept = {key: value for key, value in honest(whole, as_folder=True).items() if key not in without}
    refused(whole, written(whole, {**kept, **said}, place, as_folder=True))


@given(
    step=st.integers(0, 10**18 - 1),
    identity=st.text("0123456789abcdef", max_size=64),
    anchor=st.booleans(),
    values=st.dictionaries(st.integers(0, 10**18 - 1), st.floats(allow_nan=False), max_size=4),
)
@cases(100)
def test_a_header_is_the_same_once_it_is_written(step: int, identity: str, anchor: bool, values: dict[int, float]):
    header = Header(step, identity, anchor, values, tuple(values)[-2:])
    names = [*(f"ring.{at}.blocks.0" for at in header.ring), *(["anchor.norm"] if anchor else []), "student.x"]
    assert parsed(header.written(), names) == header
