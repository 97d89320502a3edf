"""From rows of a file to items in the making: roles of columns, and every fault by line and field.

Nothing here touches the database, so that a file can be checked whole before anything is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from freehold.errors import InputError, SettingsError
from freehold.lab.opened import Lab
from freehold.policy.permits import SENSITIVITIES
from freehold.tabular import SYNONYMS, BadRow, Columns, Row, Table, find_columns
from freehold.tasks.definition import Task
from freehold.tasks.splits import named_split

ROLES: Mapping[str, tuple[str, ...]] = {
    "text": SYNONYMS["text"],
    "id": SYNONYMS["id"],
    "label": SYNONYMS["label"],
    "entity": SYNONYMS["entity"],
    "subject": ("subject", "data_subject", "person"),
    "split": ("split", "subset", "partition"),  # "fold" numbers parts of a cross-validation
    "date": SYNONYMS["date"],
    "licence": ("licence", "license"),
    "consent": ("consent", "consent_basis"),
    "sensitivity": ("sensitivity",),
    "retention": ("retention", "retain_until"),
}
"""What a column may hold besides attributes, and the names by which it is found."""

_OPTIONAL = tuple(role for role in ROLES if role != "text")
DEFAULT_SENSITIVITY = "confidential"


@dataclass(frozen=True)
class IngestOptions:
    """What the user says about a file.

    `columns` names the column of a role; roles not named are found by name, the text by content
    too. `source` is where the items come from: (source, id) names an item for good. `sensitivity`
    holds for rows that state none. `attributes` False leaves other columns out of the items.
    """

    columns: Mapping[str, str | None] = field(default_factory=dict)
    source: str | None = None
    sensitivity: str = DEFAULT_SENSITIVITY
    strict: bool = False
    attributes: bool = True

    def __post_init__(self) -> None:
        """Refuse an unknown role or sensitivity."""
        unknown = sorted(set(self.columns) - set(ROLES))
        if unknown:
            raise SettingsError(f"unknown role {unknown[0]!r} of a column; known: {list(ROLES)}")
        if self.sensitivity not in SENSITIVITIES:
            known = ", ".join(SENSITIVITIES)
            raise SettingsError(f"unknown sensitivity {self.sensitivity!r}; known: {known}")


@dataclass(frozen=True, slots=True)
class Incoming:
    """One row that can become an item."""

    line: int
    external_id: str
    text: str
    entity: str | None
    group: str | None
    subjects: tuple[str, ...]
    split: str | None
    event_time: str | None
    sensitivity: str
    licence: str | None
    consent: str | None
    retention: str | None
    attributes: dict[str, Any]


class RowReader:
    """Reads a table's rows as `Incoming` or `BadRow`, duplicates of an id included."""

    def __init__(self, task: Task, table: Table, options: IngestOptions) -> None:
        self.table = table
        self.columns: Columns = find_columns(table, ROLES, options.columns, optional=_OPTIONAL)
        self._options = options
        self._group = _group_column(task, table)
        taken = set(self.columns.names.values())
        self._others = [name for name in table.columns if name not in taken]

    @property
    def has_ids(self) -> bool:
        """Whether the file names its items; without, they are named by their line."""
        return "id" in self.columns

    def __iter__(self) -> Iterator[Incoming | BadRow]:
        seen: dict[str, int] = {}
        for row in self.table:
            if isinstance(row, BadRow):
                yield row
                continue
            incoming = self._read(row)
            if isinstance(incoming, Incoming):
                first = seen.setdefault(incoming.external_id, incoming.line)
                if first != incoming.line:
                    reason = f"id {incoming.external_id!r} stands already on line {first}"
                    incoming = BadRow(row.line, self.columns.get("id"), reason)
            yield incoming

    def _read(self, row: Row) -> Incoming | BadRow:
        role = "text"
        try:
            text = self._text(row, role, required=True) or ""
            role = "id"
            named = self._text(row, role, required=self.has_ids)
            role = "split"
            split = self._text(row, role)
            if split is not None:
                named_split(split)
            role = "date"
            time = self._text(row, role)
            role = "sensitivity"
            sensitivity = self._sensitivity(row)
        except InputError as error:
            return BadRow(row.line, self.columns.get(role), error.message)
        entity = self._text(row, "entity")
        subjects = self._text(row, "subject") or entity
        group = row.values.get(self._group) if self._group else None
        return Incoming(
            line=row.line,
            external_id=named or f"row:{row.line}",
            text=text,
            entity=entity,
            group=None if group in (None, "") else str(group),
            subjects=(subjects,) if subjects else (),
            split=split,
            event_time=None if time is None else _utc(time),
            sensitivity=sensitivity,
            licence=self._text(row, "licence"),
            consent=self._text(row, "consent"),
            retention=self._text(row, "retention"),
            attributes=self._attributes(row),
        )

    def _text(self, row: Row, role: str, *, required: bool = False) -> str | None:
        column = self.columns.get(role)
        value = row.values.get(column) if column else None
        if isinstance(value, bool | list | dict):
            raise InputError(f"expected text, got {type(value).__name__}")
        text = None if value is None else str(value)
        if role != "text" and text is not None:
            text = text.strip()
        if text is None or not text.strip():
            if required:
                raise InputError("is empty")
            return None
        return text

    def _sensitivity(self, row: Row) -> str:
        stated = self._text(row, "sensitivity")
        if stated is None:
            return self._options.sensitivity
        if stated.lower() not in SENSITIVITIES:
            known = ", ".join(SENSITIVITIES)
            raise InputError(f"unknown sensitivity {stated!r}; known: {known}")
        return stated.lower()

    def _attributes(self, row: Row) -> dict[str, Any]:
        if not self._options.attributes:
            return {}
        found = {name: row.values.get(name) for name in self._others}
        return {name: _exact(value) for name, value in found.items() if value not in (None, "")}


def file_source(lab: Lab, path: Path) -> str:
    """Return what names this very file: its name, and a keyed hash of its bytes."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
    return f"{path.name}@{lab.index_key(hasher.hexdigest(), 'file')[:16]}"


def _group_column(task: Task, table: Table) -> str | None:
    column = task.split.group
    if column is not None and column not in table.columns:
        raise InputError(
            f"{table.path.name}: no column {column!r}, by which task {task.name!r} is split",
            hint=f"Its columns are: {', '.join(table.columns[:30])}.",
            file=str(table.path),
            field=column,
        )
    return column


def _utc(text: str) -> str:
    """Return a time in UTC as records hold it; what is no ISO 8601 time stays as it is."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return text
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _exact(value: Any) -> Any:
    """Return a value that a hashed record may hold: numbers with a fraction become text."""
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int) and abs(value) < 2**53:
        return value
    if isinstance(value, list):
        return [_exact(inner) for inner in value]
    if isinstance(value, dict):
        return {str(key): _exact(inner) for key, inner in value.items()}
    return str(value)
