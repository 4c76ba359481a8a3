"""Files of weights bear a digest: whatever bit of them has changed, they are not taken for what was written."""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from common.errors import BadInput
from evals.backbones import exported
from evals.backbones.addresses import load
from evals.backbones.digest import KEY, digest, sealed
from harness.beginning import fresh_state
from harness.checkpoint import export_weights, load_weights, verified_step

CPU = torch.device("cpu")


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def header_bits(content: bytes) -> range:
    """Every bit of the header of a safetensors file, its length included."""
    return range(8 * (8 + struct.unpack("<Q", content[:8])[0]))


def some_of(bits: range, count: int) -> list[int]:
    """Bits that lie evenly in a range, of every place within a byte."""
    step = max(1, len(bits) // count) | 1
    return [*bits[::step]]


@pytest.fixture
def whole() -> Callable[[Path], bool]:
    """Whether a state is taken."""

    def of(path: Path) -> bool:
        try:
            verified_step(path, identity=None)
        except BadInput as error:
            said = str(error)
        else:
            return True
        assert "\n" not in said
        assert str(path) in said
        return False

    return of


# --- what a digest tells apart


def test_a_digest_is_of_names_types_shapes_bytes_and_words():
    x = torch.arange(6.0)
    base = digest({"step": "1"}, {"a": x})
    assert base == digest({"step": "1"}, {"a": x.clone()})
    others = [
        digest({"step": "2"}, {"a": x}),
        digest({"stop": "1"}, {"a": x}),
        digest({"step": "1"}, {"b": x}),
        digest({"step": "1"}, {"a": x.view(2, 3)}),
        digest({"step": "1"}, {"a": x.int()}),
        digest({"step": "1"}, {"a": x.view(torch.int32)}),
        digest({"step": "1"}, {"a": x, "b": torch.zeros(0)}),
        digest({"step": "1"}, {"a": -x}),
        digest({"step": "1"}, {"a": torch.cat([-x[:1], x[1:]])}),  # -0.0
    ]
    assert len({base, *others}) == 10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.float64])
def test_a_digest_takes_any_type_and_order(dtype: torch.dtype):
    x, y = torch.ones(2, 3).to(dtype), torch.zeros(()).to(dtype)
    assert digest({}, {"a": x, "b": y}) == digest({}, {"b": y, "a": x.mT.contiguous().mT})


# --- training states


def test_any_flipped_bit_of_a_state_is_noticed(trained: Path, whole: Callable[[Path], bool]):
    path = trained / "states" / "step_000002.safetensors"
    content = path.read_bytes()
    header = header_bits(content)
    bits = [*some_of(header, 500), *some_of(range(len(header), 8 * len(content)), 200), 8 * len(content) - 1]
    assert whole(path)
    taken = []
    for bit in bits:
        path.write_bytes(flipped(content, bit))
        taken += [bit] if whole(path) else []
    assert taken == []


def test_a_state_whose_step_is_another_is_noticed(trained: Path, whole: Callable[[Path], bool]):
    path = trained / "states" / "step_000002.safetensors"
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    save_file(tensors, path, metadata={**header, "step": "3"})
    assert not whole(path)
    plain = {key: text for key, text in header.items() if key != KEY}
    save_file(tensors, path, metadata=sealed({**plain, "step": "3"}, tensors))
    with pytest.raises(BadInput, match=r"step_000002\.safetensors, which holds step 3"):
        verified_step(path, identity=None)
    save_file(tensors, path, metadata={**plain, "step": "3"})  # as before states had a digest
    assert not whole(path)
    save_file(tensors, path, metadata=header)
    assert whole(path)
    path.rename(path.with_name("step_000003.safetensors"))
    assert not whole(path.with_name("step_000003.safetensors"))


def test_an_address_of_a_state_is_checked_as_well(trained: Path):
    path = trained / "states" / "step_000002.safetensors"
    content = path.read_bytes()
    path.write_bytes(flipped(content, 8 * len(content) - 3))
    for word in ("teacher", "student"):
        with pytest.raises(BadInput, match=r"no whole training state .*content that is not what was written"):
            load(f"{path}:{word}")


def test_a_state_from_before_states_had_a_digest_is_read_and_said_so(trained: Path, caplog: pytest.LogCaptureFixture):
    path = trained / "states" / "step_000002.safetensors"
    expected = load(str(path)).fingerprint
    assert caplog.messages == []
    with safe_open(path, framework="pt") as file:
        plain = {key: text for key, text in file.metadata().items() if key != KEY}
    save_file(load_file(path), path, metadata=plain)
    with caplog.at_level(logging.WARNING, "gramlab"):
        assert load(str(path)).fingerprint == load(str(path)).fingerprint == expected
    assert caplog.messages == [f"{path} has no digest, as it is from before there were any: it is taken as it is"]
    save_file(load_file(path), path, metadata={**plain, "digesu": "0"})  # a flipped bit makes no old file
    with pytest.raises(BadInput, match="content that is not what was written"):
        load(str(path))


