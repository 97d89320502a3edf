"""A linear layer fitted to fixed features: the head, its warm start, and the baselines' core.

The problem is convex: scikit-learn's L-BFGS solves it in well under a second for a thousand rows,
the same way every time, so there is nothing to resume and no learning rate to get wrong. Starting
an encoder's fine-tuning from this head, instead of from random numbers, means that no step is spent
on pulling the encoder towards noise (Kumar et al. 2022, arXiv 2202.10054).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freehold.runtimes.formats import Linear

if TYPE_CHECKING:
    from freehold.training.targets import Matrix

_MOST_ITERATIONS = 2_000


def fit_linear(
    features: Any, targets: Matrix, weights: Matrix, kind: str, strength: float
) -> Linear:
    """Return weight [options, features] and bias [options], float64.

    `features` [rows, features] is dense or scipy-sparse. An option without a row gets a bias of
    minus infinity (it is never given), a label that every row has plus infinity.
    """
    import numpy as np

    options, width = targets.shape[1], features.shape[1]
    weight = np.zeros((options, width), dtype=np.float64)
    if kind == "labels":
        bias = np.zeros(options, dtype=np.float64)
        for option in range(options):
            has = targets[:, option] > 0
            if has.all() or not has.any():
                bias[option] = np.inf if has.all() else -np.inf
                continue
            model = _solve(features, has.astype(int), weights, strength)
            weight[option], bias[option] = model.coef_[0], model.intercept_[0]
        return Linear(weight, bias)
    rows, columns = np.nonzero(targets)  # a two-hot row stands twice, with its shares as weights
    counted = weights[rows] * targets[rows, columns]
    bias = np.full(options, -np.inf)
    seen = np.unique(columns)
    if len(seen) == 1:
        bias[seen[0]] = 0.0
        return Linear(weight, bias)
    model = _solve(features[rows], columns, counted, strength)
    if len(seen) == 2:  # scikit-learn gives one row for two classes: the second against the first
        weight[seen] = np.stack((-model.coef_[0] / 2, model.coef_[0] / 2))
        bias[seen] = -model.intercept_[0] / 2, model.intercept_[0] / 2
    else:
        weight[seen], bias[seen] = model.coef_, model.intercept_
    return Linear(weight, bias)


def logits_of(features: Any, linear: Linear) -> Matrix:
    """Return logits [rows, options]."""
    logits: Matrix = features @ linear.weight.T + linear.bias
    return logits


def _solve(features: Any, classes: Any, weights: Matrix, strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=_MOST_ITERATIONS)
    return model.fit(features, classes, sample_weight=weights)
