"""A lab with one whole history: labels, dataset, run, model, gate, release, decisions, a review."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from freehold.lab import Lab
from freehold.lab.schema import decisions
from freehold.models.intake import seal_model
from freehold.registry.releases import Release, promote
from freehold.review.submission import Submission
from freehold.review.submitting import submit_review
from freehold.tasks.contract import load_task
from freehold.workflows.run import RunOptions, run_task
from gated_labs import WORDS
from labelled_files import OPTIONS
from registry_desk import Desk, make_desk
from task_samples import write_csv


@dataclass(frozen=True)
class History:
    """The lab and the ids along its one thread."""

    lab: Lab
    desk: Desk
    dataset: str
    run: str
    model: str
    candidate: str
    release: Release
    decisions: tuple[str, ...]
    items: tuple[str, ...]
    review: str


def tell_history(lab: Lab, folder: Path) -> History:
    desk = make_desk(lab, folder)
    desk.plan()
    dataset = desk.dataset()
    run = desk.run_by(desk.engineer, dataset)
    model = _model(lab, folder, run, dataset)
    candidate = desk.bench.registered("tuned", run)
    desk.approved(candidate, desk.bench.candidate("poor", ("loan",)))
    release = promote(lab, candidate, task="support", actor=desk.actor, reason="it won")
    texts = ["money back now", "nothing known", "my card is gone"]
    run_task(lab, "support", write_csv(folder / "new.csv", texts), actor=desk.actor,
             options=RunOptions())  # fmt: skip
    with lab.reading() as connection:
        query = select(decisions.c.decision_id, decisions.c.item_id)
        served = query.where(decisions.c.release_id == release.release_id)
        rows = connection.execute(served.order_by(decisions.c.number)).all()
    with lab.writing() as connection:
        shown = Submission(rows[0].item_id, "accept", shown_decisions=(rows[0].decision_id,))
        task = load_task(lab, "support")
        review = submit_review(lab, connection, task, shown, actor=desk.approver.principal_id)
    made = tuple(row.decision_id for row in rows)
    items = tuple(row.item_id for row in rows)
    return History(lab, desk, dataset, run, model, candidate, release, made, items, review)


def _model(lab: Lab, folder: Path, run: str, dataset: str) -> str:
    directory = folder / "tuned"
    directory.mkdir()
    words = "".join(f'{one} = ["{WORDS[one]}"]\n' for one in OPTIONS)
    script = 'format = "freehold-scripted/1"\nrule = "keywords"\nseed = "tuned"\n[keywords]\n'
    (directory / "scripted.toml").write_text(script + words)
    with lab.writing() as connection:
        return seal_model(
            lab, connection, directory, kind="base", form="scripted", name="tuned",
            edges=[("trained_on", dataset)], run_id=run, actor="system",
        )  # fmt: skip
