"""What the reviews of one item add up to: a pure rule, from opinions to a label.

The rule, in order:

1. An adjudication stands above the reviews that it was made over.
2. Reviews made here (live, or from an answer key) stand above past work: as soon as as many people
   have looked as the lab asks for, historical answers no longer count.
3. The opinions that count must all be the same. Otherwise the item is disputed and waits for an
   adjudicator; a majority is not an agreement.
4. A label is **gold** only if nobody whose opinion counts had seen a model's answer. Past work is
   not gold unless the lab's settings say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from freehold.errors import InputError

LIVE, HISTORICAL, ANSWER_KEY, ADJUDICATION = "live", "historical", "answer_key", "adjudication"
KINDS = (LIVE, HISTORICAL, ANSWER_KEY, ADJUDICATION)


@dataclass(frozen=True, slots=True)
class Opinion:
    """One standing review, as the rule sees it. Values are canonical JSON text.

    `value` is None for a skip or a bare rejection; `rejected` holds the values that a rejection
    turned down. `blind` says that no model's answer was shown, `by_person` that no service gave it.
    """

    review_id: str
    principal_id: str
    kind: str
    value: str | None
    rejected: tuple[str, ...] = ()
    blind: bool = True
    by_person: bool = True


@dataclass(frozen=True, slots=True)
class Rule:
    """How many live reviewers an item needs, and whether past work may judge models."""

    reviewers: int = 1
    historical_is_gold: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """A label in the making; `contamination` says why it may not judge models, None if it may."""

    state: str  # settled, disputed
    value: str | None
    basis: str  # agreed, adjudicated, historical
    contamination: str | None
    reviews: tuple[str, ...]
    decided_by: str | None = None

    @property
    def gold(self) -> bool:
        """Whether the label may judge models."""
        return self.state == "settled" and self.contamination is None


def settle(opinions: Sequence[Opinion], rule: Rule) -> Outcome | None:
    """Return what the standing opinions about one item add up to; None while too few have spoken.

    Raises InputError for an unknown kind of review.
    """
    for opinion in opinions:
        if opinion.kind not in KINDS:
            known = ", ".join(KINDS)
            raise InputError(f"unknown kind of review {opinion.kind!r}; known: {known}")
    spoken = [each for each in opinions if each.value is not None or each.rejected]
    rulings = [each for each in spoken if each.kind == ADJUDICATION]
    here = [each for each in spoken if each.kind in (LIVE, ANSWER_KEY)]
    past = [each for each in spoken if each.kind == HISTORICAL]
    if rulings:
        return _ruled(rulings[-1], here or past, rule)
    if _enough(here, rule):
        return _weighed(here, "agreed", rule)
    return _weighed(past, "historical", rule)


def _enough(here: Sequence[Opinion], rule: Rule) -> bool:
    # An answer key is complete by itself.
    return len(here) >= rule.reviewers or any(each.kind == ANSWER_KEY for each in here)


def _ruled(ruling: Opinion, heard: Sequence[Opinion], rule: Rule) -> Outcome:
    reviews = (*(each.review_id for each in heard), ruling.review_id)
    contamination = _contamination([*heard, ruling], rule)
    decider = ruling.principal_id
    return Outcome("settled", ruling.value, "adjudicated", contamination, reviews, decider)


def _weighed(heard: Sequence[Opinion], basis: str, rule: Rule) -> Outcome | None:
    reviews = tuple(each.review_id for each in heard)
    contamination = _contamination(heard, rule)
    values = {each.value for each in heard if each.value is not None}
    rejected = {value for each in heard for value in each.rejected}
    if not values:
        return None  # nobody has spoken, or all that is known is what the answer is not
    if len(values) > 1 or values & rejected:
        return Outcome("disputed", None, basis, contamination, reviews)
    return Outcome("settled", values.pop(), basis, contamination, reviews)


def _contamination(heard: Sequence[Opinion], rule: Rule) -> str | None:
    past = sum(each.kind == HISTORICAL for each in heard)
    shown = sum(not each.blind and each.kind != HISTORICAL for each in heard)
    services = sum(not each.by_person for each in heard)
    reasons = []
    if shown:
        reasons.append(f"{shown} of {len(heard)} reviews saw a model's answer")
    if services:
        reasons.append(f"{services} of {len(heard)} reviews were given by a service, not a person")
    if past and not rule.historical_is_gold:
        reasons.append("past work: nobody knows what was seen when it was decided")
    return "; ".join(reasons) or None
