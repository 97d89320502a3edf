"""Paired differences: published tables, statsmodels, scipy, an independent likelihood."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from freehold.errors import InputError
from freehold.evaluation.paired import (
    PairedCounts,
    compare,
    holm,
    mcnemar_exact,
    tango_interval,
    tango_statistic,
)
from freehold.evaluation.resampling import cluster_bootstrap, is_too_skewed_for_t, sign_flip


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, int, int]:
    n = draw(st.integers(1, 400))
    gained = draw(st.integers(0, n))
    return gained, draw(st.integers(0, n - gained)), n


def test_tango_reproduces_the_worked_example_of_his_paper() -> None:
    """Tango (1998), section 6.1, table V: 43, 0, 1, 0; statistic 1.709, p 0.044, limit -0.096."""
    statistic = tango_statistic(0, 1, 44, -0.1)
    assert round(statistic, 3) == 1.709
    assert round(float(stats.norm.sf(statistic)), 3) == 0.044
    assert round(tango_interval(0, 1, 44, 0.9).low, 3) == -0.096


@pytest.mark.parametrize(
    ("gained", "lost", "n", "low", "high"),
    [
        # Fagerland, Lydersen and Laake (2017), chapter 8: Cavo et al. (2012)
        (6, 16, 161, -0.1240, -0.0054),
    ],
)
def test_tango_equals_published_tables(
    gained: int, lost: int, n: int, low: float, high: float
) -> None:
    interval = tango_interval(gained, lost, n)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


@pytest.mark.parametrize(
    ("gained", "lost", "n", "delta"),
    [(6, 16, 161, -0.02), (0, 1, 44, -0.1), (3, 0, 50, -0.05), (20, 5, 100, 0.05), (7, 7, 30, 0.3)],
)
def test_the_score_statistic_equals_one_from_a_numeric_likelihood(
    gained: int, lost: int, n: int, delta: float
) -> None:
    """The restricted estimate is found here by maximising the likelihood, without the formula."""

    def negative(share: float) -> float:
        cells = [(gained, share + delta), (lost, share), (n - gained - lost, 1 - 2 * share - delta)]
        return -sum(count * math.log(p) for count, p in cells if count)

    bounds = (max(0.0, -delta) + 1e-12, (1 - delta) / 2 - 1e-12)
    share = optimize.minimize_scalar(
        negative, bounds=bounds, method="bounded", options={"xatol": 1e-13}
    ).x
    expected = (gained - lost - n * delta) / math.sqrt(n * (2 * share + delta - delta * delta))
    assert tango_statistic(gained, lost, n, delta) == pytest.approx(expected, rel=1e-5)


@given(table=tables(), confidence=st.sampled_from([0.6, 0.9, 0.95, 0.99]))
def test_tango_holds_the_estimate_mirrors_and_solves_its_equation(
    table: tuple[int, int, int], confidence: float
) -> None:
    gained, lost, n = table
    interval = tango_interval(gained, lost, n, confidence)
    assert -1.0 <= interval.low <= PairedCounts(*table).difference <= interval.high <= 1.0
    assert tango_interval(lost, gained, n, confidence) == interval.mirrored()
    z = stats.norm.ppf((1 + confidence) / 2)
    if interval.low > -1.0:
        assert tango_statistic(gained, lost, n, interval.low) == pytest.approx(z, rel=1e-6)


@pytest.mark.parametrize("n", [1, 20, 250, 5_000])
def test_tango_without_flips_is_not_certain(n: int) -> None:
    z = stats.norm.ppf(0.95)
    interval = tango_interval(0, 0, n, 0.9)
    assert interval.high == pytest.approx(z * z / (n + z * z), rel=1e-9)


@given(gained=st.integers(0, 80), lost=st.integers(0, 80))
def test_exact_mcnemar_equals_statsmodels(gained: int, lost: int) -> None:
    if gained + lost == 0:
        assert mcnemar_exact(0, 0) == 1.0
        return
    theirs = mcnemar([[10, gained], [lost, 10]], exact=True).pvalue
    assert mcnemar_exact(gained, lost) == pytest.approx(theirs, rel=1e-12)


def test_exact_mcnemar_equals_the_published_value() -> None:
    """Fagerland, Lydersen and Laake (2017), chapter 8: Cavo et al. (2012), P = 0.052479."""
    assert round(mcnemar_exact(6, 16), 6) == 0.052479


@pytest.mark.parametrize(
    "p_values", [[0.04], [0.5, 0.5], [0.01, 0.04, 0.03, 0.005], [0.0, 1.0, 0.2, 0.06, 0.02, 0.02]]
)
def test_holm_equals_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


def test_holm_of_nothing_is_nothing() -> None:
    assert holm([]) == []


def test_sign_flips_equal_scipy_and_their_interval_inverts_the_test() -> None:
    values = np.array([0.3, -0.1, 0.25, 0.4, 0.05, -0.2, 0.35, 0.15, 0.1])
    result = sign_flip(values, np.ones(9), 0.9)
    theirs = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert result.exact
    assert result.p_better == pytest.approx(theirs.pvalue, abs=1e-15)
    for shift, inside in [(1e-9, True), (-1e-9, False)]:
        line = result.interval.low + shift
        p_value = sign_flip(values - line, np.ones(9), 0.9).p_better
        assert (p_value > 0.05) is inside


@pytest.mark.parametrize(("groups", "bounded"), [(4, False), (5, True)])
def test_too_few_clusters_have_no_bound(groups: int, bounded: bool) -> None:
    result = sign_flip(np.arange(1.0, groups + 1), np.ones(groups), 0.9)
    assert math.isfinite(result.interval.low) is bounded


def test_the_bootstrap_is_seeded_and_near_t_on_plain_data() -> None:
    values = np.random.default_rng(1).normal(0.1, 1, 200)
    first, again = (cluster_bootstrap(values, np.ones(200), 0.9, seed=7) for _ in range(2))
    assert first == again
    reference = stats.t.interval(0.9, 199, values.mean(), stats.sem(values))
    assert (first.interval.low, first.interval.high) == pytest.approx(reference, abs=0.02)
    assert first.p_better == pytest.approx(
        stats.ttest_1samp(values, 0, alternative="greater").pvalue, abs=0.02
    )


def test_skew_is_told_by_cochrans_rule() -> None:
    generator = np.random.default_rng(3)
    assert not is_too_skewed_for_t(generator.normal(0, 1, 100), np.ones(100))
    assert is_too_skewed_for_t(generator.lognormal(0, 1.5, 100), np.ones(100))


METHODS = [
    ("one case per cluster, right or wrong", [1, -1, 0, 0] * 10, 40, "tango, exact mcnemar"),
    ("one case per cluster, few", [1, -1, 0, 0], 4, "tango, exact mcnemar"),
    ("clustered, right or wrong", [1, -1, 0, 0] * 20, 40, "cluster-robust t, not narrower"),
    ("clustered, few clusters", [1, -1, 0, 0] * 20, 10, "sign-flip permutation (exact)"),
    ("numbers, few clusters", [0.5, -0.25, 0.1] * 8, 24, "sign-flip permutation (seeded"),
    ("numbers", [0.5, -0.25, 0.1, -0.3] * 20, 80, "cluster-robust t"),
    ("numbers with a long tail", [0.1] * 60 + [-9.0], 61, "studentised cluster bootstrap"),
]


@pytest.mark.parametrize(
    ("values", "groups", "method"), [row[1:] for row in METHODS], ids=[row[0] for row in METHODS]
)
def test_the_data_choose_the_method_and_swapping_mirrors(
    values: list[float], groups: int, method: str
) -> None:
    clusters = [str(position % groups) for position in range(len(values))]
    here = compare([float(v) for v in values], clusters, 0.9)
    there = compare([-float(v) for v in values], clusters, 0.9)
    assert here.method.startswith(method)
    assert here.interval.low <= here.estimate <= here.interval.high
    assert there.estimate == pytest.approx(-here.estimate, abs=1e-15)
    mirrored = here.interval.mirrored()
    assert there.interval.low == pytest.approx(mirrored.low, abs=1e-12)
    assert there.interval.high == pytest.approx(mirrored.high, abs=1e-12)
    assert (there.p_better, there.p_worse) == pytest.approx((here.p_worse, here.p_better))


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 120), groups=st.integers(1, 60))
def test_identical_answers_are_never_better(n: int, groups: int) -> None:
    result = compare([0.0] * n, [str(i % groups) for i in range(n)], 0.9)
    assert result.estimate == 0.0
    assert result.interval.low <= 0.0 <= result.interval.high
    assert result.p_better >= 0.5


def test_clusters_without_a_flip_are_not_certain() -> None:
    """Plain cluster-robust t would say ±0 here; each cluster counts as one case instead."""
    result = compare([0.0] * 200, [str(i % 40) for i in range(200)], 0.9)
    assert result.interval.high == pytest.approx(tango_interval(0, 0, 40, 0.9).high)


def test_the_margin_claim_keeps_its_error_rate_where_t_does_not() -> None:
    """True difference exactly -margin, 50 cases, 10 % differ: Tango holds 5 %, plain t does not."""
    generator = np.random.default_rng(11)
    n, margin, rounds = 50, 0.05, 4_000
    draws = generator.multinomial(n, [0.025, 0.075, 0.9], rounds)
    tango = t_test = 0
    known: dict[tuple[int, int], tuple[bool, bool]] = {}
    for gained, lost, _ in draws:
        key = (int(gained), int(lost))
        if key not in known:
            values = np.repeat([1.0, -1.0, 0.0], [*key, n - sum(key)])
            low = values.mean() - stats.t.ppf(0.95, n - 1) * values.std(ddof=1) / math.sqrt(n)
            known[key] = (tango_interval(*key, n, 0.9).low > -margin, low > -margin)
        tango += known[key][0]
        t_test += known[key][1]
    assert tango / rounds < 0.06
    assert t_test / rounds > 0.07


@pytest.mark.parametrize("table", [(1, 1, 0), (-1, 0, 5), (3, 3, 5)])
def test_impossible_tables_are_refused(table: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="no paired table"):
        tango_interval(*table)
    with pytest.raises(InputError, match="no paired table"):
        PairedCounts(*table)


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(InputError, match="there are no cases"):
        compare([], [], 0.9)


def test_small_tables_all_agree_between_test_and_interval() -> None:
    """Where the exact test says better, Tango's bound does: no report contradicts itself."""
    for n, alpha in itertools.product((10, 25, 60), (0.05, 0.2)):
        for gained, lost in itertools.product(range(n + 1), repeat=2):
            if gained + lost > n or gained <= lost:
                continue
            if stats.binom.sf(gained - 1, gained + lost, 0.5) <= alpha:
                assert tango_interval(gained, lost, n, 1 - 2 * alpha).low > 0.0
