"""The review queue: fill it by a recorded policy, hand out items without giving anything away.

A reviewer sees the item and, only where the queue was filled so and never in test, the answer of
one candidate. Never another reviewer's verdict. What was offered counts as shown.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, exists, insert, literal, or_, select

from freehold.canonical.json import decode, encode_text
from freehold.errors import InputError, NotFound, Refused
from freehold.evidence.entries import Entry
from freehold.evidence.sequencer import publish
from freehold.lab.opened import Lab
from freehold.lab.schema import assignments, decisions, items, labels, reviews, split_assignments
from freehold.records.ids import new_id
from freehold.review.assignments import LEASE_MINUTES, take_assignments
from freehold.review.labels import WHOLE
from freehold.review.selection import (
    DISAGREED,
    NOVEL,
    ONLY_UNIFORM,
    UNCERTAIN,
    Answer,
    Mix,
    Pick,
    choose_items,
    rank_disagreed,
    rank_novel,
    rank_uncertain,
)
from freehold.tasks.contract import Task, load_task
from freehold.workflows.items import item_texts

_MOST_KNOWN = 500  # labelled texts that novelty is measured against


@dataclass(frozen=True, slots=True)
class Filling:
    """How to fill a queue.

    `candidates` are one or two candidate ids whose recorded decisions say what is uncertain or
    disagreed. `show` names the one whose answer reviewers see (train and dev only). `reviewers` is
    how many different people get each item; None takes the lab's setting. `seed` repeats a lot.
    """

    n: int
    split: str = "train"
    candidates: tuple[str, ...] = ()
    show: str | None = None
    mix: Mix | None = None
    reviewers: int | None = None
    seed: int | None = None
    vectors: Mapping[str, Sequence[float]] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Filled:
    """What a filling put into the queue: items by stream, of how many that were waiting."""

    items: int
    waiting: int
    reviewers: int
    by_stream: Mapping[str, int]
    seed: int


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer that a reviewer sees: canonical value, and probabilities in parts per billion."""

    decision_id: str
    value: Any
    probabilities: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Offer:
    """One item for one reviewer: all that they may see of it."""

    assignment_id: str
    item_id: str
    text: str
    shown: tuple[Shown, ...]


def fill_queue(lab: Lab, task_name: str, filling: Filling, *, actor: str) -> Filled:
    """Choose waiting items and put them into the queue, with how each was chosen.

    In test all of it is drawn by lot, whatever the mix. Raises Refused when an answer would be
    shown in test, InputError for a filling that cannot be.
    """
    task = load_task(lab, task_name)
    _check(filling)
    is_test = filling.split == "test"
    seed = secrets.randbits(32) if filling.seed is None else filling.seed
    mix = ONLY_UNIFORM if is_test else filling.mix or _task_mix(task)
    with lab.writing() as connection:
        waiting = waiting_items(connection, task, filling.split)
        answers = [candidate_answers(connection, task, each) for each in filling.candidates]
        ranked = {} if is_test else _ranked(lab, connection, task, waiting, answers, filling, mix)
        picks = choose_items(waiting, ranked, filling.n, mix, seed)
        reviewers = filling.reviewers or _reviewers(lab, is_test=is_test)
        policy = _policy(task, filling, mix, seed)
        population = {"split": filling.split, "waiting": len(waiting), "fill": new_id("fil")}
        shown = candidate_decisions(connection, task, filling.show) if filling.show else {}
        rows = _assignments(task, picks, shown, reviewers)
        for row in rows:
            row |= {"policy": encode_text(policy), "population": encode_text(population)}
        by_stream = dict(sorted(Counter(pick.stream for pick in picks).items()))
        body = {"task": task.name, "policy": policy, "population": population}
        entry = Entry(lab, connection, "queue.filled", actor, body | {"by_stream": by_stream})
        for row in rows:
            row["created_at"] = entry.at
        if rows:
            connection.execute(insert(assignments), rows)
        entry.close()
    publish(lab)
    return Filled(len(picks), len(waiting), reviewers, by_stream, seed)


