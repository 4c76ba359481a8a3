"""States of which each of several processes holds a part: cut, written as folders, read by any number, never half."""

import json
import os
import shutil
import signal
from copy import deepcopy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.multiprocessing.spawn import ProcessExitedException

from common.disk import checksum
from common.errors import BadInput
from evals.backbones import states
from evals.backbones.digest import sealed
from evals.backbones.weights import open_safetensors
from harness import cut_state, export_trunk, store
from harness.beginning import fresh_state
from harness.checkpoint import (
    Damaged,
    export_weights,
    latest_states,
    load_state,
    save_state,
    tensors_of,
    verified_step,
)
from harness.schedules import at
from harness.shards import gathered
from harness.step import NonFinite, is_finite, pass_over, train_step

CPU = torch.device("cpu")
NAME, LATER = "step_000003.safetensors", "step_000004.safetensors"


@pytest.fixture(scope="module")
def settings(tiny, change):
    switches = {"model.untie_local_cls_norm": True, "runtime.shard": True}
    return change(tiny, {"gram.weight": 2.0, "gram.start_step": 1, "gram.update_every": 2, **switches})


@pytest.fixture(scope="module")
def whole(settings, take_steps, tmp_path_factory):
    """A state after three steps, and the file that one process has written."""
    path = tmp_path_factory.mktemp("one") / NAME
    state = take_steps(settings, 3)[0]
    save_state(state, path, identity="mine")
    return state, path


def parts_come_and_go(ranks, whole, file, settings, batch, folder):
    """In three processes: all of a state is in its parts, and a written one goes on as the one that wrote it."""
    first = whole if ranks.first else None
    state = cut_state.cut(first, settings, CPU, ranks)
    most = max(
        tensor.to_local().numel() for tensor in state.student.state_dict().values() if hasattr(tensor, "to_local")
    )
    assert most <= max(tensor.numel() for tensor in whole.student.state_dict().values()) / ranks.world + 64
    found, wanted = gathered(tensors_of(state), ranks), load_file(file)
    if ranks.first:
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], tensor) for key, tensor in wanted.items())
    assert dict(whole.student.named_buffers()).keys() == dict(state.student.named_buffers()).keys()
    for mine, its in zip(state.student.buffers(), whole.student.buffers(), strict=True):
        assert torch.equal(mine, its)  # those that no state holds among them
    cut_state.save(state, folder / NAME, identity="mine", ranks=ranks)
    other = cut_state.load(folder / NAME, settings, CPU, ranks, identity="mine", anchor=None)
    assert other.step == other.shared == 3
    part = batch.parts(ranks.world)[ranks.rank]
    for one in (state, other):
        train_step(one, part, at(settings, 3, stop=9), settings, seed=0, ranks=ranks)
    for mine, its in zip(tensors_of(state).items(), tensors_of(other).items(), strict=True):
        assert mine[0] == its[0]
        assert torch.equal(*(getattr(one, "_local_tensor", one) for one in (mine[1], its[1])))
    refuse_not_finite(other, part, settings, ranks)
    cut_state.save(state, folder / LATER, identity="mine", ranks=ranks)


def refuse_not_finite(state, part, settings, ranks):
    """A weight of one process's part that is not finite stops the step in all; all of them may pass it over."""
    assert is_finite(state.student, ranks)
    if ranks.rank == 1:
        with torch.no_grad():
            state.student.dino_head.mlp[0].weight.to_local()[0, 0] = float("nan")
    with pytest.raises(NonFinite) as error:
        train_step(state, part, at(settings, 4, stop=9), settings, seed=0, ranks=ranks)
    assert not error.value.sound
    pass_over(state, at(settings, 4, stop=9), settings)
    assert state.step == state.shared == 5


@pytest.fixture(scope="module")
def written(settings, whole, make_batches, change, in_processes, tmp_path_factory):
    """A folder with states of steps 3 and 4, which three processes have written."""
    folder = tmp_path_factory.mktemp("three")
    batch = make_batches(change(settings, {"data.batch_size": 6}))[3]
    in_processes(parts_come_and_go, 3, *whole, change(settings, {"data.batch_size": 6}), batch, folder)
    return folder


