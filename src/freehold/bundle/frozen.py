"""The frozen lists of a bundle: datasets and suites, with results, and what the harness needs.

    datasets/<name>@<n>/manifest.json    root, the entry that holds it, splits, what was left out
    datasets/<name>@<n>/rows.jsonl       each row with its salt and commitment, in order
    datasets/<name>@<n>/texts.jsonl      the texts of its items
    datasets/<name>@<n>/exclusions.jsonl what was left out and why, in the same form
    datasets/<name>@<n>/rows.parquet     rows and texts in one table, for other tools
    suites/<name>@<n>/…                  the same with cases.jsonl
    suites/<name>@<n>/results/<evaluation>/…   manifest.json and results.jsonl

The row of an erased item is its commitment and the word that it was erased.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, select

from freehold.bundle.layout import folder_name
from freehold.bundle.snapshot import Snapshot
from freehold.bundle.staging import Staging
from freehold.canonical.json import decode
from freehold.lab.schema import (
    dataset_exclusions,
    dataset_rows,
    datasets,
    evaluation_results,
    evaluations,
    salts,
    suite_cases,
    suites,
)
from freehold.workflows.items import item_texts

_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One finished evaluation in the bundle: its row, and the folders of its suite and results."""

    row: dict[str, Any]
    suite: str
    results: str


def write_datasets(bundle: Staging, taken: Snapshot) -> None:
    """Write every dataset with its rows, texts and exclusions."""
    names: set[str] = set()
    for row in taken.of_task(datasets):
        folder = _folder("datasets", row, names)
        owner = str(row["dataset_id"])
        manifest = _described(row)
        entry = taken.entry_of_root("dataset_rows", owner)
        bundle.write_record(f"{folder}/manifest.json", manifest | _bound(entry))
        _write_list(bundle, taken, f"{folder}/rows.jsonl", dataset_rows, owner)
        _write_list(bundle, taken, f"{folder}/exclusions.jsonl", dataset_exclusions, owner)
        _write_texts(bundle, taken, folder, dataset_rows, owner)
        _write_parquet(bundle, taken, folder, owner)
        bundle.mark_personal(folder)


def write_suites(bundle: Staging, taken: Snapshot) -> list[Evaluated]:
    """Write every suite with its cases and the results of each finished evaluation on it."""
    names: set[str] = set()
    found: list[Evaluated] = []
    for row in taken.of_task(suites):
        folder = _folder("suites", row, names)
        owner = str(row["suite_id"])
        manifest = _described(row)
        entry = taken.entry_of_root("suite_cases", owner)
        bundle.write_record(f"{folder}/manifest.json", manifest | _bound(entry))
        _write_list(bundle, taken, f"{folder}/cases.jsonl", suite_cases, owner)
        _write_texts(bundle, taken, folder, suite_cases, owner)
        bundle.mark_personal(folder)
        done = (evaluations.c.suite_id == owner, evaluations.c.state == "done")
        found += [_write_results(bundle, taken, folder, e) for e in taken.rows(evaluations, *done)]
    return found


def _folder(kind: str, row: dict[str, Any], names: set[str]) -> str:
    return f"{kind}/{folder_name(str(row['name']) + '@' + str(row['number']), names)}"


def _write_results(bundle: Staging, taken: Snapshot, suite: str, row: dict[str, Any]) -> Evaluated:
    owner = str(row["evaluation_id"])
    folder = f"{suite}/results/{owner}"
    entry = taken.entry_of_root("evaluation_results", owner)
    manifest = _described(row) | _bound(entry)
    bundle.write_record(f"{folder}/manifest.json", manifest)
    _write_list(bundle, taken, f"{folder}/results.jsonl", evaluation_results, owner)
    return Evaluated(row, suite, folder)


def _bound(entry_id: str | None) -> dict[str, str]:
    """Return the member that names the entry which holds the root, where there is one."""
    return {} if entry_id is None else {"entry_id": entry_id}


def _described(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its structured columns opened."""
    structured = {"manifest", "metrics", "execution"}
    return {
        name: decode(value) if name in structured and value is not None else value
        for name, value in row.items()
        if name != "entry_id"
    }


def _write_list(bundle: Staging, taken: Snapshot, name: str, table: Table, owner: str) -> None:
    bundle.write_rows(name, (_proved(row, salt) for row, salt in _salted(taken, table, owner)))


def _proved(row: dict[str, Any], salt: bytes | None) -> dict[str, Any]:
    plain = {name: value for name, value in row.items() if name != "commitment"}
    if salt is None:
        return {"commitment": row["commitment"], "erased": True}
    return {"commitment": row["commitment"], "row": plain, "salt": salt.hex()}


def _salted(
    taken: Snapshot, table: Table, owner: str
) -> Iterator[tuple[dict[str, Any], bytes | None]]:
    """Yield an owner's small rows in order, each with its item's salt; None where it is mute."""
    owned = next(iter(table.primary_key.columns)) == owner
    query = (
        select(table, salts.c.salt.label("_salt"))
        .outerjoin(salts, salts.c.item_id == table.c.item_id)
        .where(owned)
        .order_by(table.c.position)
    )
    streaming = taken.connection.execution_options(yield_per=_AT_ONCE)
    for found in streaming.execute(query).mappings():
        row = dict(found)
        salt = row.pop("_salt")
        yield row, None if salt is None or not taken.payloads else bytes(salt)


def _write_texts(bundle: Staging, taken: Snapshot, folder: str, table: Table, owner: str) -> None:
    if taken.payloads:
        bundle.write_rows(f"{folder}/texts.jsonl", _texts(taken, table, owner))


def _texts(taken: Snapshot, table: Table, owner: str) -> Iterator[dict[str, str]]:
    owned = next(iter(table.primary_key.columns)) == owner
    query = select(table.c.item_id).where(owned).distinct().order_by(table.c.item_id)
    listed = [str(item) for item in taken.connection.execute(query).scalars()]
    for start in range(0, len(listed), _AT_ONCE):
        some = listed[start : start + _AT_ONCE]
        texts = item_texts(taken.lab, taken.connection, some)
        for item in some:
            if item in texts:
                yield {"item_id": item, "text": texts[item]}


def _write_parquet(bundle: Staging, taken: Snapshot, folder: str, owner: str) -> None:
    """Write rows and texts as one table: a rendering, whose truth is rows.jsonl."""
    if not taken.payloads:
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = {one["item_id"]: one["text"] for one in _texts(taken, dataset_rows, owner)}
    rows = [row for row, salt in _salted(taken, dataset_rows, owner) if salt is not None]
    columns: dict[str, list[Any]] = {
        name: [row[name] for row in rows]
        for name in ("row_id", "item_id", "label_id", "split", "weight_ppb", "licence")
    }
    columns["value"] = [row["value"] for row in rows]
    columns["text"] = [texts.get(str(row["item_id"])) for row in rows]
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    pq.write_table(table, bundle.path(f"{folder}/rows.parquet"), compression="zstd")
