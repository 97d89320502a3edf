"""Judging a candidate: gather what the gate must know, let it judge, write the verdict down.

The rules are in `evaluation.gate`; this file brings the facts: both arms' results on the same
frozen cases, a second run of the champion for the noise, what the candidate was trained on, which
gold is contaminated, when the plan was fixed and when the candidate was first evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, select

from freehold.canonical.json import decode, digest, encode_text
from freehold.datasets.leaks import leak_check
from freehold.datasets.suites import SuiteRecord, get_suite
from freehold.errors import Conflict, GateRefused, IntegrityError, NotFound
from freehold.evaluation.gate import (
    ArmFacts,
    GateContext,
    GatePlan,
    Results,
    Verdict,
    judge,
    render_report,
)
from freehold.evaluation.run import (
    EvaluationRecord,
    evaluate,
    evaluation_record,
    find_evaluation,
    list_evaluations,
    results_of,
    uses_of,
)
from freehold.evidence.entries import Entry
from freehold.evidence.sequencer import publish
from freehold.lab.opened import Lab
from freehold.lab.schema import objects, verdicts
from freehold.models.files import record_objects
from freehold.records.ids import new_id
from freehold.registry.plans import PlanRecord, find_plan
from freehold.registry.standing import (
    Origin,
    contaminated_gold,
    current_release,
    origin_of,
    require_committed,
)
from freehold.tasks.candidates import REMOTE

BASELINES: Final = ("estimator", "majority")


@dataclass(frozen=True, slots=True)
class VerdictRecord:
    """One verdict as it stands in the lab. `record` is what its digest is taken over."""

    verdict_id: str
    task: str
    candidate_id: str
    suite_id: str
    plan_digest: str
    champion_evaluation: str
    candidate_evaluation: str
    verdict: str
    record: dict[str, Any]
    verdict_digest: str
    created_at: str
    created_by: str

    @property
    def passed(self) -> bool:
        """Whether a promotion may stand on it."""
        return bool(self.record["passed"])

    @property
    def trained_by(self) -> tuple[str, ...]:
        """Who started the runs that the candidate comes from (pseudonyms)."""
        return tuple(self.record["trained_by"])


@dataclass(frozen=True, slots=True)
class _Arm:
    """One side of the comparison, evaluated on every suite of the plan, by the suite's name."""

    origin: Origin
    evaluations: dict[str, EvaluationRecord]
    results: Results
    first_evaluated_at: str


def gate_candidate(
    lab: Lab,
    task: str,
    candidate: str,
    *,
    suite: str,
    plan: str,
    champion: str | None = None,
    actor: str,
) -> VerdictRecord:
    """Judge a candidate by a registered plan (name or digest) on a suite, and keep the verdict.

    Evaluations that are missing are run first. Without `champion` it is the candidate that serves,
    else the best baseline that was evaluated on this suite. Whatever cannot be trusted gives the
    verdict "invalid" with every reason; only what cannot be compared at all is an error: NotFound,
    Conflict for a candidate of another task or a plan for another suite, GateRefused where there
    is no champion.
    """
    fixed, frozen = find_plan(lab, plan), get_suite(lab, suite)
    if fixed.plan.suite not in {frozen.name, frozen.label, frozen.suite_id}:
        raise Conflict(
            f"gate plan {fixed.plan.name} judges by suite {fixed.plan.suite}, not {frozen.label}"
        )
    suites = {name: get_suite(lab, name) for name in fixed.plan.suites} | {fixed.plan.suite: frozen}
    with lab.reading() as connection:
        origin = origin_of(connection, candidate, task)
        serving = current_release(connection, task)
    rival = champion or (serving.candidate_id if serving else None)
    rival = rival or _best_baseline(lab, task, frozen, fixed.plan, candidate)
    with lab.reading() as connection:
        rival_origin = origin_of(connection, rival, task)
    old = _evaluated(lab, rival_origin, fixed.plan, suites, actor)
    new = _evaluated(lab, origin, fixed.plan, suites, actor)
    rerun = _rerun(lab, rival_origin, frozen, fixed.plan, actor)
    context = _context(lab, fixed, suites, (old, new), rerun)
    verdict = judge(fixed.plan, old.results, new.results, context)
    verdict_id = _keep(lab, fixed, verdict, (old, new), actor)
    publish(lab)
    return get_verdict(lab, verdict_id)


