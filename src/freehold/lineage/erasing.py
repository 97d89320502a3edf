"""Erase what the lab holds about a person, or about single items, and say what had seen it.

Two halves. First one transaction in the database (`lineage.emptying`), with the ledger entries that
name the erased items and nothing of them. Then the files: payloads, renderings, work folders,
documents and backups, and at last the database's own log and free pages. A process that dies in
between leaves a mark, and the next erasure, or `finish_erasures`, does the rest.

What cannot be taken back is told instead: the datasets and models that had seen the items, what
serves from these models, and what was exported. A model goes on knowing what it has learnt (a
baseline even keeps words); train it anew without the items where that must end. PostgreSQL's own
log and archives are outside of a lab: they go when the server recycles them.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from freehold.errors import InputError, LabBusy, NotFound
from freehold.evidence.sequencer import publish
from freehold.evidence.tiles import files_below
from freehold.lab.atomic import storage_errors
from freehold.lab.opened import Lab, require_writable
from freehold.lab.schema import erasures, item_subjects, items, payloads, runs
from freehold.lineage.emptying import (
    ITEMS_AT_ONCE,
    Order,
    empty_items,
    items_of,
    mark_finished,
    tables_about_items,
    unfinished,
)
from freehold.lineage.reach import Reach, pieces, reach_of

_KEPT_SCRATCH = ("models", "from-lab-")  # links to weights: nothing of people


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """What an erasure did, or would do where `planned`.

    `item_ids` are erased now, `already` were before. `rows` counts the rows emptied in each table.
    `files` are paths in the lab that were removed or made anew. `reach` is what had seen the items;
    `out_of_reach` says in words what the lab cannot take back.
    """

    item_ids: tuple[str, ...]
    already: tuple[str, ...]
    erasure_ids: tuple[str, ...]
    rows: dict[str, int]
    files: tuple[str, ...]
    reach: Reach
    out_of_reach: tuple[str, ...]
    planned: bool = False


def erase(
    lab: Lab,
    *,
    subject: str | None = None,
    item_ids: Sequence[str] = (),
    reason: str,
    actor: str,
    plan_only: bool = False,
) -> ErasureReport:
    """Erase every item that concerns a subject (by name), or the items named; report it.

    Erasing again changes nothing and reports the items under `already`. With `plan_only` nothing
    is changed. `reason` is kept in the lab: write a rule or a ticket number, no name.

    Raises NotFound when no item concerns the subject or an item is unknown, LabBusy while a
    training run works on the items or another process holds the database's log.
    """
    if (subject is None) == (not item_ids):
        raise InputError("name a subject, or items: one of the two")
    if not reason.strip():
        raise InputError("an erasure needs a reason: a rule or a ticket number, no name")
    order = Order(reason, actor, None if subject is None else lab.index_key(subject, "subject"))
    with lab.reading() as connection:
        fresh, already = _find(connection, order.subject_key, item_ids)
        reach = reach_of(connection, [*fresh, *already])
        counts = _count(connection, fresh)
        files = _files_to_remove(lab, connection, fresh, reach)
    told = _out_of_reach(lab, reach)
    if plan_only:
        names = tuple(path.relative_to(lab.root).as_posix() for path in files)
        return ErasureReport(fresh, already, (), counts, names, reach, told, planned=True)
    require_writable(lab)
    with contextlib.ExitStack() as held:
        for run in reach.runs:
            held.enter_context(_not_training(lab, run))
        done = tuple(
            empty_items(lab, fresh[start : start + ITEMS_AT_ONCE], order, reach)
            for start in range(0, len(fresh), ITEMS_AT_ONCE)
        )
        removed = finish_erasures(lab)
    return ErasureReport(fresh, already, done, counts, removed, reach, told)


def finish_erasures(lab: Lab) -> tuple[str, ...]:
    """Remove the files of erasures that are in the database; return what went, safe to repeat.

    Raises LabBusy when another process keeps old pages of the database's log in use: the mark
    stays, and the next call tries again.
    """
    from freehold.datasets.rendering import render_again

    with lab.reading() as connection:
        waiting = unfinished(connection)
        item_ids = items_of(connection, waiting)
        reach = reach_of(connection, item_ids)
        files = _files_to_remove(lab, connection, item_ids, reach)
    publish(lab)
    if not waiting:
        return ()
    for path in files:
        _remove(path)
    again = [one for made in render_again(lab, item_ids) for one in (made.parquet, made.manifest)]
    lab.database.truncate_log()
    _require_empty_log(lab)
    with lab.writing() as connection:
        mark_finished(connection, waiting)
    gone = {path.relative_to(lab.root).as_posix() for path in (*files, *again)}
    return tuple(sorted(gone))


def _find(
    connection: Connection, subject_key: str | None, item_ids: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the items to erase and those that were erased before."""
    wanted, before = list(dict.fromkeys(item_ids)), []
    if subject_key is not None:
        query = select(item_subjects.c.item_id).where(item_subjects.c.subject_key == subject_key)
        wanted = sorted(connection.execute(query).scalars())
        past = select(erasures.c.erasure_id).where(erasures.c.subject_key == subject_key)
        before = items_of(connection, list(connection.execute(past).scalars()))
        if not wanted and not before:
            raise NotFound(
                "no item in this lab concerns this subject",
                hint="Subjects are matched exactly as the file's subject column named them.",
            )
    known: dict[str, str | None] = {}
    for part in pieces(wanted):
        found = select(items.c.item_id, items.c.erased_at).where(items.c.item_id.in_(part))
        known |= {row.item_id: row.erased_at for row in connection.execute(found)}
    if missing := [one for one in wanted if one not in known]:
        raise NotFound(f"no item {missing[0]} in this lab")
    fresh = tuple(one for one in wanted if known[one] is None)
    return fresh, tuple(sorted({*before, *wanted} - {*fresh}))


