"""When a gate refuses to judge at all: the comparison itself cannot be trusted.

Every check is made, so that the report names everything that is wrong in one go. A fact that is
missing counts against the candidate: what was never checked is not known to be clean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal, InvalidOperation

from freehold.evaluation.gate_plan import GatePlan
from freehold.evaluation.verdict import CaseResult, GateContext, Reason, Results


def refusals(
    plan: GatePlan, champion: Results, candidate: Results, context: GateContext
) -> tuple[Reason, ...]:
    """Return every reason for which these results may not be judged; none when they may."""
    if plan.primary is None:
        return (Reason("empty_gate", "the plan has no primary metric: it would decide nothing"),)
    found = [
        *_about_plan(plan, context),
        *_about_data(plan, context),
        *_about_engines(context),
        *_about_cases(plan, champion, candidate),
    ]
    if context.champion_again is not None:
        found += _same_cases(plan.suite, champion, context.champion_again, "the champion's rerun")
    if not found:
        found += _about_rules(plan, champion, candidate)
        if context.champion_again is not None:
            found += _scores(plan.suite, plan.primary.metric, context.champion_again, "the rerun")
    return tuple(found)


def case_scores(cases: tuple[CaseResult, ...], metric: str) -> dict[str, Decimal]:
    """Return each case's score, averaged over its repeats; raises ValueError on a bad score."""
    sums: dict[str, Decimal] = {}
    for case in cases:
        sums[case.case_id] = sums.get(case.case_id, Decimal(0)) + _number(case, metric)
    repeats = Counter(case.case_id for case in cases)
    return {case_id: total / repeats[case_id] for case_id, total in sums.items()}


def _about_plan(plan: GatePlan, context: GateContext) -> Iterator[Reason]:
    if context.plan_digest != plan.digest:
        yield Reason(
            "plan_changed",
            f"the plan is {plan.digest}, but {context.plan_digest} was fixed beforehand",
        )
    fixed, evaluated = _time(context.plan_fixed_at), _time(context.candidate.evaluated_at)
    if fixed is None or evaluated is None:
        yield Reason("time_unknown", "it is not known when the plan was fixed or results were made")
    elif fixed >= evaluated:
        yield Reason(
            "plan_after_results",
            f"the plan was fixed at {context.plan_fixed_at}, not before the candidate was"
            f" evaluated at {context.candidate.evaluated_at}",
        )


def _about_data(plan: GatePlan, context: GateContext) -> Iterator[Reason]:
    for suite in plan.suites:
        first = context.champion.cases.get(suite)
        second = context.candidate.cases.get(suite)
        if first is None or first != second:
            yield Reason("cases_differ", f"suite {suite}: champion on {first}, candidate {second}")
        if suite == plan.suite and plan.cases and second != plan.cases:
            yield Reason("cases_differ", f"suite {suite}: the plan pins {plan.cases}, not {second}")
        overlap = context.leaks.get(suite)
        if overlap is None:
            yield Reason("leak_unchecked", f"suite {suite} was never compared with training data")
        elif overlap > 0:
            yield Reason("leak", f"{overlap} cases of suite {suite} are in the training data")
    if context.contaminated_gold:
        shown = ", ".join(context.contaminated_gold[:3])
        yield Reason(
            "contaminated_gold",
            f"{len(context.contaminated_gold)} gold labels were made with a model's answer in"
            f" sight: {shown}",
        )


def _about_engines(context: GateContext) -> Iterator[Reason]:
    champion, candidate = context.champion, context.candidate
    if candidate.artefact != context.to_serve:
        yield Reason(
            "artefact_differs",
            f"{candidate.artefact} was evaluated, but {context.to_serve} would be served",
        )
    # Two kinds of engine (a linear head, a transformer) are part of what is compared; within one
    # kind a difference in version or batching would be taken for a difference between models.
    if champion.runtime != candidate.runtime:
        return
    for name, first, second in [
        ("engine", champion.engine, candidate.engine),
        ("batch_policy", champion.batch_policy, candidate.batch_policy),
    ]:
        if first != second:
            kind = name.replace("_", " ")
            yield Reason(f"{name}_differs", f"{kind}: champion {first}, candidate {second}")


