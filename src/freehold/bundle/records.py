"""What a bundle says in plain files: settings that people wrote, candidates, verdicts, releases.

All of it stands in ``state/`` too, as tables; here it stands as people would look for it.
"""

from __future__ import annotations

import shutil
from typing import Any, Final

from sqlalchemy import or_

from freehold.bundle.layout import (
    HISTORY,
    LEDGER,
    LOG_VKEY,
    MODEL_PUBLIC,
    WRITTEN_BY_PEOPLE,
    folder_name,
)
from freehold.bundle.snapshot import Snapshot
from freehold.bundle.staging import Staging
from freehold.canonical.json import decode, encode
from freehold.canonical.merkle import inclusion_proof
from freehold.errors import NotFound
from freehold.evidence import keys
from freehold.evidence.proofs import Opened, Receipt, TlogProof, pointer
from freehold.evidence.tiles import TileReader, rebuild
from freehold.evidence.witnessing import WITNESSES
from freehold.lab.schema import (
    approvals,
    candidates,
    decisions,
    gate_plans,
    ledger_entries,
    principals,
    releases,
    salts,
    verdicts,
)

RECEIPTS: Final = 200
_STRUCTURED: Final = {"spec", "report", "plan", "statement"}


def write_keys(bundle: Staging, taken: Snapshot) -> None:
    """Write public keys only: the ledger's, the models', and those of people who sign."""
    folder = taken.lab.layout.keys
    bundle.copy(LOG_VKEY, folder / keys.LOG_VKEY)
    bundle.copy(MODEL_PUBLIC, folder / keys.MODEL_PUBLIC)
    for row in taken.rows(principals, principals.c.public_key.is_not(None)):
        name = f"keys/people/{row['principal_id']}.vkey"
        bundle.write_text(name, f"{row['public_key']}\n")


def write_ledger(bundle: Staging, taken: Snapshot) -> None:
    """Write the ledger's head, tiles and entries as they were at the moment of the snapshot.

    The export itself is the newest entry, so witnesses have seen at most an earlier head: what
    they cosigned goes along, and the verifier checks that this ledger continues it.
    """
    folder = bundle.root / LEDGER
    folder.mkdir()
    rebuild(folder, taken.entries(), taken.note)
    scratch = folder / ".scratch"
    if scratch.is_dir():
        scratch.rmdir()
    for path in sorted((taken.lab.layout.keys / WITNESSES).glob("*.*")):
        if path.suffix in (".vkey", ".checkpoint"):
            bundle.copy(f"{LEDGER}/witnessed/{path.name}", path)
    before = taken.lab.layout.ledger / HISTORY
    if before.is_dir():
        shutil.copytree(before, bundle.root / HISTORY)


def write_settings(bundle: Staging, taken: Snapshot) -> None:
    """Copy what people wrote: tasks, recipes, gates, policies, suites, as they stand in the lab."""
    for kind in WRITTEN_BY_PEOPLE:
        folder = taken.lab.root / kind
        for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
            name = path.relative_to(taken.lab.root).as_posix()
            if path.is_symlink() or (path.exists() and not path.is_file() and not path.is_dir()):
                taken.leave_out(name, "a link or device: a bundle holds plain files only")
            elif path.is_file() and not path.name.startswith("."):
                bundle.copy(name, path)


def write_decided(bundle: Staging, taken: Snapshot) -> None:
    """Write candidates, gate plans, verdicts with approvals, and the time line of releases."""
    names: set[str] = set()
    for row in taken.of_task(candidates):
        name = folder_name(f"{row['name']}-{_short(row['candidate_id'])}", names)
        bundle.write_record(f"candidates/{name}.json", _readable(row))
    judged = taken.of_task(verdicts)
    plans = {row["plan_digest"] for row in judged}
    for row in taken.rows(gate_plans):
        if taken.task is None or row["plan_digest"] in plans:
            bundle.write_record(f"verdicts/plan-{_short(row['plan_digest'])}.json", _readable(row))
    for row in judged:
        of_this = taken.rows(approvals, approvals.c.verdict_id == row["verdict_id"])
        record = _readable(row) | {"approvals": [_readable(one) for one in of_this]}
        bundle.write_record(f"verdicts/{row['verdict_id']}.json", record)
    line = sorted(taken.of_task(releases), key=lambda row: (row["task"], row["number"]))
    bundle.write_record("releases.json", [_readable(row) for row in line])


def write_receipts(bundle: Staging, taken: Snapshot) -> int:
    """Write receipts of the newest decisions of what serves; return how many."""
    chosen = _releases(taken)
    served = or_(decisions.c.release_id.in_(chosen), decisions.c.candidate_id.in_(chosen.values()))
    # Where nothing serves yet, trials are all the decisions there are.
    conditions = (served,) if chosen else ()
    newest = taken.of_task(decisions, decisions.c.state == "answered", *conditions)
    newest.sort(key=lambda row: -int(row["number"]))
    if len(newest) > RECEIPTS:
        left = len(newest) - RECEIPTS
        why = f"the newest {RECEIPTS} are here; `freehold ledger prove ID` makes any other"
        taken.leave_out(f"receipts of {left} more decisions", why)
    reader = TileReader(bundle.root / LEDGER)
    for row in newest[:RECEIPTS]:
        receipt = _receipt(taken, reader, row)
        bundle.write(f"receipts/{row['decision_id']}.json", receipt.to_bytes())
    return min(len(newest), RECEIPTS)


def _releases(taken: Snapshot) -> dict[str, str]:
    """Return release id → candidate id: the one asked for, or the newest of each task."""
    if taken.release is not None:
        found = taken.rows(releases, releases.c.release_id == taken.release)
        if not found:
            raise NotFound(f"no release {taken.release!r} in this lab")
        return {found[0]["release_id"]: found[0]["candidate_id"]}
    newest: dict[str, Any] = {}
    for row in sorted(taken.of_task(releases), key=lambda row: int(row["number"])):
        newest[row["task"]] = row
    return {row["release_id"]: row["candidate_id"] for row in newest.values()}


def _receipt(taken: Snapshot, reader: TileReader, row: dict[str, Any]) -> Receipt:
    found = taken.rows(ledger_entries, ledger_entries.c.entry_id == row["entry_id"])[0]
    index, entry = int(found["idx"]), bytes(found["bytes"])
    path = tuple(inclusion_proof(index, taken.head.size, reader.hash_at))
    opened: tuple[Opened, ...] = ()
    salt = taken.rows(salts, salts.c.item_id == row["item_id"])
    if taken.payloads and salt and salt[0]["salt"] is not None:
        at = pointer("rows", "decisions", str(row["decision_id"]))
        opened = (Opened(at, encode(row), bytes(salt[0]["salt"])),)
    return Receipt(entry, TlogProof(index, path, taken.note), opened)


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: decode(value) if name in _STRUCTURED and _is_json(value) else value
        for name, value in row.items()
    }


def _is_json(value: Any) -> bool:
    return isinstance(value, str) and value[:1] in ("{", "[")


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12] or digest[:12]
