"""How often the interval of a fall from a peak holds the true fall: simulated curves whose truth is known.

    python benchmarks/falls.py [--experiments 2000] [--seeds 2 3 5 10] [--steps 15]

A curve is a mean at each step, a level of each seed, and noise of each seed and step. "ours" is
reports/evidence/falls.py; "naive" takes each seed's own highest value for its peak, and s²/S for the variance. Both say
by how much of the peak they are off on average, and how many of 100 intervals hold the truth. docs/statistics.md holds
what this prints.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from benchmarks.told import Parser
from reports.estimates import student_interval
from reports.evidence.falls import fall

LEVEL, SEED, NOISE = 0.5, 0.03, 0.02  # of the curve; spread of seeds, and of their values about their own curve
SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "flat": lambda at: LEVEL + 0 * at,
    "rises by a quarter": lambda at: LEVEL * (0.8 + 0.2 * at),
    "flat, then falls by 6 %": lambda at: LEVEL - 0.1 * np.maximum(at - 0.7, 0),
    "a round peak, falls by 22 %": lambda at: LEVEL - 0.3 * (at - 0.4) ** 2,
    "a sharp peak, falls by 40 %": lambda at: LEVEL - 0.4 * np.abs(at - 0.5),
}


def simulate(shape: str, seeds: int, *, experiments: int, steps: int = 15) -> dict[str, tuple[float, float]]:
    """By method: mean error of the fall, as a share of the peak, and the share of intervals that hold the true one."""
    curve = SHAPES[shape](np.linspace(0, 1, steps))
    truth = float((curve.max() - curve[-1]) / curve.max())
    rng, found = np.random.default_rng([seeds, steps, *shape.encode()]), {"ours": [], "naive": []}
    for _ in range(experiments):
        values = curve + SEED * rng.standard_normal((seeds, 1)) + NOISE * rng.standard_normal((seeds, steps))
        ours = fall({seed: dict(enumerate(row)) for seed, row in enumerate(values.tolist())})
        assert ours is not None
        found["ours"].append((ours.value, ours.low, ours.high))
        found["naive"].append(student_interval((1 - values[:, -1] / values.max(axis=1)).tolist()))
    return {name: judged(np.array(rows), truth) for name, rows in found.items()}


def judged(rows: np.ndarray, truth: float) -> tuple[float, float]:
    """Of estimates with their ends [n 3]."""
    value, low, high = rows.T
    return float(value.mean() - truth), float(((low <= truth) & (truth <= high)).mean())


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(description="Coverage of the intervals of a fall.")
    parser.add_argument("--experiments", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5, 10])
    parser.add_argument("--steps", type=int, default=15)
    options = parser.parse_args(argv)
    print("| true curve | seeds | ours: error, % | holds, of 100 | naive: error, % | holds, of 100 |")
    print("|---|---|---|---|---|---|")
    for shape in SHAPES:
        for seeds in options.seeds:
            found = simulate(shape, seeds, experiments=options.experiments, steps=options.steps)
            cells = [f"{100 * error:+.1f} | {100 * holds:.1f}" for error, holds in found.values()]
            print(f"| {shape} | {seeds} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
