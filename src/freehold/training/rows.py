"""Rows as training takes them: an id, a text, what was decided, and how much the row counts.

This room knows no database: a driver writes rows into a run's folder and reads results from it. The
folder ``data/`` of a run holds people's texts and is the only part that does, besides ``plan.json``
with its three shown rows; a driver seals neither.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from freehold.errors import InputError, IntegrityError, RowError
from freehold.runtimes.base import Question


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One labelled row.

    `target` is an option's name (choice), names (labels) or a decimal string (number). `weight` is
    how much the row counts beside others; `row_id` is random and says nothing about a person.
    """

    row_id: str
    text: str
    target: str | tuple[str, ...]
    weight: Decimal = Decimal(1)


@dataclass(frozen=True, slots=True)
class DatasetRef:
    """Which frozen dataset the rows are from.

    `salt` (16 bytes or more) keys the commitment to the token stream: once it is destroyed, the
    lock says nothing about any text.
    """

    name: str
    root: str
    salt: bytes


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Everything a run learns from: the question, train rows, dev rows (may be none), lineage."""

    question: Question
    rows: tuple[TrainingRow, ...]
    dev: tuple[TrainingRow, ...]
    dataset: DatasetRef


def check_rows(rows: Sequence[TrainingRow], question: Question) -> None:
    """Refuse what no trainer should see: RowError names the first faulty row and how many more.

    Faults: a repeated id, an empty text, an unknown option, a number out of bounds, a bad weight.
    """
    if not rows:
        raise InputError("there are no rows to train on")
    faults: list[tuple[str, str]] = []
    seen: set[str] = set()
    for row in rows:
        fault = "its id repeats" if row.row_id in seen else _fault(row, question)
        seen.add(row.row_id)
        if fault:
            faults.append((row.row_id, fault))
    if faults:
        row_id, fault = faults[0]
        more = f" (and {len(faults) - 1} more rows with faults)" if len(faults) > 1 else ""
        raise RowError(f"row {row_id}: {fault}{more}", row=row_id, faults=len(faults))


def _fault(row: TrainingRow, question: Question) -> str | None:
    if not row.text.strip():
        return "its text is empty"
    if not row.weight.is_finite() or row.weight < 0:
        return f"weight {row.weight} is not 0 or more"
    if question.kind == "labels":
        if not isinstance(row.target, tuple):
            return f"labels are a tuple of names, got {row.target!r}"
        odd = [name for name in row.target if name not in question.names]
        return f"unknown label {odd[0]!r}" if odd else None
    if not isinstance(row.target, str):
        return f"one answer is expected, got {row.target!r}"
    if question.kind == "choice":
        return None if row.target in question.names else f"unknown label {row.target!r}"
    return _number_fault(row.target, question)


def _number_fault(target: str, question: Question) -> str | None:
    try:
        number = Decimal(target)
    except InvalidOperation:
        return f"{target!r} is not a number"
    low, high = Decimal(question.low or "0"), Decimal(question.high or "0")
    inside = number.is_finite() and low <= number <= high
    return None if inside else f"{target} lies outside {low} to {high}"


def bin_of(target: str, question: Question) -> int:
    """Return the bin that a number falls in; the highest bound belongs to the last bin."""
    low, high = Decimal(question.low or "0"), Decimal(question.high or "0")
    place = (Decimal(target) - low) * question.bins / (high - low)
    return min(int(place), question.bins - 1)


def write_rows(path: Path, rows: Iterable[TrainingRow]) -> None:
    """Write rows as JSON lines."""
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            target = list(row.target) if isinstance(row.target, tuple) else row.target
            record = {"row_id": row.row_id, "text": row.text, "target": target}
            stream.write(json.dumps({**record, "weight": str(row.weight)}, ensure_ascii=False))
            stream.write("\n")


def read_rows(path: Path) -> tuple[TrainingRow, ...]:
    """Read what `write_rows` wrote; IntegrityError names the line that was altered or cut."""
    rows: list[TrainingRow] = []
    number = 0
    try:
        with path.open(encoding="utf-8") as stream:
            for line in stream:
                number += 1
                rows.append(_row(json.loads(line)))
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing: the run has no rows") from None
    except (ValueError, KeyError, TypeError, InvalidOperation) as error:
        raise IntegrityError(f"{path}, line {number}: not a training row ({error})") from error
    return tuple(rows)


def _row(record: dict[str, Any]) -> TrainingRow:
    target = record["target"]
    held = tuple(target) if isinstance(target, list) else str(target)
    return TrainingRow(record["row_id"], record["text"], held, Decimal(record["weight"]))
