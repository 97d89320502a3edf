"""`freehold doctor`: whether a lab is in order, and what is to be done where it is not.

Each check says ok, warn or fail, and what to do. Nothing is changed, and a lab that cannot be
opened (a newer one, a full disk, a missing database) is examined as far as it goes. `fix` does what
is harmless: it closes the keys to others, removes what killed processes left behind and empties the
database's log. Whether state and evidence agree is another question: `freehold ledger verify`.
"""

from __future__ import annotations

import importlib.util
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import Table, func, select

from freehold.errors import FreeholdError, LabError, NotFound
from freehold.lab.atomic import storage_errors, write_atomically
from freehold.lab.layout import SETTINGS_FILE, Layout
from freehold.lab.leftovers import find_leftovers, remove
from freehold.lab.migration import missing_steps
from freehold.lab.opened import Lab
from freehold.lab.schema import (
    ERASURES_UNFINISHED,
    evaluations,
    jobs,
    lab_info,
    leases,
    ledger_pending,
    runs,
    workflow_runs,
)
from freehold.lab.settings import read_settings
from freehold.records.clock import now

State = Literal["ok", "warn", "fail"]

PRIVATE_KEYS = ("index.key", "log.key", "model.key")
EXTRAS = {"local": ("torch", "transformers", "peft", "trl"), "postgres": ("psycopg",)}
_MEGABYTE = 1 << 20
_LITTLE_SPACE, _NO_SPACE = 1024 * _MEGABYTE, 64 * _MEGABYTE
_LONG_LOG = 64 * _MEGABYTE


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what was looked at, how it is, and what to do where it is not in order."""

    name: str
    state: State
    what: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """All checks of one lab."""

    checks: tuple[Check, ...]

    @property
    def state(self) -> State:
        """The worst state of all checks."""
        states = {check.state for check in self.checks}
        return "fail" if "fail" in states else "warn" if "warn" in states else "ok"

    def named(self, name: str) -> Check:
        """Return the check of a name."""
        return next(check for check in self.checks if check.name == name)


def examine(root: Path) -> Examination:
    """Examine the lab in a directory. Raises NotFound where there is none."""
    layout = _layout(root)
    checks = [_free_space(layout), _writable(layout), _keys(layout), _extras()]
    try:
        lab = Lab(layout, read_settings(layout.settings))
    except FreeholdError as error:
        return Examination((Check("settings", "fail", error.message, error.hint), *checks))
    checks.insert(0, Check("settings", "ok", f"{SETTINGS_FILE} can be read"))
    with lab:
        database = _database(lab)
        checks.append(database)
        if database.state != "fail":
            checks += _of_the_database(lab)
    checks.append(_backups(layout))
    return Examination(tuple(checks))


def fix(root: Path) -> list[str]:
    """Do what is harmless and return what was done, in words. Data is never touched."""
    layout = _layout(root)
    done: list[str] = []
    with storage_errors(layout.root):
        for path, mode in _too_open(layout):
            path.chmod(mode)
            done.append(f"closed {path.relative_to(layout.root)} to other users")
    with Lab(layout, read_settings(layout.settings)) as lab:
        if missing_steps(lab.database):
            return done  # opening the lab migrates it first, with a backup
        with storage_errors(layout.root):
            count = remove(find_leftovers(lab))
        if count:
            done.append(f"removed {count} files and folders that killed processes left behind")
        if _log_size(lab) > _LONG_LOG:
            lab.database.truncate_log()
            done.append("folded the database's write-ahead log into the file")
    return done


def _layout(root: Path) -> Layout:
    layout = Layout(root.absolute())
    if not layout.settings.is_file():
        raise NotFound(
            f"no lab at {layout.root}: {SETTINGS_FILE} is missing",
            hint="Make one with `freehold init DIR`, or name one with -C DIR.",
        )
    return layout


def _free_space(layout: Layout) -> Check:
    free = shutil.disk_usage(layout.root).free
    what = f"{free / _MEGABYTE:,.0f} MB free where the lab lives"
    if free < _LITTLE_SPACE:
        state: State = "fail" if free < _NO_SPACE else "warn"
        return Check("space", state, what, "Free some space, or move the lab: one directory.")
    return Check("space", "ok", what)


def _writable(layout: Layout) -> Check:
    probe = layout.scratch / ".doctor"
    try:
        write_atomically(probe, bytes(_MEGABYTE // 16))
        probe.unlink()
    except FreeholdError as error:
        return Check("writable", "fail", error.message, error.hint)
    return Check("writable", "ok", "this user may write the lab")


def _keys(layout: Layout) -> Check:
    missing = [name for name in PRIVATE_KEYS if not (layout.keys / name).is_file()]
    if missing:
        return Check(
            "keys",
            "fail",
            f"missing in keys/: {', '.join(missing)}",
            "Bring them back from a copy of the lab; without log.key nothing can be signed.",
        )
    too_open = [str(path.relative_to(layout.root)) for path, _ in _too_open(layout)]
    if too_open:
        what = f"other users can reach {', '.join(too_open)}"
        return Check("keys", "warn", what, "Close them: freehold doctor --fix")
    return Check("keys", "ok", "the keys are there, and nobody else can read them")


def _too_open(layout: Layout) -> Iterator[tuple[Path, int]]:
    """Yield what others may read or write and should not, with the mode it should have."""
    private = [(layout.keys / name, 0o600) for name in PRIVATE_KEYS]
    for path, mode in [(layout.keys, 0o700), (layout.payloads, 0o700), *private]:
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & ~mode:
            yield path, mode


def _extras() -> Check:
    found = {
        extra: all(importlib.util.find_spec(name) is not None for name in names)
        for extra, names in EXTRAS.items()
    }
    told = ", ".join(f"[{name}] {'yes' if there else 'no'}" for name, there in found.items())
    todo = "" if all(found.values()) else 'Where needed: pip install "freehold[local,postgres]"'
    return Check("extras", "ok", f"installed: {told}", todo)


def _database(lab: Lab) -> Check:
    if lab.database.is_sqlite and not lab.layout.database.is_file():
        what = f"the database of this lab is missing: {lab.layout.database}"
        return Check("database", "fail", what, "Bring state.db back from a backup.")
    try:
        if missing_steps(lab.database):
            what = "an older version wrote it; it is migrated when the lab is opened"
            return Check("database", "warn", what, "A backup is made first, in backups/.")
        damage = _damage(lab)
    except LabError as error:
        return Check("database", "fail", error.message, error.hint)
    if damage:
        todo = "Keep a copy, then bring back the newest backup or bundle."
        return Check("database", "fail", f"the file is damaged: {damage}", todo)
    kind = "SQLite" if lab.database.is_sqlite else "PostgreSQL"
    return Check("database", "ok", f"{kind}, up to date with this version")


def _damage(lab: Lab) -> str:
    if not lab.database.is_sqlite:
        return ""
    with lab.reading() as connection:
        said = connection.exec_driver_sql("PRAGMA quick_check(3)").scalars().all()
    return "" if said == ["ok"] else "; ".join(map(str, said))


def _of_the_database(lab: Lab) -> Iterator[Check]:
    """Yield the checks that read rows; of an older lab those whose tables are there."""
    try:
        yield _log(lab)
        yield _leftovers(lab)
        yield _unfinished(lab)
        yield _leases(lab)
        yield _pending(lab)
        yield _erasures(lab)
    except FreeholdError as error:
        yield Check("rows", "fail", error.message, error.hint)


def _log(lab: Lab) -> Check:
    size = _log_size(lab)
    if size > _LONG_LOG:
        what = f"the database's write-ahead log has grown to {size / _MEGABYTE:,.0f} MB"
        return Check("log", "warn", what, "Close long readers, then: freehold doctor --fix")
    return Check("log", "ok", f"the database's write-ahead log has {size / _MEGABYTE:,.1f} MB")


def _log_size(lab: Lab) -> int:
    path = Path(f"{lab.layout.database}-wal")
    return path.stat().st_size if lab.database.is_sqlite and path.is_file() else 0


def _leftovers(lab: Lab) -> Check:
    found = find_leftovers(lab)
    if not found.paths:
        return Check("leftovers", "ok", "killed processes left nothing behind")
    what = (
        f"{len(found.payloads)} payload files that nothing names, {len(found.partial)} files half "
        f"written, {len(found.scratch)} work folders of nobody"
    )
    return Check("leftovers", "warn", what, "Remove them: freehold doctor --fix")


def _unfinished(lab: Lab) -> Check:
    waiting = {
        "runs over files": _count(lab, workflow_runs, "running"),
        "training runs": _count(lab, runs, "running"),
        "evaluations": _count(lab, evaluations, "running"),
        "jobs": _count(lab, jobs, "running"),
    }
    told = ", ".join(f"{count} {name}" for name, count in waiting.items() if count)
    if told:
        todo = "At work, or killed: give the same command again, and it goes on."
        return Check("unfinished", "warn", f"not finished: {told}", todo)
    return Check("unfinished", "ok", "no work was left unfinished")


def _leases(lab: Lab) -> Check:
    at = now()
    with lab.reading() as connection:
        held = connection.execute(select(leases).where(leases.c.holder.is_not(None))).all()
    live = [f"{row.name} ({row.holder})" for row in held if (row.expires_at or "") > at]
    dead = len(held) - len(live)
    told = f"held now: {', '.join(live) or 'none'}"
    over = f"; {dead} ran out and are taken over by whoever needs them" if dead else ""
    return Check("leases", "ok", told + over)


def _pending(lab: Lab) -> Check:
    with lab.reading() as connection:
        count = connection.execute(select(func.count()).select_from(ledger_pending)).scalar_one()
    if count:
        what = f"{count} ledger entries wait for their place in the log"
        return Check("ledger", "warn", what, "The next command that writes publishes them.")
    return Check("ledger", "ok", "every entry has its place in the log")


def _erasures(lab: Lab) -> Check:
    query = select(lab_info.c.value).where(lab_info.c.key == ERASURES_UNFINISHED)
    with lab.reading() as connection:
        waiting = connection.execute(query).scalar()
    if waiting is not None:
        what = "an erasure was cut off: its files, or old pages of the database, still stand"
        return Check(
            "erasures", "fail", what, "Give the same `freehold erase` again: it does the rest."
        )
    return Check("erasures", "ok", "no erasure waits to be finished")


def _backups(layout: Layout) -> Check:
    found = sorted(layout.backups.glob("state-*")) if layout.backups.is_dir() else []
    if not found:
        return Check("backups", "ok", "none yet: one is made before each migration")
    size = sum(path.stat().st_size for path in found)
    what = (
        f"{len(found)} copies of the database, {size / _MEGABYTE:,.1f} MB, newest {found[-1].name}"
    )
    return Check("backups", "ok", what)


def _count(lab: Lab, table: Table, state: str) -> int:
    query = select(func.count()).select_from(table).where(table.c.state == state)
    with lab.reading() as connection:
        return int(connection.execute(query).scalar_one())
