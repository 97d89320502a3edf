"""From logits to answers: the one place where scores become probabilities and point estimates.

Computed in float64 whatever the engine computed in, so that every engine rounds alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from freehold.errors import InputError
from freehold.runtimes.base import Question, Scored

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]


def probabilities(logits: Matrix, kind: str, temperature: str = "1.0") -> Matrix:
    """Return probabilities [texts, options] of logits [texts, options] under a temperature.

    Softmax over the options for ``choice`` and ``number``; for ``labels`` the sigmoid of each. Both
    forms never overflow: the largest exponent is 0.
    """
    import numpy as np

    scaled = np.asarray(logits, dtype=np.float64) / float(temperature)
    if kind == "labels":
        small = np.exp(-np.abs(scaled))
        return np.where(scaled >= 0, 1.0 / (1.0 + small), small / (1.0 + small))
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: Matrix = powers / powers.sum(axis=1, keepdims=True)
    return shares


def estimate(question: Question, shares: Sequence[float]) -> float | None:
    """Return the mean of the bins' midpoints under their probabilities; None unless a number."""
    if question.kind != "number":
        return None
    return sum(share * middle for share, middle in zip(shares, question.midpoints, strict=True))


def to_scored(
    question: Question,
    shares: Matrix,
    read: Sequence[tuple[int, int]],
    *,
    calibrated: bool,
) -> tuple[Scored, ...]:
    """Return one answer per row of `shares`; `read` holds each text's (tokens, windows)."""
    return tuple(
        Scored(
            tuple(row),
            value=estimate(question, row),
            tokens_in=tokens,
            windows=windows,
            calibrated=calibrated,
        )
        for row, (tokens, windows) in zip(shares.tolist(), read, strict=True)
    )


def require_options(
    question: Question,
    kind: str,
    options: tuple[str, ...],
    bounds: tuple[str | None, str | None] = (None, None),
) -> None:
    """Raise InputError unless a pack was trained for exactly this question.

    Options in another order would silently swap answers, so the order counts too.
    """
    if kind != question.kind:
        raise InputError(f"the model answers a {kind} question, the task asks a {question.kind}")
    if options != question.names:
        odd = sorted(set(options) ^ set(question.names)) or "the same names in another order"
        raise InputError(
            f"the model was trained for other options than the task has: {odd}",
            hint="Train again on the task as it is now, or use the task's version it came from.",
        )
    if bounds != (question.low, question.high):
        raise InputError(
            f"the model was trained for {bounds[0]} to {bounds[1]}, "
            f"the task asks {question.low} to {question.high}"
        )
