"""Building a dataset: which labelled items may train, frozen with the lineage of each row.

Every item that has a label is either a row or an exclusion with its reason. What stands in the
test split, or gives a case of a blocking suite away, never trains; of twins the oldest stays. The
dataset's identity is the Merkle root over its rows' commitments. The same labels under the same
terms are the same dataset: building again gives back the version that is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, select

from freehold.canonical.json import PARTS_PER_BILLION, digest, encode_text
from freehold.datasets.duplicates import find_twins, require_threshold
from freehold.datasets.gathering import (
    BASES,
    Gathered,
    Labelled,
    LeftOut,
    gather,
    pieces,
    texts_of,
    why_unusable,
)
from freehold.datasets.leaks import WAYS, Guard, Known, Leak, known_items
from freehold.datasets.reading import DatasetRecord, dataset_record
from freehold.datasets.storing import Frozen, committed, find_same, until_stable, write_frozen
from freehold.errors import InputError, Refused
from freehold.evidence.entries import Row, root_over
from freehold.evidence.sequencer import publish
from freehold.lab.opened import Lab
from freehold.lab.schema import (
    dataset_exclusions,
    dataset_rows,
    datasets,
    split_assignments,
    suite_cases,
    suites,
)
from freehold.records.ids import new_id
from freehold.tasks.contract import Task, load_task

MANIFEST_FORMAT = "freehold-dataset/1"
TEST_SPLIT = "the test split"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which rules a dataset is built. They stand in its manifest."""

    include: tuple[str, ...] = BASES
    seed: int = 0
    near_duplicate_threshold: float = 0.9

    def __post_init__(self) -> None:
        """Refuse an unknown basis, no basis at all, and an impossible threshold."""
        unknown = [basis for basis in self.include if basis not in BASES]
        if unknown or not self.include:
            wrong = repr(unknown[0]) if unknown else "none"
            raise InputError(f"labels to include are of {', '.join(BASES)}; got {wrong}")
        require_threshold(self.near_duplicate_threshold)

    def stated(self) -> dict[str, Any]:
        """Return the terms as the manifest states them."""
        return {
            "include": sorted(self.include),
            "seed": self.seed,
            "near_duplicate_threshold": str(self.near_duplicate_threshold),
        }


@dataclass(frozen=True, slots=True)
class _Guards:
    """What no row may give away: the cases, and the blocking suites that name each of them."""

    cases: tuple[Known, ...]
    named_by: dict[str, list[str]]
    suites: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class _Chosen:
    rows: list[Labelled]
    left_out: list[LeftOut]


def build_dataset(
    lab: Lab,
    task_name: str,
    *,
    name: str,
    actor: str,
    terms: Terms | None = None,
    on_progress: Progress | None = None,
) -> DatasetRecord:
    """Freeze the labels of a task's train and dev items as the next version of `name`.

    Returns the version that is there, with `is_new` false, when nothing has changed since. Raises
    Refused when no row is left, which says what became of the labels.
    """
    if not name or name != name.strip() or "@" in name:
        raise InputError(f"a dataset's name has no '@' and no space at its ends, got {name!r}")
    task = load_task(lab, task_name)
    builder = _Builder(lab, task, name, actor, terms or Terms(), on_progress)
    row = until_stable(builder.attempt)
    publish(lab)
    return replace(dataset_record(row), is_new=builder.wrote)


