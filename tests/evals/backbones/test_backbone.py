from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.errors import BadInput
from evals.backbones.addresses import load
from evals.backbones.backbone import Backbone, wrap
from evals.backbones.exported import export
from evals.backbones.timm_models import create
from harness.train import train
from tests.evals.toys import silenced

DINO = "vit_small_patch16_dinov3_qkvb"
TINY = {"embed_dim": 48, "depth": 2, "num_heads": 2, "img_size": 64, "patch_size": 8}


def tiny(**more: Any) -> torch.nn.Module:
    return timm.create_model(DINO, num_classes=0, dynamic_img_size=True, **TINY, **more)


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def normalised(x: Tensor, backbone: Backbone) -> Tensor:
    mean, std = torch.tensor(backbone.mean), torch.tensor(backbone.std)
    return (x - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def test_pooled_is_the_cls_token_after_the_final_norm_as_timm_gives_it():
    model = tiny().eval()
    backbone = wrap(model, name="tiny")
    x = images(2, 3, 64, 96)
    with torch.no_grad():
        tokens: Tensor = model.forward_features(normalised(x, backbone))  # pyright: ignore
    features = backbone(x)
    assert torch.equal(features.pooled, tokens[:, 0])
    assert torch.equal(features.patches.flatten(2).mT, tokens[:, 5:])
    assert features.patches.shape == (2, 48, 8, 12)
    assert backbone.stride == 8


# A tiny model of each family: its arguments, its stride, where its global feature comes from, whether its size is free
SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 2}
STAGES = {"embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}
FAMILIES = {
    "vit_tiny_patch16_224": ({"depth": 1}, 16, "class", True),
    "deit_tiny_distilled_patch16_224": ({"depth": 1}, 16, "class", True),
    "deit3_small_patch16_224": (SMALL, 16, "class", True),
    "vit_base_patch16_clip_224": (SMALL, 16, "class", True),
    "vit_base_patch16_siglip_224": (SMALL, 16, "patches", True),
    "vit_small_patch14_reg4_dinov2": ({**SMALL, "img_size": 56}, 14, "class", True),
    "vit_tiny_patch16_dinov3_qkvb": (SMALL, 16, "class", True),
    "eva02_tiny_patch14_224": (SMALL, 14, "class", True),
    "beit_base_patch16_224": (SMALL, 16, "class", False),
    "vit_small_r26_s32_224": ({**SMALL, "depth": 1}, 32, "class", True),
    "naflexvit_base_patch16_gap": (SMALL, 16, "head", True),
    "swin_tiny_patch4_window7_224": (STAGES, 32, "head", True),
    "hiera_tiny_224": ({"embed_dim": 24, "stages": (1, 1, 1, 1)}, 32, "head", False),
    "test_convnext": ({}, 32, "head", True),
    "test_mambaout": ({}, 32, "norm", True),
    "test_resnet": ({}, 32, "head", True),
    "test_byobnet": ({}, 32, "head", True),
    "test_efficientnet": ({}, 32, "patches", True),
    "test_coatnet": ({}, 32, "head", False),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_timm_fills_the_contract(name: str):
    args, stride, source, free = FAMILIES[name]
    model = create(name, args).eval()
    backbone = wrap(model, name=name)
    fingerprint = backbone.fingerprint
    side = args.get("img_size", model.pretrained_cfg["input_size"][1])  # pyright: ignore
    for shape in ((side, side), *([(4 * stride, 6 * stride)] if free else [])):
        x = images(2, 3, *shape)
        features = backbone(x)
        with torch.no_grad():
            tokens, whole = model.forward_features(normalised(x, backbone)), model(normalised(x, backbone))  # pyright: ignore
        assert features.patches.shape == (2, features.pooled.shape[1], shape[0] // stride, shape[1] // stride)
        if source == "class":
            behind = getattr(model, "fc_norm", None)
            tokens = (
                behind(tokens) if isinstance(getattr(model, "norm", None), torch.nn.Identity) and behind else tokens
            )
            assert torch.equal(features.pooled, tokens[:, 0])
            assert torch.equal(features.patches.flatten(2).mT, tokens[:, -features.patches[0, 0].numel() :])
        elif source == "head":
            assert torch.allclose(features.pooled, whole, atol=1e-6)
        elif source == "patches":
            assert torch.allclose(features.pooled, features.patches.mean((2, 3)), atol=1e-6)
    assert backbone.stride == stride
    assert backbone.fingerprint == fingerprint


@pytest.mark.parametrize("name", ["test_convnext", "test_mambaout", "hiera_tiny_224"])
def test_a_norm_that_follows_the_pooling_goes_over_every_patch_too(name: str):
    args, stride, *_ = FAMILIES[name]
    features = wrap(create(name, args), name=name)(images(2, 3, 7 * stride, 7 * stride))
    assert features.patches.mean(1).abs().max() < 1e-5  # norms start without a shift
    assert features.pooled.mean(1).abs().max() < 1e-5


def test_a_mean_pooled_vit_gets_the_norm_that_timm_keeps_behind_its_pooling():
    args = {"class_token": False, "global_pool": "avg", "fc_norm": True, "depth": 1}
    model = create("vit_tiny_patch16_224", args).eval()
    backbone = wrap(model, name="pooled")
    features = backbone(images(1, 3, 32, 48))
    assert features.patches.mean(1).abs().max() < 1e-5
    with torch.no_grad():
        assert torch.allclose(features.pooled, model(normalised(images(1, 3, 32, 48), backbone)))


def test_models_without_a_map_or_with_one_of_another_grid_are_refused():
    with pytest.raises(BadInput, match="gives no feature map"):
        wrap(torch.nn.Linear(3, 3), name="linear")
    with pytest.raises(BadInput, match=r"got 96 x 100 images for random:test_resnet.*its map is 3 x 4"):
        load("random:test_resnet")(images(1, 3, 96, 100))


def test_a_random_start_is_fixed_and_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    first = load("random:test_vit")
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    second = load("random:test_vit")
    assert first.fingerprint == second.fingerprint


def test_a_random_start_is_the_one_that_timm_makes_from_seed_0():
    found = load("random:test_vit").model.state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = timm.create_model("test_vit", num_classes=0).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_forward_pass_alters_no_flag_weight_or_gradient():
    model = tiny(proj_drop_rate=0.5).train()
    model.blocks[0].eval()  # pyright: ignore
    flags = [module.training for module in model.modules()]
    backbone = wrap(model, name="tiny")
    before = backbone.fingerprint
    first, second = backbone(images(1, 3, 64, 64)), backbone(images(1, 3, 64, 64))
    backbone(images(1, 3, 32, 96))
    assert torch.equal(first.pooled, second.pooled)
    assert not first.pooled.requires_grad
    assert [module.training for module in model.modules()] == flags
    assert backbone.fingerprint == before
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_the_fingerprint_sees_weights_shape_free_settings_and_normalisation():
    model = tiny()
    prints = {wrap(model, name="a").fingerprint, wrap(model, name="a", mean=(0.5, 0.5, 0.5)).fingerprint}
    heads = timm.create_model(DINO, num_classes=0, dynamic_img_size=True, **{**TINY, "num_heads": 4})
    heads.load_state_dict(model.state_dict())
    prints.add(wrap(heads, name="a").fingerprint)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1
    prints.add(wrap(model, name="a").fingerprint)
    assert len(prints) == 4


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


def test_unknown_names_list_their_neighbours():
    with pytest.raises(BadInput, match="vit_small_patch16_dinov3"):
        load("timm:vit_small_patch16_dinov4")


def test_weights_that_cannot_be_had_are_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BadInput, match="got no published weights for test_vit2") as caught:
        load("timm:test_vit2")
    assert "\n" not in str(caught.value)


def test_an_offline_hub_is_one_line_of_whole_sentences(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Its client logged every try, and the middle of its second sentence ended ours."""

    def offline(*_: Any, **__: Any) -> torch.nn.Module:
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
        raise OSError(f"The file is not in the cache, {'as we have looked, ' * 5}at all. Please {'check, ' * 20}again.")

    monkeypatch.setattr("evals.backbones.addresses.create", offline)
    said = r"test_vit2 \(The file is not in the cache, [^.]*at all\.\): want"
    with silenced("huggingface_hub", caplog), pytest.raises(BadInput, match=said):
        load("timm:test_vit2")


def test_a_size_that_the_model_refuses_is_a_clear_error():
    with pytest.raises(BadInput, match="got 64 x 64 images"):
        wrap(
            timm.create_model("beit_base_patch16_224", num_classes=0, depth=1, embed_dim=48, num_heads=2), name="beit"
        )(images(1, 3, 64, 64))


@pytest.fixture
def trained(make_job: Any, pool: Any) -> Path:
    """The folder of a job after two real steps, with its training state and its exported backbone."""
    job = make_job({"steps": 2})
    train(job, pool, lambda *_: {}, device=torch.device("cpu"))
    return job.folder


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


@pytest.mark.parametrize("file", ["weights.safetensors", "weights.safetensors:student", "backbone.json"])
def test_a_file_of_an_export_is_sent_to_its_folder(file: str, trained: Path):
    said = rf"{re.escape(file)}, one file of an export: want the exported folder; do name {trained}/step_000002$"
    with pytest.raises(BadInput, match=said):
        load(f"{trained}/step_000002/{file}")


def test_an_address_of_no_kind_lists_the_kinds():
    with pytest.raises(BadInput, match=r"a training state or timm:…, random:…, dinov2:…, dinov3:…, hf:…"):
        load("dinov4:vits.pth")


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
