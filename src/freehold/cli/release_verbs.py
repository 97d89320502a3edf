"""``evaluate``, ``compare``, ``gate``, ``approve``, ``promote``, ``rollback``, ``releases``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli.render import escape, print_facts, print_table, short
from freehold.cli.session import session_of

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.evaluation.reading import EvaluationRecord
    from freehold.registry.standing import Release

candidates = typer.Typer(no_args_is_help=True, help="Candidates: what is evaluated and serves.")
gate = typer.Typer(no_args_is_help=True, help="Gates: rules fixed beforehand, and verdicts.")
Candidate = Annotated[str, typer.Argument(help="A candidate's name, id, or the start of its id.")]
SuiteOption = Annotated[str, typer.Option("--suite", help="NAME (newest), NAME@NUMBER or an id.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.add_typer(candidates, name="candidates")
    app.command("evaluate")(evaluate)
    app.command("compare")(compare)
    app.add_typer(gate, name="gate")
    app.command("approve")(approve)
    app.command("promote")(promote)
    app.command("rollback")(rollback)
    app.command("requalify")(requalify)
    app.command("releases")(releases)


@candidates.command("list")
def list_candidates_(
    context: typer.Context,
    task: Annotated[str | None, typer.Option(help="Only those of one task.")] = None,
) -> None:
    """List the candidates of this lab."""
    from freehold.tasks.finding import list_candidates

    session = session_of(context)
    with session.lab() as lab:
        found = list_candidates(lab, task)
    session.show(
        [asdict(one) for one in found],
        lambda console: print_table(
            console,
            ("candidate", "name", "task", "model"),
            [(short(c.candidate_id), c.name, c.task, short(c.model_digest)) for c in found],
            empty="No candidates yet: train one, or `freehold run TASK --model M` tries a model.",
        ),
    )


@candidates.command("add")
def add_candidate(
    context: typer.Context,
    task: Annotated[str, typer.Argument(help="A task of this lab.")],
    model: Annotated[str, typer.Argument(help="A model of this lab.")],
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
) -> None:
    """Freeze a task and a model as a candidate, for instance the untrained base."""
    from freehold.tasks.candidates import register_candidate
    from freehold.tasks.contract import load_task

    session = session_of(context)
    with session.lab() as lab:
        candidate = register_candidate(
            lab, load_task(lab, task), model, actor=session.acting(lab), name=name
        )
    session.show({"candidate_id": candidate}, lambda console: console.print(candidate))


def evaluate(context: typer.Context, candidate: Candidate, suite: SuiteOption) -> None:
    """Score a candidate on every case of a suite; every figure with its interval."""
    from freehold.evaluation.reading import evaluation_record
    from freehold.evaluation.run import evaluate as run_evaluation
    from freehold.tasks.finding import find_candidate

    session = session_of(context)
    with session.lab() as lab, session.progress("evaluating") as on_progress:
        chosen = find_candidate(lab, candidate)
        evaluation = run_evaluation(
            lab,
            chosen.candidate_id,
            suite,
            actor=session.acting(lab),
            on_progress=on_progress,
        )
        record = evaluation_record(lab, evaluation)
    session.show(asdict(record), lambda console: _render_evaluation(console, chosen.name, record))


def compare(
    context: typer.Context, first: Candidate, second: Candidate, suite: SuiteOption
) -> None:
    """Hold the second candidate against the first, case by case; both were evaluated before."""
    from freehold.cli.comparing import compare_candidates

    session = session_of(context)
    with session.lab() as lab:
        found = compare_candidates(lab, first, second, suite)
    session.show(
        found,
        lambda console: print_facts(console, {k: v for k, v in found.items() if k != "flips"}),
    )


@gate.command("register")
def register_gate(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="gates/NAME.toml")],
    suite: Annotated[str | None, typer.Option(help="For a plan written for any suite.")] = None,
) -> None:
    """Fix a gate's rules on the ledger; do it before the candidate is evaluated."""
    from freehold.registry.plans import register_plan

    session = session_of(context)
    with session.lab() as lab:
        path = file if file.is_file() else lab.layout.gates / f"{file}.toml"
        record = register_plan(lab, path, actor=session.acting(lab), suite=suite)
    facts = {"gate": record.plan.name, "digest": record.digest, "fixed at": record.created_at}
    session.show(facts, lambda console: print_facts(console, facts))


@gate.command("judge")
def judge(
    context: typer.Context,
    candidate: Candidate,
    task: Annotated[str, typer.Option(help="The task.")],
    suite: SuiteOption,
    plan: Annotated[str, typer.Option(help="A registered plan: name or digest.")],
    champion: Annotated[
        str | None, typer.Option(help="Default: what serves, else the best baseline.")
    ] = None,
) -> None:
    """Judge a candidate against the champion: better, not worse, worse, too close, invalid."""
    from freehold.registry.gating import gate_candidate, report_page
    from freehold.tasks.finding import find_candidate

    session = session_of(context)
    with session.lab() as lab:
        rival = find_candidate(lab, champion).candidate_id if champion else None
        verdict = gate_candidate(
            lab,
            task,
            find_candidate(lab, candidate).candidate_id,
            suite=suite,
            plan=plan,
            champion=rival,
            actor=session.acting(lab),
        )
        page = report_page(lab, verdict.verdict_id)

    def render(console: Console) -> None:
        console.print(page, markup=False, highlight=False)
        console.print(f"verdict {verdict.verdict_id}")

    session.show(asdict(verdict), render)


