"""What a run will hold in memory: near the count of its step, refused where it is beyond the machine, by its key."""

import json

import pytest
import torch

from common.errors import BadInput
from evals.datasets.settings import Set
from harness import memory
from harness.config import as_dict, load
from harness.cost import step_cost
from harness.eval_settings import Evals, EvaluationTask
from harness.model import Network

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GIB = 2**30
ROOMS = Evals(
    size=64,
    sets={"rooms": Set(count=10**6)},
    tasks={"s": EvaluationTask(protocol="depth", train="rooms", test="rooms")},
)

WATCHED = {"gram.weight": 1.0, "gram.teacher": "best_dense", "gram.measure": "dse"}
SIDES = {"global_size": 32, "local_size": 16}


@pytest.fixture
def on(monkeypatch):
    """`on(gib)`: a machine with so much memory, and a GPU with a quarter of it."""

    def pretend(gib: float) -> None:
        monkeypatch.setattr(memory, "memory_bytes", lambda device: GIB * gib / (4 if device.type == "cuda" else 1))

    return pretend


@pytest.mark.parametrize("overrides", [[], ["data.batch_size=512"], ["model=vits", "crops.global_size=224"]])
def test_the_estimate_is_near_what_a_step_is_counted_to_hold(overrides):
    settings = load("experiments/gram_ablation.yaml", [*overrides, "trunk.checkpoint=null", "evals.tasks={}"])
    found = memory.held(memory.sizes(settings), "the GPU", split=True, half=False)
    assert found == pytest.approx(step_cost(settings, gram=False).memory, rel=0.25)


def test_what_fits_is_not_spoken_of(tiny, on):
    on(8)
    assert memory.check(tiny, CPU) == memory.check(tiny, CUDA) == []


@pytest.mark.parametrize(
    ("values", "most"),
    [
        ({"data.batch_size": 2**20}, "data.batch_size=1048576"),
        ({"crops.global_size": 32_000}, "crops.global_size=32000"),
        ({"crops.local_count": 1000, "crops.local_size": 1024}, "crops.local_count=1000"),
        ({"dino.head.prototypes": 2**24, "dino.head.bottleneck": 256}, "dino.head.prototypes=16777216"),
        ({"ibot.head.hidden": 2**17}, "ibot.head.hidden=131072"),
        ({"runtime.workers": 1024}, "runtime.workers=1024"),
        ({"evals": ROOMS, "evals.size": 32_000}, "evals.size=32000"),
        ({"evals": ROOMS, "evals.batch_size": 2**20, "evals.size": 224}, "evals.batch_size=1000000"),
        ({"gram.weight": 1.0, "gram.resolution": 64, "data.batch_size": 1024}, "gram.resolution=64"),
        ({**WATCHED, "model.args": {"embed_dim": 512, "num_heads": 8}, "gram.ring": 1000}, "gram.ring=1000"),
        ({**WATCHED, "gram.ring": 2, "gram.measure_images": 10**7}, "gram.measure_images=10000000"),
        (
            {"crops.sizes": [{**SIDES, "probability": 0.5}, {**SIDES, "global_size": 32_000, "probability": 0.5}]},
            "crops.sizes[1].global_size=32000",
        ),
        (
            {"crops.sizes": [{**SIDES, "local_size": 16_000, "probability": 1.0}], "crops.local_count": 8},
            "crops.sizes[0].local_size=16000",
        ),
        (
            {"crops.sizes": [{**SIDES, "gram_size": 32_000, "probability": 1.0}], "gram.weight": 1.0},
            "crops.sizes[0].gram_size=32000",
        ),
        ({"model.args": {"patch_size": 1, "embed_dim": 384}, "crops.global_size": 224}, "model.args.patch_size=1"),
        ({"model.args": {"embed_dim": 2**17, "num_heads": 8}}, "model.args.embed_dim=131072"),
    ],
    ids=str,
)
def test_what_is_clearly_beyond_is_refused_by_the_setting_that_takes_most(tiny, change, on, values, most):
    on(16)
    with_evals = {"evals": values["evals"]} if "evals" in values else {}
    tiny = change(change(tiny, with_evals), {key: value for key, value in values.items() if key != "evals"})
    with pytest.raises(BadInput) as error:
        memory.check(tiny, CPU)
    assert str(error.value).startswith(f"{most} takes most of about ")
    wanted = "less of it, or more runtime.accumulate" if "batch_size=1048576" in most else "less of it"
    assert str(error.value).endswith(
        f"and this machine has 16 GiB of memory: want {wanted}; launcher=slurm plans for another machine"
    )


def test_an_arm_and_the_trunk_are_looked_at_too(tiny, change, on):
    on(16)
    for values in (
        {"arms": {"a": {"data.batch_size": 2**20}}},
        {"trunk.steps": 2, "trunk.overrides": {"data.batch_size": 2**20}},
    ):
        with pytest.raises(BadInput, match=r"^data\.batch_size=1048576 takes most"):
            memory.check(change(tiny, values), CPU)


