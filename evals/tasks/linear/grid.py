"""The heads of a linear probe: a grid of inputs × rates × decays, trained side by side and judged together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from common.errors import BadInput
from common.products import fast_linear, gradient_of_weight
from evals.features.matrix import Rows
from evals.judging.image_classes import hits

Input = Literal["cls", "mean", "cls_mean"]
# What a head may read: these parts of `FeatureSet`, side by side
INPUTS = {"cls": ("pooled",), "mean": ("mean",), "cls_mean": ("pooled", "mean")}
FEW = 32  # classes below which torch's own softmax is slower than its parts
ROWS, CELLS = 8192, 2**24  # images, and logits, that are held at a time when heads are judged


class GridHead(NamedTuple):
    """One softmax regression of a grid: what it reads, its peak learning rate, its weight decay."""

    input: str
    rate: float
    decay: float

    def __str__(self) -> str:
        """Exact: with rounded rates two heads could bear one name."""
        return f"{self.input}, rate {self.rate!r}, decay {self.decay!r}"


def grid(inputs: Sequence[str], rates: Sequence[float], decays: Sequence[float]) -> tuple[GridHead, ...]:
    """Every combination, inputs slowest, decays fastest."""
    return tuple(GridHead(*settings) for settings in itertools.product(inputs, rates, decays))


def cosine(step: int, steps: int) -> float:
    """1 at the first step, falling to 0 at the end: what rates are multiplied by."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


class Heads:
    """The heads of a grid, trained side by side: those of one input share each matrix product.

    The update is that of `torch.optim.SGD` with momentum on the mean cross-entropy of each head by itself; weight decay
    acts on weights and biases alike. A head that diverges leaves the others as they are.
    """

    def __init__(
        self,
        heads: Sequence[GridHead],
        like: Mapping[str, Float[Tensor, "b D"]],
        *,
        classes: int,
        momentum: float,
        start: Mapping[str, Float[Tensor, "D C"]] | None = None,
    ) -> None:
        """
        Args:
            heads: those of one input stand next to each other, as `grid` gives them.
            like: a batch, for the inputs' widths, their type and device.
            start: first weights of the heads of each input, zero where not given; biases start at zero.
        """
        self.heads, self.classes = tuple(heads), classes
        self._blocks = {
            name: _Block(list(group), like[name], classes, momentum, None if start is None else start[name])
            for name, group in itertools.groupby(heads, key=lambda head: head.input)
        }

    def step(self, x: Mapping[str, Float[Tensor, "B D"]], labels: Int[Tensor, " B"], factor: float) -> None:
        """One step of every head on a batch, rates times `factor`."""
        for name, block in self._blocks.items():
            error = residuals(block.logits(x[name]), labels)
            block.descend(x[name], error.flatten(1), factor)

    def logits(self, x: Mapping[str, Float[Tensor, "B D"]]) -> Float[Tensor, "B R C"]:
        """Scores of the classes by every head, in the order of `heads`."""
        return torch.cat([block.logits(x[name]) for name, block in self._blocks.items()], 1)

    def parameters(self, index: int) -> tuple[Float[Tensor, "D C"], Float[Tensor, " C"]]:
        """Weight and bias of one head."""
        name = self.heads[index].input
        block, first = self._blocks[name], next(i for i, head in enumerate(self.heads) if head.input == name)
        columns = slice((index - first) * self.classes, (index - first + 1) * self.classes)
        return block.weight[:, columns], block.bias[0, columns]


class _Block:
    """Heads of one input as one matrix [D RC]: the columns of a head, its classes, follow those of the one before it.

    So a gradient comes out of its product as it is added, in one order with weights and speeds.
    """

    def __init__(
        self, heads: Sequence[GridHead], like: Tensor, classes: int, momentum: float, start: Tensor | None
    ) -> None:
        self.weight = like.new_zeros(like.shape[1], len(heads) * classes)
        if start is not None:
            self.weight += start.to(like).repeat(1, len(heads))
        self.bias = like.new_zeros(1, len(heads) * classes)
        self.speeds = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        self.rate, self.decay = (
            like.new_tensor([[getattr(head, key) for head in heads]]).repeat_interleave(classes, 1)
            for key in ("rate", "decay")
        )
        self.decays = any(head.decay for head in heads)
        self.classes, self.momentum = classes, momentum

    def logits(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B R C"]:
        with fast_linear():
            return F.linear(x, self.weight.T, self.bias[0]).unflatten(1, (-1, self.classes))

    def descend(self, x: Float[Tensor, "B D"], error: Float[Tensor, "B RC"], factor: float) -> None:
        share = 1 / len(x)
        gradients = gradient_of_weight(x, error), error.sum(0, keepdim=True)
        for values, speed, gradient in zip((self.weight, self.bias), self.speeds, gradients, strict=True):
            speed.mul_(self.momentum).add_(gradient, alpha=share)
            if self.decays:
                speed.addcmul_(values, self.decay)
            values.addcmul_(speed, self.rate, value=-factor)


def residuals(logits: Float[Tensor, "B R C"], labels: Int[Tensor, " B"]) -> Float[Tensor, "B R C"]:
    """Gradient of the cross-entropy by the logits, softmax − one-hot; what the logits hold is used up."""
    if logits.shape[2] < FEW:
        found = logits.sub_(logits.amax(2, keepdim=True)).exp_()
        found.div_(found.sum(2, keepdim=True))
    else:
        found = torch.softmax(logits, 2)  # torch's takes half as long again over its own input
    truth = labels.view(-1, 1, 1).expand(-1, logits.shape[1], 1)
    return found.scatter_add_(2, truth, found.new_full(truth.shape, -1))


class Judged(NamedTuple):
    """How the heads of a grid did: per image and head, and the mean cross-entropy of each head."""

    correct: Bool[Tensor, "n R"]
    in_top5: Bool[Tensor, "n R"]
    loss: Float[Tensor, " R"]

    def best(self) -> int:
        """The head with the most right; among equals the lowest loss. Raises BadInput where all have diverged."""
        share = self.correct.double().mean(0)
        usable = [r for r in range(len(share)) if bool(self.loss[r].isfinite())]
        if not usable:
            raise BadInput("got linear heads whose losses are all infinite: want one that learns; do lower the rates")
        return max(usable, key=lambda r: (float(share[r]), -float(self.loss[r])))


def judge(fitted: Heads, batches: Iterable[tuple[Mapping[str, Tensor], Int[Tensor, " b"]]]) -> Judged:
    """All heads on these batches of inputs and labels, of which one at a time is held."""
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for x, labels in batches:
        logits = fitted.logits(x).cpu()
        truth = labels.cpu().view(-1, 1).expand(-1, logits.shape[1])
        parts.append((*hits(logits, truth), F.cross_entropy(logits.mT, truth, reduction="none")))
    correct, in_top5, losses = (torch.cat(part) for part in zip(*parts, strict=True))
    return Judged(correct, in_top5, losses.double().mean(0))


def portions(
    fitted: Heads, inputs: Mapping[str, Rows], labels: Int[Tensor, " n"], among: np.ndarray | None = None
) -> Iterator[tuple[dict[str, Tensor], Int[Tensor, " b"]]]:
    """Batches for `judge` of these images, or of those of them at `among`: a bounded number of rows and logits."""
    among = np.arange(len(labels)) if among is None else among
    size = min(max(CELLS // (len(fitted.heads) * fitted.classes), 1), ROWS)
    for start in range(0, len(among), size):
        picked = torch.from_numpy(among[start : start + size])
        yield {name: rows[picked] for name, rows in inputs.items()}, labels[picked]
