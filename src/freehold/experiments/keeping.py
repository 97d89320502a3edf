"""An assessment's past work, kept: a lab with the task, the items and the decisions of the past.

The decisions come in as historical reviews: nobody knows what was seen when they were made, so they
may train and are not gold. The incumbent's answers stay with each item as an attribute.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freehold.errors import Conflict, InputError
from freehold.evidence.founding import found_lab
from freehold.evidence.people import acting_person
from freehold.experiments.assessment import Assessment
from freehold.lab import Lab, open_lab
from freehold.lab.layout import Layout
from freehold.records.spaces import Choice
from freehold.review.importing import import_reviews
from freehold.review.records import ImportOptions
from freehold.review.settling import HISTORICAL
from freehold.tasks.contract import write_task
from freehold.tasks.splits import SplitRule

_KEPT_ROLES = ("text", "label", "entity", "split", "date")


@dataclass(frozen=True, slots=True)
class Kept:
    """What the lab took in; `refused` counts rows that it could not use."""

    lab: str
    task: str
    items: int
    reviews: int
    refused: int

    def as_record(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "lab": self.lab,
            "task": self.task,
            "items": self.items,
            "reviews": self.reviews,
            "reviews_are": HISTORICAL,
            "refused": self.refused,
        }


def check_place(directory: Path, ignore: tuple[str, ...]) -> None:
    """Raise before minutes are spent: Conflict for a folder of something else.

    InputError where a column was left aside: the lab finds its columns by itself and would use it.
    """
    if set(ignore) & set(_KEPT_ROLES):
        raise InputError(
            f"a lab would use the column that was ignored: {', '.join(ignore)}",
            hint="Rename or remove the column in the file, then keep it as a lab.",
        )
    taken = directory.exists() and (not directory.is_dir() or any(directory.iterdir()))
    if taken and not Layout(directory.absolute()).settings.exists():
        raise Conflict(f"{directory} holds something else", hint="Choose a new directory.")


def keep(
    found: Assessment,
    file: Path,
    directory: Path,
    *,
    actor: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Kept:
    """Take the whole file into a lab, new or there already, under a task named like the file.

    `actor` is the name of who acts; the account's user where it is left out. Safe to repeat: what
    is there already stays as it is. Raises what founding, the task and the import raise.
    """
    opened = Layout(directory.absolute()).settings.exists()
    with open_lab(directory) if opened else found_lab(directory) as lab:
        name = task_name(file)
        late = found.test_from
        rule = SplitRule() if late is None else SplitRule(rule="time", test_from=late)
        write_task(lab, name, Choice(found.work.labels), split=rule)
        columns = {role: found.work.columns.get(role) for role in _KEPT_ROLES}
        report = import_reviews(
            lab,
            name,
            file,
            actor=_acting(lab, actor),
            options=ImportOptions(kind=HISTORICAL, columns=columns),
            on_progress=on_progress,
        )
    return Kept(str(directory), name, report.items_added, report.written, len(report.faults))


def task_name(file: Path) -> str:
    """Return a task's name made of a file's."""
    words = re.sub(r"[^a-z0-9]+", "_", file.stem.lower()).strip("_")
    return words[:64].strip("_") or "past_work"


def _acting(lab: Lab, name: str | None) -> str:
    with lab.writing() as connection:
        return acting_person(lab, connection, name).principal_id
