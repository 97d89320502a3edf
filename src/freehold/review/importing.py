"""Take reviews in from files: years of past decisions, answer keys, other tools' annotations.

Three passes over the file. The first checks every row and writes nothing. The second makes the
items that are missing (`workflows.ingest`). The third writes the reviews in batches, each one
transaction, so that a kill loses at most the batch that was being written. Importing again goes on:
a review that is there already, unchanged, is not written twice; a changed one supersedes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from sqlalchemy import Connection, select

from freehold.errors import InputError
from freehold.evidence.people import add_person
from freehold.evidence.sequencer import publish
from freehold.lab.opened import Lab
from freehold.lab.schema import decisions, items
from freehold.review.annotations import FileOfAnnotations
from freehold.review.labels import Settled
from freehold.review.records import ImportOptions, ReviewFile, Told
from freehold.review.settling import HISTORICAL
from freehold.review.submission import UNRECORDED, Submission
from freehold.review.submitting import record_reviews
from freehold.review.tables import TableOfReviews
from freehold.tabular import BadRow
from freehold.tasks.contract import Task, load_task, register_task
from freehold.workflows.ingest import ingest
from freehold.workflows.items import find_item
from freehold.workflows.rows import ROLES as ITEM_ROLES
from freehold.workflows.rows import IngestOptions

BATCH = 500  # reviews to a transaction
_PUBLISH_EVERY = 20  # batches

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ImportReport:
    """What became of a file of reviews.

    `rows` were read; of them `written` are new reviews, `unchanged` were there already, and
    `faults` could not be used, each named by line and field. `superseded` of the new ones replace
    an earlier review.
    """

    source: str
    rows: int
    written: int
    unchanged: int
    superseded: int
    items_added: int
    settled: Settled
    faults: tuple[BadRow, ...]
    columns: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def import_reviews(
    lab: Lab,
    task_name: str,
    path: Path,
    *,
    actor: str,
    options: ImportOptions | None = None,
    on_progress: Progress | None = None,
) -> ImportReport:
    """Take the reviews of a CSV, JSON Lines, Parquet, XLSX or Label Studio JSON file in.

    Bad rows are reported and the rest goes in; with ``options.strict`` the first fault is raised as
    RowError before anything is written. `on_progress` gets (reviews done, reviews in all). Raises
    InputError when the file as a whole cannot be used.
    """
    path, chosen = Path(path), options or ImportOptions()
    task = load_task(lab, task_name)
    file = open_reviews(task, path, chosen)
    found = _check(file, path, chosen)
    with lab.writing() as connection:
        register_task(lab, connection, task, actor)
    known, added = _item_ids(lab, task, file, found, chosen, actor)
    found.faults += known.faults
    people = _people(lab, found, chosen, actor)
    importing = _Importing(lab, task, chosen.source or path.name, actor, people, known.ids)
    report = importing.run(file, found, on_progress)
    publish(lab)
    return ImportReport(
        source=importing.source,
        rows=found.rows,
        written=report.written,
        unchanged=report.unchanged,
        superseded=report.superseded,
        items_added=added,
        settled=report.settled,
        faults=tuple(sorted(found.faults, key=lambda one: one.line)),
        columns=dict(file.columns),
        notes=file.notes,
    )


def open_reviews(task: Task, path: Path, options: ImportOptions) -> ReviewFile:
    """Return a file of reviews in whatever format it is."""
    if options.format == "label_studio" or (options.format is None and _is_list(path)):
        return FileOfAnnotations(task, path, options)
    return TableOfReviews(task, path, options)


def _is_list(path: Path) -> bool:
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with path.open("rb") as opened:
        return opened.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


@dataclass
class _Found:
    """What the first pass found: each item's first line and text, and who the reviewers are."""

    rows: int = 0
    first: dict[str, int] = field(default_factory=dict)
    bad_lines: set[tuple[int, str]] = field(default_factory=set)
    own_ids: dict[str, str] = field(default_factory=dict)
    reviewers: set[str] = field(default_factory=set)
    faults: list[BadRow] = field(default_factory=list)


