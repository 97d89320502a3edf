"""Rows become items once each; every fault is named by line and field, and the rest goes in."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select

from freehold.errors import InputError, RowError, SettingsError
from freehold.evidence.entries import SYSTEM
from freehold.lab import Lab
from freehold.lab.schema import item_subjects, items, payloads, split_assignments
from freehold.records.spaces import Choice
from freehold.tabular import open_table
from freehold.tasks.contract import write_task
from freehold.tasks.splits import SplitRule
from freehold.workflows.ingest import IngestReport, ingest
from freehold.workflows.items import find_item, item_text, item_texts, split_of
from freehold.workflows.rows import IngestOptions
from task_samples import OPTIONS, support_task, write_csv


def take(lab: Lab, path: Path, **options: object) -> IngestReport:
    task = support_task(lab)
    return ingest(lab, task, open_table(path), actor=SYSTEM, options=IngestOptions(**options))


def count(lab: Lab, table: object) -> int:
    with lab.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def test_the_same_file_again_adds_nothing(lab: Lab, tmp_path: Path) -> None:
    """With ids of its own and without, over more than one batch."""
    for ids in (True, False):
        path = write_csv(tmp_path / f"in-{ids}.csv", [f"text {n}" for n in range(450)], ids=ids)
        first, second = take(lab, path), take(lab, path)
        assert (first.added, second.added) == (450, 0)
        assert first.item_ids == second.item_ids
        with lab.reading() as connection:
            texts = item_texts(lab, connection, first.item_ids)
            assert [texts[one] for one in first.item_ids] == [f"text {n}" for n in range(450)]
            assert set(split_of(connection, "support", first.item_ids)) == set(first.item_ids)
    assert count(lab, items) == count(lab, payloads) == count(lab, split_assignments) == 900


def test_what_a_row_says_stands_in_its_item(sqlite_lab: Lab, tmp_path: Path) -> None:
    """Label columns are left out, names are kept as keyed hashes only, other columns as slices."""
    path = tmp_path / "in.jsonl"
    row = {
        "id": 7, "message": "Where is it?", "category": "refund", "customer": "Ada",
        "split": "test", "date": "2026-03-01T10:00:00+01:00", "sensitivity": "Public",
        "license": "CC-BY-4.0", "product": "loan", "price": 1.5, "vip": True, "empty": None,
    }  # fmt: skip
    path.write_text(json.dumps(row) + "\n")
    report = take(sqlite_lab, path)
    with sqlite_lab.reading() as connection:
        item = connection.execute(select(items)).mappings().one()
        split = connection.execute(select(split_assignments)).mappings().one()
        subject = connection.execute(select(item_subjects.c.subject_key)).scalar_one()
        assert find_item(connection, "in.jsonl", "7") == report.item_ids[0]
        assert item_text(sqlite_lab, connection, report.item_ids[0]) == "Where is it?"
    assert json.loads(item["attributes"]) == {"product": "loan", "price": "1.5", "vip": True}
    assert item["event_time"] == "2026-03-01T09:00:00.000000Z"
    assert (item["sensitivity"], item["licence"]) == ("public", "CC-BY-4.0")
    assert item["entity_key"] == sqlite_lab.index_key("Ada", "entity")
    assert subject == sqlite_lab.index_key("Ada", "subject")
    assert (split["split"], split["rule"]) == ("test", "given")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "the file is empty"),
        (b"id,text\n", "no rows after the header"),
        (b"id;text\n1;a\n2;b\n", None),
        (b"a,b\n1,2\n3,4\n", "cannot tell which column holds the text; its columns are: 'a', 'b'"),
        (b"text,text\nx,y\n", "both named 'text'"),
    ],
)
def test_files_as_a_whole(sqlite_lab: Lab, tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(content)
    if match is None:
        assert take(sqlite_lab, path).added == 2
        return
    with pytest.raises(InputError, match=match):
        take(sqlite_lab, path)
    assert count(sqlite_lab, items) == 0


BAD_ROWS = [
    (b"id,text\n1,good\n2,br\xffken\n3,good too\n", 3, "text", "not utf-8"),
    (b"id,text\n1,good\n2,  \n3,good too\n", 3, "text", "is empty"),
    (b"id,text\n1,good\n,orphan\n3,good too\n", 3, "id", "is empty"),
    (b"id,text\n1,good\n1,again\n3,good too\n", 3, "id", "'1' stands already on line 2"),
    (b"id,text\n1,good\n2,a,b,c\n3,good too\n", 3, None, "4"),
    (b"id,text,split\n1,good,\n2,x,later\n3,good too,dev\n", 3, "split", "unknown split 'later'"),
    (b"id,text,sensitivity\n1,good,\n2,x,hush\n3,good too,\n", 3, "sensitivity", "unknown"),
]


@pytest.mark.parametrize(("content", "line", "field", "reason"), BAD_ROWS)
def test_a_bad_row_is_named_and_the_others_go_in(
    sqlite_lab: Lab, tmp_path: Path, content: bytes, line: int, field: str | None, reason: str
) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(content)
    report = take(sqlite_lab, path)
    (bad,) = report.bad_rows
    assert (bad.line, bad.field) == (line, field)
    assert reason in bad.reason
    assert report.added == count(sqlite_lab, items) == 2


@pytest.mark.parametrize(("content", "line", "field", "reason"), BAD_ROWS)
def test_strict_writes_nothing(
    sqlite_lab: Lab, tmp_path: Path, content: bytes, line: int, field: str | None, reason: str
) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(content)
    with pytest.raises(RowError, match=f"in.csv, line {line}"):
        take(sqlite_lab, path, strict=True)
    assert count(sqlite_lab, items) == 0


def test_another_text_under_a_known_id_is_a_bad_row(lab: Lab, tmp_path: Path) -> None:
    """Items are never edited; another source makes it another item."""
    take(lab, write_csv(tmp_path / "in.csv", ["one", "two"]))
    changed = write_csv(tmp_path / "in.csv", ["one", "zwei", "three"])
    report = take(lab, changed)
    assert [bad.line for bad in report.bad_rows] == [3]
    assert "taken in before with another text" in report.bad_rows[0].reason
    assert report.added == 1
    with pytest.raises(RowError, match="line 3"):
        take(lab, changed, strict=True)
    assert take(lab, changed, source="corrected").added == 3


def test_a_split_that_changes_is_a_bad_row(sqlite_lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("id,text,split\n1,a,test\n2,b,train\n")
    take(sqlite_lab, path)
    path.write_text("id,text,split\n1,a,train\n2,b,train\n")
    (bad,) = take(sqlite_lab, path).bad_rows
    assert "is in test and would now be in train" in bad.reason


def test_a_megabyte_of_text_is_kept_whole(lab: Lab, tmp_path: Path) -> None:
    text = "x€ " * 250_000 + "end"
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"text": text}) + "\n" + json.dumps({"text": "short"}) + "\n")
    report = take(lab, path)
    with lab.reading() as connection:
        assert item_text(lab, connection, report.item_ids[0]) == text


def test_one_entity_one_split(sqlite_lab: Lab, tmp_path: Path) -> None:
    """By the task's own group column as well; a row without it is a bad row."""
    path = tmp_path / "in.csv"
    path.write_text("text,case\n" + "".join(f"t {n},c{n % 7}\n" for n in range(70)) + "lost,\n")
    task = write_task(sqlite_lab, "cases", Choice(OPTIONS), split=SplitRule("group", "case"))
    report = ingest(sqlite_lab, task, open_table(path), actor=SYSTEM)
    with sqlite_lab.reading() as connection:
        splits = split_of(connection, "cases", report.item_ids)
    groups = [{splits[item] for item in report.item_ids[n::7]} for n in range(7)]
    assert [len(one) for one in groups] == [1] * 7
    assert [bad.line for bad in report.bad_rows] == [72]
    path.write_text("text\na\n")
    with pytest.raises(InputError, match="no column 'case', by which task 'cases' is split"):
        ingest(sqlite_lab, task, open_table(path), actor=SYSTEM)


@pytest.mark.parametrize("options", [{"columns": {"txt": "a"}}, {"sensitivity": "hush"}])
def test_unknown_options_are_refused(options: dict) -> None:
    with pytest.raises(SettingsError, match="unknown"):
        IngestOptions(**options)


@pytest.mark.slow
def test_two_hundred_thousand_rows(sqlite_lab: Lab, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "in.csv", (f"question {n} about a card" for n in range(200_000)))
    start = time.monotonic()
    report = take(sqlite_lab, path)
    seconds = time.monotonic() - start
    print(f"200,000 rows in {seconds:.1f} s: {200_000 / seconds:,.0f} rows/s")
    assert report.added == count(sqlite_lab, items) == 200_000
