"""How often the interval of a mean rank correlation holds the true one: simulated runs whose truth is known.

    python benchmarks/rank_correlations.py [--experiments 2000] [--seeds 2 3 5 10] [--steps 12]

Two measures wander as training goes on, two arms a seed from a trunk in common on, over half of the steps. "ours" takes
seeds for the unit (reports/ranks.py), "runs" takes each run for one, "checkpoints" each checkpoint (Fisher's
z). All are of the correlation inside runs; the truth is the mean of many. docs/health.md holds what this prints.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from benchmarks.told import Parser
from reports.estimates import student_interval
from reports.ranks import over_seeds, rank_correlation

ARMS, MANY = 2, 20_000
SHARED = {"nothing in common": 0.0, "half of it in common": 0.7}  # of the steps of one measure, in the other


def walks(rng: np.random.Generator, seeds: int, *, steps: int, shared: float) -> np.ndarray:
    """Both measures of each run: [seeds, arms, 2, steps]."""
    own = rng.standard_normal((seeds, ARMS, 2, steps))
    own[..., : steps // 2] = own[:, :1, :, : steps // 2]
    own[:, :, 1] = shared * own[:, :, 0] + np.sqrt(1 - shared**2) * own[:, :, 1]
    return own.cumsum(axis=-1)


def correlations(runs: np.ndarray) -> np.ndarray:
    """Inside each run: [seeds, arms]."""
    return np.array([[rank_correlation(*both) for both in arms] for arms in runs])


def simulate(seeds: int, *, experiments: int, steps: int, shared: float) -> dict[str, float]:
    """By what is taken for independent, the share of intervals that hold the truth."""
    rng = np.random.default_rng([seeds, steps, round(100 * shared)])
    truth = correlations(walks(rng, MANY // ARMS, steps=steps, shared=shared)).mean() if shared else 0.0
    found: dict[str, list[bool]] = {"ours": [], "runs": [], "checkpoints": []}
    for _ in range(experiments):
        runs = correlations(walks(rng, seeds, steps=steps, shared=shared))
        _, low, high = over_seeds(runs.mean(axis=1).tolist())
        found["ours"].append(low <= truth <= high)
        _, low, high = student_interval(runs.ravel().tolist())
        found["runs"].append(low <= truth <= high)
        half = 1.96 / np.sqrt(runs.size * steps - 3)
        found["checkpoints"].append(abs(np.arctanh(runs.mean()) - np.arctanh(truth)) <= half)
    return {name: float(np.mean(holds)) for name, holds in found.items()}


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(description="Coverage of the intervals of rank correlations.")
    parser.add_argument("--experiments", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5, 10])
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args(argv)
    print("| the two measures have | seeds | ours | runs | checkpoints |")
    print("|---|---|---|---|---|")
    for name, shared in SHARED.items():
        for seeds in options.seeds:
            found = simulate(seeds, experiments=options.experiments, steps=options.steps, shared=shared)
            print(f"| {name} | {seeds} | {' | '.join(f'{100 * holds:.1f}' for holds in found.values())} |", flush=True)


if __name__ == "__main__":
    main()
