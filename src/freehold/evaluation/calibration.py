"""Are the probabilities true? Temperature scaling, and figures that show what it did.

Fit on held-out random reviews, report on others. ECE is shown with Brier score and log loss beside
it, because on few cases ECE alone is biased upwards and can be lowered by saying nothing useful.

`probabilities` is always cases × options, rows adding up to 1; `truth` the index of the right
option of each case.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freehold.errors import InputError
from freehold.evaluation.intervals import Interval, cluster_mean, wilson

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Matrix = npt.NDArray[np.float64]

COLDEST, HOTTEST = 0.02, 50.0
SMALLEST = 1e-9  # probabilities are recorded in whole parts per billion: below is "0 of them"


@dataclass(frozen=True, slots=True)
class Temperature:
    """A fitted temperature; above 1 the model was too sure. `at_limit`: the data set no bound."""

    value: float
    n: int
    at_limit: bool


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Cases of like confidence: how sure the model was, and how often it was right."""

    n: int
    confidence: float
    accuracy: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class CalibrationFigures:
    """ECE, Brier score and log loss with 95 % intervals (ECE has none: it is biased, not noisy)."""

    n: int
    ece: float
    brier: float
    brier_interval: Interval
    log_loss: float
    log_loss_interval: Interval
    table: tuple[ReliabilityBin, ...]


def fit_temperature(
    probabilities: Sequence[Sequence[float]] | Matrix, truth: Sequence[int]
) -> Temperature:
    """Return the temperature with the least log loss (Guo et al. 2017).

    The log loss is convex in the inverse temperature, so its only minimum is where the slope
    changes sign; that root is bracketed, which gives the same answer every time. Where there is no
    minimum (all right, or all wrong) the limit of the range comes back, marked.
    """
    import numpy as np
    from scipy.optimize import brentq

    matrix, right = _checked(probabilities, truth)
    scores = np.log(np.maximum(matrix, SMALLEST))
    of_truth = scores[np.arange(len(right)), right]

    def slope(inverse: float) -> float:
        tempered = _softmax(scores * inverse)
        return float(np.mean((tempered * scores).sum(axis=1) - of_truth))

    if slope(1.0 / HOTTEST) >= 0.0:
        return Temperature(HOTTEST, len(right), at_limit=True)
    if slope(1.0 / COLDEST) <= 0.0:
        return Temperature(COLDEST, len(right), at_limit=True)
    inverse = float(brentq(slope, 1.0 / HOTTEST, 1.0 / COLDEST, xtol=1e-12, rtol=1e-12))
    return Temperature(1.0 / inverse, len(right), at_limit=False)


def apply_temperature(
    probabilities: Sequence[Sequence[float]] | Matrix, temperature: float
) -> Matrix:
    """Return the probabilities at another temperature; which option is likeliest never changes."""
    import numpy as np

    if not temperature > 0.0:
        raise InputError(f"a temperature is above 0, got {temperature!r}")
    return _softmax(np.log(np.maximum(_matrix(probabilities), SMALLEST)) / temperature)


def figures(
    probabilities: Sequence[Sequence[float]] | Matrix,
    truth: Sequence[int],
    clusters: Sequence[str] | None = None,
    bins: int = 15,
) -> CalibrationFigures:
    """Return every calibration figure of one set of probabilities."""
    matrix, right = _checked(probabilities, truth)
    names = clusters if clusters is not None else [str(position) for position in range(len(right))]
    brier = cluster_mean(list(_brier_each(matrix, right)), names)
    losses = cluster_mean(list(_loss_each(matrix, right)), names)
    table = reliability_table(matrix, truth, bins)
    return CalibrationFigures(
        n=len(right),
        ece=_ece_of(table),
        brier=brier.mean,
        brier_interval=brier.interval(),
        log_loss=losses.mean,
        log_loss_interval=losses.interval(),
        table=table,
    )


