from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from freehold.canonical.json import decode
from freehold.errors import FreeholdError, InputError, NotFound, RowError, SettingsError
from freehold.evidence.verification import verify_lab
from freehold.lab import Lab
from freehold.lab.opened import open_lab
from freehold.lab.schema import items, labels, reviews
from freehold.records.spaces import Choice
from freehold.review.figures import review_stats
from freehold.review.importing import import_reviews
from freehold.review.records import ImportOptions
from freehold.tabular import write_table
from review_files import ON_SQLITE, write_csv

Make = Callable[..., Any]
LIVE = ImportOptions(kind="live", blind=True)
UNKNOWN = "unknown label 'Refnud'; the task has refund, card, loan; did you mean 'refund'?"
PAST = [
    {"ticket": f"t{k}", "message": f"message number {k}", "category": ("refund", "card")[k % 2]}
    for k in range(6)
]


def count(lab: Lab, table: Any, *conditions: Any) -> int:
    with lab.reading() as connection:
        query = select(func.count()).select_from(table).where(*conditions)
        return int(connection.execute(query).scalar_one())


@pytest.fixture
def load(lab: Lab, person: Make, tmp_path: Path) -> Make:
    """Import rows (or a file) into the task `support` as ines."""

    def loaded(given: Any, options: ImportOptions | None = None, **more: Any) -> Any:
        path = given if isinstance(given, Path) else write_csv(tmp_path / "past.csv", given)
        return import_reviews(lab, "support", path, actor=person("ines"), options=options, **more)

    return loaded


def test_years_of_past_decisions_come_in_as_historical_and_are_not_gold(
    lab: Lab, new_task: Make, load: Make
) -> None:
    new_task()
    seen: list[tuple[int, int]] = []
    report = load(PAST, on_progress=lambda *counts: seen.append(counts))
    assert (report.rows, report.written, report.items_added, report.faults) == (6, 6, 6, ())
    assert report.settled.settled == 6
    assert seen[-1] == (6, 6)
    with lab.reading() as connection:
        told = connection.execute(select(reviews)).mappings().all()
        made = connection.execute(select(labels)).mappings().all()
    assert {(row["kind"], row["source"]) for row in told} == {("historical", "past.csv")}
    assert all(decode(row["shown_decisions"]) == ["unrecorded"] for row in told)
    assert {(row["basis"], row["gold"], row["is_current"]) for row in made} == {
        ("historical", 0, 1)
    }
    again = load(PAST)
    assert (again.written, again.unchanged, again.items_added) == (0, 6, 0)


@ON_SQLITE
def test_past_work_is_gold_only_by_the_labs_own_choice_which_is_on_the_record(
    lab: Lab, new_task: Make, person: Make, tmp_path: Path
) -> None:
    new_task()
    actor = person("ines")
    lab.settings.values["review.historical_is_gold"] = True
    import_reviews(lab, "support", write_csv(tmp_path / "past.csv", PAST), actor=actor)
    assert count(lab, labels, labels.c.gold == 1, labels.c.contamination.is_(None)) == 6
    entries = [json.loads(line) for line in _entries(lab)]
    (imported,) = [one for one in entries if one["kind"] == "reviews.imported"]
    assert imported["body"]["historical_is_gold"] is True


def _entries(lab: Lab) -> list[bytes]:
    from freehold.lab.schema import ledger_entries

    with lab.reading() as connection:
        return list(connection.execute(select(ledger_entries.c.bytes)).scalars())


@ON_SQLITE
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "xlsx"])
def test_every_format_gives_the_same_reviews(
    lab: Lab, new_task: Make, load: Make, tmp_path: Path, ending: str
) -> None:
    new_task()
    path = tmp_path / f"past.{ending}"
    write_table(path, PAST, list(PAST[0]))
    assert load(path, ImportOptions(columns={"id": "ticket"})).written == 6
    with lab.reading() as connection:
        query = select(items.c.external_id, labels.c.value).join(
            labels, labels.c.item_id == items.c.item_id
        )
        found = dict(connection.execute(query).all())
    assert found == {row["ticket"]: f'"{row["category"]}"' for row in PAST}


