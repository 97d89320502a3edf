"""How things look in the terminal: tables, facts and errors. No logic, no access to a lab."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from freehold.errors import FreeholdError

if TYPE_CHECKING:
    from rich.console import Console


def print_table(
    console: Console, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str
) -> None:
    """Print rows as a table, or the sentence that says what to do when there are none.

    Cells come as they are: a person's text in brackets is text and no markup.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    lines = [["" if cell is None else escape(str(cell)) for cell in row] for row in rows]
    if not lines:
        console.print(empty)
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold")
    for line in lines:
        table.add_row(*line)
    console.print(table)


def print_facts(console: Console, facts: Mapping[str, Any], *, indent: int = 2) -> None:
    """Print names and values in two columns."""
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        text = "" if value is None else str(value)
        console.print(f"{' ' * indent}[dim]{name:<{width}}[/dim]  {escape(text)}", soft_wrap=True)


def print_error(error: FreeholdError, *, as_json: bool) -> None:
    """Print an error on standard error: what happened, where, and what to do next."""
    if as_json:
        sys.stderr.write(json.dumps(error.as_json(), ensure_ascii=False, default=str) + "\n")
        return
    from freehold.cli.session import console

    out = console(error=True)
    out.print(f"[bold red]error[/bold red] ({error.code}): {escape(error.message)}", soft_wrap=True)
    for name, value in error.where.items():
        if str(value) not in error.message:
            out.print(f"  [dim]{name}[/dim]  {escape(str(value))}", soft_wrap=True)
    if error.hint:
        out.print(f"  [dim]next[/dim]  {escape(error.hint)}", soft_wrap=True)


def escape(text: str) -> str:
    """Return text in which the console sees no markup and no control characters."""
    from rich.markup import escape as escape_markup

    return escape_markup("".join(c if c.isprintable() or c in "\n\t" else "�" for c in text))


def short(digest: str, digits: int = 12) -> str:
    """Return a digest or id short enough for a table."""
    head, colon, tail = digest.rpartition(":")
    return f"{head}{colon}{tail[:digits]}" if colon else digest


def print_bad_rows(console: Console, rows: Sequence[Any], *, most: int = 10) -> None:
    """Print rows that could not be used, each by line and field; the rest are counted."""
    for row in rows[:most]:
        field = f", {row.field}" if row.field else ""
        console.print(f"  [yellow]line {row.line}{field}[/yellow]: {escape(row.reason)}")
    if len(rows) > most:
        console.print(f"  … and {len(rows) - most} more; --json lists all of them")
