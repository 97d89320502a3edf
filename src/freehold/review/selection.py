"""Which items people should look at next: pure choice, with the exact chance of every item.

Reviewing only what a model is unsure of ruins every figure made from reviews: it shows a model at
its worst. So a queue is a mix, and a share of it is drawn by lot from all items that are waiting.

How the lot is drawn, so that every recorded chance is exact. First the *certain* items are named,
without any chance: the most uncertain, the most disputed between two candidates, the most novel;
`k` in all. Then all `N` waiting items are put in random order and taken one after another until the
queue holds `n` different items, certain ones included. Whatever was taken on the way belongs to the
uniform stream. An item that is not certain is taken with chance ``(n - k) / (N - k)``, because
exactly ``n - k`` of those are taken; a certain one with ``(n - k) / (N - k + 1)``, the chance to
stand before the last of them (negative hypergeometric). A certain item that was not taken by lot
is in the queue all the same, under its own stream, with chance 1.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from freehold.canonical.json import PARTS_PER_BILLION
from freehold.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]

UNIFORM, UNCERTAIN, DISAGREED, NOVEL = "uniform", "uncertain", "disagreed", "novel"
LEAST_UNIFORM_PERCENT = 20
_MOST_POOL = 5_000  # novelty is sought among so many waiting items at most
_DIMENSIONS = 512


@dataclass(frozen=True, slots=True)
class Mix:
    """The shares of a queue in percent; what is left is uniform, and never under 20.

    `drop` is the percentage of the most uncertain items that are left out: they are mostly
    outliers, and learning from them can be worse than learning from chance (arXiv 2210.03005).
    """

    uncertain: int = 40
    disagreed: int = 25
    novel: int = 15
    drop: int = 2

    def __post_init__(self) -> None:
        """Refuse a mix that leaves too little to chance."""
        shares = (self.uncertain, self.disagreed, self.novel, self.drop)
        if min(shares) < 0 or self.uniform < LEAST_UNIFORM_PERCENT:
            raise InputError(
                f"a queue needs {LEAST_UNIFORM_PERCENT} % or more drawn by lot, got {self.uniform}",
                hint="Without it no figure can be made from the reviews.",
            )

    @property
    def uniform(self) -> int:
        """The share that is drawn by lot."""
        return 100 - self.uncertain - self.disagreed - self.novel


ONLY_UNIFORM = Mix(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Pick:
    """One chosen item: its stream, and the chance (ppb) with which that stream takes it."""

    item_id: str
    stream: str
    propensity_ppb: int


def choose_items(
    waiting: Sequence[str], ranked: Mapping[str, Sequence[str]], n: int, mix: Mix, seed: int
) -> list[Pick]:
    """Return `n` picks (or all that wait), in random order.

    `ranked` holds, for each directed stream, the items it wants, best first; a stream that is
    missing or too short leaves its share to the lot. Equal arguments give equal picks.
    """
    n = min(n, len(waiting))
    certain = _certain_items(ranked, n, mix)
    generator = random.Random(seed)  # noqa: S311 - a lot that can be repeated, not a secret
    order = sorted(waiting)
    generator.shuffle(order)
    wanted, drawn = n - len(certain), []
    for item in order:
        if wanted == 0:
            break
        drawn.append(item)
        wanted -= item not in certain
    lots = n - len(certain)
    others = len(waiting) - len(certain)
    picks = [
        Pick(item, UNIFORM, _chance(lots, others + 1 if item in certain else others))
        for item in drawn
    ]
    by_lot = set(drawn)
    picks += [
        Pick(item, stream, PARTS_PER_BILLION)
        for item, stream in certain.items()
        if item not in by_lot
    ]
    generator.shuffle(picks)
    return picks


def _certain_items(ranked: Mapping[str, Sequence[str]], n: int, mix: Mix) -> dict[str, str]:
    """Return the items that are in the queue whatever the lot says, with their streams."""
    certain: dict[str, str] = {}
    shares = ((UNCERTAIN, mix.uncertain), (DISAGREED, mix.disagreed), (NOVEL, mix.novel))
    for stream, percent in shares:
        fresh = [item for item in ranked.get(stream, ()) if item not in certain]
        certain |= dict.fromkeys(fresh[: n * percent // 100], stream)
    return certain


def _chance(lots: int, among: int) -> int:
    return PARTS_PER_BILLION * lots // among


def rank_uncertain(
    answers: Mapping[str, Mapping[str, int]], *, several: bool, drop: int
) -> list[str]:
    """Return items by falling entropy of their probabilities (ppb), the topmost percents dropped.

    With `several` labels to an item each option is a question of its own: mean binary entropy.
    """
    scored = {
        item: _entropy([parts / PARTS_PER_BILLION for parts in given.values()], several=several)
        for item, given in answers.items()
        if given
    }
    order = sorted(scored, key=lambda item: (-scored[item], item))
    return order[math.ceil(len(order) * drop / 100) :]


def _entropy(shares: Sequence[float], *, several: bool) -> float:
    if several:
        return sum(_bits(p) + _bits(1.0 - p) for p in shares) / len(shares)
    return sum(_bits(p) for p in shares)


def _bits(share: float) -> float:
    return -share * math.log2(share) if share > 0.0 else 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One candidate's answer to an item: canonical JSON of the value, probabilities in ppb."""

    value: str
    probabilities: Mapping[str, int]