@ON_SQLITE
def test_faults_are_named_by_line_and_field_and_the_rest_goes_on(
    lab: Lab, new_task: Make, load: Make
) -> None:
    new_task()
    rows = [
        {"id": "1", "text": "first message", "label": "refund"},
        {"id": "2", "text": "second message", "label": "Refnud"},
        {"id": "3", "text": "third message", "label": ""},
        {"id": "", "text": "fourth message", "label": "card"},
        {"id": "1", "text": "another text", "label": "card"},
        {"id": "6", "text": "", "label": "card"},
        {"id": "7", "text": "seventh message", "label": "card"},
    ]
    report = load(rows)
    assert (report.rows, report.written, report.items_added) == (7, 2, 2)
    assert [(bad.line, bad.field, bad.reason) for bad in report.faults] == [
        (3, "label", UNKNOWN),
        (4, "label", "no label"),
        (5, "id", "is empty"),
        (6, "text", "differs from the text of the same item on line 2"),
        (7, "text", "is empty"),
    ]  # fmt: skip
    assert count(lab, items) == 2


@ON_SQLITE
@pytest.mark.parametrize(
    ("rows", "options", "error", "match"),
    [
        (
            [{"text": "one message", "label": "refund"}, {"text": "two", "label": "x"}],
            ImportOptions(strict=True),
            RowError,
            r"past.csv, line 3, field 'label': unknown label 'x'",
        ),
        ([{"label": "refund"}], None, InputError, "neither a text nor an id column"),
        (
            [{"text": "one message", "what": "refund"}],
            None,
            InputError,
            "cannot tell which column holds the label",
        ),
        ([{"id": "9", "label": "refund"}], None, InputError, "has ids and no texts"),
    ],
)
def test_a_file_that_cannot_be_used_leaves_everything_as_it_was(
    lab: Lab, new_task: Make, load: Make, rows: Any, options: ImportOptions | None,
    error: type[FreeholdError], match: str,
) -> None:  # fmt: skip
    new_task()
    with pytest.raises(error, match=match):
        load(rows, options)
    assert (count(lab, items), count(lab, reviews)) == (0, 0)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kind": "rumour"}, "unknown kind 'rumour'"),
        ({"kind": "historical", "blind": True}, "past work is not blind"),
        ({"blind": True}, "past work is not blind"),
    ],
)
def test_claims_that_contradict_each_other_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        ImportOptions(**options)


