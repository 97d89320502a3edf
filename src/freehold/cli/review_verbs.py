"""``review``: reviews in and out, the queue and agreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli.render import escape, print_bad_rows, print_facts, print_table
from freehold.cli.session import EntityColumn, SubjectColumn, session_of

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.review.figures import ReviewFigures
    from freehold.review.importing import ImportReport
    from freehold.review.queue import Offer

review = typer.Typer(no_args_is_help=True, help="Reviews, the queue and agreement.")
TaskName = Annotated[str, typer.Argument(help="A task of this lab.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.add_typer(review, name="review")


@review.command("import")
def import_(
    context: typer.Context,
    task: TaskName,
    file: Annotated[Path, typer.Argument(help="CSV, JSONL, Parquet, XLSX, Label Studio JSON.")],
    kind: Annotated[
        str | None,
        typer.Option(help="historical (past work), live (people reviewed) or answer_key."),
    ] = None,
    source: Annotated[str | None, typer.Option(help="Where the reviews come from.")] = None,
    reviewer: Annotated[str | None, typer.Option(help="Who gave reviews that name nobody.")] = None,
    blind: Annotated[
        bool, typer.Option("--blind", help="State that no model's answer was shown.")
    ] = False,
    text_column: Annotated[str | None, typer.Option(help="The column with the text.")] = None,
    label_column: Annotated[str | None, typer.Option(help="The column with the label.")] = None,
    id_column: Annotated[str | None, typer.Option(help="The column with the item's id.")] = None,
    entity_column: EntityColumn = None,
    subject_column: SubjectColumn = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="csv, jsonl, parquet, xlsx or label_studio.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad row.")] = False,
) -> None:
    """Take reviews in. Past work comes in as *historical*: it may train, it may not judge."""
    from freehold.review.importing import import_reviews
    from freehold.review.records import ImportOptions

    session = session_of(context)
    columns = {
        "text": text_column,
        "label": label_column,
        "id": id_column,
        "entity": entity_column,
        "subject": subject_column,
    }
    options = ImportOptions(
        kind=kind,
        source=source,
        reviewer=reviewer,
        blind=blind,
        strict=strict,
        columns={role: name for role, name in columns.items() if name},
        format=format_,
    )
    with session.lab() as lab, session.progress("importing reviews") as on_progress:
        actor = session.acting(lab)
        report = import_reviews(
            lab, task, file, actor=actor, options=options, on_progress=on_progress
        )
    session.show(asdict(report), lambda console: _render_import(console, report))


@review.command("export")
def export(
    context: typer.Context,
    task: TaskName,
    file: Annotated[Path, typer.Argument(help="Where to write; its ending names the format.")],
    to: Annotated[str, typer.Option(help="Who receives it; it stands in the ledger.")],
    history: Annotated[bool, typer.Option("--history", help="Superseded reviews as well.")] = False,
    format_: Annotated[
        str | None, typer.Option("--format", help="csv, jsonl, parquet, xlsx or label_studio.")
    ] = None,
) -> None:
    """Write the reviews of a task to a file; the ledger records what left, and to whom."""
    from freehold.review.exporting import export_reviews

    session = session_of(context)
    with session.lab() as lab:
        actor = session.acting(lab)
        done = export_reviews(
            lab, task, file, actor=actor, recipient=to, format=format_, history=history
        )
    session.show(asdict(done), lambda console: print_facts(console, asdict(done)))


@review.command("queue")
def queue(
    context: typer.Context,
    task: TaskName,
    count: Annotated[int, typer.Option("-n", help="How many items.")] = 50,
    split: Annotated[str, typer.Option(help="train, dev or test (test: drawn by lot)")] = "train",
    candidate: Annotated[
        list[str] | None, typer.Option(help="Whose answers say what is uncertain; one or two.")
    ] = None,
    show: Annotated[str | None, typer.Option(help="Whose answer reviewers see; never in test.")] = (
        None
    ),
    reviewers: Annotated[int | None, typer.Option(help="How many people get each item.")] = None,
) -> None:
    """Put waiting items into the queue: uncertain, disagreed, novel and at least 20 % by lot."""
    from freehold.review.queue import Filling, fill_queue
    from freehold.tasks.finding import find_candidate

    session = session_of(context)
    with session.lab() as lab:
        judging = tuple(find_candidate(lab, one).candidate_id for one in candidate or ())
        shown = find_candidate(lab, show).candidate_id if show else None
        filling = Filling(count, split, judging, shown, reviewers=reviewers)
        filled = fill_queue(lab, task, filling, actor=session.acting(lab))
    record = {**asdict(filled), "by_stream": dict(filled.by_stream)}
    facts = {**record, "by_stream": _counts(filled.by_stream)}
    session.show(record, lambda console: print_facts(console, facts))


@review.command("next")
def next_(
    context: typer.Context,
    task: TaskName,
    count: Annotated[int, typer.Option("-n", help="How many items.")] = 1,
) -> None:
    """Lease the next items to whoever asks (--as NAME) and show what they may see."""
    from freehold.review.queue import next_items

    session = session_of(context)
    with session.lab() as lab:
        offers = next_items(lab, task, session.acting(lab), n=count)
    session.show(
        [asdict(offer) for offer in offers],
        lambda console: _render_offers(console, task, offers),
    )


@review.command("submit")
def submit(
    context: typer.Context,
    task: TaskName,
    item: Annotated[str, typer.Argument(help="The item's id.")],
    verdict: Annotated[str, typer.Option(help="accept, correct, reject or skip")],
    value: Annotated[str | None, typer.Option(help="The label; several joined by '|'.")] = None,
    assignment: Annotated[str | None, typer.Option(help="The assignment it answers.")] = None,
    shown: Annotated[
        list[str] | None, typer.Option(help="A decision that was on the screen; repeatable.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why.")] = None,
    ruling: Annotated[
        bool, typer.Option("--adjudicate", help="Settle a dispute between reviewers.")
    ] = False,
) -> None:
    """Give one verdict, as the person named by --as."""
    from freehold.review.submission import Submission
    from freehold.review.submitting import adjudicate, submit_review
    from freehold.tasks.contract import load_task

    session = session_of(context)
    with session.lab() as lab:
        actor = session.acting(lab)
        loaded = load_task(lab, task)
        given = Submission(
            item,
            verdict,
            value,
            shown_decisions=tuple(shown or ()),
            reason=reason,
            assignment_id=assignment,
        )
        act = adjudicate if ruling else submit_review
        with lab.writing() as connection:
            review_id = act(lab, connection, loaded, given, actor=actor)
    session.show({"review_id": review_id}, lambda console: console.print(review_id))


@review.command("map")
def map_labels(
    context: typer.Context,
    task: TaskName,
    pair: Annotated[
        list[str] | None,
        typer.Argument(help="OLD=NEW to rename or merge; OLD= to review again (a split)."),
    ] = None,
) -> None:
    """Bring labels over to a changed set of options instead of orphaning them."""
    from freehold.errors import InputError
    from freehold.review.label_maps import apply_label_map

    session = session_of(context)
    mapping: dict[str, str | None] = {}
    for one in pair or ():
        old, equals, fresh = one.partition("=")
        if not equals:
            raise InputError(f"{one!r} is not OLD=NEW or OLD=")
        mapping[old] = fresh or None
    with session.lab() as lab, session.progress("mapping labels") as on_progress:
        actor = session.acting(lab)
        mapped = apply_label_map(lab, task, mapping, actor=actor, on_progress=on_progress)
    session.show(asdict(mapped), lambda console: print_facts(console, asdict(mapped)))


@review.command("stats")
def stats(
    context: typer.Context,
    task: TaskName,
    kind: Annotated[
        list[str] | None, typer.Option(help="From which kinds agreement is made; default: live.")
    ] = None,
) -> None:
    """Show counts, pace and agreement of a task's reviews."""
    from freehold.review.figures import review_stats

    session = session_of(context)
    with session.lab() as lab:
        figures = review_stats(lab, task, kinds=tuple(kind or ("live",)))
    session.show(_stats_record(figures), lambda console: _render_stats(console, figures))