def _count(connection: Connection, item_ids: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for table in (*tables_about_items(), payloads):
        for part in pieces(item_ids):
            query = select(table.c.item_id).where(table.c.item_id.in_(part))
            counts[table.name] = counts.get(table.name, 0) + len(connection.execute(query).all())
    return {name: count for name, count in counts.items() if count}


def _files_to_remove(
    lab: Lab, connection: Connection, item_ids: Sequence[str], reach: Reach
) -> list[Path]:
    """Return the files and folders that hold the items' content, those that exist."""
    wanted: list[Path] = []
    for part in pieces(item_ids):
        query = select(payloads.c.payload_id).where(payloads.c.item_id.in_(part))
        wanted += [lab.payloads.path(one) for one in connection.execute(query).scalars()]
    # What a killed process had half written of a payload or a rendering.
    wanted += [one for one in files_below(lab.layout.payloads) if one.name.endswith(".part")]
    wanted += _work_folders(lab, connection, reach)
    # Rendered pages can be made again; a backup holds everything that was there when it was made.
    wanted += [*files_below(lab.layout.documents), *files_below(lab.layout.backups)]
    return [path for path in wanted if path.exists() or path.is_symlink()]


def _work_folders(lab: Lab, connection: Connection, reach: Reach) -> Iterator[Path]:
    """Yield what stands in the scratch folder and may hold texts of the items."""
    touched = {_folder_name(run) for run in reach.runs}
    others = {_folder_name(one) for one in connection.execute(select(runs.c.run_id)).scalars()}
    for path in _inside(lab.layout.scratch):
        if path.name == "runs":
            # A folder that no run names is a plan that was cut off: whose rows it holds is unknown.
            yield from (
                one
                for one in _inside(path)
                if one.suffix != ".lock" and (one.name in touched or one.name not in others)
            )
        elif path.suffix != ".lock" and not path.name.startswith(_KEPT_SCRATCH):
            yield path


@contextlib.contextmanager
def _not_training(lab: Lab, run_id: str) -> Iterator[None]:
    """Keep a run from being driven for a block. Raises LabBusy while it is."""
    folder = lab.layout.scratch / "runs" / _folder_name(run_id)
    if not folder.parent.is_dir():
        yield
        return
    with folder.with_suffix(".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabBusy(
                f"run {run_id} is training on these items; nothing was erased",
                hint="Stop the run, then erase again.",
            ) from None
        yield


def _require_empty_log(lab: Lab) -> None:
    log = Path(f"{lab.layout.database}-wal")
    if lab.database.is_sqlite and log.is_file() and log.stat().st_size:
        raise LabBusy(
            "another process is reading an old state of the database, which is still in its log",
            hint="When it is done, run the same command again: only this last step is missing.",
        )


def _out_of_reach(lab: Lab, reach: Reach) -> tuple[str, ...]:
    told = [f"export {one}: ask its recipient" for one in reach.exports]
    told += [f"model {one}: it learnt from the items; train anew without" for one in reach.models]
    if not lab.database.is_sqlite:
        told.append("the PostgreSQL server's write-ahead log, archives and backups")
    return tuple(told)


def _remove(path: Path) -> None:
    with storage_errors(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _folder_name(run_id: str) -> str:
    return run_id.removeprefix("sha256:")
