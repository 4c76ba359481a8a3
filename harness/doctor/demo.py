"""Whether the demo can run: its settings, its weights, and all else that `gramlab run` refuses before it writes."""

from __future__ import annotations

from collections.abc import Iterator

from common.errors import BadInput, first_line
from evals.mmseg_bridge import ade20k_classes
from harness.config import load
from harness.data.pool import fingerprint
from harness.doctor.finding import Finding
from harness.evaluate import Evaluator
from harness.graph import jobs
from harness.layers import EXPERIMENTS
from harness.opening import opened

DEMO = EXPERIMENTS / "gram_ablation.yaml"


def findings() -> Iterator[Finding]:
    """All of it."""
    yield Finding("metrics", f"mmsegmentation answers: {len(ade20k_classes())} classes of ADE20K")
    yield demo()


def demo() -> Finding:
    """The demo as its plan opens it."""
    try:
        opening = opened(load(DEMO))
        todo = jobs(opening.experiment, fingerprint=lambda data: fingerprint(opening.pools(data)))
        Evaluator(opening.experiment, opening.folder)
    except BadInput as error:
        return Finding("demo", first_line(error), "broken", f"gramlab run {DEMO} --plan tells more")
    return Finding("demo", f"make demo can run: {len(todo)} jobs, {opening.experiment.cost}")
