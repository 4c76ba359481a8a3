"""DSE (arXiv 2510.17299): how tight and separate clusters of patches are and how many dimensions they fill.

DSE = M_inter − M_intra + weight · M_dim. Every term comes as one number per image whose mean is the term.

M_inter and the group part of M_intra come from k-means over groups of images, so that images of one group are not
independent and a bootstrap over images would make their intervals far too narrow. Therefore images carry the mean of
their group, its distance to the overall mean stretched by the root of the group's size: resampling images then spreads
as resampling groups does.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.draws import pcg64
from evals.fitting.kmeans import Clusters, kmeans
from evals.tasks.health.effective_rank import row_ranks
from evals.tasks.health.patch_grid import Patches

if TYPE_CHECKING:
    from evals.tasks.health.settings import Health

CELLS_PER_BLOCK = 1 << 24  # numbers of the matrices whose rank is taken at once
COLLAPSED = 1e-6  # of the root mean squared norm: patches nearer to their mean than this are all alike


class Terms(NamedTuple):
    """Pseudo-values of the images, float64; the mean of each is the measure."""

    inter: Float[np.ndarray, " n"]
    intra: Float[np.ndarray, " n"]
    dim: Float[np.ndarray, " n"]
    dse: Float[np.ndarray, " n"]


def measure(patches: Patches, protocol: Health, *, device: str | torch.device = "cpu") -> Terms:
    """The three terms and their sum.

    Where all patches are alike there is nothing to tell apart: M_inter and M_intra are 0.

    Raises:
        BadInput: more clusters than patches.
    """
    groups = group_images(len(patches), protocol.group_size, seed=protocol.seed)
    inter, intra = structure(patches, groups, protocol, device=device)
    scale = mean_distance(patches)
    inter, intra, dim = (x.numpy() for x in (ratio(inter, scale), ratio(intra, scale), dimension(patches, protocol)))
    sum_ = inter - intra + protocol.dim_weight * dim
    return Terms(stretched(inter, groups), stretched(intra, groups), dim, stretched(sum_, groups))


class Group(NamedTuple):
    """Images that are clustered together; the first `own` of them count, the others only fill up."""

    images: Int[np.ndarray, " g"]
    own: int


def group_images(count: int, size: int, *, seed: int) -> list[Group]:
    """Groups of `size` in a random order of the images, since neighbours in a data set are often alike.

    The last group is filled up with images of the first one. Fewer images than `size` make one group.
    """
    order = pcg64(seed, "groups").permutation(count)
    chunks = [order[start : start + size] for start in range(0, count, size)]
    short = size - len(chunks[-1]) if len(chunks) > 1 else 0
    return [
        *(Group(chunk, len(chunk)) for chunk in chunks[:-1]),
        Group(np.concatenate([chunks[-1], order[:short]]), len(chunks[-1])),
    ]


def structure(
    patches: Patches, groups: list[Group], protocol: Health, *, device: str | torch.device = "cpu"
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Pseudo-values of M_inter and M_intra before both are divided by the scale; an image stands for its group too."""
    inter, own_sum, own_count, group_sum, group_count = torch.zeros(5, len(patches), dtype=torch.float64)
    first = 0
    for number, group in enumerate(groups):
        x, own = patches.images(group.images.tolist()).to(device), torch.from_numpy(group.images[: group.own])
        cluster = partial(kmeans, rounds=protocol.rounds, seed=protocol.seed)
        together = cluster(x.flatten(0, 1)[None], protocol.group_clusters, purpose="k-means of groups", first=number)
        each = cluster(x[: group.own], protocol.image_clusters, purpose="k-means of images", first=first)
        first += group.own
        apart = other_distance(x.flatten(0, 1), together).reshape(len(x), -1)
        inter[own] = apart[: group.own].double().mean(1).cpu()
        group_sum[own], group_count[own] = cluster_spreads(x.flatten(0, 1), together.members[0])
        of_images = [cluster_spreads(image, members) for image, members in zip(x, each.members, strict=False)]
        own_sum[own], own_count[own] = torch.tensor(of_images).double().T
    return inter, (ratio(own_sum, own_count) + ratio(group_sum, group_count)) / 2


