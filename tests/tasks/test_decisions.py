"""Decisions are numbered without gaps at admission, closed once, and each has its own entry."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select

from freehold.canonical.json import commit
from freehold.errors import Conflict, NotFound, Refused
from freehold.evidence.entries import SYSTEM, Salts, row_commitment
from freehold.lab import Lab
from freehold.lab.schema import candidates, decisions, ledger_pending, salts
from freehold.policy.permits import IN_PROCESS, Policy, authorize
from freehold.records.spaces import Choice, Labels
from freehold.tasks.answering import shares_of, value_of
from freehold.tasks.candidates import (
    Opening,
    candidate_spec,
    open_candidate,
    register_candidate,
)
from freehold.tasks.contract import write_task
from freehold.tasks.decisions import (
    Answer,
    Asked,
    Asking,
    Recorder,
    admit,
    close_abandoned,
    close_answered,
    close_refused,
)
from task_samples import OPTIONS, scripted_model, support_task

ASKING = Asking("support", "sha256:c", "sha256:w", "trial", "sha256:m", "loaded")
ANSWER = Answer('"refund"', '{"refund":1000000000}', True, latency_us=3, execution="{}")


def asked(connection: Connection, count: int) -> list[Asked]:
    permit = authorize("internal", IN_PROCESS, Policy())
    found = []
    for place in range(count):
        item_id = f"itm_{secrets.token_hex(6)}"
        salt = secrets.token_bytes(32)
        connection.execute(insert(salts).values(item_id=item_id, salt=salt))
        found.append(Asked(item_id, commit(salt, place), permit))
    return found


def entries(connection: Connection, kind: str) -> list[dict]:
    rows = connection.execute(select(ledger_pending.c.bytes).order_by(ledger_pending.c.seq))
    records = [json.loads(bytes(row.bytes)) for row in rows]
    return [record for record in records if record["kind"] == kind]


def admit_and_break_off(recorder: Recorder) -> None:
    rows = admit(recorder, ASKING, asked(recorder.connection, 5))
    close_answered(recorder, rows, [ANSWER] * 5)
    close_answered(recorder, rows, [ANSWER] * 5)


def test_numbers_have_no_gaps_and_a_rollback_gives_them_back(lab: Lab) -> None:
    """450 rows take three entries; what was rolled back leaves no hole."""
    with lab.writing() as connection:
        first = admit(Recorder(lab, connection, SYSTEM), ASKING, asked(connection, 450))
    with pytest.raises(Conflict, match="closed already"), lab.writing() as connection:
        admit_and_break_off(Recorder(lab, connection, SYSTEM))
    with lab.writing() as connection:
        second = admit(Recorder(lab, connection, SYSTEM), ASKING, asked(connection, 2))
        admitted = entries(connection, "decisions.admitted")
    assert [row["number"] for row in first + second] == list(range(1, 453))
    assert [(one["body"]["first"], one["body"]["last"]) for one in admitted] == [
        (1, 200), (201, 400), (401, 450), (451, 452),
    ]  # fmt: skip


def test_each_closed_decision_has_an_entry_that_binds_its_row(lab: Lab) -> None:
    with lab.writing() as connection:
        recorder = Recorder(lab, connection, SYSTEM)
        one, two, three = admit(recorder, ASKING, asked(connection, 3))
        close_answered(recorder, [one], [ANSWER])
        close_refused(recorder, [two], ["no rule"])
        close_abandoned(recorder, [three], "died")
    with lab.reading() as connection:
        rows = connection.execute(select(decisions).order_by(decisions.c.number)).mappings().all()
        known = Salts(connection)
        for row in rows:
            (entry,) = entries(connection, f"decision.{row['state']}")
            expected = {row["decision_id"]: row_commitment(decisions, row, known)}
            assert entry["rows"] == {"decisions": expected}
            assert entry["entry_id"] == row["entry_id"]
            assert entry["body"]["number"] == row["number"]
    assert [row["state"] for row in rows] == ["answered", "refused", "abandoned"]
    assert rows[0]["value"] == '"refund"'
    assert rows[0]["calibrated"] == 1


def test_a_decision_is_closed_once(lab: Lab) -> None:
    with lab.writing() as connection:
        recorder = Recorder(lab, connection, SYSTEM)
        rows = admit(recorder, ASKING, asked(connection, 2))
        close_answered(recorder, rows[:1], [ANSWER])
    with pytest.raises(Conflict, match="closed already"), lab.writing() as connection:
        close_abandoned(Recorder(lab, connection, SYSTEM), rows, "late")
    with lab.reading() as connection:
        states = connection.execute(select(decisions.c.state).order_by(decisions.c.number))
        assert list(states.scalars()) == ["answered", "admitted"]


def test_a_candidate_is_registered_once_and_opens_as_it_was(lab: Lab) -> None:
    task, model = support_task(lab), scripted_model(lab)
    first = register_candidate(lab, task, "fake", actor=SYSTEM)
    assert register_candidate(lab, task, model, actor=SYSTEM) == first
    spec, model_digest = candidate_spec(lab, first)
    opened = open_candidate(lab, first)
    scored = opened.scorer.score(["my card is gone"])[0]
    assert first == spec.digest
    assert model_digest == model
    assert (spec.calibrated, spec.identity_basis) == (False, "loaded")
    assert opened.task.question() == task.question()
    assert value_of(opened.task, scored) == "card_lost"
    assert sum(shares_of(opened.task, scored).values()) == pytest.approx(1_000_000_000, abs=3)
    with pytest.raises(NotFound, match="no candidate 'sha256:no'"):
        open_candidate(lab, "sha256:no")


def test_a_label_applies_from_the_threshold_on(sqlite_lab: Lab) -> None:
    """The threshold is part of the identity; threads are not."""
    task = write_task(sqlite_lab, "tags", Labels(OPTIONS))
    scripted_model(sqlite_lab)
    ids = [
        register_candidate(sqlite_lab, task, "fake", actor=SYSTEM, options=options)
        for options in ({}, {"threshold": "0.05"})
    ]
    answers = []
    for one in ids:
        opened = open_candidate(sqlite_lab, one)
        scored = opened.scorer.score(["a card and a refund"])[0]
        answers.append(value_of(opened.task, scored, opened.spec.threshold))
    assert answers == [["refund", "card_lost"], list(OPTIONS)]


def test_a_candidate_that_behaves_otherwise_is_refused(sqlite_lab: Lab, tmp_path: Path) -> None:
    """A registration whose recorded behaviour differs from today's is not opened silently."""
    task = write_task(sqlite_lab, "support", Choice(OPTIONS))
    scripted_model(sqlite_lab)
    first = register_candidate(sqlite_lab, task, "fake", actor=SYSTEM)
    with sqlite_lab.writing() as connection:
        spec = connection.execute(select(candidates.c.spec)).scalar_one()
        changed = spec.replace('"freehold":"0.1.0"', '"freehold":"0.0.9"')
        changed = changed.replace("[900000000,", "[800000000,")
        connection.execute(candidates.update().values(spec=changed))
    with pytest.raises(Refused, match=r"freehold was 0\.0\.9.*answers to the probe texts differ"):
        open_candidate(sqlite_lab, first)
    drift = open_candidate(sqlite_lab, first, Opening(exact=False)).drift
    assert len(drift) == 2
