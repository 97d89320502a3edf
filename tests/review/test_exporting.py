from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from freehold.canonical.json import decode
from freehold.errors import Conflict, InputError, ReadOnlyLab
from freehold.evidence.founding import found_lab
from freehold.evidence.people import add_person
from freehold.evidence.verification import verify_lab
from freehold.lab import Lab
from freehold.lab.schema import exports, labels, reviews
from freehold.lineage.erasing import erase
from freehold.records.spaces import Choice, Labels, Number, Space
from freehold.review.exporting import export_reviews
from freehold.review.importing import import_reviews
from freehold.review.queue import Filling, fill_queue, next_items
from freehold.review.submission import Submission
from freehold.review.submitting import submit_review
from freehold.tasks.contract import Task, write_task
from freehold.tasks.splits import SplitRule
from review_files import ON_SQLITE, OPTIONS, texts

Make = Callable[..., Any]
FORMATS = ["csv", "jsonl", "parquet", "xlsx", "label_studio"]
FEW = ["csv", "label_studio"]
CHOICES = Choice(("=refund", "card", "loan"))


@pytest.fixture
def reviewed(lab: Lab, person: Make, new_task: Make, take_in: Make, decide: Make) -> Make:
    """Three items: blind reviews by two people, one of them superseded, skipped, and not blind."""

    def made(space: Space, values: list[Any]) -> Task:
        task: Task = new_task("support", space)
        ids = take_in(task, texts(3, "test"))
        (decision,) = decide(task, ids[:1], [(values[0], {})], "cnd_a")
        told = [
            ("anna", Submission(ids[0], "correct", values[1])),
            ("anna", Submission(ids[0], "correct", values[0], reason="=misread, 'sorry'")),
            ("bela", Submission(ids[0], "accept", shown_decisions=(decision,))),
            ("anna", Submission(ids[1], "correct", values[1], milliseconds_spent=1250)),
            ("bela", Submission(ids[1], "skip", reason="not mine")),
            ("anna", Submission(ids[2], "correct", values[2])),
        ]
        for name, submission in told:
            actor = person(name)
            with lab.writing() as connection:
                submit_review(lab, connection, task, submission, actor=actor)
        return task

    return made


def told_of(lab: Lab) -> list[tuple[Any, ...]]:
    """Return what stands in a lab, without the names that labs give themselves."""
    with lab.reading() as connection:
        rows = connection.execute(select(reviews)).mappings().all()
        made = connection.execute(select(labels).where(labels.c.is_current == 1)).mappings()
        gold = {(row["item_id"], row["value"], row["gold"]) for row in made}
    standing = [
        (row["verdict"], row["value"], row["reason"], row["kind"], row["milliseconds_spent"],
         row["shown_decisions"] != "[]")
        for row in rows if row["superseded_by"] is None
    ]  # fmt: skip
    return sorted(map(str, standing)) + sorted(str(one[1:]) for one in gold)


@ON_SQLITE
@pytest.mark.parametrize(
    ("kind", "space", "values"),
    [
        *((kind, CHOICES, ["=refund", "card", "loan"]) for kind in FORMATS),
        *((kind, Labels(OPTIONS), [["refund", "loan"], [], ["card"]]) for kind in FEW),
        *((kind, Number(Decimal(0), Decimal(10)), ["2.5", "0", "10"]) for kind in FEW),
    ],
)
def test_what_leaves_comes_back_the_same_in_another_lab(
    lab: Lab, person: Make, reviewed: Make, tmp_path: Path, kind: str, space: Space,
    values: list[Any],
) -> None:  # fmt: skip
    task = reviewed(space, values)
    path = tmp_path / ("out.json" if kind == "label_studio" else f"out.{kind}")
    sent = export_reviews(
        lab, task.name, path, actor=person("ines"), recipient="Acme Ltd", format=kind
    )
    assert (sent.reviews, sent.items) == (5, 3)
    with found_lab(tmp_path / "other") as other:
        split = SplitRule(dev_percent=0, test_percent=0)
        write_task(other, task.name, space, split=split)
        with other.writing() as connection:
            actor = add_person(other, connection, "olga").principal_id
        first = import_reviews(other, task.name, path, actor=actor)
        assert (first.written, first.faults) == (5, ())
        assert told_of(other) == told_of(lab)
        assert import_reviews(other, task.name, path, actor=actor).written == 0
    back = import_reviews(lab, task.name, path, actor=person("ines"))
    assert (back.written, back.unchanged, back.items_added) == (0, 5, 0)


