from __future__ import annotations

from collections import Counter

import pytest

from freehold.canonical.json import PARTS_PER_BILLION, from_ppb
from freehold.errors import InputError
from freehold.review.selection import (
    ONLY_UNIFORM,
    Answer,
    Mix,
    choose_items,
    rank_disagreed,
    rank_novel,
    rank_uncertain,
)

ITEMS = [f"i{k:02}" for k in range(12)]
RANKED = {"uncertain": ITEMS[3:9], "disagreed": ITEMS[5:12], "novel": ITEMS[:2]}


@pytest.mark.parametrize(
    ("ranked", "n", "mix", "streams"),
    [
        ({}, 6, ONLY_UNIFORM, set()),
        ({}, 6, Mix(), set()),
        (RANKED, 10, Mix(), {"uncertain", "disagreed", "novel"}),
        ({"uncertain": ITEMS}, 5, Mix(80, 0, 0, 0), {"uncertain"}),
    ],
)
def test_recorded_chances_are_how_often_items_are_drawn(
    ranked: dict[str, list[str]], n: int, mix: Mix, streams: set[str]
) -> None:
    """4,000 fillings: the share in which the lot takes an item equals its recorded chance."""
    runs, taken, chance = 4000, Counter[str](), dict[str, float]()
    for seed in range(runs):
        picks = choose_items(ITEMS, ranked, n, mix, seed)
        assert len({pick.item_id for pick in picks}) == n
        for pick in picks:
            if pick.stream == "uniform":
                taken[pick.item_id] += 1
                chance.setdefault(pick.item_id, from_ppb(pick.propensity_ppb))
                assert chance[pick.item_id] == from_ppb(pick.propensity_ppb)
            else:
                assert pick.propensity_ppb == PARTS_PER_BILLION
        assert {pick.stream for pick in picks} - {"uniform"} <= streams
    for item, expected in chance.items():
        assert taken[item] / runs == pytest.approx(expected, abs=0.03)
    assert set(chance) == set(ITEMS)


def test_at_least_the_uniform_share_is_drawn_by_lot_and_missing_streams_add_to_it() -> None:
    items = [f"i{k:03}" for k in range(500)]
    picks = choose_items(items, {"uncertain": items[:100]}, 100, Mix(), 7)
    streams = Counter(pick.stream for pick in picks)
    assert streams["uniform"] + streams["uncertain"] == 100
    assert streams["uniform"] >= 60


def test_everything_is_taken_when_too_little_waits() -> None:
    picks = choose_items(ITEMS, {"uncertain": ITEMS}, 99, Mix(), 1)
    assert sorted(pick.item_id for pick in picks) == ITEMS


@pytest.mark.parametrize("mix", [(50, 20, 15), (90, 0, 0), (-1, 0, 0)])
def test_a_mix_that_leaves_too_little_to_chance_is_refused(mix: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="20 % or more drawn by lot"):
        Mix(*mix)


def test_the_most_uncertain_come_first_without_the_outliers_at_the_top() -> None:
    half = PARTS_PER_BILLION // 2
    answers = {f"s{k:02}": {"a": half + k * 9_000_000, "b": half - k * 9_000_000}
               for k in range(50)}  # fmt: skip
    order = rank_uncertain(answers, several=False, drop=2)
    assert order == [f"s{k:02}" for k in range(1, 50)]


@pytest.mark.parametrize("several", [True, False])
def test_certain_answers_are_not_uncertain(several: bool) -> None:
    sure, unsure = {"a": 999_000_000, "b": 1_000_000}, {"a": 500_000_000, "b": 500_000_000}
    assert rank_uncertain({"x": sure, "y": unsure}, several=several, drop=0) == ["y", "x"]


def test_the_most_opposed_candidates_come_first() -> None:
    def answer(share: int) -> Answer:
        return Answer('"a"' if share > 50 else '"b"', {"a": share, "b": 100 - share})

    first = {"x": answer(90), "y": answer(60), "z": answer(90)}
    second = {"x": answer(40), "y": answer(40), "z": answer(99), "w": answer(1)}
    assert rank_disagreed(first, second) == ["x", "y"]


def test_what_is_unlike_everything_known_is_novel() -> None:
    waiting = {
        "same": "please refund my card payment",
        "near": "please refund this card payment",
        "far": "der Hund schläft auf dem Sofa",
        "other": "1234 5678 90",
    }
    chosen = rank_novel(waiting, ["please refund my card payment"], 2, seed=0)
    assert set(chosen) == {"far", "other"}


def test_novelty_by_vectors_spreads_over_the_space() -> None:
    waiting = dict.fromkeys("abcd", "text")
    vectors = {"a": [1.0, 0.0], "b": [0.99, 0.01], "c": [0.0, 1.0], "d": [-1.0, 0.0]}
    assert set(rank_novel(waiting, [], 3, seed=0, vectors=vectors)) >= {"c", "d"}
    with pytest.raises(InputError, match="no vector for item d"):
        rank_novel(waiting, [], 3, seed=0, vectors={k: vectors[k] for k in "abc"})
