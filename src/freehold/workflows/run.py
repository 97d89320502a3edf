"""``freehold run``: a task over the rows of a file, each row decided once, whatever happens.

Equal task, candidate, purpose and file bytes are the same workflow run. Running it again goes on:
items that have an answer keep it, decisions that a killed process left open are closed as
abandoned, and what failed or was refused is tried again. `exclusive` keeps two processes off one
run; different runs work on one lab at the same time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, select

from freehold.canonical.json import encode_text
from freehold.errors import Conflict, InputError, NotFound
from freehold.evidence.entries import Entry
from freehold.evidence.sequencer import publish
from freehold.lab.leases import Lease
from freehold.lab.opened import Lab, require_writable
from freehold.lab.schema import decisions as table
from freehold.lab.schema import releases, workflow_runs
from freehold.policy.permits import authorize, read_policy
from freehold.records.ids import new_id
from freehold.runtimes.secret import Secret
from freehold.tabular import BadRow, open_table
from freehold.tasks.candidates import (
    REMOTE,
    Opened,
    Opening,
    candidate_spec,
    engine_of,
    open_candidate,
    register_candidate,
)
from freehold.tasks.contract import load_task
from freehold.tasks.decisions import (
    PURPOSES,
    Asking,
    Recorder,
    admitted_in,
    close_abandoned,
)
from freehold.tasks.definition import Task
from freehold.workflows.deciding import CHUNK, Counts, Deciding
from freehold.workflows.exclusive import only_process, renew
from freehold.workflows.ingest import IngestReport, ingest
from freehold.workflows.output import write_output
from freehold.workflows.rows import IngestOptions, file_source

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RunOptions:
    """What the user chooses for a run.

    At most one of `model` (name or digest; becomes a candidate on trial), `candidate` and
    `release`; with none the task's current release answers. `engine` holds the runtime's options,
    `key` is for a server. `output` gets one row per item; `with_text` repeats the texts there.
    """

    model: str | None = None
    candidate: str | None = None
    release: str | None = None
    purpose: str | None = None
    engine: Mapping[str, str] = field(default_factory=dict)
    key: Secret | None = None
    rows: IngestOptions = field(default_factory=IngestOptions)
    output: Path | None = None
    with_text: bool = False
    format: str | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        given = [name for name in ("model", "candidate", "release") if getattr(self, name)]
        if len(given) > 1:
            raise InputError(f"give one of {', '.join(given)}, not {len(given)}")
        if self.purpose is not None and self.purpose not in PURPOSES:
            raise InputError(f"unknown purpose {self.purpose!r}; known: {', '.join(PURPOSES)}")


@dataclass(frozen=True)
class RunReport:
    """What a run did. `already` were answered by an earlier call, `abandoned` redone after it.

    `items` counts the file's good rows: answered + failed + refused + erased + already.
    """

    workflow_run: str
    candidate_id: str
    release_id: str | None
    source: str
    items: int
    added: int
    answered: int
    already: int
    failed: int
    refused: int
    erased: int
    abandoned: int
    bad_rows: tuple[BadRow, ...]
    notes: tuple[str, ...]
    calibrated: bool
    seconds: float
    output: Path | None


@dataclass(frozen=True)
class _Serving:
    """Who answers, and why."""

    candidate_id: str
    release_id: str | None
    purpose: str


def run_task(
    lab: Lab,
    task_name: str,
    path: Path,
    *,
    actor: str,
    options: RunOptions | None = None,
    on_progress: Progress | None = None,
) -> RunReport:
    """Decide every row of a file and return what became of each.

    Raises LabBusy while another process is at the same run, RowError for the first bad row where
    ``options.rows.strict``, EngineError when the engine broke off (what it answered is kept). A
    row that fails by itself is counted and recorded, and the others go on.
    """
    started = time.monotonic()
    chosen = options or RunOptions()
    require_writable(lab)
    task = load_task(lab, task_name)
    rows = open_table(path, format=chosen.format)
    serving = _serving(lab, task, chosen, actor)
    opened = _open(lab, serving.candidate_id, chosen)
    if opened.task.contract_digest != task.contract_digest:
        raise Conflict(
            f"candidate {serving.candidate_id[:19]}… answers an earlier contract of {task.name!r}",
            hint="Train or register a candidate for the task as it is now.",
        )
    spec: dict[str, str | None] = {"task": task.name, "candidate_id": serving.candidate_id}
    spec |= {"release_id": serving.release_id, "purpose": serving.purpose}
    source = file_source(lab, path)
    name = "run-" + lab.index_key(encode_text(spec | {"source": source}), "run")[:32]
    with only_process(lab, name) as lease:
        taken = ingest(lab, task, rows, actor=actor, options=chosen.rows, on_progress=on_progress)
        run = _Run(lab, lease, actor)
        run_id = run.begin(spec, source)
        abandoned = run.abandon(run_id)
        work = Deciding(lab, opened, _asking(opened, serving, run_id), lease, actor)
        already = _decide_all(work, run_id, taken, on_progress)
        run.end(run_id, work.counts)
    publish(lab)
    if chosen.output is not None:
        write_output(lab, run_id, taken.item_ids, chosen.output, with_text=chosen.with_text)
    return RunReport(
        workflow_run=run_id,
        candidate_id=serving.candidate_id,
        release_id=serving.release_id,
        source=taken.source,
        items=len(taken.rows),
        added=taken.added,
        answered=work.counts.answered,
        already=already,
        failed=work.counts.failed,
        refused=work.counts.refused,
        erased=work.counts.erased,
        abandoned=abandoned,
        bad_rows=taken.bad_rows,
        notes=taken.notes,
        calibrated=opened.spec.calibrated,
        seconds=time.monotonic() - started,
        output=chosen.output,
    )


def answered_items(connection: Connection, workflow_run: str) -> set[str]:
    """Return the items that have an answer in a run."""
    found = connection.execute(
        select(table.c.item_id).where(
            table.c.workflow_run == workflow_run, table.c.state == "answered"
        )
    )
    return set(found.scalars())


def _decide_all(
    work: Deciding, run_id: str, taken: IngestReport, on_progress: Progress | None
) -> int:
    with work.lab.reading() as connection:
        answered = answered_items(connection, run_id)
    todo = [item_id for item_id in taken.item_ids if item_id not in answered]
    already, total = len(taken.rows) - len(todo), len(taken.rows)
    for start in range(0, len(todo), CHUNK):
        work.decide(todo[start : start + CHUNK])
        if on_progress is not None:
            on_progress(already + work.counts.done, total)
    return already


def _serving(lab: Lab, task: Task, options: RunOptions, actor: str) -> _Serving:
    if options.model is not None:
        candidate_id = register_candidate(
            lab, task, options.model, actor=actor, options=options.engine
        )
        return _Serving(candidate_id, None, options.purpose or "trial")
    if options.candidate is not None:
        return _Serving(options.candidate, None, options.purpose or "trial")
    wanted = select(releases.c.release_id, releases.c.candidate_id).where(
        releases.c.task == task.name
    )
    if options.release is not None:
        wanted = wanted.where(releases.c.release_id == options.release)
    with lab.reading() as connection:
        row = connection.execute(wanted.order_by(releases.c.number.desc()).limit(1)).first()
    if row is None:
        what = f"release {options.release!r}" if options.release else "release"
        raise NotFound(
            f"task {task.name!r} has no {what}",
            hint="Name a model to try out: --model NAME; or promote a candidate first.",
        )
    return _Serving(row.candidate_id, row.release_id, options.purpose or "release")


def _open(lab: Lab, candidate_id: str, options: RunOptions) -> Opened:
    spec, _ = candidate_spec(lab, candidate_id)
    permit = None
    if spec.form == REMOTE:
        # The permit to connect; each item is authorised by its own sensitivity besides.
        policy = read_policy(lab.layout.policies / "policy.toml")
        permit = authorize(options.rows.sensitivity, engine_of(lab, spec), policy)
    return open_candidate(lab, candidate_id, Opening(options.engine, permit, options.key))


def _asking(opened: Opened, serving: _Serving, run_id: str) -> Asking:
    return Asking(
        task=opened.task.name,
        contract_digest=opened.task.contract_digest,
        wording_digest=opened.task.wording_digest,
        purpose=serving.purpose,
        model_digest=opened.model_digest,
        identity_basis=opened.spec.identity_basis,
        candidate_id=serving.candidate_id,
        release_id=serving.release_id,
        workflow_run=run_id,
        step=opened.task.name,
        trace_id=new_id("trc"),
    )


@dataclass(frozen=True)
class _Run:
    """The record of a workflow run, written under its lease."""

    lab: Lab
    lease: Lease
    actor: str

    def begin(self, spec: Mapping[str, str | None], source: str) -> str:
        """Return the run of this specification and source, made when there is none."""
        text = encode_text(dict(spec))
        with self.lab.writing() as connection:
            renew(connection, self.lease)
            found = connection.execute(
                select(workflow_runs.c.workflow_run).where(
                    workflow_runs.c.source == source, workflow_runs.c.spec == text
                )
            ).scalar()
            if found is not None:
                return str(found)
            run_id = new_id("wfr")
            body = {"workflow_run": run_id, **spec}
            entry = Entry(self.lab, connection, "run.started", self.actor, body)
            row = {"workflow_run": run_id, "task": spec["task"], "purpose": spec["purpose"]}
            row |= {"candidate_id": spec["candidate_id"], "source": source, "spec": text}
            row |= {"state": "running", "created_at": entry.at, "created_by": self.actor}
            entry.insert(workflow_runs, row)
            entry.close()
        return run_id

    def abandon(self, run_id: str) -> int:
        """Close what a process that died had admitted; return how many."""
        with self.lab.reading() as connection:
            left = [row for batch in admitted_in(connection, run_id) for row in batch]
        for start in range(0, len(left), 200):
            with self.lab.writing() as connection:
                renew(connection, self.lease)
                recorder = Recorder(self.lab, connection, self.actor)
                rows = recorder.not_erased(left[start : start + 200])
                close_abandoned(recorder, rows, "the process ended before an answer was recorded")
        return len(left)

    def end(self, run_id: str, counts: Counts) -> None:
        """Say that the run is done, and what it did; nothing where it had nothing to do."""
        with self.lab.writing() as connection:
            renew(connection, self.lease)
            state = connection.execute(
                select(workflow_runs.c.state).where(workflow_runs.c.workflow_run == run_id)
            ).scalar_one()
            if state == "done" and counts.done == 0:
                return
            body = {"workflow_run": run_id, "answered": counts.answered}
            body |= {"failed": counts.failed, "refused": counts.refused, "erased": counts.erased}
            entry = Entry(self.lab, connection, "run.finished", self.actor, body)
            changes = {"state": "done", "ended_at": entry.at}
            entry.update(workflow_runs, {"workflow_run": run_id}, changes)
            entry.close()
