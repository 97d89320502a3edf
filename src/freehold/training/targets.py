"""What a row's answer looks like as numbers, and how far a model's scores are from it.

One matrix of targets [rows, options] serves every kind of question:

- ``choice``: 1 for the right option; loss: cross-entropy over the options;
- ``labels``: 1 for each label that applies; loss: binary cross-entropy, mean over the labels;
- ``number``: the two bins whose midpoints stand around the value share the 1 such that the mean of
  the midpoints *is* the value; loss: cross-entropy over the bins. Chosen over squared error because
  a predictor owes a probability for each bin, and because training on bins was found at least as
  accurate as regression (Farebrother et al. 2024, "Stop Regressing", arXiv 2403.03950: two-hot).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from freehold.errors import SettingsError
from freehold.runtimes.base import Question

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]


class Decided(Protocol):
    """Anything with a decision and a weight: a row or an example made from it."""

    @property
    def target(self) -> str | tuple[str, ...]:
        """An option, labels, or a decimal string."""

    @property
    def weight(self) -> Decimal:
        """How much it counts."""


def target_matrix(rows: Sequence[Decided], question: Question) -> Matrix:
    """Return targets [rows, options], each between 0 and 1."""
    import numpy as np

    matrix = np.zeros((len(rows), len(question.names)), dtype=np.float64)
    place = {name: column for column, name in enumerate(question.names)}
    for line, row in zip(matrix, rows, strict=True):
        if question.kind == "number":
            _two_hot(line, float(str(row.target)), question.midpoints)
            continue
        names = row.target if isinstance(row.target, tuple) else (row.target,)
        for name in names:
            line[place[name]] = 1.0
    return matrix


def _two_hot(line: Matrix, value: float, midpoints: Sequence[float]) -> None:
    """Share 1 between the two midpoints around the value; beyond the outer ones, all to one."""
    import numpy as np

    upper = int(np.searchsorted(midpoints, value))
    if upper == 0 or upper == len(midpoints):
        line[min(upper, len(midpoints) - 1)] = 1.0
        return
    below, above = midpoints[upper - 1], midpoints[upper]
    line[upper] = (value - below) / (above - below)
    line[upper - 1] = 1.0 - line[upper]


def row_weights(rows: Sequence[Decided], question: Question, *, balance: bool) -> Matrix:
    """Return weights [rows]; `balance` multiplies them so that each option counts the same."""
    import numpy as np

    weights = np.array([float(row.weight) for row in rows], dtype=np.float64)
    if not balance:
        return weights
    if question.kind != "choice":
        raise SettingsError(
            f"train.balance is for choice questions; this one is {question.kind}",
            hint="Remove train.balance, or give rows their weights in the dataset.",
        )
    share: Counter[str] = Counter()
    for row in rows:
        share[str(row.target)] += 1
    each = len(rows) / len(share)
    balanced: Matrix = weights * np.array([each / share[str(row.target)] for row in rows])
    return balanced


def log_loss(logits: Matrix, targets: Matrix, kind: str) -> Matrix:
    """Return the loss of each row [rows] under logits [rows, options], in nats."""
    from scipy.special import log_expit, log_softmax

    if kind == "labels":
        right = _counted(targets, log_expit(logits))
        wrong = _counted(1.0 - targets, log_expit(-logits))
        return -(right + wrong).mean(axis=1)  # type: ignore[no-any-return]
    return -_counted(targets, log_softmax(logits, axis=1)).sum(axis=1)  # type: ignore[no-any-return]


def _counted(shares: Matrix, logs: Matrix) -> Matrix:
    """Return shares x logs, where a share of 0 makes 0 even of the log of 0."""
    import numpy as np

    product = np.zeros_like(shares)
    return np.multiply(shares, logs, out=product, where=shares > 0)
