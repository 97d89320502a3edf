"""Leaks, on small cases of each kind and on the real test set that is known to leak."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from freehold.datasets.leaks import Guard, Known

LONG = "please tell me what became of the parcel that i sent to leeds on the second of may"
CASE = Known("case", LONG, "customer-1")


@pytest.mark.parametrize(
    ("row", "way"),
    [
        (Known("case", LONG), "same_item"),
        (Known("row", LONG), "exact"),
        (Known("row", LONG.upper() + "?"), "normalised"),
        (Known("row", LONG[:-2] + "ay"), "exact"),
        (Known("row", LONG + " please"), "near_duplicate"),
        (Known("row", " ".join(LONG.split()[2:16]) + " and nothing else at all " * 5), "word_run"),
        (Known("row", "quite another matter", "customer-1"), "entity"),
    ],
)
def test_each_way_is_told(row: Known, way: str) -> None:
    (leak,) = Guard([CASE]).leaks([row])
    assert (leak.row_item, leak.case_item, leak.way) == (row.item_id, "case", way)


@pytest.mark.parametrize(
    "row",
    [
        Known("row", "quite another matter", "customer-2"),
        Known("row", "quite another matter", None),
        Known("row", " ".join(LONG.split()[2:14]) + " and nothing else at all " * 5),
    ],
)
def test_what_is_no_leak(row: Known) -> None:
    assert Guard([CASE]).leaks([row]) == []


def test_no_entity_is_not_an_entity() -> None:
    assert Guard([Known("case", LONG, None)]).leaks([Known("row", "other", None)]) == []


def test_boilerplate_is_no_leak() -> None:
    """A footer that eleven cases share says nothing about any of them."""
    footer = " this message is meant for the person named above and for nobody else at all"
    cases = [Known(f"case{n}", f"{n * 7919:x} {n} {LONG[n : n + 30]}{footer}") for n in range(11)]
    row = Known("row", "my own words on quite another matter" + footer)
    assert Guard(cases).leaks([row]) == []
    assert {leak.way for leak in Guard(cases[:10]).leaks([row])} == {"word_run"}


def test_no_cases_no_leaks() -> None:
    assert Guard([]).leaks([CASE]) == []


def banking(folder: Path, name: str) -> list[Known]:
    with (folder / "banking77" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return [Known(f"{name}{n}", one["text"]) for n, one in enumerate(csv.DictReader(file))]


def test_the_leaks_of_banking77(shared_data: Path) -> None:
    """Six test texts are in the training set but for case and space; there are more like them."""
    test, train = banking(shared_data, "test"), banking(shared_data, "train")
    pairs = Guard(test).leaks(train)
    folded = {known.text.strip().lower() for known in train}
    six = {known.item_id for known in test if known.text.strip().lower() in folded}
    same = {pair.case_item for pair in pairs if pair.way in ("exact", "normalised")}
    assert len(six) == 6
    assert six < same
    assert Counter(pair.way for pair in pairs) == {
        "normalised": 11, "near_duplicate": 11, "word_run": 28,
    }  # fmt: skip
