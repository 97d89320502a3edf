"""Who may sign a verdict, and what a signature is worth afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import update

from freehold.errors import (
    GateRefused,
    InputError,
    IntegrityError,
    NotFound,
    Refused,
)
from freehold.evidence.notes import Signer
from freehold.evidence.people import add_person, make_person_key
from freehold.evidence.verification import verify_lab
from freehold.lab import open_lab
from freehold.lab.schema import approvals, candidates, ledger_entries
from freehold.registry.approvals import approvals_of, approve
from freehold.registry.releases import promote
from registry_desk import Desk

REASON = "read the report"


def passing(desk: Desk) -> tuple[str, str]:
    """A candidate and the verdict that lets it pass."""
    desk.plan()
    good, poor = desk.bench.candidate("good"), desk.bench.candidate("poor", ("loan",))
    return good, desk.judged(good, poor).verdict_id


def test_an_approval_is_signed_and_checked_again(either_desk: Desk) -> None:
    desk = either_desk
    candidate, verdict_id = passing(desk)
    given = approve(desk.lab, verdict_id, key_path=desk.key, reason=REASON)
    assert given.principal_id == desk.approver.principal_id
    assert given.statement["candidate_id"] == candidate
    assert given.statement["meaning"].startswith("I have read the gate's report and answer")
    assert approvals_of(desk.lab, verdict_id) == [given]
    assert verify_lab(desk.lab).faults == ()


def test_a_refusal_is_kept_and_counts_until_signed_again(desk: Desk) -> None:
    candidate, verdict_id = passing(desk)
    approve(desk.lab, verdict_id, key_path=desk.key, reason=REASON)
    approve(desk.lab, verdict_id, key_path=desk.key, decision="refuse", reason="on second thoughts")
    with pytest.raises(GateRefused, match="was refused at"):
        promote(desk.lab, candidate, task="support", actor=desk.actor, reason="x")
    approve(desk.lab, verdict_id, key_path=desk.key, reason="on third thoughts")
    promote(desk.lab, candidate, task="support", actor=desk.actor, reason="x")
    assert [one.decision for one in approvals_of(desk.lab, verdict_id)] == [
        "approve",
        "refuse",
        "approve",
    ]


def test_what_nobody_can_approve(desk: Desk, tmp_path: Path) -> None:
    desk.plan()
    good, poor = desk.bench.candidate("good"), desk.bench.candidate("poor", ("loan",))
    worse = desk.judged(poor, good).verdict_id
    with pytest.raises(GateRefused, match="the verdict is 'worse', which nobody can approve"):
        approve(desk.lab, worse, key_path=desk.key, reason=REASON)
    approve(desk.lab, worse, key_path=desk.key, decision="refuse", reason=REASON)
    passed = desk.judged(good, poor).verdict_id
    with pytest.raises(InputError, match="approve or refuse, got 'yes'"):
        approve(desk.lab, passed, key_path=desk.key, decision="yes", reason=REASON)
    with pytest.raises(InputError, match="needs a reason"):
        approve(desk.lab, passed, key_path=desk.key, reason=" ")
    with pytest.raises(NotFound, match="no verdict 'vdt_x'"):
        approve(desk.lab, "vdt_x", key_path=desk.key, reason=REASON)
    with pytest.raises(NotFound, match="no key file"):
        approve(desk.lab, passed, key_path=tmp_path / "none", reason=REASON)


def test_a_key_that_is_not_on_record(desk: Desk, tmp_path: Path) -> None:
    _, verdict_id = passing(desk)
    forged = tmp_path / "forged.key"
    forged.write_text(Signer.generate(desk.approver.principal_id).to_private_text())
    with pytest.raises(Refused, match="is not the key on record for Dana"):
        approve(desk.lab, verdict_id, key_path=forged, reason=REASON)
    stranger = tmp_path / "stranger.key"
    stranger.write_text(Signer.generate("prs_stranger").to_private_text())
    with pytest.raises(NotFound, match="no person 'prs_stranger'"):
        approve(desk.lab, verdict_id, key_path=stranger, reason=REASON)
    stranger.write_text("no key at all")
    with pytest.raises(InputError, match="not a private signing key"):
        approve(desk.lab, verdict_id, key_path=stranger, reason=REASON)


def test_only_approvers_approve(desk: Desk, tmp_path: Path) -> None:
    _, verdict_id = passing(desk)
    with desk.lab.writing() as connection:
        add_person(desk.lab, connection, "Rey", roles=("reviewer",))
    key = tmp_path / "rey.key"
    make_person_key(desk.lab, "Rey", key)
    with pytest.raises(GateRefused, match=r"Rey is no approver in this lab \(roles: reviewer\)"):
        approve(desk.lab, verdict_id, key_path=key, reason=REASON)


def own_run(desk: Desk, key: Path) -> tuple[str, str]:
    """A passing verdict on a candidate of Sam's own run; Sam has a key and the approver's role."""
    make_person_key(desk.lab, "Sam", key)
    desk.plan()
    good, poor = desk.bench.candidate("good"), desk.bench.candidate("poor", ("loan",))
    run_id = desk.run_by(desk.engineer, desk.dataset())
    with desk.lab.writing() as connection:
        connection.execute(
            update(candidates).where(candidates.c.candidate_id == good).values(run_id=run_id)
        )
    return good, desk.judged(good, poor).verdict_id


def test_whoever_trained_it_does_not_approve_it(desk: Desk, tmp_path: Path) -> None:
    key = tmp_path / "sam.key"
    candidate, verdict_id = own_run(desk, key)
    with pytest.raises(GateRefused, match="Sam started the training run and cannot approve"):
        approve(desk.lab, verdict_id, key_path=key, reason=REASON)
    approve(desk.lab, verdict_id, key_path=desk.key, reason=REASON)
    assert promote(desk.lab, candidate, task="support", actor=desk.actor, reason="x").number == 1


def test_one_person_alone_may_on_the_record(desk: Desk, tmp_path: Path) -> None:
    key = tmp_path / "sam.key"
    candidate, verdict_id = own_run(desk, key)
    settings = desk.lab.layout.settings
    settings.write_text(settings.read_text().replace("other_person = true", "other_person = false"))
    with open_lab(desk.lab.root) as lab:
        approve(lab, verdict_id, key_path=key, reason=REASON)
        with lab.reading() as connection:
            entries = connection.execute(ledger_entries.select()).all()
        assert any(b"approval.other_person is off" in bytes(row.bytes) for row in entries)
        # With the rule on again, what was approved without it carries no promotion.
        with pytest.raises(GateRefused, match="Sam started the training run"):
            promote(desk.lab, candidate, task="support", actor=desk.actor, reason="x")
        assert promote(lab, candidate, task="support", actor=desk.actor, reason="x").number == 1


@pytest.mark.parametrize(
    "change",
    [{"decision": "approve"}, {"verdict_digest": "sha256:0"}, {"principal_id": "prs_x"}],
)
def test_an_approval_changed_behind_the_ledger(desk: Desk, change: dict[str, str]) -> None:
    candidate, verdict_id = passing(desk)
    approve(desk.lab, verdict_id, key_path=desk.key, decision="refuse", reason=REASON)
    with desk.lab.writing() as connection:
        connection.execute(update(approvals).values(change))
    with pytest.raises(IntegrityError, match=r"approvals/apr_\w+ is not what the ledger's entry"):
        promote(desk.lab, candidate, task="support", actor=desk.actor, reason="x")
