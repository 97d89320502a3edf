"""`bundle verify`: the procedure of verify.py by our own copy of it, then what needs Freehold.

The verifier inside a bundle came from a stranger like the rest of it and is never run. Beyond the
files, this checks that every row of ``state/`` is what the ledger committed to, every payload what
its item committed to, each approval signed by the key that the ledger knows, and each model signed
by the lab's model key: the tables are read into a database of the moment and held against the log.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from freehold.bundle.layout import LEDGER, MODEL_PUBLIC, STATE_FORMAT, STATE_RECORD
from freehold.bundle.state import exported_tables, import_rows, read_rows
from freehold.bundle.verifier.verify import verify_bundle as run_verifier
from freehold.canonical.json import decode
from freehold.errors import FreeholdError, InputError, IntegrityError, NotFound
from freehold.evidence.findings import Findings
from freehold.evidence.log_check import Named
from freehold.evidence.row_check import (
    check_committed,
    check_erasures,
    check_numbers,
    check_rooted,
)
from freehold.evidence.signature_check import check_signatures
from freehold.evidence.store_check import check_payloads
from freehold.evidence.tiles import TileReader
from freehold.lab.migration import HEAD, KNOWN
from freehold.lab.opened import Lab, init_lab

OnProgress = Callable[[int, int], None]

_MUTE: Final = "it cannot be checked: the salt of its item is gone"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a report; `status` is ok, FAIL, absent or note."""

    status: str
    what: str
    detail: str
    file: str