def next_items(
    lab: Lab, task_name: str, person: str, *, n: int = 1, minutes: int = LEASE_MINUTES
) -> list[Offer]:
    """Lease up to `n` items to a person (a pseudonym) and return what they may see of them."""
    task = load_task(lab, task_name)
    with lab.writing() as connection:
        taken = take_assignments(connection, task, person, n, minutes=minutes)
        texts = item_texts(lab, connection, [row["item_id"] for row in taken])
        offers = []
        for row in taken:
            ids = decode(row["decision_ids"]) if row["show_decision"] else []
            shown = tuple(_shown(connection, each) for each in ids)
            offers.append(Offer(row["assignment_id"], row["item_id"], texts[row["item_id"]], shown))
    return offers


def waiting_items(connection: Connection, task: Task, split: str) -> list[str]:
    """Return the items of a split that wait for a review and are in nobody's queue.

    In train and dev: those without a settled label. In test also those whose label is from past
    work and may not judge models. Items that somebody has reviewed here wait for no one.
    """
    mine = split_assignments.c.item_id
    binding = or_(labels.c.gold == 1, labels.c.basis != "historical", literal(split != "test"))
    settled = exists().where(
        labels.c.item_id == mine,
        labels.c.task == task.name,
        labels.c.path == WHOLE,
        labels.c.is_current == 1,
        labels.c.contract_digest == task.contract_digest,
        labels.c.state == "settled",
        binding,
    )
    reviewed = exists().where(
        reviews.c.item_id == mine,
        reviews.c.task == task.name,
        reviews.c.contract_digest == task.contract_digest,
        reviews.c.superseded_by.is_(None),
        reviews.c.kind != "historical",
    )
    queued = exists().where(
        assignments.c.item_id == mine,
        assignments.c.task == task.name,
        assignments.c.state.in_(("open", "taken")),
    )
    query = (
        select(mine)
        .join(items, items.c.item_id == mine)
        .where(
            split_assignments.c.task == task.name,
            split_assignments.c.split == split,
            items.c.erased_at.is_(None),
            ~settled,
            ~reviewed,
            ~queued,
        )
    )
    return sorted(connection.execute(query).scalars())


def candidate_decisions(
    connection: Connection, task: Task, candidate_id: str
) -> dict[str, Mapping[str, Any]]:
    """Return a candidate's latest answered decision on each item, by item id."""
    query = select(
        decisions.c.item_id,
        decisions.c.decision_id,
        decisions.c.value,
        decisions.c.probabilities,
    ).where(
        decisions.c.candidate_id == candidate_id,
        decisions.c.task == task.name,
        decisions.c.contract_digest == task.contract_digest,
        decisions.c.state == "answered",
        decisions.c.value.is_not(None),
    )
    rows = connection.execute(query.order_by(decisions.c.number)).mappings()
    return {row["item_id"]: dict(row) for row in rows}


def candidate_answers(connection: Connection, task: Task, candidate_id: str) -> dict[str, Answer]:
    """Return a candidate's latest answers. Raises NotFound when it has answered nothing yet."""
    found = candidate_decisions(connection, task, candidate_id)
    if not found:
        raise NotFound(
            f"candidate {candidate_id} has answered no item of the task {task.name}",
            hint="Run it over the items first.",
        )
    return {
        item: Answer(row["value"], decode(row["probabilities"]) if row["probabilities"] else {})
        for item, row in found.items()
    }


def _check(filling: Filling) -> None:
    if filling.n < 1:
        raise InputError(f"a filling asks for 1 item or more, got {filling.n}")
    if filling.split not in ("train", "dev", "test"):
        raise InputError(f"unknown split {filling.split!r}; known: train, dev, test")
    if len(filling.candidates) > 2:
        raise InputError("a queue compares two candidates at most")
    if filling.reviewers is not None and filling.reviewers < 1:
        raise InputError(f"an item needs 1 reviewer or more, got {filling.reviewers}")
    if filling.show and filling.split == "test":
        raise Refused(
            "test items are reviewed without any model's answer",
            hint="Labels made with an answer in sight cannot judge models.",
        )


