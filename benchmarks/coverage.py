"""How often intervals over seeds and images hold the true difference: simulated experiments whose truth is known.

    python benchmarks/coverage.py [--experiments 2000] [--seeds 1 2 3 5 10] [--images 200] [--processes 2]

An experiment is two arms, their seeds, and images on which all of them are judged. Each outcome is moved by its seed,
by its image, by what the image does to the arm, and by what it does to this arm with this seed alone. The rows say how
much of the variance of the mean difference comes from seeds, in parts of what comes from images. "ours" is the interval
of the reports (evals/results/crossed.py); beside it are two others from the same numbers: Welch and Satterthwaite's
degrees of freedom, and the percentile bootstrap that draws seeds and images in turn. docs/statistics.md holds what this
prints.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from scipy.special import ndtr, stdtrit
from threadpoolctl import threadpool_limits

from benchmarks.told import Parser
from evals.results.bootstrap import Draws, joint_draws
from evals.results.crossed import Crossed, crossed

RATIOS = (0.0, 0.3, 1.0, 3.0, 10.0)
RESAMPLES = 400
EFFECT = 0.1  # of the second arm on what an outcome follows from
NAMES = ("ours", "Welch", "hierarchical bootstrap")
PRESENT = np.array([0.9, 0.7, 0.5, 0.2, 0.15, 0.1])  # share of the images that a class is in
Latent = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]


class Kind(NamedTuple):
    """A metric; the outcomes of images whose latent quality [n] and areas [n C] are these; and the true value of an arm
    from the mean and the standard deviation of its seeds' quality. Images spread by 1 about it."""

    outcomes: Latent
    truth: Callable[[float, float], float]


def correct(quality: np.ndarray, _areas: np.ndarray) -> dict[str, np.ndarray]:
    return {"correct": (quality > 0).astype(float)}


def errors(quality: np.ndarray, _areas: np.ndarray) -> dict[str, np.ndarray]:
    """Skewed: their logarithm is normal."""
    return {"rmse": np.exp(-0.5 * quality)}


def overlaps(quality: np.ndarray, areas: np.ndarray) -> dict[str, np.ndarray]:
    """An image counts by its areas, and the ratio of their sums is not linear in what it brings."""
    return {"intersect": areas * (0.5 + 0.15 * quality)[:, None], "predicted": areas, "truth": areas}


def overlap(mean: float, spread: float) -> float:
    """The mean over seeds of the IoU of endlessly many images: of q = |I| / |T| it is q / (2 − q)."""
    points, weights = np.polynomial.hermite_e.hermegauss(40)
    shares = 0.5 + 0.15 * (mean + spread * points)
    return float((shares / (2 - shares)) @ weights / weights.sum())


KINDS = {
    "top1": Kind(correct, lambda mean, spread: float(ndtr(mean / np.sqrt(1 + spread**2)))),
    "rmse": Kind(errors, lambda mean, spread: float(np.exp(-0.5 * mean + 0.125 * (1 + spread**2)))),
    "miou": Kind(overlaps, overlap),
}


def experiment(metric: str, rng: np.random.Generator, *, seeds: int, images: int, spread: float) -> Draws:
    """The metric of the first arm's seeds, then of the second's, whose quality spreads by `spread` over seeds."""
    common, bent, alone = np.sqrt([0.6, 0.25, 0.15])  # shares of the images' variance, 1 in all
    areas = (rng.random((images, len(PRESENT))) < PRESENT) * np.exp(rng.normal(0, 0.7, (images, len(PRESENT))))
    image, sides = rng.normal(size=images), []
    for arm in (0, 1):
        towards_arm = rng.normal(size=images)
        for _ in range(seeds):
            own = common * image + bent * towards_arm + alone * rng.normal(size=images)
            quality = EFFECT * arm + spread * rng.normal() + own
            sides.append({"keys": np.arange(images), **KINDS[metric].outcomes(quality, areas)})
    return joint_draws(metric, sides, resamples=RESAMPLES, seed=int(rng.integers(2**32)))


def spread_for(metric: str, ratio: float, *, seeds: int, images: int) -> float:
    """The spread of seeds that puts `ratio` times the images' variance into the mean difference."""
    rng = np.random.default_rng(1)
    still = [experiment(metric, rng, seeds=seeds, images=images, spread=0.0) for _ in range(300)]
    over_images = np.var([np.subtract(*_arms(found.values)).mean() for found in still])
    truth = KINDS[metric].truth
    slope = (truth(EFFECT, 0.0) - truth(0.0, 0.0)) / EFFECT
    return float(np.sqrt(ratio * over_images * seeds / 2) / abs(slope))


def held(metric: str, rng: np.random.Generator, *, seeds: int, images: int, spread: float) -> list[bool]:
    """Whether each interval of `NAMES` holds the true difference, in one experiment."""
    found = experiment(metric, rng, seeds=seeds, images=images, spread=spread)
    values, draws = np.subtract(*_arms(found.values)), np.subtract(*_arms(found.draws))
    ours = crossed(values, draws, images=found.images)
    truth = KINDS[metric].truth
    true = truth(EFFECT, spread) - truth(0.0, spread)
    ends = [(ours.low, ours.high), welch(ours), hierarchical(draws, rng)] if seeds > 1 else [(ours.low, ours.high)]
    return [low <= true <= high for low, high in ends]


def welch(found: Crossed) -> tuple[float, float]:
    """The same variance with the degrees of freedom of Welch and Satterthwaite."""
    parts = np.array([found.seed_variance / found.seeds, found.image_variance])
    freedom = parts.sum() ** 2 / (parts**2 / [found.seeds - 1, found.images - 1]).sum()
    half = float(stdtrit(freedom, 0.975) * np.sqrt(parts.sum()))
    return found.value - half, found.value + half


def hierarchical(draws: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Seeds drawn with replacement in each resample of the images."""
    drawn = rng.integers(0, draws.shape[1], draws.shape)
    low, high = np.percentile(np.take_along_axis(draws, drawn, axis=1).mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def _arms(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the second arm and of the first, seeds last."""
    first, second = np.split(values, 2, axis=-1)
    return second, first


def coverage(cell: tuple[str, int, float], *, experiments: int, images: int) -> np.ndarray:
    """The share of experiments in which each interval holds the truth."""
    metric, seeds, ratio = cell
    with threadpool_limits(1):
        spread = spread_for(metric, ratio, seeds=seeds, images=images)
        rng = np.random.default_rng([seeds, round(10 * ratio), *metric.encode()])
        tried = [held(metric, rng, seeds=seeds, images=images, spread=spread) for _ in range(experiments)]
    return np.mean(tried, axis=0)


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 5, 10])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args(argv)
    cells = [*product(KINDS, args.seeds, RATIOS)]
    share = partial(coverage, experiments=args.experiments, images=args.images)
    print("metric  seeds  seeds : images  " + "  ".join(name.rjust(8) for name in NAMES))
    with ProcessPoolExecutor(args.processes) as pool:
        for (metric, seeds, ratio), shares in zip(cells, pool.map(share, cells), strict=True):
            numbers = "  ".join(f"{100 * x:{max(len(name), 8)}.1f}" for name, x in zip(NAMES, shares, strict=False))
            print(f"{metric:6s}  {seeds:5d}  {ratio:14g}  {numbers}", flush=True)


if __name__ == "__main__":
    main()
