"""Balance on photographs: one street filmed at length beside a few fish and a few rooms, seen by a trained ViT."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from common.ranks import Ranks
from evals.backbones import addresses
from evals.datasets.settings import Set
from harness.curation.duplicates import drop
from harness.curation.embeddings import embed
from harness.curation.hierarchy import cluster
from harness.curation.sampling import sample
from harness.curation.settings import Clustering, Level
from harness.data.pool import open_pool
from harness.data_settings import Data

REAL = Path(os.environ.get("GRAMLAB_DATA", "none"))
SALIENCY = REAL / "vits14_saliency"
COUNTS = (701, 14, 14)  # of the street, fish, rooms
CPU, ALONE = torch.device("cpu"), Ranks()


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """Embeddings of a pool that is 50 : 1, by the first nine blocks of the ViT: its last ones tell less apart."""
    transformers = pytest.importorskip("transformers")
    home = tmp_path_factory.mktemp("street")
    plain = json.loads((SALIENCY / "config.json").read_text()) | {"num_hidden_layers": 9}
    config = transformers.Dinov2Config.from_dict(plain)
    transformers.Dinov2Model.from_pretrained(SALIENCY, config=config).save_pretrained(home / "vit")
    street = {
        split: Set(kind="folder", root=f"{REAL}/camvid/images", split=split, classes=[])
        for split in ("training", "validation", "test")
    }
    rare = {
        "fish": Set(kind="folder", root=f"{REAL}/imagenette128", classes=["n01440764"], count=14),
        "rooms": Set(kind="folder", root=f"{REAL}/nyuv2/images", split="training", classes=[], count=14),
    }
    pool = open_pool(Data(sources=street | rare))
    vit = addresses.load(f"hf:{home / 'vit'}")
    return embed(pool, vit, size=112, precision="float32", home=home, given=None, ranks=ALONE)


@pytest.mark.skipif(not SALIENCY.is_dir(), reason="GRAMLAB_DATA names no folder with real weights")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_street_filmed_at_length_is_at_most_three_times_a_rare_kind(street, tmp_path, seed):
    levels = [Level(clusters=364), Level(clusters=18, resamplings=20, closest=3)]
    found = cluster(street, levels, rounds=50, seed=seed, home=tmp_path, ranks=ALONE, device=CPU)
    stage, dropped = drop(street, found, None, home=tmp_path, ranks=ALONE)
    settings = Clustering(target=30)
    got = sample(found, dropped, settings, seed=seed, home=tmp_path, after=stage.address, ranks=ALONE).images
    counts = np.bincount(np.repeat(np.arange(3), COUNTS)[got], minlength=3)
    assert counts.max() <= 3 * counts.min()
