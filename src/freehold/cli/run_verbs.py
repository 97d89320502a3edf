"""``tasks`` and ``run``: what is asked, and asking it of a file of items."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli.render import escape, print_bad_rows, print_facts, print_table, short
from freehold.cli.session import EntityColumn, SubjectColumn, session_of

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.workflows.run import RunReport

tasks = typer.Typer(no_args_is_help=True, help="Tasks: contracts and their wording.")


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.add_typer(tasks, name="tasks")
    app.command("run")(run)


@tasks.command("list")
def list_all(context: typer.Context) -> None:
    """List the tasks of this lab."""
    from freehold.tasks.contract import list_tasks, load_task

    session = session_of(context)
    with session.lab() as lab:
        found = [load_task(lab, name) for name in list_tasks(lab)]
    rows = [_task_record(task) for task in found]
    session.show(
        rows,
        lambda console: print_table(
            console,
            ("task", "output", "options", "contract", "wording"),
            [
                (
                    r["task"],
                    r["output"],
                    len(r["options"]),
                    short(r["contract"]),
                    short(r["wording"]),
                )
                for r in rows
            ],
            empty="No tasks yet. Make one: freehold tasks new NAME --label A --label B",
        ),
    )


@tasks.command("check")
def check(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A task of this lab.")],
) -> None:
    """Read a task's file and say what it asks; an unknown key is an error."""
    from freehold.tasks.contract import load_task

    session = session_of(context)
    with session.lab() as lab:
        record = _task_record(load_task(lab, name))
    facts = {**record, "options": ", ".join(record["options"])}
    session.show(record, lambda console: print_facts(console, facts))


@tasks.command("new")
def new(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The task's name: letters, digits, - and _.")],
    label: Annotated[
        list[str] | None, typer.Option(help="One option; repeatable. Or --labels-from a file.")
    ] = None,
    labels_from: Annotated[
        Path | None, typer.Option(help="A file of past work: its labels become the options.")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="The column of --labels-from with the label.")
    ] = None,
    several: Annotated[
        bool, typer.Option("--several", help="Any number of labels per item, not exactly one.")
    ] = False,
) -> None:
    """Write tasks/NAME.toml from a list of labels; then write its wording by hand."""
    from freehold.errors import InputError
    from freehold.records.spaces import Choice, Labels
    from freehold.tasks.contract import task_path, write_task

    session = session_of(context)
    options = list(label or ())
    if labels_from is not None:
        options += [one for one in _labels_in(labels_from, label_column) if one not in options]
    if len(options) < 2:
        raise InputError(
            "a task needs two options or more", hint="Give --label twice, or --labels-from FILE."
        )
    space = Labels(tuple(options)) if several else Choice(tuple(options))
    with session.lab() as lab:
        task = write_task(lab, name, space)
        path = task_path(lab, name)
    record = {**_task_record(task), "file": str(path)}
    session.show(
        record,
        lambda console: console.print(
            f"Wrote {escape(str(path))} with {len(options)} options.\n"
            "Next: write what each option means under \\[wording.options]; it is what a model "
            "goes by before any review exists.",
        ),
    )


def run(
    context: typer.Context,
    task: Annotated[str, typer.Argument(help="A task of this lab.")],
    file: Annotated[Path, typer.Option("--input", help="CSV, JSONL, Parquet or XLSX.")],
    model: Annotated[str | None, typer.Option(help="Try a model of this lab (a trial).")] = None,
    candidate: Annotated[
        str | None, typer.Option(help="Try a candidate: its name or id (a trial).")
    ] = None,
    release: Annotated[
        str | None, typer.Option(help="A release; default: the current one.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write the answers to this file.")] = None,
    text_column: Annotated[str | None, typer.Option(help="The column with the text.")] = None,
    id_column: Annotated[str | None, typer.Option(help="The column with the item's id.")] = None,
    entity_column: EntityColumn = None,
    subject_column: SubjectColumn = None,
    source: Annotated[str | None, typer.Option(help="Where the items come from.")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="csv, jsonl, parquet or xlsx.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad row.")] = False,
) -> None:
    """Run a task over a file. Interrupted, run the same command again: it goes on."""
    from freehold.tasks.finding import find_candidate
    from freehold.workflows.rows import IngestOptions
    from freehold.workflows.run import RunOptions, run_task

    session = session_of(context)
    columns = {
        "text": text_column,
        "id": id_column,
        "entity": entity_column,
        "subject": subject_column,
    }
    rows = IngestOptions(
        columns={role: name for role, name in columns.items() if name},
        source=source,
        strict=strict,
    )
    with session.lab() as lab, session.progress(f"running {task}") as on_progress:
        options = RunOptions(
            model=model,
            candidate=find_candidate(lab, candidate).candidate_id if candidate else None,
            release=release,
            rows=rows,
            output=output,
            format=format_,
        )
        actor = session.acting(lab)
        report = run_task(lab, task, file, actor=actor, options=options, on_progress=on_progress)
    session.show(asdict(report), lambda console: _render_report(console, report))


def _render_report(console: Console, report: RunReport) -> None:
    rate = report.answered / report.seconds if report.seconds else 0.0
    console.print(
        f"[bold]{report.answered}[/bold] answered in {report.seconds:.1f} s "
        f"({rate:.0f} a second), {report.already} were answered before"
    )
    print_facts(
        console,
        {
            "items": f"{report.items} ({report.added} new)",
            "failed": report.failed,
            "refused": report.refused,
            "bad rows": len(report.bad_rows),
            "candidate": report.candidate_id,
            "probabilities": "calibrated" if report.calibrated else "not calibrated",
            "output": report.output,
        },
    )
    for note in report.notes:
        console.print(f"  note: {escape(note)}")
    print_bad_rows(console, report.bad_rows)


def _task_record(task: Any) -> dict[str, Any]:
    return {
        "task": task.name,
        "output": task.space.kind,
        "options": list(task.space.options),
        "contract": task.contract_digest,
        "wording": task.wording_digest,
    }


def _labels_in(path: Path, named: str | None) -> list[str]:
    from freehold.tabular import SYNONYMS, Row, find_columns, open_table

    table = open_table(path)
    chosen = {"label": named} if named else {}
    column = find_columns(table, {"label": SYNONYMS["label"]}, chosen)["label"]
    seen = {str(row.values.get(column) or "") for row in table if isinstance(row, Row)}
    return sorted(seen - {""})
