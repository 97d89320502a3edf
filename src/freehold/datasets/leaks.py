"""Leaks: what a model could learn of a test case before it is judged by it.

Five ways, the first that holds for a pair is told: the same item, the same text, the same text but
for differences that nobody reads, a near duplicate, a shared run of 13 words (Brown et al.,
"Language models are few-shot learners", appendix C; a run that stands in more than ten cases is
boilerplate and ignored, as there). And apart from these the same entity: a customer or patient who
is in both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, Table, select

from freehold.canonical.json import to_ppb
from freehold.datasets.duplicates import require_threshold, text_digest
from freehold.datasets.gathering import READ_AT_ONCE, pieces
from freehold.datasets.similarity import Hashes, MinHash, grams, jaccard, normalised, runs
from freehold.errors import NotFound
from freehold.lab.opened import Lab
from freehold.lab.schema import dataset_rows, items, suite_cases
from freehold.workflows.items import item_texts

WAYS = ("same_item", "exact", "normalised", "near_duplicate", "word_run", "entity")
BOILERPLATE = 10  # cases


@dataclass(frozen=True, slots=True)
class Known:
    """An item with its text, on either side of a leak. `entity_key` is None where none is known."""

    item_id: str
    text: str
    entity_key: str | None = None


@dataclass(frozen=True, slots=True)
class Leak:
    """A row and a case that touch: how, and how alike their texts are (0 where not compared)."""

    row_item: str
    case_item: str
    way: str
    likeness_ppb: int = 0


@dataclass(frozen=True, slots=True)
class Leaks:
    """What a dataset and a suite share. `erased` items on either side could not be compared."""

    dataset_id: str
    suite_id: str
    pairs: tuple[Leak, ...]
    rows: int
    cases: int
    erased: int

    @property
    def counts(self) -> dict[str, int]:
        """How many pairs there are of each way; ways without any are 0."""
        found = Counter(pair.way for pair in self.pairs)
        return {way: found[way] for way in WAYS}

    @property
    def leaking_rows(self) -> int:
        """How many rows touch a case."""
        return len({pair.row_item for pair in self.pairs})

    @property
    def leaked_cases(self) -> int:
        """How many cases are touched by a row."""
        return len({pair.case_item for pair in self.pairs})


def leak_check(
    lab: Lab, dataset_id: str, suite_id: str, *, threshold: float = 0.9, seed: int = 0
) -> Leaks:
    """Compare every row of a dataset with every case of a suite."""
    with lab.reading() as connection:
        rows = _items_of(connection, dataset_rows, "dataset_id", dataset_id)
        cases = _items_of(connection, suite_cases, "suite_id", suite_id)
        guard = Guard(known_items(lab, connection, cases), threshold=threshold, seed=seed)
        pairs: list[Leak] = []
        compared = 0
        for part in pieces(rows):
            known = known_items(lab, connection, part)
            compared += len(known)
            pairs += guard.leaks(known)
    erased = len(rows) - compared + len(cases) - len(guard.cases)
    return Leaks(dataset_id, suite_id, tuple(pairs), len(rows), len(cases), erased)


def known_items(lab: Lab, connection: Connection, item_ids: Sequence[str]) -> list[Known]:
    """Return items with what a leak check compares, in the order given; erased ones left out."""
    entities: dict[str, str | None] = {}
    for part in pieces(item_ids):
        query = select(items.c.item_id, items.c.entity_key).where(items.c.item_id.in_(part))
        entities.update({row.item_id: row.entity_key for row in connection.execute(query)})
    texts = item_texts(lab, connection, item_ids)
    return [Known(item, texts[item], entities[item]) for item in item_ids if item in texts]


class Guard:
    """The cases that nothing may give away, indexed so that rows can be held against them.

    Memory grows with the cases, not with the rows.
    """

    def __init__(self, cases: Sequence[Known], *, threshold: float = 0.9, seed: int = 0) -> None:
        require_threshold(threshold)
        self.cases = list(cases)
        self._threshold = threshold
        self._hasher = MinHash(threshold, seed=seed)
        self._plain = [normalised(case.text) for case in self.cases]
        self._items = {case.item_id: place for place, case in enumerate(self.cases)}
        self._exact = _places([text_digest(case.text) for case in self.cases])
        self._same = _places([text_digest(text) for text in self._plain])
        self._entities = _places([case.entity_key for case in self.cases])
        self._grams: dict[int, Hashes] = {}
        self._bands = [_places(list(column)) for column in self._band_keys()]
        self._runs = _Runs(self._plain)

    def leaks(self, rows: Sequence[Known]) -> list[Leak]:
        """Return every leak between rows and cases, in the order of the rows and of the cases."""
        if not self.cases:
            return []
        found: list[Leak] = []
        for part in pieces(rows, READ_AT_ONCE):
            plain = [normalised(row.text) for row in part]
            keys = self._hasher.band_keys(plain).tolist()
            shared = self._runs.shared(plain)
            for place, (row, text, bands) in enumerate(zip(part, plain, keys, strict=True)):
                touched = self._texts_alike(row, text, bands)
                for case in shared.get(place, ()):
                    touched.setdefault(case, ("word_run", 0.0))
                found += self._told(row, touched)
        return found

    def _told(self, row: Known, touched: dict[int, tuple[str, float]]) -> Iterator[Leak]:
        for place in sorted(touched):
            way, likeness = touched[place]
            yield Leak(row.item_id, self.cases[place].item_id, way, to_ppb(likeness))
        if row.entity_key is not None:
            for place in self._entities.get(row.entity_key, ()):
                if place not in touched:
                    yield Leak(row.item_id, self.cases[place].item_id, "entity")

    def _texts_alike(
        self, row: Known, plain: str, bands: Sequence[int]
    ) -> dict[int, tuple[str, float]]:
        """Return the cases that are the row's item or like its text: the strongest way for each."""
        touched: dict[int, tuple[str, float]] = {}
        if row.item_id in self._items:
            touched[self._items[row.item_id]] = ("same_item", 1.0)
        for place in self._exact.get(text_digest(row.text), ()):
            touched.setdefault(place, ("exact", 1.0))
        for place in self._same.get(text_digest(plain), ()):
            touched.setdefault(place, ("normalised", 1.0))
        for place, likeness in self._near(plain, bands, touched):
            touched[place] = ("near_duplicate", likeness)
        return touched

    def _near(
        self, plain: str, bands: Sequence[int], known: dict[int, tuple[str, float]]
    ) -> list[tuple[int, float]]:
        together = {
            place
            for index, key in zip(self._bands, bands, strict=True)
            for place in index.get(key, ())
        }
        mine: Hashes | None = None
        found = []
        for place in together - known.keys():
            mine = grams(plain) if mine is None else mine
            likeness = jaccard(mine, self._grams_of(place))
            if likeness >= self._threshold:
                found.append((place, likeness))
        return found

    def _grams_of(self, place: int) -> Hashes:
        if place not in self._grams:
            self._grams[place] = grams(self._plain[place])
        return self._grams[place]

    def _band_keys(self) -> list[list[int]]:
        if not self._plain:
            return []
        columns: list[list[int]] = self._hasher.band_keys(self._plain).T.tolist()
        return columns


