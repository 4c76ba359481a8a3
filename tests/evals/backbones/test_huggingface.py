from __future__ import annotations

import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub.utils import are_progress_bars_disabled
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.errors import BadInput
from evals.backbones.addresses import load
from evals.backbones.backbone import Backbone, wrap
from tests.evals.toys import silenced

transformers: Any = pytest.importorskip("transformers")

VIT = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}
SQUARE = {**VIT, "image_size": 64, "patch_size": 16}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}

# Settings of a tiny model, its stride, its prefix tokens
FAMILIES = {
    "vit": (transformers.ViTConfig(**SQUARE), 16, 1),
    "deit": (transformers.DeiTConfig(**SQUARE), 16, 2),
    "dinov2": (transformers.Dinov2Config(**{**SQUARE, "patch_size": 14, "image_size": 56}), 14, 1),
    "dinov2-registers": (transformers.Dinov2WithRegistersConfig(**SQUARE), 16, 5),
    "dinov3": (transformers.DINOv3ViTConfig(**SQUARE, num_register_tokens=4), 16, 5),
    "dinov3-convnext": (transformers.DINOv3ConvNextConfig(**STAGES), 32, 1),
    "beit": (transformers.BeitConfig(**SQUARE, use_mean_pooling=True), 16, 1),
    "clip": (transformers.CLIPVisionConfig(**SQUARE), 16, 1),
    "siglip": (transformers.SiglipVisionConfig(**SQUARE), 16, 0),
    "swin": (
        transformers.SwinConfig(embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4, image_size=64),
        8,
        0,
    ),
    "convnext": (transformers.ConvNextConfig(**STAGES), 32, 0),
    "resnet": (transformers.ResNetConfig(embedding_size=8, **STAGES), 32, 0),
}