def _render_offers(console: Console, task: str, offers: Sequence[Offer]) -> None:
    if not offers:
        console.print(f"Nothing waits in the queue. Fill it: freehold review queue {escape(task)}")
        return
    # The whole text and whole ids: who judges must see all of it, and an id is there to be copied.
    for offer in offers:
        console.print(f"[bold]{offer.item_id}[/bold]", soft_wrap=True)
        console.print(f"  {escape(offer.text)}", soft_wrap=True)
        for shown in offer.shown:
            answer = escape(str(shown.value))
            console.print(f"  [dim]answered[/dim]  {answer}  ({shown.decision_id})", soft_wrap=True)
    console.print(
        f"\nNext: freehold --as NAME review submit {escape(task)} ITEM --verdict correct --value "
        "LABEL (or --verdict accept for an answer that is shown)",
        soft_wrap=True,
    )


def _render_import(console: Console, report: ImportReport) -> None:
    console.print(
        f"[bold]{report.written}[/bold] reviews taken in of {report.rows} rows "
        f"({report.unchanged} were there already)"
    )
    print_facts(
        console,
        {
            "source": report.source,
            "new items": report.items_added,
            "labels settled": report.settled.settled,
            "in dispute": report.settled.disputed,
            "bad rows": len(report.faults),
        },
    )
    for note in report.notes:
        console.print(f"  note: {escape(note)}")
    print_bad_rows(console, report.faults)


def _render_stats(console: Console, figures: ReviewFigures) -> None:
    print_facts(
        console,
        {
            "reviews": figures.reviews,
            "by kind": _counts(figures.by_kind),
            "by verdict": _counts(figures.by_verdict),
            "labels": _counts(figures.labels),
            "gold": f"{figures.gold} ({figures.contaminated} contaminated)",
            "queue": _counts(figures.queue),
            "Krippendorff's alpha": _agreement(figures.alpha),
            "percent agreement": _agreement(figures.percent),
        },
    )
    print_table(
        console,
        ("reviewer", "reviews", "agreement with others"),
        [
            (
                name,
                count,
                _agreement(figures.per_reviewer[name]) if name in figures.per_reviewer else "",
            )
            for name, count in figures.by_reviewer.items()
        ],
        empty="No reviews yet. Import some, or fill the queue: freehold review queue TASK",
    )


def _stats_record(figures: ReviewFigures) -> dict[str, Any]:
    record = {name: getattr(figures, name) for name in figures.__dataclass_fields__}
    pairs = {" / ".join(pair): asdict(value) for pair, value in figures.per_pair.items()}
    per = {
        name: {key: asdict(value) for key, value in record[name].items()}
        for name in ("per_reviewer", "per_label")
    }
    whole = {name: asdict(record[name]) for name in ("alpha", "percent")}
    return {**record, "per_pair": pairs, **per, **whole}


def _counts(counts: Any) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _agreement(agreement: Any) -> str:
    return "not defined" if agreement.value is None else f"{float(agreement.value):.3f}"