def reliability_table(
    probabilities: Sequence[Sequence[float]] | Matrix, truth: Sequence[int], bins: int = 15
) -> tuple[ReliabilityBin, ...]:
    """Return bins of about equally many cases, least sure first.

    Cases of equal confidence share a bin, so the order of the cases cannot change the table; there
    may then be fewer bins than asked for.
    """
    import numpy as np

    if bins < 1:
        raise InputError(f"a reliability table needs at least one bin, got {bins}")
    matrix, right = _checked(probabilities, truth)
    confidence, hit = matrix.max(axis=1), matrix.argmax(axis=1) == right
    order = np.argsort(confidence, kind="stable")
    confidence, hit = confidence[order], hit[order]
    table, start = [], 0
    for number in range(1, bins + 1):
        wanted = round(len(right) * number / bins)
        if wanted <= start:
            continue
        end = int(np.searchsorted(confidence, confidence[wanted - 1], side="right"))
        hits, n = int(hit[start:end].sum()), end - start
        mean = math.fsum(confidence[start:end]) / n
        table.append(ReliabilityBin(n, mean, hits / n, wilson(hits, n)))
        start = end
    return tuple(table)


def ece(
    probabilities: Sequence[Sequence[float]] | Matrix, truth: Sequence[int], bins: int = 15
) -> float:
    """Return the expected calibration error over equal-mass bins (Nguyen and O'Connor 2015)."""
    return _ece_of(reliability_table(probabilities, truth, bins))


def brier(probabilities: Sequence[Sequence[float]] | Matrix, truth: Sequence[int]) -> float:
    """Return the mean squared error summed over options (Brier 1950): 0 is perfect, 2 the worst."""
    return float(_brier_each(*_checked(probabilities, truth)).mean())


def log_loss(probabilities: Sequence[Sequence[float]] | Matrix, truth: Sequence[int]) -> float:
    """Return the mean negative log probability (nats) of the right option."""
    return float(_loss_each(*_checked(probabilities, truth)).mean())


def _ece_of(table: tuple[ReliabilityBin, ...]) -> float:
    n = sum(row.n for row in table)
    return math.fsum(abs(row.confidence - row.accuracy) * row.n for row in table) / n


def _brier_each(matrix: Matrix, right: npt.NDArray[np.int64]) -> Matrix:
    import numpy as np

    off = matrix.copy()
    off[np.arange(len(right)), right] -= 1.0
    each: Matrix = (off * off).sum(axis=1)
    return each


def _loss_each(matrix: Matrix, right: npt.NDArray[np.int64]) -> Matrix:
    import numpy as np

    each: Matrix = -np.log(np.maximum(matrix[np.arange(len(right)), right], SMALLEST))
    return each


def _softmax(scores: Matrix) -> Matrix:
    import numpy as np

    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: Matrix = raised / raised.sum(axis=1, keepdims=True)
    return result


def _matrix(probabilities: Sequence[Sequence[float]] | Matrix) -> Matrix:
    import numpy as np

    matrix = np.asarray(probabilities, dtype=np.float64)
    if matrix.ndim != 2 or not matrix.size:
        raise InputError(f"probabilities are cases by options, got the shape {matrix.shape}")
    sums = matrix.sum(axis=1)
    bad = np.flatnonzero(~(np.abs(sums - 1.0) < 1e-6) | (matrix < 0.0).any(axis=1))
    if bad.size:
        raise InputError(f"row {bad[0]} is no set of probabilities: {matrix[bad[0]].tolist()}")
    return matrix


def _checked(
    probabilities: Sequence[Sequence[float]] | Matrix, truth: Sequence[int]
) -> tuple[Matrix, npt.NDArray[np.int64]]:
    import numpy as np

    matrix, right = _matrix(probabilities), np.asarray(truth, dtype=np.int64)
    if len(right) != len(matrix):
        raise InputError(f"{len(matrix)} rows of probabilities but {len(right)} right answers")
    if right.min() < 0 or right.max() >= matrix.shape[1]:
        raise InputError(f"right answers are indices below {matrix.shape[1]}")
    return matrix, right
