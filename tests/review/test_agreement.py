"""Agreement, against the krippendorff package, scikit-learn, statsmodels and published examples."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa

from freehold.errors import InputError
from freehold.review.agreement import (
    Rating,
    agreement_by_label,
    agreement_by_reviewer,
    cohen_kappa,
    kappa_by_pair,
    krippendorff_alpha,
    percent_agreement,
)

CROWD = Path(__file__).resolve().parents[2] / "../shared/data/crowd_truth"


def crowd(name: str) -> list[Rating]:
    path = CROWD / name / "answer.csv"
    if not path.exists():
        pytest.skip(f"the crowd truth data are not at {CROWD}")
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(row["question"], row["worker"], row["answer"]) for row in csv.DictReader(file)]
    # Zero is also spelled "00" and "-0" in these files; the reference compares numbers.
    return [Rating(item, worker, str(int(answer))) for item, worker, answer in rows]


def reference_alpha(ratings: list[Rating], level: str, order: list[str]) -> float:
    items = sorted({rating.item for rating in ratings})
    row, column = {v: i for i, v in enumerate(items)}, {v: i for i, v in enumerate(order)}
    counts = np.zeros((len(items), len(order)), dtype=int)
    for rating in ratings:
        counts[row[rating.item], column[rating.value]] += 1
    domain = [float(v) for v in order]
    return float(
        krippendorff.alpha(value_counts=counts, value_domain=domain, level_of_measurement=level)
    )


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("name", ["duck", "dog", "face", "snow2008_emotion", "product"])
def test_alpha_equals_the_krippendorff_package_on_crowds(name: str, level: str) -> None:
    ratings = crowd(name)
    order = sorted({rating.value for rating in ratings}, key=float)
    ours = krippendorff_alpha(ratings, level, order, interval=False)  # type: ignore[arg-type]
    assert ours.value == pytest.approx(reference_alpha(ratings, level, order), abs=1e-12)


def test_cohens_kappa_equals_scikit_learn_on_crowds() -> None:
    compared = 0
    for name in ("duck", "dog", "face"):
        ratings = crowd(name)
        order = sorted({rating.value for rating in ratings})
        by_worker: dict[str, dict[str, str]] = {}
        for rating in ratings:
            by_worker.setdefault(rating.reviewer, {})[rating.item] = rating.value
        for a, b in itertools.islice(itertools.combinations(sorted(by_worker), 2), 60):
            shared = sorted(by_worker[a].keys() & by_worker[b].keys())
            if len(shared) < 5:
                continue
            first, second = ([by_worker[w][item] for item in shared] for w in (a, b))
            for weights, theirs in [("none", None), ("linear", "linear"), ("quadratic",) * 2]:
                ours = cohen_kappa(first, second, weights, order)  # type: ignore[arg-type]
                if ours.value is None:
                    continue
                expected = cohen_kappa_score(first, second, labels=order, weights=theirs)
                assert ours.value == pytest.approx(expected, abs=1e-12)
                compared += 1
    assert compared > 100


def test_alpha_equals_the_published_example() -> None:
    """Krippendorff (2011), section C: four observers, twelve units, missing data."""
    rows = {
        "A": "1 2 3 3 2 1 4 1 2 . . .",
        "B": "1 2 3 3 2 2 4 1 2 5 . 3",
        "C": ". 3 3 3 2 3 4 2 2 5 1 .",
        "D": "1 2 3 3 2 4 4 1 2 5 1 .",
    }
    ratings = [
        Rating(str(unit), observer, value)
        for observer, row in rows.items()
        for unit, value in enumerate(row.split())
        if value != "."
    ]
    order = ["1", "2", "3", "4", "5"]
    published = {"nominal": 0.743, "ordinal": 0.815, "interval": 0.849}
    for level, expected in published.items():
        ours = krippendorff_alpha(ratings, level, order)  # type: ignore[arg-type]
        assert round(ours.value or 0.0, 3) == expected
        assert ours.low <= ours.value <= ours.high  # type: ignore[operator]
        assert ours.n == 11


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_the_interval_of_kappa_equals_statsmodels(weights: str) -> None:
    table = np.array([[53, 5, 2], [11, 14, 5], [1, 6, 3]])
    first = [str(i) for i in range(3) for j in range(3) for _ in range(table[i, j])]
    second = [str(j) for i in range(3) for j in range(3) for _ in range(table[i, j])]
    kind = {"none": None, "linear": "linear", "quadratic": "quadratic"}[weights]
    theirs = cohens_kappa(table, wt=kind)
    ours = cohen_kappa(first, second, weights, ["0", "1", "2"])  # type: ignore[arg-type]
    assert ours.value == pytest.approx(theirs.kappa, abs=1e-12)
    assert (ours.low, ours.high) == pytest.approx((theirs.kappa_low, theirs.kappa_upp), abs=1e-10)


ratings_lists = st.lists(
    st.tuples(st.sampled_from("ABCDEF"), st.sampled_from("xyz"), st.sampled_from("012")),
    min_size=1,
    max_size=40,
    unique_by=lambda row: row[:2],
)


@settings(deadline=None)
@given(ratings_lists)
def test_alpha_does_not_depend_on_names_or_order(rows: list[tuple[str, str, str]]) -> None:
    ratings = [Rating(*row) for row in rows]
    renamed = [Rating("i" + r.item, "r" + r.reviewer, "v" + r.value) for r in reversed(ratings)]
    here = krippendorff_alpha(ratings, interval=False)
    there = krippendorff_alpha(renamed, interval=False)
    assert (here.value is None) == (there.value is None)
    if here.value is not None:
        assert here.value <= 1.0 + 1e-12
        assert there.value == pytest.approx(here.value, abs=1e-12)


SMALL = [
    Rating("1", "ann", "yes"), Rating("1", "bob", "yes"), Rating("1", "cyd", "no"),
    Rating("2", "ann", "no"), Rating("2", "bob", "no"),
    Rating("3", "ann", "yes"),
]  # fmt: skip


def test_percentages_by_hand() -> None:
    whole = percent_agreement(SMALL)
    assert (whole.value, whole.n, whole.pairs) == (2 / 4, 2, 4)
    labels = agreement_by_label(SMALL)
    assert (labels["yes"].value, labels["yes"].pairs) == (2 / 4, 4)
    assert (labels["no"].value, labels["no"].pairs) == (2 / 4, 4)
    reviewers = agreement_by_reviewer(SMALL)
    assert {name: (a.value, a.n) for name, a in reviewers.items()} == {
        "ann": (2 / 3, 2),
        "bob": (2 / 3, 2),
        "cyd": (0.0, 1),
    }
    assert list(kappa_by_pair(SMALL)) == [("ann", "bob")]


def test_what_cannot_be_said_is_none() -> None:
    alone = [Rating("1", "ann", "yes"), Rating("2", "bob", "no")]
    for figure in (krippendorff_alpha(alone), percent_agreement(alone)):
        assert (figure.value, figure.low, figure.high, figure.n) == (None, None, None, 0)
    same = [Rating("1", "ann", "yes"), Rating("1", "bob", "yes")]
    assert krippendorff_alpha(same).value is None
    assert cohen_kappa(["yes", "yes"], ["yes", "yes"]).value is None
    assert agreement_by_reviewer(alone) == {}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: percent_agreement([SMALL[0], SMALL[0]]), "rated item '1' twice"),
        (lambda: krippendorff_alpha(SMALL, "ordinal"), "needs the order"),
        (lambda: krippendorff_alpha(SMALL, "ordinal", ["no"]), "'yes' is not in the order"),
        (lambda: krippendorff_alpha(SMALL, "interval"), "needs numbers, got"),
        (lambda: cohen_kappa(["a"], ["a", "b"]), "1 and 2 ratings cannot be paired"),
        (lambda: cohen_kappa([], []), "0 and 0 ratings cannot be paired"),
        (lambda: cohen_kappa(["a"], ["b"], "linear"), "needs the order"),
    ],
)
def test_unusable_ratings_are_refused(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()  # type: ignore[operator]
