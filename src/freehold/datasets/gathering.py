"""Which labels of a task can be used, and why the others cannot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection, select

from freehold.errors import IntegrityError
from freehold.lab.opened import Lab
from freehold.lab.schema import items, labels, split_assignments
from freehold.review.labels import WHOLE
from freehold.workflows.items import item_texts

BASES = ("agreed", "adjudicated", "historical", "mapped")
READ_AT_ONCE = 500

Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class Labelled:
    """An item with its current label and what a row of lineage needs. `value` is canonical JSON."""

    item_id: str
    label_id: str
    contract_digest: str
    value: str | None
    basis: str
    state: str
    gold: int
    contamination: str | None
    reviews: str
    split: str
    licence: str | None
    consent_basis: str | None
    entity_key: str | None
    attributes: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An item that is not in, the reason in one word, and what else there is to say (JSON-able)."""

    item_id: str
    reason: str
    detail: dict[str, str | int | bool] | None = None


@dataclass(frozen=True, slots=True)
class Gathered:
    """The labelled items of a task, oldest item first, and how many could not be listed."""

    labelled: tuple[Labelled, ...]
    unlabelled: int
    erased: int


def gather(connection: Connection, task: str, *, split: str | None = None) -> Gathered:
    """Read the current label of every item of a task, or of one split, but of those erased."""
    current = (
        (labels.c.item_id == items.c.item_id)
        & (labels.c.task == task)
        & (labels.c.path == WHOLE)
        & (labels.c.is_current == 1)
    )
    said = (labels.c.label_id, labels.c.contract_digest, labels.c.value, labels.c.basis)
    judged = (labels.c.state, labels.c.gold, labels.c.contamination, labels.c.reviews)
    known = (items.c.licence, items.c.consent_basis, items.c.entity_key, items.c.attributes)
    query = (
        select(items.c.item_id, *said, *judged, split_assignments.c.split, *known)
        .add_columns(items.c.erased_at)
        .join_from(split_assignments, items, items.c.item_id == split_assignments.c.item_id)
        .outerjoin(labels, current)
        .where(split_assignments.c.task == task)
        .order_by(items.c.created_at, items.c.item_id)
    )
    if split is not None:
        query = query.where(split_assignments.c.split == split)
    found: list[Labelled] = []
    unlabelled = erased = 0
    for row in connection.execute(query):
        if row.erased_at is not None:
            erased += 1
        elif row.label_id is None:
            unlabelled += 1
        else:
            found.append(Labelled(*tuple(row)[:-1]))
    return Gathered(tuple(found), unlabelled, erased)


def why_unusable(one: Labelled, contract_digest: str, bases: Iterable[str]) -> LeftOut | None:
    """Return why a label can neither train nor judge under this contract, or None when it can."""
    if one.contract_digest != contract_digest:
        return LeftOut(one.item_id, "other_contract", {"contract": one.contract_digest})
    if one.state == "disputed":
        return LeftOut(one.item_id, "disagreement")
    if one.state != "settled" or one.value is None:
        return LeftOut(one.item_id, "no_label", {"state": one.state})
    if one.basis not in bases:
        return LeftOut(one.item_id, "basis", {"basis": one.basis})
    return None


def texts_of(lab: Lab, connection: Connection, item_ids: Sequence[str]) -> list[str]:
    """Return the texts of items in the order asked for.

    Raises IntegrityError when one is gone though its item was not erased when the work began.
    """
    found = item_texts(lab, connection, item_ids)
    missing = [item for item in item_ids if item not in found]
    if missing:
        raise IntegrityError(
            f"{len(missing)} items have no text, the first is {missing[0]}",
            hint="Erased in this moment? Run again. Otherwise `freehold ledger verify` says more.",
        )
    return [found[item] for item in item_ids]


def pieces(listed: Sequence[Thing], size: int = READ_AT_ONCE) -> Iterator[Sequence[Thing]]:
    """Yield parts of a sequence, each short enough for one query."""
    for start in range(0, len(listed), size):
        yield listed[start : start + size]