def test_between_once_and_twice_what_there_is_the_plan_warns(tiny, change, on):
    large = change(tiny, {"data.batch_size": 2000, "arms": {"plain": {}}})
    there = memory.held(memory.sizes(large), "this machine", split=False, half=False) / GIB
    for gib, lines in ((there * 1.01, 0), (there / 1.5, 1)):
        on(gib)
        assert len(memory.check(large, CPU)) == lines
    assert memory.check(large, CPU)[0].startswith("memory: data.batch_size=2000 takes most of about ")
    on(there / 2.1)
    with pytest.raises(BadInput, match=r"data\.batch_size=2000"):
        memory.check(large, CPU)


def test_a_gpu_holds_the_networks_and_this_machine_the_workers(tiny, change, on):
    on(64)
    with pytest.raises(BadInput, match=r"data\.batch_size=262144 takes most of .*and the GPU has 16 GiB"):
        memory.check(change(tiny, {"data.batch_size": 2**18}), CUDA)
    with pytest.raises(BadInput, match=r"runtime\.workers=1000 takes most of .*and this machine has 64 GiB"):
        memory.check(change(tiny, {"runtime.workers": 1000}), CUDA)


def test_half_the_bytes_of_activations_are_held_in_bfloat16(tiny):
    numbers = memory.sizes(tiny)
    whole, half = (memory.held(numbers, "the GPU", split=True, half=half) for half in (False, True))
    assert half < whole


LARGE = {"data.batch_size": 64, "crops.global_size": 112, "gram.weight": 1.0, "gram.level": "batch"}


def test_gram_matrices_over_a_batch_are_refused_with_their_size_where_they_alone_do_not_fit(tiny, change, on):
    """§6.1 of the recipe: 64 images with 196 patches in each of two crops make matrices of 25,088² cosines."""
    large = change(tiny, {**LARGE, "gram.negatives": "clamp_teacher"})
    on(7)
    with pytest.raises(BadInput) as error:
        memory.check(large, CPU)
    assert str(error.value).startswith(
        "gram.level=batch, matrices of 25,088² cosines, 2.34 GiB each, takes most of about"
    )
    assert "has 7 GiB of memory: want gram.level=image, or a smaller data.batch_size; " in str(error.value)
    on(8)
    assert memory.check(large, CPU)[0].startswith("memory: gram.level=batch, matrices of 25,088² cosines")
    with pytest.raises(BadInput, match=r"2\.34 GiB each.* and the GPU has 2 GiB"):
        memory.check(large, CUDA)
    with pytest.raises(BadInput, match=r"^gram\.level=batch, matrices of 100,352² cosines, 37\.5 GiB each"):
        memory.check(change(large, {"data.batch_size": 256}), CPU)
    assert memory.check(change(large, {"gram.level": "image"}), CPU) == []
    assert memory.check(change(large, {"gram.weight": 0.0, "arms": {"plain": {}}}), CPU) == []


def test_gram_matrices_of_an_image_count_by_crops_and_patches(tiny, change):
    image = memory.sizes(change(tiny, {"gram.weight": 1.0}))
    assert memory.cosine_bytes(image) == 4 * 3 * 8 * 16**2  # 2 crops of 4 images with 16 patches
    batch = memory.sizes(change(tiny, {"gram.weight": 1.0, "gram.level": "batch", "gram.negatives": "clamp"}))
    assert memory.cosine_bytes(batch) == 4 * 4 * (8 * 16) ** 2
    for relation, matrices, side in (("cka", 4, 32), ("distances", 6, 128), ("affinities", 5, 128), ("features", 0, 1)):
        level = "image" if relation == "features" else "batch"
        one = change(tiny, {"gram.weight": 1.0, "gram.relation": relation, "gram.level": level})
        assert memory.cosine_bytes(memory.sizes(one)) == 4 * matrices * side**2


def test_gram_matrices_between_channels_do_not_grow_with_the_patches(tiny, change, on):
    on(2)  # a fifth of what the cosines of 25,088 patches take
    assert memory.check(change(tiny, LARGE), CPU) == []
    for crops, size, matrices in (("batch", 112, 1), ("batch", 448, 1), ("image", 112, 128), ("image", 448, 128)):
        numbers = memory.sizes(change(tiny, {**LARGE, "crops.global_size": size, "gram.level": crops}))
        assert memory.cosine_bytes(numbers) == 4 * 3 * matrices * 32**2


def test_every_network_of_the_ring_is_kept_by_this_machine(tiny, change):
    """Against the tensors themselves; a GPU holds none of them."""
    none, some = (memory.sizes(change(tiny, {**WATCHED, "gram.ring": ring})) for ring in (2, 7))
    network = sum(p.numel() * 4 for p in Network(tiny).backbone.parameters())
    found = [memory.held(n, "this machine", split=True, half=False) for n in (none, some)]
    assert found[1] - found[0] == pytest.approx(5 * network, rel=0.3)
    assert memory.held(none, "the GPU", split=True, half=False) == memory.held(some, "the GPU", split=True, half=False)
    assert "gram.ring" in none
    assert memory.sizes(change(tiny, {"gram.weight": 1.0}))["gram.ring"] == 0


