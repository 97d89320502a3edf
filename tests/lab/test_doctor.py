"""The doctor names what is not in order, says what to do, and repairs only what is harmless."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import insert, text, update

from filled_lab import fill
from freehold.errors import NotFound
from freehold.evidence.entries import Entry
from freehold.evidence.founding import found_lab
from freehold.evidence.verification import verify_lab
from freehold.lab import Lab
from freehold.lab.doctor import examine, fix
from freehold.lab.leases import take
from freehold.lab.schema import ERASURES_UNFINISHED, lab_info, workflow_runs

NAMES = {
    "settings", "space", "writable", "keys", "extras", "database", "log", "leftovers",
    "unfinished", "leases", "ledger", "erasures", "backups",
}  # fmt: skip


def test_a_new_lab_is_in_order(lab: Lab) -> None:
    found = examine(lab.root)
    assert {check.name for check in found.checks} == NAMES
    assert [check for check in found.checks if check.state != "ok" and check.name != "space"] == []
    assert fix(lab.root) == []


def left(lab: Lab, name: str, *, age: float = 7200) -> Path:
    path = lab.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"left behind")
    os.utime(path, (time.time() - age,) * 2)
    return path


def leave_a_payload(lab: Lab) -> None:
    left(lab, "payloads/00/pay_0000")


def leave_a_half_written_file(lab: Lab) -> None:
    left(lab, "objects/sha256/ab/.ab12.0.part")


def open_a_key(lab: Lab) -> None:
    (lab.layout.keys / "log.key").chmod(0o644)


def lose_a_key(lab: Lab) -> None:
    (lab.layout.keys / "log.key").unlink()


def lose_the_database(lab: Lab) -> None:
    lab.close()
    lab.layout.database.unlink()


def damage_the_database(lab: Lab) -> None:
    lab.database.truncate_log()
    lab.close()
    with lab.layout.database.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(300_000))


def write_a_bad_setting(lab: Lab) -> None:
    lab.layout.settings.write_text('nmae = "x"\n')


def come_from_the_future(lab: Lab) -> None:
    with lab.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0099'"))
        newer = update(lab_info).where(lab_info.c.key == "freehold_version")
        connection.execute(newer.values(value="9.1.0"))


def leave_an_entry_waiting(lab: Lab) -> None:
    with lab.writing() as connection:
        Entry(lab, connection, "sample.noted", "system").close()


def leave_a_run_unfinished(lab: Lab) -> None:
    with lab.writing() as connection:
        entry = Entry(lab, connection, "run.started", "system")
        row = {"workflow_run": "wfr_1", "task": "t", "purpose": "trial", "source": "s"}
        row |= {"spec": "{}", "state": "running", "created_at": entry.at, "created_by": "system"}
        entry.insert(workflow_runs, row)
        entry.close()


def leave_an_erasure_unfinished(lab: Lab) -> None:
    with lab.writing() as connection:
        connection.execute(insert(lab_info).values(key=ERASURES_UNFINISHED, value='["era_1"]'))


@pytest.mark.parametrize(
    ("trouble", "name", "state", "what", "todo"),
    [
        (leave_a_payload, "leftovers", "warn", "1 payload files that nothing", "doctor --fix"),
        (leave_a_half_written_file, "leftovers", "warn", "1 files half written", "doctor --fix"),
        (open_a_key, "keys", "warn", "other users can reach keys/log.key", "doctor --fix"),
        (lose_a_key, "keys", "fail", "missing in keys/: log.key", "copy of the lab"),
        (lose_the_database, "database", "fail", "is missing", "from a backup"),
        (damage_the_database, "database", "fail", "damaged|malformed", "backup|doctor"),
        (write_a_bad_setting, "settings", "fail", "did you mean 'name'", "Correct the file"),
        (come_from_the_future, "database", "fail", "Install version 9.1.0", "Install the version"),
        (leave_an_entry_waiting, "ledger", "warn", "1 ledger entries wait", "publishes them"),
        (leave_a_run_unfinished, "unfinished", "warn", "1 runs over files", "same command again"),
        (leave_an_erasure_unfinished, "erasures", "fail", "was cut off", "freehold erase"),
    ],
)
def test_each_trouble_is_named_with_what_to_do(
    sqlite_lab: Lab, trouble: Callable[[Lab], None], name: str, state: str, what: str, todo: str
) -> None:
    trouble(sqlite_lab)
    found = examine(sqlite_lab.root)
    check = found.named(name)
    assert check.state == state
    assert any(part in check.what for part in what.split("|")), check
    assert any(part in check.todo for part in todo.split("|")), check
    assert found.state in (state, "fail")


def test_the_fix_removes_only_what_is_old_and_named_by_nothing(lab: Lab, tmp_path: Path) -> None:
    fill(lab, tmp_path / "ada.key")
    old = [left(lab, "payloads/00/pay_0000"), left(lab, "objects/incoming/12.part")]
    old += [left(lab, "scratch/runs/planning-1/rows")]
    os.utime(old[-1].parent, (time.time() - 7200,) * 2)
    young = [left(lab, "payloads/00/pay_0001", age=60), left(lab, "objects/.x.part", age=60)]
    open_a_key(lab)
    done = fix(lab.root)
    assert done == [
        "closed keys/log.key to other users",
        "removed 3 files and folders that killed processes left behind",
    ]
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in young)
    verify_lab(lab).raise_for_faults()


def test_leases_say_who_holds_them(sqlite_lab: Lab) -> None:
    with sqlite_lab.writing() as connection:
        take(connection, "run over desk.csv", "host:1", seconds=60)
        take(connection, "sequencer", "host:2", seconds=-1)
    check = examine(sqlite_lab.root).named("leases")
    assert check.what.startswith("held now: run over desk.csv (host:1); 1 ran out")


def test_nothing_is_changed_by_an_examination(sqlite_lab: Lab) -> None:
    come_from_the_future(sqlite_lab)
    sqlite_lab.database.truncate_log()
    before = sqlite_lab.layout.database.read_bytes()
    examine(sqlite_lab.root)
    assert sqlite_lab.layout.database.read_bytes() == before


def test_a_directory_without_a_lab_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no lab at .*lab.toml is missing"):
        examine(tmp_path)
    with found_lab(tmp_path / "lab") as lab:
        assert examine(lab.root).named("settings").state == "ok"
