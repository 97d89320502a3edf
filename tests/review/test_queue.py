from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from freehold.canonical.json import decode
from freehold.errors import Conflict, InputError, NotFound, Refused
from freehold.lab import Lab
from freehold.lab.schema import assignments, reviews
from freehold.review.estimation import quality_estimate, weighted_share
from freehold.review.queue import Filling, Offer, fill_queue, next_items
from freehold.review.selection import Mix
from freehold.review.submission import Submission
from freehold.review.submitting import submit_review
from freehold.tasks.contract import Task
from review_files import ON_SQLITE, texts

Make = Callable[..., Any]
N = 40


def answers(ids: list[str], flip: int = 10**9) -> list[tuple[str, dict[str, int]]]:
    """Return answers less and less sure; every `flip`-th differs."""
    given = []
    for k in range(len(ids)):
        share = 990_000_000 - k * 12_000_000
        value, other = ("card", "refund") if k % flip == 0 else ("refund", "card")
        given.append((value, {value: share, other: 10**9 - share, "loan": 0}))
    return given


def answer(lab: Lab, task: Task, person: str, offer: Offer, value: str, **more: Any) -> None:
    submission = Submission(
        offer.item_id, "correct", value, assignment_id=offer.assignment_id, **more
    )
    with lab.writing() as connection:
        submit_review(lab, connection, task, submission, actor=person)


def test_a_queue_in_train_is_a_mix_and_each_review_says_how_its_item_was_chosen(
    lab: Lab, person: Make, new_task: Make, take_in: Make, decide: Make
) -> None:
    task = new_task()
    ids = take_in(task, texts(N))
    decide(task, ids, answers(ids), "cnd_a")
    decide(task, ids, answers(ids, flip=3), "cnd_b")
    filling = Filling(20, candidates=("cnd_a", "cnd_b"), mix=Mix(), seed=3)
    filled = fill_queue(lab, task.name, filling, actor=person("ines"))
    assert (filled.items, filled.waiting) == (20, N)
    assert set(filled.by_stream) == {"uniform", "uncertain", "disagreed", "novel"}
    anna = person("anna")
    for offer in next_items(lab, task.name, anna, n=20):
        assert offer.shown == ()
        assert offer.text.startswith("message number")
        answer(lab, task, anna, offer, "refund", milliseconds_spent=900)
    with lab.reading() as connection:
        rows = connection.execute(select(reviews)).mappings().all()
        left = connection.execute(select(assignments.c.state)).scalars().all()
    assert Counter(row["stream"] for row in rows) == filled.by_stream
    assert set(left) == {"done"}
    assert all(decode(row["population"])["waiting"] == N for row in rows)
    assert all(decode(row["policy"])["seed"] == "3" for row in rows)
    assert {row["propensity_ppb"] for row in rows if row["stream"] != "uniform"} == {10**9}
    again = fill_queue(lab, task.name, Filling(N, seed=4), actor=person("ines"))
    assert (again.items, again.waiting) == (N - 20, N - 20)


def test_test_items_are_drawn_by_lot_alone_and_never_with_an_answer(
    lab: Lab, person: Make, new_task: Make, take_in: Make, decide: Make
) -> None:
    task = new_task()
    ids = take_in(task, texts(N, "test"))
    decide(task, ids, answers(ids), "cnd_a")
    filling = Filling(10, split="test", candidates=("cnd_a",), mix=Mix())
    filled = fill_queue(lab, task.name, filling, actor=person("ines"))
    assert filled.by_stream == {"uniform": 10}
    with lab.reading() as connection:
        rows = connection.execute(select(assignments)).mappings().all()
    assert {(row["propensity_ppb"], row["show_decision"]) for row in rows} == {(250_000_000, 0)}
    shown = Filling(10, split="test", show="cnd_a")
    with pytest.raises(Refused, match="without any model's answer"):
        fill_queue(lab, task.name, shown, actor=person("ines"))


@ON_SQLITE
def test_what_was_offered_counts_as_shown(
    lab: Lab, person: Make, new_task: Make, take_in: Make, decide: Make
) -> None:
    task = new_task()
    ids = take_in(task, texts(4))
    made = decide(task, ids, answers(ids), "cnd_a")
    fill_queue(lab, task.name, Filling(4, show="cnd_a"), actor=person("ines"))
    anna = person("anna")
    (offer,) = next_items(lab, task.name, anna)
    (shown,) = offer.shown
    assert shown.decision_id == made[ids.index(offer.item_id)]
    assert shown.value == "refund" or shown.value == "card"
    answer(lab, task, anna, offer, "loan")
    with lab.reading() as connection:
        (row,) = connection.execute(select(reviews)).mappings()
    assert decode(row["shown_decisions"]) == [shown.decision_id]


def test_what_was_offered_counts_as_shown_although_the_review_names_no_assignment(
    lab: Lab, person: Make, new_task: Make, take_in: Make, decide: Make
) -> None:
    task = new_task()
    ids = take_in(task, texts(3))
    decide(task, ids, answers(ids), "cnd_a")
    fill_queue(lab, task.name, Filling(3, show="cnd_a"), actor=person("ines"))
    anna = person("anna")
    (offer,) = next_items(lab, task.name, anna, n=1)
    with lab.writing() as connection:
        submit_review(lab, connection, task, Submission(offer.item_id, "accept"), actor=anna)
    with lab.reading() as connection:
        (row,) = connection.execute(select(reviews)).mappings()
    assert decode(row["shown_decisions"]) == [one.decision_id for one in offer.shown]
    assert row["stream"] == "uniform"
    assert offer not in next_items(lab, task.name, anna, n=3)


