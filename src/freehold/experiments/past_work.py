"""A spreadsheet of past work, read for an assessment: what is used, and what is left out and why.

Text, what was decided about it, and where there is one what the incumbent said. Nothing is dropped
without a reason and a count. Texts that are equal but for case and space count once: a text that
stands on both sides of a split would be remembered and counted as understood.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from freehold.errors import InputError
from freehold.tabular import SYNONYMS, BadRow, Columns, Row, Table, find_columns
from freehold.tasks.splits import named_split, normalised

ROLES = ("text", "label", "incumbent", "entity", "split", "date")
_OPTIONAL = ROLES[2:]
LEAST_ROWS = 50
LEAST_ROWS_LEFT = 1_000
_COPIED = 0.995


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is looked at: above either limit a random sample is taken, and said to be one.

    `characters` bounds the time that an encoder needs; it never cuts below `LEAST_ROWS_LEFT` rows.
    """

    rows: int = 10_000
    characters: int = 2_500_000


@dataclass(frozen=True, slots=True)
class Case:
    """One piece of past work.

    `entity` is whom or what it belongs to; where no column says so, each case stands for itself.
    """

    line: int
    text: str
    label: str
    entity: str
    incumbent: str | None = None
    split: str | None = None
    moment: datetime | None = None


@dataclass(frozen=True)
class PastWork:
    """The cases that are used, in the file's order, and an account of all others.

    `labels` are the distinct labels of the whole file in name order; `dropped` counts rows by
    reason; `read` counts all rows of the file; `sampled_from` is set when limits made it a sample.
    """

    file: str
    cases: tuple[Case, ...]
    labels: tuple[str, ...]
    columns: Mapping[str, str]
    read: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    sampled_from: int | None = None
    notes: tuple[str, ...] = ()

    def as_record(self) -> dict[str, Any]:
        """Return the account as JSON; no text of any case is in it."""
        return {
            "file": self.file,
            "columns": dict(self.columns),
            "rows_read": self.read,
            "rows_used": len(self.cases),
            "dropped": dict(self.dropped),
            "sampled_from": self.sampled_from,
            "labels": len(self.labels),
            "notes": list(self.notes),
        }


def read_past_work(
    table: Table,
    columns: Mapping[str, str | None] | None = None,
    *,
    ignore: Sequence[str] = (),
    limits: Limits | None = None,
    seed: int = 0,
) -> PastWork:
    """Read a table for an assessment.

    `columns` names the column of a role where its name or content does not tell it; the optional
    roles in `ignore` are left out although there is a column. Raises InputError when a column is
    missing, when fewer than `LEAST_ROWS` cases are left, when all have
    one label, or when the labels look like free text.
    """
    found = _columns(table, columns or {}, ignore)
    reader = _Reader(found)
    for row in table:
        reader.take(row)
    cases = list(reader.cases)
    _check(table, found, cases, reader.dropped)
    kept = _sample(cases, limits or Limits(), seed)
    notes = (*table.notes, *_notes(reader, kept))
    return PastWork(
        file=table.path.name,
        cases=tuple(kept),
        labels=tuple(sorted({case.label for case in cases})),
        columns={role: found[role] for role in ROLES if role in found},
        read=reader.read,
        dropped=dict(reader.dropped.most_common()),
        sampled_from=len(cases) if len(kept) < len(cases) else None,
        notes=notes,
    )


def _columns(table: Table, given: Mapping[str, str | None], ignore: Sequence[str]) -> Columns:
    odd = [role for role in ignore if role not in _OPTIONAL]
    if odd:
        raise InputError(f"cannot ignore {odd[0]!r}; what can be: {', '.join(_OPTIONAL)}")
    wanted = {role: SYNONYMS[role] for role in ROLES if role not in ignore}
    return find_columns(table, wanted, given, optional=_OPTIONAL)


