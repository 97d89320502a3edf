"""Intervals for one proportion and one mean: what every figure of an evaluation is shown with.

Proportions get the Wilson score interval (Wilson 1927), which stays honest at 0 %, at 100 % and for
a handful of cases; Clopper–Pearson (1934) where a promise must never be optimistic. Means get the
cluster-robust t interval: cases that come from one document or one customer are not independent,
and pretending so gives intervals that are far too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freehold.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval: each bound is wrong at most ``(1 - confidence) / 2`` of the time."""

    low: float
    high: float
    confidence: float
    method: str

    def mirrored(self) -> Interval:
        """Return the interval of the same difference taken the other way round."""
        # Adding zero turns -0.0 into 0.0, so that both ways print the same.
        return Interval(-self.high + 0.0, -self.low + 0.0, self.confidence, self.method)


def wilson(successes: float, n: float, confidence: float = 0.95) -> Interval:
    """Return the Wilson score interval of a proportion.

    Counts may be fractions: what clustered cases are worth in free ones. Raises InputError unless
    ``0 <= successes <= n`` and ``n > 0``.
    """
    _check_counts(successes, n)
    z = normal_quantile((1.0 + check_confidence(confidence)) / 2.0)
    share, scale = successes / n, 1.0 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1.0 - share) / n + z * z / (4.0 * n * n))
    # Exactly 0 and 1 at the ends: rounding would leave 1e-17 there.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(low, high, confidence, "wilson")


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Return the exact (never too narrow) binomial interval of a proportion."""
    from scipy.stats import beta

    _check_counts(successes, n)
    tail = (1.0 - check_confidence(confidence)) / 2.0
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes == n else float(beta.ppf(1.0 - tail, successes + 1, n - successes))
    return Interval(low, high, confidence, "clopper-pearson")


@dataclass(frozen=True, slots=True)
class ClusterMean:
    """The mean of all values, its standard error over clusters, and the number of clusters."""

    mean: float
    standard_error: float
    n: int
    clusters: int

    def interval(self, confidence: float = 0.95) -> Interval:
        """Return the t interval with ``clusters - 1`` degrees of freedom."""
        from scipy.stats import t

        if self.clusters < 2:
            return Interval(-math.inf, math.inf, confidence, "cluster-t")
        reach = float(t.ppf((1.0 + check_confidence(confidence)) / 2.0, self.clusters - 1))
        half = reach * self.standard_error
        return Interval(self.mean - half, self.mean + half, confidence, "cluster-t")


def cluster_sums(
    values: Sequence[float], clusters: Sequence[str]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the sum of values and the number of cases of each cluster, clusters in name order."""
    import numpy as np

    if len(values) != len(clusters):
        raise InputError(f"{len(values)} values but {len(clusters)} cluster names")
    _, group = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    numbers = np.asarray(values, dtype=np.float64)
    sums = np.bincount(group, weights=numbers).astype(np.float64)
    return sums, np.bincount(group).astype(np.float64)


def cluster_mean(values: Sequence[float], clusters: Sequence[str]) -> ClusterMean:
    """Return the mean with the cluster-robust (CR1) standard error.

    The same as least squares on a constant with clustered errors (Liang and Zeger 1986, with the
    factor ``G / (G - 1)``); with one case per cluster it is the ordinary standard error.
    """
    import numpy as np

    if not len(values):
        raise InputError("no mean of no values")
    sums, sizes = cluster_sums(values, clusters)
    groups, n = len(sums), float(sizes.sum())
    mean = float(sums.sum() / n)
    if groups < 2:
        return ClusterMean(mean, math.inf, int(n), groups)
    residuals = sums - sizes * mean
    variance = groups / (groups - 1) * float(np.dot(residuals, residuals)) / (n * n)
    return ClusterMean(mean, math.sqrt(variance), int(n), groups)


def normal_quantile(probability: float) -> float:
    """Return the standard normal quantile."""
    from scipy.special import ndtri

    return float(ndtri(probability))


def check_confidence(confidence: float) -> float:
    """Return the confidence level, or raise InputError when it is not between 0 and 1."""
    if not 0.0 < confidence < 1.0:
        raise InputError(f"a confidence level lies between 0 and 1, got {confidence!r}")
    return confidence


def _check_counts(successes: float, n: float) -> None:
    if n <= 0 or not 0 <= successes <= n:
        raise InputError(f"{successes} of {n} is not a proportion of at least one case")
