"""Files that want to run code, to write elsewhere or to fill the memory: each is one line, and none of it happens."""

from __future__ import annotations

import builtins
import json
import os
import pickle
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import BadInput
from evals.backbones.addresses import load
from evals.backbones.exported import export
from harness import gram_teacher
from harness.beginning import fresh_state
from harness.checkpoint import load_weights
from harness.config import load as load_experiment
from harness.losses.gram import Gram
from tests.evals.backbones.tiny import DINO, TINY, tiny

CANARY = "ran"


class Call:
    """Unpickling it calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.called = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.called


def system(place: Path) -> Call:
    return Call(os.system, f"touch {place / CANARY}")


def evaluation(place: Path) -> Call:
    return Call(builtins.eval, f"open({str(place / CANARY)!r}, 'w')")


def opening(place: Path) -> Call:
    return Call(builtins.open, str(place / CANARY), "w")


# --- files that are no safetensors: what they hold, by kind


def archive(trap: Callable[[Path], Call]) -> Callable[[Path, Path], None]:
    return lambda path, place: torch.save({"model": {"a": trap(place)}}, path)


def legacy(trap: Callable[[Path], Call]) -> Callable[[Path, Path], None]:
    return lambda path, place: torch.save(trap(place), path, _use_new_zipfile_serialization=False)


def bare(trap: Callable[[Path], Call]) -> Callable[[Path, Path], None]:
    return lambda path, place: path.write_bytes(pickle.dumps({"a": trap(place)}, protocol=2)) and None


def traversal(path: Path, place: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name in (f"../../{CANARY}", str(place / CANARY), f"archive/../../{CANARY}", "archive/version"):
            file.writestr(name, "3")
        file.writestr("archive/data.pkl", pickle.dumps({"a": 1}, protocol=2))


def traversal_in_torchs_own(path: Path, place: Path) -> None:
    torch.save({"a": torch.zeros(3)}, path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(f"../{CANARY}", "x")
        file.writestr(str(place / CANARY), "x")


def script(path: Path, place: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.jit.script(torch.nn.Linear(2, 2)).save(path)


def arrays(path: Path, place: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([system(place)], dtype=object), allow_pickle=True)


def array_archive(path: Path, place: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.array([system(place)], dtype=object))


def pickled_array(path: Path, place: Path) -> None:
    torch.save({"a": np.array([system(place)], dtype=object)}, path)


def tagged(path: Path, place: Path) -> None:
    path.write_text(f"!!python/object/apply:os.system ['touch {place / CANARY}']\n")


def bomb(path: Path, place: Path) -> None:
    path.write_text("[" * 200_000)


PICKLES: dict[str, Callable[[Path, Path], None]] = {
    **{
        f"{kind.__name__} of {trap.__name__}": kind(trap)
        for kind in (archive, legacy, bare)
        for trap in (system, evaluation, opening)
    },
    "zip that climbs": traversal,
    "torch archive that climbs": traversal_in_torchs_own,
    "TorchScript": script,
    "array of objects": arrays,
    "arrays of objects": array_archive,
    "pickled array": pickled_array,
    "YAML tag": tagged,
    "deep JSON": bomb,
}


# --- safetensors whose header lies: bytes by kind


def safetensors(header: Any, data: bytes = b"\0" * 8, *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(*offsets: int, shape: Any = (1,), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


HEADERS = {
    "length of 10^12": safetensors({"a": tensor(0, 4)}, length=10**12),
    "length of 2^64": safetensors({"a": tensor(0, 4)}, length=2**64 - 1),
    "length too short": safetensors({"a": tensor(0, 4)}, length=3),
    "length of 0": safetensors({}, length=0),
    "overlap": safetensors({"a": tensor(0, 4), "b": tensor(2, 6)}, b"\0" * 6),
    "one place twice": safetensors({"a": tensor(0, 4), "b": tensor(0, 4)}, b"\0" * 4),
    "hole": safetensors({"a": tensor(0, 4), "b": tensor(8, 12)}, b"\0" * 12),
    "beyond the end": safetensors({"a": tensor(0, 4_000_000, shape=(1_000_000,))}),
    "backwards": safetensors({"a": tensor(4, 0)}),
    "negative shape": safetensors({"a": tensor(0, 4, shape=(-1,))}, b"\0" * 4),
    "NaN for a shape": safetensors(b'{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 4]}}', b"\0" * 4),
    "shape beyond 64 bits": safetensors({"a": tensor(0, 4, shape=(2**62, 4))}, b"\0" * 4),
    "unknown type": safetensors({"a": tensor(0, 4, dtype="OBJECT")}, b"\0" * 4),
    "metadata of numbers": safetensors({"__metadata__": {"step": 3}}, b""),
    "deep": safetensors(b"[" * 200_000, b""),
    "no UTF-8": safetensors(b'{"\xff": {}}', b""),
    "nothing": b"",
}


# --- doors


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[Callable[[], Any]], str]:
    """The one line with which an attempt ends; the canary is nowhere."""

    def of(attempt: Callable[[], Any]) -> str:
        with pytest.raises(BadInput) as caught:
            attempt()
        said = str(caught.value)
        assert "\n" not in said
        found = [folder / CANARY for folder in (tmp_path, *tmp_path.parents[:2], Path.cwd(), Path.cwd().parent)]
        assert not any(path.exists() for path in found)
        return said

    return of


def through(door: str, file: Path, experiment: Any) -> Callable[[], Any]:
    """An attempt to read a file's weights by one of the ways that lead to them."""
    place = file.parent
    if door == "official":
        return lambda: load(f"dinov2:{file}")
    if door == "official network":
        return lambda: load(f"dinov3:{file}:teacher")
    if door == "trunk.checkpoint":
        return lambda: load_weights(fresh_state(experiment, 0, torch.device("cpu")), file)
    if door == "state":
        states = place / "plain-s0" / "states"
        states.mkdir(parents=True)
        (states.parent / "identity.json").write_text(json.dumps({"seed": 0, "model": {"name": DINO, "args": TINY}}))
        shutil.copy(file, states / "step_000001.safetensors")
        return lambda: load(str(states / "step_000001.safetensors"))
    export(tiny(), place / "out", timm_name=DINO, timm_args=TINY)
    shutil.copy(file, place / "out" / "weights.safetensors")
    if door == "export":
        return lambda: load(str(place / "out"))
    like: Any = tiny()
    gram = Gram(weight=1.0, teacher="checkpoint", checkpoint=str(place / "out"))
    return lambda: gram_teacher.read(place / "out", gram, like=like, device=torch.device("cpu"))


