"""Entries become a signed, published log, whatever happens in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from freehold.canonical.json import decode
from freehold.errors import Conflict, IntegrityError, NotFound
from freehold.evidence.entries import Entry
from freehold.evidence.founding import found_lab, found_ledger
from freehold.evidence.keys import log_verifier
from freehold.evidence.notes import Checkpoint, open_note
from freehold.evidence.people import acting_person, add_person, make_person_key
from freehold.evidence.sequencer import (
    latest_checkpoint,
    pending_count,
    publish,
    read_entries,
    rebuild_files,
)
from freehold.evidence.tile_check import check_tiles
from freehold.lab import Lab, open_lab
from freehold.lab.schema import ledger_checkpoints, ledger_entries, principals

APPENDER = textwrap.dedent(
    """
    import sys
    from freehold.evidence.entries import Entry
    from freehold.evidence.sequencer import publish
    from freehold.lab import open_lab

    lab = open_lab(sys.argv[1])
    for number in range(int(sys.argv[3])):
        with lab.writing() as connection:
            Entry(lab, connection, "test.counted", sys.argv[2], {"number": number}).close()
        print(number, flush=True)
        if number % 5 == 4:
            publish(lab)
    publish(lab)
    """
)


def append(lab: Lab, count: int) -> None:
    with lab.writing() as connection:
        for number in range(count):
            Entry(lab, connection, "test.counted", "system", {"number": number}).close()


def start_appender(lab: Lab, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", APPENDER, str(lab.root), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def counted(lab: Lab, actor: str) -> list[int]:
    records = [decode(data) for data in read_entries(lab, 0, publish(lab))]
    return [r["body"]["number"] for r in records if r["actor"] == actor and "number" in r["body"]]


def test_published_entries_stand_under_a_signed_head(lab: Lab) -> None:
    """What is appended is found in the tiles, under a checkpoint that the lab's key signed."""
    append(lab, 700)
    assert publish(lab) == 701
    head, note = latest_checkpoint(lab) or pytest.fail("no checkpoint")
    assert open_note(note, [log_verifier(lab)]).text == head.text()
    assert (lab.layout.ledger / "checkpoint").read_text(encoding="utf-8") == note
    assert check_tiles(lab.layout.ledger, head.size, head.root).faults == ()


def test_files_are_made_again_from_the_database(sqlite_lab: Lab) -> None:
    """Deleting every tile loses nothing."""
    append(sqlite_lab, 300)
    publish(sqlite_lab)
    for path in (sqlite_lab.layout.ledger / "tile").rglob("*"):
        if path.is_file():
            path.unlink()
    assert rebuild_files(sqlite_lab) == 301
    head = Checkpoint.parse((sqlite_lab.layout.ledger / "checkpoint").read_text(encoding="utf-8"))
    assert check_tiles(sqlite_lab.layout.ledger, head.size, head.root).faults == ()


def test_an_uncommitted_change_leaves_no_entry(lab: Lab) -> None:
    """State and evidence are one transaction: both or neither."""
    size = publish(lab)

    def add_and_fail() -> None:
        with lab.writing() as connection:
            add_person(lab, connection, "Ada")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        add_and_fail()
    assert publish(lab) == size
    with lab.reading() as connection:
        assert connection.execute(select(func.count()).select_from(principals)).scalar() == 0


def test_a_restored_old_database_is_refused(sqlite_lab: Lab) -> None:
    """A database behind what was already published must not sign a second history."""
    append(sqlite_lab, 10)
    publish(sqlite_lab)
    with sqlite_lab.writing() as connection:
        connection.execute(ledger_entries.delete().where(ledger_entries.c.idx >= 1))
        connection.execute(ledger_checkpoints.delete().where(ledger_checkpoints.c.size > 1))
    with pytest.raises(IntegrityError, match="older than what was signed"):
        publish(sqlite_lab)


def test_processes_share_one_log(lab: Lab) -> None:
    """Three processes append and publish at once: no entry is lost, doubled or out of order."""
    processes = [start_appender(lab, f"p{number}", 25) for number in range(3)]
    for process in processes:
        process.communicate(timeout=120)
        assert process.returncode == 0
    for number in range(3):
        assert counted(lab, f"p{number}") == list(range(25))


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.1])
def test_a_killed_process_loses_nothing_acknowledged(sqlite_lab: Lab, delay: float) -> None:
    """After ``kill -9`` every number that was printed is in the log, once."""
    with start_appender(sqlite_lab, "killed", 10_000) as process:
        assert process.stdout is not None
        seen = [process.stdout.readline() for _ in range(12)]
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        seen += process.stdout.readlines()
    acknowledged = [int(line) for line in seen if line.endswith("\n")]
    numbers = counted(sqlite_lab, "killed")
    assert numbers[: len(acknowledged)] == acknowledged
    assert len(numbers) in (len(acknowledged), len(acknowledged) + 1)
    assert pending_count(sqlite_lab) == 0


def test_a_person_keeps_a_key_of_their_own(sqlite_lab: Lab, tmp_path: Path) -> None:
    """The private half is in the person's file only, and no key is replaced in silence."""
    path = tmp_path / "ada.key"
    vkey = make_person_key(sqlite_lab, "Ada", path)
    assert path.stat().st_mode & 0o777 == 0o600
    with sqlite_lab.reading() as connection:
        stored = connection.execute(select(principals.c.public_key)).scalar_one()
    assert stored == vkey
    with pytest.raises(Conflict, match="has a key already"):
        make_person_key(sqlite_lab, "Ada", tmp_path / "second.key")


def test_roles_are_granted_on_the_record(sqlite_lab: Lab) -> None:
    """Adding a known person again grants what they lack, and acting under a name takes nothing."""
    with sqlite_lab.writing() as connection:
        first = acting_person(sqlite_lab, connection, "Ada")
        granted = add_person(sqlite_lab, connection, "Ada", roles=("approver",))
        again = acting_person(sqlite_lab, connection, "Ada")
    assert (first.roles, granted.roles) == (("engineer",), ("engineer", "approver"))
    assert again == granted
    kinds = [decode(data)["kind"] for data in read_entries(sqlite_lab, 0, publish(sqlite_lab))]
    assert kinds.count("person.roles_granted") == 1


def test_founding_is_safe_to_repeat(tmp_path: Path) -> None:
    """An init that was cut off is repeated; a finished one is refused."""
    with found_lab(tmp_path / "lab", name="Chemistry") as lab:
        vkey = log_verifier(lab).vkey()
        found_ledger(lab)
        assert publish(lab) == 1
        assert log_verifier(lab).vkey() == vkey
    with pytest.raises(Conflict, match="is a lab already"):
        found_lab(tmp_path / "lab")
    with pytest.raises(NotFound, match="no lab at"):
        open_lab(tmp_path)


def test_the_migration_makes_exactly_the_schema(lab: Lab) -> None:
    """What the revisions build is what the code declares: nothing drifts."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from freehold.lab.schema import metadata

    with lab.reading() as connection:
        connection.execute(text("SELECT 1"))
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