@ON_SQLITE
def test_a_task_that_is_not_there_is_named(lab: Lab, person: Make, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no task 'support'"):
        import_reviews(lab, "support", tmp_path / "past.csv", actor=person("ines"))


@pytest.mark.parametrize(
    ("options", "gold"),
    [
        (LIVE, 1),
        (ImportOptions(kind="live"), 0),
        (ImportOptions(kind="answer_key", source="the authors"), 1),
    ],
)
@ON_SQLITE
def test_live_reviews_are_blind_only_where_that_is_stated(
    lab: Lab, new_task: Make, load: Make, options: ImportOptions, gold: int
) -> None:
    new_task()
    load(PAST, options)
    assert count(lab, labels, labels.c.gold == gold) == 6


def test_a_corrected_file_supersedes_and_a_disagreement_of_records_is_a_dispute(
    lab: Lab, new_task: Make, load: Make
) -> None:
    new_task()
    by = ImportOptions(columns={"id": "ticket"})
    load(PAST, by)
    corrected = [PAST[0] | {"category": "loan"}, *PAST[1:]]
    report = load(corrected, by)
    assert (report.written, report.unchanged, report.superseded) == (1, 5, 1)
    assert count(lab, labels, labels.c.value == '"loan"', labels.c.version == 2) == 1
    twice = [PAST[5], PAST[5] | {"category": "refund"}]
    assert load(twice, by).settled.disputed == 1
    assert load(twice, by).written == 0


@ON_SQLITE
def test_reviews_of_items_that_are_here_need_no_texts(
    lab: Lab, new_task: Make, load: Make, tmp_path: Path
) -> None:
    new_task()
    by_source = {"columns": {"id": "ticket"}, "source": "desk"}
    load(PAST, ImportOptions(**by_source))  # type: ignore[arg-type]
    bare = [{"ticket": "t1", "label": "loan"}, {"ticket": "t99", "label": "loan"}]
    path = write_csv(tmp_path / "bare.csv", bare)
    report = load(path, ImportOptions(kind="live", blind=True, **by_source))  # type: ignore[arg-type]
    assert (report.written, report.items_added) == (1, 0)
    (fault,) = report.faults
    assert (fault.line, fault.reason) == (
        3,
        "no item 't99' from 'desk' in this lab, and the file has no texts",
    )
    assert count(lab, labels, labels.c.value == '"loan"', labels.c.gold == 1) == 1


@ON_SQLITE
@pytest.mark.parametrize(
    ("crowd", "most"),
    [
        ("dog", 40),
        pytest.param("duck", 10**9, marks=pytest.mark.slow),
        pytest.param("dog", 10**9, marks=pytest.mark.slow),
    ],
)
def test_alpha_of_imported_crowds_equals_the_reference(
    lab: Lab, new_task: Make, load: Make, shared_data: Path, crowd: str, most: int
) -> None:
    """Several workers to an item, their answers imported: as the krippendorff package has it."""
    import csv

    import krippendorff
    import numpy as np

    with (shared_data / "crowd_truth" / crowd / "answer.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if int(row["question"]) <= most]
    new_task("support", Choice(tuple(sorted({row["answer"] for row in rows}))))
    told = [row | {"text": f"picture {row['question']}"} for row in rows]
    columns = {"id": "question", "text": "text", "reviewer": "worker", "label": "answer"}
    report = load(told, ImportOptions(kind="live", blind=True, columns=columns))
    assert (report.written, report.faults) == (len(rows), ())
    place: dict[str, dict[str, int]] = {"question": {}, "worker": {}}
    for row in rows:
        for name, known in place.items():
            known.setdefault(row[name], len(known))
    matrix = np.full((len(place["worker"]), len(place["question"])), np.nan)
    for row in rows:
        at = place["worker"][row["worker"]], place["question"][row["question"]]
        matrix[at] = float(row["answer"])
    expected = krippendorff.alpha(reliability_data=matrix, level_of_measurement="nominal")
    figures = review_stats(lab, "support")
    assert figures.alpha.value == pytest.approx(expected, abs=1e-12)
    assert figures.alpha.pairs == figures.percent.pairs > 0
    assert len(figures.per_reviewer) == len(place["worker"])
    assert figures.by_kind == {"live": len(rows)}


_PROGRAM = """
import sys
from pathlib import Path
from freehold.lab.opened import open_lab
from freehold.review.importing import import_reviews
from freehold.review.records import ImportOptions
with open_lab(sys.argv[1]) as lab:
    print("start", flush=True)
    options = ImportOptions(kind="live", blind=True)
    import_reviews(lab, "support", Path(sys.argv[2]), actor=sys.argv[3], options=options)
"""


def _kill_an_import(lab: Lab, path: Path, actor: str, seconds: float | None) -> None:
    """Import in another process; kill it after a while, or as soon as reviews are there (None)."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(lab.root), str(path), actor],
        stdout=subprocess.PIPE,
        env=environment,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while seconds is None and count(lab, reviews) == 0 and process.poll() is None:
            time.sleep(0.01)
        time.sleep(seconds or 0.0)
        process.kill()


@pytest.mark.parametrize(
    "moments",
    [
        pytest.param((None,), id="one kill"),
        pytest.param(tuple(0.1 + 0.15 * k for k in range(20)), id="many", marks=pytest.mark.slow),
    ],
)
@ON_SQLITE
def test_a_kill_during_an_import_loses_and_doubles_nothing(
    lab: Lab, new_task: Make, person: Make, tmp_path: Path, moments: tuple[float | None, ...]
) -> None:
    new_task()
    actor, n = person("ines"), 3000
    rows = [
        {"id": k, "text": f"message number {k}", "label": "card", "reviewer": f"r{k % 7}"}
        for k in range(n)
    ]
    path = write_csv(tmp_path / "reviews.csv", rows)
    before = 0
    for seconds in moments:
        _kill_an_import(lab, path, actor, seconds)
        present = count(lab, reviews)
        assert before <= present <= n
        assert count(lab, labels, labels.c.is_current == 1) == present
        before = present
    assert before > 0
    with open_lab(lab.root) as opened:
        report = import_reviews(opened, "support", path, actor=actor, options=LIVE)
    assert report.written == n - before
    assert count(lab, reviews) == count(lab, labels) == count(lab, items) == n
    assert verify_lab(lab).faults == ()
