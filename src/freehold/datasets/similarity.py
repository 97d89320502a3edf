"""How alike two texts are, for a hundred thousand of them at once.

Texts are compared without differences that nobody reads (case, width, space, the punctuation
around words). *Likeness* is the Jaccard index of their character 5-grams. MinHash (Broder, "On the
resemblance and containment of documents", 1997) finds the pairs that are worth comparing: the share
of equal minima under random permutations estimates the index, and banding them (Leskovec, Rajaraman
and Ullman, "Mining of Massive Datasets", section 3.4) turns estimating into looking up. What it
finds is always verified by the true index, so a stated likeness is never an estimate.

Words of a text are taken as they stand: `normalised` folds case, which would merge notations in
which case means something (SMILES). Tasks over such inputs need a comparison of their own.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Hashes: TypeAlias = NDArray[np.uint64]

PERMUTATIONS = 128
GRAM = 5  # characters
RUN = 13  # words: the run length of Brown et al., "Language models are few-shot learners", app. C
MISS = 0.001  # chance at most with which banding may overlook a pair exactly at the threshold
_SYMBOLS_AT_ONCE = 32_768  # keeps the working set of a pass in the processor's cache
_BASE = 0x9E3779B97F4A7C15

_OPENING = re.compile(r"""(?<!\S)[("'\[{«“‘¿¡]+""")
_CLOSING = re.compile(r"""[)"'\]}».,;:!?…”]+(?!\S)""")
_QUOTES = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"'})


def normalised(text: str) -> str:
    """Return a text without the differences that nobody reads.

    Compatibility forms and case are folded, quotes straightened, punctuation around words removed
    (inside words, and signs such as ``-5`` or ``C#``, it stays), white space collapsed. A text of
    punctuation alone stays as it is, so that "?" and "!" differ.
    """
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_QUOTES)
    bare = _CLOSING.sub(" ", _OPENING.sub(" ", folded))
    return " ".join(bare.split()) or " ".join(folded.split())


def grams(text: str) -> Hashes:
    """Return the sorted distinct hashes of a normalised text's character 5-grams."""
    return np.unique(_windows(*_characters([text]), GRAM)[0])


def runs(texts: Sequence[str]) -> tuple[Hashes, NDArray[np.int64]]:
    """Return the hashes of each run of 13 words in normalised texts, and whose each is.

    A text of fewer words has none.
    """
    words = [text.split() for text in texts]
    long = np.array([place for place, one in enumerate(words) if len(one) >= RUN], np.int64)
    if not len(long):
        return np.empty(0, np.uint64), long
    flat = [zlib.crc32(word.encode("utf-8", "surrogatepass")) for at in long for word in words[at]]
    lengths = np.array([len(words[at]) for at in long], np.int64)
    hashes, _ = _windows(np.array(flat, np.uint64), lengths, RUN)
    return hashes, np.repeat(long, lengths - RUN + 1)


def jaccard(one: Hashes, other: Hashes) -> float:
    """Return the share of what two sorted sets have in common, from 0 to 1."""
    places = np.searchsorted(other, one)
    places[places == len(other)] = 0
    common = int(np.count_nonzero(other[places] == one))
    return common / (len(one) + len(other) - common)


def band_rows(threshold: float, permutations: int = PERMUTATIONS) -> int:
    """Return how many minima make a band: as many as keep the chance of a miss below `MISS`.

    More rows in a band mean fewer pairs to verify in vain, and more pairs missed.
    """
    for rows in range(permutations, 1, -1):
        if (1.0 - threshold**rows) ** (permutations // rows) <= MISS:
            return rows
    return 1


class MinHash:
    """Seeded permutations, and the bands in which texts above a threshold meet.

    Two texts whose likeness is at least `threshold` share a band with a chance of 0.999 or more.
    """

    def __init__(
        self, threshold: float, *, seed: int = 0, permutations: int = PERMUTATIONS
    ) -> None:
        self.rows = band_rows(threshold, permutations)
        self.bands = permutations // self.rows
        random = np.random.default_rng(seed)
        high = np.iinfo(np.uint64).max
        used = self.rows * self.bands
        # x → a·x + b modulo 2^64 with an odd a is a permutation of the 64-bit numbers.
        self._a = random.integers(0, high, used, np.uint64, endpoint=True) | np.uint64(1)
        self._b = random.integers(0, high, used, np.uint64, endpoint=True)

    def signatures(self, texts: Sequence[str]) -> Hashes:
        """Return the minima of normalised texts, of shape (texts, rows * bands)."""
        made = np.empty((len(texts), len(self._a)), np.uint64)
        start = 0
        for part in _pieces(texts):
            hashes, starts = _windows(*_characters(part), GRAM)
            image = np.empty_like(hashes)
            for place, (a, b) in enumerate(zip(self._a, self._b, strict=True)):
                np.multiply(hashes, a, out=image)
                np.add(image, b, out=image)
                made[start : start + len(part), place] = np.minimum.reduceat(image, starts)
            start += len(part)
        return made

    def band_keys(self, texts: Sequence[str]) -> Hashes:
        """Return one key for each band of each text, of shape (texts, bands)."""
        made = self.signatures(texts).reshape(len(texts), self.bands, self.rows)
        keys = np.arange(self.bands, dtype=np.uint64)[None, :].repeat(len(texts), axis=0)
        for row in range(self.rows):
            keys = _mixed(keys * np.uint64(_BASE) + made[:, :, row])
        return keys


def _pieces(texts: Sequence[str]) -> list[Sequence[str]]:
    pieces: list[Sequence[str]] = []
    start = size = 0
    for position, text in enumerate(texts):
        if size and size + len(text) > _SYMBOLS_AT_ONCE:
            pieces.append(texts[start:position])
            start, size = position, 0
        size += len(text)
    if start < len(texts):
        pieces.append(texts[start:])
    return pieces


def _characters(texts: Sequence[str]) -> tuple[Hashes, NDArray[np.int64]]:
    # A text shorter than one gram is filled up, so that it has exactly one.
    filled = [text.ljust(GRAM, "\0") for text in texts]
    data = "".join(filled).encode("utf-32-le", "surrogatepass")
    lengths = np.fromiter(map(len, filled), np.int64, len(filled))
    return np.frombuffer(data, np.uint32).astype(np.uint64), lengths


def _windows(
    symbols: Hashes, lengths: NDArray[np.int64], width: int
) -> tuple[Hashes, NDArray[np.int64]]:
    """Return the hash of each run of `width` symbols that lies within one text, and the starts.

    `lengths` holds each text's number of symbols, `width` at least.
    """
    count = len(symbols) - width + 1
    hashes = np.zeros(count, np.uint64)
    for place in range(width):
        hashes *= np.uint64(_BASE)
        hashes += symbols[place : place + count]
    inside = np.ones(count + width - 1, np.bool_)
    ends = np.cumsum(lengths)
    for back in range(1, width):
        inside[ends - back] = False
    per_text = lengths - width + 1
    return _mixed(hashes[inside[:count]]), np.cumsum(per_text) - per_text


def _mixed(values: Hashes) -> Hashes:
    """Spread the bits of each value over all 64 (the finaliser of SplitMix64)."""
    values = values ^ (values >> np.uint64(30))
    values = values * np.uint64(0xBF58476D1CE4E5B9)
    values = values ^ (values >> np.uint64(27))
    values = values * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
