"""The learning curve: how right the best arm is after so many reviews, and what more would bring.

Accuracy is measured at sizes that double, on the same judging cases each time. A line is fitted
against the logarithm of the size through the upper points, since learning curves are close to
straight there (Viering and Loog 2021, "The Shape of Learning Curves", arXiv 2103.10948). What the
next hundred reviews bring is read off that line; its interval has two parts: which cases
judge (cluster bootstrap) and how far the points lie off the line (least squares), added with the
degrees of freedom of Welch and Satterthwaite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from freehold.evaluation.intervals import Interval, cluster_mean, cluster_sums, wilson
from freehold.evaluation.metrics import Figure
from freehold.evaluation.verdict import decimal
from freehold.experiments.trials import LEAST_SIDE, Trials, draw

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from freehold.experiments.arms import Arm, Material

    Numbers = NDArray[np.float64]

MOST_SIZES = 6
NEXT = 100
_LINE_POINTS = 4
_DRAWS = 1_000

Gain = Literal["gain", "no gain shown", "harm"]


@dataclass(frozen=True, slots=True)
class Point:
    """Accuracy after `size` teaching cases, measured."""

    size: int
    accuracy: Figure

    def as_record(self) -> dict[str, Any]:
        """Return the point without floats."""
        return {"size": self.size, "accuracy": self.accuracy.as_record()}


@dataclass(frozen=True, slots=True)
class Line:
    """``accuracy = level + slope * ln(size / last)``, through the last points of a curve.

    `next_gain` is what `NEXT` more cases bring beyond the largest size, by the line: estimated.
    """

    level: float
    slope: float
    last: int
    points: int
    next_gain: float
    interval: Interval

    @property
    def doubling(self) -> float:
        """What twice as many cases bring, by the line: estimated."""
        return self.slope * math.log(2.0)

    @property
    def verdict(self) -> Gain:
        """Whether more cases help, as far as the interval tells."""
        if self.interval.low > 0.0:
            return "gain"
        return "harm" if self.interval.high < 0.0 else "no gain shown"

    def size_for(self, accuracy: float) -> int | None:
        """Return the size at which the line reaches an accuracy; None when it never does."""
        if self.slope <= 0.0:
            return None
        doublings = (accuracy - self.level) / self.slope
        # Beyond a factor of a thousand nobody may trust a line drawn through a factor of eight.
        return math.ceil(self.last * math.exp(doublings)) if doublings < math.log(1_000) else None

    def as_record(self) -> dict[str, Any]:
        """Return the line without floats."""
        return {
            "level": decimal(self.level),
            "slope_per_ln_size": decimal(self.slope),
            "through_points": self.points,
            "next": NEXT,
            "next_gain": decimal(self.next_gain),
            "low": decimal(self.interval.low),
            "high": decimal(self.interval.high),
            "method": self.interval.method,
            "doubling_gain": decimal(self.doubling),
            "verdict": self.verdict,
            "basis": "estimated",
        }


@dataclass(frozen=True, slots=True)
class Curve:
    """One arm's points, smallest first, and the line; None with fewer than three points."""

    arm: str
    points: tuple[Point, ...]
    line: Line | None
    draws: int

    def as_record(self) -> dict[str, Any]:
        """Return the curve without floats."""
        return {
            "arm": self.arm,
            "points": [point.as_record() for point in self.points],
            "draws_per_size": self.draws,
            "line": self.line.as_record() if self.line else None,
        }


def sizes(taught: int) -> list[int]:
    """Return up to `MOST_SIZES` sizes, each about half of the next, the last being `taught`."""
    found = [math.ceil(taught / 2**step) for step in range(MOST_SIZES)]
    return sorted({size for size in found if size >= LEAST_SIDE} | {taught})


