"""Erasure leaves no byte of a person in the lab, the log still verifies, and a kill is mended."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import MetaData, Table, func, select, text, update

from datasets_in_labs import fill_lab
from filled_lab import fill
from freehold.canonical.json import encode_text
from freehold.datasets.building import build_dataset
from freehold.datasets.rendering import render_dataset
from freehold.errors import InputError, LabBusy, NotFound
from freehold.evidence.entries import Entry
from freehold.evidence.founding import found_lab
from freehold.evidence.verification import verify_lab
from freehold.lab import Lab
from freehold.lab.migration import back_up
from freehold.lab.schema import (
    COMMITTED,
    ROOTED,
    erasures,
    item_subjects,
    items,
    ledger_entries,
    model_edges,
    payloads,
    runs,
    salts,
)
from freehold.lineage.emptying import Order, empty_items
from freehold.lineage.erasing import erase, finish_erasures
from freehold.lineage.reach import reach_of
from freehold.workflows.rows import IngestOptions
from freehold.workflows.run import RunOptions, run_task
from labelled_files import some_rows
from task_samples import SCRIPT, scripted_model

MARK = "zqxjkv"  # stands in no name of ours
SUBJECT = f"{MARK} subject 0"


def places_with(lab: Lab, marker: str) -> list[str]:
    """Every file of the lab, and every table, in which a marker stands anywhere."""
    found = [
        path.relative_to(lab.root).as_posix()
        for path in lab.root.rglob("*")
        if path.is_file() and marker.encode() in path.read_bytes()
    ]
    tables = MetaData()
    with lab.reading() as connection:
        tables.reflect(connection)
        for name, table in tables.tables.items():
            rows = connection.execute(select(table)).all()
            found += [f"table {name}" for row in rows if marker in repr(tuple(row))]
    return found


def leave_traces(lab: Lab) -> None:
    """Put the marker wherever work on the items would leave it."""
    with lab.writing() as connection:
        run = {"run_id": "sha256:ab12", "dataset_id": "dataset_rows owner"}
        row = dict(connection.execute(select(runs).limit(1)).mappings().one())
        entry = Entry(lab, connection, "run.planned", "system")
        entry.insert(runs, row | run | {"output_model": "sha256:trained"})
        entry.close()
    traces = (
        lab.layout.scratch / "runs" / "ab12" / "rows.jsonl",
        lab.layout.scratch / "runs" / "planning-0" / "rows.jsonl",
        lab.layout.scratch / "sorted-texts",
        lab.layout.documents / "case.html",
        lab.layout.payloads / "datasets" / ".desk.parquet.0.part",
    )
    for path in traces:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(MARK)
    (lab.layout.scratch / "runs" / "cd34").mkdir()
    (lab.layout.scratch / "runs" / "cd34" / "rows.jsonl").write_text("of another run")
    with lab.writing() as connection:
        other = {"run_id": "sha256:cd34", "dataset_id": "another"}
        entry = Entry(lab, connection, "run.planned", "system")
        entry.insert(runs, row | other)
        entry.close()
    if lab.database.is_sqlite:
        back_up(lab.database, lab.layout)


def test_no_byte_of_the_subject_is_left_and_the_ledger_verifies(lab: Lab, tmp_path: Path) -> None:
    filled = fill(lab, tmp_path / "ada.key", marker=MARK)
    leave_traces(lab)
    before = places_with(lab, MARK)
    assert {"table items", "table reviews", "documents/case.html"} < set(before)
    report = erase(lab, subject=SUBJECT, reason="request 17", actor=filled.actor)
    assert places_with(lab, MARK) == []
    verification = verify_lab(lab)
    verification.raise_for_faults()
    assert verification.checked["erased items"] == 2
    assert report.item_ids == ("itm_000", "itm_001")
    assert report.rows["reviews"] == report.rows["dataset_rows"] == report.rows["payloads"] == 2
    assert report.reach.datasets == ("dataset_rows owner",)
    assert report.reach.runs == ("sha256:ab12",)
    assert report.reach.models == ("sha256:trained",)
    assert {"documents/case.html", "scratch/runs/ab12", "scratch/sorted-texts"} < {*report.files}
    assert (lab.layout.scratch / "runs" / "cd34" / "rows.jsonl").exists()
    with lab.reading() as connection:
        row = connection.execute(select(items).where(items.c.item_id == "itm_000")).one()
        kept = connection.execute(select(erasures)).mappings().one()
        told = connection.execute(
            select(func.count()).select_from(item_subjects).where(
                item_subjects.c.item_id.in_(report.item_ids)
            )
        ).scalar_one()  # fmt: skip
    assert (row.external_id, row.attributes, row.entity_key) == ("erased:itm_000", "{}", None)
    assert told == 0
    assert kept["models"] == '["sha256:trained"]'


def test_only_the_subject_is_erased(sqlite_lab: Lab, tmp_path: Path) -> None:
    filled = fill(sqlite_lab, tmp_path / "ada.key", marker=MARK)
    kept: dict[str, list[Any]] = {}
    tables = [spec.table for spec in (*COMMITTED.values(), *ROOTED.values())]
    tables = [table for table in tables if "item_id" in table.columns]
    for when in ("before", "after"):
        with sqlite_lab.reading() as connection:
            kept[when] = [
                connection.execute(
                    select(table).where(table.c.item_id > "itm_001").order_by(*table.primary_key)
                ).all()
                for table in (*tables, salts, payloads)
            ]
        erase(sqlite_lab, subject=SUBJECT, reason="request 17", actor=filled.actor)
    assert kept["before"] == kept["after"]


def test_a_plan_changes_nothing_and_names_what_would_go(sqlite_lab: Lab, tmp_path: Path) -> None:
    filled = fill(sqlite_lab, tmp_path / "ada.key", marker=MARK)
    leave_traces(sqlite_lab)
    before = places_with(sqlite_lab, MARK)
    planned = erase(
        sqlite_lab, subject=SUBJECT, reason="request 17", actor=filled.actor, plan_only=True
    )
    assert planned.planned
    assert places_with(sqlite_lab, MARK) == before
    done = erase(sqlite_lab, subject=SUBJECT, reason="request 17", actor=filled.actor)
    assert (planned.item_ids, planned.rows) == (done.item_ids, done.rows)
    assert {*planned.files} == {*done.files}


def test_erasing_again_changes_nothing(sqlite_lab: Lab, tmp_path: Path) -> None:
    filled = fill(sqlite_lab, tmp_path / "ada.key", marker=MARK)
    erase(sqlite_lab, subject=SUBJECT, reason="request 17", actor=filled.actor)
    with sqlite_lab.reading() as connection:
        entries = connection.execute(select(func.count()).select_from(ledger_entries)).scalar_one()
    for again in (
        erase(sqlite_lab, subject=SUBJECT, reason="request 17", actor=filled.actor),
        erase(sqlite_lab, item_ids=["itm_001", "itm_000"], reason="r", actor=filled.actor),
    ):
        assert (again.item_ids, again.already) == ((), ("itm_000", "itm_001"))
    with sqlite_lab.reading() as connection:
        after = connection.execute(select(func.count()).select_from(ledger_entries)).scalar_one()
    assert after == entries


def test_an_erasure_killed_between_its_halves_is_finished_later(lab: Lab, tmp_path: Path) -> None:
    filled = fill(lab, tmp_path / "ada.key", marker=MARK)
    leave_traces(lab)
    order = Order("request 17", filled.actor)
    with lab.reading() as connection:
        reach = reach_of(connection, ["itm_000", "itm_001"])
    empty_items(lab, ["itm_000", "itm_001"], order, reach)
    assert places_with(lab, MARK) != []
    finish_erasures(lab)
    assert places_with(lab, MARK) == []
    verify_lab(lab).raise_for_faults()
    assert finish_erasures(lab) == ()


def test_a_run_that_trains_on_the_items_stops_the_erasure(sqlite_lab: Lab, tmp_path: Path) -> None:
    filled = fill(sqlite_lab, tmp_path / "ada.key", marker=MARK)
    leave_traces(sqlite_lab)
    with (sqlite_lab.layout.scratch / "runs" / "ab12.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LabBusy, match="run sha256:ab12 is training on these items"):
            erase(sqlite_lab, subject=SUBJECT, reason="request 17", actor=filled.actor)
    assert "table items" in places_with(sqlite_lab, MARK)
    assert verify_lab(sqlite_lab).checked["erased items"] == 0


@pytest.mark.slow
def test_a_reader_that_keeps_old_pages_is_named_and_waited_for(
    sqlite_lab: Lab, tmp_path: Path
) -> None:
    filled = fill(sqlite_lab, tmp_path / "ada.key", marker=MARK)
    order = {"subject": SUBJECT, "reason": "request 17", "actor": filled.actor}
    with sqlite_lab.database.engine.connect() as reader:
        reader.execute(select(items.c.item_id).limit(1)).all()
        with pytest.raises(LabBusy, match=r"reading an old state"):
            erase(sqlite_lab, **order)  # type: ignore[arg-type]
    assert erase(sqlite_lab, **order).already == ("itm_000", "itm_001")  # type: ignore[arg-type]
    assert places_with(sqlite_lab, MARK) == []


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        ({"subject": "nobody"}, NotFound, "no item in this lab concerns this subject"),
        ({"item_ids": ["itm_000", "itm_x"]}, NotFound, "no item itm_x"),
        ({}, InputError, "name a subject, or items"),
        ({"subject": SUBJECT, "item_ids": ["itm_000"]}, InputError, "one of the two"),
        ({"subject": SUBJECT, "reason": " "}, InputError, "needs a reason"),
    ],
)
def test_what_cannot_be_erased_is_said(
    sqlite_lab: Lab, tmp_path: Path, wanted: dict[str, Any], error: type[Exception], message: str
) -> None:
    filled = fill(sqlite_lab, tmp_path / "ada.key", marker=MARK)
    with pytest.raises(error, match=message):
        erase(sqlite_lab, **({"reason": "r", "actor": filled.actor} | wanted))
    assert verify_lab(sqlite_lab).checked["erased items"] == 0


def damaged(lab: Lab, table: Table, item_id: str, values: dict[str, Any]) -> str:
    with lab.writing() as connection:
        connection.execute(update(table).where(table.c.item_id == item_id).values(**values))
    return "; ".join(map(str, verify_lab(lab).faults))


def test_what_is_left_of_an_erased_item_is_still_bound(sqlite_lab: Lab, tmp_path: Path) -> None:
    filled = fill(sqlite_lab, tmp_path / "ada.key", marker=MARK)
    erase(sqlite_lab, subject=SUBJECT, reason="request 17", actor=filled.actor)
    decisions, rows = COMMITTED["decisions"].table, ROOTED["dataset_rows"].table
    for table, item_id, values, message in (
        (decisions, "itm_000", {"model_digest": "sha256:other"}, "decisions/decisions decision_id"),
        (rows, "itm_000", {"row_id": "other"}, "dataset_rows/dataset_rows owner/0: its columns"),
        (decisions, "itm_001", {"value": "back"}, "the item was erased, and value is still there"),
        (payloads, "itm_001", {"bytes": b"0"}, "and the payload is not"),
        (salts, "itm_001", {"salt": b"0" * 32}, "salts/itm_001: the item was erased, and its sa"),
        (items, "itm_001", {"erased_at": None}, "erased_at is None against the ledger"),
    ):
        assert message in damaged(sqlite_lab, table, item_id, values), values


def test_models_made_from_models_that_learnt_are_reached(sqlite_lab: Lab, tmp_path: Path) -> None:
    filled = fill(sqlite_lab, tmp_path / "ada.key")
    leave_traces(sqlite_lab)
    chain = [
        ("trained", "dataset_rows owner", "trained_on"),
        ("merged", "trained", "merged_from"),
        ("small", "merged", "quantized_from"),
        ("aside", "merged", "evaluated_by"),
    ]
    with sqlite_lab.writing() as connection:
        entry = Entry(sqlite_lab, connection, "model.sealed", filled.actor)
        for place, (child, parent, relation) in enumerate(chain):
            edge = {"edge_id": f"edg_{place}", "child": child, "parent": parent}
            said = {"relation": relation, "basis": "recorded", "created_at": entry.at}
            entry.insert(model_edges, edge | said)
        row = {"export_id": "exp_1", "kind": "dataset", "recipient": "audit"}
        row |= {"item_ids": encode_text(["itm_003"]), "created_at": entry.at, "created_by": "x"}
        entry.insert(COMMITTED["exports"].table, row)
        entry.close()
    with sqlite_lab.reading() as connection:
        reach = reach_of(connection, ["itm_003"])
    assert reach.models == ("merged", "sha256:trained", "small", "trained")
    assert reach.exports == ("exp_1", "exports export_id 3")


def test_what_the_rooms_wrote_about_a_person_is_gone(sqlite_lab: Lab, tmp_path: Path) -> None:
    """The same through the front doors: a file taken in, reviewed, frozen, rendered, decided."""
    person = f"Mr {MARK}"
    rows = [
        one | {"subject": person, "entity": f"{MARK} Ltd", "note": f"{MARK} said so"}
        if place < 2
        else one
        for place, one in enumerate(some_rows(12))
    ]
    rows[0] |= {"id": f"{MARK}-1", "text": f"a letter by {MARK} about my card " * 3}
    rows[1] |= {"id": f"{MARK}-2", "text": f"long {MARK} {'x' * 70_000} about a loan"}
    actor = fill_lab(sqlite_lab, tmp_path / "desk.csv", rows)
    dataset = build_dataset(sqlite_lab, "support", name="desk", actor=actor)
    rendered = render_dataset(sqlite_lab, "desk")
    scripted_model(sqlite_lab, script=SCRIPT.replace("card_lost", "card"))
    run_task(
        sqlite_lab, "support", tmp_path / "desk.csv", actor=actor,
        options=RunOptions(model="fake", rows=IngestOptions(source="desk")),
    )  # fmt: skip
    assert len(places_with(sqlite_lab, MARK)) > 3
    assert MARK in repr(pq.read_table(rendered.parquet).to_pylist())
    report = erase(sqlite_lab, subject=person, reason="request 17", actor=actor)
    assert len(report.item_ids) == 2
    assert report.reach.datasets == (dataset.dataset_id,)
    assert report.rows["decisions"] == report.rows["labels"] == 2
    assert rendered.parquet.relative_to(sqlite_lab.root).as_posix() in report.files
    assert places_with(sqlite_lab, MARK) == []
    assert MARK not in repr(pq.read_table(rendered.parquet).to_pylist())
    verify_lab(sqlite_lab).raise_for_faults()


@pytest.mark.postgres
def test_no_byte_is_left_in_the_files_of_the_server(postgres_url: str, tmp_path: Path) -> None:
    with found_lab(tmp_path / "lab", database=postgres_url) as lab:
        filled = fill(lab, tmp_path / "ada.key", marker=MARK)
        with lab.database.engine.connect() as plain:
            connection = plain.execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(text("ANALYZE"))
            connection.execute(text("CHECKPOINT"))
            base = connection.execute(text("SHOW data_directory")).scalar_one()
            number = connection.execute(
                text("SELECT oid FROM pg_database WHERE datname = current_database()")
            ).scalar_one()
        folder = Path(base) / "base" / str(number)
        if not os.access(folder, os.R_OK):
            pytest.skip("the server's files are not readable from here")
        assert any(MARK.encode() in path.read_bytes() for path in folder.iterdir())
        erase(lab, subject=SUBJECT, reason="request 17", actor=filled.actor)
        with lab.database.engine.connect() as plain:
            connection = plain.execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(text("CHECKPOINT"))
        left = [path.name for path in folder.iterdir() if MARK.encode() in path.read_bytes()]
        assert left == []
