from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from freehold.errors import InputError, NotFound
from freehold.evidence.verification import verify_lab
from freehold.lab import Lab
from freehold.lab.schema import label_maps, labels
from freehold.records.spaces import Choice, Labels, Space
from freehold.review.label_maps import apply_label_map
from freehold.review.labels import current_labels
from freehold.review.queue import Filling, fill_queue, next_items
from freehold.review.submission import Submission
from freehold.review.submitting import submit_review
from freehold.tasks.contract import Task, load_task, task_path, write_task
from freehold.tasks.splits import SplitRule
from review_files import ON_SQLITE, texts

Make = Callable[..., Any]
OLD = ("refund", "card", "loan", "fees")
NEW = ("reimbursement", "card", "credit", "fee_dispute", "fee_question")
MAP = {"refund": "reimbursement", "loan": "credit", "fees": None}


@pytest.fixture
def change(lab: Lab, person: Make, new_task: Make, take_in: Make) -> Make:
    """Label one item with each value under the old options; then change the options."""

    def changed(old: Space, values: list[Any], new: Space) -> tuple[Task, list[str]]:
        task = new_task("support", old)
        ids: list[str] = take_in(task, texts(len(values)))
        actor = person("anna")
        for item, value in zip(ids, values, strict=True):
            with lab.writing() as connection:
                given = Submission(item, "correct", value)
                submit_review(lab, connection, task, given, actor=actor)
        task_path(lab, "support").unlink()
        write_task(lab, "support", new, split=SplitRule(dev_percent=0, test_percent=0))
        return load_task(lab, "support"), ids

    return changed


def test_old_labels_come_along_and_what_was_split_is_reviewed_again(
    lab: Lab, person: Make, change: Make
) -> None:
    task, ids = change(Choice(OLD), list(OLD), Choice(NEW))
    seen: list[tuple[int, int]] = []
    done = apply_label_map(
        lab, "support", MAP, actor=person("ines"), on_progress=lambda *n: seen.append(n)
    )
    assert (done.mapped, done.to_review, seen) == (3, 1, [(4, 4)])
    with lab.reading() as connection:
        now = current_labels(connection, "support", ids)
        (map_,) = connection.execute(select(label_maps)).mappings()
    told = [(now[i]["value"], now[i]["state"], now[i]["gold"], now[i]["version"]) for i in ids]
    assert told == [
        ('"reimbursement"', "settled", 1, 2),
        ('"card"', "settled", 1, 2),
        ('"credit"', "settled", 1, 2),
        (None, "withdrawn", 0, 2),
    ]
    assert {row["basis"] for row in now.values()} == {"mapped"}
    assert {row["decided_by"] for row in now.values()} == {map_["map_id"]}
    assert '"card":"card"' in map_["mapping"]

    fill_queue(lab, "support", Filling(10), actor=person("ines"))
    anna = person("anna")
    (offer,) = next_items(lab, "support", anna, n=10)
    assert offer.item_id == ids[3]
    with lab.writing() as connection:
        given = Submission(ids[3], "correct", "fee_dispute", assignment_id=offer.assignment_id)
        submit_review(lab, connection, task, given, actor=anna)
    with lab.reading() as connection:
        now = current_labels(connection, "support", ids)
    assert (now[ids[3]]["value"], now[ids[3]]["basis"]) == ('"fee_dispute"', "agreed")
    assert verify_lab(lab).faults == ()


def test_an_interrupted_map_goes_on_as_the_same_map(lab: Lab, person: Make, change: Make) -> None:
    """Stopped after its first batch of 100, it brings the rest over when it is applied again."""
    change(Choice(OLD), ["refund"] * 130, Choice(NEW))

    class StoppedError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        apply_label_map(lab, "support", MAP, actor=person("ines"), on_progress=stop)
    rest = apply_label_map(lab, "support", MAP, actor=person("ines"))
    assert rest.mapped == 30
    with lab.reading() as connection:
        assert len(connection.execute(select(label_maps)).all()) == 1
        query = select(labels.c.item_id).where(labels.c.is_current == 1)
        assert len(connection.execute(query).all()) == 130


@ON_SQLITE
def test_a_set_of_labels_is_mapped_whole_or_reviewed_again(
    lab: Lab, person: Make, change: Make
) -> None:
    values = [["refund", "loan"], ["card", "fees"], []]
    _, ids = change(Labels(OLD), values, Labels(NEW))
    done = apply_label_map(lab, "support", MAP, actor=person("ines"))
    assert (done.mapped, done.to_review) == (2, 1)
    with lab.reading() as connection:
        now = current_labels(connection, "support", ids)
    assert [now[item]["value"] for item in ids] == ['["reimbursement","credit"]', None, "[]"]


@ON_SQLITE
@pytest.mark.parametrize(
    ("mapping", "match"),
    [
        ({}, "the map says nothing about: refund, loan, fees"),
        ({"refund": "reimbursement", "fees": None}, "the map says nothing about: loan"),
        (MAP | {"loan": "mortgage"}, "leads to 'mortgage', which the task does not have"),
        (MAP | {"rent": "card"}, "names 'rent', which the old contract does not have"),
    ],
)
def test_a_map_that_leaves_something_open_is_refused_and_changes_nothing(
    lab: Lab, person: Make, change: Make, mapping: dict[str, str | None], match: str
) -> None:
    change(Choice(OLD), list(OLD), Choice(NEW))
    with pytest.raises(InputError, match=match):
        apply_label_map(lab, "support", mapping, actor=person("ines"))
    with lab.reading() as connection:
        assert {row.version for row in connection.execute(select(labels))} == {1}
        assert connection.execute(select(label_maps)).first() is None


@ON_SQLITE
def test_without_labels_of_another_contract_there_is_nothing_to_map(
    lab: Lab, person: Make, new_task: Make, tmp_path: Path
) -> None:
    new_task()
    with pytest.raises(NotFound, match="no labels of an earlier contract"):
        apply_label_map(lab, "support", {}, actor=person("ines"))
    with pytest.raises(NotFound, match="no contract sha256:0"):
        apply_label_map(lab, "support", {}, actor=person("ines"), from_contract="sha256:0")
