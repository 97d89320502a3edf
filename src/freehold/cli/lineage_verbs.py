"""``trace``, ``erase``, ``replay`` and ``ledger prove``: from one id to everything it touches."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli.ledger_verbs import ledger
from freehold.cli.render import escape, print_facts, short
from freehold.cli.session import session_of

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.lineage.erasing import ErasureReport
    from freehold.lineage.tracing import Node


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    ledger.command("prove")(prove)
    app.command("trace")(trace)
    app.command("replay")(replay)
    app.command("erase")(erase)


def prove(
    context: typer.Context,
    record: Annotated[str, typer.Argument(help="The id of a decision, release, dataset, model…")],
    out: Annotated[Path, typer.Option(help="Where the receipt goes.")] = Path("receipt.json"),
    show: Annotated[
        bool, typer.Option("--show", help="Put the content itself into the receipt, with its salt.")
    ] = False,
) -> None:
    """Write a receipt: an outsider checks it offline with `freehold verify` or verify.py."""
    from freehold.lab.atomic import write_atomically
    from freehold.lineage.proving import prove as prove_record

    session = session_of(context)
    with session.lab() as lab:
        proved = prove_record(lab, record, show=show)
    write_atomically(out, proved.document)
    facts = {
        "record": f"{proved.table} {proved.key}",
        "entry": f"{proved.entry_id}, {proved.index} of {proved.size}",
        "content shown": "yes" if proved.shown else "no: a commitment to it",
        "receipt": str(out),
    }
    session.show(facts, lambda console: print_facts(console, facts))


def trace(
    context: typer.Context,
    record: Annotated[
        str, typer.Argument(help="Any id: decision, item, review, dataset, run, model, release …")
    ],
    most: Annotated[int, typer.Option(help="How many of a kind are shown.")] = 8,
) -> None:
    """Show what a record came from, and what came of it: in both directions, to the end."""
    from freehold.lineage.tracing import trace as trace_record

    session = session_of(context)
    with session.lab() as lab:
        found = trace_record(lab, record, most=most)

    def render(console: Console) -> None:
        console.print("[bold]came from[/bold]")
        _render_node(console, found.origins, 1)
        console.print("[bold]led to[/bold]")
        _render_node(console, found.results, 1)

    session.show(found.record(), render)


def replay(
    context: typer.Context, decision: Annotated[str, typer.Argument(help="A decision's id.")]
) -> None:
    """Decide again with the very candidate that decided, and compare."""
    from freehold.lineage.replaying import replay as replay_decision

    session = session_of(context)
    with session.lab() as lab:
        again = replay_decision(lab, decision)
    facts: dict[str, Any] = {
        "decision": again.decision_id,
        "then": again.value_then,
        "now": again.value,
        "largest difference": f"{again.max_difference_ppb} ppb ({again.tolerance_ppb} allowed)",
        "bit-equal": "yes" if again.bit_equal else "no",
        "same question": again.same_prompt,
        "computed otherwise": again.execution or "no",
        "drift": ", ".join(again.drift) or "none",
    }
    session.show(
        {**asdict(again), "equal_value": again.equal_value},
        lambda console: print_facts(console, facts),
    )


def erase(
    context: typer.Context,
    subject: Annotated[
        str | None, typer.Argument(help="The person whose items are to be erased.")
    ] = None,
    item: Annotated[list[str] | None, typer.Option(help="An item's id; repeatable.")] = None,
    reason: Annotated[str, typer.Option(help="A rule or a ticket number; no name.")] = "",
    plan: Annotated[bool, typer.Option("--plan", help="Say what would go, and stop.")] = False,
) -> None:
    """Erase every item of a person: texts, labels, salts, renderings. The log still verifies."""
    from freehold.errors import InputError
    from freehold.lineage.erasing import erase as erase_items

    session = session_of(context)
    if not plan and not reason:
        raise InputError("an erasure needs a reason", hint='Add --reason "ticket 4711".')
    if subject is None and not item:
        raise InputError("name a person, or items with --item ID")
    with session.lab() as lab:
        report = erase_items(
            lab,
            subject=subject,
            item_ids=tuple(item or ()),
            reason=reason or "plan",
            actor=session.acting(lab),
            plan_only=plan,
        )
    session.show(asdict(report), lambda console: _render_erasure(console, report))


def _render_node(console: Console, node: Node, depth: int) -> None:
    facts = ", ".join(f"{name} {value}" for name, value in node.facts.items() if value)
    relation = f"{node.relation}: " if node.relation else ""
    again = " (see above)" if node.repeated else ""
    line = f"{'  ' * depth}{relation}{node.kind} {short(node.id)}{again}  {facts}"
    console.print(escape(line), soft_wrap=True, highlight=False)
    for branch in node.branches:
        _render_node(console, branch, depth + 1)
    for name, count in node.left_out:
        console.print(f"{'  ' * (depth + 1)}… and {count} more: {escape(name)}")


def _render_erasure(console: Console, report: ErasureReport) -> None:
    done = "would be erased" if report.planned else "erased"
    console.print(f"[bold]{len(report.item_ids)}[/bold] items {done}")
    print_facts(
        console,
        {
            "already erased": len(report.already),
            "rows emptied": ", ".join(f"{n} {table}" for table, n in report.rows.items()) or 0,
            "files": len(report.files),
        },
    )
    for name, seen in asdict(report.reach).items():
        if seen:
            console.print(f"  {name.replace('_', ' ')}: {escape(str(len(seen)))}")
            for one in list(seen)[:5]:
                console.print(f"    {escape(str(one))}", soft_wrap=True)
    for line in report.out_of_reach:
        console.print(f"  [yellow]out of reach[/yellow]: {escape(line)}", soft_wrap=True)