def get_verdict(lab: Lab, verdict_id: str) -> VerdictRecord:
    """Return a verdict. Raises NotFound, and IntegrityError where it is not what was judged."""
    with lab.reading() as connection:
        return read_verdict(connection, verdict_id)


def read_verdict(connection: Connection, verdict_id: str) -> VerdictRecord:
    """`get_verdict` inside a transaction."""
    row = (
        connection.execute(select(verdicts).where(verdicts.c.verdict_id == verdict_id))
        .mappings()
        .first()
    )
    if row is None:
        raise NotFound(f"no verdict {verdict_id!r} in this lab")
    return _checked(connection, row)


def latest_verdict(connection: Connection, task: str, candidate_id: str) -> VerdictRecord | None:
    """Return the newest verdict on a candidate: an earlier one does not count any more."""
    query = (
        select(verdicts)
        .where(verdicts.c.task == task, verdicts.c.candidate_id == candidate_id)
        .order_by(verdicts.c.created_at.desc(), verdicts.c.verdict_id.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else _checked(connection, row)


def list_verdicts(lab: Lab, task: str | None = None) -> list[VerdictRecord]:
    """Return every verdict, oldest first, of one task or of all."""
    query = select(verdicts).order_by(verdicts.c.created_at, verdicts.c.verdict_id)
    if task is not None:
        query = query.where(verdicts.c.task == task)
    with lab.reading() as connection:
        return [_checked(connection, row) for row in connection.execute(query).mappings().all()]


def report_page(lab: Lab, verdict_id: str) -> str:
    """Return the one page that the approver reads. Raises NotFound."""
    with lab.reading() as connection:
        judged = read_verdict(connection, verdict_id).verdict_digest
        name = connection.execute(
            select(objects.c.digest).where(objects.c.purpose == _purpose(judged))
        ).scalar()
    if name is None:
        raise NotFound(f"no report of verdict {verdict_id!r} in this lab")
    return lab.objects.get(name).decode("utf-8")


def _evaluated(
    lab: Lab, origin: Origin, plan: GatePlan, suites: dict[str, SuiteRecord], actor: str
) -> _Arm:
    done = {
        name: evaluation_record(lab, evaluate(lab, origin.candidate_id, one.suite_id, actor=actor))
        for name, one in suites.items()
    }
    results = {
        name: results_of(lab, one.evaluation_id, plan.unit if name == plan.suite else "case_id")
        for name, one in done.items()
    }
    own = done[plan.suite]
    figures = (own.metrics or {}).get("run", {})
    # Run again or not, the candidate was known from the moment in which its first case was asked.
    second = find_evaluation(lab, origin.candidate_id, own.suite_id, again=True)
    started = min(one.started_at for one in (own, second) if one is not None)
    return _Arm(origin, done, Results(results, figures), started)


def _rerun(
    lab: Lab, champion: Origin, suite: SuiteRecord, plan: GatePlan, actor: str
) -> Results | None:
    """Return a second run of the champion: how far one and the same candidate moves.

    A provider's model is not asked a second time without being told to (it costs, and needs a
    key): `evaluate` with ``again`` does that, and then its results are taken.
    """
    done = find_evaluation(lab, champion.candidate_id, suite.suite_id, again=True)
    if champion.spec["runtime"]["form"] == REMOTE and (done is None or done.state != "done"):
        return None
    again = evaluate(lab, champion.candidate_id, suite.suite_id, actor=actor, again=True)
    return Results({plan.suite: results_of(lab, again, plan.unit)})


def _context(
    lab: Lab,
    fixed: PlanRecord,
    suites: dict[str, SuiteRecord],
    arms: tuple[_Arm, _Arm],
    rerun: Results | None,
) -> GateContext:
    old, new = arms
    frozen = suites[fixed.plan.suite]
    with lab.reading() as connection:
        tainted = [contaminated_gold(connection, one.suite_id) for one in suites.values()]
    return GateContext(
        champion=_facts(old, fixed.plan.suite, suites),
        candidate=_facts(new, fixed.plan.suite, suites),
        to_serve=new.origin.model_digest,
        plan_digest=fixed.digest,
        plan_fixed_at=fixed.created_at,
        leaks={name: _leaked(lab, new.origin, one) for name, one in suites.items()},
        contaminated_gold=tuple(dict.fromkeys(one for part in tainted for one in part)),
        test_uses=uses_of(lab, frozen.suite_id),
        champion_again=rerun,
        trained_by=new.origin.trained_by,
    )


def _leaked(lab: Lab, origin: Origin, suite: SuiteRecord) -> int:
    """Return how many cases of a suite are touched by anything that the candidate learned from."""
    found = [leak_check(lab, dataset, suite.suite_id).pairs for dataset in origin.datasets]
    return len({pair.case_item for pairs in found for pair in pairs})


def _facts(arm: _Arm, suite: str, suites: dict[str, SuiteRecord]) -> ArmFacts:
    own = arm.evaluations[suite]
    described = own.execution["runtime"]["described"]
    libraries = described.get("libraries", {})
    # An engine's kind is its code and what it runs on; versions and number formats tell engines of
    # one kind apart. What a candidate adds of its own (a temperature, a script) is no engine.
    kind = f"{described['runtime']} on {', '.join(sorted(libraries)) or 'nothing else'}"
    exact = {name: described.get(name) for name in ("libraries", "device", "dtype")}
    return ArmFacts(
        candidate=arm.origin.candidate_id,
        artefact=own.execution["artefact"],
        runtime=kind,
        engine=encode_text(exact),
        batch_policy=encode_text(own.execution["policy"]),
        cases={name: one.root for name, one in suites.items()},
        evaluated_at=arm.first_evaluated_at,
    )


def _best_baseline(lab: Lab, task: str, suite: SuiteRecord, plan: GatePlan, candidate: str) -> str:
    """Return the baseline with the best mean of the primary metric among those evaluated here."""
    found: list[tuple[float, str]] = []
    for one in list_evaluations(lab, task):
        usable = one.state == "done" and not one.again and one.suite_id == suite.suite_id
        form = one.execution["runtime"]["form"]
        if usable and form in BASELINES and one.candidate_id != candidate and plan.primary:
            scores = [
                float(case.scores.get(plan.primary.metric, 0))
                for case in results_of(lab, one.evaluation_id)
            ]
            sign = 1 if plan.primary.want == "higher" else -1
            found.append((sign * sum(scores) / max(1, len(scores)), one.candidate_id))
    if not found:
        raise GateRefused(
            f"there is nothing to compare with: no release serves {task}, and no baseline was "
            f"evaluated on {suite.label}",
            hint="Evaluate a baseline of the run first: freehold evaluate BASELINE --suite NAME",
        )
    return max(found)[1]


def _keep(
    lab: Lab, fixed: PlanRecord, verdict: Verdict, arms: tuple[_Arm, _Arm], actor: str
) -> str:
    old, new = arms
    verdict_id = new_id("vdt")
    page = lab.objects.put(render_report(verdict).encode())
    own = {name: arm.evaluations[fixed.plan.suite] for name, arm in (("old", old), ("new", new))}
    with lab.writing() as connection:
        record_objects(lab, connection, {page: _purpose(verdict.digest)}, actor)
        body = {"verdict_id": verdict_id, "candidate_id": new.origin.candidate_id}
        body |= {"verdict_digest": verdict.digest, "verdict": verdict.outcome, "report": page}
        entry = Entry(lab, connection, "candidate.judged", actor, body)
        entry.insert(
            verdicts,
            {
                "verdict_id": verdict_id,
                "task": new.origin.task,
                "plan_digest": fixed.digest,
                "suite_id": own["new"].suite_id,
                "champion_evaluation": own["old"].evaluation_id,
                "candidate_evaluation": own["new"].evaluation_id,
                "candidate_id": new.origin.candidate_id,
                "verdict": verdict.outcome,
                "report": encode_text(verdict.as_record()),
                "verdict_digest": verdict.digest,
                "created_at": entry.at,
                "created_by": actor,
            },
        )
        entry.close()
    return verdict_id


def _purpose(verdict_digest: str) -> str:
    # By the digest, not the id: judging the same once more gives the very same page.
    return f"gate report of {verdict_digest}"


def _checked(connection: Connection, row: RowMapping) -> VerdictRecord:
    require_committed(connection, verdicts, row)
    record = decode(row["report"])
    if digest(record) != row["verdict_digest"] or record["outcome"] != row["verdict"]:
        raise IntegrityError(f"verdict {row['verdict_id']} contradicts its own report")
    kept = {key: row[key] for key in row if key not in {"report", "schema_version", "entry_id"}}
    return VerdictRecord(**kept, record=record)