def test_several_blind_reviewers_of_an_item_are_different_people(
    lab: Lab, person: Make, new_task: Make, take_in: Make
) -> None:
    task = new_task()
    ids = take_in(task, texts(3))
    fill_queue(lab, task.name, Filling(3, reviewers=2), actor=person("ines"))
    anna, bela, cleo = person("anna"), person("bela"), person("cleo")
    mine = next_items(lab, task.name, anna, n=10)
    assert sorted(offer.item_id for offer in mine) == sorted(ids)
    assert next_items(lab, task.name, anna, n=10) == mine
    answer(lab, task, anna, mine[0], "refund")
    assert {o.item_id for o in next_items(lab, task.name, anna, n=10)} == {
        o.item_id for o in mine[1:]
    }
    theirs = next_items(lab, task.name, bela, n=10)
    assert sorted(offer.item_id for offer in theirs) == sorted(ids)
    assert next_items(lab, task.name, cleo, n=10) == []
    with pytest.raises(Conflict, match="not this reviewer's"):
        answer(lab, task, cleo, theirs[0], "card")


def test_an_assignment_that_was_not_finished_falls_back_to_the_queue(
    lab: Lab, person: Make, new_task: Make, take_in: Make
) -> None:
    task = new_task()
    take_in(task, texts(1))
    fill_queue(lab, task.name, Filling(1), actor=person("ines"))
    (first,) = next_items(lab, task.name, person("anna"), minutes=-1)
    (second,) = next_items(lab, task.name, person("bela"))
    assert first.assignment_id == second.assignment_id
    with pytest.raises(Conflict, match="not this reviewer's"):
        answer(lab, task, person("anna"), first, "card")


def test_two_people_never_hold_one_assignment(
    lab: Lab, person: Make, new_task: Make, take_in: Make
) -> None:
    task = new_task()
    take_in(task, texts(24))
    fill_queue(lab, task.name, Filling(24), actor=person("ines"))
    people = [person(f"p{k}") for k in range(4)]
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda who: next_items(lab, task.name, who, n=6), people))
    ids = [offer.assignment_id for offers in taken for offer in offers]
    assert len(ids) == len(set(ids))


@ON_SQLITE
@pytest.mark.parametrize(
    ("filling", "error", "match"),
    [
        (Filling(0), InputError, "1 item or more"),
        (Filling(1, split="exam"), InputError, "unknown split 'exam'"),
        (Filling(1, reviewers=0), InputError, "1 reviewer or more"),
        (Filling(1, candidates=("a", "b", "c")), InputError, "two candidates at most"),
        (Filling(1, candidates=("cnd_x",)), NotFound, "cnd_x has answered no item"),
    ],
)
def test_a_filling_that_cannot_be_is_refused(
    lab: Lab, person: Make, new_task: Make, filling: Filling, error: type[Exception], match: str
) -> None:
    task = new_task()
    with pytest.raises(error, match=match):
        fill_queue(lab, task.name, filling, actor=person("ines"))


def test_quality_comes_from_the_uniform_stream_alone(
    lab: Lab, person: Make, new_task: Make, take_in: Make, decide: Make
) -> None:
    """The candidate is wrong on the 16 of 40 items it is least sure of: true accuracy 0.6."""
    task = new_task()
    ids = take_in(task, texts(N))
    decide(task, ids, answers(ids), "cnd_a")
    mix = Mix(40, 0, 0, 0)
    fill_queue(lab, task.name, Filling(N, candidates=("cnd_a",), mix=mix), actor=person("ines"))
    anna = person("anna")
    for offer in next_items(lab, task.name, anna, n=N):
        right = "card" if ids.index(offer.item_id) == 0 else "refund"
        answer(lab, task, anna, offer, right if ids.index(offer.item_id) < 24 else "loan")
    found = quality_estimate(lab, task.name, "cnd_a")
    assert found.drawn == found.n
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.6 < found.high
    nothing = quality_estimate(lab, task.name, "cnd_b")
    assert (nothing.value, nothing.n, nothing.no_decision) == (None, 0, found.drawn)


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ([], (None, None, None, 0.0)),
        # Wilson's interval of 8 of 10, as statsmodels' proportion_confint gives it.
        ([(k < 8, 2.0) for k in range(10)], (0.8, 0.490162, 0.943318, 10.0)),
        ([(True, 1.0), (False, 3.0)], (0.25, 0.020306, 0.842436, 1.6)),
    ],
)
def test_a_weighted_share_has_wilsons_interval(
    right: list[tuple[bool, float]], expected: tuple[float | None, ...]
) -> None:
    from statsmodels.stats.proportion import proportion_confint

    found = weighted_share(right)
    assert found[0] == expected[0]
    assert found[3] == pytest.approx(expected[3])
    if right:
        low, high = proportion_confint(expected[0] * expected[3], expected[3], method="wilson")
        assert found[1:3] == pytest.approx((low, high), abs=1e-9)
