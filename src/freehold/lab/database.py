"""One database, SQLite or PostgreSQL, with short transactions and clear failures.

On SQLite a writing transaction begins with ``BEGIN IMMEDIATE``: it waits for its turn at the start
and never has to be thrown away half way. Every commit is flushed to the disk before it returns
(``synchronous=FULL``), and deleted bytes are overwritten (``secure_delete``), as erasure requires.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError

from freehold.errors import LabBusy, LabError, MissingExtra, ReadOnlyLab, StorageFull

BUSY_SECONDS = 60.0
_LOG_WAIT_MILLISECONDS = 3000
_WRITES = "freehold_writes"


class Database:
    """The engine of one lab. `reading` and `writing` are the only ways to a connection."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self.engine = _sqlite_engine(url) if self.is_sqlite else _postgres_engine(url)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that sees one consistent state and changes nothing."""
        with _translated(self.url), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that becomes durable as a whole on leaving, or not at all."""
        with _translated(self.url), self.engine.connect() as plain:
            connection = plain.execution_options(**{_WRITES: True})
            with connection.begin():
                yield connection

    def dispose(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()

    def truncate_log(self) -> None:
        """Rewrite the database without its free pages, so that nothing deleted stays on the disk.

        On SQLite the write-ahead log is folded in and emptied; it stays where another connection
        still reads an old state.
        """
        if self.is_sqlite:
            with _translated(self.url), self.engine.connect() as connection:
                raw: Any = connection.connection.driver_connection
                raw.execute("VACUUM")
                # A reader of an old state may stay for long: whoever calls looks at the log.
                raw.execute(f"PRAGMA busy_timeout={_LOG_WAIT_MILLISECONDS}")
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                raw.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000:.0f}")
        else:
            with _translated(self.url), self.engine.connect() as connection:
                autocommit = connection.execution_options(isolation_level="AUTOCOMMIT")
                # The planner's statistics hold samples of values: they are taken anew first.
                autocommit.exec_driver_sql("ANALYZE")
                autocommit.exec_driver_sql("VACUUM FULL")


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file.

    On a read-only file system (a mounted backup, an auditor's copy) SQLite cannot make the files
    beside it that its log needs, so the file is opened as one that nobody changes. With a log that
    was never folded in it stays closed: its last transactions would be missing.
    """
    log = Path(f"{path}-wal")
    if path.is_file() and os.statvfs(path).f_flag & os.ST_RDONLY:
        if log.is_file() and log.stat().st_size:
            raise ReadOnlyLab(
                f"{path} lies on a read-only file system and has an unfinished log beside it",
                hint="Work on a copy: opening it there folds the log in.",
            )
        return f"sqlite:///file:{quote(str(path))}?mode=ro&immutable=1&uri=true"
    return f"sqlite:///{path}"


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "isolation_level": None})

    @event.listens_for(engine, "connect")
    def _set_up(connection: sqlite3.Connection, _record: object) -> None:
        cursor = connection.cursor()
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "readonly" not in str(error):
                raise
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA secure_delete=ON")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgres_engine(url: str) -> Engine:
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            "this lab keeps its state in PostgreSQL, but the driver is not installed",
            hint='pip install "freehold[postgres]"',
        ) from error
    plain = url.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_engine(plain, pool_pre_ping=True)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if not connection.get_execution_options().get(_WRITES, False):
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")

    return engine


@contextmanager
def _translated(url: str) -> Iterator[None]:
    place = url.rpartition("@")[2]
    try:
        yield
    except OperationalError as error:
        raise _as_lab_error(str(error.orig), place) from error
    except DBAPIError as error:
        text = str(error.orig)
        if "No space left" in text or "disk is full" in text:
            raise _as_lab_error(text, place) from error
        if "malformed" in text or "not a database" in text:
            raise LabError(
                f"the database {place} is damaged: {text}",
                hint="Keep a copy, then bring back the newest backup or restore a bundle.",
            ) from error
        raise


def _as_lab_error(text: str, place: str) -> LabError:
    if "locked" in text or "busy" in text:
        return LabBusy(f"the database {place} stayed locked for {BUSY_SECONDS:.0f} s: {text}")
    if "full" in text or "No space left" in text:
        return StorageFull(f"no space left for the database {place}: {text}")
    if "readonly" in text or "read-only" in text:
        return ReadOnlyLab(f"the database {place} may not be written: {text}")
    if "unable to open" in text:
        return LabError(f"the database {place} cannot be opened: {text}")
    return LabError(f"the database {place} failed: {text}")
