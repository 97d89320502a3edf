"""Label maps: when a task's options change, old labels come along instead of being orphaned.

Each old option is *kept* (the same name stands in the new contract), *renamed* or *merged* (it maps
to a new one), or *split* (it maps to nothing, because several new ones took its place): those items
are to be reviewed again. A mapped label is a new version with basis ``mapped``; the old one stays
in its history, and so does whether it is gold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select

from freehold.canonical.json import decode, encode_text
from freehold.errors import InputError, NotFound
from freehold.evidence.entries import Entry
from freehold.evidence.sequencer import publish
from freehold.lab.opened import Lab
from freehold.lab.schema import contracts, items, label_maps, labels
from freehold.records.ids import new_id
from freehold.records.spaces import Number, Space, space_from
from freehold.review.labels import replace_labels
from freehold.tasks.contract import Task, load_task, register_task

_BATCH = 100


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a label map did: labels brought over, and items that are to be reviewed again."""

    map_id: str
    mapped: int
    to_review: int


def apply_label_map(
    lab: Lab,
    task_name: str,
    mapping: Mapping[str, str | None],
    *,
    actor: str,
    from_contract: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Mapped:
    """Bring the current labels of an earlier contract over to the task's present one.

    `mapping` names, for each old option, the new one, or None where it was split. An option whose
    name stands in both may be left out: it is kept. `from_contract` may be left out while there is
    one earlier contract with current labels. Safe to repeat after a crash: it goes on. Raises
    InputError that lists the options which the map leaves open.
    """
    task = load_task(lab, task_name)
    with lab.writing() as connection:
        register_task(lab, connection, task, actor)
        earlier = from_contract or _earlier_contract(connection, task)
        complete = _complete(mapping, _options(_space(connection, earlier)), _options(task.space))
        map_id = _recorded(lab, connection, task, earlier, complete, actor)
        total = _left(connection, task, earlier)
    mapped = again = done = 0
    while True:
        with lab.writing() as connection:
            old = _batch(connection, task, earlier)
            if old:
                carried = _carry(lab, connection, task, old, complete, map_id, actor)
                mapped, again = mapped + carried, again + len(old) - carried
        if not old:
            break
        done += len(old)
        if on_progress:
            on_progress(done, total)
    publish(lab)
    return Mapped(map_id, mapped, again)


def _complete(
    mapping: Mapping[str, str | None], old: Sequence[str], new: Sequence[str]
) -> dict[str, str | None]:
    strangers = sorted(set(mapping) - set(old))
    if strangers:
        raise InputError(f"the map names {strangers[0]!r}, which the old contract does not have")
    unknown = sorted({name for name in mapping.values() if name is not None and name not in new})
    if unknown:
        raise InputError(f"the map leads to {unknown[0]!r}, which the task does not have")
    open_ = [name for name in old if name not in mapping and name not in new]
    if open_:
        raise InputError(
            f"the map says nothing about: {', '.join(open_)}",
            hint="Name a new option for each, or null where its items are to be reviewed again.",
        )
    return {name: mapping.get(name, name) for name in old}


def _options(space: Space) -> tuple[str, ...]:
    if isinstance(space, Number):
        raise InputError(
            "a task with numbers has no options to map", hint="Convert the numbers and import them."
        )
    return space.options


def _space(connection: Connection, contract_digest: str) -> Space:
    query = select(contracts.c.contract).where(contracts.c.contract_digest == contract_digest)
    text = connection.execute(query).scalar()
    if text is None:
        raise NotFound(f"no contract {contract_digest} in this lab")
    return space_from(decode(text)["output"])


def _earlier_contract(connection: Connection, task: Task) -> str:
    query = (
        select(labels.c.contract_digest)
        .where(
            labels.c.task == task.name,
            labels.c.is_current == 1,
            labels.c.contract_digest != task.contract_digest,
        )
        .distinct()
    )
    found = sorted(connection.execute(query).scalars())
    if not found:
        raise NotFound(f"no labels of an earlier contract of {task.name} are left to map")
    if len(found) > 1:
        raise InputError(
            f"labels of {len(found)} earlier contracts are there: name one of {', '.join(found)}"
        )
    return str(found[0])


def _recorded(
    lab: Lab,
    connection: Connection,
    task: Task,
    earlier: str,
    complete: Mapping[str, str | None],
    actor: str,
) -> str:
    """Return the id of this very map, written now unless an interrupted call wrote it."""
    text = encode_text(dict(complete))
    query = select(label_maps.c.map_id).where(
        label_maps.c.task == task.name,
        label_maps.c.from_contract == earlier,
        label_maps.c.to_contract == task.contract_digest,
        label_maps.c.mapping == text,
    )
    known = connection.execute(query).scalar()
    if known is not None:
        return str(known)
    entry = Entry(lab, connection, "label_map.added", actor, {"task": task.name})
    row = {"map_id": new_id("map"), "task": task.name, "from_contract": earlier}
    row |= {"to_contract": task.contract_digest, "mapping": text, "created_at": entry.at}
    entry.insert(label_maps, row | {"created_by": actor})
    entry.close()
    return str(row["map_id"])


def _of_earlier(task: Task, earlier: str) -> list[Any]:
    return [
        labels.c.task == task.name,
        labels.c.is_current == 1,
        labels.c.contract_digest == earlier,
        items.c.erased_at.is_(None),
    ]


def _left(connection: Connection, task: Task, earlier: str) -> int:
    joined = labels.join(items, items.c.item_id == labels.c.item_id)
    query = select(func.count()).select_from(joined).where(*_of_earlier(task, earlier))
    return int(connection.execute(query).scalar_one())


def _batch(connection: Connection, task: Task, earlier: str) -> list[RowMapping]:
    query = (
        select(labels)
        .join(items, items.c.item_id == labels.c.item_id)
        .where(*_of_earlier(task, earlier))
        .order_by(labels.c.label_id)
        .limit(_BATCH)
    )
    # One label of an item to a batch: labels of several paths replace each other by item.
    return list({row["item_id"]: row for row in connection.execute(query).mappings()}.values())


def _carry(
    lab: Lab,
    connection: Connection,
    task: Task,
    old: Sequence[RowMapping],
    complete: Mapping[str, str | None],
    map_id: str,
    actor: str,
) -> int:
    """Write the next version of each label; return how many have a value."""
    entry = Entry(lab, connection, "labels.mapped", actor, {"task": task.name, "map_id": map_id})
    fresh = [_next(entry, task, row, complete, map_id) for row in old]
    replace_labels(entry, fresh, {row["item_id"]: row for row in old})
    entry.close()
    return sum(row["state"] == "settled" for row in fresh)


def _next(
    entry: Entry, task: Task, old: RowMapping, complete: Mapping[str, str | None], map_id: str
) -> dict[str, Any]:
    value = _mapped_value(task, old["value"], complete) if old["state"] == "settled" else None
    settled = value is not None
    return {
        **{name: old[name] for name in ("item_id", "task", "path", "reviews")},
        "label_id": new_id("lbl"),
        "contract_digest": task.contract_digest,
        "version": old["version"] + 1,
        "value": value,
        "basis": "mapped",
        "state": "settled" if settled else "withdrawn",
        "gold": old["gold"] if settled else 0,
        "contamination": old["contamination"] if settled else None,
        "decided_by": map_id,
        "supersedes": old["label_id"],
        "is_current": 1,
        "created_at": entry.at,
    }


def _mapped_value(task: Task, text: str, complete: Mapping[str, str | None]) -> str | None:
    """Return the canonical value under the new contract; None where a part of it was split."""
    value = decode(text)
    given = [value] if isinstance(value, str) else value
    mapped = [complete[name] for name in given]
    if None in mapped:
        return None
    return encode_text(task.space.check(mapped[0] if isinstance(value, str) else mapped))
