"""``datasets`` and ``suites``: frozen lists that train models, and frozen cases that judge them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli.render import print_facts, print_table, short
from freehold.cli.session import session_of

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.datasets.reading import DatasetDiff, DatasetSummary
    from freehold.datasets.suites import SuiteRecord

datasets = typer.Typer(no_args_is_help=True, help="Frozen datasets.")
suites = typer.Typer(no_args_is_help=True, help="Frozen cases that judge models.")
Reference = Annotated[str, typer.Argument(help="NAME (newest), NAME@NUMBER, or an id.")]
Task = Annotated[str, typer.Argument(help="A task of this lab.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.add_typer(datasets, name="datasets")
    app.add_typer(suites, name="suites")


@datasets.command("build")
def build(
    context: typer.Context,
    task: Task,
    name: Annotated[str, typer.Option(help="The dataset's name; default: the task's.")] = "",
    include: Annotated[
        list[str] | None,
        typer.Option(help="agreed, adjudicated, historical, mapped; default: all of them."),
    ] = None,
) -> None:
    """Freeze the settled labels of train and dev items; test items never come in."""
    from freehold.datasets.building import Terms, build_dataset
    from freehold.datasets.reading import show_dataset

    session = session_of(context)
    terms = Terms(include=tuple(include)) if include else Terms()
    with session.lab() as lab, session.progress("building") as on_progress:
        actor = session.acting(lab)
        record = build_dataset(
            lab, task, name=name or task, actor=actor, terms=terms, on_progress=on_progress
        )
        summary = show_dataset(lab, record.dataset_id)
    if not record.is_new:
        session.say(f"Nothing has changed since {record.label}: it is the same dataset.")
    session.show(_summary_record(summary), lambda console: _render_summary(console, summary))


@datasets.command("list")
def list_datasets_(context: typer.Context) -> None:
    """List the datasets of this lab."""
    from freehold.datasets.reading import list_datasets

    session = session_of(context)
    with session.lab() as lab:
        found = list_datasets(lab)
    session.show(
        [asdict(record) for record in found],
        lambda console: print_table(
            console,
            ("dataset", "task", "rows", "root", "built"),
            [(r.label, r.task, r.rows, short(r.root), r.created_at[:16]) for r in found],
            empty="No datasets yet. Build one: freehold datasets build TASK",
        ),
    )


@datasets.command("show")
def show(context: typer.Context, dataset: Reference) -> None:
    """Show what a dataset is made of, and what was left out and why."""
    from freehold.datasets.reading import show_dataset

    session = session_of(context)
    with session.lab() as lab:
        summary = show_dataset(lab, dataset)
    session.show(_summary_record(summary), lambda console: _render_summary(console, summary))


@datasets.command("diff")
def diff(context: typer.Context, before: Reference, after: Reference) -> None:
    """Show how one dataset differs from another, item by item."""
    from freehold.datasets.reading import diff_datasets

    session = session_of(context)
    with session.lab() as lab:
        changes = diff_datasets(lab, before, after)
    session.show(asdict(changes), lambda console: _render_diff(console, changes))


@datasets.command("export")
def export(
    context: typer.Context,
    dataset: Reference,
    directory: Annotated[Path, typer.Argument(help="Where to write Parquet and manifest.")],
    to: Annotated[str, typer.Option(help="Who receives it: a team or a system, no person.")],
) -> None:
    """Write a dataset as Parquet with its manifest; the ledger records that it left."""
    from freehold.datasets.rendering import export_dataset

    session = session_of(context)
    with session.lab() as lab:
        actor = session.acting(lab)
        done = export_dataset(lab, dataset, directory, recipient=to, actor=actor)
    session.show(asdict(done), lambda console: print_facts(console, asdict(done)))


@suites.command("freeze")
def freeze(
    context: typer.Context,
    task: Task,
    name: Annotated[str, typer.Option(help="The suite's name; default: TASK-test.")] = "",
    split: Annotated[str, typer.Option(help="test or dev")] = "test",
    require_all: Annotated[
        bool, typer.Option("--require-all", help="Refuse when any item lacks a gold label.")
    ] = False,
) -> None:
    """Freeze the gold labels of test items: the cases that judge models."""
    from freehold.datasets.suites import SuiteTerms, freeze_suite

    session = session_of(context)
    terms = SuiteTerms(split=split, require_all=require_all)
    with session.lab() as lab:
        actor = session.acting(lab)
        record = freeze_suite(lab, task, name=name or f"{task}-{split}", actor=actor, terms=terms)
    session.show(asdict(record), lambda console: _render_suite(console, record))


@suites.command("list")
def list_suites_(context: typer.Context) -> None:
    """List the suites of this lab."""
    from freehold.datasets.suites import list_suites

    session = session_of(context)
    with session.lab() as lab:
        found = list_suites(lab)
    session.show(
        [asdict(record) for record in found],
        lambda console: print_table(
            console,
            ("suite", "task", "cases", "blocks", "root"),
            [(r.label, r.task, r.cases, "yes" if r.blocks else "no", short(r.root)) for r in found],
            empty="No suites yet. Freeze one: freehold suites freeze TASK",
        ),
    )


@suites.command("leaks")
def leaks(context: typer.Context, dataset: Reference, suite: Reference) -> None:
    """Show which rows of a dataset touch a case of a suite, and how."""
    from freehold.datasets.leaks import leak_check
    from freehold.datasets.reading import get_dataset
    from freehold.datasets.suites import get_suite

    session = session_of(context)
    with session.lab() as lab:
        found = leak_check(
            lab, get_dataset(lab, dataset).dataset_id, get_suite(lab, suite).suite_id
        )
    facts: dict[str, Any] = {"rows": found.rows, "cases": found.cases, **found.counts}
    record = {**facts, "pairs": [asdict(pair) for pair in found.pairs]}
    session.show(record, lambda console: print_facts(console, facts))


def _summary_record(summary: DatasetSummary) -> dict[str, Any]:
    return asdict(summary)


def _render_summary(console: Console, summary: DatasetSummary) -> None:
    record = summary.record
    console.print(f"[bold]{record.label}[/bold]  {record.dataset_id}")
    print_facts(
        console,
        {
            "root": record.root,
            "rows": record.rows,
            "splits": _counts(summary.splits),
            "labels are": _counts(summary.bases),
            "left out": _counts(summary.left_out),
            "licences": _counts(summary.licences),
            "consent": _counts(summary.consent_bases),
            "erased since": summary.erased,
        },
    )


def _render_diff(console: Console, changes: DatasetDiff) -> None:
    if changes.is_empty:
        console.print(f"{changes.before.label} and {changes.after.label} hold the same rows.")
        return
    names = ("added", "removed", "relabelled", "supported_anew", "moved", "exclusions")
    print_facts(console, {name.replace("_", " "): len(getattr(changes, name)) for name in names})
    rows = [
        (name.replace("_", " "), change.item_id, change.before or "", change.after or "")
        for name in names
        for change in getattr(changes, name)
    ]
    print_table(console, ("change", "item", "before", "after"), rows[:50], empty="")
    if len(rows) > 50:
        console.print(f"… and {len(rows) - 50} more; --json lists all of them")


def _render_suite(console: Console, record: SuiteRecord) -> None:
    console.print(f"[bold]{record.label}[/bold]  {record.suite_id}")
    print_facts(console, {"cases": record.cases, "root": record.root, "blocks": record.blocks})
    left_out = record.manifest.get("left_out") or {}
    print_facts(
        console, {"left out": _counts(left_out) if isinstance(left_out, dict) else left_out}
    )
    console.print("No dataset will hold these cases. Next: freehold evaluate CANDIDATE --suite …")


def _counts(counts: Any) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
