"""Figures about reviews: how far reviewers agree, how much was done, and how fast."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, RowMapping, func, select

from freehold.canonical.json import decode
from freehold.lab.opened import Lab
from freehold.lab.schema import assignments, labels, reviews
from freehold.review.agreement import (
    Agreement,
    Level,
    Rating,
    agreement_by_label,
    agreement_by_reviewer,
    kappa_by_pair,
    krippendorff_alpha,
    percent_agreement,
)
from freehold.review.labels import WHOLE
from freehold.review.settling import LIVE

if TYPE_CHECKING:
    from freehold.tasks.contract import Task


@dataclass(frozen=True, slots=True)
class ReviewFigures:
    """Figures of one task under its present contract. Reviewers stand under their pseudonyms.

    `median_milliseconds` is over the `timed` reviews that say how long they took, None without any.
    """

    reviews: int
    by_kind: Mapping[str, int]
    by_verdict: Mapping[str, int]
    by_reviewer: Mapping[str, int]
    by_day: Mapping[str, int]
    superseded: int
    labels: Mapping[str, int]
    gold: int
    contaminated: int
    queue: Mapping[str, int]
    timed: int
    median_milliseconds: int | None
    alpha: Agreement
    percent: Agreement
    per_pair: Mapping[tuple[str, str], Agreement]
    per_reviewer: Mapping[str, Agreement]
    per_label: Mapping[str, Agreement]


def review_stats(lab: Lab, task_name: str, *, kinds: Sequence[str] = (LIVE,)) -> ReviewFigures:
    """Return the figures of a task. `kinds` says which kinds of review agreement is made from."""
    from freehold.tasks.contract import load_task

    task = load_task(lab, task_name)
    with lab.reading() as connection:
        rows = _standing(connection, task)
        superseded = _superseded(connection, task)
        states, gold, contaminated = _labels(connection, task)
        queue = _queue(connection, task)
    rated = ratings(rows, kinds)
    level: Level = "interval" if task.space.kind == "number" else "nominal"
    times = [row["milliseconds_spent"] for row in rows if row["milliseconds_spent"] is not None]
    return ReviewFigures(
        reviews=len(rows),
        by_kind=_counted(row["kind"] for row in rows),
        by_verdict=_counted(row["verdict"] for row in rows),
        by_reviewer=_counted(row["principal_id"] for row in rows),
        by_day=_counted(row["submitted_at"][:10] for row in rows),
        superseded=superseded,
        labels=states,
        gold=gold,
        contaminated=contaminated,
        queue=queue,
        timed=len(times),
        median_milliseconds=round(statistics.median(times)) if times else None,
        alpha=krippendorff_alpha(rated, level),
        percent=percent_agreement(rated),
        per_pair=kappa_by_pair(rated),
        per_reviewer=agreement_by_reviewer(rated),
        per_label=agreement_by_label(rated) if level == "nominal" else {},
    )


def ratings(rows: Iterable[RowMapping], kinds: Sequence[str] = (LIVE,)) -> list[Rating]:
    """Return standing reviews as ratings: those of these kinds that give a value.

    A set of labels is one value; agreement is then about the whole set. Where one reviewer stands
    twice for an item (past work whose reviewer nobody knows), only the last counts.
    """
    last: dict[tuple[str, str], Rating] = {}
    for row in rows:
        if row["kind"] in kinds and row["value"] is not None:
            value = decode(row["value"])
            told = value if isinstance(value, str) else " | ".join(value)
            key = (row["item_id"], row["principal_id"])
            last[key] = Rating(*key, told)
    return list(last.values())


def _standing(connection: Connection, task: Task) -> list[RowMapping]:
    query = select(reviews).where(
        reviews.c.task == task.name,
        reviews.c.contract_digest == task.contract_digest,
        reviews.c.path == WHOLE,
        reviews.c.superseded_by.is_(None),
    )
    return list(connection.execute(query.order_by(reviews.c.review_id)).mappings())


def _superseded(connection: Connection, task: Task) -> int:
    query = select(func.count()).where(
        reviews.c.task == task.name,
        reviews.c.contract_digest == task.contract_digest,
        reviews.c.superseded_by.is_not(None),
    )
    return int(connection.execute(query).scalar_one())


def _labels(connection: Connection, task: Task) -> tuple[dict[str, int], int, int]:
    query = select(labels.c.state, labels.c.gold, labels.c.contamination).where(
        labels.c.task == task.name,
        labels.c.contract_digest == task.contract_digest,
        labels.c.path == WHOLE,
        labels.c.is_current == 1,
    )
    rows = connection.execute(query).all()
    contaminated = sum(row.contamination is not None for row in rows)
    return _counted(row.state for row in rows), sum(row.gold for row in rows), contaminated


def _queue(connection: Connection, task: Task) -> dict[str, int]:
    query = (
        select(assignments.c.state, func.count())
        .where(assignments.c.task == task.name)
        .group_by(assignments.c.state)
    )
    return {str(state): int(count) for state, count in connection.execute(query)}


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
