"""Which records lead to which: the kinds of records of a lab, and the links between them.

A `Link` goes one way; `ORIGINS` lead to what a record came from, `RESULTS` to what came of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Select, Table, func, select

from freehold.canonical.json import decode
from freehold.lab.schema import (
    approvals,
    candidates,
    contracts,
    dataset_rows,
    datasets,
    decisions,
    evaluations,
    exports,
    gate_plans,
    items,
    labels,
    licence_records,
    model_edges,
    models,
    releases,
    reviews,
    runs,
    suite_cases,
    suites,
    verdicts,
)
from freehold.lineage.reach import INHERITS, TRAINED_ON

Found = tuple[list[str], int]  # the first ids, and how many there are
Finder = Callable[[Connection, str, int], Found]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of record: its table, the column of its id, and the columns that tell what it is."""

    table: Table
    key: Column[Any]
    facts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """One way from a record to others: how they are related, their kind, and how to find them."""

    relation: str
    kind: str
    find: Finder


def _kind(table: Table, key: str, *facts: str) -> Kind:
    return Kind(table, table.c[key], facts)


KINDS = {
    "item": _kind(items, "item_id", "source", "sensitivity", "created_at", "erased_at"),
    "decision": _kind(
        decisions, "decision_id", "number", "purpose", "state", "model_digest", "admitted_at"
    ),
    "review": _kind(reviews, "review_id", "kind", "verdict", "principal_id", "submitted_at"),
    "label": _kind(labels, "label_id", "version", "basis", "state", "gold", "is_current"),
    "dataset": _kind(datasets, "dataset_id", "name", "number", "rows", "created_at"),
    "suite": _kind(suites, "suite_id", "name", "number", "cases", "created_at"),
    "run": _kind(runs, "run_id", "name", "method", "state", "created_at"),
    "model": _kind(models, "model_digest", "name", "kind", "form", "lineage", "source"),
    "licence": _kind(licence_records, "licence_id", "expression", "verdict"),
    "contract": _kind(contracts, "contract_digest", "task"),
    "candidate": _kind(candidates, "candidate_id", "name", "task", "created_at"),
    "evaluation": _kind(evaluations, "evaluation_id", "state", "started_at"),
    "plan": _kind(gate_plans, "plan_digest", "name", "created_at"),
    "verdict": _kind(verdicts, "verdict_id", "verdict", "created_at"),
    "approval": _kind(approvals, "approval_id", "decision", "principal_id", "created_at"),
    "release": _kind(releases, "release_id", "task", "number", "kind", "served_from"),
    "export": _kind(exports, "export_id", "kind", "recipient", "created_at"),
}


def pick(wanted: Column[Any], given: Column[Any], *conditions: Any) -> Finder:
    """Return a finder of the values of one column in the rows where another has the id."""

    def find(connection: Connection, record_id: str, most: int) -> Found:
        query: Select[Any] = select(wanted).where(given == record_id, wanted.is_not(None))
        query = query.where(*conditions).distinct()
        total = connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()
        ids = connection.execute(query.order_by(wanted).limit(most)).scalars()
        return [str(one) for one in ids], int(total)

    return find


def listed(column: Column[Any], key: Column[Any]) -> Finder:
    """Return a finder of the ids that a record lists in a JSON column."""

    def find(connection: Connection, record_id: str, most: int) -> Found:
        text = connection.execute(select(column).where(key == record_id)).scalar()
        ids = [] if text is None else [str(one) for one in decode(text)]
        return ids[:most], len(ids)

    return find


def listing(key: Column[Any], column: Column[Any], *near: Column[Any]) -> Finder:
    """Return a finder of the records that list an id in a JSON column.

    Ids are random, so the text of one can stand in a list only as that id. `near` narrows the
    search to rows of the same item: its column there, its column and the id's column here.
    """

    def find(connection: Connection, record_id: str, most: int) -> Found:
        query = select(key).where(column.contains(f'"{record_id}"', autoescape=True))
        if near:
            there, here, named = near
            query = query.where(there == select(here).where(named == record_id).scalar_subquery())
        total = connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()
        ids = connection.execute(query.order_by(key).limit(most)).scalars()
        return [str(one) for one in ids], int(total)

    return find


def _edges(wanted: Column[Any], given: Column[Any]) -> tuple[Link, ...]:
    return tuple(
        Link(relation, "model", pick(wanted, given, model_edges.c.relation == relation))
        for relation in INHERITS
    )


_PARENT, _CHILD = model_edges.c.parent, model_edges.c.child
_showing = listing(
    reviews.c.review_id,
    reviews.c.shown_decisions,
    reviews.c.item_id,
    decisions.c.item_id,
    decisions.c.decision_id,
)
_adding_up = listing(
    labels.c.label_id, labels.c.reviews, labels.c.item_id, reviews.c.item_id, reviews.c.review_id
)
_IS_TRAINED_ON = model_edges.c.relation == TRAINED_ON

