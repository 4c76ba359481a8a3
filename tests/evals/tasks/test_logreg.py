from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from common.errors import BadInput
from evals.features.feature_set import FeatureSet
from evals.judging.image_classes import hold_out
from evals.protocols.reading import load
from evals.tasks.logreg import Logreg, class_scores, evaluate, fit, metrics
from tests.evals import toys
from tests.evals.toys import labelled

PAPER = load("logreg-paper", Logreg)
SHORT = replace(PAPER, exponents=(-4.0, 2.0), c_count=5)


def clusters(n: int, *, seed: int, classes: int = 7, noise: float = 2.0) -> FeatureSet:
    made = toys.clusters(n, seed=seed, classes=classes, width=12, noise=noise)
    return labelled(*made, "abcdefg"[: max(classes, 2)])


def matrix(features: FeatureSet) -> np.ndarray:
    return features.pooled[:].double().numpy()


def test_the_published_values_of_c():
    assert len(PAPER.grid) == 45
    assert PAPER.grid[::44] == pytest.approx([1e-6, 1e5])
    assert PAPER.grid[1] / PAPER.grid[0] == pytest.approx(10**0.25)


@pytest.mark.parametrize("classes", [2, 7])
def test_predictions_are_those_of_scikit_learn(classes: int):
    train, test = clusters(200, seed=0, classes=classes), clusters(150, seed=1, classes=classes)
    found = evaluate(SHORT, train, test)
    x, y = matrix(train), train.labels.numpy()
    held = hold_out(train.labels, share=0.1, seed=0).numpy()

    def theirs(c: float, rows: np.ndarray) -> LogisticRegression:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return LogisticRegression(C=c, tol=1e-12, max_iter=1000).fit(x[rows], y[rows])

    scores = [theirs(10.0**e, ~held).score(x[held], y[held]) for e in np.linspace(-4, 2, 5)]
    model = theirs(10.0 ** np.linspace(-4, 2, 5)[int(np.argmax(scores))], np.full(len(y), True))
    truth = test.labels.numpy()
    assert (found["correct"] == (model.predict(matrix(test)) == truth)).all()
    five = np.argsort(-model.predict_proba(matrix(test)), 1)[:, :5]
    assert (found["in_top5"] == (five == truth[:, None]).any(1)).all()
    assert list(found["keys"]) == list(test.keys)
    assert 1 / classes < found["correct"].mean() < 1
    assert metrics(SHORT) == ("top1", "top5")


def test_a_class_without_training_images_is_never_guessed():
    train, test = clusters(120, seed=0), clusters(200, seed=1)
    some = [i for i in range(120) if train.labels[i] != 3]
    part = labelled(train.pooled[np.array(some)], train.labels[some], "abcdefg")
    found = evaluate(SHORT, part, test)
    missing = (test.labels == 3).numpy()
    assert not found["correct"][missing].any()
    assert not found["in_top5"][missing].any()
    assert found["correct"][~missing].mean() > 0.3


def test_both_of_two_classes_have_scores():
    features = clusters(60, seed=0, classes=2)
    model, _ = fit(SHORT, matrix(features), features.labels.numpy(), c=1.0)
    scores = class_scores(model, matrix(features), 2)
    assert scores.shape == (60, 2)
    assert (scores.argmax(1) == model.predict(matrix(features))).all()


def test_fits_that_do_not_converge_are_counted_in_the_log_and_warn_of_nothing(caplog: pytest.LogCaptureFixture):
    train, test = clusters(80, seed=0), clusters(20, seed=1)
    for changes, count in (({"max_iterations": 1}, 6), ({"tolerance": 1e-1}, 0)):
        caplog.clear()
        with caplog.at_level("INFO", logger="gramlab"), warnings.catch_warnings():
            warnings.simplefilter("error")
            evaluate(replace(SHORT, **changes), train, test)
        assert ("did not converge" in caplog.text) == bool(count)
        assert (f"{count} of 6 fits" in caplog.text) == bool(count)


def test_other_warnings_of_scikit_learn_are_passed_on(monkeypatch: pytest.MonkeyPatch):
    train = clusters(40, seed=0)
    monkeypatch.setattr("sklearn.linear_model.LogisticRegression", Noisy)
    with pytest.warns(FutureWarning, match="something will change"):
        fit(SHORT, matrix(train), train.labels.numpy(), c=1.0)


class Noisy(LogisticRegression):
    def fit(self, *args: object, **kwargs: object) -> LogisticRegression:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("something will change", FutureWarning, stacklevel=1)
        return super().fit(*args, **kwargs)


def test_every_setting_changes_what_is_fitted_or_chosen(caplog: pytest.LogCaptureFixture):
    train, test = clusters(200, seed=0, noise=3), clusters(400, seed=1, noise=3)
    usual = answers(SHORT, train, test, caplog)
    for changes in (
        {"exponents": (-5.0, -4.0)},
        {"c_count": 4},
        {"max_iterations": 2},
        {"tolerance": 1.0},
    ):
        assert answers(replace(SHORT, **changes), train, test, caplog) != usual, changes
    shares = (0.2, 0.4, 0.6, 0.8)
    assert any(answers(replace(SHORT, held_out=share), train, test, caplog) != usual for share in shares)
    assert any(answers(replace(SHORT, seed=seed), train, test, caplog) != usual for seed in range(1, 6))
    assert replace(SHORT, crop_pct=0.875).view != SHORT.view


def answers(
    protocol: Logreg, train: FeatureSet, test: FeatureSet, caplog: pytest.LogCaptureFixture
) -> tuple[str, list[bool]]:
    caplog.clear()
    with caplog.at_level("INFO", logger="gramlab"):
        found = evaluate(protocol, train, test)
    return caplog.text, found["correct"].tolist()


def test_sets_and_settings_that_cannot_be_are_refused():
    train = clusters(30, seed=0)
    with pytest.raises(BadInput, match="got one class"):
        evaluate(SHORT, clusters(30, seed=0, classes=1), clusters(30, seed=0, classes=1))
    other = labelled(train.pooled, train.labels, "abcdefx")
    with pytest.raises(BadInput, match=r"'g' is in .* alone"):
        evaluate(SHORT, train, other)
    for changes, reason in (
        ({"c_count": 0}, "c_count=0"),
        ({"exponents": (1.0,)}, "exponents"),
        ({"crop_pct": 2.0}, "crop_pct"),
    ):
        with pytest.raises(BadInput, match=reason):
            replace(SHORT, **changes)