def _check(file: ReviewFile, path: Path, options: ImportOptions) -> _Found:
    found = _Found()
    texts: dict[str, int] = {}
    for each in file:
        found.rows += 1
        fault = each if isinstance(each, BadRow) else _contradiction(each, texts, found)
        if fault is not None:
            if options.strict:
                raise fault.error(path)
            found.faults.append(fault)
            continue
        if isinstance(each, Told):
            found.first.setdefault(each.key, each.line)
            if each.item_id is not None:
                found.own_ids[each.key] = each.item_id
            if each.reviewer is not None:
                found.reviewers.add(each.reviewer)
    if not found.rows:
        raise InputError(
            f"{path.name}: no rows after the header",
            hint="The first line names the columns; the rows follow.",
            file=str(path),
        )
    return found


def _contradiction(each: Told, texts: dict[str, int], found: _Found) -> BadRow | None:
    """Return the fault of a row that gives another text than an earlier one of the same item."""
    if each.text is None:
        return None
    mark = hash(each.text)  # within this process only, and never stored
    if texts.setdefault(each.key, mark) == mark:
        return None
    found.bad_lines.add((each.line, each.key))
    first = found.first.get(each.key)
    return BadRow(each.line, "text", f"differs from the text of the same item on line {first}")


@dataclass
class _Known:
    ids: dict[str, str] = field(default_factory=dict)
    faults: list[BadRow] = field(default_factory=list)


def _item_ids(
    lab: Lab, task: Task, file: ReviewFile, found: _Found, options: ImportOptions, actor: str
) -> tuple[_Known, int]:
    """Return the lab's id of every item that the file is about, made now where it is missing."""
    known = _Known()
    with lab.reading() as connection:
        there = _existing(connection, set(found.own_ids.values()))
    own = {key: item_id for key, item_id in found.own_ids.items() if item_id in there}
    erased = {key for key, item_id in own.items() if there[item_id] is not None}
    known.ids = {key: item_id for key, item_id in own.items() if key not in erased}
    known.faults += [BadRow(found.first[key], None, "its item was erased") for key in erased]
    missing = {line: key for key, line in found.first.items() if key not in own}
    table = file.items(frozenset(missing))
    if table is None:
        if options.source is None:
            raise InputError(
                "the file has ids and no texts: which items are these?",
                hint="Name the source that the items came from, or add a column with the texts.",
            )
        _find_named(lab, missing, options.source, known)
        return known, 0
    if not missing:
        return known, 0
    roles = {role: name for role, name in file.columns.items() if role in ITEM_ROLES}
    columns: dict[str, str | None] = {
        role: name for role, name in roles.items() if name in table.columns
    }
    chosen = IngestOptions(
        columns={} if table.format == "label_studio" else columns,
        source=options.source,
        sensitivity=options.sensitivity,
        strict=options.strict,
    )
    report = ingest(lab, task, table, actor=actor, options=chosen)
    known.ids |= {missing[row.line]: row.item_id for row in report.rows}
    known.faults += report.bad_rows
    return known, report.added


def _find_named(lab: Lab, missing: dict[int, str], source: str, known: _Known) -> None:
    """Find items by the names that their source has for them: the file has no texts."""
    with lab.reading() as connection:
        for line, key in missing.items():
            item_id = find_item(connection, source, key)
            if item_id is None:
                reason = f"no item {key!r} from {source!r} in this lab, and the file has no texts"
                known.faults.append(BadRow(line, "id", reason))
            else:
                known.ids[key] = item_id


def _people(lab: Lab, found: _Found, options: ImportOptions, actor: str) -> dict[str | None, str]:
    """Return the pseudonym of each reviewer, and under None of whoever stands for the unnamed."""
    names = sorted(found.reviewers)
    people: dict[str | None, str] = {None: actor}
    for start in range(0, len(names) + 1, BATCH):
        with lab.writing() as connection:
            for name in names[start : start + BATCH]:
                person = add_person(lab, connection, name, roles=("reviewer",))
                people[name] = person.principal_id
            if options.reviewer is not None:
                person = add_person(lab, connection, options.reviewer, roles=("reviewer",))
                people[None] = person.principal_id
    return people