WIDE = {"patch_size": 8, "embed_dim": 512, "depth": 4, "num_heads": 8}


def test_a_frozen_teacher_is_held_beside_its_student(tiny, change):
    """Against the tensors themselves."""
    teacher = change(tiny, {"model.args": WIDE})
    numbers = [memory.sizes(tiny, teacher=one) for one in (None, teacher)]
    without, beside = (memory.held(one, "the GPU", split=True, half=False) for one in numbers)
    assert beside - without == pytest.approx(sum(p.numel() * 4 for p in Network(teacher).parameters()), rel=0.1)


def test_a_teacher_of_another_run_that_is_too_large_is_refused_by_its_name(tiny, change, on, tmp_path):
    """16,384 channels in 12 blocks: 144 GiB, of which its settings tell."""
    state = tmp_path / "states" / "step_000002.safetensors"
    state.parent.mkdir()
    state.touch()
    model = {"name": tiny.model.name, "args": {**WIDE, "embed_dim": 2**14, "depth": 12}}
    heads = {name: {"head": as_dict(getattr(tiny, name).head)} for name in ("dino", "ibot")}
    (tmp_path / "identity.json").write_text(json.dumps({"model": model, **heads}))
    taught = change(tiny, {"arms": {"small": {"distillation.teacher": str(state)}}})
    on(160)
    assert memory.check(taught, CPU) == []
    on(64)
    with pytest.raises(
        BadInput, match=rf"^distillation\.teacher={state} takes most of about 14\d GiB.*want a smaller one"
    ):
        memory.check(taught, CPU)


def test_students_of_one_teacher_are_counted_in_one_process_and_their_teacher_once(tiny, change):
    large = {"steps": 2, "model.args": {"embed_dim": 8, "depth": 1}}

    def most(**students):
        return memory.most_held(change(tiny, {"arms": {"large": large, **students}}), split=False) - shared

    shared = memory.LIBRARIES_GIB * GIB
    one, other = ({"distillation.teacher": "large", "data.batch_size": size} for size in (64, 32))
    teacher = change(tiny, {"model.args": tiny.model.args | large["model.args"], "data.batch_size": 32})
    once = memory.sizes(tiny, teacher=teacher)["distillation.teacher"]
    assert once > 0
    assert most(one=one, other=other) == pytest.approx(most(one=one) + most(other=other) - once)
    assert most(one=one, apart={"data.batch_size": 32}) == pytest.approx(most(one=one))


def test_a_backbone_that_cannot_be_made_is_told_with_the_arm_that_asks_for_it(tiny, change):
    own = change(tiny, {"arms": {"plain": {}, "strange": {"model.name": "resnet18"}}})
    with pytest.raises(BadInput, match=r"^arms\.strange: .*resnet18"):
        memory.check(own, CPU)
    with pytest.raises(BadInput, match=r"^(?!arms).*resnet18"):
        memory.check(change(tiny, {"model.name": "resnet18", "arms": {"plain": {}}}), CPU)


def test_parts_and_blocks_computed_anew_let_a_batch_fit_that_did_not(tiny, change, on):
    deep = {"crops.global_size": 224, "model.args.depth": 12, "arms": {"plain": {}}}
    large = change(tiny, {"data.batch_size": 4096, "koleo.group": 16, **deep})
    on(memory.held(memory.sizes(large), "this machine", split=False, half=False) / GIB / 3)
    with pytest.raises(BadInput, match=r"want less of it, or more runtime\.accumulate; launcher=slurm"):
        memory.check(large, CPU)
    for less in ({"runtime.accumulate": 8}, {"runtime.recompute": True}):
        smaller = change(large, less)
        there = memory.held(memory.sizes(smaller), "this machine", split=False, half=False) / GIB
        on(there)
        assert memory.check(smaller, CPU) == []
        with pytest.raises(BadInput, match="takes most of about"):
            memory.check(large, CPU)
        on(0.99 * there)
        assert len(memory.check(smaller, CPU)) == 1


def test_the_first_of_several_processes_has_a_whole_state_before_parts_and_each_of_them_is_counted(tiny, change):
    large = change(tiny, {"model.args": {"embed_dim": 4096, "num_heads": 64, "depth": 24}, "runtime.workers": 0})
    alone = memory.sizes(large)
    four = alone | {memory.PROCESSES: 4, memory.PARTS: 4, memory.SHARDS: 4}
    weights = 4 * 12 * 24 * 4096**2
    one_each, all_here = (four | {memory.HERE: count} for count in (1, 4))
    how = {"split": False, "half": False}
    assert memory.held(one_each, "this machine", **how) == pytest.approx(memory.BEGUN * weights * 1.25, rel=0.05)
    assert memory.held(all_here, "this machine", **how) == pytest.approx(memory.COPIES * weights, rel=0.1)
    assert memory.held(one_each, "this machine", split=True, half=False) > memory.BEGUN * weights
    assert memory.held(one_each, "the GPU", **how) == pytest.approx(memory.COPIES * weights / 4, rel=0.1)
