"""A full disk and a read-only one: a clear error, and nothing that was acknowledged is lost."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

import pytest
from sqlalchemy import select

from freehold.errors import ReadOnlyLab, StorageFull
from freehold.evidence.entries import Entry
from freehold.evidence.founding import found_lab
from freehold.evidence.sequencer import publish
from freehold.evidence.verification import verify_lab
from freehold.lab import Lab, open_lab, require_writable
from freehold.lab.doctor import examine
from freehold.lab.schema import contracts
from small_disks import SmallDisk


def write_contract(lab: Lab, number: int) -> str:
    """Write one row with its entry; return its key once that is acknowledged."""
    key = f"contract {number}"
    with lab.writing() as connection:
        entry = Entry(lab, connection, "task.registered", "system")
        row = {"contract_digest": key, "task": "t", "contract": secrets.token_hex(10_000)}
        entry.insert(contracts, row | {"created_at": entry.at})
        entry.close()
    return key


def written(lab: Lab) -> set[str]:
    with lab.reading() as connection:
        return set(connection.execute(select(contracts.c.contract_digest)).scalars())


def fill_up(lab: Lab) -> set[str]:
    """Write until the disk is full; return what was acknowledged."""
    acknowledged: set[str] = set()
    for number in range(1000):
        try:
            acknowledged.add(write_contract(lab, number))
        except StorageFull:
            return acknowledged
    pytest.fail("the disk never became full")


def test_a_full_disk_loses_nothing_that_was_acknowledged(small_disk: SmallDisk) -> None:
    ballast = small_disk.path / "ballast"
    ballast.write_bytes(bytes(2_500_000))
    with found_lab(small_disk.path / "lab") as lab:
        acknowledged = fill_up(lab)
        assert len(acknowledged) > 10
    with open_lab(small_disk.path / "lab") as lab:
        assert written(lab) == acknowledged
    ballast.unlink()
    with open_lab(small_disk.path / "lab") as lab:
        publish(lab)
        verify_lab(lab).raise_for_faults()


def test_a_full_disk_stops_files_whole(small_disk: SmallDisk, tmp_path: Path) -> None:
    with found_lab(small_disk.path / "lab") as lab:
        before = {path for path in lab.root.rglob("*") if path.is_file()}
        with pytest.raises(StorageFull, match="no space left while writing"):
            lab.objects.put(bytes(8_000_000))
        source = tmp_path / "weights"
        source.write_bytes(bytes(8_000_000))
        with pytest.raises(StorageFull, match="no space left while writing"):
            lab.objects.put_file(source)
        assert {path for path in lab.root.rglob("*") if path.is_file()} == before
        assert examine(lab.root).named("space").state == "fail"
        verify_lab(lab).raise_for_faults()


def test_a_lab_on_a_read_only_disk_is_read_and_verified(small_disk: SmallDisk) -> None:
    with found_lab(small_disk.path / "lab") as lab:
        write_contract(lab, 1)
        publish(lab)
    small_disk.remount("ro")
    with open_lab(small_disk.path / "lab") as lab:
        assert written(lab) == {"contract 1"}
        verify_lab(lab).raise_for_faults()
        with pytest.raises(ReadOnlyLab, match="may not be written"):
            write_contract(lab, 2)
        with pytest.raises(ReadOnlyLab, match="may not be written"):
            lab.objects.put(b"new")
        with pytest.raises(ReadOnlyLab, match="may not be written by this user"):
            require_writable(lab)
    checks = examine(small_disk.path / "lab")
    assert checks.named("writable").state == "fail"
    assert checks.named("database").state == "ok"


def test_an_unfinished_log_on_a_read_only_disk_is_not_passed_over(
    small_disk: SmallDisk, tmp_path: Path
) -> None:
    with found_lab(tmp_path / "lab") as lab:
        write_contract(lab, 1)
        shutil.copytree(lab.root, small_disk.path / "copy")  # taken while the lab is at work
    assert (small_disk.path / "copy" / "state.db-wal").stat().st_size
    small_disk.remount("ro")
    with pytest.raises(ReadOnlyLab, match="has an unfinished log beside it"):
        open_lab(small_disk.path / "copy")
    small_disk.remount("rw")
    with open_lab(small_disk.path / "copy") as lab:
        assert written(lab) == {"contract 1"}
