"""Finding the text and the label: named, by name, by content, or an error that helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from freehold.errors import InputError
from freehold.tabular import SYNONYMS, Table, find_columns, open_table

WANTED = {"text": SYNONYMS["text"], "label": SYNONYMS["label"]}
MESSAGES = ["The parcel never arrived", "I was charged two times", "How do I close my account?"]


def table(tmp_path: Path, header: str, rows: list[str]) -> Table:
    path = tmp_path / "work.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return open_table(path)


def work(tmp_path: Path, header: str) -> Table:
    rows = [f"{n},{MESSAGES[n % 3]} {n},team {n % 2},2026-01-{n % 9 + 1:02d}" for n in range(60)]
    return table(tmp_path, header, rows)


@pytest.mark.parametrize(
    ("header", "given", "found", "how"),
    [
        ("id,text,label", {}, ("text", "label"), ("name", "name")),
        ("id,BODY,CATEGORY", {}, ("BODY", "CATEGORY"), ("name", "name")),
        ("nr,was,label", {}, ("was", "label"), ("content", "name")),
        ("nr,text,ziel", {"label": "ziel"}, ("text", "ziel"), ("name", "given")),
        ("nr,was,ziel", {}, ("was", "ziel"), ("content", "content")),
        (
            "id,Message Body,Customer-Intent",
            {"text": "message_body", "label": None},
            ("Message Body", "Customer-Intent"),
            ("given", "content"),
        ),
    ],
)
def test_columns_are_found(
    tmp_path: Path,
    header: str,
    given: dict[str, str | None],
    found: tuple[str, str],
    how: tuple[str, str],
) -> None:
    """And how each was found is said, so that a guess can be shown to the user."""
    rows = [f"{n},{MESSAGES[n % 3]} {n},team {n % 2}" for n in range(60)]
    columns = find_columns(table(tmp_path, header, rows), WANTED, given)
    assert (columns["text"], columns["label"]) == found
    assert (columns.how["text"], columns.how["label"]) == how


def test_banking77_needs_no_naming(shared_data: Path) -> None:
    """Real data: its label column is called category."""
    columns = find_columns(open_table(shared_data / "banking77/train.csv"), WANTED)
    assert (columns["text"], columns["label"]) == ("text", "category")


def test_a_role_may_be_optional(tmp_path: Path) -> None:
    """An incumbent's answer is welcome, not needed."""
    wanted = {**WANTED, "incumbent": SYNONYMS["incumbent"]}
    columns = find_columns(work(tmp_path, "id,text,label,date"), wanted, optional=["incumbent"])
    assert "incumbent" not in columns
    assert columns.get("incumbent") is None


@pytest.mark.parametrize(
    ("header", "given", "message"),
    [
        ("a,b,c,d", {"text": "body"}, "no column 'body' for the text"),
        ("a,b,c,d", {}, "cannot tell which column holds the label; its columns are: 'a', 'b'"),
    ],
)
def test_what_cannot_be_told_is_asked(
    tmp_path: Path, header: str, given: dict[str, str | None], message: str
) -> None:
    """Two columns could be the label (a team, a date): the error lists the columns."""
    with pytest.raises(InputError, match=message) as caught:
        find_columns(work(tmp_path, header), WANTED, given)
    assert "--label-column" in caught.value.hint or "Its columns are" in caught.value.hint


def test_two_long_texts_are_not_guessed_between(tmp_path: Path) -> None:
    """Question or answer? Only the user knows."""
    rows = [f"{MESSAGES[n % 3]} {n},{MESSAGES[(n + 1) % 3]} {n},t{n % 2}" for n in range(30)]
    with pytest.raises(InputError, match="cannot tell which column holds the text"):
        find_columns(table(tmp_path, "a,b,c", rows), WANTED)


def test_no_rows_no_guess(tmp_path: Path) -> None:
    """With a header alone there is no content to look at."""
    with pytest.raises(InputError, match="cannot tell which column holds the text"):
        find_columns(table(tmp_path, "a,b", []), WANTED)
