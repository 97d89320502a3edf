"""``assess``: is there anything to gain, answered from a spreadsheet of past work."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli.render import escape, print_table
from freehold.cli.session import session_of
from freehold.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.evaluation.metrics import Figure
    from freehold.experiments.assessment import Assessment
    from freehold.experiments.curve import Curve
    from freehold.experiments.keeping import Kept

_Column = Annotated[str | None, typer.Option(metavar="NAME", help="Where its name does not tell.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("assess")(assess)


def assess(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Past work: CSV, JSONL, Parquet or XLSX.")],
    text_column: _Column = None,
    label_column: _Column = None,
    incumbent_column: _Column = None,
    entity_column: _Column = None,
    split_column: _Column = None,
    date_column: _Column = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE", help="Leave a column aside, such as split or incumbent."),
    ] = None,
    by_time: Annotated[bool, typer.Option("--by-time", help="The latest rows judge.")] = False,
    folds: Annotated[
        bool, typer.Option("--folds", help="Judge every row, even where the file gives a split.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(metavar="REF", help="An encoder's folder or reference, or 'none'.")
    ] = None,
    margin: Annotated[str, typer.Option(help="How much worse still counts as not worse.")] = "0.02",
    rows: Annotated[int, typer.Option(min=50, help="Of a larger file, take a sample.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other folds.")] = 0,
    lab: Annotated[
        Path | None, typer.Option("--lab", metavar="DIR", help="Keep the work as a lab, too.")
    ] = None,
) -> None:
    """Say whether past work can teach a model that is worth having; no lab is needed."""
    from freehold.experiments.assess import Options
    from freehold.experiments.assess import assess as assess_table
    from freehold.experiments.keeping import check_place, keep
    from freehold.experiments.past_work import Limits
    from freehold.tabular import open_table

    session = session_of(context)
    if by_time and folds:
        raise InputError("--by-time and --folds are two different rules: give one of them")
    options = Options(
        columns={
            "text": text_column,
            "label": label_column,
            "incumbent": incumbent_column,
            "entity": entity_column,
            "split": split_column,
            "date": date_column,
        },
        ignore=tuple(ignore or ()),
        rule="time" if by_time else "folds" if folds else None,
        model=model,
        margin=_share(margin),
        limits=Limits(rows=rows),
        seed=seed,
    )
    if lab is not None:
        check_place(lab, options.ignore)
    with session.progress(f"assessing {file.name}") as on_progress:
        found = assess_table(open_table(file), options, on_progress)
    kept = None
    if lab is not None:
        with session.progress(f"keeping {file.name}") as on_progress:
            kept = keep(found, file, lab, actor=session.actor, on_progress=on_progress)
    record = {**found.as_record(), "kept": kept.as_record() if kept else None}
    session.show(record, lambda console: render_assessment(console, found, kept))


def render_assessment(console: Console, found: Assessment, kept: Kept | None = None) -> None:
    """Print an assessment on one screen: what was read, figures, comparison, curve, advice."""
    _render_work(console, found)
    _render_arms(console, found)
    _render_against(console, found)
    _render_curve(console, found.curve)
    for skipped in found.skipped:
        console.print(f"[dim]Not run: {', '.join(skipped.arms)}; {escape(skipped.why)}.[/dim]")
        console.print(f"[dim]  next  {escape(skipped.how)}[/dim]")
    advice = f"{found.advice[:1].upper()}{found.advice[1:]}."
    console.print(f"[bold]{advice}[/bold] {escape(' '.join(found.because))}")
    if kept is not None:
        console.print(
            f"Kept in {escape(kept.lab)}: task {escape(kept.task)}, {kept.items:,} items, "
            f"{kept.reviews:,} historical reviews, {kept.refused:,} rows refused."
        )


def _render_work(console: Console, found: Assessment) -> None:
    work = found.work
    sample = f", a sample of {work.sampled_from:,}" if work.sampled_from else ""
    console.print(
        f"[bold]{escape(work.file)}[/bold]  {work.read:,} rows read, {len(work.cases):,} used"
        f"{sample}; {len(work.labels)} labels"
    )
    columns = (f"{role} = {name}" if role != name else name for role, name in work.columns.items())
    console.print(f"  [dim]columns[/dim]   {escape(', '.join(columns))}")
    lost = [f"{n:,} {reason}" for reason, n in {**work.dropped, **found.left_out}.items()]
    if lost:
        console.print(f"  [dim]left out[/dim]  {escape(', '.join(lost))}")
    console.print(f"  [dim]judged[/dim]    {escape(found.split)}")
    if found.encoder:
        console.print(f"  [dim]encoder[/dim]   {escape(found.encoder)}")
    for note in work.notes:
        console.print(f"  [dim]note[/dim]      {escape(note)}")


def _render_arms(console: Console, found: Assessment) -> None:
    arms = [*([found.incumbent] if found.incumbent else []), *found.arms]
    rows = [
        (arm.name, _value(arm.accuracy), _bounds(arm.accuracy), _value(arm.macro_f1),
         _bounds(arm.macro_f1), f"{arm.accuracy.n:,}")
        for arm in arms
    ]  # fmt: skip
    columns = ("measured, %", "accuracy", "95 % interval", "macro-F1", "95 % interval", "rows")
    print_table(console, columns, rows, empty="")


def _render_against(console: Console, found: Assessment) -> None:
    from freehold.experiments.advice import points

    rows = []
    for one in found.against:
        bounds = one.difference.interval
        rows.append(
            (
                one.arm,
                points(one.difference.estimate, sign=True),
                f"{points(bounds.low, sign=True)} to {points(bounds.high, sign=True)}",
                f"{one.wins:,} / {one.ties:,} / {one.losses:,}",
                one.outcome,
            )
        )
    looks = found.against[0].looks
    interval = "95 % interval" if looks == 1 else f"95 % over {looks} arms"
    columns = (
        f"against {found.against[0].rival}",
        "points",
        interval,
        "win / tie / loss",
        "so it is",
    )
    print_table(console, columns, rows, empty="")


def _render_curve(console: Console, curve: Curve) -> None:
    from freehold.experiments.advice import points
    from freehold.experiments.curve import NEXT

    columns = ["reviews", *(f"{point.size:,}" for point in curve.points)]
    rows = [
        [curve.arm, *(_value(point.accuracy) for point in curve.points)],
        ["95 % interval", *(_bounds(point.accuracy) for point in curve.points)],
    ]
    print_table(console, columns, rows, empty="")
    if curve.line is None:
        console.print("Too few sizes for a line: what more reviews would bring is not known.\n")
        return
    line = curve.line
    half = (line.interval.high - line.interval.low) / 2
    per_doubling = half * line.doubling / line.next_gain if line.next_gain else 0.0
    console.print(
        f"The next {NEXT} reviews are worth about {points(line.next_gain, sign=True, digits=2)} ± "
        f"{points(half, digits=2)} points, twice as many reviews {points(line.doubling, sign=True)}"
        f" ± {points(per_doubling)}: [bold]{line.verdict}[/bold]\n[dim](estimated by a line through"
        f" the last {line.points} sizes; a curve that bends brings less)[/dim]\n"
    )


def _value(figure: Figure) -> str:
    from freehold.experiments.advice import points

    return "" if figure.value is None else points(figure.value)


def _bounds(figure: Figure) -> str:
    from freehold.experiments.advice import points

    if figure.low is None or figure.high is None:
        return ""
    return f"{points(figure.low)}–{points(figure.high)}"


def _share(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise InputError(f"--margin is a share such as 0.02, got {text!r}") from None
