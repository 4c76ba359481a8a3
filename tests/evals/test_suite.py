from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from evals.backbone import Backbone, wrap
from evals.datasets.catalogue import open_set
from evals.errors import BadInput
from evals.knn import Knn
from evals.results import METRICS
from evals.suite import TASKS, TaskSpec, evaluate


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        args = {"embed_dim": 48, "depth": 2, "num_heads": 2, "img_size": 32, "patch_size": 8}
        model = timm.create_model("vit_small_patch16_dinov3_qkvb", num_classes=0, dynamic_img_size=True, **args)
    return wrap(model.train(), name="tiny")


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TaskSpec]:
    cache = tmp_path_factory.mktemp("scenes")
    train, test = (open_set("scenes", split=s, size=32, count=n, cache=cache) for s, n in (("train", 60), ("val", 30)))
    return {name: TaskSpec(name, train, test) for name in TASKS}


def test_every_task_measures_within_its_interval(backbone: Backbone, specs: dict[str, TaskSpec]):
    found = evaluate(backbone, specs, size=32)
    assert [(m.eval, m.metric) for m in found] == [(n, metric) for n, task in TASKS.items() for metric in task.metrics]
    for m in found:
        assert m.low <= m.value <= m.high
        assert m.low < m.high
        assert m.dataset == "scenes"
        assert m.images == len(m.outcomes["keys"]) == 30
        assert m.metric in METRICS
        assert m.protocol == f"{m.eval}-quick-v1"
        assert m.protocol_hash == TASKS[m.eval].protocol().hash(32)
        assert all(len(values) == 30 for values in m.outcomes.values())


def test_a_square_set_goes_through_the_backbone_once_for_all_tasks(backbone: Backbone, specs: dict[str, TaskSpec]):
    seen: list[int] = []
    handle = backbone.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    evaluate(backbone, specs, size=32, batch_size=64)
    handle.remove()
    assert sorted(seen) == [30, 60]  # test and train, for four tasks in two layouts


def test_evaluating_alters_neither_model_nor_random_state_and_repeats(backbone: Backbone, specs: dict[str, TaskSpec]):
    state, legacy, before = torch.get_rng_state(), np.random.get_state()[1].copy(), backbone.fingerprint  # noqa: NPY002
    first = [m.value for m in evaluate(backbone, specs, size=32)]
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == legacy).all()  # noqa: NPY002
    assert backbone.fingerprint == before
    assert all(module.training for module in backbone.model.modules())
    torch.rand(5)
    assert [m.value for m in evaluate(backbone, specs, size=32, batch_size=64)] == first


def test_the_cache_changes_no_number(backbone: Backbone, specs: dict[str, TaskSpec], tmp_path: Path):
    plain, fresh, cached = (
        [m.value for m in evaluate(backbone, specs, size=32, cache=cache)] for cache in (None, tmp_path, tmp_path)
    )
    assert plain == fresh == cached
    assert len(list(tmp_path.iterdir())) == 2


def test_a_protocols_settings_reach_the_task(backbone: Backbone, specs: dict[str, TaskSpec]):
    train, test = specs["knn"].train_set, specs["knn"].test_set
    one = evaluate(backbone, {"near": TaskSpec(Knn(k=1), train, test), "knn": TaskSpec("knn", train, test)}, size=32)
    assert one[0].eval == one[1].eval == "knn"
    assert one[0].protocol_hash != one[1].protocol_hash
    assert (one[0].outcomes["correct"] != one[1].outcomes["correct"]).any()


def test_errors_name_the_task(backbone: Backbone, specs: dict[str, TaskSpec]):
    train, test = specs["knn"].train_set, specs["knn"].test_set
    with pytest.raises(BadInput, match="evaluation probe: got evaluation 'kn': want one of knn, linear"):
        evaluate(backbone, {"probe": TaskSpec("kn", train, test)}, size=32)
    with pytest.raises(BadInput, match="evaluation probe: got k=100"):
        evaluate(backbone, {"probe": TaskSpec(Knn(k=100), train, test)}, size=32)
