"""The step of a verification that concerns what people signed with keys of their own."""

from __future__ import annotations

from sqlalchemy import Connection, select

from freehold.canonical.json import decode, encode_text
from freehold.errors import FreeholdError
from freehold.evidence.findings import Findings
from freehold.evidence.log_check import Named
from freehold.evidence.statements import check_statement
from freehold.lab.schema import (
    approvals,
    licence_records,
    licence_signoffs,
    releases,
    verdicts,
)


def check_signatures(connection: Connection, named: Named, found: Findings) -> None:
    """Check each approval's signature, its key against the ledger, and what it approves."""
    joined = approvals.outerjoin(verdicts, approvals.c.verdict_id == verdicts.c.verdict_id)
    query = select(approvals, verdicts.c.verdict_digest.label("judged")).select_from(joined)
    decided: dict[str, str] = {}
    for row in connection.execute(query.execution_options(yield_per=1000)).mappings():
        where = f"approvals/{row['approval_id']}"
        found.count("signatures")
        decided[row["approval_id"]] = row["decision"]
        if (row["principal_id"], row["public_key"]) not in named.person_keys:
            found.fault(where, f"no entry gives this key to {row['principal_id']}")
        if row["verdict_digest"] != row["judged"]:
            found.fault(where, f"it is not about the verdict {row['verdict_id']} as it stands")
        try:
            check_statement(row["statement"], row["signature"], row["public_key"])
        except FreeholdError as error:
            found.fault(where, f"its signature does not hold: {error}")
    _check_releases(connection, decided, found)
    _check_signoffs(connection, named, found)


def _check_releases(connection: Connection, decided: dict[str, str], found: Findings) -> None:
    query = select(releases.c.release_id, releases.c.approval_id).where(
        releases.c.approval_id.is_not(None)
    )
    for release_id, approval_id in connection.execute(query):
        if decided.get(approval_id) != "approve":
            found.fault(f"releases/{release_id}", f"{approval_id} does not approve it")


def _check_signoffs(connection: Connection, named: Named, found: Findings) -> None:
    """Check the sign-offs of licences that were signed with a key; the others name a person only.

    What was signed is put together again from the sign-off and the record that it accepts.
    """
    joined = licence_signoffs.outerjoin(
        licence_records, licence_records.c.licence_id == licence_signoffs.c.licence_id
    )
    about = (licence_records.c.model_digest, licence_records.c.reasons)
    query = select(licence_signoffs, *about).select_from(joined)
    for row in connection.execute(query.where(licence_signoffs.c.signature.is_not(None))):
        where = f"licence_signoffs/{row.signoff_id}"
        found.count("signatures")
        try:
            said = {"model_digest": row.model_digest, "licence_id": row.licence_id}
            said |= {"reasons": decode(row.reasons or "null"), "reason": row.reason}
            statement = encode_text(said | {"at": row.created_at})
            keys = [key for person, key in named.person_keys if person == row.principal_id]
            check_statement(statement, row.signature, *keys)
        except FreeholdError as error:
            found.fault(where, f"its signature does not hold: {error}")
