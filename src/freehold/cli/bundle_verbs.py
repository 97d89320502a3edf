"""``freehold bundle`` and ``freehold verify``: leaving with everything, and checking what came."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli.render import escape, print_facts
from freehold.cli.session import session_of

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.bundle.creating import BundleRecord
    from freehold.bundle.restoring import RestoreRecord
    from freehold.bundle.verifying import BundleCheck
    from freehold.evidence.notes import Verifier

bundle = typer.Typer(no_args_is_help=True, help="Leave with everything, check it, restore it.")

Trust = Annotated[
    list[str] | None,
    typer.Option("--trust", help="A verifier key that you have from elsewhere; repeatable."),
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.add_typer(bundle, name="bundle")
    app.command("verify")(verify)


@bundle.command("create")
def create(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="A new folder for the bundle.")],
    task: Annotated[
        str | None, typer.Option(help="Only this task; such a bundle cannot be restored.")
    ] = None,
    release: Annotated[
        str | None, typer.Option(help="Whose decisions get receipts; default: what serves now.")
    ] = None,
    without_payloads: Annotated[
        bool, typer.Option("--without-payloads", help="Leave out texts, answers and names.")
    ] = False,
) -> None:
    """Write weights, data, harness, settings and evidence into one folder."""
    from freehold.bundle.creating import create_bundle

    session = session_of(context)
    with session.lab() as lab, session.progress("writing the bundle") as progress:
        made = create_bundle(
            lab,
            directory,
            actor=session.acting(lab),
            task=task,
            release=release,
            payloads=not without_payloads,
            on_progress=progress,
        )
    facts = {
        "bundle": str(made.path),
        "manifest": made.digest,
        "export": made.export_id,
        "files": made.files,
        "bytes": made.size,
        "seconds": f"{made.seconds:.1f}",
        **made.facts,
        "missing": made.missing,
    }
    session.show(facts, lambda console: _created(console, made))


@bundle.command("verify")
def verify_one(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    trust: Trust = None,
) -> None:
    """Check a bundle from a stranger: files, signatures, ledger, data, models, tables."""
    _verify_bundle(context, directory, trust or [])


@bundle.command("restore")
def restore(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    new_lab: Annotated[Path, typer.Argument(help="A new folder for the lab.")],
    database: Annotated[
        str, typer.Option(help="A PostgreSQL URL of an empty database; default: a SQLite file.")
    ] = "",
    trust: Trust = None,
) -> None:
    """Make a working lab of a bundle, with a log and keys of its own."""
    from freehold.bundle.restoring import restore_bundle

    session = session_of(context)
    with session.progress("restoring") as progress:
        made = restore_bundle(
            directory, new_lab, database=database, trust=trust or [], on_progress=progress
        )
    facts = {
        "lab": str(made.path),
        "origin": made.origin,
        "ledger key": made.vkey,
        "restored from": made.previous_origin,
        "rows": made.rows,
        "seconds": f"{made.seconds:.1f}",
        "absent": made.absent,
    }
    session.show(facts, lambda console: _restored(console, made))


def verify(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A receipt (a file) or a bundle (a folder).")],
    trust: Trust = None,
    witnesses: Annotated[
        int, typer.Option(help="How many trusted witnesses must have cosigned a receipt.")
    ] = 0,
) -> None:
    """Check a receipt or a bundle that somebody gave you. Needs no lab."""
    if file.is_dir():
        _verify_bundle(context, file, trust or [])
    else:
        _verify_receipt(context, file, trust or [], witnesses)


def _verify_bundle(context: typer.Context, directory: Path, trust: list[str]) -> None:
    from freehold.bundle.verifying import verify_bundle
    from freehold.errors import IntegrityError

    session = session_of(context)
    found = verify_bundle(directory, trust=trust)
    lines = [
        {"status": one.status, "what": one.what, "detail": one.detail, "file": one.file}
        for one in found.lines
    ]
    session.show({"ok": found.ok, "results": lines}, lambda console: _checked(console, found))
    if not found.ok:
        raise typer.Exit(IntegrityError.exit_code)


def _verify_receipt(context: typer.Context, file: Path, trust: list[str], witnesses: int) -> None:
    from freehold.errors import NotFound
    from freehold.evidence.notes import Verifier
    from freehold.evidence.proofs import verify_receipt

    session = session_of(context)
    if not file.is_file():
        raise NotFound(f"no file {file}", hint="Name a receipt, or the folder of a bundle.")
    given = [Verifier.parse(text) for text in trust]
    keys, source = (given, "given by you") if given else _keys_beside(file, session.directory)
    found = verify_receipt(file.read_bytes(), keys, witnesses=witnesses)
    facts = {
        "ok": True,
        "entry": found.entry.get("entry_id"),
        "kind": found.entry.get("kind"),
        "at": found.entry.get("at"),
        "log": found.checkpoint.origin,
        "index": found.index,
        "log size": found.checkpoint.size,
        "key": source,
        "witnesses": [one.name for one in found.cosignatures],
        "opened": [one.data.decode("utf-8", "replace") for one in found.opened],
    }
    session.show(facts, lambda console: _proved(console, facts))


def _keys_beside(file: Path, lab: Path) -> tuple[list[Verifier], str]:
    """Return the log's key from the bundle that holds the receipt, else from the lab."""
    from freehold.errors import InputError
    from freehold.evidence.notes import Verifier

    beside = "taken from the bundle itself; compare it with one from elsewhere"
    places = [(folder, beside) for folder in file.absolute().parents[1:2]]
    places.append((lab.absolute(), "the key of this lab"))
    for folder, said in places:
        path = folder / "keys" / "log.vkey"
        if path.is_file():
            return [Verifier.parse(path.read_text(encoding="utf-8"))], said
    raise InputError(
        "a receipt is checked against the log's key, and there is none",
        hint="Give the key that you have from the operator or a witness: --trust VKEY.",
    )