@pytest.fixture
def copied(written, tmp_path):
    """A copy of the folder's states, to be damaged."""
    for name in (NAME, LATER):
        shutil.copytree(written / name, tmp_path / name)
    return tmp_path


def test_one_process_reads_the_folder_as_it_reads_the_file(settings, whole, copied, weights, same):
    file = whole[1]
    found, wanted = fresh_state(settings, 9, CPU), fresh_state(settings, 9, CPU)
    load_state(found, copied / NAME, identity="mine")
    load_state(wanted, file, identity="mine")
    assert found.step == verified_step(copied / NAME, identity="mine") == 3
    assert same(weights(found), weights(wanted))
    assert same(states.read(copied / NAME).tensors, load_file(file))
    for source, name in ((copied / NAME, "from-folder"), (file, "from-file")):
        export_weights(source, copied / f"{name}.safetensors", dtype=torch.float16)
    assert same(*(load_file(copied / f"from-{name}.safetensors") for name in ("folder", "file")))
    shutil.copytree(copied / NAME, copied / "states" / NAME)
    assert export_trunk.main([str(copied), str(copied / "one.safetensors"), "--whole"]) == 0
    merged, wanted = (states.read(path) for path in (copied / "one.safetensors", file))
    assert merged.header == wanted.header
    assert same(merged.tensors, wanted.tensors)
    with pytest.raises(BadInput, match="other settings"):
        verified_step(copied / NAME, identity="theirs")


def test_nothing_is_pickled_and_the_files_are_safetensors_with_a_part_each(copied):
    files = {path.name for path in (copied / NAME).iterdir()}
    assert files == {"header.json", *(f"shard-0000{number}-model-00001-of-00001.safetensors" for number in (1, 2, 3))}
    sizes = [path.stat().st_size for path in (copied / NAME).glob("shard-*")]
    assert max(sizes) < 1.5 * min(sizes)


def read_by_two(ranks, settings, folder, file):
    state = cut_state.load(folder / NAME, settings, CPU, ranks, identity="mine", anchor=None)
    found = gathered(tensors_of(state), ranks)
    assert not ranks.first or all(torch.equal(found[key], tensor) for key, tensor in load_file(file).items())
    if ranks.first:
        flip(folder / LATER / "shard-00003-model-00001-of-00001.safetensors", -5)
    for change, named in (
        (None, "shard-00003"),
        (lambda folder: rewritten(folder, lambda header: header.update(seen="[1]")), "seen"),
        (lambda folder: rewritten(folder, lambda header: header.update(step=4)), "step 4"),
        (with_another_type, "no student.mask_token of floating point"),
    ):
        if ranks.first and change is not None:
            shutil.copytree(folder / NAME, folder / LATER, dirs_exist_ok=True)
            rewritten(folder / LATER, lambda header: header.update(step="4"))
            change(folder / LATER)
        ranks.wait()
        with pytest.raises(Damaged, match=rf"step_000004\.safetensors cannot be read .*{named}"):
            cut_state.load(folder / LATER, settings, CPU, ranks, identity="mine", anchor=None)
        ranks.wait()


def test_two_processes_read_what_three_have_written_and_both_refuse_what_one_finds_damaged(
    settings, whole, copied, in_processes
):
    in_processes(read_by_two, 2, settings, copied, whole[1])


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def shard(folder):
    return folder / "shard-00002-model-00001-of-00001.safetensors"


def rewritten(folder, change):
    """Change what the header says, and seal it anew."""
    header = json.loads((folder / "header.json").read_text())
    change(header)
    del header["digest"]
    (folder / "header.json").write_text(json.dumps(sealed(header, {})))


def with_gap(folder):
    """Take rows out of a part, and name the file's new SHA-256."""
    about, tensors = open_safetensors(shard(folder))
    tensors["student.dino_head.mlp.0.weight"] = tensors["student.dino_head.mlp.0.weight"][:1].clone()
    save_file(tensors, shard(folder), metadata=about)
    rewritten(folder, lambda header: header["files"].update({shard(folder).name: checksum(shard(folder))}))


