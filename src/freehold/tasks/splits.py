"""Which items may train and which may judge: assigned once, by a stated rule, never changed.

`assign` is a pure function of the rule and of what is known of one item. Under ``hash`` all items
of one entity (a customer, a patient, a case) share a split, so that a model is never judged on
people it has learnt from; where an item has no entity, equal texts share one.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from freehold.errors import Conflict, InputError, SettingsError

SPLITS = ("train", "dev", "test")
RULES = ("hash", "given", "group", "time")
_NAMES = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
    "testing": "test",
    "holdout": "test",
}
_HEX_DIGITS = 13  # 52 bits: more than any percentage needs


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How a task's items get their split.

    ``hash``: by a keyed hash of the entity. ``group``: the same over the column `group`.
    ``given``: by the file's split column. ``time``: events from `dev_from` on are dev, from
    `test_from` on test (ISO 8601). Percentages left out come from the lab's settings.
    """

    rule: str = "hash"
    group: str | None = None
    dev_from: str | None = None
    test_from: str | None = None
    dev_percent: int | None = None
    test_percent: int | None = None

    def __post_init__(self) -> None:
        """Refuse a rule that could not assign an item, and keys that it would not use."""
        if self.rule not in RULES:
            raise SettingsError(f"unknown rule {self.rule!r}; known: {', '.join(RULES)}")
        if (self.group is not None) != (self.rule == "group"):
            raise SettingsError("group = COLUMN goes with rule = 'group', and only with it")
        times = (self.dev_from, self.test_from)
        if self.rule == "time" and self.test_from is None:
            raise SettingsError("rule 'time' needs test_from, the time from which items are test")
        if self.rule != "time" and times != (None, None):
            raise SettingsError(f"rule {self.rule!r} does not use dev_from and test_from")
        if self.rule == "time":
            bounds = [_moment(text) for text in times if text is not None]
            if bounds != sorted(bounds):
                raise SettingsError("dev_from lies after test_from: nothing would be dev")
        shares = (self.dev_percent, self.test_percent)
        if self.rule not in ("hash", "group") and shares != (None, None):
            raise SettingsError(f"rule {self.rule!r} does not use dev_percent and test_percent")
        check_shares(self.dev_percent or 0, self.test_percent or 0)

    def stated(self) -> dict[str, Any]:
        """Return the keys that were given, as they stand in the task's file."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Placing:
    """What is known of one item: the keyed hash of its group, the split and time the file gives."""

    group_key: str
    given: str | None = None
    event_time: str | None = None


@dataclass(frozen=True, slots=True)
class Assigned:
    """The split of one item, and the rule that decided."""

    split: str
    rule: str
    group_key: str | None


def assign(rule: SplitRule, placing: Placing, *, dev_percent: int, test_percent: int) -> Assigned:
    """Return the split of one item. The percentages are the lab's, for a rule that names none.

    A split that the file gives for a row wins over a rule by hash or group, and says ``given``:
    published test sets stay test sets. Raises InputError where the rule lacks what it needs.
    """
    if placing.given is not None and rule.rule != "time":
        return Assigned(named_split(placing.given), "given", placing.group_key)
    if rule.rule == "given":
        raise InputError("the task's splits are given by the file, and this row gives none")
    if rule.rule == "time":
        return Assigned(_by_time(rule, placing.event_time), "time", placing.group_key)
    dev = dev_percent if rule.dev_percent is None else rule.dev_percent
    test = test_percent if rule.test_percent is None else rule.test_percent
    check_shares(dev, test)
    place = int(placing.group_key[:_HEX_DIGITS], 16) * 100 // 16**_HEX_DIGITS
    split = "test" if place < test else "dev" if place < test + dev else "train"
    return Assigned(split, rule.rule, placing.group_key)


def require_same(item_id: str, before: str, now: str) -> None:
    """Raise Conflict when an item that has a split would get another one."""
    if before != now:
        raise Conflict(
            f"item {item_id} is in {before} and would now be in {now}",
            hint="Splits never change: a test item that trained once may never judge again.",
        )


def named_split(text: str) -> str:
    """Return train, dev or test for a name that people use for it; InputError for any other."""
    split = _NAMES.get(text.strip().lower())
    if split is None:
        raise InputError(f"unknown split {text!r}; known: {', '.join(sorted(_NAMES))}")
    return split


def normalised(text: str) -> str:
    """Return a text without differences that nobody reads: case, width, runs of space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def check_shares(dev: int, test: int) -> None:
    """Raise SettingsError unless two percentages leave something to train on."""
    if dev < 0 or test < 0 or dev + test >= 100:
        raise SettingsError(
            f"dev_percent {dev} and test_percent {test} leave nothing to train on",
            hint="Each is 0 or more, together less than 100.",
        )


def _by_time(rule: SplitRule, event_time: str | None) -> str:
    if event_time is None:
        raise InputError("the task splits by time, and this row has no event time")
    when = _moment(event_time)
    if rule.test_from is not None and when >= _moment(rule.test_from):
        return "test"
    return "dev" if rule.dev_from is not None and when >= _moment(rule.dev_from) else "train"


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{text!r} is not an ISO 8601 time such as 2026-01-31T12:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
