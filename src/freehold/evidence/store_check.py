"""Steps of a verification that concern stores: payloads by commitment, objects by name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from freehold.canonical.json import commit_bytes
from freehold.evidence.findings import Findings
from freehold.evidence.tiles import files_below
from freehold.lab.opened import Lab
from freehold.lab.schema import items, models, objects, payloads, salts

_AT_ONCE = 500
PAYLOAD_PREFIX = "pay_"


def check_payloads(lab: Lab, connection: Connection, found: Findings) -> None:
    """Check each payload's bytes against the commitment in its item's parts, and the reverse."""
    joined = items.outerjoin(salts, items.c.item_id == salts.c.item_id)
    query = select(items.c.item_id, items.c.parts, salts.c.salt).select_from(joined)
    streamed = connection.execute(query.execution_options(yield_per=_AT_ONCE)).mappings()
    for some in streamed.partitions(_AT_ONCE):
        stored = _payloads_of(connection, [item["item_id"] for item in some])
        for item in some:
            _check_item(lab, item, stored.get(item["item_id"], {}), found)
    strays = select(payloads.c.payload_id).where(payloads.c.item_id.not_in(select(items.c.item_id)))
    for payload_id in connection.execute(strays).scalars():
        found.fault(f"payloads/{payload_id}", "there is no item that it could belong to")
    _check_payload_files(lab, connection, found)


def check_objects(lab: Lab, connection: Connection, found: Findings) -> None:
    """Check that each object named in the database is there, and each in the store has its name."""
    sizes: dict[str, int | None] = {}
    for row in connection.execute(select(objects.c.digest, objects.c.size)):
        sizes[row.digest] = row.size
    for digest, size in _model_files(connection, found):
        sizes.setdefault(digest, size)
    orphans = 0
    for path in _object_files(lab.layout.objects):
        digest = f"sha256:{path.name}"
        found.count("objects")
        if len(path.name) != 64 or path.parent.name != path.name[:2] or path.is_symlink():
            found.fault(f"objects/{path.name}", "no object has such a name or place")
            continue
        wrong = lab.objects.check(digest)
        known = digest in sizes
        size = sizes.pop(digest, None)
        orphans += not known
        if wrong is not None:
            found.fault(f"objects/{digest}", wrong)
        elif size is not None and path.stat().st_size != size:
            found.fault(f"objects/{digest}", f"it has {path.stat().st_size} bytes, not {size}")
    for digest in sizes:
        found.fault(f"objects/{digest}", "missing")
    if orphans:
        found.note(f"{orphans} objects that nothing names; `freehold doctor --fix` removes them")


def _check_item(
    lab: Lab, item: RowMapping, stored: Mapping[str, RowMapping], found: Findings
) -> None:
    parts = _parts(item, found)
    for extra in stored.keys() - {part["payload_id"] for part in parts}:
        found.fault(f"payloads/{extra}", f"item {item['item_id']} has no such part")
    salt = None if item["salt"] is None else bytes(item["salt"])
    for part in parts:
        payload_id = part["payload_id"]
        where = f"payloads/{payload_id}"
        row = stored.get(payload_id)
        found.count("payloads")
        if row is None:
            found.fault(where, f"missing: a part of item {item['item_id']}")
        elif (row["media_type"], row["commitment"]) != (part["media_type"], part["commitment"]):
            found.fault(where, "its type or commitment is not the one in its item's parts")
        elif salt is None:
            _check_erased(lab, row, found)
        else:
            _check_bytes(lab, row, salt, found)


def _check_bytes(lab: Lab, row: RowMapping, salt: bytes, found: Findings) -> None:
    where = f"payloads/{row['payload_id']}"
    data = None if row["bytes"] is None else bytes(row["bytes"])
    if row["erased_at"] is not None:
        found.fault(where, "it is marked as erased, and its item is not")
        return
    if data is None:
        path = lab.payloads.path(row["payload_id"])
        if not path.is_file() or path.is_symlink():
            found.fault(where, f"its file is missing: {path.relative_to(lab.root)}")
            return
        data = path.read_bytes()
    if len(data) != row["size"] or commit_bytes(salt, data) != row["commitment"]:
        found.fault(where, "its bytes are not what its item committed to")


def _check_erased(lab: Lab, row: RowMapping, found: Findings) -> None:
    left = row["bytes"] is not None or lab.payloads.path(row["payload_id"]).exists()
    if left or row["erased_at"] is None:
        found.fault(
            f"payloads/{row['payload_id']}", "the salt of its item is gone, and the payload is not"
        )


def _check_payload_files(lab: Lab, connection: Connection, found: Findings) -> None:
    paths = [
        path for path in files_below(lab.layout.payloads) if path.name.startswith(PAYLOAD_PREFIX)
    ]
    orphans = 0
    for start in range(0, len(paths), _AT_ONCE):
        names = [path.name for path in paths[start : start + _AT_ONCE]]
        query = select(payloads.c.payload_id).where(payloads.c.payload_id.in_(names))
        orphans += len(names) - len(set(connection.execute(query).scalars()))
    if orphans:
        found.note(f"{orphans} payload files that nothing names; `freehold doctor --fix`")


def _payloads_of(
    connection: Connection, item_ids: Sequence[str]
) -> dict[str, dict[str, RowMapping]]:
    stored: dict[str, dict[str, RowMapping]] = {}
    query = select(payloads).where(payloads.c.item_id.in_(item_ids))
    for row in connection.execute(query).mappings():
        stored.setdefault(row["item_id"], {})[row["payload_id"]] = row
    return stored


def _parts(item: RowMapping, found: Findings) -> list[dict[str, str]]:
    try:
        parts = json.loads(item["parts"])
        return [
            {name: part[name] for name in ("payload_id", "media_type", "commitment")}
            for part in parts
        ]
    except (ValueError, KeyError, TypeError):
        found.fault(f"items/{item['item_id']}", "its parts cannot be read")
        return []


def _model_files(connection: Connection, found: Findings) -> Iterator[tuple[str, int | None]]:
    query = select(models.c.model_digest, models.c.manifest, models.c.signature_object)
    for row in connection.execute(query):
        try:
            manifest: dict[str, Any] = json.loads(row.manifest)
            for file in manifest.get("files", ()):
                yield f"sha256:{file['sha256']}", file["size"]
        except (ValueError, KeyError, TypeError, AttributeError):
            found.fault(f"models/{row.model_digest}", "its manifest cannot be read")
        if row.signature_object is not None:
            yield row.signature_object, None


def _object_files(root: Path) -> Iterator[Path]:
    for path in files_below(root / "sha256"):
        # Files that are being written stand beside their place under another name.
        if not path.name.endswith(".part"):
            yield path