def test_an_export_is_on_the_record_with_whom_it_went_to(
    lab: Lab, person: Make, reviewed: Make, tmp_path: Path
) -> None:
    task = reviewed(Choice(OPTIONS), list(OPTIONS))
    path = tmp_path / "out.jsonl"
    sent = export_reviews(
        lab, task.name, path, actor=person("ines"), recipient="Acme Ltd", history=True
    )
    assert sent.reviews == len(path.read_text().splitlines()) == 6
    with lab.reading() as connection:
        (row,) = connection.execute(select(exports)).mappings()
    assert (row["export_id"], row["recipient"]) == (sent.export_id, "Acme Ltd")
    assert len(decode(row["item_ids"])) == 3


@ON_SQLITE
def test_nothing_leaves_without_a_recipient_or_to_where_nothing_can_be_written(
    lab: Lab, person: Make, reviewed: Make, tmp_path: Path
) -> None:
    task, actor = reviewed(Choice(OPTIONS), list(OPTIONS)), person("ines")
    with pytest.raises(InputError, match="names who receives it"):
        export_reviews(lab, task.name, tmp_path / "a.csv", actor=actor, recipient=" ")
    with pytest.raises(InputError, match="cannot tell which format"):
        export_reviews(lab, task.name, tmp_path / "a.doc", actor=actor, recipient="x")
    with pytest.raises((InputError, ReadOnlyLab), match="no folder"):
        export_reviews(lab, task.name, tmp_path / "no" / "a.csv", actor=actor, recipient="x")
    with lab.reading() as connection:
        assert connection.execute(select(exports)).first() is None


@ON_SQLITE
def test_annotations_made_elsewhere_are_live_and_blind_unless_a_prediction_was_shown(
    lab: Lab, person: Make, new_task: Make, tmp_path: Path
) -> None:
    new_task()

    def annotation(who: str, value: str | None, **more: Any) -> dict[str, Any]:
        choice = {"from_name": "intent", "to_name": "text", "type": "choices"}
        result = [] if value is None else [choice | {"value": {"choices": [value]}}]
        return {"completed_by": {"email": who}, "result": result, "lead_time": 1.5, **more}

    tasks = [
        {"id": 1, "data": {"body": "where is my money"},
         "annotations": [annotation("anna@x.org", "refund"), annotation("bela@x.org", "refund")]},
        {"id": 2, "data": {"body": "my card is gone"}, "predictions": [{"result": []}],
         "annotations": [annotation("anna@x.org", "card")]},
        {"id": 3, "data": {"body": "what is this"},
         "annotations": [annotation("anna@x.org", None, was_cancelled=True)]},
        {"id": 4, "data": {"body": "hello there"}, "annotations": [annotation("b", "rebate")]},
    ]  # fmt: skip
    path = tmp_path / "project.json"
    path.write_text(json.dumps(tasks))
    report = import_reviews(lab, "support", path, actor=person("ines"))
    assert (report.written, report.items_added, report.settled.settled) == (4, 3, 2)
    assert [(bad.line, bad.field) for bad in report.faults] == [(4, "intent")]
    with lab.reading() as connection:
        found = connection.execute(select(labels.c.value, labels.c.gold)).all()
    assert sorted(map(tuple, found)) == [('"card"', 0), ('"refund"', 1)]
    assert import_reviews(lab, "support", path, actor=person("ines")).written == 0


@ON_SQLITE
def test_an_erased_item_is_offered_to_nobody_and_does_not_come_back_by_an_old_file(
    lab: Lab, person: Make, new_task: Make, take_in: Make, tmp_path: Path
) -> None:
    task, actor, anna = new_task(), person("ines"), person("anna")
    ids = take_in(task, texts(3))
    with lab.writing() as connection:
        submit_review(lab, connection, task, Submission(ids[0], "correct", "card"), actor=anna)
    path = tmp_path / "out.csv"
    export_reviews(lab, task.name, path, actor=actor, recipient="Acme Ltd")
    fill_queue(lab, task.name, Filling(2), actor=actor)
    (held,) = next_items(lab, task.name, anna)
    erase(lab, item_ids=[ids[0], held.item_id], reason="ticket 7", actor=actor)
    offered = next_items(lab, task.name, anna, n=5)
    assert [offer.item_id for offer in offered] == [i for i in ids[1:] if i != held.item_id]
    late = Submission(held.item_id, "correct", "card", assignment_id=held.assignment_id)
    with (
        pytest.raises(Conflict, match="was dropped: its item was erased"),
        lab.writing() as connection,
    ):
        submit_review(lab, connection, task, late, actor=anna)
    report = import_reviews(lab, task.name, path, actor=actor)
    assert (report.written, [bad.reason for bad in report.faults]) == (0, ["its item was erased"])
    assert export_reviews(lab, task.name, path, actor=actor, recipient="Acme Ltd").reviews == 0
    assert verify_lab(lab).faults == ()
