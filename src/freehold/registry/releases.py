"""Releases: which candidate serves a task, since when, and on whose word.

Each change is one transaction with its ledger entry and takes the task's next number. Whatever
goes back to serving is checked again: its model's files and signature, and its licence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from freehold.access.people import find_person
from freehold.errors import Conflict, GateRefused, InputError, NotFound
from freehold.evaluation.run import evaluate
from freehold.evidence.entries import Entry
from freehold.evidence.sequencer import publish
from freehold.lab.opened import Lab
from freehold.lab.schema import releases as release_table
from freehold.lab.sequences import take_number
from freehold.models.intake import require_usable, verify_model
from freehold.models.records import ancestors_of
from freehold.records.ids import new_id
from freehold.registry.approvals import MAY_APPROVE, valid_approval
from freehold.registry.gating import latest_verdict
from freehold.registry.parity import compare_evaluations, only_versions_differ
from freehold.registry.standing import Origin, Release, current_release, origin_of, timeline

__all__ = ["Release", "current_release", "promote", "releases", "requalify", "rollback"]


@dataclass(frozen=True, slots=True)
class _Change:
    """What the next release of a task is to be."""

    task: str
    candidate_id: str
    kind: str
    reason: str
    verdict_id: str | None = None
    approval_id: str | None = None
    facts: dict[str, Any] | None = None


def promote(lab: Lab, candidate_id: str, *, task: str, actor: str, reason: str) -> Release:
    """Let a candidate serve a task, on its latest verdict and a valid approval of that verdict.

    Raises GateRefused without a passing verdict or a valid approval, Conflict where the candidate
    serves already, LicenceRefused where its model may not be used, IntegrityError where model,
    verdict or approval are not what they were.
    """
    _require_reason(reason)
    with lab.reading() as connection:
        origin = origin_of(connection, candidate_id, task)
    _require_servable(lab, origin)
    with lab.writing() as connection:
        number = _next_number(connection, task)
        serving = current_release(connection, task)
        if serving is not None and serving.candidate_id == candidate_id:
            raise Conflict(f"this candidate serves {task} already, as release {serving.number}")
        verdict = latest_verdict(connection, task, candidate_id)
        if verdict is None:
            raise GateRefused(
                f"candidate {candidate_id[:19]}… was never judged for {task}",
                hint="Fix a plan, evaluate the candidate, let the gate judge it.",
            )
        if not verdict.passed:
            why = "; ".join(one["text"] for one in verdict.record["reasons"])
            raise GateRefused(f"the latest verdict is {verdict.verdict!r}: {why}")
        approval = valid_approval(lab, connection, verdict)
        change = _Change(
            task,
            candidate_id,
            "promote",
            reason,
            verdict.verdict_id,
            approval.approval_id,
            {"verdict_digest": verdict.verdict_digest},
        )
        release = _write(lab, connection, change, number, actor)
    publish(lab)
    return release


def rollback(lab: Lab, task: str, *, approver: str, reason: str, to: int | None = None) -> Release:
    """Return to the candidate that served before (or as release number `to`); a new release.

    `approver` names a person with the role of an approver or owner, who answers for it: a rollback
    waits for no signature, because it ends harm. Raises GateRefused where there is nothing to
    return to or the person is no approver, NotFound for a number that never was.
    """
    _require_reason(reason)
    with lab.reading() as connection:
        person = find_person(connection, approver)
        before = timeline(connection, task)
        target = _target(before, task, to)
        origin = origin_of(connection, target.candidate_id, task)
    if not MAY_APPROVE & set(person.roles):
        raise GateRefused(
            f"{approver} is no approver in this lab and cannot roll back",
            hint="An approver or owner does: freehold people add NAME --role approver",
        )
    _require_servable(lab, origin)
    with lab.writing() as connection:
        number = _next_number(connection, task)
        serving = timeline(connection, task)[-1]
        if serving.number != before[-1].number:
            raise Conflict(f"another release of {task} was made in the meantime; look again")
        if serving.candidate_id == target.candidate_id:
            raise Conflict(f"that candidate serves {task} already, as release {serving.number}")
        change = _Change(
            task,
            target.candidate_id,
            "rollback",
            reason,
            target.verdict_id,
            target.approval_id,
            {"from": serving.number, "to": target.number},
        )
        release = _write(lab, connection, change, number, person.principal_id)
    publish(lab)
    return release


def requalify(
    lab: Lab, candidate_id: str, *, task: str, suite: str, actor: str, reason: str
) -> Release:
    """Move the release that serves to the same candidate under other library versions.

    Parity takes the place of a verdict: both specifications must differ in versions alone, and on
    the suite every answer must be the same with probabilities within the tolerance. The old one is
    judged by its evaluation from before the upgrade. Raises GateRefused where any of that fails.
    """
    _require_reason(reason)
    with lab.reading() as connection:
        serving = current_release(connection, task)
        if serving is None:
            raise GateRefused(f"no release serves {task}; promote a candidate first")
        old = origin_of(connection, serving.candidate_id, task)
        new = origin_of(connection, candidate_id, task)
    only_versions_differ(old.spec, new.spec)
    _require_servable(lab, new)
    after = evaluate(lab, candidate_id, suite, actor=actor)
    parity = compare_evaluations(lab, serving.candidate_id, after)
    with lab.writing() as connection:
        number = _next_number(connection, task)
        now = current_release(connection, task)
        if now is None or now.release_id != serving.release_id:
            raise Conflict(f"another release of {task} was made in the meantime; look again")
        change = _Change(
            task,
            candidate_id,
            "requalify",
            reason,
            serving.verdict_id,
            serving.approval_id,
            {"parity": parity.as_record()},
        )
        release = _write(lab, connection, change, number, actor)
    publish(lab)
    return release


def releases(lab: Lab, task: str) -> list[Release]:
    """Return what served a task, from when to when and why, oldest first."""
    with lab.reading() as connection:
        return timeline(connection, task)


def _target(line: list[Release], task: str, to: int | None) -> Release:
    """Return the release to go back to.

    Without a number: the one before the release in which the serving candidate was promoted, so
    that two rollbacks in a row go back two steps and not to and fro.
    """
    if to is not None:
        for one in line:
            if one.number == to:
                return one
        raise NotFound(f"{task} has no release {to}")
    if line:
        serving = line[-1].candidate_id
        made = [n for n, one in enumerate(line) if one.candidate_id == serving and one.is_new]
        if made[-1] > 0:
            return line[made[-1] - 1]
    raise GateRefused(
        f"no earlier release of {task} to return to",
        hint=f"`freehold releases {task}` shows what has served.",
    )


def _require_servable(lab: Lab, origin: Origin) -> None:
    """Hash the candidate's model and all it stands on again, and ask for its licence."""
    with lab.reading() as connection:
        line = (origin.model_digest, *ancestors_of(connection, origin.model_digest))
    for digest in line:
        verify_model(lab, digest)
    require_usable(lab, origin.model_digest)


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise InputError("a change of what serves needs a reason")


def _next_number(connection: Connection, task: str) -> int:
    """Take the task's next release number; whoever has it is alone with the task until commit."""
    return take_number(connection, f"releases/{task}")


def _write(lab: Lab, connection: Connection, change: _Change, number: int, actor: str) -> Release:
    release_id = new_id("rel")
    body = {"release_id": release_id, "task": change.task, "number": number, "kind": change.kind}
    body |= {"candidate_id": change.candidate_id, **(change.facts or {})}
    entry = Entry(lab, connection, f"release.{_PAST[change.kind]}", actor, body)
    entry.insert(
        release_table,
        {
            "release_id": release_id,
            "task": change.task,
            "number": number,
            "candidate_id": change.candidate_id,
            "kind": change.kind,
            "verdict_id": change.verdict_id,
            "approval_id": change.approval_id,
            "reason": change.reason,
            "served_from": entry.at,
            "created_by": actor,
        },
    )
    entry.close()
    return timeline(connection, change.task)[-1]


_PAST: Final = {
    "promote": "promoted",
    "rollback": "rolled_back",
    "requalify": "requalified",
}
