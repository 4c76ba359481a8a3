from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from common.errors import BadInput
from evals.backbones.addresses import load
from evals.backbones.backbone import wrap
from evals.backbones.exported import export
from tests.evals.backbones.tiny import DINO, TINY, images, tiny


def test_an_exported_backbone_comes_back_bit_for_bit(tmp_path: Path):
    model = tiny()
    export(model, tmp_path / "step_1", timm_name=DINO, timm_args=TINY, mean=(0.5, 0.4, 0.3), extra={"step": 1})
    backbone = load(str(tmp_path / "step_1"))
    original = wrap(model, name="tiny", mean=(0.5, 0.4, 0.3))
    x = images(2, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(backbone(x), original(x), strict=True))
    assert backbone.extra == {"step": 1}
    assert backbone.mean == (0.5, 0.4, 0.3)
    assert [path.name for path in tmp_path.iterdir()] == ["step_1"]


def test_an_exported_backbone_loads_into_plain_timm(tmp_path: Path):
    model = tiny()
    export(model, tmp_path / "out", timm_name=DINO, timm_args=TINY)
    card = json.loads((tmp_path / "out" / "backbone.json").read_text())
    plain = timm.create_model(card["timm_name"], num_classes=0, **card["timm_args"])
    plain.load_state_dict(load_file(tmp_path / "out" / "weights.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), model.parameters(), strict=True))


def test_exporting_again_replaces_and_exporting_elsewhere_destroys_nothing(tmp_path: Path):
    export(tiny(), tmp_path / "out", timm_name=DINO, timm_args=TINY, extra={"step": 1})
    export(tiny(), tmp_path / "out", timm_name=DINO, timm_args=TINY, extra={"step": 2})
    assert load(str(tmp_path / "out")).extra == {"step": 2}
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(BadInput, match="no exported backbone"):
        export(tiny(), tmp_path / "thesis", timm_name=DINO, timm_args=TINY)
    with pytest.raises(TypeError):
        export(tiny(), tmp_path / "out", timm_name=DINO, timm_args=TINY, extra={"step": object()})
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"
    assert load(str(tmp_path / "out")).extra == {"step": 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "thesis"]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_replacement_that_fails_leaves_the_earlier_export(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    export(tiny(), tmp_path / "out", timm_name=DINO, timm_args=TINY, extra={"step": 1})
    renames: list[str] = []
    rename = Path.rename

    def failing_once(self: Path, target: Path) -> Path:
        renames.append(self.name)
        if len(renames) == failing:
            raise OSError("no space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing_once)
    with pytest.raises(OSError, match="no space"):
        export(tiny(), tmp_path / "out", timm_name=DINO, timm_args=TINY, extra={"step": 2})
    assert load(str(tmp_path / "out")).extra == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_renamed_missing_and_misshapen_keys_are_refused_by_name(tmp_path: Path):
    export(tiny(), tmp_path / "out", timm_name=DINO, timm_args=TINY)
    weights = tmp_path / "out" / "weights.safetensors"
    tensors = load_file(weights)
    save_file({("norm.wight" if k == "norm.weight" else k): x for k, x in tensors.items()}, weights)
    with pytest.raises(BadInput, match=r"missing: norm\.weight; 1 unknown: norm\.wight"):
        load(str(tmp_path / "out"))
    save_file({**tensors, "norm.bias": torch.zeros(3)}, weights)
    with pytest.raises(BadInput, match=r"of another shape: norm\.bias"):
        load(str(tmp_path / "out"))


def test_a_damaged_folder_is_a_clear_error(tmp_path: Path):
    with pytest.raises(BadInput, match=r"without backbone\.json and weights\.safetensors"):
        load(str(tmp_path))
    export(tiny(), tmp_path / "out", timm_name=DINO, timm_args=TINY)
    weights, card = tmp_path / "out" / "weights.safetensors", tmp_path / "out" / "backbone.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=r"unreadable .*weights"):
        load(str(tmp_path / "out"))
    told = json.loads(card.read_text())
    card.write_text(json.dumps({**told, "timm_args": {"embed_dimension": 32}}))
    with pytest.raises(BadInput, match=r"in .*backbone\.json that timm does not take \(.*embed_dimension"):
        load(str(tmp_path / "out"))
    card.write_text("{")
    with pytest.raises(BadInput, match=r"unreadable .*backbone\.json"):
        load(str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("std", [0.2, 0, 0.2], r"std is \[0\.2, 0, 0\.2\]: want numbers above 0 and up to 1"),
        ("std", [0.2, -0.2, 0.2], "want numbers above 0"),
        ("std", [58.4, 57.1, 57.4], "up to 1, as inputs lie in 0…1"),
        ("std", [0.2, math.nan, 0.2], "std is .*nan"),
        ("mean", [0.4, math.nan, 0.4], "mean is .*nan.*: want numbers from 0 to 1"),
        ("mean", [math.inf, 0.4, 0.4], "mean is .*inf"),
        ("mean", [123.7, 116.3, 103.5], "mean is .*123"),
        ("mean", [0.4, 0.4], "mean is .*: want three numbers, one a channel"),
        ("mean", [0.4, 0.4, 0.4, 0.4], "want three numbers"),
        ("mean", "123", "mean is '123': want three numbers"),
        ("mean", ["0.4", "0.4", "0.4"], "want three numbers"),
        ("mean", [True, True, True], "want three numbers"),
        ("mean", None, "mean is None"),
        ("timm_args", [1], r"timm_args is \[1\]"),
        ("timm_name", 3, "timm_name is 3"),
        ("extra", "step 3", "extra is 'step 3'"),
    ],
)
def test_a_card_that_is_no_card_is_refused_by_what_is_wrong_in_it(key: str, value: Any, said: str, tmp_path: Path):
    """A deviation of 0 or NaN went into the features before."""
    export(tiny(), tmp_path / "out", timm_name=DINO, timm_args=TINY)
    card = tmp_path / "out" / "backbone.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), key: value}))
    with pytest.raises(BadInput, match=rf"got an unreadable {card} \(.*{said}") as caught:
        load(str(tmp_path / "out"))
    assert "\n" not in str(caught.value)


def test_a_card_cannot_make_timm_open_a_file(tmp_path: Path):
    export(tiny(), tmp_path / "out", timm_name=DINO, timm_args=TINY)
    card = tmp_path / "out" / "backbone.json"
    told = json.loads(card.read_text())
    card.write_text(json.dumps({**told, "timm_args": {**TINY, "checkpoint_path": "other.pth", "pretrained": True}}))
    with pytest.raises(BadInput, match="got checkpoint_path, pretrained among the arguments of vit_small"):
        load(str(tmp_path / "out"))


def test_three_lines_of_the_page_load_an_export_into_plain_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    page = Path(__file__).parents[3] / "docs" / "backbones.md"
    program = next(b for b in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL) if "load_state_dict" in b)
    monkeypatch.chdir(tmp_path)
    model = tiny()
    export(model, Path("runs/mine/plain-s0/step_004000"), timm_name=DINO, timm_args=TINY)
    names: dict[str, Any] = {}
    exec(program, names)
    assert all(torch.equal(a, b) for a, b in zip(names["model"].parameters(), model.parameters(), strict=True))
    assert (
        len([line for line in program.splitlines() if line and not line.startswith(("import", "from", "folder"))]) == 3
    )
