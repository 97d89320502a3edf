"""The step of a verification that concerns what people signed with keys of their own."""

from __future__ import annotations

from sqlalchemy import Connection, select

from freehold.errors import FreeholdError
from freehold.evidence.findings import Findings
from freehold.evidence.log_check import Named
from freehold.evidence.statements import check_statement
from freehold.lab.schema import approvals, releases, verdicts


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


def _check_releases(connection: Connection, decided: dict[str, str], found: Findings) -> None:
    query = select(releases.c.release_id, releases.c.approval_id).where(
        releases.c.approval_id.is_not(None)
    )
    for release_id, approval_id in connection.execute(query):
        if decided.get(approval_id) != "approve":
            found.fault(f"releases/{release_id}", f"{approval_id} does not approve it")
