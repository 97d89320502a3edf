"""People and the pseudonyms under which they stand in the ledger.

A ledger entry names a person by a random pseudonym only. The map from pseudonym to name stands
apart, in a table that no commitment covers, so that it can be destroyed when a person has that
right: the log still verifies and still tells one person from another.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from freehold.errors import Conflict, NotFound
from freehold.lab.schema import principal_names, principals
from freehold.records.ids import new_id

ROLES = ("owner", "engineer", "reviewer", "approver", "auditor")


@dataclass(frozen=True, slots=True)
class Person:
    """One principal: pseudonym, name (None once destroyed), kind, roles, public key."""

    principal_id: str
    name: str | None
    kind: str
    roles: tuple[str, ...]
    public_key: str | None


def new_pseudonym() -> str:
    """Return a pseudonym that says nothing about the person."""
    return new_id("prs")


def find_person(connection: Connection, name_or_id: str) -> Person:
    """Return a person by name or pseudonym; NotFound when there is none."""
    joined = principals.outerjoin(
        principal_names, principals.c.principal_id == principal_names.c.principal_id
    )
    row = connection.execute(
        select(principals, principal_names.c.name)
        .select_from(joined)
        .where((principals.c.principal_id == name_or_id) | (principal_names.c.name == name_or_id))
    ).first()
    if row is None:
        raise NotFound(
            f"no person {name_or_id!r} in this lab",
            hint=f"Add them: freehold people add {name_or_id!r}",
        )
    roles = tuple(role for role in row.roles.split(",") if role)
    return Person(row.principal_id, row.name, row.kind, roles, row.public_key)


def remember_name(connection: Connection, principal_id: str, name: str) -> None:
    """Add a name to the map. Raises Conflict when another person has it."""
    taken = connection.execute(
        select(principal_names.c.principal_id).where(principal_names.c.name == name)
    ).scalar()
    if taken is not None and taken != principal_id:
        raise Conflict(f"there is a person named {name!r} already ({taken})")
    if taken is None:
        connection.execute(insert(principal_names).values(principal_id=principal_id, name=name))


def forget_name(connection: Connection, principal_id: str) -> None:
    """Destroy the map from this pseudonym to a name."""
    connection.execute(
        delete(principal_names).where(principal_names.c.principal_id == principal_id)
    )


def all_people(connection: Connection) -> list[Person]:
    """Return everybody, in the order in which they were added."""
    ids = connection.execute(
        select(principals.c.principal_id).order_by(principals.c.principal_id)
    ).scalars()
    return [find_person(connection, principal_id) for principal_id in ids.all()]
