from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from freehold.errors import Conflict, FreeholdError, InputError, NotFound
from freehold.evidence.sequencer import publish
from freehold.evidence.verification import verify_lab
from freehold.lab import Lab
from freehold.records.spaces import Labels, Number
from freehold.review.labels import current_labels, label_history
from freehold.review.submission import UNRECORDED, Submission
from freehold.review.submitting import (
    adjudicate,
    conflict_of,
    review_history,
    submit_review,
)
from freehold.tasks.contract import Task
from review_files import ON_SQLITE, texts

Person = Callable[[str], str]
Make = Callable[..., Any]


@pytest.fixture
def submit(lab: Lab, person: Person) -> Callable[..., str]:
    def submitted(task: Task, name: str, item: str, value: Any = None, **more: Any) -> str:
        verdict = more.pop("verdict", "correct")
        actor = person(name)
        with lab.writing() as connection:
            submission = Submission(item, verdict, value, **more)
            return submit_review(lab, connection, task, submission, actor=actor)

    return submitted


@pytest.fixture
def label(lab: Lab) -> Callable[[Task, str], tuple[Any, ...]]:
    def read(task: Task, item: str) -> tuple[Any, ...]:
        with lab.reading() as connection:
            row = current_labels(connection, task.name, [item])[item]
        return tuple(row[name] for name in ("state", "value", "basis", "gold", "version"))

    return read


def test_a_blind_review_makes_gold_and_a_correction_supersedes_it(
    lab: Lab, new_task: Make, take_in: Make, submit: Make, label: Make
) -> None:
    task = new_task()
    (item,) = take_in(task, texts(1, "test"))
    first = submit(task, "anna", item, "refund")
    assert label(task, item) == ("settled", '"refund"', "agreed", 1, 1)
    second = submit(task, "anna", item, "card", reason="misread it")
    assert label(task, item) == ("settled", '"card"', "agreed", 1, 2)
    with lab.reading() as connection:
        old, new = review_history(connection, task.name, item)
        versions = label_history(connection, task.name, item)
    assert (old["review_id"], old["superseded_by"], old["value"]) == (first, second, '"refund"')
    assert (new["supersedes"], new["superseded_by"]) == (first, None)
    assert [(row["version"], row["is_current"], row["value"]) for row in versions] == [
        (1, 0, '"refund"'),
        (2, 1, '"card"'),
    ]


@ON_SQLITE
@pytest.mark.parametrize(
    ("verdict", "value", "expected"),
    [
        ("accept", None, ("settled", '"refund"', "agreed", 0, 1)),
        ("accept", "refund", ("settled", '"refund"', "agreed", 0, 1)),
        ("correct", "loan", ("settled", '"loan"', "agreed", 0, 1)),
    ],
)
def test_an_answer_in_sight_contaminates_the_label(
    lab: Lab, new_task: Make, take_in: Make, decide: Make, submit: Make, label: Make,
    verdict: str, value: str | None, expected: tuple[Any, ...],
) -> None:  # fmt: skip
    task = new_task()
    ids = take_in(task, texts(1, "test"))
    (decision,) = decide(task, ids, [("refund", {})], "cnd_a")
    submit(task, "anna", ids[0], value, verdict=verdict, shown_decisions=(decision,))
    assert label(task, ids[0]) == expected
    with lab.reading() as connection:
        row = current_labels(connection, task.name, ids)[ids[0]]
    assert row["contamination"] == "1 of 1 reviews saw a model's answer"


@ON_SQLITE
def test_a_withdrawn_opinion_withdraws_the_label(
    new_task: Make, take_in: Make, submit: Make, label: Make
) -> None:
    task = new_task()
    (item,) = take_in(task, texts(1))
    submit(task, "anna", item, "refund")
    submit(task, "anna", item, verdict="skip", reason="not my field")
    assert label(task, item) == ("withdrawn", None, "agreed", 0, 2)


@ON_SQLITE
def test_a_rejection_disputes_what_others_accept(
    new_task: Make, take_in: Make, decide: Make, submit: Make, label: Make
) -> None:
    task = new_task()
    ids = take_in(task, texts(1))
    (decision,) = decide(task, ids, [("refund", {})], "cnd_a")
    submit(task, "anna", ids[0], verdict="accept", shown_decisions=(decision,))
    submit(task, "bela", ids[0], verdict="reject", shown_decisions=(decision,))
    assert label(task, ids[0])[:2] == ("disputed", None)


