"""Sample sizes against the table of the design notes (Connor 1987) and a simulation."""

from __future__ import annotations

import numpy as np
import pytest

from freehold.errors import InputError
from freehold.evaluation.paired import compare, mcnemar_one_sided
from freehold.evaluation.power import (
    cases_for_bound,
    cases_for_superiority,
    detectable_gain,
    more_cases,
    power_for_bound,
)


@pytest.mark.parametrize(
    ("gain", "discordance", "pairs"),
    [
        (0.01, 0.10, 6_181),
        (0.02, 0.10, 1_544),
        (0.03, 0.10, 685),
        (0.05, 0.10, 246),
        (0.01, 0.05, 3_090),
        (0.02, 0.05, 771),
        (0.03, 0.05, 342),
        (0.05, 0.05, 122),
    ],
)
def test_pairs_needed_for_80_per_cent_power(gain: float, discordance: float, pairs: int) -> None:
    assert cases_for_superiority(gain, discordance, 0.8, 0.05) == pytest.approx(pairs, abs=1)


@pytest.mark.parametrize(
    ("margin", "n", "power"),
    [(0.02, 1_000, 0.63), (0.02, 2_000, 0.88), (0.03, 500, 0.67), (0.03, 1_000, 0.91)],
)
def test_power_of_not_worse_between_equal_models(margin: float, n: int, power: float) -> None:
    assert power_for_bound(margin, 0.1, n, 0.05) == pytest.approx(power, abs=0.02)


def test_the_sizes_hold_in_a_simulation() -> None:
    n = cases_for_superiority(0.05, 0.10, 0.8, 0.05)
    draws = np.random.default_rng(2).multinomial(n, [0.075, 0.025, 0.9], 3_000)
    found = np.mean([mcnemar_one_sided(int(b), int(c)) <= 0.05 for b, c, _ in draws])
    # The exact test is a little conservative, so slightly below the 80 % of the formula.
    assert 0.72 < found < 0.84


def test_sizes_and_power_are_inverse() -> None:
    n = cases_for_bound(0.02, 0.1, 0.8, 0.05)
    assert power_for_bound(0.02, 0.1, n, 0.05) == pytest.approx(0.8, abs=1e-3)
    assert detectable_gain(0.1, n, 0.8, 0.05) == pytest.approx(0.02, abs=1e-4)


def test_more_cases_name_the_nearest_line() -> None:
    seen = compare([1.0] * 6 + [-1.0] * 4 + [0.0] * 90, [str(i) for i in range(100)], 0.9)
    both, far = more_cases(seen, (0.0, -0.02), 0.8, 0.05), more_cases(seen, (0.0,), 0.8, 0.05)
    assert 0 < both < far


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: cases_for_superiority(0.2, 0.1, 0.8, 0.05),
            "a gain of 0.2 needs a discordance from 0.2",
        ),
        (lambda: cases_for_bound(0.0, 0.1, 0.8, 0.05), "must be above 0"),
        (lambda: cases_for_bound(0.1, 0.1, 1.0, 0.05), "power and alpha lie between"),
        (lambda: power_for_bound(0.1, 0.1, 0, 0.05), "must be at least 1"),
    ],
)
def test_impossible_questions_are_refused(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()  # type: ignore[operator]