def _created(console: Console, made: BundleRecord) -> None:
    console.print(f"[bold]A bundle:[/bold] {escape(str(made.path))}", soft_wrap=True)
    size = f"{made.size / 1e6:,.1f} MB in {made.files} files, {made.seconds:.1f} s"
    print_facts(console, {"size": size, "manifest": made.digest} | made.facts)
    for what, why in made.missing.items():
        console.print(f"  not in it: {escape(what)}: {escape(why)}", soft_wrap=True)
    console.print(f"\nCheck it anywhere: [bold]python {escape(str(made.path))}/verify.py[/bold]")


def _restored(console: Console, made: RestoreRecord) -> None:
    console.print(f"[bold]A lab again:[/bold] {escape(str(made.path))}", soft_wrap=True)
    print_facts(
        console,
        {
            "ledger key": made.vkey,
            "restored from": made.previous_origin,
            "rows": made.rows,
            "seconds": f"{made.seconds:.1f}",
        },
    )
    for what, why in made.absent.items():
        console.print(f"  not there: {escape(what)}: {escape(why)}", soft_wrap=True)
    console.print("\nThe log and its key are new; its first entry commits to the old one.")


def _checked(console: Console, found: BundleCheck) -> None:
    styles = {"ok": "green", "FAIL": "bold red"}
    for one in found.lines:
        style = styles.get(one.status, "dim")
        place = f"{one.file}: " if one.file else ""
        text = f"{escape(one.what)}: {escape(place)}{escape(one.detail)}"
        console.print(f"[{style}]{one.status:<6}[/{style}] {text}", soft_wrap=True)
    good, bad = "[green]everything holds[/green]", "[bold red]it does not hold[/bold red]"
    console.print(good if found.ok else bad)


def _proved(console: Console, facts: dict[str, Any]) -> None:
    console.print("[green]the receipt holds[/green]")
    shown = {key: value for key, value in facts.items() if key not in ("ok", "opened")}
    print_facts(console, shown | {"witnesses": ", ".join(facts["witnesses"]) or "none"})
    for text in facts["opened"]:
        console.print(f"  opened: {escape(text)}", soft_wrap=True)
