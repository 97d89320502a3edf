"""Leases: at most one process does a thing at a time, and a process that died holds nothing.

A lease carries a fence, a number that grows each time the lease changes hands. Whoever writes
under a lease checks the fence in the same transaction: a process that slept past the end of its
lease finds that it has been replaced, and writes nothing.
"""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, insert, select, update

from freehold.errors import LabBusy
from freehold.lab.schema import leases
from freehold.records.clock import now

_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease held: its name, its holder and the fence under which it was taken."""

    name: str
    holder: str
    fence: int


def this_process() -> str:
    """Return a name for this process that no other process has."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def take(connection: Connection, name: str, holder: str, *, seconds: float) -> Lease | None:
    """Take or renew a lease inside a writing transaction; None while another process holds it."""
    row = connection.execute(select(leases).where(leases.c.name == name).with_for_update()).first()
    until = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime(_FORMAT)
    if row is None:
        values = {"name": name, "holder": holder, "fence": 1, "expires_at": until}
        connection.execute(insert(leases).values(**values))
        return Lease(name, holder, 1)
    if row.holder not in (None, holder) and row.expires_at > now():
        return None
    fence = row.fence if row.holder == holder else row.fence + 1
    connection.execute(
        update(leases)
        .where(leases.c.name == name)
        .values(holder=holder, fence=fence, expires_at=until)
    )
    return Lease(name, holder, fence)


def confirm(connection: Connection, lease: Lease) -> None:
    """Raise LabBusy unless the lease is still ours; call it in the transaction that writes."""
    row = connection.execute(
        select(leases.c.holder, leases.c.fence).where(leases.c.name == lease.name).with_for_update()
    ).first()
    if row is None or row.holder != lease.holder or row.fence != lease.fence:
        raise LabBusy(f"the lease {lease.name!r} went to another process; nothing was written")


def give_back(connection: Connection, lease: Lease) -> None:
    """Release a lease, if it is still ours."""
    connection.execute(
        update(leases)
        .where(leases.c.name == lease.name, leases.c.fence == lease.fence)
        .values(holder=None, expires_at=None)
    )