def rank_disagreed(first: Mapping[str, Answer], second: Mapping[str, Answer]) -> list[str]:
    """Return the items that two candidates answer differently, the most opposed first.

    How opposed: the total variation distance between their probabilities.
    """
    apart = {
        item: _distance(first[item].probabilities, second[item].probabilities)
        for item in first.keys() & second.keys()
        if first[item].value != second[item].value
    }
    return sorted(apart, key=lambda item: (-apart[item], item))


def _distance(a: Mapping[str, int], b: Mapping[str, int]) -> int:
    return sum(abs(a.get(option, 0) - b.get(option, 0)) for option in a.keys() | b.keys())


def rank_novel(
    waiting: Mapping[str, str], known: Sequence[str], n: int, *, seed: int, vectors: Any = None
) -> list[str]:
    """Return `n` items far from everything known and from each other (greedy k-centre).

    Sener and Savarese 2018. Distances are cosines of hashed character n-grams of the texts, or of
    `vectors` (a mapping from item to a vector of one length) where those are given. Of very many
    waiting items a seeded sample of 5,000 is looked at.
    """
    generator = random.Random(seed)  # noqa: S311 - a sample that can be repeated, not a secret
    items = sorted(waiting)
    if len(items) > _MOST_POOL:
        items = sorted(generator.sample(items, _MOST_POOL))
    if not items or n < 1:
        return []
    pool = _given(vectors, items) if vectors else _hashed([waiting[item] for item in items])
    centres = None
    if known and not vectors:
        told = list(known)
        centres = _hashed(generator.sample(told, 500) if len(told) > 500 else told)
    return [items[place] for place in _farthest(pool, centres, min(n, len(items)))]


def _given(vectors: Mapping[str, Any], items: Sequence[str]) -> Vectors:
    import numpy as np

    missing = [item for item in items if item not in vectors]
    if missing:
        raise InputError(f"no vector for item {missing[0]} ({len(missing)} are missing)")
    matrix = np.asarray([vectors[item] for item in items], dtype=np.float32)
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    unit: Vectors = matrix / np.maximum(lengths, np.float32(1e-12))
    return unit


def _hashed(texts: Sequence[str]) -> Vectors:
    import numpy as np
    from sklearn.feature_extraction.text import HashingVectorizer

    reader = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), n_features=_DIMENSIONS)
    dense: Vectors = reader.transform(texts).toarray().astype(np.float32)
    return dense


def _farthest(pool: Vectors, centres: Vectors | None, n: int) -> list[int]:
    """Return positions in the pool, each the farthest from all centres and those before it."""
    import numpy as np

    # With nothing known, the first is the most typical one: the nearest to the middle.
    typical = -(pool @ pool.mean(axis=0))
    nearest = typical if centres is None else (pool @ centres.T).max(axis=1)
    chosen: list[int] = []
    taken = np.zeros(len(pool), dtype=bool)
    for _ in range(n):
        place = int(np.argmin(np.where(taken, np.inf, nearest)))
        chosen.append(place)
        taken[place] = True
        similar = pool @ pool[place]
        nearest = similar if centres is None and len(chosen) == 1 else np.maximum(nearest, similar)
    return chosen
