"""No dead knobs in a curation: every scientific setting changes what is found, though all share their stages."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from common.bounds import described
from common.ranks import Ranks
from evals.backbones.addresses import load as load_backbone
from harness import curate
from harness.curation.settings import MACHINERY, Curation, Level, load

TWO = "levels=[{{clusters:{},resamplings:{},closest:{}}},{{clusters:4}}]"
# key: (the words that give it another value, those of the context in which it must matter)
KNOBS: dict[str, tuple[list[str], list[str]]] = {
    "backbone": (["backbone=random:test_vit"], ["size=160"]),
    "size": (["size=40"], []),
    "precision": (["precision=bfloat16"], []),
    "levels": (["levels=[{clusters:12},{clusters:4},{clusters:2}]"], ["levels=[{clusters:12},{clusters:4}]"]),
    "levels.clusters": ([TWO.format(10, 1, 3)], [TWO.format(12, 1, 3)]),
    "levels.resamplings": ([TWO.format(12, 2, 3)], [TWO.format(12, 1, 3)]),
    "levels.closest": ([TWO.format(12, 1, 2)], [TWO.format(12, 1, 3)]),
    "rounds": (["rounds=1"], []),
    "duplicates": (["duplicates=null"], []),
    "clustering.target": (["clustering.target=30"], ["duplicates=null"]),
    "clustering.members": (["clustering.members=closest"], ["duplicates=null"]),
    "retrieval.seeds": (["retrieval.seeds.asked.count=2"], []),
    "retrieval.neighbours": (["retrieval.neighbours=5"], []),
    "seed": (["seed=1"], []),
}


def test_every_setting_that_is_no_machinery_is_listed():
    keys = {one.key.split(".NAME")[0] for one in described(Curation)}
    science = {key for key in keys if key.partition(".")[0] not in MACHINERY}
    assert {*KNOBS} == science | {f"levels.{field.name}" for field in dataclasses.fields(Level)}


@pytest.fixture(scope="module")
def outcome(curation_in, tmp_path_factory) -> Callable[[list[str]], list[np.ndarray]]:
    """All that is found under these settings: clusters, what is dropped, sampled and retrieved."""
    folder = tmp_path_factory.mktemp("knobs")
    path = curation_in(folder)

    def of(words: list[str]) -> list[np.ndarray]:
        settings = load(path, words)
        pool, seeds = (
            curate.open_images(sets, settings, section="sets")
            for sets in (settings.data.sources, settings.retrieval.seeds)
        )
        backbone = load_backbone(settings.backbone, device=torch.device("cpu"))
        found = curate.find(settings, pool, seeds, backbone, Ranks())
        parents = [found.hierarchy.parents(level) for level in range(1, len(settings.levels) + 1)]
        parts = (found.dropped.images, found.sampled.images, found.retrieved.images, found.retrieved.seeds)
        return [found.hierarchy.members[:], *parents, *parts]

    return of


@pytest.mark.parametrize("key", KNOBS)
def test_changing_this_setting_changes_what_is_found(outcome, key):
    changed, context = KNOBS[key]
    before, after = outcome(context), outcome([*context, *changed])
    assert len(before) != len(after) or not all(map(np.array_equal, before, after))
