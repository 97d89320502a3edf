"""``train`` and ``runs``: from a recipe to a model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli.render import escape, print_facts, print_table, short
from freehold.cli.session import Session, session_of

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.lab import Lab
    from freehold.training.driver import RunRecord
    from freehold.training.plan import Plan

runs = typer.Typer(no_args_is_help=True, help="Training runs.")


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("train")(train)
    app.add_typer(runs, name="runs")


def train(
    context: typer.Context,
    recipe: Annotated[
        str, typer.Argument(help="A recipe of this lab (recipes/NAME.toml) or a TOML file.")
    ] = "",
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Show what would happen, write the lock, and stop.")
    ] = False,
    resume: Annotated[
        str, typer.Option(metavar="RUN", help="Go on with a run that was stopped or killed.")
    ] = "",
) -> None:
    """Train a model from a recipe; the cheap baselines are trained beside it."""
    from freehold.errors import InputError
    from freehold.training.driver import get_run, plan_run

    session = session_of(context)
    if bool(recipe) == bool(resume):
        raise InputError("name a recipe, or a run with --resume, and not both")
    with session.lab() as lab:
        actor = session.acting(lab)
        if resume:
            run = get_run(lab, resume)
        else:
            made, run = plan_run(lab, _recipe(lab, recipe), actor=actor)
            if plan_only:
                session.show(_plan_record(made), lambda console: render_plan(console, made))
                return
            if not session.as_json:
                from freehold.cli.session import console

                render_plan(console(error=True), made)
        run = train_with_progress(session, lab, run, actor)
        session.show(asdict(run), lambda console: render_run(console, run))


def train_with_progress(session: Session, lab: Lab, run: RunRecord, actor: str) -> RunRecord:
    """Do a run under a progress bar that counts its steps."""
    from freehold.training.driver import train_run

    with session.progress(f"training {run.name}") as on_progress:

        def on_event(event: dict[str, Any]) -> None:
            if event["event"] == "step":
                on_progress(event["step"], event["of"])

        return train_run(lab, run.run_id, actor=actor, on_event=on_event)


@runs.command("list")
def list_all(context: typer.Context) -> None:
    """List the runs of this lab, newest first."""
    from freehold.training.driver import list_runs

    session = session_of(context)
    with session.lab() as lab:
        found = list_runs(lab)
    session.show(
        [asdict(run) for run in found],
        lambda console: print_table(
            console,
            ("run", "name", "task", "method", "state"),
            [(short(r.run_id), r.name, r.task, r.method, r.state) for r in found],
            empty="No runs yet. Write recipes/NAME.toml, then: freehold train NAME --plan",
        ),
    )


@runs.command("show")
def show(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="A run's id, the start of it, or its name.")],
) -> None:
    """Show one run: what went in, what came out, how long it took."""
    from freehold.training.driver import get_run

    session = session_of(context)
    with session.lab() as lab:
        found = get_run(lab, run)
    session.show(asdict(found), lambda console: render_run(console, found))


def render_plan(console: Console, plan: Plan) -> None:
    """Print what a run will do, before anything is spent."""
    console.print(f"[bold]Plan[/bold] of run {short(plan.run_id)}")
    dropped = ", ".join(f"{count} {reason}" for reason, count in plan.dropped.items()) or "none"
    cost = plan.cost
    print_facts(
        console,
        {
            "rows": f"{plan.rows_in} in, {plan.rows_used} used, dropped: {dropped}",
            "dev rows": plan.dev_rows,
            "tokens": f"{plan.tokens} ({plan.trained_tokens} trained), longest row {plan.longest}",
            "steps": plan.steps,
            "estimated": _cost(cost) if cost else "not estimated",
        },
    )
    console.print("  [dim]as the model sees it, ⟦trained part⟧ marked:[/dim]")
    for row in plan.shown:
        console.print(f"    {escape(row[:160])}{' …' if len(row) > 160 else ''}")


def render_run(console: Console, run: RunRecord) -> None:
    """Print a run and the candidates that came out of it."""
    print_facts(
        console,
        {
            "run": run.run_id,
            "name": run.name,
            "task": run.task,
            "method": run.method,
            "state": run.state,
            "dataset": run.dataset_id,
            "base": run.base_model,
            "model": run.output_model,
        },
    )
    if run.record:
        print_facts(console, {"seconds": run.record["seconds"]["all"]})
    for name, candidate in run.candidates.items():
        line = f"  candidate [bold]{escape(run.name)}/{escape(name)}[/bold]  {candidate}"
        console.print(line, soft_wrap=True)
    if run.state == "done":
        console.print("Next: freehold evaluate CANDIDATE --suite SUITE")


def _recipe(lab: Lab, name: str) -> Any:
    from freehold.errors import NotFound
    from freehold.training.recipe import load_recipe

    for path in (Path(name), lab.layout.recipes / f"{name}.toml"):
        if path.suffix == ".toml" and path.is_file():
            return load_recipe(path)
    known = ", ".join(sorted(path.stem for path in lab.layout.recipes.glob("*.toml"))) or "none"
    raise NotFound(f"no recipe {name!r}; this lab has: {known}", hint="Write recipes/NAME.toml.")


def _plan_record(plan: Plan) -> dict[str, Any]:
    return asdict(plan)


def _cost(cost: Any) -> str:
    return f"{cost.seconds:.0f} s, {cost.memory / 2**30:.1f} GiB ({cost.basis})"
