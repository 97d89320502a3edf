"""What an evaluation says about one model: every figure with its n and a 95 % interval.

For `choice`: accuracy, macro-F1, precision and recall per label, the confusion. For `labels`:
exact match, micro- and macro-F1. For `number`: mean absolute error and root mean squared error.

These describe; they never decide. The gate compares two models case by case (`gate`), because two
separate intervals that overlap say very little about a difference on the same cases.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from freehold.errors import InputError
from freehold.evaluation.intervals import cluster_mean, wilson

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.float64]

BOOTSTRAP_DRAWS = 1_000


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `value` is None where it is undefined, such as precision of no answers.

    `n` is the number of cases that it stands on; the bounds hold at 95 %.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    method: str

    def as_record(self) -> dict[str, str | int | None]:
        """Return the figure with decimal strings, six places, instead of floats."""
        return {
            "name": self.name,
            "value": _decimal(self.value),
            "low": _decimal(self.low),
            "high": _decimal(self.high),
            "n": self.n,
            "method": self.method,
        }


@dataclass(frozen=True, slots=True)
class ChoiceFigures:
    """All figures of a `choice` task. `confusion` counts (truth, answer) pairs that occurred."""

    accuracy: Figure
    macro_f1: Figure
    precision: dict[str, Figure]
    recall: dict[str, Figure]
    f1: dict[str, Figure]
    confusion: dict[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class LabelsFigures:
    """All figures of a `labels` task."""

    exact_match: Figure
    micro_f1: Figure
    macro_f1: Figure


@dataclass(frozen=True, slots=True)
class NumberFigures:
    """All figures of a `number` task, in the task's unit."""

    mae: Figure
    rmse: Figure


def choice_figures(
    truth: Sequence[str],
    answers: Sequence[str],
    clusters: Sequence[str] | None = None,
    seed: int = 0,
) -> ChoiceFigures:
    """Return the figures of one answer per case.

    Macro-F1 averages over the labels that occur in truth or answers, as scikit-learn does; a label
    that was never answered, or never true, counts as 0.
    """
    names = _clusters(truth, answers, clusters)
    labels = sorted(set(truth) | set(answers))
    true = _indicator([[value] for value in truth], labels)
    said = _indicator([[value] for value in answers], labels)
    per_label = _label_counts(true, said, labels)
    f1 = _f1_figures(true, said, names, labels, seed)
    hits = [float(a == b) for a, b in zip(truth, answers, strict=True)]
    return ChoiceFigures(
        accuracy=_share("accuracy", hits, names),
        macro_f1=f1["macro"],
        precision={k: _ratio(f"precision {k}", tp, said) for k, (tp, said, _) in per_label.items()},
        recall={k: _ratio(f"recall {k}", tp, true) for k, (tp, _, true) in per_label.items()},
        f1={label: f1["label " + label] for label in labels},
        confusion=dict(sorted(Counter(zip(truth, answers, strict=True)).items())),
    )


def labels_figures(
    truth: Sequence[Sequence[str]],
    answers: Sequence[Sequence[str]],
    clusters: Sequence[str] | None = None,
    seed: int = 0,
) -> LabelsFigures:
    """Return the figures of a set of labels per case, in any order."""
    names = _clusters(truth, answers, clusters)
    labels = sorted({name for row in (*truth, *answers) for name in row})
    f1 = _f1_figures(_indicator(truth, labels), _indicator(answers, labels), names, labels, seed)
    hits = [float(set(a) == set(b)) for a, b in zip(truth, answers, strict=True)]
    return LabelsFigures(
        exact_match=_share("exact match", hits, names), micro_f1=f1["micro"], macro_f1=f1["macro"]
    )


def number_figures(
    truth: Sequence[str | Decimal],
    answers: Sequence[str | Decimal],
    clusters: Sequence[str] | None = None,
) -> NumberFigures:
    """Return the errors of a number per case; values are decimal strings as records hold them."""
    names = _clusters(truth, answers, clusters)
    errors = [
        float(Decimal(said) - Decimal(true)) for true, said in zip(truth, answers, strict=True)
    ]
    absolute = cluster_mean([abs(error) for error in errors], names)
    squared = cluster_mean([error * error for error in errors], names)
    near, square = absolute.interval(), squared.interval()
    n = len(errors)
    return NumberFigures(
        mae=Figure(
            "mean absolute error", absolute.mean, max(0.0, near.low), near.high, n, near.method
        ),
        # The root is monotone: bounds of the mean square turn into bounds of its root.
        rmse=Figure(
            "root mean squared error",
            math.sqrt(squared.mean),
            math.sqrt(max(0.0, square.low)),
            math.sqrt(square.high),
            n,
            square.method,
        ),
    )


