"""Near-duplicates: what is dropped has a twin that stays, and no two that stay are twins."""

import numpy as np
import pytest
import torch

from common.ranks import Ranks
from harness.curation.duplicates import drop, twins
from harness.curation.hierarchy import cluster
from harness.curation.settings import Level

ALONE = Ranks()


@pytest.mark.parametrize("cosine", [0.6, 0.88, 0.92])
def test_those_that_stay_are_unlike_each_other_and_those_that_go_are_like_one_that_stays(blobs, cosine):
    x = torch.nn.functional.normalize(blobs(*[40] * 8, spread=0.06), dim=1).numpy()  # more than a block of queries
    first, again, similar = twins(x, cosine)
    similarities = x.astype(float) @ x.T.astype(float)
    stay = np.setdiff1d(np.arange(len(x)), again)
    assert 8 <= len(stay) < len(x)
    assert set(first) <= set(stay)
    assert (first < again).all()
    assert np.allclose(similarities[first, again], similar, atol=1e-6)
    assert similar.min() >= cosine
    among = similarities[np.ix_(stay, stay)]
    assert among[~np.eye(len(stay), dtype=bool)].max() < cosine


def test_copies_of_an_image_leave_the_first_of_them(embedded, blobs, tmp_path):
    x = blobs(150, 150, spread=0.3)
    x[200:210], x[7] = x[190], x[3]
    images = embedded(x)
    given = {"rounds": 9, "seed": 0, "home": tmp_path, "ranks": ALONE, "device": torch.device("cpu")}
    found = cluster(images, [Level(clusters=5)], **given)
    _, dropped = drop(images, found, 0.9999, home=tmp_path, ranks=ALONE)
    assert dropped.images.tolist() == [7, *range(200, 210)]
    assert dropped.twins.tolist() == [3, *[190] * 10]
    assert dropped.among(195, 10).tolist() == [False] * 5 + [True] * 5
