"""What goes into a gate and what comes out: results, the facts about them, and the verdict.

All are frozen and hold no float in anything that is hashed: a verdict is signed by its approver.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from freehold.canonical.json import digest
from freehold.evaluation.intervals import Interval

Outcome = Literal["better", "not worse", "worse", "too close to call", "invalid"]
Standing = Literal["held", "open", "broken", "shown only"]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """How one frozen case was answered, once.

    `scores` holds one number per metric: an int (1 for right, 0 for wrong) or a decimal string.
    `cluster` is the case's value of the plan's unit; `repeat` counts from 0 when a sampling
    candidate answered several times.
    """

    case_id: str
    cluster: str
    scores: Mapping[str, int | str]
    slices: Mapping[str, str] = field(default_factory=dict)
    repeat: int = 0


@dataclass(frozen=True, slots=True)
class Results:
    """All case results of one candidate, by suite, and figures of the whole run.

    `figures` are decimal strings that belong to no single case: ``latency_p95``, ``ece``.
    """

    suites: Mapping[str, tuple[CaseResult, ...]]
    figures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ArmFacts:
    """What is known about one evaluated candidate. Digests are tagged; times are UTC (`clock`).

    `artefact` is the digest of what was loaded and evaluated; `runtime` the kind of engine,
    `engine` its exact identity (versions, dtype, device), `cases` the digest of each suite's cases.
    """

    candidate: str
    artefact: str
    runtime: str
    engine: str
    batch_policy: str
    cases: Mapping[str, str]
    evaluated_at: str


@dataclass(frozen=True, slots=True)
class GateContext:
    """Facts that were gathered elsewhere, so that judging needs no disk and no clock.

    `leaks` counts, per suite, the cases found in training data of the candidate; a suite without a
    count was never checked. `to_serve` is the digest of what a promotion would serve.
    `champion_again` is a second run of the champion: the noise floor.
    """

    champion: ArmFacts
    candidate: ArmFacts
    to_serve: str
    plan_digest: str
    plan_fixed_at: str
    leaks: Mapping[str, int]
    contaminated_gold: tuple[str, ...] = ()
    test_uses: int = 1
    champion_again: Results | None = None
    trained_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a verdict came out as it did: a stable code, and a sentence."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Measured:
    """A mean over cases with its 95 % interval."""

    value: float
    interval: Interval

    def as_record(self) -> dict[str, str]:
        """Return decimal strings."""
        return {
            "value": decimal(self.value),
            "low": decimal(self.interval.low),
            "high": decimal(self.interval.high),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Candidate against champion on one metric; a positive `difference` is an improvement.

    `interval` answers "better or worse?", `bound` is the interval that margins are held against.
    """

    suite: str
    metric: str
    want: str
    margin: Decimal
    champion: Measured
    candidate: Measured
    difference: float
    interval: Interval
    bound: Interval
    p_better: float
    p_worse: float
    n: int
    clusters: int
    variance: float
    method: str
    wins: tuple[str, ...]
    losses: tuple[str, ...]

    @property
    def ties(self) -> int:
        """The number of cases on which both scored the same."""
        return self.n - len(self.wins) - len(self.losses)

    def as_record(self) -> dict[str, Any]:
        """Return the comparison without floats, with every flipped case."""
        return {
            "suite": self.suite,
            "metric": self.metric,
            "want": self.want,
            "margin": format(self.margin, "f"),
            "champion": self.champion.as_record(),
            "candidate": self.candidate.as_record(),
            "difference": decimal(self.difference),
            "interval": _interval(self.interval),
            "bound": _interval(self.bound),
            "p_better": p_text(self.p_better),
            "p_worse": p_text(self.p_worse),
            "n": self.n,
            "clusters": self.clusters,
            "method": self.method,
            "wins": list(self.wins),
            "losses": list(self.losses),
            "ties": self.ties,
        }


@dataclass(frozen=True, slots=True)
class GuardResult:
    """How one guard stands: a `comparison`, or `ratio` and `limit` of a whole-run figure."""

    name: str
    standing: Standing
    comparison: Comparison | None = None
    ratio: Decimal | None = None
    limit: Decimal | None = None
    more: int = 0

    def as_record(self) -> dict[str, Any]:
        """Return the guard without floats."""
        return {
            "name": self.name,
            "standing": self.standing,
            "comparison": self.comparison.as_record() if self.comparison else None,
            "ratio": None if self.ratio is None else decimal(float(self.ratio)),
            "limit": None if self.limit is None else format(self.limit, "f"),
            "more": self.more,
        }


