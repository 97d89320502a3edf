"""How far reviewers agree beyond chance, before anything is trained on what they said.

Krippendorff's alpha (Computing Krippendorff's Alpha-Reliability, 2011) for any number of reviewers
who need not all see every item; Cohen's kappa for two; plain percentages beside them, because a
kappa near zero with 95 % agreement means "one label is rare", not "the reviewers guess".
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from freehold.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.float64]

Level = Literal["nominal", "ordinal", "interval"]
Weights = Literal["none", "linear", "quadratic"]
BOOTSTRAP_DRAWS = 500


@dataclass(frozen=True, slots=True)
class Rating:
    """What one reviewer said about one item."""

    item: str
    reviewer: str
    value: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """An agreement figure. `value` is None where it is undefined (nothing varied, no pairs).

    `n` items were seen by two reviewers or more, `pairs` is the number of pairs of ratings they
    gave; bounds are 95 %, None where they were not asked for or cannot be had.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    pairs: int
    method: str


def krippendorff_alpha(
    ratings: Iterable[Rating],
    level: Level = "nominal",
    order: Sequence[str] | None = None,
    *,
    interval: bool = True,
    seed: int = 0,
) -> Agreement:
    """Return Krippendorff's alpha; 1 is perfect, 0 is chance, below 0 is systematic disagreement.

    ``ordinal`` needs `order`, the values from lowest to highest; ``interval`` reads the values as
    numbers. Bounds are from a seeded bootstrap over items. Raises InputError when one reviewer
    rated an item twice, or a value is not in `order` or not a number.
    """
    import numpy as np

    counts, values = _count_matrix(ratings, level, order)
    method = f"krippendorff alpha, {level}"
    if not len(counts):
        return Agreement(None, None, None, 0, 0, method)
    value = _alpha(counts, np.ones(len(counts)), level, values)
    pairs = _pairs(counts)
    if value is None or not interval:
        return Agreement(value, None, None, len(counts), pairs, method)
    generator = np.random.Generator(np.random.PCG64(seed))
    share = np.full(len(counts), 1.0 / len(counts))
    sampled = []
    for drawn in generator.multinomial(len(counts), share, BOOTSTRAP_DRAWS):
        one = _alpha(counts, drawn.astype(np.float64), level, values)
        # A draw in which nothing varies has no alpha; full agreement is what it shows.
        sampled.append(1.0 if one is None else one)
    low, high = np.quantile(sampled, [0.025, 0.975])
    return Agreement(
        value, min(float(low), value), max(float(high), value), len(counts), pairs, method
    )


def cohen_kappa(
    first: Sequence[str],
    second: Sequence[str],
    weights: Weights = "none",
    order: Sequence[str] | None = None,
) -> Agreement:
    """Return Cohen's kappa of two reviewers on the same items (position by position).

    Weighted kappa needs `order`. The interval uses the standard error of Fleiss, Cohen and Everitt
    (1969). None where both gave one and the same label throughout.
    """
    import numpy as np

    if len(first) != len(second) or not first:
        raise InputError(f"{len(first)} and {len(second)} ratings cannot be paired")
    if weights != "none" and order is None:
        raise InputError(f"{weights} kappa needs the order of the values")
    names = list(order) if order is not None else sorted(set(first) | set(second))
    position = {name: index for index, name in enumerate(names)}
    table = np.zeros((len(names), len(names)))
    for a, b in zip(first, second, strict=True):
        table[_at(position, a), _at(position, b)] += 1.0
    n, method = len(first), f"cohen kappa, {weights} weights"
    share = table / n
    distance = np.abs(np.subtract.outer(np.arange(len(names)), np.arange(len(names))))
    scale = max(1, len(names) - 1)
    agree = {
        "none": np.eye(len(names)),
        "linear": 1.0 - distance / scale,
        "quadratic": 1.0 - (distance / scale) ** 2,
    }[weights]
    rows, columns = share.sum(1), share.sum(0)
    seen, chance = float((agree * share).sum()), float(rows @ agree @ columns)
    if math.isclose(chance, 1.0, abs_tol=1e-12):
        return Agreement(None, None, None, n, n, method)
    kappa = (seen - chance) / (1.0 - chance)
    means = np.add.outer(agree @ columns, rows @ agree)
    inner = float((share * (agree * (1.0 - chance) - means * (1.0 - seen)) ** 2).sum())
    variance = inner - (seen * chance - 2.0 * chance + seen) ** 2
    half = 1.959963984540054 * math.sqrt(max(0.0, variance) / n) / (1.0 - chance) ** 2
    return Agreement(kappa, max(-1.0, kappa - half), min(1.0, kappa + half), n, n, method)


