from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from common.errors import BadInput
from evals.backbones.backbone import Backbone, wrap
from evals.datasets.catalogue import open_set
from evals.features.shelf import Shelf, Subject
from evals.features.view import View
from evals.one_task import TaskSpec
from evals.protocols.reading import load
from evals.results.metrics import METRICS
from evals.results.table import Measurement
from evals.suite import evaluate
from evals.tasks.knn import Knn
from evals.tasks.methods import METHODS, TASKS, protocol_of

QUICK = [task for task in TASKS if task != "logreg"]


def tiny(seed: int = 0) -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        args = {"embed_dim": 48, "depth": 2, "num_heads": 2, "img_size": 32, "patch_size": 8}
        model = timm.create_model("vit_small_patch16_dinov3_qkvb", num_classes=0, dynamic_img_size=True, **args)
    return wrap(model.train(), name=f"tiny-{seed}")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tiny()


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TaskSpec]:
    cache = tmp_path_factory.mktemp("scenes")
    train, test = (open_set("scenes", split=s, size=32, count=n, cache=cache) for s, n in (("train", 60), ("val", 30)))
    return {name: TaskSpec(protocol_of(name), train, test).at(32) for name in QUICK}


def run(backbone: Backbone, specs: dict[str, TaskSpec], **options: object) -> list[Measurement]:
    machinery = {key: options.pop(key) for key in list(options) if key in Subject.__dataclass_fields__}
    return evaluate(Subject(backbone, **machinery), specs, **options)  # pyright: ignore


def test_every_task_measures_within_its_interval(backbone: Backbone, specs: dict[str, TaskSpec]):
    found = run(backbone, specs)
    expected = [(n, metric) for n in QUICK for metric in METHODS[protocol_of(n).method].file.metrics(protocol_of(n))]
    assert [(m.eval, m.metric) for m in found] == expected
    for m in found:
        assert m.low <= m.value <= m.high, m
        assert m.dataset == "scenes"
        counted = 28 if m.eval == "boundaries" else 30  # in two images a boundary runs through all of the 16 cells
        assert m.images == len(m.outcomes["keys"]) == counted
        assert m.metric in METRICS
        assert m.protocol == f"{m.eval}-quick-v1"
        assert (m.protocol_hash, m.size) == (specs[m.eval].protocol.hash(), 32)
        assert all(len(values) == counted for values in m.outcomes.values())


def test_a_square_set_goes_through_the_backbone_once_for_all_tasks(backbone: Backbone, specs: dict[str, TaskSpec]):
    seen: list[int] = []
    handle = backbone.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    run(backbone, specs)
    handle.remove()
    assert sorted(seen) == [30, 60]  # test and train, for nine tasks in two views


def test_evaluating_alters_neither_model_nor_random_state_and_repeats(backbone: Backbone, specs: dict[str, TaskSpec]):
    state, legacy, before = torch.get_rng_state(), np.random.get_state()[1].copy(), backbone.fingerprint  # noqa: NPY002
    first = [m.value for m in run(backbone, specs)]
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == legacy).all()  # noqa: NPY002
    assert backbone.fingerprint == before
    assert all(module.training for module in backbone.model.modules())
    torch.rand(5)
    assert [m.value for m in run(backbone, specs, workers=2)] == first


def test_the_cache_changes_no_number(backbone: Backbone, specs: dict[str, TaskSpec], tmp_path: Path):
    few = {name: specs[name] for name in ("knn", "linear", "segmentation", "depth")}
    plain, fresh, cached = ([m.value for m in run(backbone, few, cache=cache)] for cache in (None, tmp_path, tmp_path))
    assert plain == fresh == cached
    assert len(list((tmp_path / "features").iterdir())) == 2


def test_a_protocols_settings_reach_the_task(backbone: Backbone, specs: dict[str, TaskSpec]):
    train, test = specs["knn"].train_set, specs["knn"].test_set
    near = load("knn-quick", Knn, k=(1,), size=32)
    one = run(backbone, {"near": TaskSpec(near, train, test), "knn": specs["knn"]})
    assert one[0].eval == one[1].eval == "knn"
    assert one[0].protocol_hash != one[1].protocol_hash
    assert (one[0].outcomes["correct"] != one[1].outcomes["correct"]).any()


def test_caps_take_evenly_spread_images_with_and_without_the_whole_set(backbone: Backbone, specs: dict[str, TaskSpec]):
    test = specs["health"].test_set
    capped = TaskSpec(replace(protocol_of("health"), test_images=10, size=32), None, test)
    (alone, *_), (beside, *_) = run(backbone, {"h": capped}), run(backbone, {"h": capped, "d": specs["segmentation"]})
    assert alone.outcomes["keys"].tolist() == [test.key(i) for i in range(0, 30, 3)]
    assert alone.value == beside.value
    assert alone.images == 10


