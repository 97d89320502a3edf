"""Plans fixed beforehand, and the facts that a lab brings to the gate."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import update

from freehold.canonical.json import digest, encode_text
from freehold.datasets.suites import freeze_suite
from freehold.errors import Conflict, GateRefused, IntegrityError, NotFound, SettingsError
from freehold.evaluation.gate_plan import load_plan
from freehold.evidence.verification import verify_lab
from freehold.lab.schema import candidates, gate_plans, labels, verdicts
from freehold.registry.gating import gate_candidate, get_verdict, list_verdicts, report_page
from freehold.registry.plans import (
    find_plan,
    list_plans,
    plan_from,
    register_plan,
    write_default_plan,
)
from freehold.review.importing import import_reviews
from freehold.review.records import ImportOptions
from labelled_files import some_rows, write_rows
from registry_desk import Desk

WHOLE_PLAN = """
gate = "whole"
suite = "desk-test"
unit = "language"
min_power = 0.7
[primary]
metric = "log_loss"
margin = 0.10
want = "lower"
[alpha]
promote_auto = 0.025
[[guards]]
metric = "correct"
margin = 0.03
[[guards]]
metric = "latency_p95"
ratio = 1.5
[slices]
by = ["language"]
min_n = 20
"""


def test_a_plan_comes_back_as_it_was_fixed(desk: Desk) -> None:
    path = desk.lab.layout.gates / "whole.toml"
    path.write_text(WHOLE_PLAN)
    fixed = register_plan(desk.lab, path, actor=desk.actor)
    assert fixed.plan == load_plan(path) == plan_from(fixed.plan.contract())
    again = register_plan(desk.lab, path, actor="somebody")
    assert again == fixed
    assert find_plan(desk.lab, "whole") == find_plan(desk.lab, fixed.digest) == fixed
    path.write_text(WHOLE_PLAN.replace("0.03", "0.04"))
    newer = register_plan(desk.lab, path, actor=desk.actor)
    assert find_plan(desk.lab, "whole") == newer
    assert list_plans(desk.lab) == [fixed, newer]
    with desk.lab.writing() as connection:
        eased = {"plan": encode_text(newer.plan.contract())}
        connection.execute(
            update(gate_plans).where(gate_plans.c.plan_digest == fixed.digest).values(eased)
        )
    with pytest.raises(IntegrityError, match="gate plan whole: its rules are not those"):
        find_plan(desk.lab, fixed.digest)


def test_the_default_plan_is_registered_for_a_suite(desk: Desk) -> None:
    path = write_default_plan(desk.lab)
    text = path.read_text()
    assert write_default_plan(desk.lab).read_text() == text
    with pytest.raises(SettingsError, match=r"default\.toml is for any suite: name the one"):
        register_plan(desk.lab, path, actor=desk.actor)
    with pytest.raises(NotFound, match="no suite 'x'"):
        register_plan(desk.lab, path, actor=desk.actor, suite="x")
    fixed = register_plan(desk.lab, path, actor=desk.actor, suite="desk-test@1")
    assert fixed.plan.suite == "desk-test"
    with pytest.raises(NotFound, match="no gate plan 'other' is registered"):
        find_plan(desk.lab, "other")


def test_the_verdicts(either_desk: Desk) -> None:
    desk = either_desk
    desk.plan()
    good, poor = desk.bench.candidate("good"), desk.bench.candidate("poor", ("loan",))
    better = desk.judged(good, poor)
    worse = desk.judged(poor, good)
    same = desk.judged(desk.bench.candidate("twin"), good)
    assert [one.verdict for one in (better, worse, same)] == ["better", "worse", "not worse"]
    assert (better.passed, worse.passed) == (True, False)
    assert digest(better.record) == better.verdict_digest
    assert better.record["noise_floor"]["changed"] == 0
    assert better.record["test_uses"] == 2
    assert same.record["test_uses"] == 3
    page = report_page(desk.lab, better.verdict_id)
    assert page.startswith("GATE desk: BETTER")
    assert better.verdict_digest in page
    assert list_verdicts(desk.lab, "support") == [better, worse, same]
    assert verify_lab(desk.lab).faults == ()


def test_judging_the_same_once_more_has_its_page_too(desk: Desk) -> None:
    desk.plan()
    good, poor = desk.bench.candidate("good"), desk.bench.candidate("poor", ("loan",))
    first, again = desk.judged(good, poor), desk.judged(good, poor)
    assert first.verdict_id != again.verdict_id
    assert report_page(desk.lab, again.verdict_id) == report_page(desk.lab, first.verdict_id)


def test_the_first_champion_is_the_best_baseline_evaluated(desk: Desk) -> None:
    desk.plan()
    good = desk.bench.candidate("good")
    with pytest.raises(GateRefused, match="there is nothing to compare with"):
        desk.judged(good)
    baseline = desk.baseline()
    desk.evaluated(baseline)
    verdict = desk.judged(good)
    assert verdict.verdict == "better"
    assert verdict.record["facts"]["champion digest"] == baseline
    assert any("two kinds of engine" in one for one in verdict.record["warnings"])


def codes(record: dict[str, object]) -> set[str]:
    reasons = record["reasons"]
    assert isinstance(reasons, list)
    return {one["code"] for one in reasons}


def test_a_plan_fixed_after_the_results_counts_for_nothing(desk: Desk) -> None:
    good, poor = desk.bench.candidate("good"), desk.bench.candidate("poor", ("loan",))
    desk.evaluated(good)
    desk.plan()
    verdict = desk.judged(good, poor)
    assert verdict.verdict == "invalid"
    assert codes(verdict.record) == {"plan_after_results"}


def test_contaminated_gold_judges_nobody(desk: Desk) -> None:
    desk.plan()
    good, poor = desk.bench.candidate("good"), desk.bench.candidate("poor", ("loan",))
    with desk.lab.writing() as connection:
        one = connection.execute(labels.select().limit(1)).mappings().one()
        tainted = {"contamination": "a decision was in sight"}
        connection.execute(
            update(labels).where(labels.c.label_id == one["label_id"]).values(tainted)
        )
    verdict = desk.judged(good, poor)
    assert verdict.verdict == "invalid"
    assert codes(verdict.record) == {"contaminated_gold"}


def test_what_was_trained_on_cases_is_invalid(desk: Desk, tmp_path: Path) -> None:
    lab = desk.lab
    dataset = desk.dataset()  # later, the very text of a train row comes in as a test item
    twin = some_rows(6)[0] | {"id": "twin", "split": "test"}
    options = ImportOptions(kind="answer_key", source="late", reviewer="ada", strict=True)
    path = write_rows(tmp_path / "late.csv", [twin])
    import_reviews(lab, "support", path, actor=desk.actor, options=options)
    assert freeze_suite(lab, "support", name="desk-test", actor=desk.actor).number == 2
    desk.plan()
    poor, trained = desk.bench.candidate("poor", ("loan",)), desk.bench.candidate("trained")
    assert desk.judged(trained, poor).verdict == "better"
    run_id = desk.run_by(desk.engineer, dataset)
    with lab.writing() as connection:
        connection.execute(
            update(candidates).where(candidates.c.candidate_id == trained).values(run_id=run_id)
        )
    verdict = desk.judged(trained, poor)
    assert verdict.verdict == "invalid"
    assert codes(verdict.record) == {"leak"}
    assert "1 cases of suite desk-test are in the training data" in str(verdict.record["reasons"])
    assert verdict.trained_by == (desk.actor,)


@pytest.mark.parametrize(
    ("task", "suite", "plan", "error", "match"),
    [
        ("other", "desk-test", "desk", Conflict, "is of task support, not of other"),
        ("support", "none", "desk", NotFound, "no suite 'none'"),
        ("support", "desk-test", "none", NotFound, "no gate plan 'none'"),
        ("support", "second", "desk", Conflict, r"judges by suite desk-test, not second@1"),
    ],
)
def test_what_cannot_be_compared(
    desk: Desk, task: str, suite: str, plan: str, error: type[Exception], match: str
) -> None:
    freeze_suite(desk.lab, "support", name="second", actor=desk.actor)
    desk.plan()
    good = desk.bench.candidate("good")
    with pytest.raises(error, match=match):
        gate_candidate(
            desk.lab, task, good, suite=suite, plan=plan, champion=good, actor=desk.actor
        )


@pytest.mark.parametrize(
    "change",
    [{"verdict": "better"}, {"report": '{"outcome":"better"}'}, {"candidate_id": "sha256:other"}],
)
def test_a_verdict_flipped_behind_the_ledger_is_no_verdict(
    desk: Desk, change: dict[str, str]
) -> None:
    desk.plan()
    good, poor = desk.bench.candidate("good"), desk.bench.candidate("poor", ("loan",))
    verdict = desk.judged(poor, good)
    with desk.lab.writing() as connection:
        connection.execute(update(verdicts).values(change))
    with pytest.raises(IntegrityError, match=r"verdicts/vdt_\w+ is not what the ledger's entry"):
        get_verdict(desk.lab, verdict.verdict_id)
    with pytest.raises(NotFound, match="no verdict 'vdt_x'"):
        get_verdict(desk.lab, "vdt_x")
