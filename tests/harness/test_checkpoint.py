"""The full training state on disk: all of it comes back bit for bit, or a clear line says what is wrong."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from common.errors import BadInput
from harness import store
from harness.beginning import fresh_state
from harness.checkpoint import (
    export_weights,
    latest_states,
    load_state,
    load_weights,
    refuse_unfit,
    save_state,
    verified_step,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def settings(tiny, change):
    switches = {"model.untie_local_cls_norm": True, "model.rope_precision": "bfloat16"}
    return change(tiny, {"gram.weight": 2.0, "gram.start_step": 1, **switches})


@pytest.fixture(scope="module")
def state(settings, take_steps):
    return take_steps(settings, 3)[0]


@pytest.fixture
def saved(state, tmp_path):
    path = tmp_path / "states" / "step_000003.safetensors"
    save_state(state, path, identity="mine")
    return path


def test_a_state_comes_back_bit_for_bit(settings, state, saved, weights, same):
    other = fresh_state(settings, 9, CPU)
    load_state(other, saved, identity="mine")
    assert other.step == 3
    assert same(weights(other), weights(state))
    assert all(not p.requires_grad for p in other.gram_teacher.parameters())
    assert not other.gram_teacher.training


def test_a_loaded_state_trains_on_as_the_saved_one_would(settings, state, saved, take_steps, weights, same):
    other = fresh_state(settings, 9, CPU)
    load_state(other, saved, identity="mine")
    expected, rows = take_steps(settings, 2, state=deepcopy(state))
    found, same_rows = take_steps(settings, 2, state=other)
    assert rows == same_rows
    assert same(weights(found), weights(expected))


def test_a_state_before_the_first_step_and_without_a_gram_teacher_comes_back(tiny, tmp_path, weights, same):
    start = fresh_state(tiny, 0, CPU)
    save_state(start, tmp_path / "s.safetensors", identity="x")
    other = fresh_state(tiny, 1, CPU)
    load_state(other, tmp_path / "s.safetensors", identity=None)
    assert other.gram_teacher is None
    assert other.step == 0
    assert same(weights(other), weights(start))


def test_a_state_is_on_the_disk_before_it_takes_its_place_and_its_name_after(state, saved, synced):
    save_state(state, saved, identity="mine")
    assert [path.name for path in synced] == [saved.name, saved.parent.name]
    assert synced[1] == saved.parent


def test_saving_leaves_nothing_partial_and_replaces_the_old_file(state, saved):
    save_state(state, saved, identity="mine")
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_failed_write_leaves_the_old_file(state, saved, monkeypatch, checksums):
    before = checksums(saved.parent)

    def full(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        save_state(fresh_state_like(state), saved, identity="mine")
    assert checksums(saved.parent)[saved.name] == before[saved.name]


def fresh_state_like(state):
    other = deepcopy(state)
    with torch.no_grad():
        other.student.mask_token.add_(1)
    return other


@pytest.mark.parametrize("kept", [0, 7, 200, 5000, -1])
def test_a_truncated_file_is_refused_by_name(settings, saved, kept, weights, same):
    content = saved.read_bytes()
    saved.write_bytes(content[:kept] if kept >= 0 else content[:-1])
    other = fresh_state(settings, 0, CPU)
    before = weights(other)
    with pytest.raises(BadInput, match=r"step_000003\.safetensors.*want a whole one") as error:
        load_state(other, saved, identity="mine")
    assert "\n" not in str(error.value)
    assert same(weights(other), before)
    assert other.step == 0


def test_the_header_tells_the_step_and_refuses_what_loading_would(saved):
    assert verified_step(saved, identity="mine") == verified_step(saved, identity=None) == 3
    with pytest.raises(BadInput, match="other settings"):
        verified_step(saved, identity="theirs")
    content = saved.read_bytes()
    for kept in (0, 200, len(content) - 1):
        saved.write_bytes(content[:kept])
        with pytest.raises(BadInput, match=r"step_000003\.safetensors cannot be read"):
            verified_step(saved, identity="mine")


def test_a_missing_file_is_refused(settings, tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        load_state(fresh_state(settings, 0, CPU), tmp_path / "none.safetensors", identity=None)


def test_a_state_of_other_settings_is_refused(settings, saved):
    with pytest.raises(BadInput, match="other settings"):
        load_state(fresh_state(settings, 0, CPU), saved, identity="theirs")


def test_another_shape_is_refused_naming_the_tensors(settings, change, saved):
    wider = change(settings, {"dino.head.prototypes": 20})
    with pytest.raises(BadInput, match=r"dino_head\.prototypes\.weight") as error:
        load_state(fresh_state(wider, 0, CPU), saved, identity=None)
    assert "\n" not in str(error.value)


def test_another_depth_is_refused_naming_the_tensors(settings, change, saved):
    for depth, named in ((3, r"missing: .*blocks\.2\."), (1, r"unknown: .*blocks\.1\.")):
        other = change(settings, {"model.args": {**settings.model.args, "depth": depth}})
        with pytest.raises(BadInput, match=named):
            load_state(fresh_state(other, 0, CPU), saved, identity=None)


def test_a_missing_tensor_is_refused_naming_it(settings, saved):
    tensors = load_file(saved)
    del tensors["teacher.ibot_head.mlp.0.weight"]
    save_file(tensors, saved, metadata={"step": "3", "identity": "mine", "anchor": "true"})
    with pytest.raises(BadInput, match=r"teacher\.ibot_head\.mlp\.0\.weight"):
        load_state(fresh_state(settings, 0, CPU), saved, identity="mine")


def test_a_file_without_our_header_is_refused(settings, tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "step_000001.safetensors")
    with pytest.raises(BadInput, match="cannot be read as a training state"):
        load_state(fresh_state(settings, 0, CPU), tmp_path / "step_000001.safetensors", identity="mine")


def test_the_newest_states_are_kept(tmp_path):
    for step in (5, 100, 999_999, 1_000_000):
        (tmp_path / f"step_{step:06d}.safetensors").touch()
    assert latest_states(tmp_path)[0].stem == "step_1000000"
    store.prune(tmp_path, newest=1_000_000)
    assert {path.stem for path in tmp_path.iterdir()} == {"step_999999", "step_1000000"}


def test_a_state_of_a_later_step_than_training_is_at_takes_no_place_of_the_newest(tmp_path):
    for step in (2, 4, 6, 8):
        (tmp_path / f"step_{step:06d}.safetensors").touch()
    store.prune(tmp_path, newest=6)
    assert {path.stem for path in tmp_path.iterdir()} == {"step_000004", "step_000006"}


def test_weights_alone_make_the_round_trip(settings, state, saved, tmp_path, weights, same):
    path = tmp_path / "trunk.safetensors"
    export_weights(saved, path, dtype=torch.float32)
    other = fresh_state(settings, 9, CPU)
    load_weights(other, path)
    wanted = {k: v for k, v in weights(state).items() if k.startswith(("student", "teacher"))}
    assert same(weights(other), wanted)
    assert other.step == 0
    assert other.gram_teacher is None


def test_of_a_teacher_alone_the_student_begins_as_it_does(settings, state, saved, tmp_path, same):
    path, both = tmp_path / "trunk.safetensors", tmp_path / "both.safetensors"
    export_weights(saved, path, dtype=torch.float32, teacher_alone=True)
    export_weights(saved, both, dtype=torch.float32)
    assert path.stat().st_size < 0.6 * both.stat().st_size
    refuse_unfit(path, settings)
    other = fresh_state(settings, 9, CPU)
    load_weights(other, path)
    assert same(other.student.state_dict(), state.teacher.state_dict())
    assert same(other.teacher.state_dict(), state.teacher.state_dict())
    assert not same(state.student.state_dict(), state.teacher.state_dict())


def test_weights_in_half_the_bytes_come_back_rounded_in_float32(settings, state, saved, tmp_path):
    path, exact = tmp_path / "trunk.safetensors", tmp_path / "exact.safetensors"
    export_weights(saved, path, dtype=torch.bfloat16)
    export_weights(saved, exact, dtype=torch.float32)
    assert path.stat().st_size < 0.6 * exact.stat().st_size
    other = fresh_state(settings, 9, CPU)
    load_weights(other, path)
    for mine, theirs in zip(other.student.parameters(), state.student.parameters(), strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, theirs, rtol=2**-8, atol=1e-8)


def test_states_and_weights_without_a_local_norm_start_networks_with_one_and_the_other_way(
    settings, change, take_steps, tmp_path
):
    tied, untied = (change(settings, {"model.untie_local_cls_norm": value}) for value in (False, True))
    for first, then in ((tied, untied), (untied, tied)):
        state, path = take_steps(first, 2)[0], tmp_path / "step_000002.safetensors"
        save_state(state, path, identity="parent")
        found = fresh_state(then, 9, CPU)
        load_state(found, path, identity="parent")
        for network in (found.student, found.teacher) if then is untied else ():
            assert torch.equal(network.local_cls_norm.weight, network.backbone.norm.weight)
            assert not torch.equal(
                network.local_cls_norm.weight, torch.ones(()).expand_as(network.backbone.norm.weight)
            )
        assert torch.equal(found.teacher.mask_token, state.teacher.mask_token)
        export_weights(path, tmp_path / "trunk.safetensors", dtype=torch.float32)
        weights_alone = fresh_state(then, 9, CPU)
        load_weights(weights_alone, tmp_path / "trunk.safetensors")
        assert torch.equal(weights_alone.student.mask_token, state.student.mask_token)
        take_steps(then, 1, state=found)


def test_weights_that_do_not_fit_or_are_not_there_are_refused(settings, change, saved, tmp_path):
    path = tmp_path / "trunk.safetensors"
    with pytest.raises(BadInput, match="no such file"):
        load_weights(fresh_state(settings, 0, CPU), path)
    export_weights(saved, path, dtype=torch.float32)
    narrower = change(settings, {"ibot.head.hidden": 8})
    with pytest.raises(BadInput, match=r"ibot_head\.mlp"):
        load_weights(fresh_state(narrower, 0, CPU), path)
    refuse_unfit(path, settings)
    with pytest.raises(
        BadInput, match=r"^got trunk\.checkpoint=.*ibot_head\.mlp.*: want model\.name, .* and ibot\.head as"
    ):
        refuse_unfit(path, narrower)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadInput, match=r"trunk\.safetensors cannot be read"):
        load_weights(fresh_state(settings, 0, CPU), path)