def learning_curve(
    arm: Arm,
    given: Material,
    trials: Trials,
    clusters: Sequence[str],
    full: Numbers,
    on_taught: Callable[[int], None],
    *,
    seed: int = 0,
) -> Curve:
    """Return the curve of an arm.

    `clusters` names the cluster of each case; `full` [cases] holds 1 where the arm was right after
    all teaching cases, so that the last point is not measured twice. `on_taught` gets the number of
    cases taught since it was last called.
    """
    import numpy as np

    judging = trials.judging
    rows: list[Numbers] = []
    counted = sizes(trials.taught)
    for size in counted[:-1]:
        right = np.zeros(len(full))
        for one in trials.rounds:
            for repeat in range(trials.repeats):
                part = draw(one.teach, size, seed + repeat)
                answers = arm.answer(part, one.judge)
                right[one.judge] += (answers == given.truth[one.judge]) / trials.repeats
                on_taught(size)
        rows.append(right[judging])
    rows.append(full[judging])
    names = [clusters[place] for place in judging]
    right_at = np.stack(rows)
    points = tuple(
        Point(size, share_figure(row, names)) for size, row in zip(counted, right_at, strict=True)
    )
    return Curve(arm.name, points, _line(counted, right_at, names, seed), trials.repeats)


def share_figure(right: Numbers, clusters: Sequence[str]) -> Figure:
    """Return accuracy with Wilson's interval at the effective number of cases.

    `right` [cases] may hold fractions: a case that two of three models answered rightly.
    """
    n, mean = len(right), cluster_mean(right.tolist(), clusters)
    _, counts = cluster_sums(right.tolist(), clusters)
    share, effect = mean.mean, float((counts * counts).sum()) / n
    if 0.0 < share < 1.0 and mean.clusters > 1:
        # Averaging over draws makes cases worth more than one; they are not counted as more.
        effect = max(1.0, mean.standard_error**2 * n / (share * (1.0 - share)))
    bounds = wilson(min(share * n, n) / effect, n / effect)
    return Figure("accuracy", share, bounds.low, bounds.high, n, "wilson at the effective n")


def _line(
    counted: Sequence[int], right_at: Numbers, clusters: Sequence[str], seed: int
) -> Line | None:
    """Return the line through the last points of right_at [sizes, cases], or None for too few."""
    import numpy as np
    from scipy.stats import t

    points = min(_LINE_POINTS, len(counted))
    if points < 3:
        return None
    last = counted[-1]
    place = np.log(np.array(counted[-points:]) / last)
    accuracy = right_at[-points:].mean(axis=1)
    slope, level = _least_squares(place, accuracy[None])
    off = accuracy - level[0] - slope[0] * place
    spread = float(((place - place.mean()) ** 2).sum())
    scatter = float(off @ off) / (points - 2) / spread
    drawn = _least_squares(place, _redrawn(right_at[-points:], clusters, seed))[0]
    judged = float(drawn.var())
    per_next = math.log((last + NEXT) / last)
    # Welch and Satterthwaite: the scatter was seen at few points, the cases are many.
    freedom = (judged + scatter) ** 2 * (points - 2) / scatter**2 if scatter > 0.0 else math.inf
    half = float(t.ppf(0.975, freedom)) * math.sqrt(judged + scatter) * per_next
    gain = float(slope[0]) * per_next
    interval = Interval(gain - half, gain + half, 0.95, "cluster bootstrap and scatter of the line")
    return Line(float(level[0]), float(slope[0]), last, points, gain, interval)


def _least_squares(place: Numbers, accuracy: Numbers) -> tuple[Numbers, Numbers]:
    """Return slope and level at place 0 of each row of accuracy [rows, points]."""
    centred = place - place.mean()
    slope: Numbers = accuracy @ centred / (centred @ centred)
    level: Numbers = accuracy.mean(axis=1) - slope * place.mean()
    return slope, level


def _redrawn(right_at: Numbers, clusters: Sequence[str], seed: int) -> Numbers:
    """Return accuracies [draws, points] with the clusters of cases drawn again with replacement."""
    import numpy as np

    sums = np.stack([cluster_sums(row.tolist(), clusters)[0] for row in right_at])
    counts = cluster_sums(right_at[0].tolist(), clusters)[1]
    groups = len(counts)
    generator = np.random.Generator(np.random.PCG64(seed))
    result = np.empty((_DRAWS, len(sums)))
    for number in range(_DRAWS):
        weight = np.bincount(generator.integers(groups, size=groups), minlength=groups)
        result[number] = sums @ weight / (counts @ weight)
    return result