class _Reader:
    """Turns rows into cases, one by one, and keeps the account of those left out."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.cases: list[Case] = []
        self.dropped: Counter[str] = Counter()
        self.conflicting = 0
        self.read = 0
        self._label_of: dict[str, str] = {}

    def take(self, row: Row | BadRow) -> None:
        self.read += 1
        case = self._case(row)
        if isinstance(case, str):
            self.dropped[case] += 1
            return
        key = normalised(case.text)
        if key in self._label_of:
            self.dropped["duplicate text"] += 1
            self.conflicting += self._label_of[key] != case.label
            return
        self._label_of[key] = case.label
        self.cases.append(case)

    def _case(self, row: Row | BadRow) -> Case | str:
        """Return the row's case, or why it has none."""
        if isinstance(row, BadRow):
            return "unreadable row"
        text, label = self._cell(row, "text"), self._cell(row, "label")
        if text is None:
            return "no text"
        if label is None:
            return "no label"
        split, date = self._cell(row, "split"), self._cell(row, "date")
        try:
            assigned = None if split is None else named_split(split)
        except InputError:
            return "unknown split"
        return Case(
            row.line,
            text,
            label,
            self._cell(row, "entity") or f"line {row.line}",
            self._cell(row, "incumbent"),
            assigned,
            _moment(date),
        )

    def _cell(self, row: Row, role: str) -> str | None:
        """Return a cell as text: numbers and true/false by their JSON form, nothing as None."""
        name = self.columns.get(role)
        value = None if name is None else row.values.get(name)
        if value is None or isinstance(value, (list, dict)):
            return None
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value).strip() or None


def _moment(date: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(date or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _check(table: Table, columns: Columns, cases: list[Case], dropped: Counter[str]) -> None:
    """Raise InputError for a table of which nothing could be said."""
    place = {"file": str(table.path)}
    if len(cases) < LEAST_ROWS:
        lost = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common())
        raise InputError(
            f"{table.path.name}: {len(cases)} usable rows are too few to tell anything from"
            + (f" (left out: {lost})" if lost else ""),
            hint="Leave its column aside: --ignore split."
            if dropped["unknown split"] > len(cases)
            else f"{LEAST_ROWS} rows are the least, some hundred say more.",
            **place,
        )
    counts = Counter(case.label for case in cases)
    named = columns["label"]
    if len(counts) == 1:
        raise InputError(
            f"{table.path.name}: all {len(cases)} rows have the label {next(iter(counts))!r} "
            f"in column {named!r}: there is nothing to tell apart",
            hint="Name another column with --label-column, or add work that was decided otherwise.",
            field=named,
            **place,
        )
    if len(counts) > len(cases) / 2:
        raise InputError(
            f"{table.path.name}: column {named!r} has {len(counts)} different values in "
            f"{len(cases)} rows: these are not labels that repeat",
            hint="Name the column that holds one of a few answers: --label-column NAME.",
            field=named,
            **place,
        )


def _sample(cases: list[Case], limits: Limits, seed: int) -> list[Case]:
    """Return all cases, or a seeded random sample of them in the file's order."""
    import numpy as np

    most = limits.rows
    characters = sum(len(case.text) for case in cases)
    if characters > limits.characters:
        share = limits.characters / characters
        most = min(most, max(LEAST_ROWS_LEFT, int(len(cases) * share)))
    if len(cases) <= most:
        return cases
    chosen = np.sort(np.random.default_rng(seed).permutation(len(cases))[:most])
    return [cases[place] for place in chosen]


def _notes(reader: _Reader, cases: list[Case]) -> list[str]:
    """Return what a careful reader of the figures should know about the file."""
    notes = []
    if "entity" not in reader.columns:
        notes.append(
            "no column says what belongs together: rows count as independent of each other"
        )
    if reader.conflicting:
        notes.append(
            f"{reader.conflicting} of the duplicates carry another label than their first "
            "occurrence: people did not agree with themselves"
        )
    rare = sum(count == 1 for count in Counter(case.label for case in cases).values())
    if rare:
        notes.append(f"{rare} labels occur once: no model can be both taught and tested on them")
    answered = [case for case in cases if case.incumbent is not None]
    agreed = sum(case.incumbent == case.label for case in answered)
    if answered and agreed > _COPIED * len(answered):
        notes.append(
            f"the incumbent agrees with the label in {agreed} of {len(answered)} rows: "
            "check that one column is not a copy of the other"
        )
    return notes
