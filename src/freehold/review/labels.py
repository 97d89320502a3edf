"""Labels: what the standing reviews add up to, kept in versions, none of them ever changed.

A label is a function of the reviews (`settling.settle`) or, for those that came over from an
earlier set of options, of the label they came from. Whenever a review is written, the labels of its
item are settled again in the same transaction; a version is added only when something changed.
At most one label of an item, task and path is current, whichever contract it was made under.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, RowMapping, select

from freehold.canonical.json import decode, encode_text
from freehold.evidence.entries import Entry
from freehold.lab.opened import Lab
from freehold.lab.schema import decisions, labels, reviews, split_assignments
from freehold.records.ids import new_id
from freehold.review.settling import Opinion, Outcome, Rule, settle

if TYPE_CHECKING:
    from freehold.tasks.contract import Task

WHOLE = "$"  # the path of a review that concerns the whole answer
_MOST_IN_A_QUERY = 400


@dataclass(frozen=True, slots=True)
class Settled:
    """What settling changed: how many labels are new, and how many items are in dispute."""

    settled: int = 0
    disputed: int = 0
    withdrawn: int = 0

    def __add__(self, other: Settled) -> Settled:
        """Return the sums."""
        return Settled(
            self.settled + other.settled,
            self.disputed + other.disputed,
            self.withdrawn + other.withdrawn,
        )


def settle_items(
    lab: Lab, entry: Entry, task: Task, item_ids: Sequence[str], *, path: str = WHOLE
) -> Settled:
    """Settle the labels of items from their standing reviews; write what changed into `entry`.

    At most 100 items to an entry. The entry's body says so when past work counts as gold.
    """
    connection = entry.connection
    opinions = standing_opinions(connection, task, item_ids, path)
    current = current_labels(connection, task.name, item_ids, path)
    tests = _test_items(connection, task.name, item_ids)
    count = Settled()
    fresh: list[dict[str, Any]] = []
    for item_id in dict.fromkeys(item_ids):
        rule = _rule(lab, is_test=item_id in tests)
        outcome = settle(opinions.get(item_id, ()), rule)
        old = current.get(item_id)
        if outcome is None and (old is None or not _rests_on_reviews(old, task)):
            continue
        row = _row(entry, task, item_id, path, outcome, old)
        if old is not None and _same(row, old):
            continue
        if row["basis"] == "historical" and row["gold"]:
            entry.note(historical_is_gold=True)
        fresh.append(row)
        count += _counted(row)
    replace_labels(entry, fresh, current)
    return count


def replace_labels(
    entry: Entry, fresh: Sequence[dict[str, Any]], current: Mapping[str, RowMapping]
) -> None:
    """Make `fresh` labels current in place of those that were."""
    for row in fresh:
        old = current.get(row["item_id"])
        if old is not None:
            entry.update(labels, {"label_id": old["label_id"]}, {"is_current": 0})
    entry.insert_many(labels, fresh)


def standing_opinions(
    connection: Connection, task: Task, item_ids: Sequence[str], path: str = WHOLE
) -> dict[str, list[Opinion]]:
    """Return the opinions that stand about each item under the task's contract, oldest first."""
    rows: list[RowMapping] = []
    for part in _parts(item_ids):
        query = select(reviews).where(
            reviews.c.item_id.in_(part),
            reviews.c.task == task.name,
            reviews.c.contract_digest == task.contract_digest,
            reviews.c.path == path,
            reviews.c.superseded_by.is_(None),
        )
        rows += connection.execute(query.order_by(reviews.c.review_id)).mappings()
    shown = {each for row in rows if row["verdict"] == "reject" for each in _shown(row)}
    values = _decided_values(connection, sorted(shown))
    found: dict[str, list[Opinion]] = {}
    for row in rows:
        found.setdefault(row["item_id"], []).append(_opinion(row, values))
    return found