@dataclass(frozen=True, slots=True)
class BundleCheck:
    """What a check of a bundle found."""

    lines: tuple[Line, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed and something was checked."""
        states = {line.status for line in self.lines}
        return "FAIL" not in states and "ok" in states

    @property
    def faults(self) -> tuple[Line, ...]:
        """The lines that failed."""
        return tuple(line for line in self.lines if line.status == "FAIL")

    def raise_for_faults(self, bundle: Path) -> None:
        """Raise IntegrityError naming the files that are wrong, if there are any."""
        if self.ok:
            return
        shown = "; ".join(f"{one.file}: {one.detail}" for one in self.faults[:5])
        raise IntegrityError(
            f"{bundle} does not hold: {shown or 'nothing in it could be checked'}",
            hint="Do not use it; ask for another copy, and keep this one to learn what happened.",
            files=[one.file for one in self.faults],
        )


@dataclass
class _WithoutSalts(Findings):
    """Findings that count the rows which no salt is left to check, and do not blame them."""

    mute: int = 0

    def fault(self, where: str, what: str) -> None:
        if what == _MUTE:
            self.mute += 1
        else:
            super().fault(where, what)


def verify_bundle(bundle: Path, *, trust: Sequence[str] = (), deep: bool = True) -> BundleCheck:
    """Check a bundle; with `deep` its tables too, once the files hold. Nothing is written to it.

    `trust` holds verifier keys from elsewhere. Raises NotFound where there is no folder.
    """
    if not bundle.is_dir():
        raise NotFound(f"no bundle at {bundle}", hint="Name the folder that holds MANIFEST.json.")
    report = run_verifier(bundle, trust)
    lines = [Line(one.status, one.what, one.detail, one.file) for one in report.results]
    if report.ok and deep:
        lines += _signed_models(bundle)
        lines += _state_lines(bundle)
    return BundleCheck(tuple(lines))


def read_state_record(bundle: Path) -> dict[str, Any]:
    """Return ``state/lab.json``.

    Raises NotFound for a bundle that cannot be restored, InputError for one that another version
    of Freehold wrote, IntegrityError for one that is malformed.
    """
    path = bundle / STATE_RECORD
    if not path.is_file():
        raise NotFound(
            f"{bundle} has no state/: it holds one task, not a whole lab",
            hint="Restore a bundle that was made without --task.",
        )
    record = decode(path.read_bytes())
    if not isinstance(record, dict) or record.get("format") != STATE_FORMAT:
        raise IntegrityError(f"{STATE_RECORD} is not of format {STATE_FORMAT}", file=STATE_RECORD)
    if record["schema"] != HEAD:
        known = "an older" if record["schema"] in KNOWN else "another"
        raise InputError(
            f"the bundle was made by {known} version: Freehold {record['freehold']}, schema "
            f"{record['schema']}; this one reads {HEAD}",
            hint=f"Install Freehold {record['freehold']}, restore there, and open the lab here.",
        )
    return record


def read_log(bundle: Path, size: int) -> Named:
    """Return what the entries of a bundle's ledger say in the end about each row."""
    named = Named()
    for entry in TileReader(bundle / LEDGER).entries(0, size):
        named.take(decode(entry))
    return named


def fill_tables(lab: Lab, bundle: Path) -> int:
    """Read the tables of a bundle into the empty database of a lab; return how many rows."""
    count = 0
    for table in exported_tables():
        path = bundle / "state" / f"{table.name}.jsonl"
        with lab.writing() as connection:
            count += import_rows(connection, table, read_rows(path, table))
    return count


def check_tables(lab: Lab, named: Named, *, payloads: bool) -> Findings:
    """Hold a lab's freshly filled tables against the log that they come from.

    Without payloads the salts are gone, and rows about items are mute; that is no fault then.
    """
    found = Findings() if payloads else _WithoutSalts()
    with lab.reading() as connection:
        check_committed(connection, named, found)
        check_rooted(connection, named, found)
        check_numbers(connection, found)
        check_signatures(connection, named, found)
        check_payloads(lab, connection, found)
        if payloads:
            check_erasures(connection, named, found)
    if isinstance(found, _WithoutSalts):
        found.note(f"{found.mute} rows about items are mute: what was personal is not here")
    return found


def copy_payload_files(bundle: Path, lab: Lab) -> None:
    """Copy the larger payloads of a bundle into a lab's store."""
    from freehold.lab.atomic import write_atomically

    folder = bundle / "state" / "payloads"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        write_atomically(lab.payloads.path(path.name), path.read_bytes(), mode=0o600)


def _state_lines(bundle: Path) -> list[Line]:
    if not (bundle / STATE_RECORD).is_file():
        return [Line("absent", "state", "the bundle holds one task and cannot be restored", "")]
    try:
        record = read_state_record(bundle)
        named = read_log(bundle, int(record["log"]["size"]))
        with (
            tempfile.TemporaryDirectory(prefix="freehold-verify-") as folder,
            init_lab(Path(folder) / "lab", name="verify") as lab,
        ):
            copy_payload_files(bundle, lab)
            rows = fill_tables(lab, bundle)
            found = check_tables(lab, named, payloads=record["payloads"])
    except FreeholdError as error:
        return [Line("FAIL", "state", error.message, str(error.where.get("file", STATE_RECORD)))]
    lines = [Line("FAIL", "state", one.what, f"state/{one.where}") for one in found.faults[:20]]
    lines += [Line("note", "state", text, "") for text in found.notes]
    if not found.faults:
        detail = f"{rows} rows are what the ledger committed to"
        lines.append(Line("ok", "state", detail, ""))
    return lines


def _signed_models(bundle: Path) -> list[Line]:
    """Check each model's OpenSSF signature under the model key of the bundle."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    from freehold.models.oms import TrustedKey, verify_model

    key = load_pem_public_key((bundle / MODEL_PUBLIC).read_bytes())
    if not isinstance(key, EllipticCurvePublicKey):
        return [Line("FAIL", "model signatures", "not an elliptic-curve key", MODEL_PUBLIC)]
    lines: list[Line] = []
    signed = 0
    for signature in sorted(bundle.glob("models/*/model.sig")):
        files = signature.parent / "files"
        if not files.is_dir():
            continue  # withheld; verify.py said so
        try:
            verify_model(files, signature.read_bytes(), TrustedKey(key))
            signed += 1
        except FreeholdError as error:
            name = signature.relative_to(bundle).as_posix()
            lines.append(Line("FAIL", "model signatures", error.message, name))
    detail = f"{signed} models, by the key in {MODEL_PUBLIC}"
    return lines or [Line("ok", "model signatures", detail, "")]
