"""A task: what is asked of an item (the contract), and in which words (the wording).

People write one in ``tasks/NAME.toml``. Contract and wording are digested apart: better guidelines
are a new wording, and every label made under the contract stays valid::

    name = "support"

    [contract]
    output = "choice"                      # choice, labels or number
    options = ["refund", "card_lost"]      # number: low, high, unit, bins
    inputs = ["text"]

    [wording]
    instructions = "Which queue does this message belong to?"   # what models are told
    guidelines = "When both apply, refund wins."                # what reviewers are told too

    [wording.options]
    refund = "the customer wants money back"

    [split]
    rule = "hash"                          # hash, given, group or time

    [sampling]
    uniform_percent = 20                   # how the review queue chooses, in shares of 100

An unknown key is an error that names the file, the key and the nearest known one.
"""

from __future__ import annotations

import json
from pathlib import Path

from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError as RowExists

from freehold.canonical.json import decode, encode_text
from freehold.errors import Conflict, NotFound
from freehold.evidence.entries import Entry
from freehold.lab.atomic import write_atomically
from freehold.lab.opened import Lab
from freehold.lab.schema import contracts, wordings
from freehold.records.spaces import Number, Space, space_from
from freehold.tasks.definition import Sampling, Task, Wording
from freehold.tasks.reading import check_name, parse_task, read_task
from freehold.tasks.splits import SplitRule

__all__ = [
    "Sampling",
    "Task",
    "Wording",
    "list_tasks",
    "load_task",
    "recorded_task",
    "register_task",
    "task_path",
    "write_task",
]


def load_task(lab: Lab, name: str) -> Task:
    """Return a task of this lab; NotFound lists those there are, SettingsError names the key."""
    path = task_path(lab, name)
    if not path.is_file():
        known = ", ".join(list_tasks(lab)) or "none"
        raise NotFound(
            f"no task {name!r}; this lab has: {known}",
            hint=f"Write {path.relative_to(lab.root)}, or make it from a list of labels.",
        )
    return read_task(path)


def list_tasks(lab: Lab) -> list[str]:
    """Return the names of the tasks that people wrote, sorted."""
    return sorted(path.stem for path in lab.layout.tasks.glob("*.toml"))


def task_path(lab: Lab, name: str) -> Path:
    """Return the file of a task."""
    return lab.layout.tasks / f"{check_name(name)}.toml"


def write_task(
    lab: Lab,
    name: str,
    space: Space,
    *,
    wording: Wording | None = None,
    split: SplitRule | None = None,
) -> Task:
    """Write ``tasks/NAME.toml`` and return the task; for a list of labels, `space` is a `Choice`.

    Raises Conflict when a different task of this name is there, SettingsError for labels that no
    task can have (empty, repeated, with control characters).
    """
    path = task_path(lab, name)
    text = _render(name, space, wording or Wording(), split or SplitRule())
    task = parse_task(text, str(path))
    if path.exists():
        if load_task(lab, name) != task:
            raise Conflict(f"{path} is there already and says something else")
        return task
    write_atomically(path, text.encode())
    return task


def register_task(lab: Lab, connection: Connection, task: Task, actor: str) -> None:
    """Put a task's contract and wording on the record, each once. Safe to repeat and to race."""
    try:
        with connection.begin_nested():
            _register(lab, connection, task, actor)
    except RowExists:
        # Another process registered it in the meantime, and its entry says so.
        return


def recorded_task(connection: Connection, contract_digest: str, wording_digest: str) -> Task:
    """Return a task as it was when it was registered, whatever its file says today."""
    contract = connection.execute(
        select(contracts.c.contract).where(contracts.c.contract_digest == contract_digest)
    ).scalar()
    wording = connection.execute(
        select(wordings.c.wording).where(wordings.c.wording_digest == wording_digest)
    ).scalar()
    if contract is None or wording is None:
        missing = contract_digest if contract is None else wording_digest
        raise NotFound(f"no contract or wording {missing} in this lab")
    said, words = decode(contract), decode(wording)
    return Task(
        name=said["task"],
        space=space_from(said["output"]),
        wording=Wording(words["instructions"], words["guidelines"], words["options"]),
        inputs=tuple(one["name"] for one in said["inputs"]),
    )


def _register(lab: Lab, connection: Connection, task: Task, actor: str) -> None:
    known_contract = connection.execute(
        select(contracts.c.contract_digest).where(
            contracts.c.contract_digest == task.contract_digest
        )
    ).scalar()
    known_wording = connection.execute(
        select(wordings.c.wording_digest).where(wordings.c.wording_digest == task.wording_digest)
    ).scalar()
    if known_contract and known_wording:
        return
    entry = Entry(lab, connection, "task.registered", actor, {"task": task.name})
    common = {"task": task.name, "created_at": entry.at}
    if not known_contract:
        row = {"contract_digest": task.contract_digest, "contract": encode_text(task.contract)}
        entry.insert(contracts, row | common)
    if not known_wording:
        row = {"wording_digest": task.wording_digest, "wording": encode_text(task.wording_record)}
        entry.insert(wordings, row | common)
    entry.close()


def _render(name: str, space: Space, wording: Wording, split: SplitRule) -> str:
    lines = [f"name = {_quoted(name)}", "", "[contract]", f"output = {_quoted(space.kind)}"]
    if isinstance(space, Number):
        lines += [f'low = "{space.low}"', f'high = "{space.high}"']
        lines += [f"unit = {_quoted(space.unit)}", f"bins = {space.bins}"]
    else:
        lines += ["options = [", *(f"    {_quoted(one)}," for one in space.options), "]"]
    lines += ['inputs = ["text"]', "", "[wording]"]
    lines += [f"instructions = {_quoted(wording.instructions)}"]
    lines += [f"guidelines = {_quoted(wording.guidelines)}"]
    if wording.options:
        lines += ["", "[wording.options]"]
        lines += [f"{_quoted(key)} = {_quoted(words)}" for key, words in wording.options.items()]
    elif space.kind != "number":
        lines += ["", "# What each option means; a model goes by it before any review exists."]
        lines += ["# [wording.options]"]
        lines += [f'# {_quoted(option)} = ""' for option in space.options]
    lines += ["", "[split]"]
    lines += [
        f"{key} = {_quoted(value) if isinstance(value, str) else value}"
        for key, value in split.stated().items()
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    # A JSON text is a TOML basic string, but for the one control character that JSON lets stand.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