def other_distance(x: Float[Tensor, "n d"], clusters: Clusters) -> Float[Tensor, " n"]:
    """Distance of each point to the nearest centroid that is not its own; 0 where there is only one cluster."""
    members, count = clusters.members[0], clusters.centroids.shape[1]
    apart = torch.cdist(x, clusters.centroids[0], compute_mode="donot_use_mm_for_euclid_dist")
    apart[:, torch.bincount(members, minlength=count) == 0] = math.inf
    found = apart.scatter(1, members[:, None], math.inf).min(1).values
    return torch.where(found.isfinite(), found, 0)


def cluster_spreads(x: Float[Tensor, "n d"], members: Int[Tensor, " n"]) -> tuple[float, float]:
    """Sum over clusters of more than one point of the nuclear norm of the centred cluster / sqrt(max(n − 1, d)), and
    the number of such clusters."""
    found: list[float] = []
    for cluster in members.unique().tolist():
        part = x[members == cluster].double().cpu()
        if len(part) < 2:
            continue
        part = part - part.mean(0)
        energy = torch.linalg.eigvalsh(part @ part.T if len(part) <= part.shape[1] else part.T @ part)
        found.append(float(energy.clamp_min(0).sqrt().sum()) / math.sqrt(max(len(part) - 1, part.shape[1])))
    return sum(found), float(len(found))


def mean_distance(patches: Patches) -> Float[Tensor, " n"]:
    """Pseudo-values of the mean distance of all patches to their mean, exact to first order: an image counts by its
    own distances and by where it pulls the mean. All 0 where all patches are alike."""
    means, energy = torch.empty(len(patches), patches.width).double(), 0.0
    for which, block in patches.blocks():
        means[which] = block.double().mean(1)
        energy += float(block.double().square().sum())
    centre = means.mean(0)
    own, pull = torch.empty(len(patches)).double(), torch.zeros_like(centre)
    for which, block in patches.blocks():
        offset = block.double() - centre
        own[which] = offset.norm(dim=2).mean(1)
        pull -= torch.nn.functional.normalize(offset, dim=2).mean(1).sum(0) / len(patches)
    if float(own.mean()) <= COLLAPSED * math.sqrt(energy / (len(patches) * patches.count)):
        return torch.zeros_like(own)
    return own + (means - centre) @ pull


def dimension(patches: Patches, protocol: Health) -> Float[Tensor, " n"]:
    """Pseudo-values of M_dim: effective rank of the matrix of one patch per image, by min(n, d), over random positions.

    The patches of each image are permuted at random, so that a position is a random patch of every image.
    """
    images, count = len(patches), min(protocol.positions or patches.count, patches.count)
    draws = [pcg64(protocol.seed, "positions", image).permutation(patches.count)[:count] for image in range(images)]
    places = torch.from_numpy(np.stack(draws))
    found = torch.zeros(images).double()
    size = max(CELLS_PER_BLOCK // (images * patches.width), 1)
    for start in range(0, count, size):
        found += row_ranks(patches.at(places[:, start : start + size])).sum(0)
    return found / count / min(images, patches.width)


def ratio(top: Float[Tensor, " n"], bottom: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Pseudo-values of mean(top) / mean(bottom), to first order; 0 where the bottom is."""
    scale = bottom.mean()
    if not scale > 0:
        return torch.zeros_like(top)
    value = top.mean() / scale
    return value + (top - value * bottom) / scale


def stretched(values: Float[np.ndarray, " n"], groups: list[Group]) -> Float[np.ndarray, " n"]:
    """Group means in place of values, farther from the overall mean by the root of the group's size; the mean stays.

    With a single group the values stay as they are.
    """
    if len(groups) < 2:
        return values
    found = np.empty_like(values)
    for group in groups:
        own = group.images[: group.own]
        found[own] = math.sqrt(group.own) * (values[own].mean() - values.mean())
    return values.mean() + found - found.mean()