def test_precision_is_a_setting_that_features_and_hash_follow(backbone: Backbone, specs: dict[str, TaskSpec]):
    (full,), (half,) = (
        run(backbone, {"knn": replace(specs["knn"], protocol=replace(specs["knn"].protocol, precision=precision))})
        for precision in ("float32", "bfloat16")
    )
    assert full.protocol_hash != half.protocol_hash
    shelf = Shelf(Subject(backbone))
    test = specs["knn"].test_set
    a, b = (shelf.features(test, View("crop", 32), dense=True, precision=p) for p in ("float32", "bfloat16"))  # pyright: ignore
    assert (a.dense()[:] - b.dense()[:]).abs().max() > 1e-3  # float32 itself rounds to some 1e-6 here


def test_measurements_tell_weights_training_set_and_reference_apart(backbone: Backbone, specs: dict[str, TaskSpec]):
    health, knn = specs["health"], specs["knn"]
    (plain, *_), (named, *_) = (run(backbone, {"h": replace(health, train_set=s)}) for s in (None, health.train_set))
    assert plain.against == named.against == ""  # health looks at no training set
    (drifted, *_) = run(backbone, {"h": health}, reference=tiny(1))
    other = open_set("scenes", size=32, count=40)
    (near,), (far,) = (run(backbone, {"k": replace(knn, train_set=s)}) for s in (knn.train_set, other))
    assert len({plain.against, drifted.against, near.against, far.against}) == 4
    assert near.backbone == plain.backbone != run(tiny(1), {"k": knn})[0].backbone


def test_a_shelf_extracts_a_capped_set_alone_unless_the_whole_one_is_there(
    backbone: Backbone, specs: dict[str, TaskSpec]
):
    seen: list[int] = []
    handle = backbone.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    shelf, test = Shelf(Subject(backbone)), specs["knn"].test_set
    part = shelf.features(test, View("crop", 32), dense=True, cap=6)
    whole = shelf.features(test, View("whole", 32), dense=True)
    again = shelf.features(test, View("crop", 32), dense=False, cap=5)
    handle.remove()
    assert seen == [6, 30]
    assert torch.allclose(part.pooled[:], whole.pooled[::5], atol=1e-5)
    assert again.keys == whole.keys[::6]


def test_a_reference_adds_the_drift_between_the_two(backbone: Backbone, specs: dict[str, TaskSpec]):
    health = {"health": specs["health"]}
    drifts = [
        {m.metric: m.value for m in run(backbone, health, reference=other)}["gram_drift"] for other in (tiny(), tiny(1))
    ]
    assert drifts[0] == pytest.approx(0, abs=1e-9)
    assert drifts[1] > 1e-3
    assert "gram_drift" not in {m.metric for m in run(backbone, health)}


def test_predictions_are_shown_and_agree_with_the_outcomes(backbone: Backbone, specs: dict[str, TaskSpec]):
    shown: dict[str, dict[int, np.ndarray]] = {}

    def watch(task: str, dataset: object, index: int, guess: np.ndarray) -> None:
        shown.setdefault(task, {})[index] = guess

    found = run(backbone, specs, watch=watch)
    assert set(shown) == {"segmentation", "depth", "normals", "boundaries", "retrieval", "clustering"}
    test = specs["knn"].test_set
    for m in found:
        if m.metric == "miou":
            right = [(shown[m.eval][i] == test.mask(i)).sum() for i in range(30)]
            assert m.outcomes["intersect"].sum(1).tolist() == right
        if m.metric == "rmse":
            errors = [((shown["depth"][i] - test.depth(i)) ** 2).mean() ** 0.5 for i in range(30)]
            np.testing.assert_allclose(m.outcomes["rmse"], errors, rtol=1e-4)
        if m.metric == "angle":
            cosines = [(shown["normals"][i].astype(float) * test.surfaces(i).normals).sum(2) for i in range(30)]
            off = [np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean() for cosine in cosines]
            np.testing.assert_allclose(m.outcomes["angle"], off, rtol=1e-4)
    assert {guess.shape for guess in shown["boundaries"].values()} == {(4, 4)}


def test_measurements_are_handed_over_as_each_task_ends(backbone: Backbone, specs: dict[str, TaskSpec]):
    handed: list[list[Measurement]] = []
    found = run(backbone, {name: specs[name] for name in ("knn", "depth")}, done=handed.append)
    assert [part[0].eval for part in handed] == ["depth", "knn"]  # what needs patches comes first
    assert {m.metric for part in handed for m in part} == {m.metric for m in found}


def test_errors_name_the_task(backbone: Backbone, specs: dict[str, TaskSpec]):
    train, test = specs["knn"].train_set, specs["knn"].test_set
    with pytest.raises(BadInput, match="evaluation probe: got k=100"):
        run(backbone, {"probe": TaskSpec(load("knn-quick", Knn, k=(100,), size=32), train, test)})
    with pytest.raises(BadInput, match="evaluation probe: got no training set"):
        run(backbone, {"probe": TaskSpec(protocol_of("knn"), None, test)})
    with pytest.raises(BadInput, match="evaluation probe: got the same 30 images for training and for judging"):
        run(backbone, {"probe": TaskSpec(protocol_of("knn"), test, test)})