def saved(config: Any, folder: Path, kind: Any = None) -> Any:
    """A model with random weights, none of them at the zeros and ones of a fresh one, saved to `folder`."""
    torch.manual_seed(0)
    model = (kind or transformers.AutoModel.from_config(config).__class__)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def in_cache(cache: Path) -> Path:
    """The folder of a model that the hub's client finds as someone/vit in its cache."""
    repository, revision = cache / "models--someone--vit", "0" * 40
    saved(FAMILIES["vit"][0], repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    return repository / "snapshots" / revision


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def assert_same(one: Backbone, other: Backbone, x: Tensor) -> None:
    for a, b in zip(one(x), other(x), strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() < 1e-5


def qkv(state: dict[str, Tensor], stem: str, leaf: str) -> Tensor:
    return torch.cat([state[f"{stem}.{part}_proj.{leaf}"] for part in "qkv"])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_fills_the_contract_and_keeps_its_fingerprint(family: str, tmp_path: Path):
    config, stride, prefix = FAMILIES[family]
    model = saved(config, tmp_path / "one")
    model.save_pretrained(tmp_path / "other")
    backbone, other = load(f"hf:{tmp_path / 'one'}"), load(f"hf:{tmp_path / 'other'}")
    before = backbone.fingerprint
    x = images(2, 3, 4 * stride, 4 * stride)
    features = backbone(x)
    assert (backbone.stride, backbone.reader.prefix) == (stride, prefix)  # pyright: ignore
    assert features.patches.shape == (2, features.pooled.shape[1], 4, 4)
    assert features.pooled.isfinite().all()
    assert features.pooled.std() > 0.1
    assert backbone(images(1, 3, 8 * stride, 8 * stride)).patches.shape[2:] == (8, 8)
    assert torch.equal(backbone(x).patches, features.patches)
    assert backbone.fingerprint == before == other.fingerprint
    assert backbone.extra == {}


def test_dinov2_gives_the_features_of_the_same_weights_in_timm(tmp_path: Path):
    state = saved(FAMILIES["dinov2"][0], tmp_path).state_dict()
    args = {"img_size": 56, "embed_dim": 48, "depth": 2, "num_heads": 2, "mlp_ratio": 4}
    model = timm.create_model("vit_small_patch14_dinov2", num_classes=0, **args)
    own = {"cls_token": state["embeddings.cls_token"], "pos_embed": state["embeddings.position_embeddings"]}
    for leaf in ("weight", "bias"):
        own[f"patch_embed.proj.{leaf}"] = state[f"embeddings.patch_embeddings.projection.{leaf}"]
        own[f"norm.{leaf}"] = state[f"layernorm.{leaf}"]
        for n in range(2):
            theirs, ours = f"encoder.layer.{n}", f"blocks.{n}"
            own[f"{ours}.attn.qkv.{leaf}"] = qkv(state, f"{theirs}.attention", leaf)
            own[f"{ours}.attn.proj.{leaf}"] = state[f"{theirs}.attention.o_proj.{leaf}"]
            for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                own[f"{ours}.{part}.{leaf}"] = state[f"{theirs}.{part}.{leaf}"]
            for k in (1, 2):
                own[f"{ours}.ls{k}.gamma"] = state[f"{theirs}.layer_scale{k}.lambda1"]
    model.load_state_dict(own)
    assert_same(load(f"hf:{tmp_path}"), wrap(model, name="timm"), images(2, 3, 56, 56))


def test_dinov3_gives_the_features_of_the_same_weights_in_timm_at_any_size(tmp_path: Path):
    state = saved(FAMILIES["dinov3"][0], tmp_path).state_dict()
    args = {"embed_dim": 48, "depth": 2, "num_heads": 2, "mlp_ratio": 2}
    model = timm.create_model("vit_small_patch16_dinov3_qkvb", num_classes=0, **args)
    own = {"cls_token": state["embeddings.cls_token"], "reg_token": state["embeddings.register_tokens"]}
    for leaf in ("weight", "bias"):
        own[f"patch_embed.proj.{leaf}"] = state[f"embeddings.patch_embeddings.{leaf}"]
        own[f"norm.{leaf}"] = state[f"norm.{leaf}"]
        for n in range(2):
            theirs, ours = f"model.layer.{n}", f"blocks.{n}"
            for part in ("norm1", "norm2"):
                own[f"{ours}.{part}.{leaf}"] = state[f"{theirs}.{part}.{leaf}"]
            own[f"{ours}.attn.proj.{leaf}"] = state[f"{theirs}.attention.o_proj.{leaf}"]
            own[f"{ours}.mlp.fc1.{leaf}"] = state[f"{theirs}.mlp.up_proj.{leaf}"]
            own[f"{ours}.mlp.fc2.{leaf}"] = state[f"{theirs}.mlp.down_proj.{leaf}"]
    for n in range(2):
        own[f"blocks.{n}.attn.qkv.weight"] = qkv(state, f"model.layer.{n}.attention", "weight")
        own[f"blocks.{n}.attn.q_bias"] = state[f"model.layer.{n}.attention.q_proj.bias"]
        own[f"blocks.{n}.attn.v_bias"] = state[f"model.layer.{n}.attention.v_proj.bias"]
        for k in (1, 2):
            own[f"blocks.{n}.gamma_{k}"] = state[f"model.layer.{n}.layer_scale{k}.lambda1"]
    model.load_state_dict(own)
    for shape in ((64, 64), (32, 96)):
        assert_same(load(f"hf:{tmp_path}"), wrap(model, name="timm"), images(2, 3, *shape))


def test_convnext_gives_the_features_of_the_same_weights_in_timm(tmp_path: Path):
    config = transformers.ConvNextConfig(**STAGES, layer_norm_eps=1e-6)  # as timm; the default is 1e-12
    state = saved(config, tmp_path).state_dict()
    model = timm.create_model("convnext_tiny", num_classes=0, dims=STAGES["hidden_sizes"], depths=STAGES["depths"])
    renames = {
        "embeddings.patch_embeddings.": "stem.0.",
        "embeddings.layernorm.": "stem.1.",
        "encoder.": "",
        ".layers.": ".blocks.",
        "downsampling_layer": "downsample",
        "layer_scale_parameter": "gamma",
        "dwconv": "conv_dw",
        "pwconv": "mlp.fc",
        ".layernorm.": ".norm.",
    }
    own = {}
    for key, tensor in state.items():
        name = f"head.norm.{key.rsplit('.', 1)[1]}" if key.startswith("layernorm.") else key
        for theirs, ours in renames.items():
            name = name.replace(theirs, ours)
        own[name] = tensor
    model.load_state_dict(own)
    assert_same(load(f"hf:{tmp_path}"), wrap(model, name="timm"), images(2, 3, 64, 96))


def test_a_head_is_left_aside_and_a_pooler_that_the_file_lacks_is_taken_off(tmp_path: Path):
    classifier = saved(transformers.ViTConfig(**SQUARE), tmp_path, transformers.ViTForImageClassification)
    backbone = load(f"hf:{tmp_path}")
    assert {name for name, _ in backbone.model.named_parameters()} == {
        name.removeprefix("vit.") for name, _ in classifier.named_parameters() if name.startswith("vit.")
    }


def test_inputs_are_normalised_as_the_models_card_says(tmp_path: Path):
    saved(FAMILIES["vit"][0], tmp_path)
    assert load(f"hf:{tmp_path}").mean == (0.485, 0.456, 0.406)
    card = tmp_path / "preprocessor_config.json"
    card.write_text(json.dumps({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}))
    backbone = load(f"hf:{tmp_path}")
    assert (backbone.mean, backbone.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    card.write_text(json.dumps({"do_normalize": False, "image_mean": [0.5, 0.4, 0.3]}))
    assert load(f"hf:{tmp_path}").std == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        '{"image_mean": [0.5]}',
        '{"image_std": ["a", "b", "c"]}',
        '{"image_mean": 0.5}',
        "[" * 100_000,
        '{"image_mean": [123.7, 116.3, 103.5]}',
        '{"image_std": [0.2, 0, 0.2]}',
    ],
)
def test_a_card_of_inputs_that_cannot_be_read_is_named(text: str, tmp_path: Path):
    saved(FAMILIES["vit"][0], tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(BadInput, match=r"got an unreadable .*preprocessor_config\.json \(") as caught:
        load(f"hf:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_another_transformers_is_another_fingerprint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Its code computes the features, so those of an earlier release must not be found in the cache."""
    saved(FAMILIES["vit"][0], tmp_path)
    before = load(f"hf:{tmp_path}").fingerprint
    monkeypatch.setattr(sys.modules["transformers"], "__version__", "99.0")  # the package replaces itself there
    assert load(f"hf:{tmp_path}").fingerprint != before


def test_a_model_in_the_hubs_cache_needs_its_card_there_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Without it, the model would be judged on inputs of ImageNet's statistics, whatever its own are."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    folder = in_cache(tmp_path)
    with pytest.raises(BadInput, match=r"without its preprocessor_config\.json in the cache"):
        load("hf:someone/vit")
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.4, 0.3]}')
    assert load("hf:someone/vit").mean == (0.5, 0.4, 0.3)


def test_weights_that_differ_from_the_settings_are_refused_by_name(tmp_path: Path):
    saved(FAMILIES["dinov2"][0], tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    without = {k: x for k, x in tensors.items() if k != "layernorm.bias"}
    for changed, said in (
        (without, r"1 missing: layernorm\.bias"),
        ({**tensors, "encoder.layer.2.norm1.bias": torch.zeros(48)}, r"1 unknown: encoder\.layer\.2\.norm1\.bias"),
        ({**tensors, "layernorm.bias": torch.zeros(3)}, r"1 of another shape: layernorm\.bias"),
    ):
        save_file(changed, file, metadata={"format": "pt"})
        with pytest.raises(BadInput, match=said):
            load(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (transformers.BertConfig(**VIT, vocab_size=50), "a BertModel: want a model of images alone"),
        (transformers.ViTMAEConfig(**SQUARE), r"\(5, 48\) features for 16 patches"),
        (transformers.ViTMAEConfig(**SQUARE, mask_ratio=0.0), "equal images gave unequal features"),
        (transformers.YolosConfig(**{**SQUARE, "image_size": [64, 64]}), r"\(117, 48\) features for 16 patches"),
    ],
    ids=["text", "masked", "shuffled", "detector"],
)
def test_models_without_a_map_of_patches_are_refused(config: Any, said: str, tmp_path: Path):
    saved(config, tmp_path)
    with pytest.raises(BadInput, match=said):
        load(f"hf:{tmp_path}")


def test_models_of_timm_are_sent_to_their_own_address(tmp_path: Path):
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "timm_wrapper", "architecture": "vit_tiny_patch16_224", "num_classes": 0})
    )
    with pytest.raises(BadInput, match="do take timm:vit_tiny_patch16_224"):
        load(f"hf:{tmp_path}")


