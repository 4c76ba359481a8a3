"""Linear probe on cached image features: a grid of heads, inputs × rates × decays, trained in the same pass.

No augmentation, and the head is chosen on held-out training images, never on the test set. The grid follows the DINOv3
code's linear evaluation (arXiv 2508.10104, App. D.7 and its repository); `evals.tasks.linear.published` is the whole of
it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from common.bounds import About, Batch, Choices, Count, NotNegative, Positive, ShareBelowOne, Whole
from common.draws import pcg64
from common.progress import Bar
from common.schema import settings
from evals.datasets.labelled_set import LabelledSet, Needs
from evals.features.feature_set import FeatureSet
from evals.features.matrix import BYTES, Rows
from evals.features.scale import Scale, fit_scale
from evals.judging.image_classes import hold_out, learnable, shared_classes, two_classes
from evals.protocols.protocol import Cropped
from evals.tasks.linear.grid import INPUTS, GridHead, Heads, Input, cosine, grid, judge, portions

WHOLE = 2**30  # bytes: a smaller matrix on disk is read once, of a larger one each batch gathers its rows

log = logging.getLogger("gramlab")


@settings
class QuickLinear(Cropped):
    """Softmax regressions by SGD with momentum from zero, rate by a cosine to zero. See its file in `protocols/`."""

    method: ClassVar[str] = "linear"
    task: ClassVar[str] = "linear"
    needs: ClassVar[Needs] = "image classes"

    inputs: Annotated[Choices[Input], About("what heads read; class token, mean patch, or both side by side")]
    rates: Annotated[Choices[Positive], About("peak learning rates of the heads")]
    decays: Annotated[Choices[NotNegative], About("weight decays of the heads, of weights and biases alike")]
    momentum: Annotated[ShareBelowOne, About("of SGD")]
    steps: Annotated[Count, About("training steps of every head")]
    batch_size: Annotated[Batch, About("images of a training step, at most the training set")]
    held_out: Annotated[ShareBelowOne, About("share of each class's training images that the head is chosen on")]
    seed: Annotated[Whole, About("of the images held out and of the order of batches")]


def metrics(_: QuickLinear) -> tuple[str, ...]:
    """The names of its metrics: one, since quick sets have few classes."""
    return ("top1",)


def preconditions(_: QuickLinear, train: LabelledSet, test: LabelledSet) -> None:
    """Raises BadInput for what `evaluate` refuses, as far as names and counts tell."""
    learnable(train, test, held_out=True)


def evaluate(
    protocol: QuickLinear, train: FeatureSet, test: FeatureSet, *, device: str | torch.device = "cpu"
) -> dict[str, np.ndarray]:
    """Per test image: `correct` and `in_top5`, whether its class is the first guess, and among the first five.

    Raises:
        BadInput: sets of unlike classes, fewer than two classes, none with two training images.
    """
    labels, classes = train.labels, shared_classes(train.dataset, test.dataset)
    two_classes(labels, train.dataset)
    heads = grid(protocol.inputs, protocol.rates, protocol.decays)
    held = hold_out(labels, share=protocol.held_out, seed=protocol.seed)
    inputs, unseen = standardised(protocol.inputs, train, test, device=device)
    head = choose(protocol, inputs, labels, classes=classes, heads=heads, held=held)
    log.info("linear probe on %s: %s", train.dataset.name, head)
    fitted = fit_grid(protocol, {head.input: inputs[head.input]}, labels, classes=classes, heads=[head])
    found = judge(fitted, portions(fitted, {head.input: unseen[head.input]}, test.labels))
    correct, in_top5 = found.correct[:, 0].numpy(), found.in_top5[:, 0].numpy()
    return {"keys": np.array(test.keys), "correct": correct, "in_top5": in_top5}


def choose(
    protocol: QuickLinear,
    inputs: Mapping[str, Rows],
    labels: Int[Tensor, " n"],
    *,
    classes: int,
    heads: Sequence[GridHead],
    held: Bool[Tensor, " n"],
) -> GridHead:
    """The head that does best on the images held out, after all have been trained on the others."""
    others, kept_back = (np.flatnonzero(which.numpy()) for which in (~held, held))
    fitted = fit_grid(protocol, inputs, labels, classes=classes, heads=heads, among=others)
    return heads[judge(fitted, portions(fitted, inputs, labels, kept_back)).best()]


def fit_grid(
    protocol: QuickLinear,
    inputs: Mapping[str, Rows],
    labels: Int[Tensor, " n"],
    *,
    classes: int,
    heads: Sequence[GridHead],
    among: np.ndarray | None = None,
) -> Heads:
    """Heads trained in one pass over the same batches, at the protocol's steps, batch size, momentum and seed.

    Args:
        inputs: rows of the images, by the name of the input; only the rows of a batch are read at a time.
        among: the images to train on; None takes all.
    """
    among = np.arange(len(labels)) if among is None else among
    draws = pcg64(protocol.seed, "batches")
    size = min(protocol.batch_size, len(among))
    fitted = Heads(heads, {k: rows[:1] for k, rows in inputs.items()}, classes=classes, momentum=protocol.momentum)
    queue = np.empty(0, dtype=np.int64)
    for step in Bar(range(protocol.steps), desc="linear heads", unit="step"):
        if len(queue) < size:
            queue = np.concatenate([queue, draws.permutation(among)])
        picked, queue = torch.from_numpy(queue[:size]), queue[size:]
        x = {name: rows[picked] for name, rows in inputs.items()}
        truth = labels[picked].to(next(iter(x.values())).device)
        fitted.step(x, truth, cosine(step, protocol.steps))
    return fitted


def standardised(
    inputs: Sequence[str], *sets: FeatureSet, device: str | torch.device = "cpu"
) -> tuple[dict[str, Standardised], ...]:
    """For each set the rows of these inputs, at zero mean and unit deviation on the first set."""
    scales = {part: fit_scale(getattr(sets[0], part)) for part in sorted({p for name in inputs for p in INPUTS[name]})}
    made: list[dict[str, Standardised]] = []
    for features in sets:
        rows = {part: _at_hand(getattr(features, part)) for part in scales}
        pairs = {name: [(rows[part], scales[part]) for part in INPUTS[name]] for name in inputs}
        made.append({name: Standardised(tuple(parts), device) for name, parts in pairs.items()})
    return tuple(made)


@dataclass(frozen=True)
class Standardised:
    """Rows of one input on the device of the heads: its parts, each by its scale, next to each other."""

    parts: tuple[tuple[Rows, Scale], ...]
    device: str | torch.device

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self), sum(rows.shape[1] for rows, _ in self.parts)

    def __len__(self) -> int:
        return len(self.parts[0][0])

    def __getitem__(self, which: slice | Tensor | np.ndarray) -> Float[Tensor, "r D"]:
        return torch.cat([scale(rows[which].to(self.device)) for rows, scale in self.parts], 1)


def _at_hand(rows: Rows) -> Rows:
    size = rows.shape[0] * rows.shape[1] * BYTES
    return rows[:] if not isinstance(rows, Tensor) and size < WHOLE else rows
