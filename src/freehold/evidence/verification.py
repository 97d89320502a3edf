"""`ledger verify`: work everything out again from what is stored, and name whatever disagrees.

The procedure, step by step. An auditor can hold the code against it: each number stands again above
the code that does it.

1. Keys. Settings, database, key files and the first entry speak of one log and one public key.
2. Entries. Each one in the database is canonical JSON of this log under its own id; entries follow
   each other without a gap and lead to every signed head. Each signed head carries the lab's
   signature over the size, root and frontier that stand beside it. Because each head is recomputed
   from a prefix of the same entries, all heads are consistent with each other.
3. Pending entries. Those that wait for their place are checked alike and bind rows already.
4. Files. The published head is signed, is one of the database's, and every tile and bundle on the
   disk is what these entries lead to.
5. Committed rows. The last entry that names a row wins: its commitment is recomputed over all
   columns, under the item's salt where the row concerns one. A row that no entry names, and an
   entry's row that is gone, are faults.
6. Rooted rows. Each small row's own commitment is recomputed, and the Merkle root over them is the
   one in the entry of its owner.
7. Payloads. The bytes of each part of each item are what the item committed to.
8. Objects. Each file in the object store has the digest that is its name, and none is missing.
9. Decision numbers run from 1 on without a gap.
10. Erasures. Salts are destroyed for exactly those items that an erasure entry names; of these
    items no payload, no subject and no personal column is left. What remains of their rows is
    bound in the open by the entry of the erasure, and checked in steps 5 and 6.
11. Signatures of people: approvals and licence sign-offs carry a signature by a key that an entry
    gave to that person.

What it cannot see: a lab whose database, files and key were all replaced by an older or another
state of the same lab. That is what a witness is for (`freehold ledger witness`).
"""

from __future__ import annotations

from freehold.evidence.findings import Fault, Findings, Progress, Verification
from freehold.evidence.log_check import LogCheck, check_files, check_keys, count_entries
from freehold.evidence.row_check import (
    check_committed,
    check_erasures,
    check_numbers,
    check_rooted,
    count_rows,
)
from freehold.evidence.signature_check import check_signatures
from freehold.evidence.store_check import check_objects, check_payloads
from freehold.lab.opened import Lab

__all__ = ["Fault", "Verification", "verify_lab"]


def verify_lab(lab: Lab, *, on_progress: Progress | None = None) -> Verification:
    """Verify a whole lab by the procedure above and return every fault. Nothing is written.

    The database is read in one transaction, so that work which goes on meanwhile does no harm.
    `on_progress` gets (entries and rows checked, entries and rows in all).
    """
    found = Findings(on_progress=on_progress)
    with lab.reading() as connection:
        found.total = count_entries(connection) + count_rows(connection)
        # 1. Keys
        verifier = check_keys(lab, connection, found)
        # 2. Entries and signed heads
        log = LogCheck(lab, connection, found)
        log.read_entries(verifier)
        # 3. Pending entries
        log.read_pending()
        # 4. Files
        if verifier is not None:
            check_files(lab, log, verifier, found)
        # 5. Committed rows
        check_committed(connection, log.named, found)
        # 6. Rooted rows
        check_rooted(connection, log.named, found)
        # 7. Payloads
        check_payloads(lab, connection, found)
        # 8. Objects
        check_objects(lab, connection, found)
        # 9. Decision numbers
        check_numbers(connection, found)
        # 10. Erasures
        check_erasures(connection, log.named, found)
        # 11. Signatures of people
        check_signatures(connection, log.named, found)
    return found.result()
