"""Twins among texts: which are left out, and for which one that stays.

The oldest of equal texts is kept. A text is left out exactly when an older text *that is kept* is
equal to it, or alike beyond the threshold; so each one that is left out can name a twin that is
there, and chains (A like B, B like C, A unlike C) do not carry C away with B.

Memory: 16 bytes and one 8-byte key for each band for a text, and the texts that share a band with
another. The time is near linear, but for many texts that are alike *just below* the threshold,
which must all be compared with each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from freehold.canonical.json import to_ppb
from freehold.datasets.similarity import Hashes, MinHash, grams, jaccard, normalised
from freehold.errors import InputError

Progress = Callable[[int, int], None]
TextSource = Callable[[Sequence[int]], Sequence[str]]
"""Gives the texts at positions, in the order asked for."""

_AT_ONCE = 1000
_CACHED_GRAMS = 4_000_000


@dataclass(frozen=True, slots=True)
class Twin:
    """A text that is left out: `position` is alike `kept`, which is older."""

    position: int
    kept: int
    reason: str  # duplicate, near_duplicate
    likeness_ppb: int


def find_twins(
    source: TextSource,
    count: int,
    *,
    threshold: float = 0.9,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> list[Twin]:
    """Return which of `count` texts are twins of an older one; position 0 is the oldest.

    `threshold` is the Jaccard index of character 5-grams from which two texts count as near
    duplicates; 1 looks for equal texts only. Raises InputError for a threshold outside (0, 1].
    """
    require_threshold(threshold)
    hasher = None if threshold == 1 else MinHash(threshold, seed=seed)
    first: dict[bytes, int] = {}
    twins: list[Twin] = []
    kept: list[int] = []
    keys: list[Hashes] = []
    for start in range(0, count, _AT_ONCE):
        positions = range(start, min(start + _AT_ONCE, count))
        fresh: list[str] = []
        for position, text in zip(positions, source(positions), strict=True):
            plain = normalised(text)
            older = first.setdefault(text_digest(plain), position)
            if older == position:
                kept.append(position)
                fresh.append(plain)
            else:
                twins.append(Twin(position, older, "duplicate", to_ppb(1.0)))
        if hasher is not None and fresh:
            keys.append(hasher.band_keys(fresh))
        if on_progress is not None:
            on_progress(positions.stop, count)
    if hasher is not None and keys:
        twins = _with_near_twins(twins, np.array(kept), np.concatenate(keys), source, threshold)
    return sorted(twins, key=lambda twin: twin.position)


def require_threshold(threshold: float) -> None:
    """Raise InputError unless the threshold is a Jaccard index above 0 and up to 1."""
    if not 0 < threshold <= 1:
        raise InputError(
            f"near_duplicate_threshold is above 0 and at most 1, got {threshold}",
            hint="0.9 is usual; 1 removes only texts that are equal.",
        )


def text_digest(text: str) -> bytes:
    """Return 16 bytes that stand for a text within this process; they are stored nowhere."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _with_near_twins(
    twins: list[Twin],
    kept: NDArray[np.int64],
    keys: Hashes,
    source: TextSource,
    threshold: float,
) -> list[Twin]:
    """Return `twins` and the near ones, each pointing to a text that stays."""
    groups = _Groups(keys)
    compared = _Compared(source, kept, groups.crowded(), threshold)
    leads: dict[int, int] = {}  # a text left out → the one that stays, by place in `kept`
    near: list[Twin] = []
    for pivot in groups.crowded():
        if int(pivot) in leads:
            continue
        mates = [int(mate) for mate in groups.mates(int(pivot)) if int(mate) not in leads]
        for mate, likeness in compared.alike(int(pivot), mates):
            leads[mate] = int(pivot)
            reason, share = "near_duplicate", to_ppb(likeness)
            near.append(Twin(int(kept[mate]), int(kept[pivot]), reason, share))
    moved = {twin.position: twin for twin in near}
    for twin in twins:
        # The text that it equals went out for another one: that one is its twin as well.
        lead = moved.get(twin.kept)
        if lead is None:
            near.append(twin)
        else:
            near.append(Twin(twin.position, lead.kept, "near_duplicate", lead.likeness_ppb))
    return near


class _Groups:
    """Which texts share a band, from one key for each text and band."""

    def __init__(self, keys: Hashes) -> None:
        self._order = [np.argsort(column, kind="stable") for column in keys.T]
        self._bounds: list[NDArray[np.int64]] = []
        sizes = np.zeros(len(keys), np.int64)
        for column, order in zip(keys.T, self._order, strict=True):
            sorted_keys = column[order]
            left = np.searchsorted(sorted_keys, column, "left")
            right = np.searchsorted(sorted_keys, column, "right")
            np.maximum(sizes, right - left, out=sizes)
            self._bounds.append(np.stack([left, right], axis=1))
        self._sizes = sizes

    def crowded(self) -> NDArray[np.int64]:
        """Return the texts that share a band with another one, oldest first."""
        return np.flatnonzero(self._sizes > 1)

    def mates(self, pivot: int) -> NDArray[np.int64]:
        """Return the younger texts that share a band with this one, oldest first."""
        found = [
            order[slice(*bounds[pivot])]
            for order, bounds in zip(self._order, self._bounds, strict=True)
        ]
        together = np.unique(np.concatenate(found))
        return together[together > pivot]


class _Compared:
    """The texts that share a band, compared by the true index of their grams."""

    def __init__(
        self,
        source: TextSource,
        kept: NDArray[np.int64],
        wanted: NDArray[np.int64],
        threshold: float,
    ) -> None:
        self._threshold = threshold
        self._texts: dict[int, str] = {}
        for start in range(0, len(wanted), _AT_ONCE):
            part = wanted[start : start + _AT_ONCE]
            texts = source([int(kept[place]) for place in part])
            named = zip(part, texts, strict=True)
            self._texts.update({int(place): normalised(text) for place, text in named})
        self._grams: dict[int, Hashes] = {}
        self._held = 0

    def alike(self, pivot: int, mates: Sequence[int]) -> Iterator[tuple[int, float]]:
        """Yield the mates whose likeness to the pivot reaches the threshold, and the likeness."""
        one = self._of(pivot)
        for mate in mates:
            other = self._of(mate)
            smaller, larger = sorted((len(one), len(other)))
            if smaller < self._threshold * larger:
                continue  # the index cannot exceed the ratio of the sizes
            likeness = jaccard(one, other)
            if likeness >= self._threshold:
                yield mate, likeness

    def _of(self, place: int) -> Hashes:
        known = self._grams.get(place)
        if known is not None:
            return known
        if self._held > _CACHED_GRAMS:
            self._grams.clear()
            self._held = 0
        made = grams(self._texts[place])
        self._grams[place] = made
        self._held += len(made)
        return made