ORIGINS: dict[str, tuple[Link, ...]] = {
    "decision": (
        Link("about", "item", pick(decisions.c.item_id, decisions.c.decision_id)),
        Link("under", "contract", pick(decisions.c.contract_digest, decisions.c.decision_id)),
        Link("served by", "release", pick(decisions.c.release_id, decisions.c.decision_id)),
        Link("made by", "candidate", pick(decisions.c.candidate_id, decisions.c.decision_id)),
    ),
    "review": (
        Link("about", "item", pick(reviews.c.item_id, reviews.c.review_id)),
        Link("shown", "decision", listed(reviews.c.shown_decisions, reviews.c.review_id)),
        Link("supersedes", "review", pick(reviews.c.supersedes, reviews.c.review_id)),
    ),
    "label": (
        Link("about", "item", pick(labels.c.item_id, labels.c.label_id)),
        Link("adds up", "review", listed(labels.c.reviews, labels.c.label_id)),
        Link("supersedes", "label", pick(labels.c.supersedes, labels.c.label_id)),
    ),
    "dataset": (Link("holds", "label", pick(dataset_rows.c.label_id, dataset_rows.c.dataset_id)),),
    "suite": (Link("holds", "label", pick(suite_cases.c.label_id, suite_cases.c.suite_id)),),
    "run": (
        Link("trained on", "dataset", pick(runs.c.dataset_id, runs.c.run_id)),
        Link("started from", "model", pick(runs.c.base_model, runs.c.run_id)),
        Link("goes on from", "run", pick(runs.c.parent_run, runs.c.run_id)),
    ),
    "model": (
        Link("made by", "run", pick(model_edges.c.run_id, _CHILD)),
        Link("trained on", "dataset", pick(_PARENT, _CHILD, _IS_TRAINED_ON)),
        *_edges(_PARENT, _CHILD),
        Link(
            "stands on",
            "licence",
            pick(licence_records.c.licence_id, licence_records.c.model_digest),
        ),
    ),
    "candidate": (
        Link("serves", "model", pick(candidates.c.model_digest, candidates.c.candidate_id)),
        Link("answers", "contract", pick(candidates.c.contract_digest, candidates.c.candidate_id)),
    ),
    "evaluation": (
        Link("of", "candidate", pick(evaluations.c.candidate_id, evaluations.c.evaluation_id)),
        Link("on", "suite", pick(evaluations.c.suite_id, evaluations.c.evaluation_id)),
    ),
    "verdict": (
        Link("by", "plan", pick(verdicts.c.plan_digest, verdicts.c.verdict_id)),
        Link("judges", "evaluation", pick(verdicts.c.candidate_evaluation, verdicts.c.verdict_id)),
        Link("against", "evaluation", pick(verdicts.c.champion_evaluation, verdicts.c.verdict_id)),
    ),
    "approval": (Link("of", "verdict", pick(approvals.c.verdict_id, approvals.c.approval_id)),),
    "release": (
        Link("of", "candidate", pick(releases.c.candidate_id, releases.c.release_id)),
        Link("after", "verdict", pick(releases.c.verdict_id, releases.c.release_id)),
        Link("approved by", "approval", pick(releases.c.approval_id, releases.c.release_id)),
    ),
}

RESULTS: dict[str, tuple[Link, ...]] = {
    "item": (
        Link("decided", "decision", pick(decisions.c.decision_id, decisions.c.item_id)),
        Link("reviewed", "review", pick(reviews.c.review_id, reviews.c.item_id)),
        Link("labelled", "label", pick(labels.c.label_id, labels.c.item_id)),
        Link("in", "dataset", pick(dataset_rows.c.dataset_id, dataset_rows.c.item_id)),
        Link("in", "suite", pick(suite_cases.c.suite_id, suite_cases.c.item_id)),
        Link("left in", "export", listing(exports.c.export_id, exports.c.item_ids)),
    ),
    "decision": (Link("shown in", "review", _showing),),
    "review": (
        Link("counts in", "label", _adding_up),
        Link("superseded by", "review", pick(reviews.c.review_id, reviews.c.supersedes)),
    ),
    "label": (
        Link("in", "dataset", pick(dataset_rows.c.dataset_id, dataset_rows.c.label_id)),
        Link("in", "suite", pick(suite_cases.c.suite_id, suite_cases.c.label_id)),
        Link("superseded by", "label", pick(labels.c.label_id, labels.c.supersedes)),
    ),
    "dataset": (
        Link("taught", "run", pick(runs.c.run_id, runs.c.dataset_id)),
        Link("taught", "model", pick(_CHILD, _PARENT, _IS_TRAINED_ON)),
    ),
    "suite": (
        Link("judges in", "evaluation", pick(evaluations.c.evaluation_id, evaluations.c.suite_id)),
    ),
    "run": (
        Link("made", "model", pick(_CHILD, model_edges.c.run_id)),
        Link("continued by", "run", pick(runs.c.run_id, runs.c.parent_run)),
    ),
    "model": (
        *_edges(_CHILD, _PARENT),
        Link("serves as", "candidate", pick(candidates.c.candidate_id, candidates.c.model_digest)),
        Link("started", "run", pick(runs.c.run_id, runs.c.base_model)),
    ),
    "candidate": (
        Link(
            "judged in", "evaluation", pick(evaluations.c.evaluation_id, evaluations.c.candidate_id)
        ),
        Link("released as", "release", pick(releases.c.release_id, releases.c.candidate_id)),
        Link("decided", "decision", pick(decisions.c.decision_id, decisions.c.candidate_id)),
    ),
    "evaluation": (
        Link("led to", "verdict", pick(verdicts.c.verdict_id, verdicts.c.candidate_evaluation)),
        Link("compared in", "verdict", pick(verdicts.c.verdict_id, verdicts.c.champion_evaluation)),
    ),
    "verdict": (
        Link("decided by", "approval", pick(approvals.c.approval_id, approvals.c.verdict_id)),
        Link("led to", "release", pick(releases.c.release_id, releases.c.verdict_id)),
    ),
    "approval": (
        Link("let through", "release", pick(releases.c.release_id, releases.c.approval_id)),
    ),
    "release": (Link("served", "decision", pick(decisions.c.decision_id, decisions.c.release_id)),),
}
