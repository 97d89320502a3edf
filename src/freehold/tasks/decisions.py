"""Decisions: numbered when they are admitted, before any engine is called, and closed once.

Numbers have no gaps, so that nobody can ask a model, dislike the answer and leave no trace. Each
closed decision is the subject of one ledger entry: its receipt. All functions work on batches and
stand in the caller's transaction; what they write is there together with its evidence, or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from freehold.canonical.json import encode_text
from freehold.errors import Conflict
from freehold.evidence.entries import Entry, Salts, append_all
from freehold.lab.opened import Lab
from freehold.lab.schema import decisions
from freehold.lab.sequences import take_numbers
from freehold.policy.permits import Permit
from freehold.records.clock import now
from freehold.records.ids import new_id

PURPOSES = ("release", "trial", "evaluation", "shadow")
ROWS_PER_ENTRY = 200
_SEQUENCE = "decisions"
_CHANGED = (
    "state", "raw", "value", "probabilities", "calibrated", "error", "latency_us", "tokens_in",
    "tokens_out", "execution", "closed_at", "entry_id",
)  # fmt: skip
_OPEN = (
    "decision_id", "number", "state", "task", "purpose", "candidate_id", "release_id",
    "model_digest", "identity_basis", "workflow_run",
)  # fmt: skip

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asking:
    """What a batch of decisions has in common: who is asked, under which contract, and why.

    `candidate_id` or `release_id` says what serves; `identity_basis` how its weights are known.
    """

    task: str
    contract_digest: str
    wording_digest: str
    purpose: str
    model_digest: str
    identity_basis: str
    candidate_id: str | None = None
    release_id: str | None = None
    workflow_run: str | None = None
    step: str | None = None
    trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """One item to be decided; `permit` is None where the policy refuses it."""

    item_id: str
    prompt_commitment: str | None
    permit: Permit | None
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine said of one item. `value` and `probabilities` are canonical JSON text."""

    value: str
    probabilities: str
    calibrated: bool
    raw: str | None = None
    latency_us: int | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    execution: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer, and what the engine said and spent all the same."""

    error: str
    raw: str | None = None
    latency_us: int | None = None
    tokens_in: int | None = None
    execution: str | None = None


@dataclass(frozen=True)
class Recorder:
    """The transaction in which decisions are written, and who acts."""

    lab: Lab
    connection: Connection
    actor: str
    salts: Salts = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "salts", Salts(self.connection))

    def entry(self, kind: str, body: Mapping[str, Any]) -> Entry:
        """Return a new entry that shares this transaction's salts."""
        return Entry(self.lab, self.connection, kind, self.actor, body, salts=self.salts)

    def not_erased(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows whose item still has its salt: nothing may be said about the others."""
        self.salts.fetch(str(row["item_id"]) for row in rows)
        return [row for row in rows if self.salts.get(str(row["item_id"])) is not None]


def admit(recorder: Recorder, asking: Asking, asked: Sequence[Asked]) -> list[Row]:
    """Give items their decision numbers and return the new rows, in the order of the items.

    Ledger: one ``decisions.admitted`` entry for each `ROWS_PER_ENTRY` rows.
    """
    first = take_numbers(recorder.connection, _SEQUENCE, len(asked))
    rows: list[Row] = []
    for start in range(0, len(asked), ROWS_PER_ENTRY):
        some = asked[start : start + ROWS_PER_ENTRY]
        body = {"task": asking.task, "purpose": asking.purpose, "count": len(some)}
        body |= {"first": first + start, "last": first + start + len(some) - 1}
        entry = recorder.entry("decisions.admitted", body)
        common = _common(asking, entry.at)
        batch = [common | _particular(one, first + start + place) for place, one in enumerate(some)]
        rows += entry.insert_many(decisions, batch)
        entry.close()
    return rows


def close_answered(
    recorder: Recorder, admitted: Sequence[Row], answers: Sequence[Answer]
) -> list[Row]:
    """Close admitted decisions with their answers."""
    changes = [
        {
            "state": "answered",
            "raw": one.raw,
            "value": one.value,
            "probabilities": one.probabilities,
            "calibrated": int(one.calibrated),
            "latency_us": one.latency_us,
            "tokens_in": one.tokens_in,
            "tokens_out": one.tokens_out,
            "execution": one.execution,
        }
        for one in answers
    ]
    return _close(recorder, admitted, changes)


def close_failed(
    recorder: Recorder, admitted: Sequence[Row], failures: Sequence[Failure]
) -> list[Row]:
    """Close admitted decisions to which the engine gave no answer that the task knows."""
    changes = [
        {
            "state": "failed",
            "error": one.error,
            "raw": one.raw,
            "latency_us": one.latency_us,
            "tokens_in": one.tokens_in,
            "execution": one.execution,
        }
        for one in failures
    ]
    return _close(recorder, admitted, changes)


def close_refused(recorder: Recorder, admitted: Sequence[Row], reasons: Sequence[str]) -> list[Row]:
    """Close admitted decisions that the policy did not let through; no engine saw the item."""
    return _close(recorder, admitted, [{"state": "refused", "error": why} for why in reasons])


def close_abandoned(recorder: Recorder, admitted: Sequence[Row], reason: str) -> list[Row]:
    """Close admitted decisions whose process died; the numbers stay and say so."""
    return _close(recorder, admitted, [{"state": "abandoned", "error": reason}] * len(admitted))


def admitted_in(connection: Connection, workflow_run: str) -> Iterator[list[Row]]:
    """Yield the decisions of a run that were admitted and never closed, in batches."""
    last = -1
    while True:
        rows = connection.execute(
            select(decisions)
            .where(
                decisions.c.workflow_run == workflow_run,
                decisions.c.state == "admitted",
                decisions.c.number > last,
            )
            .order_by(decisions.c.number)
            .limit(ROWS_PER_ENTRY)
        ).mappings()
        batch = [dict(row) for row in rows]
        if not batch:
            return
        last = int(batch[-1]["number"])
        yield batch


def _common(asking: Asking, at: str) -> Row:
    return {
        "task": asking.task,
        "contract_digest": asking.contract_digest,
        "wording_digest": asking.wording_digest,
        "purpose": asking.purpose,
        "candidate_id": asking.candidate_id,
        "release_id": asking.release_id,
        "model_digest": asking.model_digest,
        "identity_basis": asking.identity_basis,
        "state": "admitted",
        "trace_id": asking.trace_id,
        "workflow_run": asking.workflow_run,
        "step": asking.step,
        "admitted_at": at,
    }


def _particular(asked: Asked, number: int) -> Row:
    permit = asked.permit
    return {
        "decision_id": new_id("dec"),
        "number": number,
        "item_id": asked.item_id,
        "prompt_commitment": asked.prompt_commitment,
        "parents": encode_text(list(asked.parents)),
        "route": None if permit is None else permit.host,
        "rule": None if permit is None else permit.rule,
        "permit": None if permit is None else encode_text(permit.record()),
    }


def _close(recorder: Recorder, admitted: Sequence[Row], changes: Sequence[Row]) -> list[Row]:
    """Close decisions, one entry each, and return their rows. Conflict when one is closed."""
    if not admitted:
        return []
    closed: list[Row] = []
    entries: list[Entry] = []
    at = now()
    for before, change in zip(admitted, changes, strict=True):
        row = before | change | {"closed_at": at}
        entry = recorder.entry(f"decision.{row['state']}", _receipt(row))
        row["entry_id"] = entry.id
        entry.bind(decisions, [row])
        closed.append(row)
        entries.append(entry)
    values = [{f"new_{name}": row[name] for name in _CHANGED} for row in closed]
    for value, row in zip(values, closed, strict=True):
        value["this"] = row["decision_id"]
    done = recorder.connection.execute(_CLOSING, values)
    if done.rowcount != len(closed):
        raise Conflict("a decision was closed already; each is closed once")
    append_all(recorder.connection, entries)
    return closed


_CLOSING = (
    update(decisions)
    .where(decisions.c.decision_id == bindparam("this"), decisions.c.state == "admitted")
    .values({name: bindparam(f"new_{name}") for name in _CHANGED})
)


def _receipt(row: Row) -> dict[str, Any]:
    """Return what the entry of a closed decision says in the open: nothing of the content."""
    return {name: row[name] for name in _OPEN}
