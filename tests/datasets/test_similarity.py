"""Likeness of texts: against sets, against arithmetic, and whatever the batch."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.datasets.similarity import (
    GRAM,
    MISS,
    PERMUTATIONS,
    RUN,
    MinHash,
    band_rows,
    grams,
    jaccard,
    normalised,
    runs,
)

ANY_TEXT = st.text(alphabet=st.characters(codec="utf-8"), max_size=60)


def gram_set(text: str) -> set[str]:
    text = text.ljust(GRAM, "\0")
    return {text[start : start + GRAM] for start in range(len(text) - GRAM + 1)}


def true_index(one: str, other: str) -> float:
    a, b = gram_set(one), gram_set(other)
    return len(a & b) / len(a | b)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Where is my card?", "where is my card"),
        ("  Where\tis   my card ", "Where is my card."),
        ("“Where” is my card…", '"where" is my card'),
        ("I haven’t got it!", "I haven't got it"),
        ("ＦＵＬＬ width ①", "full width 1"),
        ("STRASSE (Berlin)", "straße Berlin"),
        ("yes , please", "yes, please"),
    ],
)
def test_texts_that_read_the_same(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("C# or", "C++ or"),
        ("-5 degrees", "5 degrees"),
        ("50% off", "50 off"),
        ("1.5 mg", "15 mg"),
        ("?", "!"),
        ("it's", "its"),
        ("€5", "$5"),
    ],
)
def test_texts_that_read_differently(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


@given(ANY_TEXT)
def test_normalising_a_text_of_words_twice_changes_nothing(text: str) -> None:
    words = " ".join(word for word in text.split() if word.isalnum())
    assert normalised(normalised(words)) == normalised(words)


@given(ANY_TEXT, ANY_TEXT)
def test_the_index_is_that_of_the_sets(one: str, other: str) -> None:
    assert jaccard(grams(one), grams(other)) == pytest.approx(true_index(one, other), abs=1e-12)


@given(st.lists(ANY_TEXT, min_size=1, max_size=12), st.integers(0, 2**32))
def test_signatures_do_not_depend_on_the_batch(texts: list[str], seed: int) -> None:
    hasher = MinHash(0.8, seed=seed)
    alone = np.concatenate([hasher.signatures([text]) for text in texts])
    assert np.array_equal(hasher.signatures(texts), alone)


def test_a_long_batch_is_worked_off_in_pieces() -> None:
    texts = ["ab" * 9000, "short", "cd" * 20_000, "", "ef" * 10, "xyz" * 15_000]
    hasher = MinHash(0.9)
    together = hasher.band_keys(texts)
    assert together.shape == (6, hasher.bands)
    alone = np.concatenate([hasher.band_keys([text]) for text in texts])
    assert np.array_equal(together, alone)


def test_equal_minima_estimate_the_index() -> None:
    """Broder's theorem, on pairs from unlike to alike: within four standard errors of the index."""
    draw = random.Random(5)
    hasher = MinHash(0.5, seed=11)
    base = "".join(draw.choice("abcdefgh ") for _ in range(300))
    for cut in range(0, 300, 20):
        other = base[cut:] + "".join(draw.choice("stuvwxyz ") for _ in range(cut))
        first, second = hasher.signatures([base, other])
        expected = true_index(base, other)
        bound = 4 * (expected * (1 - expected) / PERMUTATIONS) ** 0.5 + 1e-9
        assert abs(float(np.mean(first == second)) - expected) <= bound


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0])
def test_bands_miss_next_to_nothing_at_the_threshold(threshold: float) -> None:
    rows = band_rows(threshold)
    missed = (1 - threshold**rows) ** (PERMUTATIONS // rows)
    assert missed <= MISS


def test_seeds_give_other_permutations_and_the_same_seed_the_same() -> None:
    text = ["where is my card"]
    assert np.array_equal(
        MinHash(0.9, seed=1).band_keys(text), MinHash(0.9, seed=1).band_keys(text)
    )
    assert not np.any(MinHash(0.9, seed=1).band_keys(text) == MinHash(0.9, seed=2).band_keys(text))


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=30), max_size=5))
def test_runs_are_those_of_thirteen_words(texts: list[list[str]]) -> None:
    hashes, owners = runs([" ".join(words) for words in texts])
    for place, words in enumerate(texts):
        expected = [tuple(words[n : n + RUN]) for n in range(len(words) - RUN + 1)]
        mine = hashes[owners == place].tolist()
        assert len(mine) == len(expected)
        assert len(set(mine)) == len(set(expected))
    assert len(hashes) == len(owners)
