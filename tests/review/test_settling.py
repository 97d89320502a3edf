from __future__ import annotations

import pytest

from freehold.errors import InputError
from freehold.review.settling import Opinion, Outcome, Rule, settle

ONE, TWO = Rule(), Rule(reviewers=2)
PAST_IS_GOLD = Rule(historical_is_gold=True)


def live(name: str, value: str | None, *, blind: bool = True, **more: object) -> Opinion:
    return Opinion(f"rev_{name}", name, "live", value, blind=blind, **more)  # type: ignore[arg-type]


def past(name: str, value: str | None) -> Opinion:
    return Opinion(f"rev_{name}", name, "historical", value, blind=False)


def key(value: str) -> Opinion:
    return Opinion("rev_key", "key", "answer_key", value)


def ruling(value: str, *, blind: bool = True) -> Opinion:
    return Opinion("rev_judge", "judge", "adjudication", value, blind=blind)


@pytest.mark.parametrize(
    ("opinions", "rule", "expected"),
    [
        ([], ONE, None),
        ([live("a", None)], ONE, None),
        ([live("a", "x")], ONE, ("settled", "x", "agreed", True)),
        ([live("a", "x")], TWO, None),
        ([live("a", "x"), live("b", None)], TWO, None),
        ([live("a", "x"), live("b", "x")], TWO, ("settled", "x", "agreed", True)),
        ([live("a", "x"), live("b", "y")], TWO, ("disputed", None, "agreed", False)),
        (
            [live("a", "x"), live("b", "x"), live("c", "y")],
            TWO,
            ("disputed", None, "agreed", False),
        ),
        ([live("a", "x", blind=False)], ONE, ("settled", "x", "agreed", False)),
        ([live("a", "x"), live("b", "x", blind=False)], ONE, ("settled", "x", "agreed", False)),
        ([live("a", "x", by_person=False)], ONE, ("settled", "x", "agreed", False)),
        ([live("a", None, rejected=("x",), blind=False)], ONE, None),
        (
            [live("a", "x"), live("b", None, rejected=("x",), blind=False)],
            ONE,
            ("disputed", None, "agreed", False),
        ),
        (
            [live("a", "y"), live("b", None, rejected=("x",), blind=False)],
            ONE,
            ("settled", "y", "agreed", False),
        ),
        ([key("x")], TWO, ("settled", "x", "agreed", True)),
        ([past("a", "x")], TWO, ("settled", "x", "historical", False)),
        ([past("a", "x")], PAST_IS_GOLD, ("settled", "x", "historical", True)),
        ([past("a", "x"), past("b", "y")], ONE, ("disputed", None, "historical", False)),
        ([past("a", "x"), live("b", "y")], ONE, ("settled", "y", "agreed", True)),
        ([past("a", "x"), live("b", "y")], TWO, ("settled", "x", "historical", False)),
        (
            [live("a", "x"), live("b", "y"), ruling("y")],
            TWO,
            ("settled", "y", "adjudicated", True),
        ),
        (
            [live("a", "x"), live("b", "y"), ruling("y", blind=False)],
            TWO,
            ("settled", "y", "adjudicated", False),
        ),
        (
            [live("a", "x", blind=False), live("b", "y"), ruling("y")],
            TWO,
            ("settled", "y", "adjudicated", False),
        ),
        ([past("a", "x"), past("b", "y"), ruling("y")], ONE,
         ("settled", "y", "adjudicated", False)),
    ],
)  # fmt: skip
def test_what_reviews_add_up_to(
    opinions: list[Opinion], rule: Rule, expected: tuple[str, str | None, str, bool] | None
) -> None:
    outcome = settle(opinions, rule)
    told = outcome and (outcome.state, outcome.value, outcome.basis, outcome.gold)
    assert told == expected


def test_a_contaminated_label_says_why() -> None:
    outcome = settle([live("a", "x", blind=False), live("b", "x", by_person=False)], ONE)
    assert outcome == Outcome(
        "settled",
        "x",
        "agreed",
        "1 of 2 reviews saw a model's answer; 1 of 2 reviews were given by a service, not a person",
        ("rev_a", "rev_b"),
    )


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="unknown kind of review 'rumour'"):
        settle([Opinion("r", "a", "rumour", "x")], ONE)
