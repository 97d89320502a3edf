"""What a candidate stands on: its runs, the data they saw, who started them; and who serves now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, select

from freehold.canonical.json import decode
from freehold.errors import Conflict, IntegrityError, NotFound
from freehold.evidence.entries import Salts, row_commitment, row_key
from freehold.lab.schema import (
    COMMITTED,
    candidates,
    datasets,
    labels,
    ledger_entries,
    ledger_pending,
    model_edges,
    releases,
    runs,
    suite_cases,
)
from freehold.models.records import ancestors_of


@dataclass(frozen=True, slots=True)
class Release:
    """One release of a task. `served_to` is None for the one that serves now."""

    release_id: str
    task: str
    number: int
    candidate_id: str
    kind: str
    verdict_id: str | None
    approval_id: str | None
    reason: str
    served_from: str
    served_to: str | None
    created_by: str

    @property
    def is_new(self) -> bool:
        """Whether it brought its candidate in, rather than going back to it."""
        return self.kind != "rollback"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a candidate comes from: the datasets it was trained on, and who started the runs."""

    candidate_id: str
    task: str
    model_digest: str
    spec: dict[str, Any]
    datasets: tuple[str, ...]
    trained_by: tuple[str, ...]


def origin_of(connection: Connection, candidate_id: str, task: str) -> Origin:
    """Return what a candidate of a task stands on, its model's ancestors included.

    Raises NotFound, and Conflict for a candidate of another task.
    """
    row = connection.execute(
        select(candidates).where(candidates.c.candidate_id == candidate_id)
    ).first()
    if row is None:
        raise NotFound(f"no candidate {candidate_id!r} in this lab")
    if row.task != task:
        raise Conflict(f"candidate {row.name} is of task {row.task}, not of {task}")
    line = [row.model_digest, *ancestors_of(connection, row.model_digest)]
    edges = connection.execute(select(model_edges).where(model_edges.c.child.in_(line))).all()
    ids = {edge.run_id for edge in edges if edge.run_id} | ({row.run_id} if row.run_id else set())
    made = connection.execute(select(runs).where(runs.c.run_id.in_(ids))).all()
    trained_on = {edge.parent: edge.basis for edge in edges if edge.relation == "trained_on"}
    here = set(
        connection.execute(
            select(datasets.c.dataset_id).where(datasets.c.dataset_id.in_(trained_on))
        ).scalars()
    )
    # Another lab's datasets cannot be compared with here; this lab's own must be.
    seen = {one for one, basis in trained_on.items() if basis == "recorded" or one in here}
    return Origin(
        candidate_id,
        row.task,
        row.model_digest,
        decode(row.spec),
        tuple(sorted(seen | {run.dataset_id for run in made})),
        tuple(sorted({run.created_by for run in made})),
    )


def contaminated_gold(connection: Connection, suite_id: str) -> tuple[str, ...]:
    """Return the labels of a suite's cases that may not judge models, or may not any more.

    A label is contaminated where a model's answer was in sight. A later version of it that is
    counts as well: whoever made the first may have been wrong about what they had seen.
    """
    named = select(suite_cases.c.label_id).where(suite_cases.c.suite_id == suite_id)
    first = labels.alias()
    later = labels.alias()
    query = (
        select(first.c.label_id, first.c.gold, first.c.contamination, later.c.contamination)
        .select_from(
            first.outerjoin(
                later,
                (later.c.item_id == first.c.item_id)
                & (later.c.task == first.c.task)
                & (later.c.path == first.c.path)
                & (later.c.is_current == 1),
            )
        )
        .where(first.c.label_id.in_(named))
        .order_by(first.c.label_id)
    )
    return tuple(
        dict.fromkeys(
            label_id
            for label_id, gold, tainted, now_tainted in connection.execute(query)
            if not gold or tainted is not None or now_tainted is not None
        )
    )


def timeline(connection: Connection, task: str) -> list[Release]:
    """Return the releases of a task, oldest first, each with the time it served to."""
    rows = connection.execute(
        select(releases).where(releases.c.task == task).order_by(releases.c.number)
    ).all()
    ends = [*(row.served_from for row in rows[1:]), None]
    return [
        Release(
            row.release_id,
            row.task,
            row.number,
            row.candidate_id,
            row.kind,
            row.verdict_id,
            row.approval_id,
            row.reason,
            row.served_from,
            end,
            row.created_by,
        )
        for row, end in zip(rows, ends, strict=False)  # no rows, no end
    ]


def current_release(connection: Connection, task: str) -> Release | None:
    """Return the release that serves a task now, or None where nothing was promoted yet."""
    line = timeline(connection, task)
    return line[-1] if line else None


def require_committed(connection: Connection, table: Table, found: RowMapping) -> None:
    """Raise IntegrityError unless the entry that a row names committed to these very columns.

    For rows that concern no item; a whole lab is checked by `freehold ledger verify`.
    """
    row = dict(found)
    key = row_key(COMMITTED[table.name].key, row)
    entry_id = row["entry_id"]
    for source in (ledger_pending, ledger_entries):
        data = connection.execute(
            select(source.c.bytes).where(source.c.entry_id == entry_id)
        ).scalar()
        if data is not None:
            said = decode(bytes(data))["rows"].get(table.name, {}).get(key)
            if said == row_commitment(table, row, Salts(connection)):
                return
    raise IntegrityError(
        f"{table.name}/{key} is not what the ledger's entry {entry_id} committed to",
        hint="It was changed behind the ledger. Run `freehold ledger verify` and keep a copy.",
    )
