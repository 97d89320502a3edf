"""`verify_lab`: an honest lab has no fault, and whatever is altered in one is named."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, LargeBinary, Table, delete, insert, select, update

from filled_lab import ROWS, Filled, fill
from freehold.access.people import find_person
from freehold.errors import IntegrityError
from freehold.evidence.entries import Entry, row_key
from freehold.evidence.founding import found_lab
from freehold.evidence.sequencer import publish
from freehold.evidence.statements import read_person_key, sign_statement
from freehold.evidence.verification import Verification, verify_lab
from freehold.lab import Lab, open_lab
from freehold.lab.schema import (
    COMMITTED,
    ROOTED,
    decisions,
    items,
    jobs,
    ledger_checkpoints,
    ledger_entries,
    ledger_pending,
    licence_records,
    licence_signoffs,
    payloads,
    salts,
)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filled lab on SQLite, made once; each test damages a copy of its own."""
    folder = tmp_path_factory.mktemp("filled")
    with found_lab(folder / "lab") as lab:
        fill(lab, folder / "ada.key")
        lab.database.truncate_log()
    return folder / "lab"


@pytest.fixture
def copy(template: Path, tmp_path: Path) -> Iterator[Lab]:
    """A copy of a filled lab on SQLite."""
    shutil.copytree(template, tmp_path / "copy")
    with open_lab(tmp_path / "copy") as opened:
        yield opened


@pytest.fixture
def filled(lab: Lab, tmp_path: Path) -> Filled:
    return fill(lab, tmp_path / "ada.key")


def places(verification: Verification) -> set[str]:
    return {fault.where for fault in verification.faults}


def altered(column: Column[Any], value: Any) -> Any:
    if isinstance(column.type, LargeBinary):
        return bytes([value[0] ^ 1]) + value[1:]
    if isinstance(column.type, BigInteger):
        return 1_000_000 + (value or 0)
    return f"{value or ''}x"


def change(lab: Lab, table: Table, key: dict[str, Any], values: dict[str, Any]) -> None:
    condition = [table.c[name] == value for name, value in key.items()]
    with lab.writing() as connection:
        assert connection.execute(update(table).where(*condition).values(**values)).rowcount == 1


def alter_a_column_of_each_row(lab: Lab, table: Table) -> dict[str, str]:
    """Alter another column in each row of a table; return where each must be found."""
    key = [column.name for column in table.primary_key]
    with lab.reading() as connection:
        rows = [dict(row) for row in connection.execute(select(table)).mappings()]
    rows.sort(key=lambda row: str(row["item_id"] if "item_id" in row else row_key(key, row)))
    expected: dict[str, str] = {}
    for column, row in zip(table.columns, rows, strict=False):
        new = altered(column, row[column.name])
        change(lab, table, {name: row[name] for name in key}, {column.name: new})
        place = row_key(key, row | {column.name: new})
        expected[column.name] = f"{table.name}/{place}"
    assert len(expected) == len(table.columns), "the sample has fewer rows than the table columns"
    return expected


def test_an_honest_lab_has_no_fault_and_says_what_was_checked(lab: Lab, filled: Filled) -> None:
    seen: list[tuple[int, int]] = []
    verification = verify_lab(lab, on_progress=lambda done, total: seen.append((done, total)))
    verification.raise_for_faults()
    tables = len(COMMITTED) - 2 + len(ROOTED)  # principals and erasures are filled otherwise
    assert verification.checked["rows"] == tables * ROWS + 1
    assert verification.checked["payloads"] == ROWS
    assert verification.checked["objects"] == 2 * ROWS + 1
    assert verification.checked["signatures"] == ROWS
    assert verification.checked["ledger files"] == 2
    assert verification.notes == ()
    assert seen[-1][0] == seen[-1][1] > verification.checked["rows"]


