"""Adding people, and giving them keys of their own: each such act is a ledger entry."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection

from freehold.access.people import (
    ROLES,
    Person,
    find_person,
    forget_name,
    new_pseudonym,
    remember_name,
)
from freehold.errors import Conflict, InputError, NotFound
from freehold.evidence.entries import SYSTEM, Entry
from freehold.evidence.notes import Signer
from freehold.lab.atomic import write_atomically
from freehold.lab.opened import Lab
from freehold.lab.schema import principals
from freehold.lab.sequences import take_number


def add_person(
    lab: Lab, connection: Connection, name: str, *, roles: Sequence[str] = (), kind: str = "person"
) -> Person:
    """Return the person of this name, added with a new pseudonym when there is none yet.

    Roles that a known person lacks are granted, on the record.
    """
    unknown = [role for role in roles if role not in ROLES]
    if unknown:
        raise InputError(f"unknown role {unknown[0]!r}; known: {', '.join(ROLES)}")
    known = _known(connection, name)
    if known is None:
        take_number(connection, "people")  # two that add one name at once: the second finds it
        known = _known(connection, name)
    if known is None:
        return _add(lab, connection, name, tuple(roles), kind)
    missing = tuple(role for role in roles if role not in known.roles)
    return _grant(lab, connection, known, missing) if missing else known


def _known(connection: Connection, name: str) -> Person | None:
    try:
        return find_person(connection, name)
    except NotFound:
        return None


def _add(lab: Lab, connection: Connection, name: str, roles: tuple[str, ...], kind: str) -> Person:
    principal_id = new_pseudonym()
    entry = Entry(lab, connection, "person.added", SYSTEM, {"principal_id": principal_id})
    row = {"principal_id": principal_id, "kind": kind, "roles": ",".join(roles)}
    entry.insert(principals, {**row, "state": "active", "created_at": entry.at})
    entry.close()
    remember_name(connection, principal_id, name)
    return Person(principal_id, name, kind, roles, None)


def _grant(lab: Lab, connection: Connection, known: Person, missing: tuple[str, ...]) -> Person:
    body = {"principal_id": known.principal_id, "granted": list(missing)}
    entry = Entry(lab, connection, "person.roles_granted", SYSTEM, body)
    roles = (*known.roles, *missing)
    entry.update(principals, {"principal_id": known.principal_id}, {"roles": ",".join(roles)})
    entry.close()
    return replace(known, roles=roles)


def acting_person(lab: Lab, connection: Connection, name: str | None = None) -> Person:
    """Return whoever acts: the person named, else the user of this operating-system account."""
    try:
        return find_person(connection, name or getpass.getuser())
    except NotFound:
        return add_person(lab, connection, name or getpass.getuser(), roles=("engineer",))


def make_person_key(lab: Lab, name: str, path: Path) -> str:
    """Make a signing key for a person in a file of theirs; return its public vkey.

    The private half is written to `path` (mode 0600) and nowhere else. Raises Conflict when the
    person has a key already: keys are replaced on the record, not in silence.
    """
    if path.exists():
        raise Conflict(f"{path} exists; a key is never overwritten")
    with lab.writing() as connection:
        person = add_person(lab, connection, name)
        if person.public_key is not None:
            raise Conflict(f"{name} has a key already: {person.public_key}")
        signer = Signer.generate(person.principal_id)
        write_atomically(path, (signer.to_private_text() + "\n").encode(), mode=0o600)
        vkey = signer.verifier.vkey()
        body = {"principal_id": person.principal_id, "public_key": vkey}
        entry = Entry(lab, connection, "person.key_added", person.principal_id, body)
        key = {"principal_id": person.principal_id}
        entry.update(principals, key, {"public_key": vkey})
        entry.close()
    return vkey


def forget_person(lab: Lab, name: str, *, reason: str) -> str:
    """Destroy the map from a person's pseudonym to their name; return the pseudonym."""
    with lab.writing() as connection:
        person = find_person(connection, name)
        body = {"principal_id": person.principal_id, "reason": reason}
        Entry(lab, connection, "person.forgotten", SYSTEM, body).close()
        forget_name(connection, person.principal_id)
    lab.database.truncate_log()
    return person.principal_id
