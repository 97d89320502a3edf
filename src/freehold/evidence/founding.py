"""Founding a lab: its directory, its keys and the first entry of its ledger."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import func, select

from freehold.evidence.entries import SYSTEM, Entry
from freehold.evidence.keys import log_verifier, make_keys
from freehold.evidence.sequencer import publish
from freehold.lab.opened import Lab, init_lab
from freehold.lab.schema import ledger_entries, ledger_pending
from freehold.version import __version__


def found_lab(root: Path, *, name: str = "", database: str = "") -> Lab:
    """Make a lab with its keys and open it; the ledger's first entry names the key."""
    lab = init_lab(root, name=name, database=database)
    found_ledger(lab)
    return lab


def found_ledger(lab: Lab, **facts: str) -> None:
    """Make the keys and the first entry, where they are missing. Safe to repeat."""
    make_keys(lab)
    with lab.writing() as connection:
        counts = [
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (ledger_entries, ledger_pending)
        ]
        if not any(counts):
            body = {"freehold": __version__, "log_vkey": log_verifier(lab).vkey(), **facts}
            Entry(lab, connection, "lab.founded", SYSTEM, body).close()
    publish(lab)