def test_every_column_of_every_committed_row_is_bound(lab: Lab, filled: Filled) -> None:
    tables = [spec.table for spec in COMMITTED.values()] + [one.table for one in ROOTED.values()]
    expected: dict[str, str] = {}
    for table in tables:
        if table.name not in ("principals", "erasures"):
            found = alter_a_column_of_each_row(lab, table)
            expected |= {f"{table.name}.{name}": where for name, where in found.items()}
    named = places(verify_lab(lab))
    missed = {name: where for name, where in expected.items() if where not in named}
    assert missed == {}


@pytest.mark.parametrize(
    ("table", "key", "values", "where", "what"),
    [
        (payloads, "payload_id", {"media_type": "image/png"}, "payloads/{}", "type or commitment"),
        (payloads, "payload_id", {"commitment": "hmac-sha256:0"}, "payloads/{}", "commitment"),
        (payloads, "payload_id", {"size": 3}, "payloads/{}", "not what its item committed to"),
        (payloads, "payload_id", {"bytes": b"other"}, "payloads/{}", "not what its item"),
        (payloads, "payload_id", {"erased_at": "2026"}, "payloads/{}", "its item is not"),
        (payloads, "payload_id", {"item_id": "itm_007"}, "payloads/{}", "has no such part|missing"),
        (payloads, "payload_id", {"item_id": "nobody"}, "payloads/{}", "no item"),
        (payloads, "payload_id", {"payload_id": "pay_0"}, "payloads/pay_0", "has no such part"),
        (salts, "item_id", {"salt": b"0" * 32}, "items/{}", "not what entry ent_"),
        (salts, "item_id", {"salt": None}, "salts/{}", "no erasure names the item"),
        (salts, "item_id", {"destroyed_at": "2026"}, "salts/{}", "destroyed_at"),
        (salts, "item_id", {"item_id": "nobody"}, "salts/nobody", "no such item"),
        (items, "item_id", {"erased_at": "2026"}, "items/{}", "against the ledger"),
        (decisions, "decision_id", {"number": 99}, "decisions/number 1", "1 are missing"),
        (ledger_entries, "idx", {"entry_id": "ent_0"}, "ledger_entries/{}", "its row says ent_0"),
        (ledger_entries, "idx", {"bytes": b"{}"}, "ledger_entries/{}", "not those that were sig"),
        (ledger_entries, "idx", {"idx": 4711}, "ledger_entries/1", "entries from 0 on are missing"),
        (ledger_checkpoints, "size", {"note": "none"}, "ledger_checkpoints/{}", "signed by the"),
        (ledger_checkpoints, "size", {"root": "sha256:0"}, "ledger_checkpoints/{}", "column root"),
        (ledger_checkpoints, "size", {"frontier": "[]"}, "ledger_checkpoints/{}", "frontier"),
        (ledger_checkpoints, "size", {"signed_at": "now"}, "ledger_checkpoints/{}", "is no time"),
        (ledger_checkpoints, "size", {"size": 4711}, "ledger_checkpoints/4711", "there are only"),
    ],
)
def test_what_binds_the_rows_cannot_be_altered_either(
    copy: Lab, table: Table, key: str, values: dict[str, Any], where: str,
    what: str,
) -> None:  # fmt: skip
    with copy.reading() as connection:
        first = connection.execute(select(table.c[key]).order_by(table.c[key])).scalars().first()
    change(copy, table, {key: first}, values)
    faults = verify_lab(copy).faults
    there = [fault.what for fault in faults if fault.where == where.format(first)]
    assert re.search(what, "; ".join(there)), faults[:20]


def remove_a_row(lab: Lab) -> None:
    with lab.writing() as connection:
        connection.execute(delete(jobs))
        table = COMMITTED["reviews"].table
        connection.execute(delete(table).where(table.c.item_id == "itm_004"))


def add_a_row(lab: Lab) -> None:
    table = COMMITTED["reviews"].table
    with lab.writing() as connection:
        row = dict(connection.execute(select(table).limit(1)).mappings().one())
        connection.execute(insert(table), row | {"review_id": "rev_forged"})


