"""Small tables of past work, made from a seed: words tell the label, and some of them lie."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WORDS = {
    "billing": ("invoice", "amount", "charged", "refund", "payment"),
    "delivery": ("parcel", "courier", "arrived", "tracking", "late"),
    "fault": ("broken", "display", "sensor", "error", "restart"),
}
FILLER = ("please", "we", "have", "the", "about", "since", "monday", "again", "order", "our")


@dataclass(frozen=True)
class Wanted:
    """How a table is made: shares of wrong labels and of right answers of the incumbent."""

    rows: int = 400
    noise: float = 0.1
    incumbent: float | None = 0.7
    entities: int = 0
    seed: int = 7


def past_work(path: Path, wanted: Wanted = Wanted()) -> Path:
    """Write a CSV file and return its path."""
    chance = random.Random(wanted.seed)
    rows = [_row(chance, number, wanted) for number in range(wanted.rows)]
    return write(path, list(rows[0]), [list(row.values()) for row in rows])


def write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    """Write a CSV file and return its path."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def _row(chance: random.Random, number: int, wanted: Wanted) -> dict[str, str]:
    names = sorted(WORDS)
    meant = chance.choice(names)
    words = [*chance.sample(WORDS[meant], 2), *chance.sample(FILLER, 4), f"n{number}"]
    chance.shuffle(words)
    label = chance.choice(names) if chance.random() < wanted.noise else meant
    row = {"text": " ".join(words), "label": label}
    if wanted.incumbent is not None:
        others = [name for name in names if name != label]
        right = chance.random() < wanted.incumbent
        row["incumbent"] = label if right else chance.choice(others)
    if wanted.entities:
        row["customer"] = f"C{chance.randrange(wanted.entities)}"
    day = 1 + number * 300 // wanted.rows
    row["date"] = f"2025-{1 + day // 28:02d}-{1 + day % 28:02d}"
    return row
