"""Files as people have them: columns under names of their own, texts with brackets."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from command_line import freehold, make_lab, ok

SHEET = """Ticket;Anfrage;Kategorie;Kunde;Person
1;money back [/b] please;refund;C1;P1
2;{long} [bold]card[/bold] lost;card;C2;P2
3;borrow some money here;loan;C1;P3
"""
NAMES = {"text": "Anfrage", "id": "Ticket", "entity": "Kunde", "subject": "Person"}
COLUMNS = [part for role, name in NAMES.items() for part in (f"--{role}-column", name)]


def _sheet(folder: Path) -> Path:
    path = folder / "past.csv"
    path.write_text(SHEET.format(long="word " * 60), encoding="utf-8")
    return path


def test_every_role_of_a_column_can_be_named(tmp_path: Path) -> None:
    """A run and an import find the same items; a person's items can be erased by their column."""
    lab, sheet = make_lab(tmp_path / "lab"), _sheet(tmp_path)
    ok("-C", lab, "run", "desk", "--input", sheet, "--model", "fake", *COLUMNS)
    label = ("--label-column", "Kategorie")
    taken = ok("-C", lab, "review", "import", "desk", sheet, *COLUMNS, *label)
    assert (taken["written"], taken["items_added"]) == (3, 0)
    with sqlite3.connect(lab / "state.db") as database:
        found = database.execute("select external_id, entity_key from items order by 1").fetchall()
    assert [external for external, _ in found] == ["1", "2", "3"]
    assert found[0][1] == found[2][1] != found[1][1]
    assert ok("-C", lab, "erase", "P3", "--plan")["rows"]["items"] == 1


def test_a_task_takes_its_labels_from_a_column_of_any_name(tmp_path: Path) -> None:
    lab, sheet = make_lab(tmp_path / "lab"), _sheet(tmp_path)
    new = ("-C", lab, "tasks", "new", "other", "--labels-from", sheet)
    refused = freehold(*new)
    assert refused.code == 2
    assert "--label-column" in refused.err
    assert ok(*new, "--label-column", "Kategorie")["options"] == ["card", "loan", "refund"]


def test_a_reviewer_sees_the_whole_text_and_ids_in_one_piece(tmp_path: Path) -> None:
    """Brackets in a text are no markup; nothing is cut, and no id is broken over two lines."""
    lab, sheet = make_lab(tmp_path / "lab"), _sheet(tmp_path)
    ok("-C", lab, "run", "desk", "--input", sheet, "--model", "fake", *COLUMNS)
    ok("-C", lab, "review", "queue", "desk", "-n", "3", "--split", "train")
    ok("-C", lab, "review", "queue", "desk", "-n", "3", "--split", "test")
    ok("-C", lab, "review", "queue", "desk", "-n", "3", "--split", "dev")
    seen = freehold("-C", lab, "--as", "Ann", "review", "next", "desk", "-n", "3")
    assert seen.code == 0
    assert "money back [/b] please" in seen.out
    assert "word " * 60 + " [bold]card[/bold] lost" in seen.out
    with sqlite3.connect(lab / "state.db") as database:
        ids = [one for (one,) in database.execute("select item_id from items")]
    assert all(one in seen.out for one in ids)


def test_a_table_shows_brackets_as_they_are(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab")
    ok("-C", lab, "people", "add", "Ann [/b] Lee")
    assert "Ann [/b] Lee" in freehold("-C", lab, "people", "list").out