def current_labels(
    connection: Connection, task_name: str, item_ids: Sequence[str], path: str = WHOLE
) -> dict[str, RowMapping]:
    """Return the current label of each item that has one."""
    found: dict[str, RowMapping] = {}
    for part in _parts(item_ids):
        query = select(labels).where(
            labels.c.item_id.in_(part),
            labels.c.task == task_name,
            labels.c.path == path,
            labels.c.is_current == 1,
        )
        found |= {row["item_id"]: row for row in connection.execute(query).mappings()}
    return found


def label_history(
    connection: Connection, task_name: str, item_id: str, path: str = WHOLE
) -> list[RowMapping]:
    """Return every version of an item's label, oldest first."""
    query = select(labels).where(
        labels.c.item_id == item_id, labels.c.task == task_name, labels.c.path == path
    )
    return list(connection.execute(query.order_by(labels.c.version)).mappings())


def _rule(lab: Lab, *, is_test: bool) -> Rule:
    which = "review.reviewers_per_test_item" if is_test else "review.reviewers_per_item"
    return Rule(lab.settings.number(which), lab.settings.flag("review.historical_is_gold"))


def _rests_on_reviews(old: RowMapping, task: Task) -> bool:
    # A mapped label rests on the label it came from, until somebody reviews the item anew.
    same_contract = old["contract_digest"] == task.contract_digest
    return bool(same_contract and old["basis"] != "mapped" and old["state"] != "withdrawn")


def _row(
    entry: Entry,
    task: Task,
    item_id: str,
    path: str,
    outcome: Outcome | None,
    old: RowMapping | None,
) -> dict[str, Any]:
    """Return the next version of an item's label; withdrawn when nothing is said any more."""
    row = {
        "label_id": new_id("lbl"),
        "item_id": item_id,
        "task": task.name,
        "contract_digest": task.contract_digest,
        "path": path,
        "version": 1 if old is None else old["version"] + 1,
        "supersedes": None if old is None else old["label_id"],
        "is_current": 1,
        "created_at": entry.at,
    }
    if outcome is None:
        basis = "agreed" if old is None else old["basis"]
        stated = {"value": None, "basis": basis, "state": "withdrawn", "gold": 0, "reviews": "[]"}
        return row | stated | {"contamination": None, "decided_by": None}
    return row | {
        "value": outcome.value,
        "basis": outcome.basis,
        "state": outcome.state,
        "gold": int(outcome.gold),
        "contamination": outcome.contamination,
        "reviews": encode_text(list(outcome.reviews)),
        "decided_by": outcome.decided_by,
    }


def _same(row: Mapping[str, Any], old: RowMapping) -> bool:
    told = ("contract_digest", "value", "basis", "state", "gold", "contamination", "reviews")
    return all(row[name] == old[name] for name in told)


def _counted(row: Mapping[str, Any]) -> Settled:
    state = row["state"]
    return Settled(int(state == "settled"), int(state == "disputed"), int(state == "withdrawn"))


def _opinion(row: RowMapping, values: Mapping[str, str]) -> Opinion:
    shown = _shown(row)
    rejected = [values[each] for each in shown if each in values]
    return Opinion(
        review_id=row["review_id"],
        principal_id=row["principal_id"],
        kind=row["kind"],
        value=row["value"],
        rejected=tuple(rejected) if row["verdict"] == "reject" else (),
        blind=not shown,
        by_person=row["principal_kind"] == "person",
    )


def _shown(row: RowMapping) -> list[str]:
    shown: list[str] = decode(row["shown_decisions"])
    return shown


def _decided_values(connection: Connection, decision_ids: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in _parts(decision_ids):
        query = select(decisions.c.decision_id, decisions.c.value).where(
            decisions.c.decision_id.in_(part), decisions.c.value.is_not(None)
        )
        found |= {row.decision_id: str(row.value) for row in connection.execute(query)}
    return found


def _test_items(connection: Connection, task_name: str, item_ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for part in _parts(item_ids):
        query = select(split_assignments.c.item_id).where(
            split_assignments.c.item_id.in_(part),
            split_assignments.c.task == task_name,
            split_assignments.c.split == "test",
        )
        found |= set(connection.execute(query).scalars())
    return found


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _MOST_IN_A_QUERY):
        yield ids[start : start + _MOST_IN_A_QUERY]
