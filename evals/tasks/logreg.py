"""Logistic regression on frozen image features by scikit-learn, as DINOv3's code does it (arXiv 2508.10104 §6.1)."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int

from common.bounds import About, Count, Positive, Real, ShareBelowOne, Whole
from common.progress import Bar
from common.schema import settings
from evals.datasets.labelled_set import LabelledSet, Needs
from evals.features.feature_set import FeatureSet
from evals.judging.image_classes import hits, hold_out, learnable, shared_classes, two_classes
from evals.protocols.protocol import Cropped

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

log = logging.getLogger("gramlab")


@settings
class Logreg(Cropped):
    """Settings as `protocols/logreg-paper.yaml` explains them."""

    method: ClassVar[str] = "logreg"
    task: ClassVar[str] = "logreg"
    needs: ClassVar[Needs] = "image classes"

    exponents: Annotated[tuple[Real, Real], About("of 10, the first and the last inverse penalty C that is tried")]
    c_count: Annotated[Count, About("number of C that are tried")]
    max_iterations: Annotated[Count, About("iterations of each fit, at most")]
    tolerance: Annotated[Positive, About("largest component of the gradient at which a fit ends")]
    held_out: Annotated[ShareBelowOne, About("share of each class's training images that C is chosen on")]
    seed: Annotated[Whole, About("of the images held out")]

    @property
    def grid(self) -> list[float]:
        """Inverse penalties C, rising, evenly spaced in their logarithm."""
        return (10 ** np.linspace(*self.exponents, self.c_count)).tolist()


def metrics(_: Logreg) -> tuple[str, ...]:
    """The names of its metrics, the leading one first."""
    return "top1", "top5"


def preconditions(_: Logreg, train: LabelledSet, test: LabelledSet) -> None:
    """Raises BadInput for what `evaluate` refuses, as far as names and counts tell."""
    learnable(train, test, held_out=True)


def evaluate(
    protocol: Logreg, train: FeatureSet, test: FeatureSet, *, device: str | torch.device = "cpu"
) -> dict[str, np.ndarray]:
    """Per test image: `correct` and `in_top5`, whether its class is the first guess, and among the first five.

    Args:
        device: not used, scikit-learn computes on the CPU; all features are held there in float64.

    Raises:
        BadInput: sets of unlike classes, fewer than two classes, none with two training images.
    """
    labels, classes = train.labels, shared_classes(train.dataset, test.dataset)
    two_classes(labels, train.dataset)
    held = hold_out(labels, share=protocol.held_out, seed=protocol.seed).numpy()
    x, y = train.pooled[:].double().numpy(), labels.numpy()
    title = f"logistic regression on {train.dataset.name}"
    unfinished = 0
    with Bar(total=protocol.c_count + 1, desc=title, unit="fit") as bar:
        shares: list[float] = []
        for c in protocol.grid:
            fitted, whole = fit(protocol, x[~held], y[~held], c=c)
            shares.append(float(np.mean(fitted.predict(x[held]) == y[held])))
            unfinished += not whole
            bar.set_postfix({"C": f"{c:.2g}", "held out": f"{shares[-1]:.3f}"}, refresh=False)
            bar.update()
        best = protocol.grid[int(np.argmax(shares))]  # the first of equals: the strongest penalty
        fitted, whole = fit(protocol, x, y, c=best)
        unfinished += not whole
        bar.update()
    log.info("%s: C = %.3g", title, best)
    if unfinished:
        log.warning("%s: %d of %d fits did not converge", title, unfinished, protocol.c_count + 1)
    scores = torch.from_numpy(class_scores(fitted, test.pooled[:].double().numpy(), classes))
    correct, in_top5 = hits(scores, test.labels)
    return {"keys": np.array(test.keys), "correct": correct.numpy(), "in_top5": in_top5.numpy()}


def fit(
    protocol: Logreg, x: Float[np.ndarray, "n D"], y: Int[np.ndarray, " n"], *, c: float
) -> tuple[LogisticRegression, bool]:
    """scikit-learn's regression by L-BFGS from zero with an L2 penalty, and whether it says that it converged."""
    from sklearn.exceptions import ConvergenceWarning  # here: importing it takes longer than most of what else runs
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=c, tol=protocol.tolerance, max_iter=protocol.max_iterations, solver="lbfgs")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(x, y)
    for other in caught:
        if not issubclass(other.category, ConvergenceWarning):
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    return model, not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)


def class_scores(model: LogisticRegression, x: Float[np.ndarray, "n D"], classes: int) -> Float[np.ndarray, "n C"]:
    """Log-odds of every class, minus infinity for one that the training set does not hold."""
    found = model.decision_function(x)
    if found.ndim == 1:  # of two classes scikit-learn scores the second alone
        found = np.stack([-found, found], 1)
    scores = np.full((len(x), classes), -np.inf)
    scores[:, model.classes_] = found
    return scores