def percent_agreement(ratings: Iterable[Rating]) -> Agreement:
    """Return the share of pairs of ratings of one item that are equal."""
    counts, _ = _count_matrix(ratings, "nominal", None)
    pairs = _pairs(counts)
    if not pairs:
        return Agreement(None, None, None, 0, 0, "percent agreement")
    same = float((counts * (counts - 1.0)).sum()) / 2.0
    low, high = _ratio_bounds((counts * (counts - 1.0)).sum(1), _pairs_each(counts))
    return Agreement(same / pairs, low, high, len(counts), pairs, "percent agreement")


def agreement_by_label(ratings: Iterable[Rating]) -> dict[str, Agreement]:
    """Return the specific agreement of each label (Cicchetti and Feinstein 1990).

    When somebody gives this label, how often does another reviewer of the item give it as well?
    """
    rows = list(ratings)
    counts, values = _count_matrix(rows, "nominal", None)
    sizes = counts.sum(1)
    result = {}
    for column, label in enumerate(values):
        given = counts[:, column]
        same, chances = given * (given - 1.0), given * (sizes - 1.0)
        pairs = round(float(chances.sum()))
        n = int((given > 0).sum())
        if not pairs:
            result[label] = Agreement(None, None, None, 0, 0, "specific agreement")
            continue
        low, high = _ratio_bounds(same, chances)
        value = float(same.sum() / chances.sum())
        result[label] = Agreement(value, low, high, n, pairs, "specific agreement")
    return result


def agreement_by_reviewer(ratings: Iterable[Rating]) -> dict[str, Agreement]:
    """Return how often each reviewer agrees with each other reviewer of the same items."""
    import numpy as np

    items = _by_item(ratings)
    same: dict[str, list[float]] = {}
    chances: dict[str, list[float]] = {}
    for given in items.values():
        if len(given) < 2:
            continue
        totals = Counter(given.values())
        for reviewer, value in given.items():
            same.setdefault(reviewer, []).append(totals[value] - 1)
            chances.setdefault(reviewer, []).append(len(given) - 1)
    result = {}
    for reviewer in sorted(same):
        hits, pairs = np.array(same[reviewer]), np.array(chances[reviewer])
        low, high = _ratio_bounds(hits, pairs)
        share = float(hits.sum() / pairs.sum())
        result[reviewer] = Agreement(
            share, low, high, len(hits), int(pairs.sum()), "agreement with others"
        )
    return result


def kappa_by_pair(ratings: Iterable[Rating], least: int = 2) -> dict[tuple[str, str], Agreement]:
    """Return Cohen's kappa of every two reviewers who share at least `least` items."""
    shared: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for given in _by_item(ratings).values():
        for a, b in itertools.combinations(sorted(given), 2):
            first, second = shared.setdefault((a, b), ([], []))
            first.append(given[a])
            second.append(given[b])
    return {
        pair: cohen_kappa(first, second)
        for pair, (first, second) in sorted(shared.items())
        if len(first) >= least
    }


def _by_item(ratings: Iterable[Rating]) -> dict[str, dict[str, str]]:
    items: dict[str, dict[str, str]] = {}
    for rating in ratings:
        given = items.setdefault(rating.item, {})
        if rating.reviewer in given:
            raise InputError(
                f"reviewer {rating.reviewer!r} rated item {rating.item!r} twice",
                hint="Pass only the rating that stands: a corrected one supersedes the first.",
            )
        given[rating.reviewer] = rating.value
    return items


