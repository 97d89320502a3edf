"""How good a candidate is on the work itself, from the reviews that were drawn by lot.

Only the uniform stream counts: reviews of items that were chosen because a model was unsure of them
show it at its worst. Each item weighs one over the chance it was drawn with (Hájek 1971). The
interval is Wilson's on Kish's effective number of items, which holds for shares near 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from freehold.canonical.json import from_ppb
from freehold.errors import InputError
from freehold.lab.opened import Lab
from freehold.lab.schema import assignments, split_assignments
from freehold.review.labels import current_labels
from freehold.review.queue import candidate_decisions
from freehold.review.selection import UNIFORM
from freehold.tasks.contract import Task, load_task

_Z = 1.959963984540054  # 95 %, two-sided


@dataclass(frozen=True, slots=True)
class QualityEstimate:
    """The share of items that a candidate answers as people do, of all that were waiting.

    `n` items count of the `drawn` ones; the others are named with the reason. `value` is None while
    there is nothing to estimate from.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    effective_n: float
    drawn: int
    no_label: int
    not_blind: int
    no_decision: int
    method: str = "Hájek over inclusion chances; Wilson 95 % on Kish's effective n"


def quality_estimate(
    lab: Lab, task_name: str, candidate_id: str, *, split: str = "train"
) -> QualityEstimate:
    """Return a candidate's accuracy on a split, from blind labels of the uniform stream.

    Fillings of the queue count together, each weighted by how many items were waiting then. Raises
    InputError for a task with numbers, whose answers are not simply right or wrong.
    """
    task = load_task(lab, task_name)
    if task.space.kind == "number":
        raise InputError("accuracy is not a figure of a task with numbers")
    with lab.reading() as connection:
        drawn = _drawn(connection, task, split)
        labelled = current_labels(connection, task.name, sorted(drawn))
        answers = candidate_decisions(connection, task, candidate_id)
    right: list[tuple[bool, float]] = []
    no_label = not_blind = no_decision = 0
    for item, chance in drawn.items():
        label, answer = labelled.get(item), answers.get(item)
        same_contract = label is not None and label["contract_digest"] == task.contract_digest
        if label is None or not same_contract or label["state"] != "settled":
            no_label += 1
        elif not label["gold"]:
            not_blind += 1
        elif answer is None:
            no_decision += 1
        else:
            right.append((answer["value"] == label["value"], 1.0 / chance))
    value, low, high, effective = weighted_share(right)
    left_out = (no_label, not_blind, no_decision)
    return QualityEstimate(value, low, high, len(right), effective, len(drawn), *left_out)


def weighted_share(
    right: Sequence[tuple[bool, float]],
) -> tuple[float | None, float | None, float | None, float]:
    """Return a weighted share, its 95 % bounds and the effective number of items behind it."""
    total = math.fsum(weight for _, weight in right)
    if not right:
        return None, None, None, 0.0
    share = math.fsum(weight for hit, weight in right if hit) / total
    n = total * total / math.fsum(weight * weight for _, weight in right)
    scale = 1.0 + _Z * _Z / n
    middle = (share + _Z * _Z / (2.0 * n)) / scale
    half = _Z / scale * math.sqrt(share * (1.0 - share) / n + _Z * _Z / (4.0 * n * n))
    return share, max(0.0, middle - half), min(1.0, middle + half), n


def _drawn(connection: Connection, task: Task, split: str) -> dict[str, float]:
    """Return the items of the uniform stream in a split, with the chance each was drawn by."""
    query = (
        select(assignments.c.item_id, assignments.c.propensity_ppb)
        .join(
            split_assignments,
            (split_assignments.c.item_id == assignments.c.item_id)
            & (split_assignments.c.task == assignments.c.task),
        )
        .where(
            assignments.c.task == task.name,
            assignments.c.stream == UNIFORM,
            assignments.c.state != "dropped",
            split_assignments.c.split == split,
        )
        .order_by(assignments.c.assignment_id)
    )
    # Several reviewers of an item have an assignment each; the item was drawn once.
    return {row.item_id: from_ppb(row.propensity_ppb) for row in connection.execute(query)}