def _items_of(connection: Connection, table: Table, owner: str, owner_id: str) -> list[str]:
    """Return the items of a dataset's rows or of a suite's cases; NotFound for an empty owner."""
    query = select(table.c.item_id).where(table.c[owner] == owner_id).order_by(table.c.position)
    found: list[str] = list(connection.execute(query).scalars())
    if not found:
        raise NotFound(f"nothing in this lab has the {owner} {owner_id}")
    return found


def _places(keys: Sequence[object]) -> dict[object, list[int]]:
    """Return where each key stands; None is no key."""
    index: dict[object, list[int]] = {}
    for place, key in enumerate(keys):
        if key is not None:
            index.setdefault(key, []).append(place)
    return index


class _Runs:
    """Which cases hold a run of 13 words, boilerplate left out."""

    def __init__(self, texts: Sequence[str]) -> None:
        hashes, owners = runs(texts)
        # One line for each run and case, however often the case repeats it.
        order = np.lexsort((owners, hashes))
        hashes, owners = hashes[order], owners[order]
        fresh = np.ones(len(hashes), np.bool_)
        fresh[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
        hashes, owners = hashes[fresh], owners[fresh]
        _, inverse, sizes = np.unique(hashes, return_inverse=True, return_counts=True)
        rare = sizes[inverse] <= BOILERPLATE
        self._hashes, self._owners = hashes[rare], owners[rare]

    def shared(self, texts: Sequence[str]) -> dict[int, set[int]]:
        """Return, for each text that shares a run with cases, which cases these are."""
        wanted, places = runs(texts)
        left = np.searchsorted(self._hashes, wanted, "left")
        right = np.searchsorted(self._hashes, wanted, "right")
        found: dict[int, set[int]] = {}
        for hit in np.flatnonzero(left < right):
            cases = self._owners[left[hit] : right[hit]].tolist()
            found.setdefault(int(places[hit]), set()).update(cases)
        return found