# --- exported backbones


@pytest.mark.parametrize("name", ["backbone.json", "weights.safetensors"])
def test_any_flipped_bit_of_an_export_is_noticed(name: str, trained: Path):
    path = trained / "step_000002" / name
    content = path.read_bytes()
    bits = [*some_of(range(8 * len(content)), 500), 8 * len(content) - 1]
    if name == "weights.safetensors":
        bits += some_of(header_bits(content), 400)
    assert exported.fault(path.parent) is None
    taken = []
    for bit in bits:
        path.write_bytes(flipped(content, bit))
        said = exported.fault(path.parent)
        taken += [(bit, content[bit // 8 :][:20])] if said is None or "\n" in said else []
    assert taken == []


def test_a_changed_export_is_refused_on_loading(trained: Path):
    folder = trained / "step_000002"
    content = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(flipped(content, 8 * len(content) - 30))
    with pytest.raises(BadInput, match=rf"got {folder} .*content that is not what was written"):
        load(str(folder))


def test_the_card_is_under_the_digest_too(trained: Path):
    folder = trained / "step_000002"
    card = json.loads((folder / "backbone.json").read_text())
    for changed in ({"mean": [0.5, 0.5, 0.5]}, {"extra": {**card["extra"], "step": 3}}, {"more": 1}):
        (folder / "backbone.json").write_text(json.dumps({**card, **changed}))
        with pytest.raises(BadInput, match="content that is not what was written"):
            load(str(folder))
    (folder / "backbone.json").write_text(json.dumps(card, indent=7, sort_keys=True))  # the same, written otherwise
    assert load(str(folder)).extra["step"] == 2


def test_an_export_under_the_name_of_another_step_is_refused(trained: Path):
    (trained / "step_000002").rename(trained / "step_000003")
    with pytest.raises(BadInput, match="step_000003, which holds step 2: want the step that its name bears"):
        load(str(trained / "step_000003"))
    (trained / "step_000003").rename(trained / "best")
    assert load(str(trained / "best")).extra["step"] == 2


def test_an_export_from_before_exports_had_a_digest_is_read_and_said_so(
    trained: Path, caplog: pytest.LogCaptureFixture
):
    folder = trained / "step_000002"
    expected = load(str(folder)).fingerprint
    card = json.loads((folder / "backbone.json").read_text())
    del card[KEY]
    (folder / "backbone.json").write_text(json.dumps(card))
    assert caplog.messages == []
    with caplog.at_level(logging.WARNING, "gramlab"):
        assert load(str(folder)).fingerprint == expected
    assert caplog.messages == [f"{folder} has no digest, as it is from before there were any: it is taken as it is"]
    assert exported.fault(folder) is None


# --- weights that a trunk starts from


def test_any_flipped_bit_of_a_trunks_weights_is_noticed(tiny, trained: Path, tmp_path: Path):
    path = tmp_path / "trunk.safetensors"
    export_weights(trained / "states" / "step_000002.safetensors", path, dtype=torch.float16)
    state, content = fresh_state(tiny, 0, CPU), path.read_bytes()
    load_weights(state, path)
    header = header_bits(content)
    for bit in [*some_of(header, 200), *some_of(range(len(header), 8 * len(content)), 100)]:
        path.write_bytes(flipped(content, bit))
        with pytest.raises(BadInput, match=r"trunk\.safetensors"):
            load_weights(state, path)


def test_a_damaged_state_is_not_cut_down_to_weights(trained: Path, tmp_path: Path):
    path = trained / "states" / "step_000002.safetensors"
    content = path.read_bytes()
    path.write_bytes(flipped(content, 8 * len(content) - 3))
    with pytest.raises(BadInput, match=r"step_000002\.safetensors cannot be read"):
        export_weights(path, tmp_path / "trunk.safetensors", dtype=torch.float16)
    assert not (tmp_path / "trunk.safetensors").exists()


def test_weights_without_a_digest_are_bound_to_a_run_by_their_content_and_read_as_they_are(
    tiny, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "trunk.safetensors"
    export_weights(trained / "states" / "step_000002.safetensors", path, dtype=torch.float32)
    save_file(load_file(path), path)
    state = fresh_state(tiny, 0, CPU)
    load_weights(state, path)
    assert torch.equal(state.student.backbone.norm.weight, load_file(path)["student.backbone.norm.weight"])
    assert caplog.messages == []