def _about_cases(plan: GatePlan, champion: Results, candidate: Results) -> Iterator[Reason]:
    for suite in plan.suites:
        reasons = list(_same_cases(suite, champion, candidate, "the candidate"))
        yield from reasons
        if reasons:
            continue
        # Repeats belong to the gate's own suite; another suite may be asked once.
        wanted = plan.repeats if suite == plan.suite else None
        for name, results in [("champion", champion), ("candidate", candidate)]:
            yield from _repeats(suite, results, name, wanted)


def _same_cases(suite: str, one: Results, other: Results, name: str) -> Iterator[Reason]:
    first, second = _identities(one, suite), _identities(other, suite)
    if not first or not second:
        yield Reason("no_cases", f"suite {suite} has no results")
    elif first.keys() != second.keys():
        only = sorted(first.keys() ^ second.keys())
        yield Reason(
            "cases_differ",
            f"suite {suite}: {len(only)} cases are in one of champion and {name} only,"
            f" such as {only[0]}",
        )
    else:
        moved = sorted(case for case in first if first[case] != second[case])
        if moved:
            yield Reason(
                "cases_differ",
                f"suite {suite}: cluster or slices of {moved[0]} differ for champion and {name}",
            )


def _identities(
    results: Results, suite: str
) -> dict[str, frozenset[tuple[str, tuple[tuple[str, str], ...]]]]:
    found: dict[str, set[tuple[str, tuple[tuple[str, str], ...]]]] = {}
    for case in results.suites.get(suite, ()):
        where = (case.cluster, tuple(sorted(case.slices.items())))
        found.setdefault(case.case_id, set()).add(where)
    return {case_id: frozenset(places) for case_id, places in found.items()}


def _repeats(suite: str, results: Results, name: str, wanted: int | None) -> Iterator[Reason]:
    rows = results.suites[suite]
    if len({(row.case_id, row.repeat) for row in rows}) < len(rows):
        yield Reason("repeated_case", f"suite {suite}: the {name} has a case and repeat twice")
        return
    counts = Counter(row.case_id for row in rows)
    if any(len(places) > 1 for places in _identities(results, suite).values()):
        yield Reason("cases_differ", f"suite {suite}: repeats of a case differ in cluster or slice")
    bad = sorted(case for case, count in counts.items() if wanted and count != wanted)
    if bad:
        yield Reason(
            "repeats_differ",
            f"suite {suite}: the plan asks for {wanted} repeats, the {name} has"
            f" {counts[bad[0]]} of {bad[0]}",
        )


def _about_rules(plan: GatePlan, champion: Results, candidate: Results) -> Iterator[Reason]:
    """Check that every rule of the plan finds what it needs in the results."""
    arms = [("champion", champion), ("candidate", candidate)]
    if plan.primary is not None:
        for name, results in arms:
            yield from _scores(plan.suite, plan.primary.metric, results, f"the {name}")
    for guard in plan.guards:
        for name, results in arms:
            if guard.ratio is None:
                suite = guard.suite or plan.suite
                yield from _scores(suite, guard.metric, results, f"the {name}")
            elif not _positive(results.figures.get(guard.metric)):
                yield Reason(
                    "figure_missing", f"the {name} has no figure {guard.metric} above zero"
                )
    if plan.slices is not None:
        seen = {key for case in candidate.suites[plan.suite] for key in case.slices}
        for key in plan.slices.by:
            if key not in seen:
                yield Reason("slice_missing", f"no case of suite {plan.suite} has a slice {key}")


def _scores(suite: str, metric: str, results: Results, name: str) -> Iterator[Reason]:
    try:
        case_scores(results.suites.get(suite, ()), metric)
    except ValueError as error:
        yield Reason("score_missing", f"suite {suite}, {name}: {error}")


def _number(case: CaseResult, metric: str) -> Decimal:
    value = case.scores.get(metric)
    if value is None or isinstance(value, float):
        what = "no score" if value is None else "a float, not a decimal string, for"
        raise ValueError(f"case {case.case_id} has {what} {metric}")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"case {case.case_id}: {metric} is {value!r}, not a number") from None
    if not number.is_finite():
        raise ValueError(f"case {case.case_id}: {metric} is {value}")
    return number


def _positive(value: str | None) -> bool:
    try:
        return value is not None and Decimal(value) > 0
    except InvalidOperation:
        return False


def _time(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
