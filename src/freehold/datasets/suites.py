"""Suites: the frozen cases by which models are judged.

A case has a *gold* label: made by people who saw no model's answer. Contaminated labels are left
out and counted, never used in silence. Items of one entity form a cluster, so that statistics do
not take ten messages of one customer for ten independent observations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, func, select

from freehold.canonical.json import decode, digest, encode_text
from freehold.datasets.gathering import (
    BASES,
    Gathered,
    Labelled,
    gather,
    why_unusable,
)
from freehold.datasets.reading import by_reference, pages
from freehold.datasets.storing import Frozen, committed, find_same, until_stable, write_frozen
from freehold.errors import InputError, NotFound, Refused
from freehold.evidence.entries import Row, root_over
from freehold.evidence.sequencer import publish
from freehold.lab.opened import Lab
from freehold.lab.schema import items, suites
from freehold.lab.schema import suite_cases as case_table
from freehold.records.ids import new_id
from freehold.tasks.contract import Task, load_task
from freehold.workflows.items import item_texts

MANIFEST_FORMAT = "freehold-suite/1"


@dataclass(frozen=True, slots=True)
class SuiteRecord:
    """One version of a suite. A suite that `blocks` keeps its cases out of every dataset."""

    suite_id: str
    name: str
    number: int
    task: str
    contract_digest: str
    root: str
    cases: int
    blocks: bool
    manifest: dict[str, Any]
    created_at: str
    created_by: str
    is_new: bool = False

    @property
    def label(self) -> str:
        """How people name this version: ``name@number``."""
        return f"{self.name}@{self.number}"


@dataclass(frozen=True, slots=True)
class SuiteCase:
    """One case. `cluster_key` is None where the item's entity is not known."""

    case_id: str
    item_id: str
    label_id: str
    text: str
    value: str | list[str]
    cluster_key: str | None
    slices: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SuiteTerms:
    """Which split the cases come from, whether they block, and whether every item must be gold."""

    split: str = "test"
    blocks: bool = True
    require_all: bool = False

    def __post_init__(self) -> None:
        """Refuse to judge models by what they train on."""
        if self.split not in ("test", "dev"):
            raise InputError(
                f"the cases of a suite come from test or dev, not from {self.split!r}",
                hint="Models learn the train items; figures on them say nothing.",
            )


def freeze_suite(
    lab: Lab, task_name: str, *, name: str, actor: str, terms: SuiteTerms | None = None
) -> SuiteRecord:
    """Freeze the gold labels of a task's test items as the next version of `name`.

    Returns the version that is there, with `is_new` false, when nothing has changed since. Raises
    Refused when no gold label is left, or under `require_all` when any item of the split is left
    out; the message says how many for which reason.
    """
    if not name or name != name.strip() or "@" in name:
        raise InputError(f"a suite's name has no '@' and no space at its ends, got {name!r}")
    task, terms = load_task(lab, task_name), terms or SuiteTerms()
    wrote = False

    def attempt() -> Row | None:
        nonlocal wrote
        with lab.reading() as connection:
            frozen = _freeze(connection, task, name, terms)
            same = find_same(connection, suites, name, frozen.facts["content"]) if frozen else None
        if frozen is None or same is not None:
            return same
        row = write_frozen(lab, frozen, "suite.frozen", actor)
        wrote = row is not None
        return row

    row = until_stable(attempt)
    publish(lab)
    return replace(_record(row), is_new=wrote)


def get_suite(lab: Lab, reference: str) -> SuiteRecord:
    """Return a suite by id, by ``name@number``, or by name (its newest version)."""
    with lab.reading() as connection:
        row = connection.execute(by_reference(suites, reference)).mappings().first()
    if row is None:
        known = ", ".join(sorted({one.name for one in list_suites(lab)})) or "none"
        raise NotFound(f"no suite {reference!r}; this lab has: {known}")
    return _record(row)


def list_suites(lab: Lab, task: str | None = None) -> list[SuiteRecord]:
    """Return every version of every suite, oldest first."""
    query = select(suites).order_by(suites.c.created_at, suites.c.suite_id)
    if task is not None:
        query = query.where(suites.c.task == task)
    with lab.reading() as connection:
        return [_record(row) for row in connection.execute(query).mappings()]


