"""Intervals of one proportion and one mean, against statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from freehold.errors import InputError
from freehold.evaluation.intervals import clopper_pearson, cluster_mean, wilson

COUNTS = [(0, 1), (1, 1), (0, 20), (20, 20), (1, 30), (17, 40), (301, 301), (2_618, 3_080)]


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "n"), COUNTS)
def test_proportions_equal_statsmodels(successes: int, n: int, confidence: float) -> None:
    for function, method in [(wilson, "wilson"), (clopper_pearson, "beta")]:
        ours = function(successes, n, confidence)
        theirs = proportion_confint(successes, n, 1 - confidence, method=method)
        assert (ours.low, ours.high) == pytest.approx(theirs, abs=1e-12)


def test_published_wilson_and_exact_intervals() -> None:
    """Newcombe (1998), Statistics in Medicine 17, 857-872, table I, 81/263 and 15/148."""
    first, second = wilson(81, 263), wilson(15, 148)
    assert [round(x, 4) for x in (first.low, first.high)] == [0.2553, 0.3662]
    assert [round(x, 4) for x in (second.low, second.high)] == [0.0624, 0.1605]
    exact = clopper_pearson(81, 263)
    assert [round(x, 4) for x in (exact.low, exact.high)] == [0.2527, 0.3676]


@given(n=st.integers(1, 500), share=st.floats(0, 1))
def test_a_proportion_lies_in_its_interval_and_mirrors(n: int, share: float) -> None:
    hits = round(share * n)
    here, there = wilson(hits, n), wilson(n - hits, n)
    assert 0.0 <= here.low <= hits / n <= here.high <= 1.0
    assert (here.low, here.high) == pytest.approx((1 - there.high, 1 - there.low), abs=1e-12)
    wide = clopper_pearson(hits, n)
    assert wide.low <= hits / n <= wide.high


def test_the_cluster_mean_equals_statsmodels_with_clustered_errors() -> None:
    generator = np.random.default_rng(5)
    groups = generator.integers(0, 40, 300)
    values = generator.normal(0.1, 1, 300) + generator.normal(0, 1, 40)[groups]
    fit = sm.OLS(values, np.ones(300)).fit(
        cov_type="cluster", cov_kwds={"groups": groups}, use_t=True
    )
    ours = cluster_mean(list(values), [str(group) for group in groups])
    assert ours.mean == pytest.approx(fit.params[0], abs=1e-14)
    assert ours.standard_error == pytest.approx(fit.bse[0], rel=1e-12)
    interval = ours.interval(0.9)
    assert (interval.low, interval.high) == pytest.approx(tuple(fit.conf_int(0.1)[0]), rel=1e-12)


def test_one_cluster_has_no_bound() -> None:
    interval = cluster_mean([0.0, 1.0], ["a", "a"]).interval()
    assert (interval.low, interval.high) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("successes", "n", "confidence", "message"),
    [
        (1, 0, 0.95, "1 of 0 is not a proportion"),
        (3, 2, 0.95, "3 of 2 is not a proportion"),
        (-1, 2, 0.95, "-1 of 2 is not a proportion"),
        (1, 2, 1.0, "a confidence level lies between 0 and 1"),
    ],
)
def test_impossible_counts_are_refused(
    successes: int, n: int, confidence: float, message: str
) -> None:
    for function in (wilson, clopper_pearson):
        with pytest.raises(InputError, match=message):
            function(successes, n, confidence)


def test_values_without_clusters_are_refused() -> None:
    with pytest.raises(InputError, match="2 values but 1 cluster names"):
        cluster_mean([1.0, 2.0], ["a"])
    with pytest.raises(InputError, match="no mean of no values"):
        cluster_mean([], [])
