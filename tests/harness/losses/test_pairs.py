"""Losses between all pairs of crops of an image that are not the same crop: counted, with the weight of each pair.

A pair is one view of the student and one of the teacher. The total is linear in the teacher's probabilities, so with
those of one view and one image alone the gradient at each of the student's views is what that pair weighs.
"""

import pytest
import torch

from harness.forward import losses, weigh
from harness.losses.cross_entropy import Scores
from harness.losses.inputs import Outputs, Targets
from harness.schedules import at

IMAGES, PROTOTYPES = 3, 5


def pairs(settings) -> dict[tuple[str, str], float]:
    """The weight of each pair of views in the total that has one, as the mean over images."""
    found = dict[tuple[str, str], torch.Tensor]()
    for view in range(2):
        for image in range(IMAGES):
            for name, weight in weights_beside(settings, view, image).items():
                of_others = weight.clone()
                of_others[image] = 0
                assert (of_others == 0).all(), "a crop is compared with crops of its own image alone"
                if weight[image]:
                    key = (name, f"teacher's global {view}")
                    found[key] = found.get(key, torch.zeros(())) + weight[image]
    return {key: weight.item() for key, weight in found.items()}


def weights_beside(settings, view: int, image: int) -> dict[str, torch.Tensor]:
    """By the student's views: for each image the weight of the pair with one view and image of the teacher."""
    globals_ = torch.zeros(2, IMAGES, PROTOTYPES, dtype=torch.float64, requires_grad=True)
    locals_ = torch.zeros(settings.crops.local_count, IMAGES, PROTOTYPES, dtype=torch.float64, requires_grad=True)
    asked = torch.zeros(2, IMAGES, PROTOTYPES, dtype=torch.float64)
    asked[view, image, 0] = 1
    none = torch.zeros(())
    tokens = torch.eye(IMAGES, dtype=torch.float64).expand(2, -1, -1)
    unit = torch.eye(PROTOTYPES, dtype=torch.float64)
    scores = [Scores(logits, unit) if len(logits) else None for logits in (globals_, locals_)]
    outputs = Outputs(*scores, None, tokens, none, none)
    terms = losses(outputs, Targets(asked, None, None, none), settings)
    weigh(terms, at(settings, 0).factors).backward()
    slope = (1 - 1 / PROTOTYPES) / settings.dino.student_temperature  # of the cross-entropy of uniform logits
    named = {"student's global": globals_, "student's local": locals_}
    return {
        f"{kind} {number}": -own[:, 0] / slope
        for kind, logits in named.items()
        for number, own in enumerate(logits.grad if logits.grad is not None else ())
    }


@pytest.mark.parametrize("local_count", [0, 2, 8])
def test_every_pair_of_two_crops_of_an_image_is_counted_once_and_with_one_weight(tiny, change, local_count):
    counted = pairs(change(tiny, {"crops.local_count": local_count}))
    crossed = {(f"student's global {s}", f"teacher's global {1 - s}") for s in range(2)}
    local = {(f"student's local {s}", f"teacher's global {t}") for s in range(local_count) for t in range(2)}
    assert counted.keys() == crossed | local
    assert len(counted) == 2 + 2 * local_count
    assert [*counted.values()] == pytest.approx([1 / len(counted)] * len(counted))


def test_global_and_local_pairs_are_weighed_as_in_the_recipes_total(tiny, change):
    """1/9 over the two pairs of global crops, 8/9 over the sixteen of local ones, times the weight of local crops."""
    values = {"crops.local_count": 8, "dino.weight": 3.0, "dino.local_weight": 0.5}
    counted = pairs(change(tiny, values))
    sums = {kind: sum(w for (s, _), w in counted.items() if kind in s) for kind in ("global", "local")}
    assert sums == pytest.approx({"global": 3 / 9, "local": 3 * 0.5 * 8 / 9})
