"""One process at a time on one run: a file lock for this machine, a lease for all of them.

The kernel frees a file lock with its process, so whoever holds it may take over at once the lease
that a killed process on this machine left behind. From another machine the lease must run out
first. Every write under the lease confirms its fence, so a process that slept too long writes
nothing.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, select

from freehold.errors import LabBusy
from freehold.lab.leases import Lease, confirm, give_back, take
from freehold.lab.opened import Lab
from freehold.lab.schema import leases

LEASE_SECONDS = 120.0


@contextmanager
def only_process(lab: Lab, name: str) -> Iterator[Lease]:
    """Hold the lease `name` for a block. Raises LabBusy while another process holds it."""
    path = lab.layout.scratch / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(name) from None
        with lab.writing() as connection:
            _release_the_dead(lab, connection, name)
            lease = take(connection, name, lab.holder, seconds=LEASE_SECONDS)
        if lease is None:
            raise _busy(name)
        try:
            yield lease
        finally:
            with lab.writing() as connection:
                give_back(connection, lease)


def renew(connection: Connection, lease: Lease) -> None:
    """Confirm that the lease is still ours and extend it, in the transaction that writes."""
    confirm(connection, lease)
    take(connection, lease.name, lease.holder, seconds=LEASE_SECONDS)


def _release_the_dead(lab: Lab, connection: Connection, name: str) -> None:
    row = connection.execute(select(leases).where(leases.c.name == name)).first()
    if row is None or row.holder is None:
        return
    here = lab.holder.partition(":")[0]
    if row.holder.partition(":")[0] == here:
        give_back(connection, Lease(name, row.holder, row.fence))


def _busy(name: str) -> LabBusy:
    return LabBusy(
        f"another process is at work on the same run ({name})",
        hint="Wait for it, or stop it; the same command then goes on where it stopped.",
    )