def suite_cases(lab: Lab, suite_id: str) -> Iterator[SuiteCase]:
    """Yield the cases of a suite in their order, those erased since left out."""
    for page in pages(lab, case_table, "suite_id", suite_id):
        with lab.reading() as connection:
            texts = item_texts(lab, connection, [row["item_id"] for row in page])
        for row in page:
            if row["item_id"] in texts and row["value"] is not None:
                yield SuiteCase(
                    case_id=row["case_id"],
                    item_id=row["item_id"],
                    label_id=row["label_id"],
                    text=texts[row["item_id"]],
                    value=decode(row["value"]),
                    cluster_key=row["cluster_key"],
                    slices=decode(row["slices"]),
                )


def erased_cases(lab: Lab, suite_id: str) -> int:
    """Return how many cases of a suite were erased since: they judge no more."""
    query = (
        select(func.count())
        .select_from(case_table.join(items, items.c.item_id == case_table.c.item_id))
        .where(case_table.c.suite_id == suite_id, items.c.erased_at.is_not(None))
    )
    with lab.reading() as connection:
        return int(connection.execute(query).scalar_one())


def _freeze(connection: Connection, task: Task, name: str, terms: SuiteTerms) -> Frozen | None:
    gathered = gather(connection, task.name, split=terms.split)
    gold, left_out = _gold(gathered, task)
    _require_enough(task, terms, len(gold), left_out)
    suite_id = new_id("suite")
    cases = committed(connection, case_table, _cases(suite_id, gold))
    if cases is None:
        return None
    named = [[one.item_id, one.label_id] for one in gold]
    head = {"contract": task.contract_digest, "blocks": terms.blocks, "split": terms.split}
    content = digest({**head, "cases": named})
    root = root_over([case["commitment"] for case in cases])
    manifest = {
        "format": MANIFEST_FORMAT,
        "content": content,
        "root": root,
        "cases": len(cases),
        "clusters": len({one.entity_key or one.item_id for one in gold}),
        "split": terms.split,
        "bases": dict(Counter(one.basis for one in gold)),
        "left_out": left_out,
    }
    owner = {
        "suite_id": suite_id,
        "name": name,
        "task": task.name,
        "contract_digest": task.contract_digest,
        "root": root,
        "cases": len(cases),
        "blocks": int(terms.blocks),
        "manifest": encode_text(manifest),
    }
    told = ("suite_id", "name", "task", "root", "cases", "blocks")
    facts = {key: owner[key] for key in told} | {"content": content}
    return Frozen(suites, "suite_id", owner, ((case_table, cases),), facts)


def _gold(gathered: Gathered, task: Task) -> tuple[list[Labelled], dict[str, int]]:
    """Return the labels that may judge, and how many items of the split have none and why."""
    gold: list[Labelled] = []
    reasons: Counter[str] = Counter()
    for one in gathered.labelled:
        unusable = why_unusable(one, task.contract_digest, BASES)
        if unusable is not None:
            reasons[unusable.reason] += 1
        elif not one.gold or one.contamination is not None:
            reasons["contaminated"] += 1
        else:
            gold.append(one)
    counts = {"unlabelled": gathered.unlabelled, "erased": gathered.erased}
    return gold, dict(reasons) | {reason: count for reason, count in counts.items() if count}


def _require_enough(task: Task, terms: SuiteTerms, cases: int, left_out: Mapping[str, int]) -> None:
    told = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
    if not cases:
        raise Refused(
            f"no {terms.split} item of task {task.name} has a gold label: {told or 'no items'}",
            hint="Have them reviewed with every model's answer hidden, then freeze again: "
            f"freehold review queue {task.name} --split {terms.split}",
        )
    strict = {reason for reason in left_out if reason != "erased"}
    if terms.require_all and strict:
        raise Refused(
            f"not every {terms.split} item of task {task.name} has a gold label: {told}",
            hint="Review those items blind, or freeze the suite without them.",
        )


def _cases(suite_id: str, gold: Sequence[Labelled]) -> list[Row]:
    return [
        {
            "suite_id": suite_id,
            "position": position,
            "case_id": new_id("case"),
            "item_id": one.item_id,
            "label_id": one.label_id,
            "value": one.value,
            "cluster_key": one.entity_key,
            "slices": one.attributes,
        }
        for position, one in enumerate(gold)
    ]


def _record(row: Mapping[Any, Any]) -> SuiteRecord:
    kept = {key: row[key] for key in row if key not in ("schema_version", "entry_id")}
    said = {"manifest": decode(row["manifest"]), "blocks": bool(row["blocks"])}
    return SuiteRecord(**kept | said)
