"""Reviews in CSV, JSON Lines, Parquet and XLSX files: their columns found, each row checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from freehold.errors import InputError
from freehold.review.records import ImportOptions, Told, check_value, shown_by
from freehold.review.settling import HISTORICAL, KINDS
from freehold.review.submission import VERDICTS, Selection
from freehold.tabular import SYNONYMS, BadRow, Row, Table, find_columns, open_table
from freehold.tasks.contract import Task
from freehold.workflows.rows import ROLES as ITEM_ROLES

_OF_REVIEWS: Mapping[str, tuple[str, ...]] = {
    "review_id": ("review_id", "annotation_id"),
    "reviewer": ("reviewer", "annotator", "worker", "rater", "reviewed_by", "decided_by"),
    "verdict": ("review_verdict",),
    "reason": ("reason", "rationale", "why"),
    "milliseconds": ("milliseconds_spent",),
}
_OWN_ONLY = (
    "freehold_item", "contract_digest", "kind", "shown_decisions", "stream", "propensity_ppb",
    "population", "policy", "submitted_at", "superseded_by", "item_source",
)  # fmt: skip
EXPORT_COLUMNS = (
    "review_id", "freehold_item", "item_source", "id", "text", "label", "review_verdict",
    "reviewer", "kind", "shown_decisions", "reason", "milliseconds_spent", "stream",
    "propensity_ppb", "population", "policy", "contract_digest", "submitted_at", "superseded_by",
)  # fmt: skip
"""The columns of a file of reviews that Freehold writes."""
ROLES: Mapping[str, tuple[str, ...]] = {
    **_OF_REVIEWS,
    **ITEM_ROLES,
    "label": (*SYNONYMS["label"], "value"),
}
"""What a column of a file of reviews may hold, and the names by which it is found."""


class TableOfReviews:
    """A table in which each row is one review of one item."""

    def __init__(self, task: Task, path: Path, options: ImportOptions) -> None:
        self._task, self._options = task, options
        table = _open(path, options, guarded=False)
        self.own = set(EXPORT_COLUMNS) <= set(table.columns)
        if self.own and table.format == "csv":
            table = _open(path, options, guarded=True)
        self.table = table
        optional = [role for role in ROLES if role != "label"]
        found = find_columns(table, ROLES, options.columns, optional=optional)
        self.columns: Mapping[str, str] = found.names
        self.notes = table.notes
        if "text" not in self.columns and "id" not in self.columns and not self.own:
            raise InputError(
                f"{path.name}: neither a text nor an id column: which items are these about?",
                hint=f"Its columns are: {', '.join(table.columns[:30])}. Name one with columns.",
                file=str(path),
            )

    def __iter__(self) -> Iterator[Told | BadRow]:
        """Yield every review, and a BadRow with line and field for what cannot be one."""
        for row in self.table:
            yield row if isinstance(row, BadRow) else self._read(row)

    def items(self, lines: frozenset[int]) -> Table | None:
        """Return the rows of `lines`, without what is about the review, as a table of items."""
        if "text" not in self.columns:
            return None
        hidden = {self.columns[role] for role in _OF_REVIEWS if role in self.columns}
        hidden |= set(_OWN_ONLY) if self.own else set()
        kept = tuple(name for name in self.table.columns if name not in hidden)

        def read() -> Iterator[Row | BadRow]:
            for row in self.table:
                if row.line in lines and isinstance(row, Row):
                    yield Row(row.line, {name: row.values.get(name) for name in kept})

        return Table(self.table.path, self.table.format, kept, read)

    def _read(self, row: Row) -> Told | BadRow:
        role = "label"
        try:
            verdict, value = self._answer(row)
            role = "id"
            key = self._key(row)
            role = "milliseconds"
            milliseconds = self._number(row)
            role = "kind"
            kind = self._kind(row)
            role = "shown_decisions"
            shown = self._shown(row, kind, verdict)
            role = "contract_digest"
            self._check_contract(row)
        except InputError as error:
            return BadRow(row.line, self.columns.get(role, role), error.message)
        return Told(
            line=row.line,
            key=key,
            text=self._text(row, "text"),
            item_id=_plain(row.values.get("freehold_item")) if self.own else None,
            review_key=self._text(row, "review_id"),
            reviewer=self._text(row, "reviewer"),
            verdict=verdict,
            value=value,
            shown=shown,
            kind=kind,
            reason=self._text(row, "reason"),
            milliseconds_spent=milliseconds,
            selection=_selection(row) if self.own else Selection(None, None, None, None),
        )

    def _answer(self, row: Row) -> tuple[str, Any]:
        stated = self._text(row, "verdict")
        raw = row.values.get(self.columns["label"])
        empty = raw is None or (isinstance(raw, str) and not raw.strip())
        verdict = stated or "correct"
        if verdict not in VERDICTS:
            raise InputError(f"unknown verdict {verdict!r}; known: {', '.join(VERDICTS)}")
        if verdict in ("skip", "reject"):
            if not empty:
                raise InputError(f"{verdict} gives no label")
            return verdict, None
        if empty:
            raise InputError("no label")
        return verdict, check_value(self._task.space, raw)

    def _key(self, row: Row) -> str:
        named = self._text(row, "id")
        if named is not None:
            return named
        if "id" in self.columns:
            raise InputError("is empty")
        # Reviewers of one text look at one item; past work with equal texts is separate work.
        text = self._text(row, "text")
        return text if "reviewer" in self.columns and text is not None else f"row:{row.line}"

    def _number(self, row: Row) -> int | None:
        text = self._text(row, "milliseconds")
        if text is None:
            return None
        try:
            number = int(float(text))
        except (ValueError, OverflowError):
            raise InputError(f"not a number of milliseconds: {text!r}") from None
        if number < 0:
            raise InputError(f"time spent is 0 ms or more, got {text}")
        return number

    def _kind(self, row: Row) -> str:
        if self._options.kind is not None:
            return self._options.kind
        stated = _plain(row.values.get("kind")) if self.own else None
        if stated is not None and stated not in KINDS:
            raise InputError(f"unknown kind of review {stated!r}; known: {', '.join(KINDS)}")
        return stated or HISTORICAL

    def _check_contract(self, row: Row) -> None:
        stated = _plain(row.values.get("contract_digest")) if self.own else None
        if stated is not None and stated != self._task.contract_digest:
            raise InputError("was made under another contract of the task; its options may differ")

    def _shown(self, row: Row, kind: str, verdict: str) -> tuple[str, ...]:
        shown = shown_by(kind, blind=self._options.blind)
        if self.own:
            text = _plain(row.values.get("shown_decisions"))
            shown = tuple(text.split("|")) if text else ()
        if verdict in ("accept", "reject") and not shown:
            raise InputError(f"{verdict} needs a decision that was shown")
        return shown

    def _text(self, row: Row, role: str) -> str | None:
        column = self.columns.get(role)
        return _plain(row.values.get(column), strip=role != "text") if column else None


def _open(path: Path, options: ImportOptions, *, guarded: bool) -> Table:
    return open_table(
        path,
        format=options.format,
        delimiter=options.delimiter,
        encoding=options.encoding,
        sheet=options.sheet,
        guarded=guarded,
    )


def _selection(row: Row) -> Selection:
    chance = _plain(row.values.get("propensity_ppb"))
    names = (_plain(row.values.get(name)) for name in ("stream", "population", "policy"))
    stream, population, policy = names
    return Selection(stream, None if chance is None else int(float(chance)), population, policy)


def _plain(value: Any, *, strip: bool = True) -> str | None:
    if value is None:
        return None
    text = str(value)
    if not text.strip():
        return None
    return text.strip() if strip else text
