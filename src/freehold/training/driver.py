"""From a recipe in a lab to a model in the lab: plan, train, seal.

The driver alone writes the lab. It lays out a run folder from a frozen dataset and a base model,
starts the worker as a process of its own, and seals what came out: the model and the baselines
trained beside it, each a candidate. A driver that is killed loses nothing: the run folder says how
far the work came, and `train` goes on from there.
"""

from __future__ import annotations

import contextlib
import fcntl
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from freehold.canonical.json import decode, digest, encode_text
from freehold.datasets.reading import dataset_rows, get_dataset
from freehold.errors import Cancelled, Conflict, FreeholdError, LabBusy, NotFound
from freehold.evidence.entries import Entry
from freehold.lab.opened import Lab
from freehold.lab.schema import objects, runs
from freehold.models.intake import get_model, materialise, require_usable, seal_model
from freehold.records.clock import now
from freehold.tasks.candidates import register_candidate
from freehold.tasks.contract import load_task
from freehold.training.events import EVENTS_FILE, OnEvent
from freehold.training.plan import Plan, plan
from freehold.training.recipe import BASELINE_METHODS, CAUSAL_METHODS, Recipe
from freehold.training.rows import DatasetRef, TrainingData, TrainingRow
from freehold.training.run import RUN_FILE, Outcome, read_outcome
from freehold.training.worker import launch

if TYPE_CHECKING:
    from freehold.datasets.reading import DatasetRecord


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run as the lab knows it. `candidates` maps what was made to its candidate id."""

    run_id: str
    name: str
    task: str
    method: str
    state: str
    dataset_id: str
    base_model: str | None
    output_model: str | None
    candidates: dict[str, str]
    record: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class _Made:
    """One folder that a run made: what it is called, where it lies and what it is."""

    name: str
    directory: Path
    kind: str
    form: str
    relation: str | None


def plan_run(
    lab: Lab, recipe: Recipe, *, actor: str, dry_step: bool = True
) -> tuple[Plan, RunRecord]:
    """Lay out a run and write it down as planned. Planning the same again changes nothing.

    Raises NotFound for a task, dataset or base that is not in the lab, Conflict when the dataset
    was built for another contract, LicenceRefused when the base may not be used, and what
    `training.plan.plan` raises about the rows.
    """
    dataset, data = _training_data(lab, recipe)
    base = get_model(lab, recipe["base"])
    require_usable(lab, base.digest)
    base_dir = materialise(lab, base.digest)
    folder = lab.layout.scratch / "runs" / f"planning-{secrets.token_hex(6)}"
    try:
        made = plan(recipe, data, base_dir, folder, threads=_threads(lab), dry_step=dry_step)
        target = run_directory(lab, made.run_id)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    with lab.writing() as connection:
        if _row(connection, made.run_id) is None:
            facts = {"run_id": made.run_id, "dataset_id": dataset.dataset_id}
            entry = Entry(lab, connection, "run.planned", actor, facts | {"base": base.digest})
            entry.insert(
                runs,
                {
                    "run_id": made.run_id,
                    "name": recipe["name"],
                    "task": recipe["task"],
                    "method": recipe.method,
                    "state": "planned",
                    "recipe": encode_text(recipe.resolved()),
                    "lock": encode_text(made.lock),
                    "lock_digest": digest(made.lock),
                    "dataset_id": dataset.dataset_id,
                    "base_model": base.digest,
                    "attempt": 0,
                    "created_at": entry.at,
                    "created_by": actor,
                },
            )
            entry.close()
    return made, get_run(lab, made.run_id)


def train_run(lab: Lab, run_id: str, *, actor: str, on_event: OnEvent | None = None) -> RunRecord:
    """Do a planned run, or go on with one that was stopped or killed, and seal the result.

    Raises LabBusy while another process drives the same run, Cancelled when it was asked to stop,
    and what the trainer raises; the run is then written down as stopped or failed.
    """
    run = get_run(lab, run_id)
    if run.state == "done":
        return run
    with _driving(lab, run_id):
        folder = run_directory(lab, run_id)
        if not folder.is_dir():
            raise NotFound(
                f"the folder of run {run_id} is gone: {folder}",
                hint="Plan it again from its recipe: the same inputs make the same run.",
            )
        _set_state(lab, run_id, "running", actor, attempt=True)
        try:
            finished = (folder / RUN_FILE).is_file()
            outcome = read_outcome(folder) if finished else launch(folder, on_event)
        except (Cancelled, KeyboardInterrupt):
            _set_state(lab, run_id, "stopped", actor)
            raise
        except FreeholdError as error:
            _set_state(lab, run_id, "failed", actor, code=error.code)
            raise
        _seal(lab, run, outcome, actor)
    return get_run(lab, run_id)


def get_run(lab: Lab, name_or_id: str) -> RunRecord:
    """Return a run by its id, the start of its id, or its name (the newest of that name)."""
    with lab.reading() as connection:
        row = connection.execute(
            select(runs)
            .where(
                (runs.c.run_id == name_or_id)
                | (runs.c.name == name_or_id)
                | runs.c.run_id.startswith(f"sha256:{name_or_id.removeprefix('sha256:')}")
            )
            .order_by(runs.c.created_at.desc())
            .limit(1)
        ).first()
    if row is None:
        raise NotFound(f"no run {name_or_id!r}", hint="`freehold runs list` shows what is there.")
    return _record(row)


def list_runs(lab: Lab) -> list[RunRecord]:
    """Return every run, newest first."""
    with lab.reading() as connection:
        rows = connection.execute(select(runs).order_by(runs.c.created_at.desc())).all()
    return [_record(row) for row in rows]


def run_directory(lab: Lab, run_id: str) -> Path:
    """Return the folder in which a run works; it holds people's texts and may be erased."""
    return lab.layout.scratch / "runs" / run_id.removeprefix("sha256:")


