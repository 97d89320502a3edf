"""``freehold people``: who works in this lab, under which pseudonym, with which key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freehold.cli.render import print_facts, print_table
from freehold.cli.session import session_of

people = typer.Typer(no_args_is_help=True, help="People, their roles and keys.")


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.add_typer(people, name="people")


@people.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The person's name, as colleagues know it.")],
    role: Annotated[
        list[str] | None,
        typer.Option(help="owner, engineer, reviewer, approver or auditor; repeatable."),
    ] = None,
) -> None:
    """Add a person. Ledger entries will name them by a pseudonym only."""
    from freehold.evidence.people import add_person

    session = session_of(context)
    with session.lab() as lab, lab.writing() as connection:
        person = add_person(lab, connection, name, roles=tuple(role or ()))
    facts = {"name": name, "pseudonym": person.principal_id, "roles": ", ".join(person.roles)}
    session.show(facts, lambda console: print_facts(console, facts))


@people.command("key")
def key(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    out: Annotated[Path, typer.Option(help="Where the private key goes; keep it outside the lab.")],
) -> None:
    """Make a signing key for an approver, in a file of their own."""
    from freehold.evidence.people import make_person_key

    session = session_of(context)
    with session.lab() as lab:
        vkey = make_person_key(lab, name, out)
    facts = {"name": name, "public key": vkey, "private key": str(out)}
    session.show(facts, lambda console: print_facts(console, facts))


@people.command("list")
def list_people(context: typer.Context) -> None:
    """List the people of this lab."""
    from freehold.access.people import all_people

    session = session_of(context)
    with session.lab() as lab, lab.reading() as connection:
        found = all_people(connection)
    rows = [
        {
            "name": person.name,
            "pseudonym": person.principal_id,
            "roles": list(person.roles),
            "public_key": person.public_key,
        }
        for person in found
    ]
    session.show(
        rows,
        lambda console: print_table(
            console,
            ("name", "pseudonym", "roles", "key"),
            [
                (p.name or "(forgotten)", p.principal_id, ", ".join(p.roles), p.public_key or "—")
                for p in found
            ],
            empty="No people yet. Add one: freehold people add NAME --role approver",
        ),
    )


@people.command("forget")
def forget(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Whose name is to be destroyed.")],
    reason: Annotated[str, typer.Option(help="Why; it stands in the ledger.")],
) -> None:
    """Destroy the map from a person's pseudonym to their name. The log still verifies."""
    from freehold.evidence.people import forget_person

    session = session_of(context)
    with session.lab() as lab:
        pseudonym = forget_person(lab, name, reason=reason)
    facts = {"forgotten": pseudonym}
    session.show(facts, lambda console: print_facts(console, facts))
