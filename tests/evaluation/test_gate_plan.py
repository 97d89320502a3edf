"""A gate's plan: read strictly, digested exactly."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from freehold.errors import SettingsError
from freehold.evaluation.gate import load_plan, parse_plan
from freehold.evaluation.gate_plan import Guard

WHOLE = """
gate = "refunds-v3"
suite = "refunds-test"
cases = "sha256:9f"
unit = "ticket_id"
repeats = 1
min_power = 0.8
cases_per_use = 100

[primary]
metric = "correct"
margin = 0.02
want = "higher"

[alpha]
promote_auto = 0.05
propose_to_human = 0.20
guard = 0.05

[[guards]]
metric = "json_valid"
margin = 0.005

[[guards]]
metric = "correct"
suite = "general"
margin = 0.03

[[guards]]
metric = "latency_p95"
ratio = 1.2

[slices]
by = ["language", "product"]
min_n = 50
margin = 0.05
correction = "holm"
"""
SHORT = 'gate = "g"\nsuite = "s"\n[primary]\nmetric = "correct"\nmargin = 0.02\n'


def test_every_key_is_read() -> None:
    plan = parse_plan(WHOLE)
    assert plan.primary is not None
    assert (plan.primary.margin, plan.unit) == (Decimal("0.02"), "ticket_id")
    assert plan.guards[1] == Guard("correct", Decimal("0.03"), suite="general")
    assert (plan.guards[2].ratio, plan.guards[2].want) == (Decimal("1.2"), "lower")
    assert plan.slices is not None
    assert plan.slices.by == ("language", "product")
    assert plan.suites == ("refunds-test", "general")


def test_the_digest_covers_meaning_and_not_spelling() -> None:
    short = parse_plan(SHORT)
    assert short.digest == parse_plan(SHORT.replace("0.02", "0.020") + "\n# a note\n").digest
    assert short.digest == parse_plan('unit = "case_id"\n' + SHORT).digest
    for old, new in [("0.02", "0.03"), ('"correct"', '"exact"'), ('"g"', '"h"')]:
        assert parse_plan(SHORT.replace(old, new)).digest != short.digest


def test_the_digest_stays_what_it_is() -> None:
    """A digest that was recorded must be found again by every later version."""
    assert parse_plan(SHORT).digest == (
        "sha256:c067649576eaf70a1872cd1ce2b07891a550dce15a584760cb88aad25f3e375e"
    )


GUARD = '[[guards]]\nmetric = "x"\n'
BAD = [
    ("an empty file", "", "needs \\[primary\\]; one without it would decide nothing"),
    ("no primary", 'gate = "g"\nsuite = "s"\n', "needs \\[primary\\]"),
    ("unknown key", "margins = 1\n" + SHORT, "gate.toml: margins is not a key"),
    ("unknown key below", SHORT + "colour = 1\n", "primary.colour is not a key"),
    ("no name", SHORT.replace('gate = "g"', ""), "gate is missing"),
    ("empty name", SHORT.replace('"g"', '""'), "gate must be text"),
    ("no margin", SHORT.replace("margin = 0.02", ""), "primary.margin is missing"),
    ("negative margin", SHORT.replace("0.02", "-0.02"), "primary.margin must be at least 0"),
    ("margin in words", SHORT.replace("0.02", '"2 %"'), "primary.margin must be a number"),
    ("a margin of nan", SHORT.replace("0.02", "nan"), "primary.margin must be at least 0"),
    ("want", SHORT + 'want = "more"\n', 'primary.want is "higher" or "lower"'),
    ("alpha", SHORT + "[alpha]\nguard = 0.5\n", "alpha.guard must be above 0 and below 0.5"),
    ("alpha true", SHORT + "[alpha]\nguard = true\n", "alpha.guard must be a number"),
    ("alphas", SHORT + "[alpha]\npropose_to_human = 0.01\n", "cannot be stricter"),
    ("guard without rule", SHORT + GUARD, "guards\\[0\\].margin takes either a margin or"),
    ("guard with both", SHORT + GUARD + "margin = 0.1\nratio = 1.1\n", "exactly one of them"),
    ("guard ratio up", SHORT + GUARD + 'ratio = 1.1\nwant = "higher"\n', "should be low"),
    ("second guard", SHORT + GUARD + "margin = 0\n" + GUARD + "n = 1\n", "guards\\[1\\]"),
    ("guards as table", SHORT + '[guards]\nmetric = "x"\n', "guards must be tables"),
    ("no slices", SHORT + "[slices]\nby = []\n", "slices.by must be a list of names"),
    ("min_n", SHORT + '[slices]\nby = ["a"]\nmin_n = 0\n', "slices.min_n must be a whole number"),
    ("correction", SHORT + '[slices]\nby = ["a"]\ncorrection = "none"\n', 'knows only "holm"'),
    ("repeats", "repeats = 0\n" + SHORT, "repeats must be a whole number of at least 1"),
    ("power", "min_power = 1.0\n" + SHORT, "min_power must be above 0 and below 1"),
    ("primary as text", 'gate = "g"\nsuite = "s"\nprimary = "correct"\n', "must be a table"),
    ("broken", "gate = ", "gate.toml is not TOML"),
]


@pytest.mark.parametrize(("text", "message"), [row[1:] for row in BAD], ids=[r[0] for r in BAD])
def test_a_wrong_plan_is_refused_by_file_and_key(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        parse_plan(text)
    assert caught.value.where["file"] == "gate.toml"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no gate at"):
        load_plan(tmp_path / "none.toml")
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'gate = "\xe9"')
    with pytest.raises(SettingsError, match="is not UTF-8"):
        load_plan(latin)
    whole = tmp_path / "whole.toml"
    whole.write_text(WHOLE, encoding="utf-8")
    assert load_plan(whole) == parse_plan(WHOLE)
