"""Running a candidate over a suite: one result for each case, bound by one root, figures with it.

Cases are answered chunk by chunk, each chunk one transaction, so that an evaluation that was
killed goes on at the next chunk and ends as if nothing had happened: what is computed together is
the same either way. Until the last chunk the evaluation is ``running`` and nobody reads it.

A candidate is evaluated on a suite once. ``again`` runs it a second time with other batches (the
cases backwards, in smaller chunks): what changes then is the noise floor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import RowMapping, insert, select

from freehold.canonical.json import decode, encode_text
from freehold.datasets.suites import SuiteCase, SuiteRecord, get_suite, suite_cases
from freehold.errors import Conflict, EngineError, Refused
from freehold.evaluation.reading import (
    EvaluationRecord,
    evaluation_record,
    evaluations_of,
    find_evaluation,
    list_evaluations,
    results_of,
    uses_of,
)
from freehold.evaluation.scoring import score
from freehold.evaluation.summary import Scored, summarise
from freehold.evidence.entries import Entry, Salts, small_row_commitment
from freehold.evidence.sequencer import publish
from freehold.lab.leases import Lease
from freehold.lab.opened import Lab
from freehold.lab.schema import evaluation_results, evaluations
from freehold.lab.schema import suite_cases as case_table
from freehold.policy.permits import authorize, read_policy
from freehold.records.ids import new_id
from freehold.runtimes.base import ScoredBatch
from freehold.runtimes.secret import Secret
from freehold.tasks.answering import encoded, shares_of, value_of
from freehold.tasks.candidates import REMOTE, Opened, Opening, candidate_spec, open_candidate
from freehold.tasks.candidates import engine_of as zone_of
from freehold.workflows.exclusive import only_process, renew
from freehold.workflows.items import sensitivities

__all__ = [
    "EvaluationRecord",
    "evaluate",
    "evaluation_record",
    "find_evaluation",
    "list_evaluations",
    "results_of",
    "uses_of",
]  # fmt: skip

OnProgress = Callable[[int, int], None]

FIRST: Final = {"chunk": 500, "order": "as frozen"}
AGAIN: Final = {"chunk": 173, "order": "backwards"}


def evaluate(
    lab: Lab,
    candidate_id: str,
    suite_id: str,
    *,
    actor: str,
    again: bool = False,
    key: Secret | None = None,
    on_progress: OnProgress | None = None,
) -> str:
    """Score a candidate on every case of a suite (id, ``name@number`` or name); return the id.

    Where it was done before, that evaluation's id is returned and nothing is run. `key` is for an
    engine over HTTP. `on_progress` gets (cases done, cases in all).

    Raises Conflict for a suite of another contract, Refused for one whose cases are all erased,
    PermitDenied where the policy keeps the cases from the engine, LabBusy while another process
    is at the same evaluation, and what `open_candidate` raises.
    """
    suite = get_suite(lab, suite_id)
    spec, _ = candidate_spec(lab, candidate_id)
    if spec.record["contract"] != suite.contract_digest:
        raise Conflict(
            f"suite {suite.label} was frozen for another contract than the candidate's",
            hint="Freeze a suite for the task as it stands, or register the candidate again.",
        )
    done = find_evaluation(lab, candidate_id, suite.suite_id, again=again)
    if done is not None and done.state == "done":
        return done.evaluation_id
    cases = list(suite_cases(lab, suite.suite_id))
    if not cases:
        raise Refused(f"every case of suite {suite.label} was erased; there is nothing to judge by")
    opened = _open(lab, candidate_id, cases, key)
    turn = "again" if again else "first"
    name = f"evaluation-{suite.suite_id}-{candidate_id.removeprefix('sha256:')[:16]}-{turn}"
    with only_process(lab, name) as lease:
        work = _Evaluating(lab, suite, opened, lease, actor, AGAIN if again else FIRST)
        evaluation_id = work.begin(again)
        work.run(evaluation_id, cases, on_progress)
        work.finish(evaluation_id, cases)
    publish(lab)
    return evaluation_id


@dataclass(frozen=True)
class _Evaluating:
    """Work on one evaluation, under its lease."""

    lab: Lab
    suite: SuiteRecord
    opened: Opened
    lease: Lease
    actor: str
    policy: dict[str, Any]

    def begin(self, again: bool) -> str:
        """Return the id of the evaluation that is running already, or of a new one."""
        candidate_id, suite_id = self.opened.candidate_id, self.suite.suite_id
        with self.lab.writing() as connection:
            renew(connection, self.lease)
            found = evaluations_of(connection, candidate_id, suite_id, again=again)
            if found:
                return found[0].evaluation_id
            execution: dict[str, Any] = {
                "again": again,
                "policy": self.policy,
                "artefact": self.opened.model_digest,
                "runtime": self.opened.spec.record["runtime"],
            }
            evaluation_id = new_id("evl")
            body: dict[str, Any] = {"evaluation_id": evaluation_id, "suite_id": suite_id}
            body |= {"candidate_id": candidate_id, "again": again}
            entry = Entry(self.lab, connection, "evaluation.started", self.actor, body)
            row = {"evaluation_id": evaluation_id, "suite_id": suite_id, "state": "running"}
            row |= {"candidate_id": candidate_id, "execution": encode_text(execution)}
            entry.insert(evaluations, row | {"started_at": entry.at, "created_by": self.actor})
            entry.close()
        return evaluation_id

    def run(
        self, evaluation_id: str, cases: Sequence[SuiteCase], on_progress: OnProgress | None
    ) -> None:
        """Answer every chunk that has no results yet."""
        places = self._places()
        with self.lab.reading() as connection:
            query = select(evaluation_results.c.case_id).where(
                evaluation_results.c.evaluation_id == evaluation_id
            )
            known = set(connection.execute(query).scalars())
        done = 0
        for chunk in self._chunks(cases):
            # A chunk is written whole: one case of it tells of all.
            if not any(case.case_id in known for case in chunk):
                self._write(evaluation_id, chunk, places, self._answer(chunk))
            done += len(chunk)
            if on_progress is not None:
                on_progress(done, len(cases))

    def finish(self, evaluation_id: str, cases: Sequence[SuiteCase]) -> None:
        """Bind all results by their root and write the figures down."""
        query = (
            select(evaluation_results)
            .where(evaluation_results.c.evaluation_id == evaluation_id)
            .order_by(evaluation_results.c.position)
        )
        with self.lab.writing() as connection:
            renew(connection, self.lease)
            rows = list(connection.execute(query).mappings())
            metrics = summarise(self.opened.task.space, self._scored(rows, cases))
            metrics["erased"] = self.suite.cases - metrics["cases"]
            body = {"evaluation_id": evaluation_id, "suite_id": self.suite.suite_id}
            body |= {"candidate_id": self.opened.candidate_id}
            entry = Entry(self.lab, connection, "evaluation.finished", self.actor, body)
            commitments = [row["commitment"] for row in rows]
            root = entry.bind_root(evaluation_results, evaluation_id, commitments)
            entry.update(
                evaluations,
                {"evaluation_id": evaluation_id},
                {
                    "state": "done",
                    "root": root,
                    "metrics": encode_text(metrics),
                    "ended_at": entry.at,
                },
            )
            entry.close()

    def _places(self) -> dict[str, int]:
        query = select(case_table.c.case_id, case_table.c.position).where(
            case_table.c.suite_id == self.suite.suite_id
        )
        with self.lab.reading() as connection:
            return {row.case_id: row.position for row in connection.execute(query)}

    def _chunks(self, cases: Sequence[SuiteCase]) -> Iterator[Sequence[SuiteCase]]:
        ordered = cases if self.policy["order"] == FIRST["order"] else cases[::-1]
        size = int(self.policy["chunk"])
        for start in range(0, len(ordered), size):
            yield ordered[start : start + size]

    def _answer(self, chunk: Sequence[SuiteCase]) -> list[dict[str, Any]]:
        """Return what a result row says of each case, in the order of the chunk."""
        answers: list[dict[str, Any] | None] = [None] * len(chunk)
        stream = iter(self.opened.scorer.stream([case.text for case in chunk]))
        while True:
            start = time.perf_counter()
            batch = next(stream, None)
            if batch is None:
                break
            share = round((time.perf_counter() - start) * 1_000_000 / max(1, len(batch.positions)))
            for position, answer in self._of_batch(batch, chunk, share):
                if answers[position] is not None:
                    raise EngineError(f"the engine answered text {position} twice")
                answers[position] = answer
        whole = [answer for answer in answers if answer is not None]
        if len(whole) != len(chunk):
            raise EngineError(f"the engine answered {len(whole)} of {len(chunk)} texts")
        return whole

    def _of_batch(
        self, batch: ScoredBatch, chunk: Sequence[SuiteCase], latency_us: int
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        task, threshold = self.opened.task, self.opened.spec.threshold
        for position, scored in zip(batch.positions, batch.scored, strict=True):
            value = shares = error = None
            try:
                value = value_of(task, scored, threshold)
                shares = shares_of(task, scored)
            except EngineError as failure:
                error = failure.message
            yield (
                position,
                {
                    "value": None if error else encoded(value),
                    "probabilities": None if shares is None else encode_text(shares),
                    "scores": encode_text(score(task.space, chunk[position].value, value, shares)),
                    "latency_us": latency_us,
                    "tokens_in": scored.tokens_in,
                    "error": error,
                },
            )

    def _write(
        self,
        evaluation_id: str,
        chunk: Sequence[SuiteCase],
        places: dict[str, int],
        answers: Sequence[dict[str, Any]],
    ) -> None:
        with self.lab.writing() as connection:
            renew(connection, self.lease)
            salts = Salts(connection)
            salts.fetch(case.item_id for case in chunk)
            rows = []
            for case, answer in zip(chunk, answers, strict=True):
                salt = salts.get(case.item_id)
                if salt is None:  # erased while the engine was at work: there is no such case now
                    continue
                row = {"evaluation_id": evaluation_id, "position": places[case.case_id]}
                row |= {"case_id": case.case_id, "item_id": case.item_id, **answer}
                commitment = small_row_commitment(evaluation_results, row, salt)
                rows.append(row | {"commitment": commitment})
            if rows:
                connection.execute(insert(evaluation_results), rows)

    def _scored(self, rows: Sequence[RowMapping], cases: Sequence[SuiteCase]) -> list[Scored]:
        known = {case.case_id: case for case in cases}
        live = [row for row in rows if row["scores"] != "{}" and row["case_id"] in known]
        return [
            Scored(
                truth=known[row["case_id"]].value,
                value=None if row["value"] is None else decode(row["value"]),
                shares=None if row["probabilities"] is None else decode(row["probabilities"]),
                cluster=known[row["case_id"]].cluster_key or row["case_id"],
                latency_us=row["latency_us"] or 0,
                tokens_in=row["tokens_in"] or 0,
                error=row["error"],
            )
            for row in live
        ]


def _open(lab: Lab, candidate_id: str, cases: Sequence[SuiteCase], key: Secret | None) -> Opened:
    """Open the candidate with a permit for the most guarded case; every case needs one."""
    spec, _ = candidate_spec(lab, candidate_id)
    with lab.reading() as connection:
        marks = set(sensitivities(connection, [case.item_id for case in cases]).values())
    policy, zone = read_policy(lab.layout.policies / "policy.toml"), zone_of(lab, spec)
    permits = [authorize(mark, zone, policy) for mark in sorted(marks)]
    permit = permits[0] if spec.form == REMOTE else None
    return open_candidate(lab, candidate_id, Opening(permit=permit, key=key))
