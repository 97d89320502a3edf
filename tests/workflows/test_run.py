"""A run decides each row once and says what became of every row."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from sqlalchemy import select

from freehold.canonical.json import commit
from freehold.errors import InputError, LabBusy, NotFound, RowError
from freehold.evidence.entries import SYSTEM, Salts
from freehold.evidence.sequencer import pending_count
from freehold.lab import Lab
from freehold.lab.schema import decisions, workflow_runs
from freehold.records.spaces import Labels
from freehold.tasks.contract import write_task
from freehold.workflows.deciding import question_digest
from freehold.workflows.exclusive import only_process
from freehold.workflows.rows import IngestOptions
from freehold.workflows.run import RunOptions, RunReport, run_task
from task_samples import OPTIONS, require_sound, scripted_model, support_task, write_csv

TEXTS = ["my card is gone", "BOOM", "money back", "nothing known", "card card refund"]


def run(lab: Lab, path: Path, **options: object) -> RunReport:
    return run_task(lab, "support", path, actor=SYSTEM, options=RunOptions(model="fake", **options))


def test_every_row_is_decided_and_written_out(lab: Lab, tmp_path: Path) -> None:
    """The failed row is recorded and counted; running again tries only that one."""
    task = support_task(lab)
    scripted_model(lab)
    path, out = write_csv(tmp_path / "in.csv", TEXTS), tmp_path / "out.csv"
    seen: list[tuple[int, int]] = []
    report = run_task(
        lab, "support", path, actor=SYSTEM,
        options=RunOptions(model="fake", output=out, with_text=True),
        on_progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert (report.items, report.answered, report.failed, report.already) == (5, 4, 1, 0)
    assert seen == [(5, 0), (5, 5)]
    assert pending_count(lab) == 0
    require_sound(lab, 4)
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["q0", "q1", "q2", "q3", "q4"]
    assert [row["text"] for row in rows] == TEXTS
    assert [row["value"] for row in rows][:3] == ["card_lost", "", "refund"]
    assert rows[1]["error"] == "scripted to fail on 'BOOM'"
    assert rows[0]["probability"] == "0.9"
    again = run(lab, path)
    assert again.workflow_run == report.workflow_run
    assert (again.answered, again.failed, again.already) == (0, 1, 4)
    with lab.reading() as connection:
        row = connection.execute(select(decisions)).mappings().first()
        runs = connection.execute(select(workflow_runs)).mappings().all()
        salt = Salts(connection).get(row["item_id"])
    assert [one["state"] for one in runs] == ["done"]
    shown = {"candidate": report.candidate_id, "question": question_digest(task.question())}
    assert row["prompt_commitment"] == commit(salt, shown | {"text": TEXTS[0]})
    assert json.loads(row["execution"])["isa"] == "scripted"
    assert json.loads(row["permit"])["zone"] == "local"
    assert (row["route"], row["rule"], row["identity_basis"]) == ("in-process", "local", "loaded")
    assert (row["tokens_in"], row["calibrated"]) == (4, 0)
    assert row["latency_us"] >= 0


def test_a_finished_run_again_writes_nothing(sqlite_lab: Lab, tmp_path: Path) -> None:
    support_task(sqlite_lab)
    scripted_model(sqlite_lab)
    path = write_csv(tmp_path / "in.csv", TEXTS[2:])
    first = run(sqlite_lab, path)
    with sqlite_lab.reading() as connection:
        before = connection.execute(select(decisions)).all()
    second = run(sqlite_lab, path)
    with sqlite_lab.reading() as connection:
        assert connection.execute(select(decisions)).all() == before
    assert (first.answered, second.answered, second.already) == (3, 0, 3)
    # Another purpose or other bytes are another run over the same items.
    third = run(sqlite_lab, path, purpose="shadow")
    assert (third.added, third.answered) == (0, 3)
    assert third.workflow_run != first.workflow_run


def test_bad_rows_are_reported_and_strict_stops(sqlite_lab: Lab, tmp_path: Path) -> None:
    support_task(sqlite_lab)
    scripted_model(sqlite_lab)
    path = tmp_path / "in.csv"
    path.write_bytes(b"id,text\n1,card\n1,twice\n2,br\xffken\n3,\n4,refund\n")
    report = run(sqlite_lab, path)
    assert [bad.line for bad in report.bad_rows] == [3, 4, 5]
    assert report.answered == 2
    path.write_bytes(b"id,text\n5,card\n5,twice\n")
    with pytest.raises(RowError, match="line 3"):
        run(sqlite_lab, path, rows=IngestOptions(strict=True))
    require_sound(sqlite_lab, 2)


def test_labels_are_joined_in_the_output(sqlite_lab: Lab, tmp_path: Path) -> None:
    write_task(sqlite_lab, "support", Labels(OPTIONS))
    scripted_model(sqlite_lab)
    out = tmp_path / "out.jsonl"
    run(sqlite_lab, write_csv(tmp_path / "in.csv", ["a card and a refund", "hm"]), output=out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["value"] for row in rows] == ["refund|card_lost", ""]
    assert rows[0]["probability"] == pytest.approx(0.9)


def test_one_run_one_process(lab: Lab, tmp_path: Path) -> None:
    with (
        only_process(lab, "run-x"),
        pytest.raises(LabBusy, match="another process is at work on the same run"),
        only_process(lab, "run-x"),
    ):
        pytest.fail("two were let in")
    with only_process(lab, "run-x") as lease:
        assert lease.fence == 2


@pytest.mark.parametrize(
    ("options", "kind", "match"),
    [
        ({"model": "none"}, NotFound, "none"),
        ({}, NotFound, "has no release"),
        ({"release": "rel_1"}, NotFound, "has no release 'rel_1'"),
        ({"candidate": "sha256:no"}, NotFound, "no candidate"),
    ],
)
def test_who_answers_must_be_known(
    sqlite_lab: Lab, tmp_path: Path, options: dict, kind: type[Exception], match: str
) -> None:
    support_task(sqlite_lab)
    path = write_csv(tmp_path / "in.csv", TEXTS)
    with pytest.raises(kind, match=match):
        run_task(sqlite_lab, "support", path, actor=SYSTEM, options=RunOptions(**options))


def test_options_that_contradict_themselves() -> None:
    with pytest.raises(InputError, match="give one of model, release"):
        RunOptions(model="a", release="b")
    with pytest.raises(InputError, match="unknown purpose 'fun'"):
        RunOptions(purpose="fun")
