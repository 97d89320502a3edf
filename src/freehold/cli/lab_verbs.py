"""``init`` and ``status``: making a lab and seeing what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli.render import escape, print_facts
from freehold.cli.session import Session, session_of

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.lab import Lab
    from freehold.lab.doctor import Examination


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("init")(init)
    app.command("status")(status)
    app.command("doctor")(doctor)


def init(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="A new or empty directory.")],
    name: Annotated[str, typer.Option(help="What people call the lab.")] = "",
    database: Annotated[
        str, typer.Option(help="A PostgreSQL URL; without it the lab keeps a SQLite file.")
    ] = "",
) -> None:
    """Make a new lab."""
    from freehold.evidence.founding import found_lab
    from freehold.evidence.keys import log_verifier
    from freehold.registry.plans import write_default_plan

    session = session_of(context)
    with found_lab(directory, name=name, database=database) as lab:
        write_default_plan(lab)
        facts = {
            "lab": str(lab.root),
            "name": lab.settings.text("name"),
            "ledger key": log_verifier(lab).vkey(),
        }
    session.show(facts, lambda console: _welcome(console, facts))


def status(context: typer.Context) -> None:
    """Show what is in the lab and what waits to be done."""
    session = session_of(context)
    with session.lab() as lab:
        facts = lab_status(lab)
    session.show(facts, lambda console: _render_status(console, session, facts))


def doctor(
    context: typer.Context,
    mend: Annotated[bool, typer.Option("--fix", help="Do what is harmless; data is safe.")] = False,
) -> None:
    """Examine the lab: files, keys, database, space, leftovers; say what to do."""
    from dataclasses import asdict

    from freehold.errors import LabError
    from freehold.lab.doctor import examine, fix

    session = session_of(context)
    done = fix(session.directory) if mend else []
    found = examine(session.directory)
    record = {"state": found.state, "fixed": done, "checks": [asdict(c) for c in found.checks]}
    session.show(record, lambda console: _render_examination(console, found, done))
    if found.state == "fail":
        raise typer.Exit(LabError.exit_code)


def lab_status(lab: Lab) -> dict[str, Any]:
    """Return the counts and heads that `freehold status` shows."""
    from sqlalchemy import func, select

    from freehold.evidence.sequencer import latest_checkpoint, pending_count
    from freehold.lab import schema

    counted = {
        "models": schema.models,
        "items": schema.items,
        "decisions": schema.decisions,
        "reviews": schema.reviews,
        "labels": schema.labels,
        "datasets": schema.datasets,
        "runs": schema.runs,
        "suites": schema.suites,
        "evaluations": schema.evaluations,
        "verdicts": schema.verdicts,
        "releases": schema.releases,
    }
    with lab.reading() as connection:
        counts = {
            name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in counted.items()
        }
    head = latest_checkpoint(lab)
    return {
        "lab": str(lab.root),
        "name": lab.settings.text("name"),
        "tasks": sorted(path.stem for path in lab.layout.tasks.glob("*.toml")),
        "counts": counts,
        "ledger": {
            "size": head[0].size if head else 0,
            "root": head[0].root.hex() if head else None,
            "pending": pending_count(lab),
        },
    }


def _render_examination(console: Console, found: Examination, done: list[str]) -> None:
    for line in done:
        console.print(f"  [green]fixed[/green]  {escape(line)}")
    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    for check in found.checks:
        mark = f"[{colours[check.state]}]{check.state:<4}[/]"
        console.print(f"  {mark}  {escape(check.name)}: {escape(check.what)}", soft_wrap=True)
        if check.todo:
            console.print(f"        [dim]next[/dim]  {escape(check.todo)}", soft_wrap=True)


def _welcome(console: Console, facts: dict[str, str]) -> None:
    console.print(f"[bold]A new lab:[/bold] {escape(facts['name'])}")
    print_facts(console, facts)
    console.print(
        "\nKeep the ledger key somewhere else too: with it an auditor can check this lab's log."
        "\nNext: [bold]freehold models add REF[/bold], then write a task into tasks/.",
    )


def _render_status(console: Console, session: Session, facts: dict[str, Any]) -> None:
    console.print(f"[bold]{escape(facts['name'])}[/bold]  {escape(facts['lab'])}")
    print_facts(console, {"tasks": ", ".join(facts["tasks"]) or "none yet"} | facts["counts"])
    ledger = facts["ledger"]
    console.print(f"  ledger: {ledger['size']} entries, {ledger['pending']} pending")
    if not facts["tasks"]:
        console.print(f"\nNext: write {session.directory}/tasks/NAME.toml, or `freehold demo`.")