def _share(name: str, hits: list[float], clusters: Sequence[str]) -> Figure:
    """Return a share of cases: Wilson when cases are free, else Wilson at the effective n.

    The effective n is n over the design effect, never more than n (Korn and Graubard 1998).
    """
    n, right = len(hits), round(sum(hits))
    if len(set(clusters)) == n:
        bounds = wilson(right, n)
        return Figure(name, right / n, bounds.low, bounds.high, n, bounds.method)
    share = right / n
    error = cluster_mean(hits, clusters).standard_error
    sizes = Counter(clusters)
    effect = sum(size * size for size in sizes.values()) / n
    if 0.0 < share < 1.0 and len(sizes) > 1:
        effect = max(1.0, error * error * n / (share * (1.0 - share)))
    bounds = wilson(right / effect, n / effect)
    return Figure(name, share, bounds.low, bounds.high, n, "wilson at the effective n")


def _ratio(name: str, hits: int, n: int) -> Figure:
    if n == 0:
        return Figure(name, None, None, None, 0, "undefined: no cases")
    bounds = wilson(hits, n)
    return Figure(name, hits / n, bounds.low, bounds.high, n, bounds.method)


def _indicator(rows: Sequence[Sequence[str]], labels: list[str]) -> Numbers:
    import numpy as np

    position = {label: index for index, label in enumerate(labels)}
    matrix = np.zeros((len(rows), len(labels)))
    for index, row in enumerate(rows):
        for name in row:
            matrix[index, position[name]] = 1.0
    return matrix


def _label_counts(
    true: Numbers, said: Numbers, labels: list[str]
) -> dict[str, tuple[int, int, int]]:
    """Return (right, answered, true) per label."""
    sums = zip(labels, (true * said).sum(0), said.sum(0), true.sum(0), strict=True)
    return {label: (int(tp), int(answered), int(real)) for label, tp, answered, real in sums}


def _f1_figures(
    true: Numbers, said: Numbers, clusters: Sequence[str], labels: list[str], seed: int
) -> dict[str, Figure]:
    """Return micro-, macro- and per-label F1 with the percentile cluster bootstrap.

    F1 is a ratio of sums over cases, so counts are summed per cluster once and each draw weighs
    the clusters by how often it drew them.
    """
    import numpy as np

    _, group = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    groups, width = int(group.max()) + 1, len(labels)
    double, total = np.zeros((groups, width)), np.zeros((groups, width))
    np.add.at(double, group, 2.0 * true * said)
    np.add.at(total, group, true + said)
    generator = np.random.Generator(np.random.PCG64(seed))
    draws = generator.multinomial(groups, np.full(groups, 1.0 / groups), BOOTSTRAP_DRAWS)
    weights = draws.astype(np.float64)
    values = _f1_of(double.sum(0)[None], total.sum(0)[None])
    sampled = _f1_of(weights @ double, weights @ total)
    names = ["micro", "macro", *("label " + label for label in labels)]
    result = {}
    for column, name in enumerate(names):
        low, high = np.quantile(sampled[:, column], [0.025, 0.975])
        value = float(values[0, column])
        # The percentile interval need not hold the estimate in tiny samples; a reader expects it.
        low, high = min(float(low), value), max(float(high), value)
        title = f"{name}-F1" if column < 2 else f"F1 {labels[column - 2]}"
        result[name] = Figure(title, value, low, high, len(true), "cluster bootstrap")
    return result


def _f1_of(double: Numbers, total: Numbers) -> Numbers:
    """Return rows of (micro, macro, one per label) from ``2 tp`` and ``2 tp + fp + fn``."""
    import numpy as np

    each = np.divide(double, total, out=np.zeros_like(double), where=total > 0)
    present = (total > 0).sum(1)
    macro = np.divide(each.sum(1), present, out=np.zeros(len(each)), where=present > 0)
    sums = total.sum(1)
    micro = np.divide(double.sum(1), sums, out=np.zeros(len(each)), where=sums > 0)
    result: Numbers = np.column_stack([micro, macro, each])
    return result


def _clusters(
    truth: Sequence[object], answers: Sequence[object], clusters: Sequence[str] | None
) -> Sequence[str]:
    if not len(truth) or len(truth) != len(answers):
        raise InputError(f"{len(truth)} true values and {len(answers)} answers: no figures of that")
    if clusters is None:
        return [str(position) for position in range(len(truth))]
    if len(clusters) != len(truth):
        raise InputError(f"{len(truth)} cases but {len(clusters)} cluster names")
    return clusters


def _decimal(value: float | None) -> str | None:
    return None if value is None else f"{value + 0.0:.6f}"
