"""The gate: its five verdicts, its refusals, its record and its report."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.canonical.json import decode, encode
from freehold.evaluation.gate import (
    ArmFacts,
    CaseResult,
    GateContext,
    GatePlan,
    Results,
    Verdict,
    judge,
    render_report,
)
from freehold.evaluation.gate_plan import Guard, Primary, SliceRule

SUITE = "refunds-test"
PLAN = GatePlan("refunds-v3", SUITE, Primary("correct", Decimal("0.02")))
CASES = "sha256:cases"


def arm(name: str, **changes: object) -> ArmFacts:
    facts = ArmFacts(
        candidate=f"sha256:{name}",
        artefact=f"sha256:{name}-files",
        runtime="transformers",
        engine="transformers 5.23.0 cpu float32",
        batch_policy="tokens 4096",
        cases={SUITE: CASES, "general": "sha256:general"},
        evaluated_at="2026-03-02T10:00:00.000000Z",
    )
    return replace(facts, **changes)  # type: ignore[arg-type]


def context(plan: GatePlan = PLAN, **changes: object) -> GateContext:
    facts = GateContext(
        champion=arm("old"),
        candidate=arm("new"),
        to_serve="sha256:new-files",
        plan_digest=plan.digest,
        plan_fixed_at="2026-03-01T10:00:00.000000Z",
        leaks={SUITE: 0, "general": 0},
        trained_by=("p-17",),
    )
    return replace(facts, **changes)  # type: ignore[arg-type]


def scored(values: list[int | str], metric: str = "correct", suite: str = SUITE) -> Results:
    rows = [
        CaseResult(f"c{i:05}", f"k{i:05}", {metric: v}, {"language": "en" if i % 2 else "de"})
        for i, v in enumerate(values)
    ]
    return Results({suite: tuple(rows)})


def arms(gained: int, lost: int, n: int) -> tuple[Results, Results]:
    """Return a champion and a candidate that differ on exactly so many cases."""
    same = n - gained - lost
    right = [int(i % 10 != 0) for i in range(same)]
    return scored([0] * gained + [1] * lost + right), scored([1] * gained + [0] * lost + right)


VERDICTS = [
    ("clearly better", (60, 20, 1_000), "better", "primary_better"),
    ("the same answers", (0, 0, 1_000), "not worse", "primary_not_worse"),
    ("a little better", (32, 25, 2_000), "not worse", "primary_not_worse"),
    ("clearly worse", (20, 60, 1_000), "worse", "primary_worse"),
    ("too few cases", (6, 5, 60), "too close to call", "primary_open"),
    ("identical, too few cases", (0, 0, 40), "too close to call", "primary_open"),
]


@pytest.mark.parametrize(
    ("counts", "outcome", "code"), [row[1:] for row in VERDICTS], ids=[r[0] for r in VERDICTS]
)
def test_the_verdicts(counts: tuple[int, int, int], outcome: str, code: str) -> None:
    verdict = judge(PLAN, *arms(*counts), context())
    assert (verdict.outcome, verdict.reasons[0].code) == (outcome, code)
    assert verdict.passed is (outcome in ("better", "not worse"))
    assert verdict.may_promote_itself is (outcome == "better")
    assert (verdict.more_reviews > 0) is (outcome == "too close to call")
    assert verdict.primary is not None
    assert len(verdict.primary.wins) == counts[0]
    assert len(verdict.primary.losses) == counts[1]
    assert verdict.primary.ties == counts[2] - counts[0] - counts[1]


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((60, 20, 1_000), "may promote itself"),
        ((36, 25, 2_000), "propose to a person"),
        ((30, 30, 2_000), "without a sign of a gain"),
        ((20, 60, 1_000), "none"),
    ],
)
def test_what_it_proposes(counts: tuple[int, int, int], words: str) -> None:
    assert words in judge(PLAN, *arms(*counts), context()).proposal


def with_cases(change: Callable[[CaseResult], CaseResult]) -> Callable[[Results], Results]:
    def apply(results: Results) -> Results:
        return Results({SUITE: tuple(change(case) for case in results.suites[SUITE])})

    return apply


def first_only(**changes: object) -> Callable[[Results], Results]:
    def change(case: CaseResult) -> CaseResult:
        return replace(case, **changes) if case.case_id == "c00000" else case  # type: ignore[arg-type]

    return with_cases(change)


CONTEXT_REFUSALS = [
    ("plan_changed", {"plan_digest": "sha256:other"}),
    ("plan_after_results", {"plan_fixed_at": "2026-03-02T10:00:00.000000Z"}),
    ("plan_after_results", {"plan_fixed_at": "2026-03-03T10:00:00.000000Z"}),
    ("time_unknown", {"plan_fixed_at": "yesterday"}),
    ("time_unknown", {"plan_fixed_at": "2026-03-01T10:00:00"}),
    ("cases_differ", {"candidate": arm("new", cases={SUITE: "sha256:edited"})}),
    ("cases_differ", {"champion": arm("old", cases={}), "candidate": arm("new", cases={})}),
    ("leak", {"leaks": {SUITE: 3}}),
    ("leak_unchecked", {"leaks": {}}),
    ("contaminated_gold", {"contaminated_gold": ("c00001",)}),
    ("artefact_differs", {"to_serve": "sha256:another"}),
    ("engine_differs", {"candidate": arm("new", engine="transformers 5.24.0 cpu float32")}),
    ("batch_policy_differs", {"candidate": arm("new", batch_policy="tokens 512")}),
    ("cases_differ", {"champion_again": scored([1, 0])}),
]


@pytest.mark.parametrize(("code", "changes"), CONTEXT_REFUSALS)
def test_facts_that_make_it_invalid(code: str, changes: dict[str, object]) -> None:
    verdict = judge(PLAN, *arms(60, 20, 1_000), context(**changes))
    assert verdict.outcome == "invalid"
    assert [reason.code for reason in verdict.reasons] == [code]
    assert (verdict.passed, verdict.primary, verdict.proposal) == (False, None, "")
    assert code in render_report(verdict)


RESULT_REFUSALS = [
    ("no_cases", lambda _: Results({})),
    ("no_cases", lambda _: Results({SUITE: ()})),
    ("cases_differ", lambda r: Results({SUITE: r.suites[SUITE][1:]})),
    ("cases_differ", first_only(case_id="c99999")),
    ("cases_differ", first_only(cluster="another")),
    ("cases_differ", first_only(slices={"language": "fr"})),
    ("repeated_case", lambda r: Results({SUITE: (*r.suites[SUITE], r.suites[SUITE][0])})),
    (
        "repeats_differ",
        lambda r: Results({SUITE: (*r.suites[SUITE], replace(r.suites[SUITE][0], repeat=1))}),
    ),
    ("score_missing", first_only(scores={"other": 1})),
    ("score_missing", first_only(scores={"correct": "nan"})),
    ("score_missing", first_only(scores={"correct": "many"})),
    ("score_missing", first_only(scores={"correct": 0.5})),
]


@pytest.mark.parametrize(("code", "change"), RESULT_REFUSALS)
def test_results_that_make_it_invalid(code: str, change: Callable[[Results], Results]) -> None:
    champion, candidate = arms(60, 20, 1_000)
    verdict = judge(PLAN, champion, change(candidate), context())
    assert (verdict.outcome, {r.code for r in verdict.reasons}) == ("invalid", {code})


PLAN_REFUSALS = [
    ("empty_gate", GatePlan("empty", SUITE, None)),
    ("cases_differ", replace(PLAN, cases="sha256:pinned")),
    ("repeats_differ", replace(PLAN, repeats=3)),
    ("score_missing", replace(PLAN, guards=(Guard("json_valid", Decimal(0)),))),
    ("figure_missing", replace(PLAN, guards=(Guard("latency", ratio=Decimal(1)),))),
    ("no_cases", replace(PLAN, guards=(Guard("correct", Decimal(0), suite="general"),))),
    ("slice_missing", replace(PLAN, slices=SliceRule(("langauge",)))),
]


@pytest.mark.parametrize(("code", "plan"), PLAN_REFUSALS)
def test_plans_that_make_it_invalid(code: str, plan: GatePlan) -> None:
    verdict = judge(plan, *arms(60, 20, 1_000), context(plan))
    assert (verdict.outcome, {r.code for r in verdict.reasons}) == ("invalid", {code})


def test_all_reasons_are_named_at_once() -> None:
    facts = context(leaks={SUITE: 2}, to_serve="sha256:x", contaminated_gold=("c1", "c2"))
    verdict = judge(PLAN, *arms(1, 1, 100), facts)
    assert {r.code for r in verdict.reasons} == {"leak", "artefact_differs", "contaminated_gold"}


def test_two_kinds_of_engine_may_meet_and_are_named() -> None:
    facts = context(champion=arm("old", runtime="estimator", engine="sklearn", batch_policy="all"))
    verdict = judge(PLAN, *arms(60, 20, 1_000), facts)
    assert verdict.outcome == "better"
    assert any("estimator and transformers" in warning for warning in verdict.warnings)


def joined(main: Results, other: Results) -> Results:
    return Results({**main.suites, **other.suites}, {**main.figures, **other.figures})


GUARDS = [
    ("held", (0, 0, 500), "better"),
    ("open", (5, 8, 120), "too close to call"),
    ("broken", (0, 60, 500), "worse"),
]


@pytest.mark.parametrize(("standing", "counts", "outcome"), GUARDS)
def test_a_guard_on_another_suite(
    standing: str, counts: tuple[int, int, int], outcome: str
) -> None:
    plan = replace(PLAN, guards=(Guard("correct", Decimal("0.03"), suite="general"),))
    pairs = zip(arms(60, 20, 1_000), arms(*counts), strict=True)
    both = [joined(main, Results({"general": other.suites[SUITE]})) for main, other in pairs]
    verdict = judge(plan, both[0], both[1], context(plan))
    assert (verdict.outcome, verdict.guards[0].standing) == (outcome, standing)
    assert (verdict.more_reviews > 0) is (outcome == "too close to call")


@pytest.mark.parametrize(("after", "outcome"), [("119", "better"), ("121", "worse")])
def test_a_guard_on_a_figure_of_the_whole_run(after: str, outcome: str) -> None:
    plan = replace(PLAN, guards=(Guard("latency_p95", ratio=Decimal("1.2"), want="lower"),))
    champion, candidate = arms(60, 20, 1_000)
    verdict = judge(
        plan,
        replace(champion, figures={"latency_p95": "100"}),
        replace(candidate, figures={"latency_p95": after}),
        context(plan),
    )
    assert verdict.outcome == outcome
    assert verdict.figures == (("latency_p95", "100", after),)


def test_a_slice_can_break_a_gain_and_a_small_one_is_only_shown() -> None:
    plan = replace(PLAN, slices=SliceRule(("language",), min_n=50))
    old, new = [0] * 300 + [1] * 100 + [1] * 20, [1] * 300 + [0] * 60 + [1] * 40 + [0] * 20
    names = ["en"] * 300 + ["de"] * 100 + ["fr"] * 20

    def results(values: list[int]) -> Results:
        rows = zip(values, names, strict=True)
        cases = [
            CaseResult(f"c{i}", f"k{i}", {"correct": v}, {"language": name})
            for i, (v, name) in enumerate(rows)
        ]
        return Results({SUITE: tuple(cases)})

    verdict = judge(plan, results(old), results(new), context(plan))
    standings = {part.value: part.standing for part in verdict.slices}
    assert standings == {"de": "broken", "en": "held", "fr": "shown only"}
    assert verdict.outcome == "worse"
    assert [r.code for r in verdict.reasons] == ["slice_broken"]


def test_less_is_better_for_errors() -> None:
    plan = replace(PLAN, primary=Primary("error", Decimal("0.1"), "lower"))
    generator = np.random.default_rng(8)
    errors = np.abs(generator.normal(0, 1, 200)).round(3)
    better = (errors * 0.8).round(3)
    old, new = (scored([str(v) for v in values], "error") for values in (errors, better))
    verdict = judge(plan, old, new, context(plan))
    assert verdict.outcome == "better"
    assert judge(plan, new, old, context(plan)).outcome == "worse"


def test_repeats_are_averaged_within_a_case() -> None:
    plan = replace(PLAN, repeats=2)
    rows = [
        CaseResult(f"c{i}", f"k{i}", {"correct": int((i + r) % 2)}, repeat=r)
        for i in range(40)
        for r in (0, 1)
    ]
    results = Results({SUITE: tuple(rows)})
    verdict = judge(plan, results, results, context(plan))
    assert verdict.primary is not None
    assert (verdict.primary.n, verdict.primary.champion.value) == (40, 0.5)


def test_the_warnings_tell_of_worn_sets_weak_tests_and_noise() -> None:
    champion, candidate = arms(6, 5, 300)
    again, _ = arms(11, 0, 300)
    facts = context(test_uses=4, champion_again=again)
    verdict = judge(PLAN, champion, candidate, facts)
    told = " / ".join(verdict.warnings)
    assert "underpowered: with 300 cases" in told
    assert "this test set was used 4 times" in told
    assert "no larger than between two runs of the champion itself" in told
    assert verdict.noise is not None
    assert (verdict.noise.changed, verdict.noise.n) == (5, 300)
    quiet = judge(PLAN, *arms(0, 0, 5_000), context(champion_again=arms(0, 0, 5_000)[0]))
    assert quiet.warnings == ()


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 300), data=st.data())
def test_swapping_the_arms_mirrors_and_the_order_of_rows_is_nothing(
    n: int, data: st.DataObject
) -> None:
    gained = data.draw(st.integers(0, n))
    lost = data.draw(st.integers(0, n - gained))
    champion, candidate = arms(gained, lost, n)
    here, there = (
        judge(PLAN, champion, candidate, context()),
        judge(PLAN, candidate, champion, context()),
    )
    assert here.primary is not None
    assert there.primary is not None
    assert there.primary.interval == here.primary.interval.mirrored()
    assert there.primary.wins == here.primary.losses
    if here.outcome == "better":
        assert there.outcome == "worse"
    shuffled = Results({SUITE: tuple(reversed(candidate.suites[SUITE]))})
    assert judge(PLAN, champion, shuffled, context()).digest == here.digest


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.integers(0, 1), min_size=1, max_size=200), groups=st.integers(1, 60))
def test_identical_results_are_never_better(values: list[int], groups: int) -> None:
    rows = [CaseResult(f"c{i}", f"k{i % groups}", {"correct": v}) for i, v in enumerate(values)]
    results = Results({SUITE: tuple(rows)})
    verdict = judge(PLAN, results, results, context())
    assert verdict.outcome in ("not worse", "too close to call")


def full_verdict() -> Verdict:
    plan = replace(
        PLAN,
        guards=(
            Guard("correct", Decimal("0.03"), suite="general"),
            Guard("latency_p95", ratio=Decimal("1.2"), want="lower"),
        ),
        slices=SliceRule(("language",)),
    )
    pairs = zip(arms(60, 20, 1_000), arms(3, 2, 600), ("100", "110"), strict=True)
    both = [
        Results(
            {**main.suites, "general": other.suites[SUITE]}, {"latency_p95": late, "ece": "0.04"}
        )
        for main, other, late in pairs
    ]
    facts = context(plan, champion_again=both[0], test_uses=3)
    return judge(plan, both[0], both[1], facts)


def test_the_record_is_canonical_and_pins_everything() -> None:
    verdict = full_verdict()
    record = verdict.as_record()
    assert decode(encode(record)) == json.loads(json.dumps(record))
    assert record["outcome"] == "better"
    assert len(record["primary"]["wins"]) == 60
    assert record["primary"]["difference"] == "0.040000"
    assert record["facts"]["plan"].startswith("sha256:")
    assert full_verdict().digest == verdict.digest
    assert replace(verdict, outcome="not worse").digest != verdict.digest


def test_the_report_is_one_ascii_page_with_everything_on_it() -> None:
    verdict = full_verdict()
    text = render_report(verdict)
    assert text.isascii()
    assert max(len(line) for line in text.splitlines()) <= 96
    assert len(text.splitlines()) < 90
    for part in [
        "GATE refunds-v3: BETTER",
        "difference +0.040000",
        "60 wins, 20 losses, 920 ties",
        "c00000",
        "general.correct",
        "language = de",
        "to show 'not worse' between equal models",
        "champion against itself: 0 of 1000 cases changed",
        "used 3 times",
        "trained by: p-17",
        "ece",
        verdict.digest,
    ]:
        assert part in text


def test_names_from_users_cannot_break_the_page() -> None:
    plan = replace(PLAN, name="Gäte\x1b[31m\nPASSED")
    text = render_report(judge(plan, *arms(20, 60, 1_000), context(plan)))
    assert text.isascii()
    assert "\x1b" not in text
    assert "G\\xe4te" in text
    assert "\nPASSED" not in text


def test_the_gate_keeps_its_error_rates_and_the_naive_rule_does_not() -> None:
    """600 rounds at n = 200; `benchmarks/gate_error.py` does the same with more."""
    generator = np.random.default_rng(12)
    plan = replace(PLAN, primary=Primary("correct", Decimal("0.03")))
    facts = context(plan)
    passed = naive = better = 0
    seen: dict[tuple[int, int], str] = {}
    for gained, lost, _ in generator.multinomial(200, [0.035, 0.065, 0.9], 600):
        key = (int(gained), int(lost))
        if key not in seen:
            seen[key] = judge(plan, *arms(*key, 200), facts).outcome
        passed += seen[key] in ("better", "not worse")
        better += seen[key] == "better"
        naive += gained >= lost
    assert better / 600 < 0.02
    assert passed / 600 < 0.08
    assert naive / 600 > 0.09
