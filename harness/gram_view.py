"""What the Gram teacher sees, and its patches on the student's grid: DINOv3 (arXiv 2508.10104) §4.3."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from common.errors import BadInput
from evals.features.view import nearest_multiple
from harness.backbones.convnext import Encoder
from harness.crop_settings import Crops
from harness.data.batches import Batch, GramCrops
from harness.data.sizes import sides
from harness.gram_teacher import is_on, source
from harness.losses.anchoring import Anchoring, Resize
from harness.model import encode, patch_size
from harness.shards import within


def crops(gram: Anchoring, own: Crops, patch: int) -> GramCrops | None:
    """The crops that batches carry for it, for each of the sides that a step may have; None without a loss.

    Raises:
        BadInput: patches of `patch` pixels do not divide their side.
    """
    if gram.weight == 0:
        return None
    sizes = [_side(gram, own, number, patch) for number in range(len(sides(own)))]
    sees_globals = source(gram).live and not gram.undistorted
    made = GramCrops(sizes, gram.undistorted, partial(is_on, gram), sees_globals=sees_globals)
    return made._replace(student_too=gram.student_from_gram_crop)


def _side(gram: Anchoring, own: Crops, number: int, patch: int) -> int:
    found = sides(own, resolution=gram.resolution)[number]
    if found.gram % patch:
        near = nearest_multiple(found.gram, patch)
        if own.sizes is not None and own.sizes[number].gram_size is not None:
            raise BadInput(
                f"got crops.sizes[{number}].gram_size={found.gram:g} with patches of {patch}: want a multiple; "
                f"try {near}"
            )
        raise BadInput(
            f"got gram.resolution={gram.resolution:g}, crops of {found.gram:g} pixels with patches of {patch}: "
            f"want a multiple; try {near / found.globals:g}"
        )
    return round(found.gram)


def patches(
    gram: Anchoring, batch: Batch, *, own: Encoder | None, ema: Encoder, seen: Float[Tensor, "C P D"] | None
) -> Float[Tensor, "C P E"]:
    """What the student's patches are held to, on the student's grid (§4.3).

    own: the separate Gram teacher, where the source is not live; ema: the EMA teacher's backbone; seen: the patches of
    the global crops that it has just computed, which are those asked for where the batch carries no other crops.
    """
    if batch.gram is None:
        assert seen is not None, "it is asked for all patches where the batch carries no crops of the Gram teacher's"
        return seen
    network = ema if source(gram).live else own
    assert network is not None, "the Gram teacher is set before the first step that uses it"
    size = patch_size(network)
    crops = batch.gram.flatten(0, 1)
    found = within(network, lambda: encode(network, crops)).patches
    sides = batch.gram.shape[-1] // size, batch.globals.shape[-1] // size
    return resize_patches(found, *sides, how=gram.resize, antialias=gram.antialias)


def resize_patches(
    patches: Float[Tensor, "C Q D"], side: int, wanted: int, *, how: Resize = "bicubic", antialias: bool = False
) -> Float[Tensor, "C P D"]:
    """From a side × side grid to wanted × wanted; corners are not aligned (recipe §6.5: bicubic, not antialiased)."""
    if side == wanted:
        return patches
    grid = patches.transpose(1, 2).unflatten(2, (side, side)).float()
    more = {} if how == "area" else {"align_corners": False, "antialias": antialias}
    return F.interpolate(grid, size=(wanted, wanted), mode=how, **more).flatten(2).transpose(1, 2)