DOORS = ("official", "official network", "trunk.checkpoint", "state", "export", "gram.checkpoint")


@pytest.mark.parametrize("ending", ["pth", "bin", "pt"])
@pytest.mark.parametrize("kind", PICKLES)
def test_a_file_of_pickle_or_of_something_else_runs_nothing(
    kind: str, ending: str, refused: Any, experiment: Any, tmp_path: Path, recwarn: pytest.WarningsRecorder
):
    file = tmp_path / f"weights.{ending}"
    PICKLES[kind](file, tmp_path)
    for door in DOORS[:3]:
        said = refused(through(door, file, experiment))
        assert str(file) in said
        if door.startswith("official") and " of " in kind and "array" not in kind:
            assert "cannot be read without running code from it" in said
    assert [str(w.message) for w in recwarn if "TorchScript" in str(w.message)] == []


@pytest.mark.parametrize("door", ["state", "export", "gram.checkpoint"])
@pytest.mark.parametrize("kind", PICKLES)
def test_such_a_file_in_the_place_of_safetensors_runs_nothing(
    kind: str, door: str, refused: Any, experiment: Any, tmp_path: Path
):
    PICKLES[kind](tmp_path / "weights.pth", tmp_path)
    assert ".safetensors" in refused(through(door, tmp_path / "weights.pth", experiment))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_that_lies_is_one_line(kind: str, door: str, refused: Any, experiment: Any, tmp_path: Path):
    (tmp_path / "weights.safetensors").write_bytes(HEADERS[kind])
    assert ".safetensors" in refused(through(door, tmp_path / "weights.safetensors", experiment))


@pytest.fixture(scope="session")
def experiment(tiny: Any) -> Any:
    """The tiny experiment, under a name that this file's `tiny` model leaves free."""
    return tiny


# --- what stands beside weights


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"timm_args":' * 200_000,
        "[" * 200_000 + "]" * 200_000,
        "!!python/object/apply:os.system ['touch ran']",
        "NaN",
        '{"format": 1, "timm_name": "os.system", "timm_args": {}, "mean": [0, 0, 0], "std": [1, 1, 1]}',
    ],
    ids=["arrays", "objects", "closed", "tag", "number", "name"],
)
def test_a_card_that_is_a_bomb_is_one_line(text: str, refused: Any, tmp_path: Path):
    export(tiny(), tmp_path / "out", timm_name=DINO, timm_args=TINY)
    (tmp_path / "out" / "backbone.json").write_text(text)
    assert f"{tmp_path}/out/backbone.json" in refused(lambda: load(str(tmp_path / "out")))


