"""Speed and memory of the evaluations on cached features: kNN, the linear grid, banks that outgrow memory.

    python benchmarks/evals.py [--only knn linear memory] [--threads 1] [--bank 50000] [--queries 10000]

Features are made up: Gaussian clusters around the centres of classes. What is compared sees the same ones, in one
process, in turns, the fastest of --repeat; all are held to --threads. Seconds are of the wall clock; the second ratio
is of CPU time, which other processes on the machine disturb less, and goes into the file of what was measured.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import sklearn
import torch
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits
from torch import Tensor

from benchmarks.knn_memory import compare_memory
from benchmarks.measure import note
from benchmarks.told import Parser
from common.speed import machine_line
from evals.fitting.nearest import search
from evals.protocols.reading import load
from evals.tasks import knn
from evals.tasks.linear.grid import GridHead, grid
from evals.tasks.linear.quick import QuickLinear, fit_grid

RATES = (*(m * 10**-n for n in (5, 4, 3, 2) for m in (1, 2, 5)), 0.1)  # the 13 of the DINOv3 code


class Spent(NamedTuple):
    """Seconds of the wall clock and of all threads together."""

    wall: float
    cpu: float

    def over(self, other: Spent) -> str:
        return f"{self.wall / other.wall:10.1f}{self.cpu / other.cpu:10.1f}"


def clusters(n: int, width: int, classes: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Features [n D] and their classes; the centres are the same for every seed."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(classes))
    labels = torch.randint(classes, (n,), generator=draw)
    return 0.35 * centres[labels] + torch.randn(n, width, generator=draw), labels


def timed(paths: Sequence[Callable[[Any], Any]], task: Any, warm: Any, repeat: int) -> list[tuple[Spent, Any]]:
    """The fastest of `repeat` turns of each path, and what it gave; all do a small task, `warm`, first."""
    found: list[list[tuple[Spent, Any]]] = [[] for _ in paths]
    for path in paths:
        path(warm)
    for _ in range(repeat):
        for turns, path in zip(found, paths, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            answer = path(task)
            turns.append((Spent(time.perf_counter() - wall, time.process_time() - cpu), answer))
    return [min(turns, key=lambda turn: turn[0].wall) for turns in found]


def keep(case: str, ours: Spent, theirs: Spent) -> None:
    """Append a ratio of CPU times to the file of what was measured, and tell of the last one of the same case."""
    found = {"seconds": ours.cpu, "reference_seconds": theirs.cpu, "ratio": theirs.cpu / ours.cpu}
    if before := note("evals", case, found, device=torch.device("cpu")):
        print(f"{'':26}{before}")


class Vote(NamedTuple):
    """A bank with its classes, and queries."""

    protocol: knn.Knn
    bank: Tensor  # [n D]
    labels: Tensor
    queries: Tensor  # [q D]
    classes: int


def ours(vote: Vote) -> Tensor:
    """Class scores [q C]."""
    parts = [
        knn.vote(similar, vote.labels[rows], vote.protocol, classes=vote.classes)[0]
        for _, similar, rows in search(vote.queries, vote.bank, k=max(vote.protocol.k))
    ]
    return torch.cat(parts)


def theirs(vote: Vote, metric: str) -> Tensor:
    """Classes [q] by scikit-learn's weighted classifier. Its Euclidean path is the faster one, on unit rows."""
    bank, queries = (F.normalize(x) if metric == "euclidean" else x for x in (vote.bank, vote.queries))

    def weigh(distance: np.ndarray) -> np.ndarray:
        cosine = 1 - (distance if metric == "cosine" else distance**2 / 2)
        return np.exp(cosine / vote.protocol.temperature)

    options: dict[str, Any] = {"weights": weigh, "metric": metric, "algorithm": "brute"}
    classifier = KNeighborsClassifier(max(vote.protocol.k), **options)
    return torch.from_numpy(np.asarray(classifier.fit(bank.numpy(), vote.labels.numpy()).predict(queries.numpy())))


def compare_knn(given: argparse.Namespace) -> None:
    """Times and answers of the nearest-neighbour vote."""
    print(f"kNN, bank {given.bank} x queries {given.queries} x width {given.width}, {given.classes} classes")
    print(f"{'':26}{'seconds':>10}{'ratio':>10}{'CPU ratio':>10}   same class as ours")
    bank, labels = clusters(given.bank, given.width, given.classes, seed=0)
    queries, _ = clusters(given.queries, given.width, given.classes, seed=1)
    for k in given.k:
        vote = Vote(load("knn-quick", knn.Knn, k=(k,)), bank, labels, queries, given.classes)
        paths = [ours, partial(theirs, metric="cosine"), partial(theirs, metric="euclidean")]
        (mine, scores), *others = timed(paths, vote, vote._replace(queries=queries[:64]), given.repeat)
        print(f"{f'k {k}: ours':26}{mine.wall:10.2f}")
        for metric, (spent, classes) in zip(("cosine", "euclidean"), others, strict=True):
            title = f"k {k}: scikit-learn, {metric}"
            print(f"{title:28}{spent.wall:8.2f}{spent.over(mine)}   {agreement(scores, classes)}")
            size = f"bank {given.bank} x queries {given.queries} x width {given.width}"
            keep(f"kNN, k {k}, {size}, scikit-learn, {metric}", mine, spent)