def swap_two_rows(lab: Lab) -> None:
    table = COMMITTED["reviews"].table
    for old, new in (("reviews review_id 1", "x"), ("reviews review_id 2", "reviews review_id 1")):
        change(lab, table, {"review_id": old}, {"review_id": new})
    change(lab, table, {"review_id": "x"}, {"review_id": "reviews review_id 2"})


def put_an_older_state_back(lab: Lab) -> None:
    table, key = COMMITTED["labels"].table, {"label_id": "labels label_id 3"}
    with lab.writing() as connection:
        old = dict(
            connection.execute(select(table).where(table.c.label_id == key["label_id"]))
            .mappings()
            .one()
        )
        entry = Entry(lab, connection, "label.replaced", "system")
        entry.update(table, key, {"is_current": 0})
        entry.close()
    change(lab, table, key, old)


def remove_small_rows(lab: Lab) -> None:
    table = ROOTED["dataset_rows"].table
    with lab.writing() as connection:
        connection.execute(delete(table).where(table.c.position == 5))


def move_a_small_row(lab: Lab) -> None:
    change(lab, ROOTED["suite_cases"].table, {"position": 5}, {"position": 500})


def recommit_a_small_row(lab: Lab) -> None:
    table = ROOTED["suite_cases"].table
    change(lab, table, {"position": 5}, {"commitment": "hmac-sha256:" + "0" * 64})


def add_a_small_row(lab: Lab) -> None:
    table = ROOTED["dataset_rows"].table
    with lab.writing() as connection:
        row = dict(connection.execute(select(table).limit(1)).mappings().one())
        connection.execute(insert(table), row | {"position": 900})


def lose_a_decision(lab: Lab) -> None:
    with lab.writing() as connection:
        connection.execute(delete(decisions).where(decisions.c.number.in_([7, 8])))


def alter_a_pending_entry(lab: Lab) -> None:
    with lab.writing() as connection:
        Entry(lab, connection, "sample.noted", "system", {"text": "one"}).close()
        connection.execute(
            update(ledger_pending).values(bytes=b'{"body":{}}', entry_id="ent_pending")
        )


def alter_an_object(lab: Lab) -> None:
    path = lab.objects.path(object_name(b"object 3"))
    path.chmod(0o644)
    path.write_bytes(b"objecT 3")


