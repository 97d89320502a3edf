"""Assignments: who is to look at which item, leased for a while, with the chance it was chosen by.

An assignment that was taken and not finished falls back to the queue when its lease ends, so that
a reviewer who goes home holds nobody up. Leasing is no evidence and stands in no ledger entry; the
review that comes of it carries stream, chance, population and policy.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Exists, RowMapping, exists, select, update

from freehold.canonical.json import decode
from freehold.errors import Conflict, InputError, NotFound
from freehold.lab.schema import assignments, items, reviews
from freehold.records.clock import now
from freehold.review.submission import Selection, Submission

if TYPE_CHECKING:
    from freehold.tasks.contract import Task

LEASE_MINUTES = 30


def take_assignments(
    connection: Connection, task: Task, person: str, n: int, *, minutes: int = LEASE_MINUTES
) -> list[RowMapping]:
    """Lease up to `n` assignments to a person, those they hold already first.

    Never an item that the person has reviewed or holds already: reviewers of one item are different
    people.
    """
    held = _held(connection, task.name, person)
    if len(held) < n:
        held += _open(connection, task, person, n - len(held))
    until = (datetime.now(UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    ids = [row["assignment_id"] for row in held[:n]]
    connection.execute(
        update(assignments)
        .where(assignments.c.assignment_id.in_(ids))
        .values(state="taken", principal_id=person, taken_until=until)
    )
    return held[:n]


def taken_assignment(
    connection: Connection, task_name: str, item_id: str, person: str
) -> str | None:
    """Return the assignment by which a person took an item and has not answered yet, or None."""
    query = select(assignments.c.assignment_id).where(
        assignments.c.item_id == item_id,
        assignments.c.task == task_name,
        assignments.c.principal_id == person,
        assignments.c.state == "taken",
    )
    return connection.execute(query.order_by(assignments.c.assignment_id)).scalars().first()


def finish_assignment(
    connection: Connection, task_name: str, given: Submission, person: str
) -> Submission:
    """Close the assignment that a submission names; return it with how its item was chosen."""
    query = select(assignments).where(assignments.c.assignment_id == given.assignment_id)
    row = connection.execute(query.with_for_update()).mappings().first()
    if row is None or row["task"] != task_name:
        raise NotFound(f"no assignment {given.assignment_id} for the task {task_name}")
    if row["item_id"] != given.item_id:
        raise InputError(f"assignment {given.assignment_id} is about another item")
    if row["state"] == "dropped":
        raise Conflict(
            f"assignment {given.assignment_id} was dropped: its item was erased",
            hint="Take the next item from the queue.",
        )
    if row["state"] not in ("open", "taken") or row["principal_id"] not in (None, person):
        raise Conflict(
            f"assignment {given.assignment_id} is {row['state']} and not this reviewer's",
            hint="Take the next item from the queue.",
        )
    if given.kind != "live":
        raise InputError("only live reviews answer an assignment")
    offered = set(decode(row["decision_ids"])) if row["show_decision"] else set()
    # What was offered was shown, whatever the reviewer's program says.
    shown = tuple(sorted(offered | set(given.shown_decisions)))
    connection.execute(
        update(assignments)
        .where(assignments.c.assignment_id == given.assignment_id)
        .values(state="done", principal_id=person, taken_until=None)
    )
    chosen = Selection(row["stream"], row["propensity_ppb"], row["population"], row["policy"])
    return replace(given, selection=chosen, shown_decisions=shown)


def _held(connection: Connection, task_name: str, person: str) -> list[RowMapping]:
    query = select(assignments).where(
        assignments.c.task == task_name,
        assignments.c.state == "taken",
        assignments.c.principal_id == person,
        assignments.c.taken_until > now(),
        ~_erased(),
    )
    return list(connection.execute(query.order_by(assignments.c.assignment_id)).mappings())


def _open(connection: Connection, task: Task, person: str, n: int) -> list[RowMapping]:
    other = assignments.alias("other")
    held = exists().where(
        other.c.item_id == assignments.c.item_id,
        other.c.task == task.name,
        other.c.principal_id == person,
        other.c.state == "taken",
        other.c.taken_until > now(),
    )
    reviewed = exists().where(
        reviews.c.item_id == assignments.c.item_id,
        reviews.c.task == task.name,
        reviews.c.contract_digest == task.contract_digest,
        reviews.c.principal_id == person,
        reviews.c.superseded_by.is_(None),
        reviews.c.kind == "live",
    )
    mine = (assignments.c.task == task.name, ~held, ~reviewed, ~_erased())
    lapsed = (assignments.c.state == "taken", assignments.c.taken_until <= now())
    rows: list[RowMapping] = []
    # One query for each state, so that the index is walked in order and no queue is sorted.
    for state in (lapsed, (assignments.c.state == "open",)):
        query = select(assignments).where(*mine, *state).order_by(assignments.c.assignment_id)
        locked = query.limit(4 * n).with_for_update(skip_locked=True)
        rows += connection.execute(locked).mappings()
    chosen: dict[str, RowMapping] = {}
    for row in rows:
        chosen.setdefault(row["item_id"], row)  # one of an item's assignments to one person
    return list(chosen.values())[:n]


def _erased() -> Exists:
    return exists().where(items.c.item_id == assignments.c.item_id, items.c.erased_at.is_not(None))