def _count_matrix(
    ratings: Iterable[Rating], level: Level, order: Sequence[str] | None
) -> tuple[Numbers, list[str]]:
    """Return items × values counts, for items with two ratings or more, and the values."""
    import numpy as np

    if level == "ordinal" and order is None:
        raise InputError("ordinal agreement needs the order of the values")
    items = [given for given in _by_item(ratings).values() if len(given) > 1]
    found = {value for given in items for value in given.values()}
    if level == "interval":
        values = sorted(found, key=_number)
    else:
        values = list(order) if order is not None else sorted(found)
    position = {value: index for index, value in enumerate(values)}
    counts = np.zeros((len(items), len(values)))
    for row, given in enumerate(items):
        for value in given.values():
            counts[row, _at(position, value)] += 1.0
    return counts, values


def _alpha(counts: Numbers, weights: Numbers, level: Level, values: list[str]) -> float | None:
    """Return alpha with each item taken `weights` times; None where nothing varies."""
    import numpy as np

    sizes = counts.sum(1)
    marginal = weights @ counts
    total = float(marginal.sum())
    share = weights / (sizes - 1.0)
    if level == "interval":
        # Sums of squares instead of values × values: measurements may all be distinct.
        numbers = np.array([_number(value) for value in values])
        numbers = numbers - float(marginal @ numbers) / total
        squares, sums = counts @ (numbers * numbers), counts @ numbers
        seen = 2.0 * float(share @ (sizes * squares - sums * sums)) / total
        spread = total * float(marginal @ (numbers * numbers)) - float(marginal @ numbers) ** 2
        chance = 2.0 * spread / (total * (total - 1.0))
    else:
        distance = _distance(marginal, level)
        pairs = counts.T @ (counts * share[:, None])
        pairs -= np.diag(share @ counts)
        expected = (np.outer(marginal, marginal) - np.diag(marginal)) / (total - 1.0)
        seen = float((pairs * distance).sum()) / total
        chance = float((expected * distance).sum()) / total
    return None if chance <= 0.0 else 1.0 - seen / chance


def _distance(marginal: Numbers, level: Level) -> Numbers:
    """Return the squared distances between values that alpha weighs disagreement by."""
    import numpy as np

    if level == "nominal":
        return 1.0 - np.eye(len(marginal))
    # Between two ranks lie all ratings from one to the other, each end counted half.
    middle = np.cumsum(marginal) - marginal / 2.0
    apart: Numbers = np.subtract.outer(middle, middle) ** 2
    return apart


def _ratio_bounds(hits: Numbers, chances: Numbers) -> tuple[float | None, float | None]:
    """Return 95 % bounds of a ratio of sums over items (t, linearised), or None for one item."""
    from scipy.stats import t

    n, total = len(hits), float(chances.sum())
    if n < 2:
        return None, None
    value = float(hits.sum()) / total
    residuals = hits - value * chances
    error = math.sqrt(n / (n - 1) * float(residuals @ residuals)) / total
    half = float(t.ppf(0.975, n - 1)) * error
    return max(0.0, value - half), min(1.0, value + half)


def _pairs_each(counts: Numbers) -> Numbers:
    sizes = counts.sum(1)
    result: Numbers = sizes * (sizes - 1.0)
    return result


def _pairs(counts: Numbers) -> int:
    return round(float(_pairs_each(counts).sum()) / 2.0)


def _number(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise InputError(f"interval agreement needs numbers, got {value!r}") from None
    if not math.isfinite(number):
        raise InputError(f"interval agreement needs finite numbers, got {value!r}")
    return number


def _at(position: dict[str, int], value: str) -> int:
    if value not in position:
        raise InputError(f"value {value!r} is not in the order given: {', '.join(position)}")
    return position[value]
