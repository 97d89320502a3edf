"""From an engine's probabilities to a task's answer: the value, and what records hold of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from freehold.canonical.json import encode_text, to_ppb
from freehold.errors import EngineError
from freehold.records.spaces import Labels, Number
from freehold.runtimes.base import Scored
from freehold.tasks.definition import Task

DEFAULT_THRESHOLD = "0.5"
_DIGITS = 9  # of a point estimate: far below any engine's noise


def value_of(task: Task, scored: Scored, threshold: str = DEFAULT_THRESHOLD) -> Any:
    """Return the answer: an option, a list of options in the task's order, or a decimal string.

    For ``choice`` the most probable option, the first of equals; for ``labels`` those at or above
    the threshold; for ``number`` the engine's estimate, within the task's bounds. Raises
    EngineError for an answer that does not fit the task.
    """
    space, shares = task.space, scored.probabilities
    if scored.error is not None or len(shares) != len(space.options):
        raise EngineError(scored.error or f"{len(shares)} probabilities for {len(space.options)}")
    if isinstance(space, Labels):
        least = float(threshold)
        return [name for name, share in zip(space.options, shares, strict=True) if share >= least]
    if isinstance(space, Number):
        if scored.value is None:
            raise EngineError("the engine gave no estimate for a number")
        estimate = Decimal(f"{scored.value:.{_DIGITS}g}")
        return space.check(min(max(estimate, space.low), space.high))
    return space.options[shares.index(max(shares))]


def shares_of(task: Task, scored: Scored) -> dict[str, int]:
    """Return the probability of each option in whole parts per billion."""
    pairs = zip(task.space.options, scored.probabilities, strict=True)
    return {name: to_ppb(share) for name, share in pairs}


def confidence_of(task: Task, shares: dict[str, int]) -> int:
    """Return how sure an answer is, in parts per billion: of labels, the least sure of them."""
    if isinstance(task.space, Labels):
        return min(max(share, 1_000_000_000 - share) for share in shares.values())
    return max(shares.values())


def as_text(value: Any) -> str:
    """Return a value as the text that stands in a cell: labels joined by '|'."""
    return "|".join(value) if isinstance(value, list) else str(value)


def encoded(value: Any) -> str:
    """Return a value as records hold it."""
    return encode_text(value)
