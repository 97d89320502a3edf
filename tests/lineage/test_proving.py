"""A receipt made by a lab holds by itself, shows what may be shown, and is never made of air."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from sqlalchemy import select, update

from freehold.errors import IntegrityError, NotFound
from freehold.evidence.keys import log_verifier
from freehold.evidence.notes import Signer
from freehold.evidence.proofs import verify_receipt
from freehold.evidence.witnessing import witness_head
from freehold.lab import open_lab
from freehold.lab.schema import decisions, licence_records
from freehold.lineage.proving import prove
from lab_history import History


def test_a_receipt_of_anything_holds_by_itself(history: History) -> None:
    trusted = [log_verifier(history.lab)]
    with history.lab.reading() as connection:
        licence = connection.execute(select(licence_records.c.licence_id).limit(1)).scalar_one()
    for record_id, table, kind in (
        (history.decisions[0], "decisions", "decision.answered"),
        (history.release.release_id, "releases", "release.promoted"),
        (history.dataset, "datasets", "dataset.built"),
        (history.model, "models", None),
        (history.run, "runs", "run.finished"),
        (history.review, "reviews", "review.submitted"),
        (history.items[0], "items", "items.taken_in"),
        (licence, "licence_records", None),
    ):
        proved = prove(history.lab, record_id)
        assert (proved.table, proved.key) == (table, record_id)
        verified = verify_receipt(proved.document, trusted)
        assert verified.entry["entry_id"] == proved.entry_id
        assert verified.index == proved.index
        assert kind in (None, verified.entry["kind"])
        about_an_item = table in ("decisions", "reviews", "items")
        assert proved.shown == bool(verified.opened) == (not about_an_item)


def test_what_concerns_an_item_is_shown_on_request_only(history: History) -> None:
    hidden = prove(history.lab, history.decisions[0])
    assert b'"probabilities"' not in hidden.document
    shown = prove(history.lab, history.decisions[0], show=True)
    verified = verify_receipt(shown.document, [log_verifier(history.lab)])
    row = json.loads(verified.opened[0].data)
    assert json.loads(row["value"]) == "refund"
    assert row["release_id"] == history.release.release_id
    with pytest.raises(IntegrityError, match="not signed by a trusted key"):
        verify_receipt(shown.document, [Signer.generate(history.lab.origin).verifier])


def test_a_receipt_carries_the_cosignatures_of_witnesses(history: History, tmp_path: Path) -> None:
    witness_head(history.lab, tmp_path / "witness", new_name="audit.example")
    proved = prove(history.lab, history.decisions[0])
    assert "audit.example" in json.loads(proved.document)["proof"]


def test_nothing_is_proved_of_a_row_that_was_altered(history: History, tmp_path: Path) -> None:
    shutil.copytree(history.lab.root, tmp_path / "copy")
    with open_lab(tmp_path / "copy") as copy:
        with copy.writing() as connection:
            altered = update(decisions).where(decisions.c.decision_id == history.decisions[1])
            connection.execute(altered.values(value='"loan"'))
        with pytest.raises(IntegrityError, match="is not what its entry committed to"):
            prove(copy, history.decisions[1], show=True)
        with pytest.raises(NotFound, match="nothing in this lab has the id"):
            prove(copy, "dec_none")