@dataclass
class _Done:
    written: int = 0
    unchanged: int = 0
    superseded: int = 0
    settled: Settled = field(default_factory=Settled)


@dataclass
class _Importing:
    """The third pass: reviews into the lab, batch by batch."""

    lab: Lab
    task: Task
    source: str
    actor: str
    people: dict[str | None, str]
    ids: dict[str, str]
    _counts: dict[tuple[str, str], int] = field(default_factory=dict)

    def run(self, file: ReviewFile, found: _Found, on_progress: Progress | None) -> _Done:
        """Write every good review of the file; skip those that are there already."""
        done, seen = _Done(), 0
        rows = self._good(file, found)
        number = 0
        while batch := list(islice(rows, BATCH)):
            number += 1
            self._write(batch, done)
            seen += len(batch)
            if number % _PUBLISH_EVERY == 0:
                publish(self.lab)
            if on_progress is not None:
                on_progress(seen + len(found.faults), found.rows)
        return done

    def _good(self, file: ReviewFile, found: _Found) -> Iterator[Told]:
        for each in file:
            if isinstance(each, BadRow) or (each.line, each.key) in found.bad_lines:
                continue
            if each.key in self.ids:
                yield each
            elif each.line != found.first[each.key]:
                line = found.first[each.key]
                found.faults.append(BadRow(each.line, None, f"its item was refused on line {line}"))

    def _write(self, batch: list[Told], done: _Done) -> None:
        with self.lab.writing() as connection:
            shown = {one for each in batch for one in each.shown}
            there = _shown_items(connection, self.task, sorted(shown))
            given = [self._submission(each, there) for each in batch]
            result = record_reviews(self.lab, connection, self.task, given, actor=self.actor)
        done.written += result.written
        done.unchanged += len(batch) - result.written
        done.superseded += result.superseded
        done.settled += result.settled

    def _submission(self, each: Told, there: dict[str, str]) -> tuple[Submission, str]:
        reviewer, item_id = self.people[each.reviewer], self.ids[each.key]
        count = self._counts[item_id, reviewer] = self._counts.get((item_id, reviewer), 0) + 1
        known = [one if there.get(one) == item_id else UNRECORDED for one in each.shown]
        submission = Submission(
            item_id=item_id,
            verdict=each.verdict,
            value=each.value,
            shown_decisions=tuple(dict.fromkeys(known)),
            kind=each.kind,
            reason=each.reason,
            milliseconds_spent=each.milliseconds_spent,
            selection=each.selection,
            authentication="imported",
            source=self.source,
            # Without a name of its own a review is its reviewer's first, second … of the item.
            external_id=each.review_key or f"{reviewer}#{count}",
            unnamed=each.reviewer is None and each.kind == HISTORICAL,
        )
        return submission, reviewer


def _existing(connection: Connection, ids: set[str]) -> dict[str, str | None]:
    """Return those of `ids` that are items of this lab, with when each was erased."""
    wanted, found = sorted(ids), dict[str, str | None]()
    for start in range(0, len(wanted), BATCH):
        part = wanted[start : start + BATCH]
        query = select(items.c.item_id, items.c.erased_at).where(items.c.item_id.in_(part))
        found |= {row.item_id: row.erased_at for row in connection.execute(query)}
    return found


def _shown_items(connection: Connection, task: Task, ids: list[str]) -> dict[str, str]:
    """Return, of decisions that a file names, those of this lab and task: the item of each."""
    query = select(decisions.c.decision_id, decisions.c.item_id).where(
        decisions.c.decision_id.in_(ids),
        decisions.c.contract_digest == task.contract_digest,
        decisions.c.value.is_not(None),
    )
    return {row.decision_id: row.item_id for row in connection.execute(query)}
