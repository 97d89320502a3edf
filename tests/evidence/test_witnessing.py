"""A second place that remembers: it cosigns what continues, and refuses what does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from freehold.errors import ForkDetected, IntegrityError, NotFound
from freehold.evidence.entries import Entry
from freehold.evidence.notes import open_note
from freehold.evidence.sequencer import latest_checkpoint
from freehold.evidence.witness import Witness
from freehold.evidence.witnessing import with_cosignatures, witness_head
from freehold.lab import Lab, open_lab


def append(lab: Lab, count: int, word: str = "counted") -> None:
    with lab.writing() as connection:
        for number in range(count):
            Entry(lab, connection, f"test.{word}", "system", {"number": number}).close()


def test_growing_heads_are_cosigned(lab: Lab, tmp_path: Path) -> None:
    """Each head continues the last, and the cosignature can be checked by anyone."""
    first = witness_head(lab, tmp_path / "witness", new_name="audit.example/one")
    append(lab, 300)
    second = witness_head(lab, tmp_path / "witness")
    assert (first.previous, second.previous, second.size) == (0, first.size, first.size + 300)
    head = latest_checkpoint(lab)
    assert head is not None
    note = with_cosignatures(lab, head[1])
    verifier = Witness(tmp_path / "witness").verifier
    assert open_note(note, [verifier]).signed_by(verifier)


def test_the_same_head_is_cosigned_again(sqlite_lab: Lab, tmp_path: Path) -> None:
    """Asking twice does no harm."""
    witness_head(sqlite_lab, tmp_path / "witness", new_name="audit.example/one")
    again = witness_head(sqlite_lab, tmp_path / "witness")
    assert again.previous == again.size


def test_a_restored_backup_is_refused(sqlite_lab: Lab, tmp_path: Path) -> None:
    """Only the witness can know that a whole lab was put back to yesterday."""
    yesterday = tmp_path / "yesterday"
    append(sqlite_lab, 5)
    witness_head(sqlite_lab, tmp_path / "witness", new_name="audit.example/one")
    sqlite_lab.database.truncate_log()
    shutil.copytree(sqlite_lab.root, yesterday)
    append(sqlite_lab, 5)
    witness_head(sqlite_lab, tmp_path / "witness")
    with open_lab(yesterday) as restored:
        with pytest.raises(IntegrityError, match="rolled back"):
            witness_head(restored, tmp_path / "witness")
        append(restored, 9, "invented")
        with pytest.raises(ForkDetected, match="does not continue"):
            witness_head(restored, tmp_path / "witness")
    assert len(list((tmp_path / "witness" / "forks").iterdir())) == 2


def test_a_missing_witness_says_how_to_make_one(sqlite_lab: Lab, tmp_path: Path) -> None:
    """The error names the command."""
    with pytest.raises(NotFound, match="no witness in") as caught:
        witness_head(sqlite_lab, tmp_path / "nowhere")
    assert "--new" in caught.value.hint
