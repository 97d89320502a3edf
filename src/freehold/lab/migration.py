"""Bringing a lab's database to this version, with a backup first.

The steps are Alembic revisions in ``lab/migrations``. Opening a lab that is up to date costs one
query; Alembic itself is loaded only when there is a step to take.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, make_url, text

from freehold.errors import LabError, NewerLab
from freehold.lab.atomic import storage_errors
from freehold.lab.database import Database
from freehold.lab.layout import Layout
from freehold.records.clock import now
from freehold.version import __version__

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0001"
KNOWN = ("0001",)
_SCRIPTS = Path(__file__).parent / "migrations"


def create(database: Database) -> None:
    """Make every table of an empty database, or finish a creation that was cut off."""
    _upgrade(database)


def missing_steps(database: Database) -> bool:
    """Return whether an older version wrote the database, so that opening the lab will migrate it.

    Raises NewerLab when a newer version wrote it, LabError when it has none of our tables.
    """
    with database.reading() as connection:
        revision = _revision(connection)
        if revision == HEAD:
            return False
        if revision is not None and revision not in KNOWN:
            raise NewerLab(_newer(connection, revision))
    if revision is None:
        raise LabError("the database has none of Freehold's tables")
    return True


def bring_up_to_date(database: Database, layout: Layout) -> None:
    """Take the missing steps, after a backup; refuse a lab written by a newer version."""
    if missing_steps(database):
        back_up(database, layout)
        _upgrade(database)


def back_up(database: Database, layout: Layout) -> Path:
    """Copy the database to ``backups/`` and return the copy's path."""
    stamp = now().replace(":", "").replace("-", "").replace(".", "")
    with storage_errors(layout.backups):
        layout.backups.mkdir(mode=0o700, exist_ok=True)
    if database.is_sqlite:
        target = layout.backups / f"state-{stamp}.db"
        with database.engine.connect() as connection:
            autocommit = connection.connection.driver_connection
            if autocommit is None:
                raise LabError("the database closed while it was backed up")
            autocommit.execute("VACUUM INTO ?", (str(target),))
        return target
    target = layout.backups / f"state-{stamp}.dump"
    program = shutil.which("pg_dump")
    if program is None:
        raise LabError(
            "a backup is made before each migration, and pg_dump is not installed",
            hint="Install PostgreSQL's client programs, or make a backup and migrate by hand.",
        )
    # The program wants a URL without SQLAlchemy's driver, and no password where others can read it.
    url = make_url(database.url)
    plain = url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    secret = {"PGPASSWORD": str(url.password)} if url.password else {}
    done = subprocess.run(  # noqa: S603 - the program is pg_dump, the URL the lab's own setting
        [program, "--format=custom", f"--file={target}", plain],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | secret,
    )
    if done.returncode != 0:
        raise LabError(f"pg_dump failed, nothing was migrated: {done.stderr.strip()}")
    return target


def configuration() -> Config:
    """Return Alembic's configuration for our revisions."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    return config


def _upgrade(database: Database) -> None:
    from alembic import command

    config = configuration()
    with database.writing() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        _remember_version(connection)


def _remember_version(connection: Connection) -> None:
    connection.execute(text("DELETE FROM lab_info WHERE key = 'freehold_version'"))
    connection.execute(
        text("INSERT INTO lab_info (key, value) VALUES ('freehold_version', :version)"),
        {"version": __version__},
    )


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _newer(connection: Connection, revision: str) -> str:
    version = connection.execute(
        text("SELECT value FROM lab_info WHERE key = 'freehold_version'")
    ).scalar()
    return (
        f"this lab was written by Freehold {version} (schema {revision}); "
        f"this is {__version__} (schema {HEAD}). Install version {version} or later"
    )
