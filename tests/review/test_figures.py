from __future__ import annotations

from collections.abc import Callable
from typing import Any

from freehold.lab import Lab
from freehold.review.figures import review_stats
from freehold.review.queue import Filling, fill_queue
from freehold.review.submission import Submission
from freehold.review.submitting import submit_review
from review_files import texts

Make = Callable[..., Any]


def test_figures_count_what_stands_and_say_what_does_not(
    lab: Lab, person: Make, new_task: Make, take_in: Make
) -> None:
    task = new_task()
    ids = take_in(task, texts(4))
    said = {
        "anna": ["refund", "card", "loan", "card"],
        "bela": ["refund", "card", "card", "card"],
    }
    for name, values in said.items():
        actor = person(name)
        for item, value in zip(ids, values, strict=True):
            with lab.writing() as connection:
                given = Submission(item, "correct", value, milliseconds_spent=1000)
                submit_review(lab, connection, task, given, actor=actor)
    anna = person("anna")
    with lab.writing() as connection:
        given = Submission(ids[0], "skip", milliseconds_spent=4000)
        submit_review(lab, connection, task, given, actor=anna)
    fill_queue(lab, task.name, Filling(4), actor=person("ines"))
    found = review_stats(lab, task.name)
    assert (found.reviews, found.superseded, found.timed) == (8, 1, 8)
    assert found.by_verdict == {"correct": 7, "skip": 1}
    assert found.labels == {"disputed": 1, "settled": 3}
    assert (found.gold, found.contaminated, found.queue) == (3, 0, {})
    assert found.median_milliseconds == 1000
    assert (found.percent.value, found.percent.n) == (2 / 3, 3)
    assert set(found.by_reviewer.values()) == {4}
    assert len(found.per_pair) == 1
    assert found.per_label["card"].value == 0.8
    (day,) = found.by_day
    assert found.by_day[day] == 8


def test_a_task_without_reviews_has_figures_without_values(lab: Lab, new_task: Make) -> None:
    task = new_task()
    found = review_stats(lab, task.name)
    assert (found.reviews, found.alpha.value, found.median_milliseconds) == (0, None, None)