@gate.command("report")
def report(
    context: typer.Context, verdict: Annotated[str, typer.Argument(help="A verdict's id.")]
) -> None:
    """Show the one page that the approver reads."""
    from freehold.registry.gating import get_verdict, report_page

    session = session_of(context)
    with session.lab() as lab:
        page, record = report_page(lab, verdict), get_verdict(lab, verdict)
    session.show(asdict(record), lambda console: console.print(page, markup=False, highlight=False))


@gate.command("verdicts")
def verdicts(
    context: typer.Context,
    task: Annotated[str | None, typer.Option(help="Only those of one task.")] = None,
) -> None:
    """List the verdicts of this lab."""
    from freehold.registry.gating import list_verdicts

    session = session_of(context)
    with session.lab() as lab:
        found = list_verdicts(lab, task)
    session.show(
        [asdict(one) for one in found],
        lambda console: print_table(
            console,
            ("verdict", "task", "candidate", "says", "at"),
            [
                (v.verdict_id, v.task, short(v.candidate_id), v.verdict, v.created_at[:16])
                for v in found
            ],
            empty="No verdicts yet: freehold gate judge CANDIDATE …",
        ),
    )


def approve(
    context: typer.Context,
    verdict: Annotated[str, typer.Argument(help="A verdict's id.")],
    key: Annotated[Path, typer.Option(help="The approver's own private key.")],
    reason: Annotated[str, typer.Option(help="Why; it is signed too.")],
    refuse: Annotated[bool, typer.Option("--refuse", help="Refuse instead of approving.")] = False,
) -> None:
    """Sign a verdict: approve it or refuse it, with a key of one's own."""
    from freehold.registry.approvals import approve as sign

    session = session_of(context)
    with session.lab() as lab:
        decision = "refuse" if refuse else "approve"
        done = sign(lab, verdict, key_path=key, decision=decision, reason=reason)
    facts = {"approval": done.approval_id, "decision": done.decision, "by": done.principal_id}
    session.show(asdict(done), lambda console: print_facts(console, facts))


def promote(
    context: typer.Context,
    candidate: Candidate,
    task: Annotated[str, typer.Option(help="The task it is to serve.")],
    reason: Annotated[str, typer.Option(help="Why.")] = "passed the gate",
) -> None:
    """Let a candidate serve: it needs a passing verdict and a valid approval."""
    from freehold.registry.releases import promote as promote_candidate
    from freehold.tasks.finding import find_candidate

    session = session_of(context)
    with session.lab() as lab:
        chosen = find_candidate(lab, candidate).candidate_id
        actor = session.acting(lab)
        release = promote_candidate(lab, chosen, task=task, actor=actor, reason=reason)
    session.show(asdict(release), lambda console: print_facts(console, asdict(release)))


def rollback(
    context: typer.Context,
    task: Annotated[str, typer.Argument(help="The task.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    to: Annotated[int | None, typer.Option(help="A release's number; default: the one before.")] = (
        None
    ),
) -> None:
    """Return to an earlier release, in the name of the approver given by --as."""
    from freehold.errors import InputError
    from freehold.registry.releases import rollback as roll_back

    session = session_of(context)
    if session.actor is None:
        raise InputError("a rollback is answered for by name", hint="Add --as APPROVER.")
    with session.lab() as lab:
        release = roll_back(lab, task, approver=session.actor, reason=reason, to=to)
    session.show(asdict(release), lambda console: print_facts(console, asdict(release)))


def requalify(
    context: typer.Context,
    candidate: Candidate,
    task: Annotated[str, typer.Option(help="The task.")],
    suite: SuiteOption,
    reason: Annotated[str, typer.Option(help="Why.")],
) -> None:
    """Move what serves to new library versions, if every answer stays the same."""
    from freehold.registry.releases import requalify as move
    from freehold.tasks.finding import find_candidate

    session = session_of(context)
    with session.lab() as lab:
        chosen = find_candidate(lab, candidate).candidate_id
        actor = session.acting(lab)
        release = move(lab, chosen, task=task, suite=suite, actor=actor, reason=reason)
    session.show(asdict(release), lambda console: print_facts(console, asdict(release)))


def releases(
    context: typer.Context, task: Annotated[str, typer.Argument(help="The task.")]
) -> None:
    """Show what served a task, from when to when and why."""
    from freehold.registry.releases import releases as timeline

    session = session_of(context)
    with session.lab() as lab:
        found = timeline(lab, task)
    session.show(
        [asdict(one) for one in found], lambda console: _render_timeline(console, task, found)
    )


def _render_timeline(console: Console, task: str, found: list[Release]) -> None:
    print_table(
        console,
        ("no", "kind", "candidate", "from", "to", "why"),
        [
            (
                one.number,
                one.kind,
                short(one.candidate_id),
                one.served_from[:19],
                (one.served_to or "serves now")[:19],
                one.reason,
            )
            for one in found
        ],
        empty=f"Nothing has served {task} yet: freehold promote CANDIDATE --task {task}",
    )


def _render_evaluation(console: Console, name: str, record: EvaluationRecord) -> None:
    metrics: dict[str, Any] = record.metrics or {}
    console.print(f"[bold]{escape(name)}[/bold] on {record.suite_id}: {metrics.get('cases')} cases")
    print_table(
        console,
        ("figure", "value", "95 % interval", "n", "method"),
        [
            (name, f["value"], f"{f['low']} to {f['high']}", f["n"], f["method"])
            for name, f in metrics.items()
            if isinstance(f, dict) and "method" in f
        ],
        empty="No figures: the evaluation is not done.",
    )
    print_facts(console, {"failed": metrics.get("failed"), **metrics.get("run", {})})
