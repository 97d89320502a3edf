"""Renderings: what stands in the files, what leaves on the record, what erasure takes out."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sqlalchemy import select

from datasets_in_labs import Fill, on_sqlite
from freehold.canonical.json import decode, encode
from freehold.datasets.building import build_dataset
from freehold.datasets.rendering import (
    canonical_lines,
    export_dataset,
    render_again,
    render_dataset,
)
from freehold.errors import Conflict, InputError
from freehold.evidence.entries import root_over
from freehold.evidence.verification import verify_lab
from freehold.lab import Lab
from freehold.lab.schema import dataset_rows, exports
from freehold.records.spaces import Labels
from labelled_files import OPTIONS, blank_item, item_of, row, some_rows


@on_sqlite
def test_parquet_holds_every_row_with_its_lineage(lab: Lab, fill: Fill) -> None:
    rows = [dict(one, licence="CC0-1.0") for one in some_rows(5)]
    dataset = build_dataset(lab, "support", name="d", actor=fill(rows))
    made = render_dataset(lab, "d")
    table = pq.read_table(made.parquet).to_pylist()
    assert {one["text"]: one["value"] for one in table} == {r["text"]: r["label"] for r in rows}
    assert {one["licence"] for one in table} == {"CC0-1.0"}
    assert {one["external_id"] for one in table} == {r["id"] for r in rows}
    assert all(len(one["reviews"]) == 1 for one in table)
    assert decode(made.manifest.read_bytes().strip())["manifest"]["root"] == dataset.root
    assert made.parquet.is_relative_to(lab.layout.payloads)
    assert made.parquet.stat().st_mode & 0o077 == 0


@on_sqlite
def test_several_labels_are_a_list_column(lab: Lab, fill: Fill) -> None:
    actor = fill([row("a", "my card and my loan", "card|loan")], space=Labels(OPTIONS))
    build_dataset(lab, "support", name="d", actor=actor)
    (one,) = pq.read_table(render_dataset(lab, "d").parquet).to_pylist()
    assert one["value"] == ["card", "loan"]


def test_what_leaves_is_on_the_record(lab: Lab, fill: Fill, tmp_path: Path) -> None:
    actor = fill(some_rows(4))
    build_dataset(lab, "support", name="d", actor=actor)
    made = export_dataset(lab, "d", tmp_path / "out", recipient="audit team", actor=actor)
    with lab.reading() as connection:
        (one,) = connection.execute(select(exports)).all()
    assert (one.export_id, one.recipient, one.kind) == (made.export_id, "audit team", "dataset")
    assert len(decode(one.item_ids)) == 4
    assert pq.read_table(made.parquet).num_rows == 4
    assert verify_lab(lab).faults == ()
    with pytest.raises(Conflict, match=r"d-1\.parquet exists"):
        export_dataset(lab, "d", tmp_path / "out", recipient="audit team", actor=actor)
    with pytest.raises(InputError, match="an export names its recipient"):
        export_dataset(lab, "d", tmp_path / "else", recipient=" ", actor=actor)


@on_sqlite
def test_erasure_makes_renderings_anew(lab: Lab, fill: Fill) -> None:
    build_dataset(lab, "support", name="d", actor=fill(some_rows(4)))
    before = render_dataset(lab, "d")
    gone = item_of(lab, "train2")
    blank_item(lab, gone)
    (after,) = render_again(lab, [gone])
    assert (after.parquet, after.rows, after.erased) == (before.parquet, 3, 1)
    ids = pq.read_table(after.parquet).column("item_id").to_pylist()
    assert gone not in ids
    assert render_again(lab, ["item_unknown"]) == []


def test_a_stranger_recomputes_commitments_and_root(lab: Lab, fill: Fill) -> None:
    """With nothing but the lines: HMAC over the canonical row, RFC 6962 over the commitments."""
    dataset = build_dataset(lab, "support", name="d", actor=fill(some_rows(5)))
    blank_item(lab, item_of(lab, "train1"))
    lines = [json.loads(line) for line in canonical_lines(lab, dataset_rows, dataset.dataset_id)]
    assert root_over([line["commitment"] for line in lines]) == dataset.root
    whole = [line for line in lines if line["row"] is not None]
    assert len(whole) == 4
    for line in whole:
        salt = bytes.fromhex(line["salt"])
        made = hmac.new(salt, encode(line["row"]), hashlib.sha256).hexdigest()
        assert line["commitment"] == f"hmac-sha256:{made}"
    (erased,) = [line for line in lines if line["row"] is None]
    assert erased["salt"] is None