def test_a_dispute_is_settled_by_a_named_person_who_has_seen_it(
    lab: Lab, person: Person, new_task: Make, take_in: Make, submit: Make, label: Make
) -> None:
    task = new_task()
    (item,) = take_in(task, texts(1))
    submit(task, "anna", item, "refund")
    submit(task, "bela", item, "card")
    assert label(task, item) == ("disputed", None, "agreed", 0, 2)
    for judge, value in (("cleo", "card"), ("dora", "loan")):
        actor = person(judge)
        with lab.writing() as connection:
            assert len(conflict_of(connection, task, item)) == 2
            ruling = Submission(item, "correct", value, reason="the guideline says so")
            adjudicate(lab, connection, task, ruling, actor=actor)
    assert label(task, item) == ("settled", '"loan"', "adjudicated", 1, 4)
    with lab.reading() as connection:
        row = current_labels(connection, task.name, [item])[item]
        standing = [
            r for r in review_history(connection, "support", item) if not r["superseded_by"]
        ]
    assert row["decided_by"] == person("dora")
    assert [r["kind"] for r in standing] == ["live", "live", "adjudication"]
    publish(lab)
    assert verify_lab(lab).faults == ()
    publish(lab)
    assert verify_lab(lab).faults == ()


@ON_SQLITE
@pytest.mark.parametrize(
    ("space", "value", "stored"),
    [
        (Labels(("a", "b", "c")), "c | a", '["a","c"]'),
        (Labels(("a", "b", "c")), [], "[]"),
        (Number(Decimal(0), Decimal(10)), "2.50", '"2.5"'),
    ],
)
def test_values_are_those_of_the_tasks_space(
    new_task: Make, take_in: Make, submit: Make, label: Make, space: Any, value: Any, stored: str
) -> None:
    task = new_task("other", space)
    (item,) = take_in(task, texts(1))
    submit(task, "anna", item, value)
    assert label(task, item)[1] == stored


@ON_SQLITE
@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"value": "rebate"}, InputError, "unknown label 'rebate'"),
        ({"verdict": "correct"}, InputError, "correct needs a value"),
        ({"verdict": "maybe"}, InputError, "unknown verdict 'maybe'"),
        ({"verdict": "accept"}, InputError, "accept needs a decision that was shown"),
        ({"verdict": "reject"}, InputError, "reject needs the decision"),
        ({"verdict": "skip", "value": "card"}, InputError, "skip gives no value"),
        ({"value": "card", "kind": "rumour"}, InputError, "unknown kind of review"),
        ({"value": "card", "kind": "historical"}, InputError, "names its source"),
        ({"value": "card", "kind": "adjudication"}, InputError, "given with `adjudicate`"),
        ({"value": "card", "milliseconds_spent": -1}, InputError, "0 ms or more"),
        ({"value": "card", "shown_decisions": ("dec_x",)}, NotFound, "no decision dec_x"),
        ({"value": "card", "item": "itm_x"}, NotFound, "no item itm_x"),
        ({"value": "card", "assignment_id": "asg_x"}, NotFound, "no assignment asg_x"),
        (
            {"verdict": "accept", "shown_decisions": (UNRECORDED,)},
            InputError,
            "give the value that is accepted",
        ),
    ],
)
def test_what_cannot_be_a_review_is_refused_and_nothing_is_written(
    lab: Lab, new_task: Make, take_in: Make, submit: Make,
    given: dict[str, Any], error: type[FreeholdError], match: str,
) -> None:  # fmt: skip
    task = new_task()
    (item,) = take_in(task, texts(1))
    arguments = {"item": item, **given}
    with pytest.raises(error, match=match):
        submit(task, "anna", arguments.pop("item"), arguments.pop("value", None), **arguments)
    with lab.reading() as connection:
        assert review_history(connection, task.name, item) == []


@ON_SQLITE
def test_a_decision_about_another_item_cannot_have_been_shown(
    new_task: Make, take_in: Make, decide: Make, submit: Make
) -> None:
    task = new_task()
    ids = take_in(task, texts(2))
    (decision,) = decide(task, ids[:1], [("refund", {})], "cnd_a")
    with pytest.raises(InputError, match="about another item"):
        submit(task, "anna", ids[1], "card", shown_decisions=(decision,))
    with pytest.raises(InputError, match="'card' is not what was shown"):
        submit(task, "anna", ids[0], "card", verdict="accept", shown_decisions=(decision,))


@ON_SQLITE
def test_nothing_can_be_adjudicated_that_nobody_reviewed(
    lab: Lab, person: Person, new_task: Make, take_in: Make
) -> None:
    task = new_task()
    (item,) = take_in(task, texts(1))
    actor = person("cleo")
    ruling = Submission(item, "correct", "card", reason="I know")
    with pytest.raises(Conflict, match="nothing to adjudicate"), lab.writing() as connection:
        adjudicate(lab, connection, task, ruling, actor=actor)
    bare = Submission(item, "correct", "card")
    with pytest.raises(InputError, match="the value and the reason"), lab.writing() as connection:
        adjudicate(lab, connection, task, bare, actor=actor)
