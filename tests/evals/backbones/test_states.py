from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from common.errors import BadInput
from evals.backbones.addresses import load
from tests.evals.backbones.tiny import images


def test_a_training_state_is_the_backbone_that_training_exported(trained: Path):
    state, exported = load(str(trained / "states" / "step_000002.safetensors")), load(str(trained / "step_000002"))
    assert state.fingerprint == exported.fingerprint
    assert state.extra == exported.extra
    assert state.extra["network"] == "teacher"
    assert state.extra["arm"] == "plain"
    x = images(2, 3, 32, 48)
    assert all(torch.equal(a, b) for a, b in zip(state(x), exported(x), strict=True))


def test_the_student_of_a_training_state_is_had_by_name(trained: Path):
    path = trained / "states" / "step_000002.safetensors"
    student, teacher = load(f"{path}:student"), load(f"{path}:teacher")
    held = load_file(path)
    for backbone, name in ((student, "student"), (teacher, "teacher")):
        assert backbone.extra["network"] == name
        assert all(
            torch.equal(tensor, held[f"{name}.backbone.{key}"]) for key, tensor in backbone.model.state_dict().items()
        )
    assert student.fingerprint != teacher.fingerprint
    with pytest.raises(BadInput, match="want teacher or student after the last colon"):
        load(f"{path}:ema")


def test_a_training_state_that_cannot_serve_says_what_is_missing(trained: Path):
    path, card = trained / "states" / "step_000002.safetensors", trained / "identity.json"
    settings = json.loads(card.read_text())
    with pytest.raises(BadInput, match=r"where no file lies.*do take one of step_000002\.safetensors"):
        load(str(trained / "states" / "step_000003.safetensors"))
    card.write_text(json.dumps({**settings, "model": {**settings["model"], "args": {"embed_dim": 64, "num_heads": 2}}}))
    with pytest.raises(BadInput, match=r"missing: blocks\.10\.attn.*of another shape: .*proj\.bias 32 for 64"):
        load(str(path))
    card.write_text(json.dumps({**settings, "model": {**settings["model"], "args": {"embed_dimension": 32}}}))
    with pytest.raises(BadInput, match=r"in .*identity\.json that timm does not take \(.*embed_dimension"):
        load(str(path))
    card.write_text(json.dumps({**settings, "model": {"name": "vit_of_tomorrow", "args": {}}}))
    with pytest.raises(BadInput, match="want a model that timm knows"):
        load(str(path))
    card.write_text("{}")
    with pytest.raises(BadInput, match=r"unreadable .*identity\.json"):
        load(str(path))
    card.unlink()
    with pytest.raises(BadInput, match=r"without .*identity\.json"):
        load(str(path))
    card.write_text(json.dumps(settings))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadInput, match="no whole training state"):
        load(str(path))