def _task_mix(task: Task) -> Mix:
    given = task.sampling
    return Mix(given.uncertain_percent, given.disagreed_percent, given.novel_percent)


def _reviewers(lab: Lab, *, is_test: bool) -> int:
    which = "review.reviewers_per_test_item" if is_test else "review.reviewers_per_item"
    return lab.settings.number(which)


def _ranked(
    lab: Lab,
    connection: Connection,
    task: Task,
    waiting: Sequence[str],
    answers: Sequence[Mapping[str, Answer]],
    filling: Filling,
    mix: Mix,
) -> dict[str, list[str]]:
    """Return what each directed stream wants of the waiting items, best first."""
    there = set(waiting)
    ranked: dict[str, list[str]] = {}
    if answers:
        own = {item: each.probabilities for item, each in answers[0].items() if item in there}
        several = task.space.kind == "labels"
        ranked[UNCERTAIN] = rank_uncertain(own, several=several, drop=mix.drop)
    if len(answers) == 2:
        apart = rank_disagreed(answers[0], answers[1])
        ranked[DISAGREED] = [item for item in apart if item in there]
    share = min(filling.n, len(waiting)) * mix.novel // 100
    if share:
        # Others streams may want the same items; a few more make up for it.
        texts = item_texts(lab, connection, list(waiting))
        known = _known_texts(lab, connection, task)
        wanted = min(len(waiting), 3 * share)
        ranked[NOVEL] = rank_novel(texts, known, wanted, seed=0, vectors=filling.vectors)
    return ranked


def _known_texts(lab: Lab, connection: Connection, task: Task) -> list[str]:
    query = (
        select(labels.c.item_id)
        .join(items, items.c.item_id == labels.c.item_id)
        .where(
            labels.c.task == task.name,
            labels.c.is_current == 1,
            labels.c.state == "settled",
            items.c.erased_at.is_(None),
        )
        .order_by(labels.c.label_id.desc())
        .limit(_MOST_KNOWN)
    )
    known = list(connection.execute(query).scalars())
    return list(item_texts(lab, connection, known).values())


def _policy(task: Task, filling: Filling, mix: Mix, seed: int) -> dict[str, Any]:
    shares = {"uniform": mix.uniform, "uncertain": mix.uncertain}
    shares |= {"disagreed": mix.disagreed, "novel": mix.novel, "drop": mix.drop}
    return {
        "policy": "mix/1",
        "contract_digest": task.contract_digest,
        "asked": filling.n,
        "shares": shares,
        "seed": str(seed),
        "candidates": list(filling.candidates),
        "show": filling.show,
    }


def _assignments(
    task: Task, picks: Sequence[Pick], shown: Mapping[str, Mapping[str, Any]], reviewers: int
) -> list[dict[str, Any]]:
    rows = []
    # Ids are given in the order of the queue; those of one item stand side by side.
    ids = sorted(new_id("asg") for _ in range(len(picks) * reviewers))
    for place, pick in enumerate(picks):
        decision = shown.get(pick.item_id)
        for copy in range(reviewers):
            rows.append(  # noqa: PERF401 - two loops read better than one nested comprehension
                {
                    "assignment_id": ids[place * reviewers + copy],
                    "task": task.name,
                    "item_id": pick.item_id,
                    "state": "open",
                    "stream": pick.stream,
                    "propensity_ppb": pick.propensity_ppb,
                    "decision_ids": encode_text([decision["decision_id"]] if decision else []),
                    "show_decision": int(decision is not None),
                }
            )
    return rows


def _shown(connection: Connection, decision_id: str) -> Shown:
    query = select(decisions.c.value, decisions.c.probabilities).where(
        decisions.c.decision_id == decision_id
    )
    row = connection.execute(query).one()
    return Shown(
        decision_id,
        decode(row.value),
        decode(row.probabilities) if row.probabilities else {},
    )
