"""Which column holds what: the text, the label and other roles, by name or by content."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from freehold.errors import InputError
from freehold.tabular.rows import Row, Table

How = Literal["given", "name", "content"]
_SAMPLE_ROWS = 1000
_MOST_LABELS = 200

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "message", "body", "content", "description", "question", "query",
             "request", "comment", "sentence", "utterance", "input"),
    "label": ("label", "category", "class", "intent", "target", "decision", "verdict", "answer",
              "tag", "gold"),
    "incumbent": ("incumbent", "current", "predicted", "prediction", "system", "model_answer"),
    "entity": ("entity", "customer", "customer_id", "patient", "patient_id", "account",
               "user_id", "case_id"),
    "split": ("split", "fold", "subset", "partition"),
    "id": ("id", "item_id", "item", "key", "row_id", "external_id"),
    "date": ("date", "created_at", "timestamp", "time", "event_time"),
}  # fmt: skip
"""Names that people give to columns, the most telling first."""


@dataclass(frozen=True)
class Columns:
    """The column of each role, and how it was found: `columns["text"]` is a column's name."""

    names: Mapping[str, str]
    how: Mapping[str, How] = field(default_factory=dict)

    def __getitem__(self, role: str) -> str:
        return self.names[role]

    def __contains__(self, role: object) -> bool:
        return role in self.names

    def get(self, role: str) -> str | None:
        """Return the column of a role, or None when the table has none."""
        return self.names.get(role)


def find_columns(
    table: Table,
    wanted: Mapping[str, Sequence[str]],
    given: Mapping[str, str | None] | None = None,
    *,
    optional: Sequence[str] = (),
) -> Columns:
    """Find the column of each wanted role.

    In this order: the column that the user named (`given`), a column whose name is one of the
    role's synonyms, and, for the roles `text` and `label` only, the one column whose content can
    be nothing else. A role in `optional` may stay without a column. Raises InputError that lists
    the columns and says how to name one.
    """
    names: dict[str, str] = {}
    how: dict[str, How] = {}
    for role, name in (given or {}).items():
        if name is not None:
            names[role], how[role] = _given(table, role, name), "given"
    for role, synonyms in wanted.items():
        found = None if role in names else _by_name(table, synonyms, set(names.values()))
        if found:
            names[role], how[role] = found, "name"
    missing = [role for role in wanted if role not in names and role not in optional]
    if missing:
        profiles = _profiles(table, set(names.values()))
        for role in [role for role in ("text", "label") if role in missing]:
            found = _by_content(role, profiles)
            if found:
                names[role], how[role] = found, "content"
                profiles.pop(found)
    for role in missing:
        if role not in names:
            raise _not_found(table, role)
    return Columns(names, how)


def _given(table: Table, role: str, name: str) -> str:
    if name in table.columns:
        return name
    same = [column for column in table.columns if _simple(column) == _simple(name)]
    if len(same) == 1:
        return same[0]
    raise InputError(
        f"{table.path.name}: no column {name!r} for the {role}",
        hint=f"Its columns are: {_listed(table.columns)}.",
        file=str(table.path),
        field=name,
    )


def _by_name(table: Table, synonyms: Sequence[str], taken: set[str]) -> str | None:
    simple = {_simple(column): column for column in reversed(table.columns) if column not in taken}
    return next((simple[_simple(name)] for name in synonyms if _simple(name) in simple), None)


@dataclass(frozen=True)
class _Profile:
    """What a column's values look like in a sample of rows."""

    filled: int
    distinct: int
    length: float

    @property
    def is_text(self) -> bool:
        return self.length >= 15 and self.distinct > self.filled / 2

    @property
    def is_label(self) -> bool:
        repeats = self.distinct <= min(_MOST_LABELS, self.filled / 2)
        return self.distinct >= 2 and repeats and self.length <= 60


def _profiles(table: Table, taken: set[str]) -> dict[str, _Profile]:
    columns: dict[str, list[Any]] = {name: [] for name in table.columns if name not in taken}
    for row in islice((row for row in table.read() if isinstance(row, Row)), _SAMPLE_ROWS):
        for name, values in columns.items():
            value = row.values.get(name)
            if isinstance(value, str) and value.strip():
                values.append(value)
    return {name: _profile(values) for name, values in columns.items() if values}


def _profile(values: list[str]) -> _Profile:
    return _Profile(len(values), len(set(values)), sum(map(len, values)) / len(values))


def _by_content(role: str, profiles: Mapping[str, _Profile]) -> str | None:
    fits = [name for name, profile in profiles.items() if getattr(profile, f"is_{role}")]
    if role == "text" and len(fits) > 1:
        # The work itself is much longer than an address or a title that goes with it.
        fits.sort(key=lambda name: profiles[name].length, reverse=True)
        clear = profiles[fits[0]].length >= 2 * profiles[fits[1]].length
        return fits[0] if clear else None
    return fits[0] if len(fits) == 1 else None


def _not_found(table: Table, role: str) -> InputError:
    return InputError(
        f"{table.path.name}: cannot tell which column holds the {role}; "
        f"its columns are: {_listed(table.columns)}",
        hint=f"Name it: --{role}-column NAME.",
        file=str(table.path),
        field=role,
    )


def _simple(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.strip().casefold()).strip("_")


def _listed(columns: Sequence[str], most: int = 30) -> str:
    shown = ", ".join(repr(name) for name in columns[:most])
    return shown if len(columns) <= most else f"{shown} and {len(columns) - most} more"