def object_name(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def lose_a_model_file(lab: Lab) -> None:
    lab.objects.path(object_name(b"weights 2")).unlink()


def payload_file(lab: Lab) -> Path:
    return min(path for path in lab.layout.payloads.rglob("pay_*"))


def alter_a_payload_file(lab: Lab) -> None:
    path = payload_file(lab)
    path.write_bytes(path.read_bytes().replace(b"text", b"tExt"))


def lose_a_payload_file(lab: Lab) -> None:
    payload_file(lab).unlink()


def forge_a_signature(lab: Lab) -> None:
    table = COMMITTED["approvals"].table
    with lab.writing() as connection:
        entry = Entry(lab, connection, "verdict.approved", "system")
        key = {"approval_id": "approvals approval_id 0"}
        entry.update(table, key, {"statement": '{"decision":"approve"}'})
        entry.close()


def approve_with_a_key_of_ones_own(lab: Lab) -> None:
    table = COMMITTED["approvals"].table
    with lab.writing() as connection:
        entry = Entry(lab, connection, "verdict.approved", "system")
        entry.update(table, {"approval_id": "approvals approval_id 0"}, {"principal_id": "prs_0"})
        entry.close()


def refuse_what_was_released(lab: Lab) -> None:
    table = COMMITTED["approvals"].table
    with lab.writing() as connection:
        entry = Entry(lab, connection, "verdict.approved", "system")
        entry.update(table, {"approval_id": "approvals approval_id 0"}, {"decision": "refuse"})
        entry.close()


def cut_the_log(lab: Lab) -> None:
    with lab.writing() as connection:
        newest = select(ledger_checkpoints.c.size).order_by(ledger_checkpoints.c.size.desc())
        size = connection.execute(newest.limit(1)).scalar_one()
        connection.execute(delete(ledger_checkpoints).where(ledger_checkpoints.c.size == size))
        connection.execute(delete(ledger_entries).where(ledger_entries.c.idx >= size - 1))


def take_another_key(lab: Lab) -> None:
    other = lab.layout.keys / "log.vkey"
    letters = other.read_text()
    other.write_text(letters[:-5] + ("A" if letters[-5] != "A" else "B") + letters[-4:])


@pytest.mark.parametrize(
    ("damage", "where", "what"),
    [
        (remove_a_row, "reviews/reviews review_id 4", "it is gone"),
        (add_a_row, "reviews/rev_forged", "no entry"),
        (swap_two_rows, "reviews/reviews review_id 1", "not what entry"),
        (put_an_older_state_back, "labels/labels label_id 3", "not what entry"),
        (remove_small_rows, "datasets/dataset_rows owner", "39 rows of dataset_rows"),
        (move_a_small_row, "suites/suite_cases owner", "do not lead to the root"),
        (recommit_a_small_row, "suite_cases/suite_cases owner/5", "its commitment says"),
        (add_a_small_row, "datasets/dataset_rows owner", "41 rows"),
        (lose_a_decision, "decisions/number 7", "the decisions 7 to 8 are missing"),
        (alter_a_pending_entry, "ledger_pending/ent_pending", "not of format"),
        (alter_an_object, f"objects/{object_name(b'object 3')}", "differ from its name"),
        (lose_a_model_file, f"objects/{object_name(b'weights 2')}", "missing"),
        (alter_a_payload_file, "payloads/pay_", "not what its item committed to"),
        (lose_a_payload_file, "payloads/pay_", "its file is missing"),
        (forge_a_signature, "approvals/approvals approval_id 0", "does not hold"),
        (approve_with_a_key_of_ones_own, "approvals/approvals approval_id 0", "no entry gives"),
        (refuse_what_was_released, "releases/releases release_id 0", "does not approve it"),
        (cut_the_log, "ledger/checkpoint", "the database has only"),
        (take_another_key, "keys/log.vkey", "cannot be used"),
    ],
)
def test_what_is_lost_added_or_forged_is_named(
    copy: Lab, damage: Callable[[Lab], None], where: str, what: str
) -> None:
    damage(copy)
    with pytest.raises(IntegrityError, match=what) as raised:
        verify_lab(copy).raise_for_faults()
    assert any(place.startswith(where) for place in raised.value.where["places"])


def test_a_flipped_byte_of_any_published_file_is_named(copy: Lab) -> None:
    ledger = copy.layout.ledger
    for path in (one for one in ledger.rglob("*") if one.is_file() and one.name != ".lock"):
        whole = path.read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // 7)):
            flipped = bytes([whole[place] ^ 0x20])
            path.write_bytes(whole[:place] + flipped + whole[place + 1 :])
            named = places(verify_lab(copy))
            assert f"ledger/{path.relative_to(ledger).as_posix()}" in named, (path, place)
        path.write_bytes(whole)
    assert verify_lab(copy).ok


def test_a_flipped_byte_of_any_entry_is_named_by_its_index(copy: Lab) -> None:
    with copy.reading() as connection:
        stored = connection.execute(select(ledger_entries.c.idx, ledger_entries.c.bytes)).all()
    for idx, data in stored[::3]:
        place = (idx * 101) % len(data)
        flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        change(copy, ledger_entries, {"idx": idx}, {"bytes": flipped})
    named = places(verify_lab(copy))
    entries = {where for where in named if where.startswith("ledger_entries/")}
    assert entries == {f"ledger_entries/{idx}" for idx, _ in stored[::3]}


def test_pending_entries_bind_their_rows_and_are_no_fault(lab: Lab, filled: Filled) -> None:
    with lab.writing() as connection:
        entry = Entry(lab, connection, "label.replaced", filled.actor)
        entry.update(COMMITTED["labels"].table, {"label_id": "labels label_id 3"}, {"gold": 5})
        entry.close()
    verification = verify_lab(lab)
    assert verification.ok
    assert verification.notes == ("1 entries wait for their place in the log",)
    publish(lab)
    assert verify_lab(lab).notes == ()


def test_rows_of_a_running_evaluation_wait_for_their_root(copy: Lab) -> None:
    table = ROOTED["evaluation_results"].table
    key = {"evaluation_id": "evaluations evaluation_id 0"}
    change(copy, table, {"position": ROWS - 1}, key)  # another owner, which has no root yet
    where = "evaluations/evaluations evaluation_id 0"
    assert where in places(verify_lab(copy))
    with copy.writing() as connection:
        entry = Entry(copy, connection, "evaluation.started", "system")
        entry.update(COMMITTED["evaluations"].table, key, {"state": "running"})
        entry.close()
    assert where not in places(verify_lab(copy))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({}, None),
        ({"reason": "other words"}, "does not hold"),
        ({"signature": "— x AAAA\n"}, "does not hold"),
        ({"principal_id": "prs_0"}, "none is trusted"),
    ],
)
def test_a_signed_licence_sign_off_is_checked(
    copy: Lab, template: Path, changes: dict[str, Any], what: str | None
) -> None:
    with copy.writing() as connection:
        person = find_person(connection, "Ada Example")
        entry = Entry(copy, connection, "licence.signed_off", person.principal_id)
        record = dict.fromkeys(one.name for one in licence_records.columns) | {
            "licence_id": "lic_1", "model_digest": "sha256:0", "reasons": '["unclear"]',
        }  # fmt: skip
        texts = ("statements", "terms", "facts", "verdict", "duties", "created_at", "created_by")
        entry.insert(licence_records, record | dict.fromkeys(texts, "{}"))
        said = {"licence_id": "lic_1", "reason": "read it"}
        statement = {"model_digest": "sha256:0", "reasons": ["unclear"], "at": entry.at} | said
        signer = read_person_key(template.parent / "ada.key", person)
        row = {"signoff_id": "lso_1", "principal_id": person.principal_id, "created_at": entry.at}
        row |= said | {"signature": sign_statement(statement, signer)}
        entry.insert(licence_signoffs, row | changes)
        entry.close()
    faults = [str(fault) for fault in verify_lab(copy).faults]
    assert len(faults) == (what is not None)
    assert what is None or (what in faults[0] and faults[0].startswith("licence_signoffs/lso_1"))


