"""Linear probe on frozen pooled features: every learning rate's head trained in the same pass.

Follows the DINOv3 code's linear evaluation (arXiv 2508.10104, App. D.7 and its repository) on cached features: no
augmentation, and the rate is chosen on held-out training images, never on the test set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from evals.errors import BadInput
from evals.features import FeatureSet, fit_scale
from evals.protocol import Layout, Protocol


@dataclass(frozen=True, kw_only=True)
class Linear(Protocol):
    """Softmax regression by SGD with momentum 0.9, no weight decay, rate by a cosine to zero.

    Input: short side to `size` (bicubic, antialiased), centre crop; features standardised on the training set.
    A class-stratified tenth of the training set chooses the rate; the head is then trained on all of it.
    """

    family: str = "linear"
    name: str = "linear-quick"
    version: int = 1
    layout: Layout = "crop"
    rates: tuple[float, ...] = (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1, 2e-1, 5e-1, 1.0)
    momentum: float = 0.9
    steps: int = 500
    batch_size: int = 256
    held_out: float = 0.1
    seed: int = 0


METRICS = ("top1",)


def evaluate(
    protocol: Linear, train: FeatureSet, test: FeatureSet, *, device: str | torch.device = "cpu"
) -> dict[str, np.ndarray]:
    """Per test image: `correct`, whether the class is right.

    Raises:
        BadInput: a training set with fewer than two classes.
    """
    labels = train.labels
    if len(labels.unique()) < 2:
        raise BadInput(f"got one class in {train.dataset.name}: want at least two; do add classes or drop 'linear'")
    scale = fit_scale(train.pooled)
    x, unseen = (scale(features.pooled).to(device) for features in (train, test))
    classes = max(int(labels.max()) + 1, len(train.dataset.classes))
    rate = choose_rate(protocol, x, labels.to(device), classes=classes)
    weight, bias = fit(protocol, x, labels.to(device), classes=classes, rates=(rate,))
    guess = (unseen @ weight[0] + bias[0]).argmax(1).cpu()
    return {"keys": np.array(test.keys), "correct": (guess == test.labels).numpy()}


def choose_rate(protocol: Linear, x: Float[Tensor, "n D"], labels: Int[Tensor, " n"], *, classes: int) -> float:
    """The rate with the best held-out accuracy; the lower held-out loss breaks ties."""
    held = hold_out(labels.cpu(), share=protocol.held_out, seed=protocol.seed).to(x.device)
    if not held.any():
        raise BadInput(f"got {len(x)} training images, one per class: want two of a class at least; do add images")
    weight, bias = fit(protocol, x[~held], labels[~held], classes=classes, rates=protocol.rates)
    logits = torch.einsum("nd,rdc->rnc", x[held], weight) + bias[:, None]
    truth = labels[held].expand(len(protocol.rates), -1)
    accuracy = (logits.argmax(2) == truth).double().mean(1).tolist()
    loss = F.cross_entropy(logits.transpose(1, 2), truth, reduction="none").mean(1).tolist()
    best = max(range(len(protocol.rates)), key=lambda r: (accuracy[r], -loss[r]))
    return protocol.rates[best]


def hold_out(labels: Int[Tensor, " n"], *, share: float, seed: int) -> Tensor:
    """Boolean [n]: a random `share` of each class, at least one image of a class that has two or more."""
    generator = np.random.default_rng(seed)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = torch.nonzero(labels == label).flatten()
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        held[members[torch.from_numpy(generator.permutation(len(members))[:count])]] = True
    return held


def fit(
    protocol: Linear,
    x: Float[Tensor, "n D"],
    labels: Int[Tensor, " n"],
    *,
    classes: int,
    rates: tuple[float, ...],
) -> tuple[Float[Tensor, "R D C"], Float[Tensor, "R C"]]:
    """One head per rate on the same batches. All heads share one matrix product; the gradient is written out."""
    generator = np.random.default_rng(protocol.seed)
    heads, batch = len(rates), min(protocol.batch_size, len(x))
    x = torch.cat([x, x.new_ones(len(x), 1)], 1)
    weight = x.new_zeros(x.shape[1], heads * classes)
    velocity = torch.zeros_like(weight)
    rate = x.new_tensor(rates).repeat_interleave(classes)
    queue = np.empty(0, dtype=np.int64)
    for step in range(protocol.steps):
        if len(queue) < batch:
            queue = np.concatenate([queue, generator.permutation(len(x))])
        picked, queue = torch.from_numpy(queue[:batch]).to(x.device), queue[batch:]
        error = (x[picked] @ weight).view(batch, heads, classes).softmax(2)
        error.scatter_add_(2, labels[picked].view(-1, 1, 1).expand(-1, heads, 1), error.new_full((batch, heads, 1), -1))
        velocity.mul_(protocol.momentum).addmm_(x[picked].T, error.view(batch, -1), alpha=1 / batch)
        weight.sub_(velocity * rate * (0.5 * (1 + math.cos(math.pi * step / protocol.steps))))
    solved = weight.view(-1, heads, classes).transpose(0, 1)
    return solved[:, :-1], solved[:, -1]
