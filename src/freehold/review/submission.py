"""What a reviewer hands in, and how the item came to be in front of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from freehold.review.labels import WHOLE
from freehold.review.settling import LIVE

VERDICTS = ("accept", "correct", "reject", "skip")
UNRECORDED = "unrecorded"
"""Stands among the shown decisions where something was shown that this lab holds no record of."""


@dataclass(frozen=True, slots=True)
class Selection:
    """How an item came to be reviewed. All None where nobody chose it: it was brought along."""

    stream: str | None
    propensity_ppb: int | None
    population: str | None
    policy: str | None


@dataclass(frozen=True, slots=True)
class Submission:
    """What one reviewer says about one item.

    `value` is checked by the task's space. `shown_decisions` are ids of what was on the screen, or
    `UNRECORDED`. `source` and `external_id` name an imported review in the file it came from;
    `unnamed` says that this file does not tell who decided. `authentication` says how the lab knows
    who the reviewer is.
    """

    item_id: str
    verdict: str
    value: Any = None
    path: str = WHOLE
    shown_decisions: tuple[str, ...] = ()
    kind: str = LIVE
    reason: str | None = None
    milliseconds_spent: int | None = None
    selection: Selection | None = None
    assignment_id: str | None = None
    authentication: str = "asserted"
    source: str | None = None
    external_id: str | None = None
    unnamed: bool = False
