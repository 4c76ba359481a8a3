"""ConvNeXt as a student without masks: its tokens, its start, its groups, and a vision transformer as its teacher."""

import pytest
import torch

from common.errors import BadInput
from evals.backbones.addresses import load
from evals.backbones.backbone import wrap
from evals.backbones.exported import export
from harness import gram_teacher, recipe
from harness.backbones import convnext
from harness.backbones.convnext import lacking
from harness.beginning import fresh_state, resume
from harness.distillation import answers
from harness.forward import forward, masked_positions
from harness.job_folder import step_folder
from harness.lockstep import batches_of
from harness.losses.gram import Gram
from harness.model import Network, build_backbone, encode, sizes_of
from harness.optimizer import build_optimizer
from harness.schedules import at
from harness.train import train

CPU = torch.device("cpu")
NAME = "convnext_atto"
NONE = {"model.rope_rescale": None, "optimizer.layer_decay": 1.0}
STUDENT = {"distillation.teacher": "large", "model.name": NAME, **NONE}
SIDES = {"crops.global_size": 64, "crops.local_size": 32, "data.batch_size": 2, "evals.size": 64}


def images(count: int, side: int) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def backbone(tiny, change, stirred):
    alone = {"model.name": NAME, "model.args": {}, "ibot.mask_probability": 0.0, **NONE}
    return stirred(change(tiny, alone)).backbone.eval()


@pytest.fixture
def planned(jobs_of):
    """The jobs of a teacher that is a vision transformer and a ConvNeXt that learns from it."""
    return jobs_of({"steps": 2, "arms": {"large": {"steps": 1}, "conv": STUDENT}, **SIDES})


def test_tokens_are_what_timm_pools_and_what_evaluations_judge(backbone):
    pixels = images(2, 96)
    with torch.no_grad():
        tokens, pooled = encode(backbone, pixels), backbone(pixels)
        seen = wrap(backbone, name=NAME, mean=(0, 0, 0), std=(1, 1, 1))(pixels)
    torch.testing.assert_close(tokens.cls, pooled, rtol=0, atol=1e-5)
    torch.testing.assert_close(tokens.cls, seen.pooled, rtol=0, atol=1e-5)
    torch.testing.assert_close(tokens.patches, seen.patches.flatten(2).mT, rtol=0, atol=1e-5)
    assert tokens.patches.shape == (2, 9, 320)


def test_its_sizes_are_those_of_its_last_stage():
    assert sizes_of(recipe.Model(name=NAME))[:4] == (320, 12, 1, 32)


def test_norms_begin_as_norms_and_are_not_decayed(tiny, change):
    settings = change(tiny, {"distillation.teacher": "x.safetensors", "model.name": NAME, "model.args": {}, **NONE})
    network = fresh_state(settings, 0, CPU).student
    backbone = network.backbone
    norms = [module for module in backbone.modules() if "Norm" in type(module).__name__ and hasattr(module, "bias")]
    weights = [norm.weight for norm in norms if isinstance(getattr(norm, "weight", None), torch.Tensor)]
    assert len(weights) > 12
    assert all(torch.equal(weight, torch.ones_like(weight)) for weight in weights)
    scale = convnext.layer_scale(backbone)
    gammas = [block.gamma for block in convnext.blocks(backbone)]
    assert all(torch.equal(gamma, torch.full_like(gamma, scale)) for gamma in gammas)
    decayed = {
        id(parameter)
        for group in build_optimizer(network, settings.optimizer).param_groups
        for parameter in group["params"]
        if group["decayed"]
    }
    assert {id(weight) for weight in (*weights, *gammas)} & decayed == set()
    assert id(backbone.stem[0].weight) in decayed


def test_a_teachers_patches_are_averaged_over_each_of_the_students(planned, make_batches):
    teacher = Network(planned["large"].settings).eval()
    batch = make_batches(planned["large"].settings)[0]
    sampled = torch.tensor([0, 5])
    found = answers(teacher, batch, sampled, patch=32, ibot=True, whole=True)
    with torch.no_grad():
        patches = encode(teacher.backbone, batch.globals.flatten(0, 1)).patches.double()
        means = patches.unflatten(1, (2, 4, 2, 4)).mean((2, 4)).flatten(1, 2)  # eight a side to two a side
        torch.testing.assert_close(found.patches.double(), means, rtol=1e-6, atol=1e-6)
        expected = teacher.ibot_head(found.patches.flatten(0, 1)[sampled]).logits()
    assert torch.equal(found.ibot, expected)


def test_it_learns_from_a_vision_transformer_to_its_last_weight_and_exports_what_loads(planned, pool):
    train(planned["large"], pool, lambda job, step, folder: {}, device=CPU)
    job = planned["conv"]
    assert job.settings.model.args == {}
    state = resume(job, CPU)
    with torch.no_grad():
        for block in convnext.blocks(state.student.backbone):
            block.gamma.fill_(1.0)  # at its small start gradients round to zero
    batch = batches_of(job, pool, state)[0]
    total, terms, _ = forward(state, batch, at(job.settings, 0), job.settings, seed=0)
    total.backward()
    lost = [name for name, one in state.student.named_parameters() if one.grad is None or not one.grad.any()]
    assert lost == ["mask_token"]
    assert terms["ibot"] > 0
    assert len(masked_positions(batch)) == batch.masks.sum() > 0
    train(job, pool, lambda job, step, folder: {}, device=CPU)
    assert load(str(step_folder(job, 2))).model(images(1, 64)).shape == (1, 320)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"distillation.teacher": None}, "ibot.mask_probability=0.5: convnext_atto has no place for masks: want 0, or"),
        ({"model.drop_path": 0.1}, "model.drop_path=0.1: convnext_atto is trained without: want 0"),
        ({"model.rope_rescale": 2.0}, "the positions of convnext_atto are not DINOv3's rotary ones: want null"),
        ({"model.name": "convnext_att"}, "model.name='convnext_att': want .* that timm knows, such as convnext_atto"),
        ({"optimizer.layer_decay": 0.98}, "optimizer.layer_decay=0.98: want 1 for a ConvNeXt"),
    ],
    ids=str,
)
def test_what_a_convnext_has_no_place_for_is_refused(tiny, change, values, said):
    usual = {"distillation.teacher": "x.safetensors", "model.name": NAME, "model.args": {}, **NONE}
    with pytest.raises(BadInput, match=said):
        fresh_state(change(tiny, usual | values), 0, CPU)


def test_without_masks_it_trains_by_itself(tiny, change, take_steps):
    alone = {"model.name": NAME, "model.args": {}, "ibot.mask_probability": 0.0, **NONE, **SIDES}
    network = fresh_state(change(tiny, alone), 0, CPU).student
    assert encode(network.backbone, images(1, 64)).patches.shape == (1, 4, 320)


def test_a_gram_teacher_of_another_width_is_refused_where_features_are_kept(backbone, tmp_path):
    export(backbone, tmp_path / "out", timm_name=NAME, timm_args={})
    student, gram = build_backbone(recipe.Model(name="convnext_femto")), Gram(weight=1.0, relation="features")
    with pytest.raises(BadInput, match=r"of width 320: want the student's 384 with gram\.relation=features"):
        gram_teacher.read(tmp_path / "out", gram, like=student, device=CPU)


def test_a_convnext_without_its_final_norm_is_none():
    import timm

    assert lacking(timm.create_model(NAME, num_classes=0)) is None
    assert "without a final norm" in lacking(timm.create_model(NAME, num_classes=0, head_norm_first=True))