@pytest.mark.slow
def test_a_hundred_thousand_rows_take_seconds(copy: Lab) -> None:
    with copy.reading() as connection:
        one = dict(connection.execute(select(decisions).limit(1)).mappings().one())
    for start in range(ROWS, 100_000, 200):
        rows = [
            one | {"number": number + 1, "decision_id": f"dec_{number}"}
            for number in range(start, start + 200)
        ]
        with copy.writing() as connection:
            entry = Entry(copy, connection, "decisions.admitted", "system")
            entry.insert_many(decisions, rows)
            entry.close()
    publish(copy)
    began = time.perf_counter()
    verification = verify_lab(copy)
    took = time.perf_counter() - began
    print(f"\n{verification.checked['rows']} rows verified in {took:.1f} s")
    assert places(verification) == {"sequences/decisions"}
    assert took < 20


def test_files_that_a_publisher_is_writing_meanwhile_are_no_fault(lab: Lab, tmp_path: Path) -> None:
    """The head that they belong to was signed after verification began to read."""
    with lab.writing() as connection:
        for _ in range(1000):
            Entry(lab, connection, "sample.noted", "system").close()
    publish(lab)
    before = tmp_path / "ledger"
    shutil.copytree(lab.layout.ledger, before)
    written: list[int] = []

    def publish_without_showing(done: int, total: int) -> None:
        if not written:
            with lab.writing() as connection:
                Entry(lab, connection, "sample.noted", "system").close()
            written.append(publish(lab))
            shutil.copytree(before, lab.layout.ledger, dirs_exist_ok=True)

    found = verify_lab(lab, on_progress=publish_without_showing)
    assert written == [1002]
    assert found.faults == ()