@dataclass(frozen=True, slots=True)
class SliceResult:
    """How one slice stands; `p_holm` is None for a slice too small to be judged."""

    key: str
    value: str
    standing: Standing
    difference: float
    bound: Interval
    n: int
    p_holm: float | None

    def as_record(self) -> dict[str, Any]:
        """Return the slice without floats."""
        return {
            "key": self.key,
            "value": self.value,
            "standing": self.standing,
            "difference": decimal(self.difference),
            "bound": _interval(self.bound),
            "n": self.n,
            "p_holm": None if self.p_holm is None else p_text(self.p_holm),
        }


@dataclass(frozen=True, slots=True)
class Power:
    """What this many cases could show.

    `not_worse` is the chance to show "not worse" between equal models, `detectable` the smallest
    true gain that would be found with the plan's power.
    """

    not_worse: float
    detectable: float
    wanted: Decimal

    def as_record(self) -> dict[str, str]:
        """Return decimal strings."""
        return {
            "not_worse_if_equal": decimal(self.not_worse),
            "detectable_gain": decimal(self.detectable),
            "wanted": format(self.wanted, "f"),
        }


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """The champion against itself, run twice: what moves although nothing changed."""

    changed: int
    n: int
    share: Interval
    difference: float

    def as_record(self) -> dict[str, Any]:
        """Return the floor without floats."""
        return {
            "changed": self.changed,
            "n": self.n,
            "share": _interval(self.share),
            "difference": decimal(self.difference),
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome, its reasons, and everything it was drawn from."""

    outcome: Outcome
    reasons: tuple[Reason, ...]
    plan: str
    facts: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    proposal: str = ""
    primary: Comparison | None = None
    guards: tuple[GuardResult, ...] = ()
    slices: tuple[SliceResult, ...] = ()
    power: Power | None = None
    noise: NoiseFloor | None = None
    more_reviews: int = 0
    test_uses: int = 0
    figures: tuple[tuple[str, str, str], ...] = ()
    trained_by: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether a promotion may stand on this verdict at all."""
        return self.outcome in ("better", "not worse")

    @property
    def may_promote_itself(self) -> bool:
        """Whether no person is needed, where the lab's policy allows that."""
        return self.outcome == "better"

    def as_record(self) -> dict[str, Any]:
        """Return the verdict as canonical JSON takes it: no floats, keys fixed."""
        return {
            "schema_version": 1,
            "gate": self.plan,
            "outcome": self.outcome,
            "passed": self.passed,
            "proposal": self.proposal,
            "reasons": [{"code": reason.code, "text": reason.text} for reason in self.reasons],
            "warnings": list(self.warnings),
            "primary": self.primary.as_record() if self.primary else None,
            "guards": [guard.as_record() for guard in self.guards],
            "slices": [part.as_record() for part in self.slices],
            "power": self.power.as_record() if self.power else None,
            "noise_floor": self.noise.as_record() if self.noise else None,
            "more_reviews": self.more_reviews,
            "test_uses": self.test_uses,
            "figures": [
                {"name": name, "champion": first, "candidate": second}
                for name, first, second in self.figures
            ],
            "facts": dict(self.facts),
            "trained_by": list(self.trained_by),
        }

    @property
    def digest(self) -> str:
        """The digest that an approver signs."""
        return digest(self.as_record())


def decimal(value: float) -> str:
    """Return a number as a decimal string with six places; a bound that is not there is 'none'."""
    if not math.isfinite(value):
        return "none"
    text = f"{value:.6f}"
    return "0.000000" if text == "-0.000000" else text


def p_text(value: float) -> str:
    """Return a p-value as a decimal string with four significant digits."""
    return format(Decimal(f"{value:.4g}"), "f") if value >= 1e-12 else "0.000000000001"


def _interval(interval: Interval) -> dict[str, str]:
    return {
        "low": decimal(interval.low),
        "high": decimal(interval.high),
        "confidence": decimal(interval.confidence),
        "method": interval.method,
    }