def _training_data(lab: Lab, recipe: Recipe) -> tuple[DatasetRecord, TrainingData]:
    task = load_task(lab, recipe["task"])
    dataset = get_dataset(lab, recipe["data.dataset"])
    if dataset.contract_digest != task.contract_digest:
        raise Conflict(
            f"dataset {dataset.name} was built for another contract of task {task.name}",
            hint="Map the old labels (`freehold review map`) and build the dataset again.",
        )
    # A keyed salt, not a random one: planning the same run twice must give the same lock.
    salt = bytes.fromhex(lab.index_key(dataset.root, "training-salt"))
    reference = DatasetRef(f"{dataset.name}@{dataset.number}", dataset.root, salt)
    train, dev = (
        tuple(_training_row(row) for row in dataset_rows(lab, dataset.dataset_id, split))
        for split in ("train", "dev")
    )
    return dataset, TrainingData(task.question(), train, dev, reference)


def _training_row(row: Any) -> TrainingRow:
    target = tuple(row.value) if isinstance(row.value, list) else str(row.value)
    return TrainingRow(row.row_id, row.text, target, row.weight)


def _seal(lab: Lab, run: RunRecord, outcome: Outcome, actor: str) -> None:
    """Put what the run made into the lab's stores and write the run down as done.

    Sealing again after a kill finds the same models and candidates and adds nothing.
    """
    folder = run_directory(lab, run.run_id)
    steps = lab.objects.put((folder / EVENTS_FILE).read_bytes())
    models: dict[str, str] = {}
    for made in _made(run, outcome):
        edges = [("trained_on", run.dataset_id)]
        if made.relation is not None and run.base_model is not None:
            edges.insert(0, (made.relation, run.base_model))
        with lab.writing() as connection:
            models[made.name] = seal_model(
                lab,
                connection,
                made.directory,
                kind=made.kind,
                form=made.form,
                name=f"{run.name}-{run.run_id[7:15]}-{made.name}",
                edges=edges,
                run_id=run.run_id,
                actor=actor,
            )
    candidates = {
        name: register_candidate(
            lab,
            load_task(lab, run.task),
            model,
            actor=actor,
            run_id=run.run_id,
            name=f"{run.name}/{name}",
        )
        for name, model in models.items()
    }
    record = {**outcome.record, "candidates": candidates}
    with lab.writing() as connection:
        facts = {"run_id": run.run_id, "models": models, "candidates": candidates}
        entry = Entry(lab, connection, "run.finished", actor, facts)
        _keep_object(connection, entry, lab, steps)
        entry.update(
            runs,
            {"run_id": run.run_id},
            {
                "state": "done",
                "output_model": models["model"],
                "record": encode_text(record),
                "steps_object": steps,
                "ended_at": entry.at,
            },
        )
        entry.close()


def _made(run: RunRecord, outcome: Outcome) -> Iterator[_Made]:
    if run.method in BASELINE_METHODS:
        relation = "adapter_of" if run.method == "embedding" else None
        yield _Made("model", outcome.output, "adapter", "estimator", relation)
    elif run.method in CAUSAL_METHODS:
        yield _Made("model", outcome.output, "adapter", "peft", "adapter_of")
    elif run.method == "full":
        yield _Made("model", outcome.output, "merged", "classifier", "fine_tuned_from")
    else:
        yield _Made("model", outcome.output, "adapter", "classifier", "adapter_of")
    for directory in sorted(outcome.baselines.iterdir()):
        relation = "adapter_of" if directory.name == "embedding" else None
        yield _Made(directory.name, directory, "adapter", "estimator", relation)


def _keep_object(connection: Any, entry: Entry, lab: Lab, name: str) -> None:
    if connection.execute(select(objects.c.digest).where(objects.c.digest == name)).first():
        return
    entry.insert(
        objects,
        {
            "digest": name,
            "size": lab.objects.existing(name).stat().st_size,
            "media_type": "application/jsonl",
            "purpose": "steps of a training run",
            "created_at": now(),
        },
    )


def _set_state(
    lab: Lab, run_id: str, state: str, actor: str, *, attempt: bool = False, code: str = ""
) -> None:
    with lab.writing() as connection:
        row = _row(connection, run_id)
        facts = {"run_id": run_id} | ({"error": code} if code else {})
        entry = Entry(lab, connection, f"run.{state}", actor, facts)
        entry.update(
            runs, {"run_id": run_id}, {"state": state, "attempt": row.attempt + int(attempt)}
        )
        entry.close()


@contextlib.contextmanager
def _driving(lab: Lab, run_id: str) -> Iterator[None]:
    # A file lock goes with its process: a driver that was killed holds nothing.
    folder = run_directory(lab, run_id)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabBusy(f"run {run_id} is driven by another process") from None
        yield


def _threads(lab: Lab) -> int | None:
    return lab.settings.number("run.threads") or None


def _row(connection: Any, run_id: str) -> Any:
    return connection.execute(select(runs).where(runs.c.run_id == run_id)).first()


def _record(row: Any) -> RunRecord:
    record = decode(row.record) if row.record else None
    return RunRecord(
        row.run_id,
        row.name,
        row.task,
        row.method,
        row.state,
        row.dataset_id,
        row.base_model,
        row.output_model,
        record["candidates"] if record else {},
        record,
    )
