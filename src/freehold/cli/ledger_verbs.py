"""``ledger``: check the log against the lab, show its head, let a witness cosign it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli.render import escape, print_facts
from freehold.cli.session import session_of

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.evidence.findings import Verification

ledger = typer.Typer(no_args_is_help=True, help="The ledger: verify, witness, prove.")


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.add_typer(ledger, name="ledger")


@ledger.command("verify")
def verify(context: typer.Context) -> None:
    """Re-derive everything: tree, signatures, tiles, every row, payload and object."""
    from freehold.evidence.verification import verify_lab

    session = session_of(context)
    with session.lab() as lab, session.progress("verifying") as on_progress:
        result = verify_lab(lab, on_progress=on_progress)
    record = asdict(result) | {"ok": result.ok}
    session.show(record, lambda console: _render(console, result))
    if not result.ok:
        from freehold.errors import IntegrityError

        raise typer.Exit(IntegrityError.exit_code)


@ledger.command("checkpoint")
def checkpoint(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option(help="Write the signed head to this file.")] = None,
) -> None:
    """Show the newest signed head of the log, with every witness's cosignature."""
    from freehold.errors import NotFound
    from freehold.evidence.sequencer import latest_checkpoint
    from freehold.evidence.witnessing import with_cosignatures
    from freehold.lab.atomic import write_atomically

    session = session_of(context)
    with session.lab() as lab:
        head = latest_checkpoint(lab)
        if head is None:
            raise NotFound("this ledger has no signed head yet")
        note = with_cosignatures(lab, head[1])
    if out is not None:
        write_atomically(out, note.encode())
    record = {"size": head[0].size, "root": head[0].root.hex(), "note": note}
    session.show(record, lambda console: console.print(note, markup=False, soft_wrap=True))


@ledger.command("witness")
def witness(
    context: typer.Context,
    directory: Annotated[
        Path, typer.Argument(help="The witness's folder: on a host or share of the auditor's.")
    ],
    new: Annotated[
        str | None, typer.Option("--new", metavar="NAME", help="Make a new witness there first.")
    ] = None,
) -> None:
    """Let a witness cosign the newest head; it refuses a fork and a rollback."""
    from freehold.evidence.witnessing import witness_head

    session = session_of(context)
    with session.lab() as lab:
        done = witness_head(lab, directory, new_name=new)
    facts: dict[str, Any] = {
        "entries": done.size,
        "seen before": done.previous,
        "witness": done.witness,
        "cosigned head": str(done.path),
    }
    session.show(facts, lambda console: print_facts(console, facts))


@ledger.command("rebuild")
def rebuild(context: typer.Context) -> None:
    """Make the files under ledger/ again from the database."""
    from freehold.evidence.sequencer import rebuild_files

    session = session_of(context)
    with session.lab() as lab:
        size = rebuild_files(lab)
    session.show({"size": size}, lambda console: console.print(f"{size} entries"))


def _render(console: Console, result: Verification) -> None:
    for name, count in result.checked.items():
        console.print(f"  {count:>9,}  {name}")
    for note in result.notes:
        console.print(f"  note: {escape(note)}")
    if result.ok:
        console.print("[bold green]State and evidence agree.[/bold green]")
        return
    for fault in result.faults[:20]:
        console.print(f"  [red]{escape(fault.where)}[/red]: {escape(fault.what)}", soft_wrap=True)
    more = result.fault_count - min(20, len(result.faults))
    if more:
        console.print(f"  … and {more} more; --json lists up to a thousand")
    console.print(f"[bold red]{result.fault_count} places disagree.[/bold red]")
