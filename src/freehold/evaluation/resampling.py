"""Permutation and bootstrap over clusters, for data where no formula can be trusted.

Both work on cluster sums and sizes, so a cluster is moved as a whole. Draws are seeded: the same
results give the same verdict, to the last digit, on every run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freehold.evaluation.intervals import Interval

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.float64]

EXACT_UP_TO = 14
PERMUTATIONS = 20_000
BOOTSTRAP_DRAWS = 4_000
_TIE = 1e-12


@dataclass(frozen=True, slots=True)
class Resampled:
    """A mean difference with the interval and one-sided p-values that resampling gave it."""

    estimate: float
    interval: Interval
    p_better: float
    p_worse: float
    standard_error: float
    exact: bool


def sign_flip(sums: Numbers, sizes: Numbers, confidence: float, seed: int = 0) -> Resampled:
    """Return the sign-flip permutation test of the mean and the interval that inverts it.

    Under the hypothesis that the mean is d, each cluster's ``sum - size * d`` is as likely to be
    negative as positive. Flipping a set F of clusters reaches the observed mean exactly when the
    mean over F is at most d, so the p-value for any d is a count of subset means, and the bounds
    are order statistics of them (Hartigan 1969, typical values). All subsets up to 14 clusters;
    beyond, 20,000 seeded ones. With too few clusters for the level the bounds are infinite.
    """
    import numpy as np

    subsets, exact = _subsets(len(sums), seed)
    means = np.sort((subsets @ sums) / (subsets @ sizes))
    total = len(means) + 1  # the empty set, which always reaches the observed mean, counts too
    tail = (1.0 - confidence) / 2.0
    rank = math.floor(tail * total + _TIE)
    if rank < 1:
        low, high = -math.inf, math.inf
    else:
        low, high = float(means[rank - 1]), float(means[-rank])
    estimate = float(sums.sum() / sizes.sum())
    return Resampled(
        estimate=estimate,
        interval=Interval(low, high, confidence, "sign-flip"),
        p_better=(1 + int(np.sum(means <= _TIE))) / total,
        p_worse=(1 + int(np.sum(means >= -_TIE))) / total,
        standard_error=_standard_error(sums, sizes, estimate),
        exact=exact,
    )


def cluster_bootstrap(sums: Numbers, sizes: Numbers, confidence: float, seed: int = 0) -> Resampled:
    """Return the studentised (bootstrap-t) cluster bootstrap of the mean (Efron 1981).

    Unlike the percentile bootstrap it corrects for skew and for few clusters.
    """
    import numpy as np

    generator = np.random.Generator(np.random.PCG64(seed))
    estimate = float(sums.sum() / sizes.sum())
    error = _standard_error(sums, sizes, estimate)
    groups = len(sums)
    pivots = np.empty(BOOTSTRAP_DRAWS)
    for draw in range(BOOTSTRAP_DRAWS):
        chosen = generator.integers(0, groups, groups)
        some, many = sums[chosen], sizes[chosen]
        mean = float(some.sum() / many.sum())
        spread = _standard_error(some, many, mean)
        if spread > 0.0:
            pivots[draw] = (mean - estimate) / spread
        else:
            # A draw without any spread says nothing, or everything: never count it as safe.
            pivots[draw] = 0.0 if mean == estimate else math.copysign(math.inf, mean - estimate)
    tail = (1.0 - confidence) / 2.0
    pivots.sort()
    rank = min(len(pivots) - 1, math.floor(tail * len(pivots)))
    low, high = estimate - error * pivots[-1 - rank], estimate - error * pivots[rank]
    statistic = estimate / error if error > 0.0 else math.copysign(math.inf, estimate)
    return Resampled(
        estimate=estimate,
        interval=Interval(float(low), float(high), confidence, "cluster bootstrap-t"),
        p_better=(1 + int(np.sum(pivots >= statistic))) / (len(pivots) + 1),
        p_worse=(1 + int(np.sum(pivots <= statistic))) / (len(pivots) + 1),
        standard_error=error,
        exact=False,
    )


def is_too_skewed_for_t(sums: Numbers, sizes: Numbers) -> bool:
    """Say whether a normal approximation of the mean is doubtful.

    Cochran's rule (Sampling Techniques, 3rd edition, section 2.15): it needs more than 25 times
    the squared skewness of clusters.
    """
    residuals = sums - sizes * (sums.sum() / sizes.sum())
    spread = float((residuals**2).mean())
    if spread == 0.0:
        return False
    skewness = float((residuals**3).mean()) / spread**1.5
    return bool(len(sums) < 25.0 * skewness * skewness)


def _subsets(groups: int, seed: int) -> tuple[Numbers, bool]:
    """Return rows of 0 and 1 that choose non-empty sets of clusters; True when these are all."""
    import numpy as np

    if groups <= EXACT_UP_TO:
        numbers = np.arange(1, 2**groups)[:, None]
        return ((numbers >> np.arange(groups)) & 1).astype(np.float64), True
    generator = np.random.Generator(np.random.PCG64(seed))
    rows = generator.integers(0, 2, (PERMUTATIONS, groups)).astype(np.float64)
    return rows[rows.sum(axis=1) > 0.0], False


def _standard_error(sums: Numbers, sizes: Numbers, mean: float) -> float:
    groups = len(sums)
    if groups < 2:
        return math.inf
    residuals = sums - sizes * mean
    return math.sqrt(groups / (groups - 1) * float(residuals @ residuals)) / float(sizes.sum())
