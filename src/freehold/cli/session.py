"""What every command shares: which lab, who acts, and how results are shown."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.errors import FreeholdError

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.lab import Lab

OnProgress = Callable[[int, int], None]
EntityColumn = Annotated[
    str | None,
    typer.Option(help="The column with the customer or case; all its items share one split."),
]
SubjectColumn = Annotated[
    str | None, typer.Option(help="The column with the person whom `freehold erase` can erase.")
]


@dataclass(frozen=True, slots=True)
class Session:
    """One invocation: the lab's directory, the name of who acts, and whether to speak JSON."""

    directory: Path
    actor: str | None
    as_json: bool

    @contextmanager
    def lab(self) -> Iterator[Lab]:
        """Open the lab, and publish what the command added to the ledger when it is done."""
        from freehold.evidence.sequencer import publish
        from freehold.lab import open_lab

        with open_lab(self.directory) as lab:
            yield lab
            if os.access(lab.layout.ledger, os.W_OK):
                publish(lab)

    def acting(self, lab: Lab) -> str:
        """Return the pseudonym of whoever gives this command."""
        from freehold.evidence.people import acting_person

        with lab.writing() as connection:
            return acting_person(lab, connection, self.actor).principal_id

    def show(self, result: Any, render: Callable[[Console], None] | None = None) -> None:
        """Print a result: one JSON document, or what `render` writes for a person."""
        if self.as_json or render is None:
            sys.stdout.write(json.dumps(result, ensure_ascii=False, indent=2, default=str) + "\n")
        else:
            render(console())

    def say(self, text: str) -> None:
        """Print a line for a person, on standard error: standard output stays whole JSON."""
        if not self.as_json:
            console(error=True).print(text, highlight=False)

    @contextmanager
    def progress(self, what: str) -> Iterator[OnProgress]:
        """Show a bar with an estimate on standard error; a quiet one where nobody watches."""
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        bar_console = console(error=True)
        quiet = self.as_json or not bar_console.is_terminal
        with Progress(*columns, console=bar_console, disable=quiet, transient=True) as progress:
            task = progress.add_task(what, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total or None)


def session_of(context: typer.Context) -> Session:
    """Return the session that the command line made before the command ran."""
    session = context.obj
    if not isinstance(session, Session):
        raise FreeholdError("the command ran without a session")
    return session


def console(*, error: bool = False) -> Console:
    """Return a console for people; no colour where the output goes to a file."""
    from rich.console import Console

    return Console(stderr=error, highlight=False, soft_wrap=False)
