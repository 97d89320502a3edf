"""How one answer is scored against the gold value of its case: pure arithmetic, no lab.

Every space has ``correct`` (1 or 0), so that one default gate serves every task; the others are
decimal strings with six places:

- ``choice``: ``brier`` and ``log_loss`` of the probabilities;
- ``labels``: ``correct`` is an exact match; ``f1`` of the two sets (1 when both are empty);
- ``number``: ``correct`` means within one bin of the task's scale; ``absolute_error`` in its unit.

A case without an answer scores as the worst answer would, so that failing is never an advantage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from freehold.canonical.json import PARTS_PER_BILLION
from freehold.errors import InputError
from freehold.records.spaces import Choice, Labels, Number, Space

Scores = dict[str, int | str]

_LEAST: Final = 1  # part per billion: what a probability of zero counts as in a logarithm
_WORST_BRIER: Final = 2.0  # all probability on one wrong option


def score(space: Space, truth: Any, value: Any, shares: Mapping[str, int] | None) -> Scores:
    """Return the scores of an answer; `value` None means that there was none.

    `shares` maps each option to parts per billion; None where the answer came without.
    """
    if isinstance(space, Choice):
        return _choice(str(truth), value, shares)
    if isinstance(space, Labels):
        return _labels(set(truth), None if value is None else set(value))
    return _number(space, Decimal(truth), None if value is None else Decimal(value))


def metric_names(space: Space) -> tuple[str, ...]:
    """Return the metrics that each case of a task of this space is scored by."""
    more = {"choice": ("brier", "log_loss"), "labels": ("f1",), "number": ("absolute_error",)}
    return ("correct", *more[space.kind])


def _choice(truth: str, value: Any, shares: Mapping[str, int] | None) -> Scores:
    if value is None or shares is None:
        brier, loss = _WORST_BRIER, -math.log(_LEAST / PARTS_PER_BILLION)
    elif truth not in shares:
        raise InputError(f"the gold value {truth!r} is no option of the task any more")
    else:
        brier = sum(
            (share / PARTS_PER_BILLION - (name == truth)) ** 2 for name, share in shares.items()
        )
        loss = -math.log(max(shares[truth], _LEAST) / PARTS_PER_BILLION)
    return {"correct": int(value == truth), "brier": _text(brier), "log_loss": _text(loss)}


def _labels(truth: set[str], value: set[str] | None) -> Scores:
    if value is None:
        return {"correct": 0, "f1": _text(0.0)}
    total = len(truth) + len(value)
    f1 = 2 * len(truth & value) / total if total else 1.0
    return {"correct": int(truth == value), "f1": _text(f1)}


def _number(space: Number, truth: Decimal, value: Decimal | None) -> Scores:
    span = space.high - space.low
    error = span if value is None else abs(value - truth)
    near = value is not None and error <= span / space.bins
    return {"correct": int(near), "absolute_error": _text(float(error))}


def _text(number: float) -> str:
    return f"{number + 0.0:.6f}"