def agreement(scores: Tensor, classes: Tensor) -> str:
    """How many classes are the same, and by how much of the vote those that are not lie apart."""
    other = scores.argmax(1) != classes
    text = f"{len(classes) - int(other.sum())} of {len(classes)}"
    if other.any():
        gap = scores[other].max(1).values - scores[other].gather(1, classes[other, None])[:, 0]
        text += f"; the others by at most {float(gap.max()):.1e} of the vote"
    return text


class Probe(NamedTuple):
    """Features and classes that linear heads are fitted on, and the images of each batch."""

    protocol: QuickLinear
    x: Tensor  # [n D]
    labels: Tensor
    classes: int
    batches: list[Tensor]


class Overheard:
    """Features that take down which rows were asked for."""

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.shape, self.asked = rows, rows.shape, []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: slice | Tensor | np.ndarray) -> Tensor:
        if not isinstance(which, slice):
            self.asked.append(torch.as_tensor(which))
        return self.rows[which]


def batches_of(protocol: QuickLinear, x: Tensor, labels: Tensor, classes: int) -> list[Tensor]:
    """The images of each batch that `fit_grid` takes."""
    rows = Overheard(x)
    fit_grid(protocol, {"cls": rows}, labels, classes=classes, heads=grid(("cls",), RATES[:1], (0.0,)))
    return rows.asked


def fit_together(probe: Probe, heads: Sequence[GridHead]) -> list[Tensor]:
    """Weights and biases of heads trained in one pass."""
    fitted = fit_grid(probe.protocol, {"cls": probe.x}, probe.labels, classes=probe.classes, heads=heads)
    return [values for index in range(len(heads)) for values in fitted.parameters(index)]


def fit_apart(probe: Probe, heads: Sequence[GridHead]) -> list[Tensor]:
    """The same by a pass for each head."""
    return [values for head in heads for values in fit_together(probe, [head])]


def fit_plainly(probe: Probe, heads: Sequence[GridHead]) -> list[Tensor]:
    """The same by torch's own modules, on the batches that the grid sees."""
    return [values for head in heads for values in plain_fit(probe, head.rate)]


def plain_fit(probe: Probe, rate: float) -> tuple[Tensor, Tensor]:
    head = torch.nn.Linear(probe.x.shape[1], probe.classes)
    for values in head.parameters():
        torch.nn.init.zeros_(values)
    optimizer = torch.optim.SGD(head.parameters(), lr=rate, momentum=probe.protocol.momentum)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, probe.protocol.steps)
    for picked in probe.batches[: probe.protocol.steps]:
        optimizer.zero_grad()
        F.cross_entropy(head(probe.x[picked]), probe.labels[picked]).backward()
        optimizer.step()
        schedule.step()
    return head.weight.detach().T, head.bias.detach()


def compare_linear(given: argparse.Namespace) -> None:
    """Times and heads of the grid of rates against one fit after the other."""
    print(f"linear, {len(RATES)} rates, {given.bank} images x width {given.width}, {given.steps} steps of 256")
    print(f"{'':26}{'seconds':>10}{'ratio':>10}{'CPU ratio':>10}   largest difference of a weight")
    heads = grid(("cls",), RATES, (0.0,))
    for classes in given.linear_classes:
        protocol = load("linear-quick", QuickLinear, rates=RATES, steps=given.steps, batch_size=min(256, given.bank))
        x, labels = clusters(given.bank, given.width, classes, seed=0)
        probe = Probe(protocol, x, labels, classes, batches_of(protocol, x, labels, classes))
        warm = probe._replace(protocol=replace(protocol, steps=5))
        paths = [partial(path, heads=heads) for path in (fit_together, fit_apart, fit_plainly)]
        (ours, mine), *others = timed(paths, probe, warm, given.repeat)
        print(f"{f'{classes} classes: one pass':26}{ours.wall:10.2f}")
        for title, (spent, parts) in zip(("one by one", "torch.optim.SGD"), others, strict=True):
            gap = max(float((a - b).abs().max()) for a, b in zip(mine, parts, strict=True))
            print(f"{f'{classes} classes: {title}':26}{spent.wall:10.2f}{spent.over(ours)}   {gap:.1e}")
            size = f"{given.bank} images x width {given.width}, {given.steps} steps"
            keep(f"linear, {classes} classes, {len(RATES)} rates, {size}, {title}", ours, spent)


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add: Callable[..., Any] = parser.add_argument
    compare = {"knn": compare_knn, "linear": compare_linear, "memory": compare_memory}
    add("--only", nargs="+", choices=compare, default=list(compare), help="which comparisons (default: all)")
    add("--bank", type=int, default=50_000, help="training images (default: %(default)s)")
    add("--queries", type=int, default=10_000, help="test images (default: %(default)s)")
    add("--width", type=int, default=384, help="of the features (default: %(default)s)")
    add("--classes", type=int, default=100, help="of kNN (default: %(default)s)")
    add("--k", type=int, nargs="+", default=[20], help="neighbours (default: 20)")
    add("--linear-classes", type=int, nargs="+", default=[10, 100], help="of the linear heads (default: 10 100)")
    add("--steps", type=int, default=200, help="of each linear fit (default: %(default)s)")
    add("--threads", type=int, default=1, help="of torch, BLAS and scikit-learn (default: %(default)s)")
    add("--repeat", type=int, default=1, help="turns of each, the fastest counts (default: %(default)s)")
    given = parser.parse_args(argv)
    print(machine_line(torch.device("cpu")))
    print(f"threads {given.threads}, torch {torch.__version__}, scikit-learn {sklearn.__version__}")
    torch.set_num_threads(given.threads)
    with threadpool_limits(given.threads):
        for part in given.only:
            print()
            compare[part](given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
