"""Calibration, against scikit-learn and a grid search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from freehold.errors import InputError
from freehold.evaluation import calibration


def overconfident(n: int, factor: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities that are `factor` times too sure, and right answers."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(0, 1.5, (n, 4))
    true = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    truth = np.array([generator.choice(4, p=row) for row in true])
    said = np.exp(factor * scores) / np.exp(factor * scores).sum(1, keepdims=True)
    return said, truth


def test_the_fit_finds_the_temperature_and_equals_a_grid_search() -> None:
    said, truth = overconfident(4_000, 2.5)
    fitted = calibration.fit_temperature(said, truth)
    assert fitted.value == pytest.approx(2.5, abs=0.15)
    assert (fitted.n, fitted.at_limit) == (4_000, False)
    grid = np.linspace(2.2, 2.8, 301)
    losses = [calibration.log_loss(calibration.apply_temperature(said, t), truth) for t in grid]
    assert fitted.value == pytest.approx(grid[int(np.argmin(losses))], abs=2e-3)
    assert fitted == calibration.fit_temperature(said.tolist(), truth.tolist())


def test_tempering_lowers_every_figure_on_fresh_cases() -> None:
    fitted = calibration.fit_temperature(*overconfident(2_000, 2.5, seed=1))
    said, truth = overconfident(2_000, 2.5, seed=2)
    before = calibration.figures(said, truth)
    after = calibration.figures(calibration.apply_temperature(said, fitted.value), truth)
    assert after.ece < before.ece / 2
    assert after.brier < before.brier
    assert after.log_loss_interval.high < before.log_loss_interval.low


def test_scores_equal_scikit_learn() -> None:
    said, truth = overconfident(500, 1.7)
    assert calibration.log_loss(said, truth) == pytest.approx(sklearn_log_loss(truth, said))
    theirs = brier_score_loss(truth, said, scale_by_half=False)
    assert calibration.brier(said, truth) == pytest.approx(theirs)


def test_ece_by_hand() -> None:
    said = [[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.9, 0.1]]
    # Least sure half: 0.6 against 1 of 2; most sure half: 0.9 against 2 of 2.
    assert calibration.ece(said, [0, 1, 0, 0], bins=2) == pytest.approx((0.1 + 0.1) / 2)
    table = calibration.reliability_table(said, [0, 1, 0, 0], bins=2)
    assert [(row.n, row.accuracy) for row in table] == [(2, 0.5), (2, 1.0)]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 1_000), n=st.integers(1, 60), bins=st.integers(1, 20))
def test_bins_hold_every_case_once_in_any_order(seed: int, n: int, bins: int) -> None:
    generator = np.random.default_rng(seed)
    top = generator.choice([0.5, 0.6, 0.6, 0.7, 0.9], n)
    said = np.column_stack([top, 1 - top])
    truth = generator.integers(0, 2, n)
    order = generator.permutation(n)
    table = calibration.reliability_table(said, truth, bins)
    assert sum(row.n for row in table) == n
    assert len(table) <= bins
    assert calibration.ece(said, truth, bins) == calibration.ece(said[order], truth[order], bins)


@pytest.mark.parametrize(("truth", "limit"), [([0, 0], calibration.COLDEST), ([1, 1], 50.0)])
def test_all_right_or_all_wrong_is_marked(truth: list[int], limit: float) -> None:
    fitted = calibration.fit_temperature([[0.8, 0.2], [0.7, 0.3]], truth)
    assert (fitted.value, fitted.at_limit) == (limit, True)


def test_a_certain_and_wrong_answer_does_not_break_the_log() -> None:
    assert calibration.log_loss([[1.0, 0.0]], [1]) == pytest.approx(-np.log(1e-9))


@pytest.mark.parametrize(
    ("said", "truth", "message"),
    [
        ([[0.5, 0.4]], [0], "row 0 is no set of probabilities"),
        ([[1.5, -0.5]], [0], "row 0 is no set of probabilities"),
        ([[float("nan"), 1.0]], [0], "row 0 is no set of probabilities"),
        ([[0.5, 0.5]], [2], "indices below 2"),
        ([[0.5, 0.5]], [0, 1], "1 rows of probabilities but 2 right answers"),
        ([], [], "cases by options"),
    ],
)
def test_what_is_no_probability_is_refused(
    said: list[list[float]], truth: list[int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        calibration.fit_temperature(said, truth)
