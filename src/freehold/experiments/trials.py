"""Which cases teach and which judge.

Three rules, none of which lets an entity (a customer, a contract) stand on both sides:

- ``folds``: five folds by a seeded hash of the entity; each case is answered once, by a model that
  has seen neither it nor its entity. The errors of such answers may be treated like those of a
  plain test set (Bayle, Bayle, Janson and Mackey 2020, "Cross-validation confidence intervals for
  test error", arXiv 2007.12671), and all cases count, which a small table needs;
- ``given``: the file's own test rows judge;
- ``time``: the latest cases judge, the earlier ones teach, as it would have been in service.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freehold.errors import InputError
from freehold.experiments.past_work import Case

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Places = NDArray[np.int64]

FOLDS = 5
TEST_SHARE = 0.3
LEAST_SIDE = 20
SEEDS = 3


@dataclass(frozen=True)
class Trial:
    """One round: positions of the cases that teach and of those that judge."""

    teach: Places
    judge: Places


@dataclass(frozen=True)
class Trials:
    """All rounds. Over them each judging case is answered once; `repeats` draws a curve averages.

    `left_out` counts cases that take no part, by reason; `test_from` (ISO 8601) is where a rule by
    time begins to judge.
    """

    rule: str
    said: str
    rounds: tuple[Trial, ...]
    repeats: int
    left_out: dict[str, int]
    test_from: str | None = None

    @property
    def judging(self) -> Places:
        """The positions of all cases that are judged, in order."""
        import numpy as np

        return np.sort(np.concatenate([one.judge for one in self.rounds]))

    @property
    def taught(self) -> int:
        """How many cases teach in a round; over folds, the fewest."""
        return min(len(one.teach) for one in self.rounds)


def arrange(cases: Sequence[Case], rule: str | None = None, *, seed: int = 0) -> Trials:
    """Arrange cases into rounds by a rule; without one by the file's split, else in folds.

    Raises InputError when the rule lacks what it needs or would leave a side with fewer than
    `LEAST_SIDE` cases.
    """
    rules: dict[str, Callable[[Sequence[Case], int], Trials]] = {
        "folds": _folds,
        "given": _given,
        "time": _by_time,
    }
    if rule is not None and rule not in rules:
        raise InputError(f"unknown rule {rule!r}; known: {', '.join(rules)}")
    splits = {case.split for case in cases}
    chosen = rule or ("given" if {"test", "train"} <= splits else "folds")
    trials = rules[chosen](cases, seed)
    judged, taught = len(trials.judging), trials.taught
    if min(judged, taught) < LEAST_SIDE:
        raise InputError(
            f"{trials.said}: {taught} rows would teach and {judged} judge; "
            f"each side needs {LEAST_SIDE}",
            hint="Add rows, make folds (--folds), or leave a column aside: --ignore entity.",
        )
    return trials


def draw(teach: Places, size: int, seed: int) -> Places:
    """Return a random part of the teaching cases; for one seed the smaller lie in the larger."""
    import numpy as np

    part: Places = teach[np.random.default_rng(seed).permutation(len(teach))[:size]]
    return part


def _folds(cases: Sequence[Case], seed: int) -> Trials:
    import numpy as np

    entities = {case.entity for case in cases}
    if len(entities) < FOLDS * 2:
        raise InputError(
            f"only {len(entities)} different entities: too few for {FOLDS} folds that share none",
            hint="Use a column with more of them, or leave it aside: --ignore entity.",
        )
    # Dealt out in the order of their hashes: random, and even though there be few of them.
    ordered = sorted(entities, key=lambda entity: _hashed(entity, seed))
    fold_of = {entity: place % FOLDS for place, entity in enumerate(ordered)}
    folds = np.array([fold_of[case.entity] for case in cases])
    rounds = tuple(
        Trial(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(FOLDS)
    )
    whose = "" if len(entities) == len(cases) else f" of {len(entities)} entities"
    said = f"{FOLDS} folds{whose}: every row judged by models that had not seen it"
    return Trials("folds", said, rounds, 1, {})


def _given(cases: Sequence[Case], _seed: int) -> Trials:
    import numpy as np

    counts = Counter(case.split for case in cases)
    if not counts["test"] or counts["test"] == len(cases):
        raise InputError(
            "the file gives no split with train and test rows", hint="Let folds be made: --folds."
        )
    sides = np.array([case.split or "" for case in cases])
    # Dev rows were made to choose by, and nothing here is chosen by them: they teach.
    teach, judge = np.flatnonzero(np.isin(sides, ("train", "dev"))), np.flatnonzero(sides == "test")
    left = {"no split given": counts[None]} if counts[None] else {}
    teach = _without_judged(cases, teach, judge, left)
    said = f"the file's own split: {len(teach)} rows teach, {len(judge)} judge"
    return Trials("given", said, (Trial(teach, judge),), SEEDS, left)


def _by_time(cases: Sequence[Case], _seed: int) -> Trials:
    import numpy as np

    moments = sorted(case.moment for case in cases if case.moment is not None)
    if not moments:
        raise InputError(
            "no row has a date that can be read",
            hint="Dates look like 2026-01-31 or 2026-01-31T12:00:00Z; --date-column names theirs.",
        )
    first = moments[round(len(moments) * (1.0 - TEST_SHARE))]
    pairs = [(place, case.moment) for place, case in enumerate(cases) if case.moment is not None]
    teach = np.array([place for place, moment in pairs if moment < first], dtype=np.int64)
    judge = np.array([place for place, moment in pairs if moment >= first], dtype=np.int64)
    left = {"no readable date": len(cases) - len(pairs)} if len(pairs) < len(cases) else {}
    teach = _without_judged(cases, teach, judge, left)
    said = (
        f"by time: {len(teach)} rows before {first.date()} teach, {len(judge)} from then on judge"
    )
    return Trials("time", said, (Trial(teach, judge),), SEEDS, left, first.isoformat())


def _without_judged(
    cases: Sequence[Case], teach: Places, judge: Places, left: dict[str, int]
) -> Places:
    """Return the teaching cases of entities that are not judged, and count the others."""
    import numpy as np

    judged = {cases[place].entity for place in judge}
    apart: Places = np.array(
        [place for place in teach if cases[place].entity not in judged], dtype=np.int64
    )
    if len(apart) < len(teach):
        left["entity is judged, so its other rows may not teach"] = len(teach) - len(apart)
    return apart


def _hashed(entity: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{entity}".encode()).digest()
