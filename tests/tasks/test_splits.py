"""Splits follow a stated rule, are the same every time, and never change."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest

from freehold.errors import Conflict, InputError, SettingsError
from freehold.tasks.splits import (
    Placing,
    SplitRule,
    assign,
    named_split,
    normalised,
    require_same,
)


def key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def split(rule: SplitRule, placing: Placing) -> tuple[str, str]:
    assigned = assign(rule, placing, dev_percent=10, test_percent=20)
    return assigned.split, assigned.rule


def test_the_hash_keeps_the_percentages_and_the_groups() -> None:
    """Shares come out within four standard deviations; equal keys share a split."""
    found = Counter(split(SplitRule(), Placing(key(str(n))))[0] for n in range(10_000))
    assert abs(found["test"] - 2000) < 160
    assert abs(found["dev"] - 1000) < 120
    assert split(SplitRule(), Placing(key("x"))) == split(SplitRule(), Placing(key("x")))


@pytest.mark.parametrize(
    ("rule", "placing", "expected"),
    [
        (SplitRule(test_percent=0, dev_percent=0), Placing("f" * 64), ("train", "hash")),
        (SplitRule(test_percent=99, dev_percent=0), Placing("0" * 64), ("test", "hash")),
        (SplitRule("group", "case"), Placing("f" * 64), ("train", "group")),
        (SplitRule(), Placing("0" * 64, given="Validation"), ("dev", "given")),
        (SplitRule("given"), Placing("0" * 64, given="train"), ("train", "given")),
        (
            SplitRule("time", dev_from="2025-06-01", test_from="2026-01-01"),
            Placing("0" * 64, event_time="2026-01-01T00:00:00.000000Z"),
            ("test", "time"),
        ),
        (
            SplitRule("time", dev_from="2025-06-01", test_from="2026-01-01T00:00:00Z"),
            Placing("0" * 64, given="test", event_time="2025-12-31T23:59:59+00:00"),
            ("dev", "time"),
        ),
        (
            SplitRule("time", test_from="2026-01-01T00:00:00Z"),
            Placing("0" * 64, event_time="2026-01-01T00:30:00+01:00"),
            ("train", "time"),
        ),
    ],
)
def test_each_rule(rule: SplitRule, placing: Placing, expected: tuple[str, str]) -> None:
    assert split(rule, placing) == expected


@pytest.mark.parametrize(
    ("rule", "placing", "match"),
    [
        (SplitRule("given"), Placing("0" * 64), "this row gives none"),
        (SplitRule("given"), Placing("0" * 64, given="later"), "unknown split 'later'"),
        (SplitRule("time", test_from="2026-01-01"), Placing("0" * 64), "has no event time"),
        (
            SplitRule("time", test_from="2026-01-01"),
            Placing("0" * 64, event_time="May"),
            "'May' is not an ISO 8601 time",
        ),
    ],
)
def test_a_row_without_what_the_rule_needs(rule: SplitRule, placing: Placing, match: str) -> None:
    with pytest.raises(InputError, match=match):
        split(rule, placing)


def test_splits_never_change() -> None:
    require_same("itm_1", "test", "test")
    with pytest.raises(Conflict, match="itm_1 is in test and would now be in train"):
        require_same("itm_1", "test", "train")


def test_names_and_texts_are_normalised() -> None:
    assert named_split(" VAL ") == "dev"
    assert normalised("  Ｆull\u00a0WIDTH\n text ") == "full width text"
    with pytest.raises(SettingsError, match="dev_from lies after test_from"):
        SplitRule("time", dev_from="2026-02-01", test_from="2026-01-01")
