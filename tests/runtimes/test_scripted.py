"""The shipped fake answers by its rule, the same everywhere, and says what it is."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from freehold.errors import SettingsError
from freehold.runtimes.base import Question, Scorer
from freehold.runtimes.open import RuntimeSpec, open_scorer

KEYWORDS = """
format = "freehold-scripted/1"
rule = "keywords"
seed = "s"
fail_on = ["BOOM"]
[keywords]
refund = ["money back", "refund"]
card_lost = ["card"]
"""


def opened(directory: Path, text: str, question: Question) -> Scorer:
    (directory / "scripted.toml").write_text(text)
    return open_scorer(RuntimeSpec("scripted", directory), question)


def best(question: Question, probabilities: tuple[float, ...]) -> str:
    return question.names[probabilities.index(max(probabilities))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("My CARD is gone", "card_lost"),
        ("refund: I want my money back for the card", "refund"),
    ],
)
def test_the_option_with_most_keywords_wins(tmp_path, choice, text, expected):
    scored = opened(tmp_path, KEYWORDS, choice).score([text])[0]
    assert best(choice, scored.probabilities) == expected
    assert sum(scored.probabilities) == pytest.approx(1)
    assert not scored.calibrated


def test_listed_failures_fail_and_the_others_are_answered(tmp_path, choice):
    rows = opened(tmp_path, KEYWORDS, choice).score(["card", "BOOM", "refund"])
    assert [row.error for row in rows] == [None, "scripted to fail on 'BOOM'", None]


def test_the_hash_rule_is_pinned(tmp_path, choice, labels, number):
    """The same on every machine and in every version: a demo may rely on it."""
    script = 'format = "freehold-scripted/1"\nseed = "k"'
    texts = [f"text {n}" for n in range(8)]
    rows = opened(tmp_path, script, choice).score(texts)
    picked = [choice.names.index(best(choice, row.probabilities)) for row in rows]
    assert picked == [0, 1, 1, 0, 2, 1, 2, 1]
    assert all(0 < row.value < 10 for row in opened(tmp_path, script, number).score(texts))
    shares = {p for row in opened(tmp_path, script, labels).score(texts) for p in row.probabilities}
    assert sorted(shares) == pytest.approx([0.1, 0.9])


def test_latency_is_spent(tmp_path, choice):
    scorer = opened(tmp_path, 'format = "freehold-scripted/1"\nlatency_ms = 20', choice)
    start = time.monotonic()
    scorer.score(["a", "b"])
    assert time.monotonic() - start >= 0.04


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("", "format must be"),
        ('format = "freehold-scripted/1"\nspeed = 3', "unknown key or wrong type: speed = 3"),
        ('format = "freehold-scripted/1"\nrule = "dice"', "scripted.toml: unknown rule 'dice'"),
        ('format = "freehold-scripted/1"\n[keywords]\nzz = ["a"]', r"does not have: \['zz'\]"),
        ("not toml", "cannot be read"),
    ],
)
def test_a_bad_script_is_refused(tmp_path, choice, script, message):
    with pytest.raises(SettingsError, match=message):
        opened(tmp_path, script, choice)
