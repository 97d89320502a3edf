"""`bundle restore`: a working lab from a bundle, with a log and keys of its own.

The old ledger cannot go on: its private key never left, and whoever holds a copy of a lab must not
be able to write its history. So the restored lab starts a new log under a new key. Its first entry
commits to the old one (origin, size, root, key), every row is bound anew by the entries that
follow, and the old ledger stays readable under ``ledger/history/``.

Everything is made in a folder beside the target whose settings file does not have its name yet: a
restore that is cut off at any moment leaves no lab.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final

from sqlalchemy import inspect

from freehold.bundle.creating import INDEX_KEY
from freehold.bundle.layout import (
    HISTORY,
    LEDGER,
    LOG_VKEY,
    MANIFEST,
    MANIFEST_NOTE,
    MODEL_PUBLIC,
    WRITTEN_BY_PEOPLE,
)
from freehold.bundle.rebinding import Rebinding
from freehold.bundle.verifying import (
    check_tables,
    copy_payload_files,
    fill_tables,
    read_log,
    read_state_record,
    verify_bundle,
)
from freehold.errors import Conflict, IntegrityError
from freehold.evidence.findings import Fault
from freehold.evidence.founding import found_ledger
from freehold.evidence.sequencer import publish
from freehold.evidence.verification import verify_lab
from freehold.lab.atomic import storage_errors, sync_directory, write_atomically
from freehold.lab.database import Database
from freehold.lab.layout import SETTINGS_FILE, Layout
from freehold.lab.opened import Lab, init_lab
from freehold.lab.settings import read_settings, render_settings

OnProgress = Callable[[int, int], None]

_UNFINISHED: Final = f".{SETTINGS_FILE}.restoring"
_STEPS: Final = 6


@dataclass(frozen=True, slots=True)
class RestoreRecord:
    """A restored lab. `absent` says what the bundle did not hold, and why."""

    path: Path
    origin: str
    vkey: str
    previous_origin: str
    rows: int
    ledger_size: int
    seconds: float
    absent: dict[str, str]


def restore_bundle(
    bundle: Path,
    new_lab: Path,
    *,
    database: str = "",
    trust: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> RestoreRecord:
    """Make a working lab of a bundle in `new_lab`, which must not exist or be empty.

    `database` is a PostgreSQL URL, of a database without tables. `trust` holds keys from elsewhere
    that the bundle must be signed with. Raises IntegrityError naming the files where the bundle
    does not hold, Conflict where something is in the way, NotFound for a bundle without state.
    """
    started = monotonic()
    bundle, new_lab = Path(bundle).absolute(), Path(new_lab).absolute()
    _refuse_taken(new_lab, database)
    progress = _Steps(on_progress)
    verify_bundle(bundle, trust=trust, deep=False).raise_for_faults(bundle)
    record = read_state_record(bundle)
    progress.step()
    draft = new_lab.with_name(f".{new_lab.name}.{secrets.token_hex(6)}.part")
    try:
        with _begin(draft, record, database) as lab:
            rows = _fill(lab, bundle, record, progress)
            _found(lab, bundle, record)
            Rebinding(lab).rebind_all()
            size = publish(lab)
            progress.step()
            _require_whole(lab, record)
            vkey = (lab.layout.keys / "log.vkey").read_text(encoding="utf-8").strip()
            origin = lab.origin
            progress.step()
        _finish(draft, new_lab)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    progress.step()
    previous, seconds = str(record["log"]["origin"]), monotonic() - started
    return RestoreRecord(new_lab, origin, vkey, previous, rows, size, seconds, _absent(record))


class _Steps:
    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress, self._done = on_progress, 0

    def step(self) -> None:
        self._done += 1
        if self._on_progress is not None:
            self._on_progress(self._done, _STEPS)


def _refuse_taken(new_lab: Path, database: str) -> None:
    if new_lab.exists() and (not new_lab.is_dir() or any(new_lab.iterdir())):
        raise Conflict(f"{new_lab} is not empty", hint="Choose a new folder for the lab.")
    if not database:
        return
    target = Database(database)
    try:
        with target.reading() as connection:
            taken = inspect(connection).get_table_names()
    finally:
        target.dispose()
    if taken:
        raise Conflict(
            f"the database for the restored lab has tables already: {', '.join(taken[:3])}",
            hint="Give an empty one. A restore that was cut off leaves tables: drop them first.",
        )


def _begin(draft: Path, record: dict[str, Any], database: str) -> Lab:
    """Make an empty lab under a settings file that does not have its name yet."""
    with storage_errors(draft):
        draft.parent.mkdir(parents=True, exist_ok=True)
    settings = record["settings"]
    with init_lab(draft, name=str(settings["name"]), database=database) as empty:
        values = {**settings, "origin": empty.origin, "database": database}
    layout = Layout(draft)
    layout.settings.unlink()
    write_atomically(draft / _UNFINISHED, render_settings(values).encode())
    if record["index_key"] is not None:
        key = bytes.fromhex(record["index_key"])
        write_atomically(layout.keys / INDEX_KEY, key, mode=0o600)
    return Lab(layout, read_settings(draft / _UNFINISHED))


def _fill(lab: Lab, bundle: Path, record: dict[str, Any], progress: _Steps) -> int:
    """Bring over files and tables, and hold the tables against the old log."""
    _copy_objects(lab, bundle, record)
    copy_payload_files(bundle, lab)
    _copy_settings(lab, bundle)
    progress.step()
    rows = fill_tables(lab, bundle)
    named = read_log(bundle, int(record["log"]["size"]))
    check_tables(lab, named, payloads=record["payloads"]).result().raise_for_faults()
    progress.step()
    return rows


def _copy_objects(lab: Lab, bundle: Path, record: dict[str, Any]) -> None:
    for digest, name in sorted(record["objects"].items()):
        lab.objects.put_file(bundle / name, expected=digest)
    folder = bundle / "state" / "objects"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        lab.objects.put_file(path, expected=f"sha256:{path.name}")


def _copy_settings(lab: Lab, bundle: Path) -> None:
    for kind in WRITTEN_BY_PEOPLE:
        rendered = {path.parent for path in (bundle / kind).glob("*/cases.jsonl")}
        for path in sorted((bundle / kind).rglob("*")):
            if path.is_file() and not rendered & set(path.parents):
                write_atomically(lab.root / path.relative_to(bundle), path.read_bytes())


def _found(lab: Lab, bundle: Path, record: dict[str, Any]) -> None:
    """Make new keys and the first entry, which commits to the old log; keep that log readable."""
    log = record["log"]
    found_ledger(
        lab,
        restored_from=str(log["origin"]),
        restored_size=str(log["size"]),
        restored_root=str(log["root"]),
        restored_vkey=str(log["vkey"]),
    )
    history = lab.layout.ledger / "history"
    if (bundle / HISTORY).is_dir():
        shutil.copytree(bundle / HISTORY, history, dirs_exist_ok=True)
    own = history / str(log["origin"]).replace("/", "-")
    shutil.copytree(bundle / LEDGER, own)
    for name in (LOG_VKEY, MODEL_PUBLIC, MANIFEST, MANIFEST_NOTE):
        shutil.copyfile(bundle / name, own / Path(name).name)


def _require_whole(lab: Lab, record: dict[str, Any]) -> None:
    """Raise IntegrityError unless the restored lab verifies, but for files that were withheld."""
    withheld = {f"objects/{digest}" for digest in record["withheld"]}
    faults = [fault for fault in verify_lab(lab).faults if not _is_withheld(fault, withheld)]
    if faults:
        raise IntegrityError(
            f"the restored lab does not verify: {'; '.join(map(str, faults[:5]))}",
            hint="Nothing was kept. Please report this with the bundle's MANIFEST.json.",
        )


def _is_withheld(fault: Fault, withheld: set[str]) -> bool:
    return fault.where in withheld and fault.what == "missing"


def _finish(draft: Path, new_lab: Path) -> None:
    """Give the lab its settings file, then its name."""
    (draft / _UNFINISHED).rename(draft / SETTINGS_FILE)
    sync_directory(draft)
    with storage_errors(new_lab):
        if new_lab.exists():
            new_lab.rmdir()  # empty, as was checked; otherwise this fails and nothing is lost
        draft.rename(new_lab)
        sync_directory(new_lab.parent)


def _absent(record: dict[str, Any]) -> dict[str, str]:
    absent = {f"model file {name}": str(why) for name, why in record["withheld"].items()}
    if not record["payloads"]:
        absent["texts, answers and names"] = "the bundle was made without payloads"
    return absent
