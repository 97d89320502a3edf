"""What may be done with a model under the terms found: a pure function of four records.

`evaluate(finding, policy, facts)` names every reason and duty with its source. Unknown terms
fail closed; a model about whose terms nobody said anything is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, get_args

from freehold.errors import LicenceRefused, SettingsError
from freehold.models.licence_cards import (
    Act,
    Duty,
    LicenceCard,
    LicenceCatalogue,
    Limit,
    Metric,
    Threshold,
    licence_catalogue,
)
from freehold.models.licences import LicenceFinding, Statement

Reaction = Literal["allow", "sign_off", "block"]
Outcome = Literal["allow", "allow_with_duties", "needs_signoff", "block"]

_ORDER: Final[tuple[Outcome, ...]] = ("allow", "allow_with_duties", "needs_signoff", "block")
_OUTCOME: Final[dict[str, Outcome]] = {
    "allow": "allow",
    "sign_off": "needs_signoff",
    "block": "block",
}


_EUROPEAN_UNION: Final = {
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT",
    "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LicencePolicy:
    """How a lab reacts where the terms leave room; every default is the cautious one.

    ``asserted``: terms known only from what an uploader wrote; ``conflict``: two statements
    differ; ``unknown``: a text or name on no card; ``unanswered``: a threshold or territory for
    which no fact is given; ``moving``: terms that the licensor may change later.
    """

    asserted: Reaction = "sign_off"
    conflict: Reaction = "sign_off"
    unknown: Reaction = "block"
    unanswered: Reaction = "sign_off"
    moving: Reaction = "sign_off"
    denied: tuple[str, ...] = ()

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> LicencePolicy:
        """Read the policy from a TOML table. Raises SettingsError for an unknown key or value."""
        known = {one.name for one in fields(cls)}
        for key, value in table.items():
            allowed = isinstance(value, list) if key == "denied" else value in get_args(Reaction)
            if key not in known or not allowed:
                raise SettingsError(f"licence policy: {key} = {value!r}", key=key)
        return replace(cls(), **{**table, "denied": tuple(table.get("denied", ()))})


@dataclass(frozen=True, slots=True)
class LicenceFacts:
    """What the licensee says of themselves; recorded with the verdict.

    ``figures`` are whole numbers (people, or US dollars), over company and affiliates unless the
    threshold says otherwise; for a threshold as of a release date, that month's figure.
    ``territory`` is an ISO 3166 country code, or EU; ``modality`` is text or multimodal.
    """

    acts: frozenset[Act] = frozenset({"use", "commercial", "modify"})
    figures: Mapping[Metric, int] = field(default_factory=dict)
    territory: str | None = None
    modality: str = "text"

    def as_record(self) -> dict[str, Any]:
        """Return the facts as a JSON value."""
        return {
            "acts": sorted(self.acts),
            "figures": dict(self.figures),
            "territory": self.territory,
            "modality": self.modality,
        }


@dataclass(frozen=True, slots=True)
class LicenceVerdict:
    """The outcome with every reason and duty; ``cards`` are those whose terms were applied."""

    outcome: Outcome
    reasons: tuple[str, ...]
    duties: tuple[str, ...]
    cards: tuple[str, ...]

    def as_record(self) -> dict[str, Any]:
        """Return the verdict as a JSON value."""
        return {
            "outcome": self.outcome,
            "reasons": list(self.reasons),
            "duties": list(self.duties),
            "cards": list(self.cards),
        }


class _Tally:
    """Collects reasons and duties; the strictest outcome wins."""

    def __init__(self) -> None:
        self.outcome: Outcome = "allow"
        self.reasons: list[str] = []
        self.duties: list[str] = []

    def react(self, outcome: Outcome, reason: str) -> None:
        self.outcome = max(self.outcome, outcome, key=_ORDER.index)
        if reason not in self.reasons:
            self.reasons.append(reason)

    def owe(self, duty: str) -> None:
        self.outcome = max(self.outcome, "allow_with_duties", key=_ORDER.index)
        if duty not in self.duties:
            self.duties.append(duty)


def evaluate(
    finding: LicenceFinding,
    policy: LicencePolicy,
    facts: LicenceFacts,
    *,
    ancestors: Sequence[LicenceFinding] = (),
    catalogue: LicenceCatalogue | None = None,
) -> LicenceVerdict:
    """Return the verdict on one model; the terms of its ``ancestors`` come on top of its own.

    Where statements conflict the duties and limits of all of them hold.
    Raises LicenceRefused where nobody said anything about the terms of the model or an ancestor.
    """
    cards = catalogue or licence_catalogue()
    tally = _Tally()
    applied: list[LicenceCard] = []
    for depth, one in enumerate((finding, *ancestors)):
        whose = "" if depth == 0 else "base model: "
        _weigh_statements(one, policy, tally, whose)
        applied += [cards.by_name[name] for name in one.cards]
    for card in dict.fromkeys(applied):
        _apply(card, policy, facts, tally)
    for one in (finding, *ancestors):
        for statement in one.statements:
            _owe_notices(statement, facts, tally)
    return LicenceVerdict(
        tally.outcome,
        tuple(tally.reasons),
        tuple(tally.duties),
        tuple(dict.fromkeys(card.id for card in applied)),
    )


def _weigh_statements(
    finding: LicenceFinding, policy: LicencePolicy, tally: _Tally, whose: str
) -> None:
    if not finding.statements:
        raise LicenceRefused(
            f"{whose}no licence: no licence text, no model card and no package says under which "
            "terms these weights stand",
            hint="Give the text with --licence-file FILE, or name it with --licence SPDX-ID; "
            "it is then recorded as stated by you.",
        )
    for one in finding.statements:
        if one.card is None:
            reason = f"{whose}unknown terms: {one.where} says {one.said!r}, which is on no card"
            tally.react(_OUTCOME[policy.unknown], reason)
    if finding.conflicting:
        said = "; ".join(f"{one.where}: {one.said}" for one in finding.statements)
        reason = f"{whose}statements differ ({said}); the duties of all of them hold"
        tally.react(_OUTCOME[policy.conflict], reason)
    if not any(_settles(one) for one in finding.statements):
        said = ", ".join(f"{one.where} ({one.said})" for one in finding.statements)
        reason = f"{whose}no licence text for the weights; only asserted by {said}"
        tally.react(_OUTCOME[policy.asserted], reason)
    for path, _, card in finding.policies:
        if card is None or card not in finding.cards:
            reason = f"{whose}unknown terms: {path} belongs to no licence found here"
            tally.react(_OUTCOME[policy.unknown], reason)


def _settles(statement: Statement) -> bool:
    """Tell what settles the question: a known text beside the weights, or a named person."""
    return statement.covers == "weights" and (
        statement.verified or (statement.origin == "person" and statement.card is not None)
    )


def _apply(card: LicenceCard, policy: LicencePolicy, facts: LicenceFacts, tally: _Tally) -> None:
    if card.id in policy.denied or card.licence in policy.denied:
        tally.react("block", f"{card.name}: denied by the lab's policy")
    if card.moving:
        reason = f"{card.name}: the licensor may change the terms; the text read is kept"
        tally.react(_OUTCOME[policy.moving], reason)
    for threshold in card.thresholds:
        if threshold.act in facts.acts:
            _apply_threshold(card, threshold, policy, facts, tally)
    for limit in card.limits:
        if limit.act in facts.acts:
            _apply_limit(card, limit, policy, facts, tally)
    for duty in card.duties:
        if duty.act in facts.acts:
            tally.owe(_duty(card, duty))


def _apply_threshold(
    card: LicenceCard,
    threshold: Threshold,
    policy: LicencePolicy,
    facts: LicenceFacts,
    tally: _Tally,
) -> None:
    figure = facts.figures.get(threshold.metric)
    when = f"at {card.effective}" if threshold.as_of == "release_date" else "now"
    if figure is None:
        reason = (
            f"{card.name}: state {threshold.metric} of {threshold.scope} ({when}); "
            f"above {threshold.over:,} the terms change ({threshold.source})"
        )
        tally.react(_OUTCOME[policy.unanswered], reason)
    elif figure > threshold.over and threshold.effect == "display_notice":
        tally.owe(f"{card.name}: display “{threshold.text}” ({threshold.source})")
    elif figure > threshold.over:
        tally.react("block", f"{card.name}: {threshold.text} ({threshold.source})")


def _apply_limit(
    card: LicenceCard, limit: Limit, policy: LicencePolicy, facts: LicenceFacts, tally: _Tally
) -> None:
    if limit.modality is not None and limit.modality != facts.modality:
        return
    if limit.territory and facts.territory is None:
        reason = f"{card.name}: state where you are at home; {limit.text} ({limit.source})"
        tally.react(_OUTCOME[policy.unanswered], reason)
    elif not limit.territory or _home(facts) & set(limit.territory):
        tally.react(_OUTCOME[limit.effect], f"{card.name}: {limit.text} ({limit.source})")


def _home(facts: LicenceFacts) -> set[str]:
    """Return the territories the licensee is at home in: the country, and the Union around it."""
    home = {facts.territory} if facts.territory else set()
    return home | {"EU"} if home & _EUROPEAN_UNION else home


def _duty(card: LicenceCard, duty: Duty) -> str:
    forms = {
        "display": f"display “{duty.text}”",
        "notice_file": f"put into a Notice file: “{duty.text}”",
        "name_prefix": f"let the name of a derived model begin with “{duty.text}”",
    }
    return f"{card.name}: {forms.get(duty.code, duty.text)} ({duty.source})"


def _owe_notices(statement: Statement, facts: LicenceFacts, tally: _Tally) -> None:
    if statement.text is not None and "distribute" in facts.acts:
        for notice in statement.text.notices:
            tally.owe(f"keep the notice of {statement.where}: “{notice}”")
