"""Approving a verdict: a person signs, with a key of their own, that a candidate may serve.

What is signed names the verdict by its digest, so that nothing about it can change afterwards. A
refusal is signed and kept like an approval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, select

from freehold.access.people import Person, find_person
from freehold.canonical.json import decode, encode_text
from freehold.errors import GateRefused, InputError, IntegrityError, NotFound
from freehold.evidence.entries import Entry
from freehold.evidence.notes import Signer
from freehold.evidence.sequencer import publish
from freehold.evidence.statements import check_statement, read_person_key, sign_statement
from freehold.lab.opened import Lab
from freehold.lab.schema import approvals
from freehold.records.ids import new_id
from freehold.registry.gating import VerdictRecord, read_verdict
from freehold.registry.standing import require_committed

FORMAT: Final = "freehold-approval/1"
MEANINGS: Final = {
    "approve": "I have read the gate's report and answer for letting this candidate serve.",
    "refuse": "I have read the gate's report and do not let this candidate serve.",
}
MAY_APPROVE: Final = frozenset({"approver", "owner"})


@dataclass(frozen=True, slots=True)
class Approval:
    """One person's signed decision on one verdict."""

    approval_id: str
    verdict_id: str
    verdict_digest: str
    principal_id: str
    decision: str
    reason: str
    statement: dict[str, Any]
    signature: str
    public_key: str
    created_at: str


def approve(
    lab: Lab, verdict_id: str, *, key_path: Path, decision: str = "approve", reason: str
) -> Approval:
    """Sign a decision (``approve`` or ``refuse``) on a verdict with the key in a person's file.

    The key says who it is. Raises GateRefused for a verdict that does not pass, and where the
    person may not approve: not an approver, or the one who started the training run (unless
    ``approval.other_person`` is off: the entry then says so). Refused for a key that is not the
    person's key on record, InputError without a reason.
    """
    if decision not in MEANINGS:
        raise InputError(f"a decision is approve or refuse, got {decision!r}")
    if not reason.strip():
        raise InputError("an approval needs a reason: what you looked at, and why you decide so")
    named = _key_name(key_path)
    with lab.writing() as connection:
        person = find_person(connection, named)
        signer = read_person_key(key_path, person)
        verdict = read_verdict(connection, verdict_id)
        if decision == "approve":
            _require_passing(verdict)
            _require_entitled(lab, person, verdict)
        body: dict[str, Any] = {"verdict_id": verdict_id, "verdict_digest": verdict.verdict_digest}
        body |= {"decision": decision}
        if person.principal_id in verdict.trained_by:
            body["same_person"] = "approval.other_person is off; this person started the run"
        entry = Entry(lab, connection, "verdict.decided", person.principal_id, body)
        statement = _statement(verdict, person, decision, reason, entry.at)
        row = entry.insert(
            approvals,
            {
                "approval_id": new_id("apr"),
                "verdict_id": verdict_id,
                "verdict_digest": verdict.verdict_digest,
                "principal_id": person.principal_id,
                "decision": decision,
                "reason": reason,
                "statement": encode_text(statement),
                "signature": sign_statement(statement, signer),
                "public_key": signer.verifier.vkey(),
                "created_at": entry.at,
            },
        )
        entry.close()
    publish(lab)
    return _record(row)


def approvals_of(lab: Lab, verdict_id: str) -> list[Approval]:
    """Return what was decided on a verdict, oldest first, every signature checked."""
    with lab.reading() as connection:
        verdict = read_verdict(connection, verdict_id)
        return [_checked(connection, row, verdict) for row in _rows(connection, verdict_id)]


def valid_approval(lab: Lab, connection: Connection, verdict: VerdictRecord) -> Approval:
    """Return the newest decision on a verdict, which must be a valid approval.

    Raises GateRefused where there is none or the newest is a refusal, IntegrityError where a
    signature or key does not hold.
    """
    decided = [_checked(connection, row, verdict) for row in _rows(connection, verdict.verdict_id)]
    if not decided:
        raise GateRefused(
            f"nobody has approved verdict {verdict.verdict_id}",
            hint=f"Sign it: freehold approve {verdict.verdict_id} --key FILE --reason TEXT",
        )
    newest = decided[-1]
    if newest.decision != "approve":
        raise GateRefused(
            f"verdict {verdict.verdict_id} was refused at {newest.created_at}",
            hint="Whoever refused may sign again; or bring a better candidate.",
        )
    _require_entitled(lab, find_person(connection, newest.principal_id), verdict)
    return newest


def _require_passing(verdict: VerdictRecord) -> None:
    if not verdict.passed:
        why = "; ".join(one["text"] for one in verdict.record["reasons"])
        raise GateRefused(f"the verdict is {verdict.verdict!r}, which nobody can approve: {why}")


def _require_entitled(lab: Lab, person: Person, verdict: VerdictRecord) -> None:
    if not lab.settings.flag("approval.other_person"):
        return
    called = person.name or person.principal_id
    if person.principal_id in verdict.trained_by:
        raise GateRefused(
            f"{called} started the training run and cannot approve its result",
            hint="Let another approver sign, or set approval.other_person = false, on the record.",
        )
    if not MAY_APPROVE & set(person.roles):
        raise GateRefused(
            f"{called} is no approver in this lab (roles: {', '.join(person.roles) or 'none'})",
            hint="An approver or owner signs: freehold people add NAME --role approver",
        )


def _statement(
    verdict: VerdictRecord, person: Person, decision: str, reason: str, at: str
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "verdict_id": verdict.verdict_id,
        "verdict_digest": verdict.verdict_digest,
        "task": verdict.task,
        "candidate_id": verdict.candidate_id,
        "principal_id": person.principal_id,
        "decision": decision,
        "meaning": MEANINGS[decision],
        "reason": reason,
        "at": at,
    }


def _key_name(path: Path) -> str:
    """Return whose key a file holds, as the key itself says; checked against the record later."""
    if not path.is_file():
        raise NotFound(f"no key file {path}", hint="Make one: freehold people key NAME --out FILE")
    return Signer.parse(path.read_text(encoding="utf-8")).verifier.name


def _rows(connection: Connection, verdict_id: str) -> Sequence[RowMapping]:
    return (
        connection.execute(
            select(approvals)
            .where(approvals.c.verdict_id == verdict_id)
            .order_by(approvals.c.created_at, approvals.c.approval_id)
        )
        .mappings()
        .all()
    )


def _checked(connection: Connection, row: RowMapping, verdict: VerdictRecord) -> Approval:
    """Return an approval whose row, signature, key and statement all say the same thing."""
    require_committed(connection, approvals, row)
    found = _record(row)
    check_statement(row["statement"], found.signature, found.public_key)
    person = find_person(connection, found.principal_id)
    said = found.statement
    expected = {
        "verdict_digest": verdict.verdict_digest,
        "candidate_id": verdict.candidate_id,
        "task": verdict.task,
        "principal_id": found.principal_id,
        "decision": found.decision,
    }
    if person.public_key != found.public_key or any(said[k] != v for k, v in expected.items()):
        raise IntegrityError(f"approval {found.approval_id} is not what its signer signed")
    return found


def _record(row: RowMapping | dict[str, Any]) -> Approval:
    kept = {key: row[key] for key in row if key not in {"statement", "entry_id"}}
    return Approval(**kept, statement=decode(row["statement"]))
