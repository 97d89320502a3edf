"""Labs with a labelled file in them, for the tests of datasets and suites."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from freehold.evidence.people import add_person
from freehold.lab import Lab
from freehold.records.spaces import Choice, Space
from freehold.review.importing import import_reviews
from freehold.review.records import ImportOptions
from freehold.tasks.contract import write_task
from labelled_files import OPTIONS, write_rows

Fill = Callable[..., str]

# For tests that say nothing about the database: the `lab` fixture gives them SQLite only.
on_sqlite = pytest.mark.parametrize("lab_url", [""], ids=["sqlite"])


def fill_lab(
    lab: Lab,
    path: Path,
    rows: Iterable[Mapping[str, str]],
    *,
    kind: str = "answer_key",
    space: Space | None = None,
    source: str = "desk",
) -> str:
    """Take labelled rows in as items and reviews of the task support; return who did it."""
    write_task(lab, "support", space or Choice(OPTIONS))
    with lab.writing() as connection:
        actor = add_person(lab, connection, "ines").principal_id
    options = ImportOptions(kind=kind, source=source, reviewer="ada", strict=True)
    import_reviews(lab, "support", write_rows(path, rows), actor=actor, options=options)
    return actor