def test_only_the_hub_imports_transformers():
    """It takes seconds to import and is an extra."""
    imports = re.compile(r"""import transformers|from transformers|import_module\("transformers""")
    homes = {p.name for p in (Path(__file__).parents[3] / "evals").rglob("*.py") if imports.search(p.read_text())}
    assert homes == {"huggingface.py"}


def test_names_that_lead_nowhere_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name, said in (("facebook/dinov2-tiny", "do check name and network"), (str(tmp_path), "do save the model")):
        with pytest.raises(BadInput, match=f"got no model at hf:.*{said}") as caught:
            load(f"hf:{name}")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["/nowhere/model", "./model", "../model", "runs/mine/model", "~/model", ""])
def test_a_path_that_leads_nowhere_is_told_as_a_folder_and_not_as_a_name(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=f"^got hf:{re.escape(name)}, no such folder: want .*; do check the path$"):
        load(f"hf:{name}")


def test_a_file_is_sent_to_its_folder(tmp_path: Path):
    saved(FAMILIES["vit"][0], tmp_path)
    with pytest.raises(BadInput, match=f"a file: want the folder that it lies in; do name hf:{tmp_path}$"):
        load(f"hf:{tmp_path / 'model.safetensors'}")


def test_a_damaged_file_is_named_without_a_word_of_the_network(tmp_path: Path):
    transformers.AutoModel.from_config(FAMILIES["vit"][0]).save_pretrained(tmp_path, max_shard_size="100KB")
    _, damaged, *_ = sorted(tmp_path.glob("*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    with pytest.raises(BadInput, match=f"got an unreadable {damaged} .*want whole safetensors") as caught:
        load(f"hf:{tmp_path}")
    damaged.unlink()
    with pytest.raises(BadInput, match=f"no weights at hf:{tmp_path} .*{damaged.name}") as without:
        load(f"hf:{tmp_path}")
    assert not any("network" in str(error.value) for error in (caught, without))


def test_a_damaged_file_in_the_hubs_cache_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    file = in_cache(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(BadInput, match=f"got an unreadable {file} "):
        load("hf:someone/vit")


def test_loading_prints_nothing_and_leaves_logs_and_bars_as_they_were(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    """The library's bar and its report of missing weights stood before our own refusal."""
    saved(FAMILIES["vit"][0], tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    logs, library = transformers.utils.logging, logging.getLogger("transformers")
    level = library.level
    logs.add_handler(caplog.handler)
    capfd.readouterr()
    try:
        with pytest.raises(BadInput, match="16 missing"):
            load(f"hf:{tmp_path}")
        assert (capfd.readouterr().err, caplog.records) == ("", [])
    finally:
        logs.remove_handler(caplog.handler)
    assert library.level == level
    assert logs.is_progress_bar_enabled()


def test_bars_of_downloads_are_shown_while_those_of_loading_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    saved(FAMILIES["vit"][0], tmp_path)
    logs = transformers.utils.logging
    seen: list[tuple[bool, bool]] = []
    kind, whole = transformers.ViTModel, transformers.ViTModel.from_pretrained

    def watched(*args: Any, **options: Any) -> Any:
        seen.append((logs.is_progress_bar_enabled(), not are_progress_bars_disabled()))
        return whole(*args, **options)

    monkeypatch.setattr(kind, "from_pretrained", watched)
    load(f"hf:{tmp_path}")
    assert seen == [(False, True)]


def test_tries_to_reach_the_hub_are_not_told_one_by_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def offline(*_: Any, **__: Any) -> Any:
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
        raise OSError("We couldn't connect.\nCheck your internet connection.")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", offline)
    said = r"got no model at hf:someone/vit \(We couldn't connect\.\)"
    with silenced("huggingface_hub", caplog), pytest.raises(BadInput, match=said):
        load("hf:someone/vit")


def test_pickled_weights_are_refused(tmp_path: Path):
    model = saved(FAMILIES["vit"][0], tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"got no weights at hf:.*want a folder with config.json and safetensors"):
        load(f"hf:{tmp_path}")


def test_code_in_a_folder_does_not_run(tmp_path: Path):
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    card = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(card))
    with pytest.raises(BadInput, match="got no model at hf:"):
        load(f"hf:{tmp_path}")
    assert not (tmp_path / "ran").exists()


def test_a_missing_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(BadInput, match=r"pip install 'gramlab\[hf\]'"):
        load("hf:facebook/dinov2-small")
