"""``models``: taking models in, reading their licences as the contracts they are."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli.render import escape, print_facts, print_table, short
from freehold.cli.session import session_of

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.models.intake import ModelRecord, Standing
    from freehold.models.licences import PersonalStatement

models = typer.Typer(no_args_is_help=True, help="Models and their licences.")
Name = Annotated[str, typer.Argument(help="A model's name, its digest, or the start of it.")]
LicenceId = Annotated[
    str | None, typer.Option("--licence", help="State the licence yourself: an SPDX identifier.")
]
LicenceFile = Annotated[
    Path | None, typer.Option(help="State the licence yourself: the file of its text.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.add_typer(models, name="models")


@models.command("add")
def add(
    context: typer.Context,
    ref: Annotated[
        str,
        typer.Argument(
            help="A folder, hf:org/name@revision, package:NAME, lab:PATH#NAME, or a TOML file "
            "that describes a provider's model."
        ),
    ],
    name: Annotated[str | None, typer.Option(help="What it is called in this lab.")] = None,
    base: Annotated[
        str | None, typer.Option(help="The model in this lab that an adapter stands on.")
    ] = None,
    licence: LicenceId = None,
    licence_file: LicenceFile = None,
) -> None:
    """Take a model in: inspected, hashed, signed, its licence read. Pickles are refused."""
    from freehold.models.intake import add_model, licence_of

    session = session_of(context)
    if ref.startswith("hf:"):
        _allow_fetching()
    with session.lab() as lab, session.progress(f"taking in {ref}") as on_progress:
        actor = session.acting(lab)
        statements = _statements(session.actor or actor, licence, licence_file)
        record = add_model(
            lab,
            ref,
            actor=actor,
            name=name,
            licence_statements=statements,
            base=base,
            on_progress=on_progress,
        )
        standing = licence_of(lab, record.digest)
    session.show(
        _model_record(record, standing), lambda console: _render_model(console, record, standing)
    )


@models.command("list")
def list_all(context: typer.Context) -> None:
    """List the models of this lab."""
    from freehold.models.intake import licence_of, list_models

    session = session_of(context)
    with session.lab() as lab:
        found = [(record, licence_of(lab, record.digest)) for record in list_models(lab)]
    session.show(
        [_model_record(record, standing) for record, standing in found],
        lambda console: print_table(
            console,
            ("name", "kind", "form", "lineage", "licence", "MB", "digest"),
            [
                (
                    record.name,
                    record.kind,
                    record.form,
                    record.lineage,
                    _verdict(standing),
                    f"{record.size / 1e6:.1f}",
                    short(record.digest),
                )
                for record, standing in found
            ],
            empty="No models yet. Take one in: freehold models add REF",
        ),
    )


@models.command("show")
def show(context: typer.Context, name: Name) -> None:
    """Show a model: what it is, where it comes from, what its licence allows."""
    from freehold.models.intake import get_model, licence_of

    session = session_of(context)
    with session.lab() as lab:
        record = get_model(lab, name)
        standing = licence_of(lab, record.digest)
    session.show(
        _model_record(record, standing), lambda console: _render_model(console, record, standing)
    )


@models.command("verify")
def verify(context: typer.Context, name: Name) -> None:
    """Hash every file of a model again and check its manifest and signature."""
    from freehold.models.intake import verify_model

    session = session_of(context)
    with session.lab() as lab, session.progress("verifying") as on_progress:
        verified = verify_model(lab, name, on_progress=on_progress)
    facts = {
        "model": verified.record.name,
        "digest": verified.record.digest,
        "files": verified.files,
        "bytes": verified.size,
        "signed by": verified.signer,
    }
    session.show(facts, lambda console: print_facts(console, {"verified": "yes"} | facts))


@models.command("licence")
def licence(
    context: typer.Context,
    name: Name,
    licence: LicenceId = None,
    licence_file: LicenceFile = None,
    accept: Annotated[
        str | None, typer.Option("--sign-off", metavar="REASON", help="Accept the terms, as --as.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Sign the acceptance with this key.")] = None,
) -> None:
    """Show what a model's licence allows; state it, or sign it off by name."""
    from freehold.errors import InputError
    from freehold.models.intake import licence_of, sign_off, state_licence

    session = session_of(context)
    with session.lab() as lab:
        actor = session.acting(lab)
        statements = _statements(session.actor or actor, licence, licence_file)
        if statements:
            state_licence(lab, name, statements, actor=actor)
        if accept is not None:
            if session.actor is None:
                raise InputError(
                    "a sign-off is made by a named person", hint="Add --as NAME to the command."
                )
            sign_off(lab, name, session.actor, accept, key)
        standing = licence_of(lab, name)
    session.show(asdict(standing), lambda console: _render_licence(console, standing))


def _allow_fetching() -> None:
    # Offline is the default of our process; this command was asked to fetch. An explicit setting
    # of the user's still holds.
    import os

    os.environ.setdefault("HF_HUB_OFFLINE", "0")


def _statements(by: str, licence: str | None, file: Path | None) -> tuple[PersonalStatement, ...]:
    from freehold.models.licences import PersonalStatement

    stated = []
    if licence is not None:
        stated.append(PersonalStatement(by, identifier=licence))
    if file is not None:
        stated.append(PersonalStatement(by, text=(file.name, file.read_bytes())))
    return tuple(stated)


def _model_record(record: ModelRecord, standing: Standing) -> dict[str, Any]:
    return {
        "name": record.name,
        "digest": record.digest,
        "kind": record.kind,
        "form": record.form,
        "lineage": record.lineage,
        "lineage_text": record.lineage_text,
        "source": record.source,
        "revision": record.revision,
        "size": record.size,
        "description": dict(record.description),
        "edges": [asdict(edge) for edge in record.edges],
        "licence": asdict(standing),
    }


def _render_model(console: Console, record: ModelRecord, standing: Standing) -> None:
    console.print(f"[bold]{escape(record.name)}[/bold]  {record.digest}")
    print_facts(
        console,
        {
            "kind": f"{record.kind}, {record.form}",
            "lineage": record.lineage_text,
            "source": record.source,
            "size": f"{record.size / 1e6:.1f} MB",
            **{
                key: value
                for key, value in record.description.items()
                if isinstance(value, str | int)
            },
        },
    )
    for edge in record.edges:
        console.print(f"  {edge.relation} {escape(short(edge.parent))} ({edge.basis})")
    _render_licence(console, standing)


def _render_licence(console: Console, standing: Standing) -> None:
    console.print(f"  licence: [bold]{_verdict(standing)}[/bold] {standing.expression or ''}")
    for reason in standing.reasons:
        console.print(f"    why:  {escape(reason)}", soft_wrap=True)
    for duty in standing.duties:
        console.print(f"    duty: {escape(duty)}", soft_wrap=True)
    if standing.verdict == "needs_signoff" and standing.signed_off_by is None:
        console.print(
            "  Next: freehold --as NAME models licence MODEL --sign-off 'why these terms are fine'"
        )


def _verdict(standing: Standing) -> str:
    words = standing.verdict.replace("_", " ")
    return f"{words}, signed off" if standing.signed_off_by else words
