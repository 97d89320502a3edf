"""The catalogue of licence cards: what a known licence text allows, forbids and asks for.

A card is data (`data/licences.toml`), dated and with a source for every row, because licences
move. It is found by the hash of the text alone; see `licence_texts`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from functools import cache
from importlib import resources
from typing import Any, Final, Literal, TypeVar, get_args

from freehold.errors import SettingsError

Act = Literal[
    "use", "commercial", "modify", "distribute", "host", "train_on_outputs", "decide_automatically"
]
Metric = Literal["monthly_users", "monthly_revenue_usd", "annual_revenue_usd"]
_THRESHOLD_EFFECTS: Final = {"need_licence", "no_rights", "display_notice"}
_LIMIT_EFFECTS: Final = {"block", "sign_off"}


@dataclass(frozen=True, slots=True)
class Threshold:
    """A size above which the licence changes. ``as_of``: release_date or continuous."""

    act: Act
    metric: Metric
    over: int
    scope: str
    as_of: str
    effect: str
    text: str
    source: str
    on: date


@dataclass(frozen=True, slots=True)
class Duty:
    """What must be done by whoever does ``act``; ``text`` is what to do, or the exact notice."""

    act: Act
    code: str
    text: str
    source: str
    on: date


@dataclass(frozen=True, slots=True)
class Limit:
    """What the licence forbids to whoever does ``act``, there and for this kind of input."""

    act: Act
    effect: str
    text: str
    source: str
    on: date
    territory: tuple[str, ...] = ()
    modality: str | None = None


@dataclass(frozen=True, slots=True)
class LicenceCard:
    """One licence. ``licence`` is an SPDX identifier or a LicenseRef.

    ``read`` says whether the rows were read in the full text or in a summary; ``moving`` that
    the licensor may change the terms later.
    """

    id: str
    name: str
    licence: str
    read: str
    source: str
    on: date
    tags: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    effective: date | None = None
    moving: bool = False
    thresholds: tuple[Threshold, ...] = field(default=())
    duties: tuple[Duty, ...] = field(default=())
    limits: tuple[Limit, ...] = field(default=())


Row = TypeVar("Row", Threshold, Duty, Limit, LicenceCard)


@dataclass(frozen=True, slots=True)
class LicenceCatalogue:
    """All cards, with the three ways to look one up."""

    by_text: Mapping[str, LicenceCard]
    by_policy: Mapping[str, LicenceCard]
    by_name: Mapping[str, LicenceCard]

    def of_text(self, sha256: str) -> LicenceCard | None:
        """Return the card of a normalised licence text, or None: the text is unknown."""
        return self.by_text.get(sha256)

    def of_policy(self, sha256: str) -> LicenceCard | None:
        """Return the card that a normalised use policy belongs to, or None."""
        return self.by_policy.get(sha256)

    def of_name(self, name: str) -> LicenceCard | None:
        """Return the card that a name, tag or SPDX identifier *claims*; no proof of anything."""
        return self.by_name.get(name.strip().casefold())


@cache
def licence_catalogue() -> LicenceCatalogue:
    """Read the catalogue that is shipped with Freehold."""
    text = resources.files("freehold.models").joinpath("data/licences.toml").read_text("utf-8")
    return read_catalogue(tomllib.loads(text))


def read_catalogue(document: Mapping[str, Any]) -> LicenceCatalogue:
    """Build a catalogue from a parsed TOML document with a list of ``card`` tables.

    Raises SettingsError for an unknown key or value, or for a hash or name on two cards.
    """
    by_text: dict[str, LicenceCard] = {}
    by_policy: dict[str, LicenceCard] = {}
    by_name: dict[str, LicenceCard] = {}
    for table in document.get("card", ()):
        card = _read_card(table)
        for sha256 in card.texts:
            _enter(by_text, sha256, card)
        for sha256 in card.policies:
            _enter(by_policy, sha256, card)
        for name in {card.id, card.licence.casefold(), *card.tags}:
            _enter(by_name, name, card)
    return LicenceCatalogue(by_text, by_policy, by_name)


def _enter(index: dict[str, LicenceCard], key: str, card: LicenceCard) -> None:
    if key in index:
        raise SettingsError(f"licence catalogue: {key} stands on {index[key].id} and on {card.id}")
    index[key] = card


def _read_card(table: Mapping[str, Any]) -> LicenceCard:
    rest = dict(table)
    where = f"licence card {rest.get('id')!r}"
    rows = {
        "thresholds": [_read_row(Threshold, row, where) for row in rest.pop("threshold", ())],
        "duties": [_read_row(Duty, row, where) for row in rest.pop("duty", ())],
        "limits": [_read_row(Limit, row, where) for row in rest.pop("limit", ())],
    }
    card = _read_row(LicenceCard, {**rest, **rows}, where)
    for threshold in card.thresholds:
        _check(threshold.effect in _THRESHOLD_EFFECTS, where, "effect", threshold.effect)
        _check(threshold.metric in get_args(Metric), where, "metric", threshold.metric)
    for limit in card.limits:
        _check(limit.effect in _LIMIT_EFFECTS, where, "effect", limit.effect)
    rows_with_acts: list[Threshold | Duty | Limit] = [
        *card.thresholds,
        *card.duties,
        *card.limits,
    ]
    for row in rows_with_acts:
        _check(row.act in get_args(Act), where, "act", row.act)
    return card


def _read_row(kind: type[Row], table: Mapping[str, Any], where: str) -> Row:
    known = {one.name for one in fields(kind)}
    unknown = sorted(table.keys() - known)
    _check(not unknown, where, "key", ", ".join(unknown))
    frozen: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in table.items()
    }
    try:
        return kind(**frozen)
    except TypeError as error:
        raise SettingsError(f"{where}: {error}") from error


def _check(holds: bool, where: str, what: str, value: str) -> None:
    if not holds:
        raise SettingsError(f"{where}: unknown {what} {value!r}")