class _Builder:
    """One build: read, choose, commit, write."""

    def __init__(
        self,
        lab: Lab,
        task: Task,
        name: str,
        actor: str,
        terms: Terms,
        on_progress: Progress | None,
    ) -> None:
        self._lab, self._task, self._name, self._actor = lab, task, name, actor
        self._terms, self._on_progress = terms, on_progress
        self.wrote = False

    def attempt(self) -> Row | None:
        """Return the dataset's row, written or found; None when items were erased meanwhile."""
        with self._lab.reading() as connection:
            gathered = gather(connection, self._task.name)
            guards = _guards(self._lab, connection, self._task)
            chosen = self._choose(connection, gathered.labelled, guards)
            if not chosen.rows:
                raise _nothing_left(self._task.name, gathered, chosen)
            content = _content(self._task, chosen, self._terms, guards)
            same = find_same(connection, datasets, self._name, content)
            if same is not None:
                return same
            frozen = self._freeze(connection, gathered, chosen, guards, content)
        if frozen is None:
            return None
        row = write_frozen(self._lab, frozen, "dataset.built", self._actor)
        self.wrote = row is not None
        return row

    def _choose(
        self, connection: Connection, labelled: Sequence[Labelled], guards: _Guards
    ) -> _Chosen:
        left_out: list[LeftOut] = []
        usable: list[Labelled] = []
        for one in labelled:
            reason = _why_not(one, self._task, self._terms)
            if reason is None:
                usable.append(one)
            else:
                left_out.append(reason)
        clean = self._without_leaks(connection, usable, guards, left_out)
        rows = self._without_twins(connection, clean, left_out)
        return _Chosen(rows, left_out)

    def _without_leaks(
        self,
        connection: Connection,
        rows: Sequence[Labelled],
        guards: _Guards,
        left_out: list[LeftOut],
    ) -> list[Labelled]:
        if not guards.cases:
            return list(rows)
        guard = Guard(
            guards.cases,
            threshold=self._terms.near_duplicate_threshold,
            seed=self._terms.seed,
        )
        worst: dict[str, Leak] = {}
        for part in pieces(rows):
            for leak in guard.leaks(known_items(self._lab, connection, [r.item_id for r in part])):
                known = worst.setdefault(leak.row_item, leak)
                if WAYS.index(leak.way) < WAYS.index(known.way):
                    worst[leak.row_item] = leak
        for leak in worst.values():
            detail: dict[str, str | int | bool] = {"way": leak.way, "case_item": leak.case_item}
            detail |= {"likeness_ppb": leak.likeness_ppb}
            detail["of"] = ", ".join(guards.named_by.get(leak.case_item, [TEST_SPLIT]))
            left_out.append(LeftOut(leak.row_item, "in_test", detail))
        return [row for row in rows if row.item_id not in worst]

    def _without_twins(
        self, connection: Connection, rows: Sequence[Labelled], left_out: list[LeftOut]
    ) -> list[Labelled]:
        def source(positions: Sequence[int]) -> list[str]:
            return texts_of(self._lab, connection, [rows[place].item_id for place in positions])

        twins = find_twins(
            source,
            len(rows),
            threshold=self._terms.near_duplicate_threshold,
            seed=self._terms.seed,
            on_progress=self._on_progress,
        )
        for twin in twins:
            one, kept = rows[twin.position], rows[twin.kept]
            detail: dict[str, str | int | bool] = {"kept": kept.item_id, "why": "older"}
            detail |= {"likeness_ppb": twin.likeness_ppb}
            detail |= {"same_label": one.value == kept.value, "same_split": one.split == kept.split}
            left_out.append(LeftOut(one.item_id, twin.reason, detail))
        out = {twin.position for twin in twins}
        return [row for place, row in enumerate(rows) if place not in out]

    def _freeze(
        self,
        connection: Connection,
        gathered: Gathered,
        chosen: _Chosen,
        guards: _Guards,
        content: str,
    ) -> Frozen | None:
        dataset_id = new_id("ds")
        rows = committed(connection, dataset_rows, _rows(dataset_id, chosen.rows))
        out = committed(connection, dataset_exclusions, _exclusions(dataset_id, chosen.left_out))
        if rows is None or out is None:
            return None
        root = root_over([row["commitment"] for row in rows])
        manifest = {
            "format": MANIFEST_FORMAT,
            "content": content,
            "root": root,
            "rows": len(rows),
            "splits": dict(Counter(row.split for row in chosen.rows)),
            "bases": dict(Counter(row.basis for row in chosen.rows)),
            "terms": self._terms.stated(),
            "left_out": _counts(gathered, chosen),
            "exclusions_root": root_over([row["commitment"] for row in out]),
            "suites": list(guards.suites),
        }
        owner = {
            "dataset_id": dataset_id,
            "name": self._name,
            "task": self._task.name,
            "contract_digest": self._task.contract_digest,
            "root": root,
            "rows": len(rows),
            "manifest": encode_text(manifest),
        }
        facts = {key: owner[key] for key in ("dataset_id", "name", "task", "root", "rows")}
        parts = ((dataset_rows, rows), (dataset_exclusions, out))
        return Frozen(datasets, "dataset_id", owner, parts, facts | {"content": content})