def with_another_type(folder):
    """Let all parts of a tensor be whole numbers, and name the files' new SHA-256."""
    for path in folder.glob("shard-*"):
        about, tensors = open_safetensors(path)
        save_file({name: one.int() if "student.mask" in name else one for name, one in tensors.items()}, path, about)
        rewritten(folder, lambda header, path=path: header["files"].update({path.name: checksum(path)}))


DAMAGE = {
    "a flipped bit": (lambda one: flip(shard(one), -9), "shard-00002-model-00001-of-00001.safetensors"),
    "a cut file": (lambda one: os.truncate(shard(one), 2000), "shard-00002-model-00001-of-00001.safetensors"),
    "an empty file": (lambda one: os.truncate(shard(one), 0), "shard-00002-model-00001-of-00001.safetensors"),
    "a missing file": (lambda one: shard(one).unlink(), "shard-00002-model-00001-of-00001.safetensors"),
    "a file too many": (lambda one: shutil.copy(shard(one), one / "more.safetensors"), "more.safetensors"),
    "no header": (lambda one: (one / "header.json").unlink(), "header.json"),
    "a header that was changed": (lambda one: flip(one / "header.json", 20), "header.json"),
    "a header without a step": (lambda one: rewritten(one, lambda header: header.pop("step")), "no step"),
    "another step": (lambda one: rewritten(one, lambda header: header.update(step="7")), "step 7"),
    "parts that do not make up a tensor": (with_gap, "do not fit together"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_folder_is_named_and_the_one_before_is_whole(settings, copied, kind):
    damage, named = DAMAGE[kind]
    assert verified_step(copied / LATER, identity="mine") == 4
    damage(copied / LATER)
    with pytest.raises(Damaged, match=r"step_000004\.safetensors cannot be read as a training state") as error:
        verified_step(copied / LATER, identity="mine")
    assert named in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(Damaged):
        load_state(fresh_state(settings, 0, CPU), copied / LATER, identity="mine")
    assert [path.name for path in latest_states(copied)] == [LATER, NAME]
    assert verified_step(copied / NAME, identity="mine") == 3


def test_files_and_folders_take_each_other_s_place_and_are_let_go_alike(whole, copied):
    state = deepcopy(whole[0])
    save_state(state, copied / NAME, identity="mine")
    assert (copied / NAME).is_file()
    for step in (5, 6):
        state.step = step
        save_state(state, copied / f"step_00000{step}.safetensors", identity="mine")
    store.prune(copied, newest=6)
    assert sorted(path.name for path in copied.iterdir()) == ["step_000005.safetensors", "step_000006.safetensors"]


def killed(ranks, whole, settings, folder, who, moment):
    """Write a state over another one, and be killed at the n-th wait for the disk."""
    state = cut_state.cut(whole if ranks.first else None, settings, CPU, ranks)
    real, waits = os.fsync, []

    def fsync(descriptor):
        waits.append(descriptor)
        if ranks.rank == who and len(waits) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        real(descriptor)

    os.fsync = fsync
    state.step = 4
    cut_state.save(state, folder / LATER, identity="mine", ranks=ranks)


@pytest.mark.parametrize(("who", "moment"), [(1, 1), (0, 3)], ids=["a part is written", "all parts are"])
def test_a_kill_while_a_folder_is_written_leaves_those_that_are_there(
    settings, whole, copied, checksums, in_processes, who, moment
):
    before = checksums(copied)
    with pytest.raises(ProcessExitedException, match="SIGKILL"):
        in_processes(killed, 2, whole[0], settings, copied, who, moment)
    if who == 0:  # else the first one, which lives, removes it
        assert any(path.name.startswith(".") for path in copied.iterdir())
    assert {name: one for name, one in checksums(copied).items() if not name.startswith(".")} == before
    assert verified_step(copied / LATER, identity="mine") == 4
