"""Students that start from released weights: every format that is read, what it tells, and what is refused."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from common.errors import BadInput
from common.schema import filled
from evals.backbones import addresses
from evals.backbones.exported import export
from harness.backbones import released
from harness.beginning import resume
from harness.config import science
from harness.found import found_lines
from harness.model import backbone_args, build_backbone, encode, sizes_of
from harness.recipe import DINOV3, Model
from harness.settings import Experiment
from harness.train import train
from tests.evals.backbones.test_official import as_dinov2, as_dinov3

transformers = pytest.importorskip("transformers")
CPU = torch.device("cpu")
SQUARE = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}
SQUARE |= {"image_size": 64, "patch_size": 16}
TRANSFORMERS = {
    "dinov2": transformers.Dinov2Config(**{**SQUARE, "patch_size": 14, "image_size": 56}),
    "dinov2 with registers": transformers.Dinov2WithRegistersConfig(**SQUARE),
    "dinov3": transformers.DINOv3ViTConfig(**SQUARE, num_register_tokens=4),
    "dinov3 with a gate": transformers.DINOv3ViTConfig(
        **SQUARE, num_register_tokens=2, use_gated_mlp=True, hidden_act="silu"
    ),
    "dinov3 without biases": transformers.DINOv3ViTConfig(**SQUARE, query_bias=False, value_bias=False),
}
SALIENCY = Path(os.environ.get("GRAMLAB_DATA", "none"), "vits14_saliency")


def images(count: int, side: int) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def randomised(name: str, **args) -> torch.nn.Module:
    model = timm.create_model(name, num_classes=0, **args)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    return model


def saved(config, folder: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(config).eval()
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    model.save_pretrained(folder)
    return folder


def filled_from(spec: str, **more) -> tuple[torch.nn.Module, torch.Tensor]:
    model = Model(start_from=spec, **more)
    backbone, mask_token = build_backbone(model).eval(), torch.full((1, sizes_of(model).width), torch.nan)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.fill_(torch.nan)
    released.fill([(backbone, mask_token)], spec)
    return backbone, mask_token


def assert_sees_as(spec: str, backbone: torch.nn.Module, side: int, *, most: float = 1e-5) -> None:
    seen = addresses.load(spec)
    pixels = images(2, side).sigmoid()
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (seen.mean, seen.std))
    with torch.no_grad():
        tokens, theirs = encode(backbone, (pixels - mean) / std), seen(pixels)
    torch.testing.assert_close(tokens.patches, theirs.patches.flatten(2).mT, rtol=0, atol=most)
    torch.testing.assert_close(tokens.cls, theirs.pooled, rtol=0, atol=most)


@pytest.fixture
def tiny_export(tmp_path):
    """A folder as training exports it, of a DeiT of 32 channels."""
    model = Model(
        name="deit_small_patch16_224",
        args={"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    )
    backbone = build_backbone(model)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)))
    export(backbone, tmp_path / "deit", timm_name=str(model.name), timm_args=backbone_args(model))
    return tmp_path / "deit", model, backbone


# --- formats


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_a_folder_of_hugging_face_gives_the_features_that_evaluations_see(kind, tmp_path):
    spec = f"hf:{saved(TRANSFORMERS[kind], tmp_path)}"
    backbone, mask_token = filled_from(spec)
    assert_sees_as(spec, backbone, TRANSFORMERS[kind].image_size)
    own = load_file(tmp_path / "model.safetensors")["embeddings.mask_token"]
    assert torch.equal(mask_token, own.view(1, -1))


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("dinov2", "vit_small_patch14_reg4_dinov2"),
        ("dinov2", "vit_small_patch14_dinov2"),
        ("dinov3", "vit_small_patch16_dinov3_qkvb"),
    ],
)
def test_an_official_file_gives_the_features_that_evaluations_see(family, name, tmp_path):
    state = randomised(name).state_dict()
    official = (as_dinov2 if family == "dinov2" else as_dinov3)(state)
    official["mask_token"] = torch.full((1, 384), 0.25)
    torch.save(official, tmp_path / "file.pth")
    spec = f"{family}:{tmp_path / 'file.pth'}"
    backbone, mask_token = filled_from(spec)
    assert_sees_as(spec, backbone, 56 if family == "dinov2" else 64, most=2e-5)
    assert (mask_token == 0.25).all()


def test_an_export_of_ours_is_taken_bit_for_bit_and_told_to_lack_a_mask_token(tiny_export):
    folder, model, backbone = tiny_export
    mine, mask_token = filled_from(str(folder))
    assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), backbone.parameters(), strict=True))
    assert mask_token.isnan().all()  # left as it was
    own = released.settled(Model(start_from=str(folder)))
    assert (own.name, own.args) == (model.name, model.args)
    assert any("holds no mask token; that begins at zero" in line for line in released.told(own))


@pytest.mark.parametrize("name", ["test_vit.r160_in1k", "test_vit3.r160_in1k"])
def test_published_weights_of_timm_come_from_the_cache_of_the_hub(name, tmp_path, monkeypatch):
    model = randomised(name)
    with torch.no_grad():
        head = {"head.weight": torch.ones(1000, model.num_features), "head.bias": torch.zeros(1000)}
    snapshot = tmp_path / f"models--timm--{name}" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    save_file({key: t.contiguous() for key, t in model.state_dict().items()} | head, snapshot / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    backbone, _ = filled_from(f"timm:{name}")
    theirs = model.state_dict()
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in backbone.state_dict().items())
    lines = released.told(Model(start_from=f"timm:{name}"))
    assert any("attn_pool" in line and "left aside" in line for line in lines) == ("vit3" in name)


@pytest.mark.skipif(not SALIENCY.is_dir(), reason="GRAMLAB_DATA names no folder with real weights")
def test_real_weights_train_with_masks_and_two_sizes_of_crops():
    spec = f"hf:{SALIENCY}"
    backbone, mask_token = filled_from(spec)
    pixels, masks = images(2, 112), torch.zeros(2, 64, dtype=torch.bool)
    masks[:, 9] = True
    with torch.no_grad():
        plain, theirs = encode(backbone, pixels), backbone.forward_features(pixels)
        assert torch.equal(plain.patches, theirs[:, 1:])
        assert torch.equal(plain.cls, theirs[:, 0])
        hidden = encode(backbone, pixels, mask_token=mask_token, masks=masks)
    assert (hidden.patches - plain.patches).norm(dim=-1).argmax(1).tolist() == [9, 9]
    mask_token.requires_grad_()
    whole, local = encode(backbone, pixels, mask_token=mask_token, masks=masks), encode(backbone, images(2, 56))
    (whole.patches.square()[..., :9].sum() + whole.cls[:, 0].sum() + local.cls[:, 1].sum()).backward()
    named = [*backbone.named_parameters(), ("mask_token", mask_token)]
    assert [name for name, p in named if p.grad is None or p.grad.abs().sum() == 0] == []


# --- a job


@pytest.fixture
def started(tiny_export, make_job):
    """The job of a student that starts from the export, and what it starts from."""
    folder, _, backbone = tiny_export

    def make(**more):
        model = Model(start_from=str(folder), **more)
        return make_job({"model": model, "evals.every": 3})

    return make, backbone


def test_student_and_teacher_begin_with_the_weights_and_heads_at_random(started, same):
    make, backbone = started
    state, other = resume(make(), CPU), resume(replace(make(), seed=1), CPU)
    for network in (state.student, state.teacher):
        assert same(network.backbone.state_dict(), backbone.state_dict())
        assert (network.mask_token == 0).all()
    assert not same(state.student.dino_head.state_dict(), other.student.dino_head.state_dict())
    assert same(state.student.dino_head.state_dict(), state.teacher.dino_head.state_dict())


def test_a_norm_of_local_class_tokens_begins_as_the_released_one(started, same):
    make, backbone = started
    state = resume(make(untie_local_cls_norm=True), CPU)
    assert not (backbone.norm.weight == 1).all()
    for network in (state.student, state.teacher):
        assert same(network.local_cls_norm.state_dict(), backbone.norm.state_dict())


def test_a_started_run_resumes_bit_for_bit_and_its_export_is_evaluated(started, pool, same, tmp_path, make_job):
    make, _ = started
    job = make()
    train(job, pool, lambda *_: {}, device=CPU)
    whole = load_file(job.folder / "states" / "step_000006.safetensors")
    (job.folder / "states" / "step_000006.safetensors").unlink()
    shutil.rmtree(job.folder / "step_000006")
    train(job, pool, lambda *_: {}, device=CPU)
    assert same(load_file(job.folder / "states" / "step_000006.safetensors"), whole)
    again = addresses.load(str(job.folder / "step_000006"))
    state = addresses.load(str(job.folder / "states" / "step_000006.safetensors"))
    pixels = images(2, 24).sigmoid()
    assert torch.equal(again(pixels).patches, state(pixels).patches)


def test_the_content_enters_the_identity_and_the_place_does_not(started, tiny_export, tmp_path):
    make, _ = started
    folder, *_ = tiny_export
    before = make().identity
    folder.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").rename(folder)
    assert make().identity == before
    tensors = load_file(folder / "weights.safetensors")
    card = json.loads((folder / "backbone.json").read_text())
    backbone = timm.create_model(card["timm_name"], num_classes=0, **card["timm_args"])
    backbone.load_state_dict({**tensors, "norm.bias": tensors["norm.bias"] + 1})
    export(backbone, folder, timm_name=card["timm_name"], timm_args=card["timm_args"])
    assert make().identity != before


def test_an_experiment_that_starts_from_nothing_has_the_identity_that_it_had(tiny):
    assert "start_from" not in science(tiny, data_fingerprint="x")["model"]
    unnamed = replace(tiny, model=replace(tiny.model, name=None))
    assert science(unnamed, data_fingerprint="x") == science(tiny, data_fingerprint="x")
    assert science(unnamed, data_fingerprint="x")["model"]["name"] == DINOV3


def test_the_plan_tells_what_it_starts_from(started, pool, tmp_path):
    make, _ = started
    lines = found_lines(tmp_path, [make()], lambda data: pool, {})
    assert any("deit_small_patch16_224, 0.0 M weights; heads are random" in line for line in lines)


# --- refusals, each one line


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"name": "deit_small_patch16_224"}, "of another shape: .*384"),
        ({"args": {"depth": 1}}, "unknown: blocks.1."),
        ({"args": {"depth": 3}}, "missing: blocks.2."),
        ({"args": {"reg_tokens": 1}}, "1 missing: reg_token; 1 of another shape: pos_embed 1×17×32 for 1×18×32"),
        ({"args": {"num_heads": 4}}, "blocks.0.attn.num_heads 2 for 4"),
    ],
    ids=str,
)
def test_weights_of_another_architecture_are_refused_by_their_keys(started, asked, said):
    make, _ = started
    with pytest.raises(BadInput, match=said) as error:
        make(**asked)
    assert "\n" not in str(error.value)
    assert "leave both out" in str(error.value)


def test_an_address_that_leads_nowhere_is_one_line(tmp_path):
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text('{"model_type": "swin"}')
    for spec, said in (
        (str(tmp_path / "none"), "without backbone.json and weights.safetensors: want an exported"),
        (f"dinov2:{tmp_path / 'none.pth'}", "where no file lies"),
        (f"hf:{tmp_path / 'hf'}", "of type swin: want dinov2, dinov2_with_registers, dinov3_vit"),
        (f"hf:{tmp_path / 'none'}", "got no folder .*none for hf:"),
        ("timm:vit_small_patch16_dinov4", "did you mean"),
    ):
        with pytest.raises(BadInput, match=said) as error:
            released.settled(Model(start_from=spec))
        assert str(error.value).startswith(f"model.start_from={spec}: ")
        assert "\n" not in str(error.value)


def test_two_beginnings_are_refused():
    plain = {"model": {"start_from": "a"}, "trunk": {"checkpoint": "b"}}
    with pytest.raises(BadInput, match=r"model\.start_from=a: want it or trunk\.checkpoint=b"):
        filled(Experiment, plain, where="file")


def test_a_network_that_trains_no_students_is_refused(tmp_path):
    model = randomised("resnet10t")
    export(model, tmp_path / "cnn", timm_name="resnet10t", timm_args={})
    with pytest.raises(BadInput, match="ResNet lacks"):
        build_backbone(Model(start_from=str(tmp_path / "cnn")))
