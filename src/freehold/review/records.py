"""Reviews as a file tells them: one record for each, whatever format it came in.

Reading touches no database, so that a file can be checked whole before anything is written.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from freehold.errors import InputError, SettingsError
from freehold.records.spaces import Number, Space
from freehold.review.settling import ANSWER_KEY, HISTORICAL, LIVE
from freehold.review.submission import UNRECORDED, Selection
from freehold.tabular import BadRow, Table
from freehold.workflows.rows import DEFAULT_SENSITIVITY

NOBODY_CHOSE = Selection(None, None, None, None)


@dataclass(frozen=True)
class ImportOptions:
    """What the user says about a file of reviews.

    `kind` is *historical* (past work: unblinded), *live* (people reviewed) or *answer_key*; left
    out, it is historical, live for Label Studio, or what the file says where Freehold wrote it.
    `source` names where the reviews come from; the file's name where it is left out. `reviewer`
    gave those that name nobody. `blind` states that no model's answer was shown, where the file
    does not tell. `columns` names the column of a role; `control` and `text_field` are for Label
    Studio.
    """

    kind: str | None = None
    source: str | None = None
    reviewer: str | None = None
    blind: bool = False
    strict: bool = False
    columns: Mapping[str, str | None] = field(default_factory=dict)
    format: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    control: str | None = None
    text_field: str | None = None
    sensitivity: str = DEFAULT_SENSITIVITY

    def __post_init__(self) -> None:
        """Refuse a kind that cannot be imported, and a claim that contradicts it."""
        kinds = (HISTORICAL, LIVE, ANSWER_KEY)
        if self.kind is not None and self.kind not in kinds:
            raise SettingsError(f"unknown kind {self.kind!r} of reviews; known: {', '.join(kinds)}")
        if self.blind and self.kind in (None, HISTORICAL):
            raise SettingsError(
                "past work is not blind: nobody knows what was seen when it was decided",
                hint="For reviews that people gave blind, say --kind live.",
            )


@dataclass(frozen=True, slots=True)
class Told:
    """One review as a file tells it, checked against the task's space.

    `key` is equal for reviews of one item. `item_id` is this lab's own id, where the file knows it.
    `review_key` names the review in its source, None where the file has no names for reviews.
    """

    line: int
    key: str
    text: str | None
    item_id: str | None
    review_key: str | None
    reviewer: str | None
    verdict: str
    value: Any
    shown: tuple[str, ...]
    kind: str
    reason: str | None = None
    milliseconds_spent: int | None = None
    selection: Selection = NOBODY_CHOSE


class ReviewFile(Protocol):
    """A file of reviews that can be read as often as is wanted."""

    @property
    def columns(self) -> Mapping[str, str]:
        """Which column holds what."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was seen and left aside."""

    def __iter__(self) -> Iterator[Told | BadRow]:
        """Yield every review, and every fault."""

    def items(self, lines: frozenset[int]) -> Table | None:
        """Return the rows of `lines` as a table of items; None when the file holds no texts."""


def check_value(space: Space, raw: Any) -> Any:
    """Return a cell's value in the task's space; InputError says which known label is nearest."""
    if isinstance(raw, bool):
        raw = str(raw).lower()
    elif isinstance(raw, float) and raw.is_integer():
        raw = str(int(raw))
    elif isinstance(raw, int | float):
        raw = str(raw)
    if isinstance(raw, str):
        raw = raw.strip()
    try:
        return space.check(raw)
    except InputError as error:
        raise InputError(error.message + _nearest(space, raw)) from error


def shown_by(kind: str, *, blind: bool) -> tuple[str, ...]:
    """Return what counts as shown where a file does not tell: nothing only if that was stated."""
    return () if kind == ANSWER_KEY or (kind == LIVE and blind) else (UNRECORDED,)


def _nearest(space: Space, raw: Any) -> str:
    if isinstance(space, Number):
        return ""
    parts = raw if isinstance(raw, list | tuple) else str(raw).replace(";", "|").split("|")
    wrong = next((str(part).strip() for part in parts if part not in space.options), None)
    lowered = {name.casefold(): name for name in space.options}
    near = difflib.get_close_matches((wrong or "").casefold(), lowered, n=1)
    return f"; did you mean {lowered[near[0]]!r}?" if near else ""