def _why_not(one: Labelled, task: Task, terms: Terms) -> LeftOut | None:
    if one.split == "test":
        return LeftOut(one.item_id, "in_test", {"way": "same_item", "of": TEST_SPLIT})
    return why_unusable(one, task.contract_digest, terms.include)


def _guards(lab: Lab, connection: Connection, task: Task) -> _Guards:
    """Read every test item of the task, judged or not, and every case of its blocking suites."""
    blocking = connection.execute(
        select(suites.c.suite_id, suites.c.name, suites.c.number, suites.c.root)
        .where(suites.c.task == task.name, suites.c.blocks == 1)
        .order_by(suites.c.name, suites.c.number)
    ).all()
    named_by: dict[str, list[str]] = {}
    for suite in blocking:
        query = select(suite_cases.c.item_id).where(suite_cases.c.suite_id == suite.suite_id)
        for item_id in connection.execute(query).scalars():
            named_by.setdefault(item_id, []).append(f"{suite.name}@{suite.number}")
    test = select(split_assignments.c.item_id).where(
        split_assignments.c.task == task.name, split_assignments.c.split == "test"
    )
    listed = sorted({*named_by, *connection.execute(test).scalars()})
    stated = tuple({"suite": f"{s.name}@{s.number}", "root": s.root} for s in blocking)
    return _Guards(tuple(known_items(lab, connection, listed)), named_by, stated)


def _content(task: Task, chosen: _Chosen, terms: Terms, guards: _Guards) -> str:
    """Return a digest of what the dataset says, free of the ids that each build draws anew.

    Items and labels stand for their content: both are random names of what never changes.
    """
    rows = [[row.item_id, row.label_id, row.split, row.reviews] for row in chosen.rows]
    out = sorted([one.item_id, one.reason] for one in chosen.left_out)
    head = {"contract": task.contract_digest, "terms": terms.stated(), "suites": guards.suites}
    return digest({**head, "rows": rows, "left_out": out})


def _rows(dataset_id: str, rows: Sequence[Labelled]) -> list[Row]:
    return [
        {
            "dataset_id": dataset_id,
            "position": position,
            "row_id": new_id("row"),
            "kind": "label",
            "item_id": one.item_id,
            "label_id": one.label_id,
            "reviews": one.reviews,
            "split": one.split,
            "value": one.value,
            "weight_ppb": PARTS_PER_BILLION,
            "parents": "[]",
            "licence": one.licence,
            "consent_basis": one.consent_basis,
        }
        for position, one in enumerate(rows)
    ]


def _exclusions(dataset_id: str, left_out: Sequence[LeftOut]) -> list[Row]:
    return [
        {
            "dataset_id": dataset_id,
            "position": position,
            "item_id": one.item_id,
            "reason": one.reason,
            "detail": None if one.detail is None else encode_text(one.detail),
        }
        for position, one in enumerate(left_out)
    ]


def _counts(gathered: Gathered, chosen: _Chosen) -> dict[str, int]:
    counts = dict(Counter(one.reason for one in chosen.left_out))
    # Neither can stand as a row: nobody has spoken about the one, nothing may about the other.
    return counts | {"unlabelled": gathered.unlabelled, "erased": gathered.erased}


def _nothing_left(task: str, gathered: Gathered, chosen: _Chosen) -> Refused:
    counts = {reason: count for reason, count in _counts(gathered, chosen).items() if count}
    told = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) or "no items"
    return Refused(
        f"task {task} has no row that may train: {told}",
        hint="Import or submit reviews of its train items, then build again.",
    )
