"""Payloads: what came from people and about people, erasable one by one.

A payload has a random id; nothing about its name tells its content. Small ones stand in the
database, in the same transaction as the row that names them; larger ones in files under
``payloads/``. Either way the commitment is an HMAC under the item's salt.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, insert, select, update

from freehold.canonical.json import commit_bytes
from freehold.errors import IntegrityError, NotFound
from freehold.lab.atomic import write_atomically
from freehold.lab.schema import payloads
from freehold.records.clock import now
from freehold.records.ids import new_id

INLINE_BYTES = 64 * 1024


class PayloadStore:
    """Reads, writes and erases payloads. Every call stands in the caller's transaction."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, payload_id: str) -> Path:
        """Return the file of a payload that is not stored inline."""
        return self.root / payload_id[-2:] / payload_id

    def put(
        self, connection: Connection, item_id: str, media_type: str, data: bytes, salt: bytes
    ) -> tuple[str, str]:
        """Store bytes and return (payload id, commitment)."""
        row = self.prepare(item_id, media_type, data, salt)
        connection.execute(insert(payloads).values(**row))
        return str(row["payload_id"]), str(row["commitment"])

    def prepare(
        self, item_id: str, media_type: str, data: bytes, salt: bytes
    ) -> dict[str, str | int | bytes | None]:
        """Return the row of a payload, its file written first where it is large.

        For callers that insert many rows at once. A crash before the row is there leaves a file
        that no row names, which `freehold doctor` removes.
        """
        payload_id = new_id("pay")
        inline = len(data) <= INLINE_BYTES
        if not inline:
            write_atomically(self.path(payload_id), data, mode=0o600)
        return {
            "payload_id": payload_id,
            "item_id": item_id,
            "media_type": media_type,
            "size": len(data),
            "commitment": commit_bytes(salt, data),
            "bytes": data if inline else None,
            "erased_at": None,
        }

    def get(self, connection: Connection, payload_id: str) -> bytes:
        """Return a payload's bytes. An erased payload is NotFound, and says when it was erased."""
        row = connection.execute(
            select(payloads.c.bytes, payloads.c.erased_at, payloads.c.size).where(
                payloads.c.payload_id == payload_id
            )
        ).first()
        if row is None:
            raise NotFound(f"no payload {payload_id}")
        if row.erased_at is not None:
            raise NotFound(f"payload {payload_id} was erased on {row.erased_at}")
        if row.bytes is not None:
            return bytes(row.bytes)
        path = self.path(payload_id)
        if not path.is_file():
            raise IntegrityError(f"payload {payload_id} is missing: {path}", payload=payload_id)
        return path.read_bytes()

    def erase(self, connection: Connection, payload_id: str) -> None:
        """Remove a payload's bytes, its file included; the row stays and says when."""
        connection.execute(
            update(payloads)
            .where(payloads.c.payload_id == payload_id)
            .values(bytes=None, erased_at=now())
        )
        self.path(payload_id).unlink(missing_ok=True)
