"""Twins: against comparing all with all, and what is kept."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from freehold.datasets.duplicates import Twin, find_twins
from freehold.datasets.similarity import grams, jaccard, normalised
from freehold.errors import InputError

LONG = "please tell me what became of the parcel that i sent to leeds on the second of may"


def twins_of(texts: Sequence[str], **options: float) -> list[Twin]:
    def source(positions: Sequence[int]) -> list[str]:
        return [texts[place] for place in positions]

    return find_twins(source, len(texts), **options)  # type: ignore[arg-type]


def by_brute_force(texts: Sequence[str], threshold: float) -> dict[int, int]:
    """Text left out → the oldest kept text that it is alike, by comparing all with all."""
    sets = [grams(normalised(text)) for text in texts]
    kept: list[int] = []
    out: dict[int, int] = {}
    for place, one in enumerate(sets):
        alike = [k for k in kept if jaccard(sets[k], one) >= threshold]
        if alike:
            out[place] = alike[0]
        else:
            kept.append(place)
    return out


def mutated(draw: random.Random, text: str) -> str:
    letters = list(text)
    for _ in range(draw.randint(0, 6)):
        letters[draw.randrange(len(letters))] = draw.choice("abcdefg ")
    return "".join(letters)


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.9])
def test_the_same_twins_as_comparing_all_with_all(threshold: float) -> None:
    draw = random.Random(3)
    bases = ["".join(draw.choice("abcdefgh  ") for _ in range(80)) for _ in range(40)]
    texts = [mutated(draw, draw.choice(bases)) for _ in range(400)]
    found = {twin.position: twin.kept for twin in twins_of(texts, threshold=threshold)}
    expected = by_brute_force(texts, threshold)
    assert found == expected
    assert len(expected) > 20


def test_the_oldest_of_equal_texts_is_kept() -> None:
    found = twins_of(["Where is it?", "something else", "where is it", "WHERE IS IT!"])
    assert [(twin.position, twin.kept, twin.reason) for twin in found] == [
        (2, 0, "duplicate"),
        (3, 0, "duplicate"),
    ]
    assert {twin.likeness_ppb for twin in found} == {1_000_000_000}


def test_a_chain_does_not_carry_away_what_is_unlike_the_kept_text() -> None:
    chain = [LONG, LONG[:-2], LONG[:-4]]
    assert by_brute_force(chain, 0.97) == {1: 0}
    assert [(twin.position, twin.kept) for twin in twins_of(chain, threshold=0.97)] == [(1, 0)]


def test_the_twin_of_a_text_that_goes_out_names_the_one_that_stays() -> None:
    found = twins_of([LONG, LONG + " x", LONG.upper() + " X."], threshold=0.9)
    assert [(twin.position, twin.kept) for twin in found] == [(1, 0), (2, 0)]
    assert len({twin.likeness_ppb for twin in found}) == 1


def test_a_threshold_of_one_finds_equal_texts_only() -> None:
    found = twins_of([LONG, LONG + " x", LONG + "!"], threshold=1)
    assert [(twin.position, twin.reason) for twin in found] == [(2, "duplicate")]


@pytest.mark.parametrize("threshold", [0, -0.1, 1.01, float("nan")])
def test_an_impossible_threshold_is_refused(threshold: float) -> None:
    with pytest.raises(InputError, match="above 0 and at most 1"):
        twins_of([LONG], threshold=threshold)


def test_no_texts_no_twins() -> None:
    assert twins_of([]) == []


def test_progress_reaches_the_end() -> None:
    seen: list[tuple[int, int]] = []
    texts = [f"text number {n} {n * 7919:x}" for n in range(2500)]
    find_twins(lambda p: [texts[n] for n in p], 2500, on_progress=lambda *at: seen.append(at))
    assert seen == [(1000, 2500), (2000, 2500), (2500, 2500)]
