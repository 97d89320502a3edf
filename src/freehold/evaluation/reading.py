"""Reading evaluations: what was run, its figures, and its results as the gate takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select

from freehold.canonical.json import decode
from freehold.errors import NotFound, Refused, SettingsError
from freehold.evaluation.verdict import CaseResult
from freehold.lab.opened import Lab
from freehold.lab.schema import candidates, evaluation_results, evaluations
from freehold.lab.schema import suite_cases as case_table


@dataclass(frozen=True, slots=True)
class EvaluationRecord:
    """One evaluation. `metrics` and `root` are None until it is done; `execution` says how."""

    evaluation_id: str
    suite_id: str
    candidate_id: str
    state: str
    root: str | None
    metrics: dict[str, Any] | None
    execution: dict[str, Any]
    started_at: str
    ended_at: str | None
    created_by: str

    @property
    def again(self) -> bool:
        """Whether this is a second run, made to measure noise."""
        return bool(self.execution["again"])


def find_evaluation(
    lab: Lab, candidate_id: str, suite_id: str, *, again: bool = False
) -> EvaluationRecord | None:
    """Return the evaluation of a candidate on a suite, done or running, if there is one."""
    with lab.reading() as connection:
        found = evaluations_of(connection, candidate_id, suite_id, again=again)
    return found[0] if found else None


def evaluation_record(lab: Lab, evaluation_id: str) -> EvaluationRecord:
    """Return an evaluation by its id. Raises NotFound."""
    with lab.reading() as connection:
        row = connection.execute(
            select(evaluations).where(evaluations.c.evaluation_id == evaluation_id)
        ).mappings()
        found = row.first()
    if found is None:
        raise NotFound(f"no evaluation {evaluation_id!r} in this lab")
    return _record(found)


def list_evaluations(lab: Lab, task: str | None = None) -> list[EvaluationRecord]:
    """Return every evaluation, oldest first, of one task or of all."""
    query = select(evaluations).order_by(evaluations.c.started_at, evaluations.c.evaluation_id)
    if task is not None:
        joined = evaluations.join(
            candidates, candidates.c.candidate_id == evaluations.c.candidate_id
        )
        query = query.select_from(joined).where(candidates.c.task == task)
    with lab.reading() as connection:
        return [_record(row) for row in connection.execute(query).mappings()]


def results_of(lab: Lab, evaluation_id: str, unit: str = "case_id") -> tuple[CaseResult, ...]:
    """Return the results of an evaluation that is done, as the gate takes them.

    `unit` says which cases count together: ``case_id`` groups by entity where it is known, another
    name by that slice. Cases erased since are left out. Raises Refused while it runs,
    SettingsError for a unit that a case lacks.
    """
    record = evaluation_record(lab, evaluation_id)
    if record.state != "done":
        raise Refused(
            f"evaluation {evaluation_id} is not done",
            hint="Run the same `freehold evaluate` again; it goes on where it stopped.",
        )
    joined = evaluation_results.join(
        case_table,
        (case_table.c.case_id == evaluation_results.c.case_id)
        & (case_table.c.suite_id == record.suite_id),
    )
    query = (
        select(
            evaluation_results.c.case_id,
            evaluation_results.c.scores,
            case_table.c.value,
            case_table.c.cluster_key,
            case_table.c.slices,
        )
        .select_from(joined)
        .where(evaluation_results.c.evaluation_id == evaluation_id)
        .order_by(evaluation_results.c.position)
    )
    with lab.reading() as connection:
        rows = [row for row in connection.execute(query) if row.value is not None]
    return tuple(
        CaseResult(row.case_id, _cluster(row, slices, unit), decode(row.scores), slices)
        for row in rows
        for slices in ({key: str(value) for key, value in decode(row.slices).items()},)
    )


def uses_of(lab: Lab, suite_id: str) -> int:
    """Return how many candidates were evaluated on a suite: each use wears it a little."""
    with lab.reading() as connection:
        query = select(func.count(func.distinct(evaluations.c.candidate_id))).where(
            evaluations.c.suite_id == suite_id
        )
        return int(connection.execute(query).scalar_one())


def evaluations_of(
    connection: Connection, candidate_id: str, suite_id: str, *, again: bool
) -> list[EvaluationRecord]:
    """Return the evaluations of a candidate on a suite, oldest first, inside a transaction."""
    query = (
        select(evaluations)
        .where(evaluations.c.candidate_id == candidate_id, evaluations.c.suite_id == suite_id)
        .order_by(evaluations.c.started_at, evaluations.c.evaluation_id)
    )
    found = [_record(row) for row in connection.execute(query).mappings()]
    return [one for one in found if one.again == again]


def _record(row: RowMapping) -> EvaluationRecord:
    return EvaluationRecord(
        row["evaluation_id"],
        row["suite_id"],
        row["candidate_id"],
        row["state"],
        row["root"],
        None if row["metrics"] is None else decode(row["metrics"]),
        decode(row["execution"]),
        row["started_at"],
        row["ended_at"],
        row["created_by"],
    )


def _cluster(row: Any, slices: dict[str, str], unit: str) -> str:
    if unit == "case_id":
        return str(row.cluster_key or row.case_id)
    if unit not in slices:
        known = ", ".join(sorted(slices)) or "none"
        raise SettingsError(
            f"cases of the suite have no {unit!r} to count together by; they have: {known}",
            field="unit",
        )
    return slices[unit]
