"""Two models on the same cases: whether one is better, and by how much.

Differences are candidate minus champion, so that positive is good. Which method is used follows
from the data, never from the result (`compare`):

1. right-or-wrong scores, one case per cluster: Tango's score interval (Tango 1998, Statistics in
   Medicine 17, 891–908) and the exact McNemar test;
2. anything else with 30 clusters or more: cluster-robust t, for right-or-wrong scores never
   narrower than Tango's interval at the effective number of cases, and the studentised cluster
   bootstrap where the differences are too skewed for t;
3. fewer than 30 clusters: the sign-flip permutation test and its exact inversion.

The ordinary percentile bootstrap is left out on purpose: at 50 cases it claims "not worse" two to
four times as often as it says it does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freehold.errors import InputError
from freehold.evaluation.intervals import (
    Interval,
    check_confidence,
    cluster_mean,
    cluster_sums,
    normal_quantile,
)
from freehold.evaluation.resampling import cluster_bootstrap, is_too_skewed_for_t, sign_flip

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FEW_CLUSTERS = 30


@dataclass(frozen=True, slots=True)
class PairedCounts:
    """How often only the candidate (`gained`) or only the champion (`lost`) was right, of `n`."""

    gained: int
    lost: int
    n: int

    def __post_init__(self) -> None:
        if self.n < 1 or self.gained < 0 or self.lost < 0 or self.gained + self.lost > self.n:
            raise InputError(
                f"gained {self.gained}, lost {self.lost} of {self.n} is no paired table"
            )

    @property
    def difference(self) -> float:
        """The difference of the two proportions."""
        return (self.gained - self.lost) / self.n

    @property
    def discordance(self) -> float:
        """The share of cases on which the two differ."""
        return (self.gained + self.lost) / self.n


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference with what is needed to judge it against any margin.

    `variance` is per case and includes the clustering: the squared standard error is
    ``variance / n``. `p_better` is one-sided against "not better", `p_worse` against "not worse".
    """

    estimate: float
    interval: Interval
    p_better: float
    p_worse: float
    n: int
    clusters: int
    variance: float
    method: str


def mcnemar_exact(gained: int, lost: int) -> float:
    """Return the two-sided p-value of the exact McNemar test (no mid-p)."""
    return min(1.0, 2.0 * mcnemar_one_sided(max(gained, lost), min(gained, lost)))


def mcnemar_one_sided(gained: int, lost: int) -> float:
    """Return the exact chance of at least `gained` gains if each flip were a fair coin."""
    from scipy.stats import binom

    return float(binom.sf(gained - 1, gained + lost, 0.5))


def tango_statistic(gained: float, lost: float, n: float, delta: float) -> float:
    """Return Tango's score statistic for the hypothesis that the difference is `delta`.

    Equations (24)–(26) of Tango (1998), written for ``delta = -Δ``. At zero it is McNemar's
    ``(gained - lost) / sqrt(gained + lost)``. Counts may be fractions (effective
    counts of clustered cases).
    """
    numerator = gained - lost - n * delta
    spread = _restricted_spread(gained, lost, n, delta)
    if spread <= 0.0:
        return 0.0 if numerator == 0.0 else math.copysign(math.inf, numerator)
    return numerator / math.sqrt(spread)


def tango_interval(gained: float, lost: float, n: float, confidence: float = 0.95) -> Interval:
    """Return Tango's score interval for the paired difference of proportions.

    Its bounds are the two differences at which `tango_statistic` meets the normal quantile.
    Raises InputError when the counts are not a paired table.
    """
    if n <= 0 or gained < 0 or lost < 0 or gained + lost > n * (1.0 + 1e-12):
        raise InputError(f"gained {gained}, lost {lost} of {n} is no paired table")
    z = normal_quantile((1.0 + check_confidence(confidence)) / 2.0)
    low = _tango_lower(gained, lost, n, z)
    # The upper bound is the lower one with the arms swapped, so swapping mirrors to the last bit.
    high = -_tango_lower(lost, gained, n, z) + 0.0
    return Interval(low, high, confidence, "tango")