@pytest.mark.parametrize(("key", "value"), [("depth", 10**9), ("embed_dim", 10**12), ("img_size", "/etc/passwd")])
def test_a_card_that_asks_for_a_network_without_end_is_one_line(key: str, value: Any, refused: Any, tmp_path: Path):
    export(tiny(), tmp_path / "out", timm_name=DINO, timm_args={**TINY, key: value})
    assert f"{tmp_path}/out/backbone.json" in refused(lambda: load(str(tmp_path / "out")))


@pytest.mark.parametrize("key", ["checkpoint_path", "pretrained_cfg", "cache_dir"])
def test_a_card_opens_no_file_of_its_choice(key: str, refused: Any, tmp_path: Path):
    archive(system)(tmp_path / "evil.pth", tmp_path)
    value: Any = {"file": str(tmp_path / "evil.pth")} if key == "pretrained_cfg" else str(tmp_path / "evil.pth")
    export(tiny(), tmp_path / "out", timm_name=DINO, timm_args={**TINY, key: value})
    assert f"got {key} among the arguments" in refused(lambda: load(str(tmp_path / "out")))


@pytest.mark.parametrize(
    "text",
    ["!!python/object/apply:os.system ['touch ran']", "steps: !!python/name:os.system", "a: !!python/object:x"],
)
def test_a_tag_in_an_experiment_calls_nothing(text: str, refused: Any, tmp_path: Path, monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.yaml").write_text(text)
    assert "evil.yaml" in refused(lambda: load_experiment(tmp_path / "evil.yaml"))


# --- folders of Hugging Face


@pytest.fixture
def hub_folder(tmp_path: Path) -> Callable[..., Path]:
    """A tiny ViT as `save_pretrained` leaves it, with other entries in its config.json."""
    transformers: Any = pytest.importorskip("transformers")

    def make(**entries: Any) -> Path:
        small = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}
        transformers.ViTModel(transformers.ViTConfig(**small)).save_pretrained(tmp_path / "vit")
        config = tmp_path / "vit" / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), **entries}))
        return tmp_path / "vit"

    return make


def with_code(folder: Path, place: Path) -> None:
    (folder / "mine.py").write_text(f"open({str(place / CANARY)!r}, 'w')\n")


MINE = {"AutoConfig": "mine.Config", "AutoModel": "mine.Model", "AutoImageProcessor": "mine.Processor"}


def test_code_of_a_folder_does_not_run_for_a_type_that_is_not_known(hub_folder: Any, refused: Any, tmp_path: Path):
    folder = hub_folder(model_type="mine", auto_map=MINE)
    with_code(folder, tmp_path)
    assert f"got no model at hf:{folder}" in refused(lambda: load(f"hf:{folder}"))


def test_code_of_a_folder_is_passed_over_for_a_type_that_is_known(hub_folder: Any, tmp_path: Path):
    folder = hub_folder(auto_map=MINE)
    with_code(folder, tmp_path)
    assert load(f"hf:{folder}").stride == 16
    assert not (tmp_path / CANARY).exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_attention_that_is_code_of_the_hub_is_refused(key: str, hub_folder: Any, refused: Any):
    folder = hub_folder(**{key: "someone/kernel"})
    assert "attention is someone/kernel, code of the hub" in refused(lambda: load(f"hf:{folder}"))


@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_pickles_in_a_folder_run_nothing(kind: str, name: str, hub_folder: Any, refused: Any, tmp_path: Path):
    folder = hub_folder()
    (folder / "model.safetensors").unlink()
    PICKLES[kind](folder / name, tmp_path)
    assert str(folder) in refused(lambda: load(f"hf:{folder}"))


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_that_lies_in_a_folder_is_one_line(kind: str, hub_folder: Any, refused: Any):
    folder = hub_folder()
    (folder / "model.safetensors").write_bytes(HEADERS[kind])
    assert str(folder) in refused(lambda: load(f"hf:{folder}"))


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors.index.json"])
@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "NaN", "\x00"], ids=["[", "{", "NaN", "NUL"])
def test_json_of_a_folder_that_is_a_bomb_is_one_line(name: str, text: str, hub_folder: Any, refused: Any):
    folder = hub_folder()
    if "index" in name:
        (folder / "model.safetensors").unlink()
    (folder / name).write_text(text)
    assert str(folder) in refused(lambda: load(f"hf:{folder}"))


@pytest.mark.parametrize(("key", "value"), [("num_hidden_layers", 10**9), ("hidden_size", 10**12)])
def test_a_folder_that_asks_for_a_network_without_end_is_one_line(key: str, value: int, hub_folder: Any, refused: Any):
    folder = hub_folder(**{key: value})
    assert str(folder) in refused(lambda: load(f"hf:{folder}"))
