"""Reviews: one person's verdict on one item, written down once and never edited.

A review says what was on the screen: `shown_decisions` empty means that no model's answer was. It
carries the chance with which its item was chosen, so that figures can be made from it later. A
later review by the same person of the same item supersedes the earlier one; both stay.

The verdicts: *accept* agrees with a decision that was shown, *reject* turns it down without saying
what is right, *correct* gives the answer itself (also of a bare item), *skip* gives none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, RowMapping, select

from freehold.canonical.json import decode, encode_text
from freehold.errors import Conflict, InputError, NotFound
from freehold.evidence.entries import Entry
from freehold.lab.opened import Lab
from freehold.lab.schema import decisions, items, principals, reviews
from freehold.lab.sequences import take_number
from freehold.records.ids import new_id
from freehold.review.assignments import finish_assignment, taken_assignment
from freehold.review.labels import WHOLE, Settled, settle_items
from freehold.review.settling import ADJUDICATION, ANSWER_KEY, HISTORICAL, KINDS, LIVE
from freehold.review.submission import UNRECORDED, VERDICTS, Selection, Submission

if TYPE_CHECKING:
    from freehold.tasks.contract import Task

_MOST_IN_AN_ENTRY = 100  # reviews; with their labels and what they supersede, 400 rows


@dataclass(frozen=True, slots=True)
class Submitted:
    """What came of reviews: ids of new ones (None: it was there already), and labels changed."""

    review_ids: tuple[str | None, ...] = ()
    superseded: int = 0
    settled: Settled = field(default_factory=Settled)

    @property
    def written(self) -> int:
        """How many reviews are new."""
        return sum(each is not None for each in self.review_ids)


def submit_review(
    lab: Lab, connection: Connection, task: Task, submission: Submission, *, actor: str
) -> str:
    """Write one review by `actor` and settle its item's label; return the review's id.

    The review takes over how its item was chosen, and closes the assignment: the one it names, or
    else the one by which `actor` took the item, so that what they were offered counts as shown
    although they name no assignment. Raises InputError for a verdict without its value or a value
    outside the space, NotFound for an unknown item or decision, Conflict for an assignment that is
    somebody else's.
    """
    if submission.kind == ADJUDICATION:
        raise InputError("an adjudication is given with `adjudicate`, by one who saw the conflict")
    if submission.assignment_id is None and submission.kind == LIVE:
        held = taken_assignment(connection, task.name, submission.item_id, actor)
        submission = replace(submission, assignment_id=held)
    if submission.assignment_id is not None:
        submission = finish_assignment(connection, task.name, submission, actor)
    pair = (submission, actor)
    done = record_reviews(lab, connection, task, [pair], actor=actor, kind="review.submitted")
    (review_id,) = done.review_ids
    if review_id is None:
        raise Conflict(f"this review was submitted before as {submission.external_id}")
    return review_id


def adjudicate(
    lab: Lab,
    connection: Connection,
    task: Task,
    submission: Submission,
    *,
    actor: str,
) -> str:
    """Settle a dispute by the word of a named person who has seen it; return the review's id.

    The submission's verdict is *correct*, with the value and the reason. A later adjudication
    supersedes an earlier one. Raises Conflict where no review stands that could be ruled upon.
    """
    if submission.verdict != "correct" or not (submission.reason or "").strip():
        raise InputError("an adjudication gives the value and the reason for it")
    if not conflict_of(connection, task, submission.item_id, path=submission.path):
        raise Conflict(
            f"nobody has reviewed item {submission.item_id}: there is nothing to adjudicate",
            hint="Submit an ordinary review.",
        )
    ruling = replace(submission, kind=ADJUDICATION)
    done = record_reviews(
        lab, connection, task, [(ruling, actor)], actor=actor, kind="label.adjudicated"
    )
    return str(done.review_ids[0])


def conflict_of(
    connection: Connection, task: Task, item_id: str, *, path: str = WHOLE
) -> list[RowMapping]:
    """Return the standing reviews of an item, for the adjudicator and nobody else."""
    query = select(reviews).where(
        reviews.c.item_id == item_id,
        reviews.c.task == task.name,
        reviews.c.contract_digest == task.contract_digest,
        reviews.c.path == path,
        reviews.c.superseded_by.is_(None),
        reviews.c.kind != ADJUDICATION,
    )
    return list(connection.execute(query.order_by(reviews.c.review_id)).mappings())


def review_history(
    connection: Connection, task_name: str, item_id: str, *, path: str = WHOLE
) -> list[RowMapping]:
    """Return every review of an item, superseded ones included, in the order of submission."""
    query = select(reviews).where(
        reviews.c.item_id == item_id, reviews.c.task == task_name, reviews.c.path == path
    )
    order = (reviews.c.submitted_at, reviews.c.review_id)
    return list(connection.execute(query.order_by(*order)).mappings())


def record_reviews(
    lab: Lab,
    connection: Connection,
    task: Task,
    given: Sequence[tuple[Submission, str]],
    *,
    actor: str,
    kind: str = "reviews.imported",
) -> Submitted:
    """Write reviews, each with its reviewer's pseudonym, and settle the labels of their items.

    A review that was imported before, unchanged, is not written again: its id is None in the
    answer. Spread over ledger entries of 100 reviews, all in the caller's transaction.
    """
    # One writer of a task's reviews at a time: two that look for what is there already at once
    # would both write it, and settle the same items without each other's reviews.
    take_number(connection, f"reviews/{task.name}")
    facts = _Facts(connection, task, given)
    ids: list[str | None] = []
    superseded, settled = 0, Settled()
    for start in range(0, len(given), _MOST_IN_AN_ENTRY):
        part = given[start : start + _MOST_IN_AN_ENTRY]
        entry = Entry(lab, connection, kind, actor, {"task": task.name})
        book = _Book(entry, task, facts)
        ids += [book.add(submission, reviewer) for submission, reviewer in part]
        if not book.touched:
            continue
        superseded += book.write()
        for path, touched in book.touched.items():
            settled += settle_items(lab, entry, task, touched, path=path)
        entry.note(reviews=len(book.fresh))
        entry.close()
    return Submitted(tuple(ids), superseded, settled)


class _Facts:
    """What the lab knows about the items, reviewers and decisions that reviews name."""

    def __init__(
        self, connection: Connection, task: Task, given: Sequence[tuple[Submission, str]]
    ) -> None:
        item_ids = sorted({submission.item_id for submission, _ in given})
        shown = sorted({each for submission, _ in given for each in submission.shown_decisions})
        people = sorted({reviewer for _, reviewer in given})
        found = _rows(connection, select(items.c.item_id, items.c.erased_at), items.c.item_id,
                      item_ids)  # fmt: skip
        self.items = {row["item_id"]: dict(row) for row in found}
        found = _rows(connection, select(decisions), decisions.c.decision_id, shown)
        self.decisions = {row["decision_id"]: dict(row) for row in found}
        found = _rows(connection, select(principals), principals.c.principal_id, people)
        self.people = {row["principal_id"]: row["kind"] for row in found}
        self.past: dict[str, list[dict[str, Any]]] = {}
        query = select(reviews).where(
            reviews.c.task == task.name, reviews.c.contract_digest == task.contract_digest
        )
        order = (reviews.c.submitted_at, reviews.c.review_id)
        for row in _rows(connection, query.order_by(*order), reviews.c.item_id, item_ids):
            self.past.setdefault(row["item_id"], []).append(dict(row))


class _Book:
    """The reviews of one ledger entry in the making, and what they supersede."""

    def __init__(self, entry: Entry, task: Task, facts: _Facts) -> None:
        self.entry, self.task, self.facts = entry, task, facts
        self.fresh: list[dict[str, Any]] = []
        self.touched: dict[str, list[str]] = {}
        self._replaced: dict[str, str] = {}

    def add(self, submission: Submission, reviewer: str) -> str | None:
        """Take one review; None when this very one was imported before."""
        value = check_submission(self.task, submission, self.facts.items, self.facts.decisions)
        past = self.facts.past.setdefault(submission.item_id, [])
        same = [row for row in past if _is_same_record(row, submission)]
        row = self._row(submission, reviewer, value)
        if same and all(same[-1][name] == row[name] for name in ("verdict", "value", "reason")):
            return None
        old = _standing(past, row, same, unnamed=submission.unnamed)
        row["supersedes"] = old["review_id"] if old else None
        if old:
            self._supersede(old, row["review_id"])
        past.append(row)
        self.fresh.append(row)
        self.touched.setdefault(submission.path, []).append(submission.item_id)
        return str(row["review_id"])

    def write(self) -> int:
        """Write what was taken; return how many earlier reviews were superseded."""
        self.entry.insert_many(reviews, self.fresh)
        for review_id, by in self._replaced.items():
            self.entry.update(reviews, {"review_id": review_id}, {"superseded_by": by})
        return sum(row["supersedes"] is not None for row in self.fresh)

    def _supersede(self, old: dict[str, Any], by: str) -> None:
        old["superseded_by"] = by  # enough for one of this entry, which is not written yet
        if not any(row is old for row in self.fresh):
            self._replaced[old["review_id"]] = by

    def _row(self, given: Submission, reviewer: str, value: Any) -> dict[str, Any]:
        if reviewer not in self.facts.people:
            raise NotFound(f"no person {reviewer} in this lab")
        chosen = given.selection or Selection(None, None, None, None)
        return {
            "review_id": new_id("rev"),
            "item_id": given.item_id,
            "task": self.task.name,
            "contract_digest": self.task.contract_digest,
            "path": given.path,
            "principal_id": reviewer,
            "principal_kind": self.facts.people[reviewer],
            "authentication": given.authentication,
            "kind": given.kind,
            "source": given.source,
            "shown_decisions": encode_text(list(given.shown_decisions)),
            "verdict": given.verdict,
            "value": None if value is None else encode_text(value),
            "reason": given.reason,
            "milliseconds_spent": given.milliseconds_spent,
            "stream": chosen.stream,
            "propensity_ppb": chosen.propensity_ppb,
            "population": chosen.population,
            "policy": chosen.policy,
            "external_id": given.external_id,
            "superseded_by": None,
            "submitted_at": self.entry.at,
        }


def check_submission(
    task: Task,
    given: Submission,
    known_items: Mapping[str, Mapping[str, Any]],
    known_decisions: Mapping[str, Mapping[str, Any]],
) -> Any:
    """Return the value that a review gives (None for reject and skip), or raise what is wrong."""
    if given.verdict not in VERDICTS:
        raise InputError(f"unknown verdict {given.verdict!r}; known: {', '.join(VERDICTS)}")
    if given.kind not in KINDS:
        raise InputError(f"unknown kind of review {given.kind!r}; known: {', '.join(KINDS)}")
    if given.kind in (HISTORICAL, ANSWER_KEY) and not given.source:
        raise InputError(f"a review of kind {given.kind} names its source")
    if given.milliseconds_spent is not None and given.milliseconds_spent < 0:
        raise InputError(f"time spent is 0 ms or more, got {given.milliseconds_spent}")
    _check_item(given.item_id, known_items)
    shown = [_check_shown(task, given, each, known_decisions) for each in given.shown_decisions]
    if given.verdict in ("reject", "skip"):
        if given.value is not None:
            raise InputError(f"{given.verdict} gives no value; use correct to give one")
        if given.verdict == "reject" and not shown:
            raise InputError("reject needs the decision that it rejects; a bare item is skipped")
        return None
    if given.verdict == "accept":
        return _accepted(task, given, [each for each in shown if each is not None])
    if given.value is None:
        raise InputError(f"{given.verdict} needs a value")
    return task.space.check(given.value)


def _check_item(item_id: str, known: Mapping[str, Mapping[str, Any]]) -> None:
    if item_id not in known:
        raise NotFound(f"no item {item_id} in this lab")
    if known[item_id]["erased_at"] is not None:
        raise Conflict(f"item {item_id} was erased on {known[item_id]['erased_at']}")


def _check_shown(
    task: Task, given: Submission, decision_id: str, known: Mapping[str, Mapping[str, Any]]
) -> Any:
    """Return the value of a decision that was shown; None where the lab has no record of it."""
    if decision_id == UNRECORDED:
        return None
    if decision_id not in known:
        raise NotFound(f"no decision {decision_id} in this lab")
    row = known[decision_id]
    if row["item_id"] != given.item_id or row["contract_digest"] != task.contract_digest:
        raise InputError(f"decision {decision_id} is about another item or another contract")
    if row["value"] is None:
        raise InputError(f"decision {decision_id} is {row['state']}: it has no answer to show")
    return decode(row["value"])


def _accepted(task: Task, given: Submission, shown: list[Any]) -> Any:
    if not given.shown_decisions:
        raise InputError("accept needs a decision that was shown; use correct to give a value")
    if given.value is None:
        if len(shown) != 1:
            raise InputError(f"{len(shown)} decisions were shown: give the value that is accepted")
        return shown[0]
    value = task.space.check(given.value)
    if shown and value not in shown:
        raise InputError(f"{value!r} is not what was shown; use correct to give another value")
    return value


def _is_same_record(row: Mapping[str, Any], given: Submission) -> bool:
    if given.external_id is None or row["path"] != given.path:
        return False
    # A review that left this lab in an export and came back names itself by its own id.
    came_back = bool(row["review_id"] == given.external_id)
    same_source = row["source"] == given.source and row["external_id"] == given.external_id
    return came_back or bool(same_source)


def _standing(
    past: Sequence[dict[str, Any]],
    row: Mapping[str, Any],
    same: Sequence[dict[str, Any]],
    *,
    unnamed: bool,
) -> dict[str, Any] | None:
    """Return the standing review that a new one supersedes, or None.

    The earlier one by the same person; of past work by nobody known, only the same record; an
    adjudication supersedes any other.
    """
    ruling = row["kind"] == ADJUDICATION
    among = same if unnamed else past
    for old in among[::-1]:
        stands = old["superseded_by"] is None and old["path"] == row["path"]
        alike = (old["kind"] == ADJUDICATION) == ruling
        by_same = ruling or unnamed or old["principal_id"] == row["principal_id"]
        if stands and alike and by_same:
            return old
    return None


def _rows(connection: Connection, query: Any, column: Any, ids: Sequence[str]) -> list[RowMapping]:
    found: list[RowMapping] = []
    for start in range(0, len(ids), 400):
        part = ids[start : start + 400]
        found += connection.execute(query.where(column.in_(part))).mappings()
    return found
