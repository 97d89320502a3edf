"""`bundle create`: everything that belongs to a lab in one folder that needs no Freehold.

The export is on the record before the first byte is written, so that an erasure later knows of
every bundle that may exist, even of one whose making was cut off. Then one moment of the lab is
written beside the target, listed, signed and moved there whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final

from sqlalchemy import select

from freehold.bundle.card import write_cards
from freehold.bundle.frozen import write_datasets, write_suites
from freehold.bundle.layout import FORMAT_PAGE, STATE, STATE_FORMAT, STATE_RECORD, VERIFIER
from freehold.bundle.plan import write_harness
from freehold.bundle.readme import write_readme
from freehold.bundle.records import (
    write_decided,
    write_keys,
    write_ledger,
    write_receipts,
    write_settings,
)
from freehold.bundle.snapshot import Snapshot, snapshot
from freehold.bundle.staging import Sealed, Staging, staged
from freehold.bundle.state import export_rows, exported_tables
from freehold.bundle.weights import Packed, model_objects, withheld_objects, write_models
from freehold.canonical.json import decode, encode_text
from freehold.errors import NotFound
from freehold.evidence.entries import Entry
from freehold.evidence.keys import log_signer, log_verifier
from freehold.evidence.sequencer import publish
from freehold.lab.migration import HEAD
from freehold.lab.opened import Lab
from freehold.lab.schema import COMMITTED, ROOTED, exports, items, models, objects, payloads
from freehold.records.clock import now
from freehold.records.ids import new_id
from freehold.version import __version__

OnProgress = Callable[[int, int], None]

INDEX_KEY: Final = "index.key"
_VERIFIER_FOLDER: Final = Path(__file__).parent / "verifier"
_NOT_CARRIED: Final = ("database", "origin")  # of one machine; a URL may hold a password
_STEPS: Final = 10


@dataclass(frozen=True, slots=True)
class BundleRecord:
    """A finished bundle. `digest` is that of its manifest; `missing` says what is not in it."""

    path: Path
    export_id: str
    digest: str
    files: int
    size: int
    seconds: float
    facts: dict[str, int]
    missing: dict[str, str]


def create_bundle(
    lab: Lab,
    out_dir: Path,
    *,
    actor: str,
    task: str | None = None,
    release: str | None = None,
    payloads: bool = True,
    on_progress: OnProgress | None = None,
) -> BundleRecord:
    """Write a bundle to `out_dir`, which must not exist.

    With `task` it holds one task's models, data and verdicts and cannot be restored. `release`
    chooses whose decisions get receipts; otherwise each task's present release. Without `payloads`
    it says what the lab would say if every item had been erased. `on_progress` gets steps.

    Raises Conflict where something is at `out_dir`, NotFound for a release that is not there,
    StorageFull, LabBusy where others write without a pause; nothing is left behind then.
    """
    started = monotonic()
    out_dir = Path(out_dir).absolute()
    with staged(out_dir) as bundle:
        export_id = _announce(lab, actor, payloads=payloads)
        choices: dict[str, Any] = {"task": task, "release": release, "payloads": payloads}
        with snapshot(lab, now(), **choices) as taken:
            facts = _fill(bundle, taken, on_progress)
            missing = dict(taken.missing)
        sealed = bundle.seal(log_signer(lab))
    if on_progress is not None:
        on_progress(_STEPS, _STEPS)
    _record(lab, actor, export_id, sealed)
    seconds = monotonic() - started
    return BundleRecord(
        out_dir, export_id, sealed.digest, sealed.files, sealed.size, seconds, facts, missing
    )


def _announce(lab: Lab, actor: str, *, payloads: bool) -> str:
    """Write down that an export is made, and of which items; without payloads of none."""
    export_id = new_id("exp")
    with lab.writing() as connection:
        listed: list[str] = []
        if payloads:
            held = select(items.c.item_id).where(items.c.erased_at.is_(None))
            listed = [
                str(one) for one in connection.execute(held.order_by(items.c.item_id)).scalars()
            ]
        body = {"export_id": export_id, "kind": "bundle", "items": len(listed)}
        entry = Entry(lab, connection, "bundle.started", actor, body)
        row = {"export_id": export_id, "kind": "bundle", "recipient": "the lab's owner"}
        row |= {"item_ids": encode_text(listed), "created_by": actor}
        entry.insert(exports, row | {"created_at": entry.at})
        entry.close()
    return export_id


def _record(lab: Lab, actor: str, export_id: str, sealed: Sealed) -> None:
    with lab.writing() as connection:
        body = {"export_id": export_id, "manifest": sealed.digest, "files": sealed.files}
        body |= {"bytes": sealed.size}
        Entry(lab, connection, "bundle.created", actor, body).close()
    publish(lab)


def _fill(bundle: Staging, taken: Snapshot, on_progress: OnProgress | None) -> dict[str, int]:
    """Write every part; return how much of each."""
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(done, _STEPS)

    write_keys(bundle, taken)
    write_settings(bundle, taken)
    write_ledger(bundle, taken)
    step()
    packed = write_models(bundle, taken)
    step()
    write_datasets(bundle, taken)
    step()
    evaluated = write_suites(bundle, taken)
    step()
    write_harness(bundle, taken, packed, evaluated)
    write_decided(bundle, taken)
    step()
    write_cards(bundle, taken, packed, evaluated)
    step()
    receipts = write_receipts(bundle, taken)
    step()
    if taken.task is None:
        write_state(bundle, taken, packed)
    else:
        why = "this bundle holds one task; only a bundle of the whole lab can be restored"
        taken.leave_out("state/", why)
    step()
    for name in (VERIFIER, FORMAT_PAGE):
        bundle.copy(name, _VERIFIER_FOLDER / name)
    facts = {
        "models": len(packed),
        "evaluations": len(evaluated),
        "receipts": receipts,
        "ledger entries": taken.head.size,
    }
    if not taken.payloads:
        taken.leave_out("texts, answers and names", "left out on request (--without-payloads)")
    write_readme(bundle, taken, log_verifier(taken.lab).vkey(), facts)
    step()
    return facts


def write_state(bundle: Staging, taken: Snapshot, packed: dict[str, Packed]) -> None:
    """Write every table, the larger payloads, the objects, and the record that binds them."""
    emptied_at = None if taken.payloads else taken.at
    counts = {
        table.name: bundle.write_rows(
            f"{STATE}/{table.name}.jsonl",
            export_rows(taken.connection, table, emptied_at=emptied_at),
        )
        for table in exported_tables()
    }
    lab = taken.lab
    if taken.payloads:
        _write_payload_files(bundle, taken)
        bundle.mark_personal(STATE)
    elsewhere, withheld = model_objects(packed), withheld_objects(packed)
    for digest in sorted(_object_names(taken) - elsewhere.keys() - withheld.keys()):
        bundle.copy(f"{STATE}/objects/{digest.partition(':')[2]}", lab.objects.existing(digest))
    key = (lab.layout.keys / INDEX_KEY).read_bytes().hex() if taken.payloads else None
    record = {
        "format": STATE_FORMAT,
        "freehold": __version__,
        "schema": HEAD,
        "at": taken.at,
        "payloads": taken.payloads,
        "log": {
            "origin": taken.head.origin,
            "size": taken.head.size,
            "root": "sha256:" + taken.head.root.hex(),
            "vkey": log_verifier(lab).vkey(),
        },
        "settings": {k: v for k, v in lab.settings.values.items() if k not in _NOT_CARRIED},
        # Not a signing key: without it an erasure by name would find nobody in a restored lab.
        "index_key": key,
        "tables": counts,
        "keys": {name: list(spec.key) for name, spec in COMMITTED.items()}
        | {name: [c.name for c in spec.table.primary_key] for name, spec in ROOTED.items()},
        "owners": {name: spec.owner_key for name, spec in ROOTED.items()},
        "objects": elsewhere,
        "withheld": withheld,
    }
    bundle.write_record(STATE_RECORD, record)


def _write_payload_files(bundle: Staging, taken: Snapshot) -> None:
    in_files = payloads.c.bytes.is_(None), payloads.c.erased_at.is_(None)
    ids = select(payloads.c.payload_id).where(*in_files).order_by(payloads.c.payload_id)
    for payload_id in taken.connection.execute(ids).scalars():
        path = taken.lab.payloads.path(payload_id)
        if not path.is_file():
            raise NotFound(f"payload {payload_id} is missing from the lab: {path}")
        bundle.copy(f"{STATE}/payloads/{payload_id}", path)


def _object_names(taken: Snapshot) -> set[str]:
    names = {str(row["digest"]) for row in taken.rows(objects)}
    for row in taken.rows(models):
        names |= {f"sha256:{one['sha256']}" for one in decode(row["manifest"])["files"]}
        names |= {row["signature_object"]} - {None}
    return names
