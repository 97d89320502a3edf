"""What an assessment holds: figures per arm, comparisons with the incumbent, curve and advice.

Which outcome a comparison has follows from its interval alone; which advice follows from the
outcomes, stands in `advice`.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from freehold.evaluation.metrics import Figure
from freehold.evaluation.paired import Difference
from freehold.evaluation.verdict import decimal, p_text
from freehold.experiments.arms import Skipped
from freehold.experiments.curve import Curve
from freehold.experiments.past_work import PastWork

Outcome = Literal["better", "not worse", "worse", "too close to call"]
Advice = Literal["go on", "review more", "rent", "not worth it"]

MARGIN = Decimal("0.02")


@dataclass(frozen=True, slots=True)
class ArmResult:
    """How right one arm was on the judging cases, measured."""

    name: str
    accuracy: Figure
    macro_f1: Figure

    def as_record(self) -> dict[str, Any]:
        """Return the figures without floats."""
        return {
            "arm": self.name,
            "accuracy": self.accuracy.as_record(),
            "macro_f1": self.macro_f1.as_record(),
            "basis": "measured",
        }


@dataclass(frozen=True, slots=True)
class Against:
    """One arm against a rival on the same cases; a positive difference favours the arm.

    `wins` counts cases that only the arm had right, `losses` those that only the rival had.
    `more` is about how many more judged cases would settle it: 0 where it is settled, None where
    no number would. The interval is widened for the `looks` arms that were compared.
    """

    arm: str
    rival: str
    outcome: Outcome
    difference: Difference
    wins: int
    losses: int
    looks: int
    more: int | None

    @property
    def ties(self) -> int:
        """The number of cases that both had right or both had wrong."""
        return self.difference.n - self.wins - self.losses

    def as_record(self) -> dict[str, Any]:
        """Return the comparison without floats."""
        seen = self.difference
        return {
            "arm": self.arm,
            "rival": self.rival,
            "outcome": self.outcome,
            "difference": decimal(seen.estimate),
            "low": decimal(seen.interval.low),
            "high": decimal(seen.interval.high),
            "confidence": decimal(seen.interval.confidence),
            "p_better": p_text(seen.p_better),
            "p_worse": p_text(seen.p_worse),
            "wins": self.wins,
            "ties": self.ties,
            "losses": self.losses,
            "n": seen.n,
            "clusters": seen.clusters,
            "arms_compared": self.looks,
            "method": seen.method,
            "more_cases_to_settle": self.more,
            "basis": "measured",
        }


@dataclass(frozen=True)
class Assessment:
    """All of it. `against` compares every learning arm with the incumbent, the best arm first.

    `test_from` is the time from which cases judged, where they were parted by time. Where no
    incumbent is known `against` compares with the majority answer: is there anything to learn?
    """

    work: PastWork
    split: str
    left_out: dict[str, int]
    encoder: str | None
    skipped: tuple[Skipped, ...]
    arms: tuple[ArmResult, ...]
    incumbent: ArmResult | None
    best: str
    against: tuple[Against, ...]
    curve: Curve
    margin: Decimal
    seed: int
    advice: Advice
    because: tuple[str, ...]
    test_from: str | None = None

    def as_record(self) -> dict[str, Any]:
        """Return the assessment as JSON without floats; no text of any case is in it."""
        return {
            "schema_version": 1,
            "advice": self.advice,
            "because": list(self.because),
            "work": self.work.as_record(),
            "split": self.split,
            "left_out": dict(self.left_out),
            "seed": self.seed,
            "encoder": self.encoder,
            "skipped": [skipped.as_record() for skipped in self.skipped],
            "arms": [arm.as_record() for arm in self.arms],
            "incumbent": self.incumbent.as_record() if self.incumbent else None,
            "best": self.best,
            "margin": format(self.margin, "f"),
            "against": [one.as_record() for one in self.against],
            "curve": self.curve.as_record(),
        }


def outcome_of(difference: Difference, margin: Decimal) -> Outcome:
    """Return what the interval of a difference allows to say."""
    low, high = difference.interval.low, difference.interval.high
    if low > 0.0:
        return "better"
    if high < 0.0:
        return "worse"
    return "not worse" if low > -float(margin) else "too close to call"
