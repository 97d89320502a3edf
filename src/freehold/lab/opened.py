"""A lab: one directory with its settings, database, stores and keys, opened by one process."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from sqlalchemy import Connection, insert

from freehold.errors import Conflict, LabError, NotFound, ReadOnlyLab
from freehold.lab import migration
from freehold.lab.atomic import storage_errors, write_atomically
from freehold.lab.database import Database, sqlite_url
from freehold.lab.layout import SETTINGS_FILE, Layout
from freehold.lab.leases import this_process
from freehold.lab.objects import ObjectStore
from freehold.lab.payloads import PayloadStore
from freehold.lab.schema import lab_info
from freehold.lab.settings import Settings, read_settings, render_settings
from freehold.records.clock import now

_INDEX_KEY = "index.key"


class Lab:
    """One open lab. Rooms take it as their first argument; it holds no state of theirs.

    Use it as a context manager, so that its connections are closed::

        with open_lab("my-lab") as lab, lab.reading() as connection:
            ...
    """

    def __init__(self, layout: Layout, settings: Settings) -> None:
        self.layout = layout
        self.settings = settings
        url = settings.text("database") or sqlite_url(layout.database)
        self.database = Database(url)
        self.objects = ObjectStore(layout.objects)
        self.payloads = PayloadStore(layout.payloads)
        self.holder = this_process()

    @property
    def root(self) -> Path:
        """The lab's directory."""
        return self.layout.root

    @property
    def origin(self) -> str:
        """The origin line of the lab's ledger."""
        return self.settings.text("origin")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that sees one consistent state."""
        with self.database.reading() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that becomes durable whole, or not at all."""
        with self.database.writing() as connection:
            yield connection

    def index_key(self, text: str, purpose: str) -> str:
        """Return a keyed hash of a name (a subject, an entity): equal names meet, no name is told.

        HMAC-SHA-256 under a key of this lab that never leaves it, apart for each purpose.
        """
        key = (self.layout.keys / _INDEX_KEY).read_bytes()
        return hmac.new(key, f"{purpose}\0{text}".encode(), hashlib.sha256).hexdigest()

    def close(self) -> None:
        """Close the database connections."""
        self.database.dispose()

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def init_lab(root: Path, *, name: str = "", database: str = "") -> Lab:
    """Make a new lab in an empty or missing directory and open it.

    Raises Conflict when something is there already, ReadOnlyLab or StorageFull when it cannot be
    written. The settings file is written last: a directory without it is not a lab, so an init that
    was cut off can simply be repeated.
    """
    layout = Layout(root.absolute())
    if layout.settings.exists():
        raise Conflict(f"{root} is a lab already", hint=f"Use it: freehold -C {root} status")
    if root.exists() and any(root.iterdir()) and not _is_unfinished_init(layout):
        raise Conflict(f"{root} is not empty", hint="Choose a new directory for the lab.")
    with storage_errors(root):
        for directory in layout.directories():
            directory.mkdir(parents=True, exist_ok=True)
        layout.keys.chmod(0o700)
        layout.payloads.chmod(0o700)
    if not (layout.keys / _INDEX_KEY).exists():
        write_atomically(layout.keys / _INDEX_KEY, secrets.token_bytes(32), mode=0o600)
    name = name or layout.root.name
    origin = f"freehold.lab/{_slug(name)}/{secrets.token_hex(8)}"
    values: dict[str, str | int | bool] = {"name": name, "origin": origin, "database": database}
    settings = render_settings(values).encode()
    draft = layout.root / f".{SETTINGS_FILE}.draft"
    write_atomically(draft, settings)
    lab = Lab(layout, read_settings(draft))
    migration.create(lab.database)
    with lab.writing() as connection:
        facts = {"origin": origin, "created_at": now()}
        rows = [{"key": key, "value": value} for key, value in facts.items()]
        connection.execute(insert(lab_info), rows)
    draft.replace(layout.settings)
    return lab


def open_lab(root: Path | str) -> Lab:
    """Open a lab, migrating it first (with a backup) when an older version wrote it.

    Raises NotFound when there is no lab, NewerLab when a newer version wrote it.
    """
    layout = Layout(Path(root).absolute())
    if not layout.settings.is_file():
        raise NotFound(
            f"no lab at {layout.root}: {SETTINGS_FILE} is missing",
            hint="Make one with `freehold init DIR`, or name one with -C DIR.",
        )
    lab = Lab(layout, read_settings(layout.settings))
    try:
        _require_database(lab)
        migration.bring_up_to_date(lab.database, layout)
    except BaseException:
        lab.close()
        raise
    return lab


def require_writable(lab: Lab) -> None:
    """Raise ReadOnlyLab before any work is done, when this process may not write the lab."""
    if not os.access(lab.root, os.W_OK) or (
        lab.layout.database.exists() and not os.access(lab.layout.database, os.W_OK)
    ):
        raise ReadOnlyLab(f"{lab.root} may not be written by this user")


def _require_database(lab: Lab) -> None:
    if not lab.settings.text("database") and not lab.layout.database.is_file():
        raise LabError(f"the database of this lab is missing: {lab.layout.database}")


def _is_unfinished_init(layout: Layout) -> bool:
    return (layout.keys / _INDEX_KEY).is_file() and not layout.settings.exists()


def _slug(name: str) -> str:
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower())
    return kept.strip("-") or "lab"
