"""An older lab is migrated after a backup; a newer one is refused and left as it is."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import inspect, text, update

from freehold.errors import LabError, NewerLab
from freehold.evidence.verification import verify_lab
from freehold.lab import Lab, migration, open_lab
from freehold.lab.doctor import examine, fix
from freehold.lab.schema import lab_info

NEXT = """
revision = "0002"
down_revision = "0001"
from alembic import op
import sqlalchemy as sa


def upgrade():
    op.create_table("of_the_next_version", sa.Column("key", sa.Text, primary_key=True))
    {more}
"""


def next_version(monkeypatch: pytest.MonkeyPatch, folder: Path, more: str = "") -> None:
    """Let this version have one more migration than it has."""
    scripts = folder / "migrations"
    shutil.copytree(migration._SCRIPTS, scripts)
    (scripts / "versions" / "0002_next.py").write_text(NEXT.replace("{more}", more))
    monkeypatch.setattr(migration, "_SCRIPTS", scripts)
    monkeypatch.setattr(migration, "HEAD", "0002")
    monkeypatch.setattr(migration, "KNOWN", ("0001", "0002"))


def has_next_table(lab: Lab) -> bool:
    with lab.reading() as connection:
        return inspect(connection).has_table("of_the_next_version")


def test_an_older_lab_is_backed_up_and_migrated(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not lab.database.is_sqlite and shutil.which("pg_dump") is None:
        pytest.skip("pg_dump is not installed")
    lab.close()
    next_version(monkeypatch, tmp_path)
    assert examine(lab.root).named("database").what.startswith("an older version wrote it")
    assert fix(lab.root) == []
    with open_lab(lab.root) as migrated:
        assert has_next_table(migrated)
        verify_lab(migrated).raise_for_faults()
        (backup,) = lab.layout.backups.iterdir()
    assert backup.stat().st_mode & 0o077 == 0 or lab.layout.backups.stat().st_mode & 0o077 == 0
    if lab.database.is_sqlite:
        with sqlite3.connect(backup) as copy:
            assert copy.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
            assert copy.execute("SELECT count(*) FROM ledger_entries").fetchone() == (1,)
        copy.close()
    with open_lab(lab.root):
        assert len(list(lab.layout.backups.iterdir())) == 1


def test_a_migration_that_fails_leaves_the_lab_as_it_was(
    sqlite_lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sqlite_lab.close()
    with monkeypatch.context() as newer:
        next_version(newer, tmp_path, more="op.execute('SELECT 1 FROM nowhere')")
        with pytest.raises(LabError, match="nowhere"):
            open_lab(sqlite_lab.root)
    with open_lab(sqlite_lab.root) as opened:
        assert not has_next_table(opened)
        verify_lab(opened).raise_for_faults()


def test_a_newer_lab_is_refused_with_the_version_to_install(lab: Lab) -> None:
    with lab.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0099'"))
        newer = update(lab_info).where(lab_info.c.key == "freehold_version")
        connection.execute(newer.values(value="9.1.0"))
    with pytest.raises(NewerLab, match=r"written by Freehold 9\.1\.0 .*Install version 9\.1\.0"):
        open_lab(lab.root)
    assert not lab.layout.backups.exists()
