"""Retrieval: exactly the nearest of the pool for each seed, in any blocks, and formats that cannot be compared."""

import numpy as np
import torch

from common.ranks import Ranks
from harness.curation import retrieval
from harness.curation.duplicates import Dropped
from harness.curation.retrieval import retrieve


def test_the_neighbours_are_the_most_similar_images_of_the_pool_that_are_left(embedded, blobs, tmp_path, monkeypatch):
    x = embedded(blobs(150, 150, 50, spread=0.2))
    seeds = embedded(blobs(4, 3, 1, spread=0.2), "seeds")[:8]
    out = np.arange(0, 350, 5)
    monkeypatch.setattr(retrieval, "BLOCK", 64)
    got = retrieve(x, seeds.numpy(), 6, Dropped(out, out, out), home=tmp_path, after="s", ranks=Ranks())
    cosines = (seeds.double() @ x[:350].double().T).numpy()
    cosines[:, out] = -2
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :6]
    assert got.images.tolist() == sorted(set(nearest.ravel()))
    for image, seed, cosine in zip(got.images, got.seeds, got.cosines, strict=True):
        bringing = [q for q in range(8) if image in nearest[q]]
        assert seed == max(bringing, key=lambda q: cosines[q, image])
        assert abs(cosine - cosines[seed, image]) < 1e-6


def test_seeds_of_one_group_bring_in_that_group(embedded, blobs, tmp_path):
    x = embedded(blobs(200, 30, 200, spread=0.1))
    none = Dropped(np.empty(0, int), np.empty(0, int), np.empty(0))
    seeds = x[200:203].numpy()
    got = retrieve(x, seeds, 10, none, home=tmp_path, after="s", ranks=Ranks())
    assert ((got.images >= 200) & (got.images < 230)).all()
    assert torch.tensor(got.cosines).max() > 0.9999  # seeds that are of the pool bring in themselves
