"""How many cases a comparison needs, and what a given number of them can show.

Normal approximations for the paired design, good to a few per cent: they answer "about how many
more reviews?", they decide nothing. All levels are one-sided. `variance` is the variance of one
case's difference, clustering included (`paired.Difference.variance`); for right-or-wrong scores
without clusters it is ``discordance - difference ** 2``.
"""

from __future__ import annotations

import math

from freehold.errors import InputError
from freehold.evaluation.intervals import normal_quantile
from freehold.evaluation.paired import Difference

MOST_CASES = 1_000_000_000


def cases_for_superiority(gain: float, discordance: float, power: float, alpha: float) -> int:
    """Return how many pairs McNemar's test needs to find a true gain (Connor 1987).

    `discordance` is the share of cases on which the two models differ; at least `gain`.
    """
    if not 0.0 < gain <= discordance <= 1.0:
        raise InputError(
            f"a gain of {gain} needs a discordance from {gain} to 1, got {discordance}"
        )
    level, reach = normal_quantile(1.0 - _rate(alpha)), normal_quantile(_rate(power))
    spread = math.sqrt(discordance - gain * gain)
    return _whole(((level * math.sqrt(discordance) + reach * spread) / gain) ** 2)


def cases_for_bound(distance: float, variance: float, power: float, alpha: float) -> int:
    """Return how many cases bring a one-sided bound past a line `distance` from the true mean."""
    if distance <= 0.0 or variance < 0.0:
        raise InputError(f"distance {distance} must be above 0 and variance {variance} not below")
    total = normal_quantile(1.0 - _rate(alpha)) + normal_quantile(_rate(power))
    return _whole(total * total * variance / (distance * distance))


def power_for_bound(distance: float, variance: float, n: int, alpha: float) -> float:
    """Return the chance that `n` cases bring a one-sided bound past a line `distance` away.

    With ``distance = margin`` it is the chance to show "not worse" when the models are equal.
    """
    from scipy.special import ndtr

    if n < 1 or variance < 0.0:
        raise InputError(f"n {n} must be at least 1 and variance {variance} not below 0")
    if variance == 0.0:
        return 1.0 if distance > 0.0 else 0.0
    return float(ndtr(distance / math.sqrt(variance / n) - normal_quantile(1.0 - _rate(alpha))))


def detectable_gain(variance: float, n: int, power: float, alpha: float) -> float:
    """Return the smallest true gain that `n` cases find with the wanted power."""
    total = normal_quantile(1.0 - _rate(alpha)) + normal_quantile(_rate(power))
    return total * math.sqrt(variance / n)


def planning_variance(seen: Difference) -> float:
    """Return the variance to plan with: what was seen; one flip where there was none."""
    return max(seen.variance, 1.0 / seen.n) if seen.estimate == 0.0 else seen.variance


def more_cases(seen: Difference, lines: tuple[float, ...], power: float, alpha: float) -> int:
    """Return about how many more cases would settle it if the difference stays what was seen.

    `lines` are the differences that, once the interval lies wholly on one side of one, decide:
    ``-margin`` ("not worse"), and 0 ("better" or "worse"). At least 1.
    """
    variance = planning_variance(seen)
    distances = [abs(seen.estimate - line) for line in lines]
    needed = [cases_for_bound(d, variance, power, alpha) for d in distances if d > 0.0]
    if not needed:
        return MOST_CASES
    return max(1, min(needed) - seen.n)


def _rate(value: float) -> float:
    if not 0.0 < value < 1.0:
        raise InputError(f"power and alpha lie between 0 and 1, got {value!r}")
    return value


def _whole(cases: float) -> int:
    return min(MOST_CASES, math.ceil(cases - 1e-9))