def compare(
    differences: Sequence[float], clusters: Sequence[str], confidence: float, seed: int = 0
) -> Difference:
    """Return the mean paired difference, by the method that its data call for.

    `differences` holds one number per case, candidate minus champion, in any unit; `clusters` the
    name of each case's cluster. Raises InputError when there are no cases.
    """
    if not len(differences):
        raise InputError("nothing to compare: there are no cases")
    binary = all(value in (-1.0, 0.0, 1.0) for value in differences)
    groups = len(set(clusters))
    if binary and groups == len(differences):
        return _compare_binary(differences, confidence)
    sums, sizes = cluster_sums(differences, clusters)
    if groups < FEW_CLUSTERS:
        return _compare_few(sums, sizes, confidence, seed)
    if not binary and is_too_skewed_for_t(sums, sizes):
        return _compare_skewed(sums, sizes, confidence, seed)
    return _compare_many(differences, clusters, confidence, binary=binary)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for having looked at all of them (Holm 1979), in the same order."""
    order = sorted(range(len(p_values)), key=lambda position: p_values[position])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, position in enumerate(order):
        running = max(running, (len(p_values) - rank) * p_values[position])
        adjusted[position] = min(1.0, running)
    return adjusted


def effective_counts(
    differences: Sequence[float], clusters: Sequence[str]
) -> tuple[float, float, float]:
    """Return gained, lost and n of a clustered comparison, scaled to their worth in free cases.

    The counts are divided by the design effect (Rao and Scott 1992). Where nothing flipped it
    cannot be estimated; then each cluster counts as one case, the most cautious answer.
    """
    n = len(differences)
    gained = sum(1 for value in differences if value > 0)
    lost = sum(1 for value in differences if value < 0)
    _, sizes = cluster_sums(differences, clusters)
    most = float((sizes * sizes).sum() / n)
    free = (gained + lost) / n - ((gained - lost) / n) ** 2
    effect = most
    if free > 0.0:
        clustered = cluster_mean(differences, clusters).standard_error ** 2 * n
        effect = min(max(1.0, clustered / free), max(1.0, most))
    return gained / effect, lost / effect, n / effect


def _compare_binary(differences: Sequence[float], confidence: float) -> Difference:
    gained = sum(1 for value in differences if value > 0)
    lost = sum(1 for value in differences if value < 0)
    counts = PairedCounts(gained, lost, len(differences))
    return Difference(
        estimate=counts.difference,
        interval=tango_interval(gained, lost, counts.n, confidence),
        p_better=mcnemar_one_sided(gained, lost),
        p_worse=mcnemar_one_sided(lost, gained),
        n=counts.n,
        clusters=counts.n,
        variance=counts.discordance - counts.difference**2,
        method="tango, exact mcnemar",
    )


def _compare_many(
    differences: Sequence[float], clusters: Sequence[str], confidence: float, *, binary: bool
) -> Difference:
    from scipy.stats import norm

    mean = cluster_mean(differences, clusters)
    interval = mean.interval(confidence)
    p_better, p_worse = _t_tails(mean.mean, mean.standard_error, mean.clusters)
    method = "cluster-robust t"
    if binary:
        # With few flips t is far too sure of itself (and quite certain with none).
        gained, lost, n = effective_counts(differences, clusters)
        score = tango_interval(gained, lost, n, confidence)
        low, high = min(interval.low, score.low), max(interval.high, score.high)
        interval = Interval(low, high, confidence, "cluster-t or tango, the wider")
        statistic = tango_statistic(gained, lost, n, 0.0)
        p_better = max(p_better, float(norm.sf(statistic)))
        p_worse = max(p_worse, float(norm.cdf(statistic)))
        method = "cluster-robust t, not narrower than tango at the effective n"
    return Difference(
        estimate=mean.mean,
        interval=interval,
        p_better=p_better,
        p_worse=p_worse,
        n=mean.n,
        clusters=mean.clusters,
        variance=mean.standard_error**2 * mean.n,
        method=method,
    )


def _compare_few(
    sums: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64], confidence: float, seed: int
) -> Difference:
    flips = sign_flip(sums, sizes, confidence, seed)
    n = int(sizes.sum())
    residuals = sums - sizes * flips.estimate
    groups = len(sums)
    spread = float((residuals * residuals).sum()) * groups / max(1, groups - 1)
    return Difference(
        estimate=flips.estimate,
        interval=flips.interval,
        p_better=flips.p_better,
        p_worse=flips.p_worse,
        n=n,
        clusters=groups,
        variance=spread / n,
        method=f"sign-flip permutation ({'exact' if flips.exact else 'seeded sample'})",
    )


def _compare_skewed(
    sums: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64], confidence: float, seed: int
) -> Difference:
    result = cluster_bootstrap(sums, sizes, confidence, seed)
    n = int(sizes.sum())
    return Difference(
        estimate=result.estimate,
        interval=result.interval,
        p_better=result.p_better,
        p_worse=result.p_worse,
        n=n,
        clusters=len(sums),
        variance=result.standard_error**2 * n,
        method="studentised cluster bootstrap",
    )


def _t_tails(mean: float, error: float, clusters: int) -> tuple[float, float]:
    from scipy.stats import t

    if error == 0.0:
        return (1.0, 1.0) if mean == 0.0 else ((0.0, 1.0) if mean > 0 else (1.0, 0.0))
    statistic = mean / error
    return float(t.sf(statistic, clusters - 1)), float(t.cdf(statistic, clusters - 1))


def _restricted_spread(gained: float, lost: float, n: float, delta: float) -> float:
    """Return ``n (2 q + delta (1 - delta))``, q the restricted likeliest share of cases lost."""
    a = 2.0 * n
    b = -gained - lost + (2.0 * n - gained + lost) * delta
    c = -lost * delta * (1.0 - delta)
    root = math.sqrt(max(0.0, b * b - 4.0 * a * c))
    # Two forms of one root: each is taken where its subtraction cannot cancel.
    share = (root - b) / (2.0 * a) if b <= 0.0 else -2.0 * c / (root + b)
    return n * (2.0 * share + delta * (1.0 - delta))


def _tango_lower(gained: float, lost: float, n: float, z: float) -> float:
    from scipy.optimize import brentq

    if lost >= n:
        return -1.0
    estimate = (gained - lost) / n

    def excess(delta: float) -> float:
        spread = max(0.0, _restricted_spread(gained, lost, n, delta))
        return gained - lost - n * delta - z * math.sqrt(spread)

    # Just below the estimate the excess is negative even where the spread vanishes at it (no flips,
    # or all gained); at the estimate itself it would be a false root.
    top = estimate - 1e-12
    if excess(top) >= 0.0:
        return estimate
    return float(brentq(excess, -1.0, top, xtol=1e-15, rtol=1e-14, maxiter=200))
