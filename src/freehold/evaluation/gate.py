"""The gate: whether this candidate may take the champion's place.

`judge` is a pure function of a plan that was fixed beforehand, two sets of results on the same
frozen cases, and facts about them. It gives one of five verdicts:

- **better**: shown to be an improvement, and every guard holds; may promote itself if policy allows
- **not worse**: shown not to be worse by more than the margin, guards hold; a person may promote
- **worse**: shown to be worse, or a guard or a slice is shown to be broken
- **too close to call**: none of these, with about how many more random reviews would settle it
- **invalid**: the comparison itself cannot be trusted (`refusals`)

Guards must all hold, which needs no correction for their number (intersection–union test). Slices
are watched for harm: one is broken when it is down by more than its margin and the harm survives
Holm's correction over all slices judged. Without the correction, one of 20 slices of 100 cases
looks significantly harmed in 38 % of comparisons between equal models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from freehold.evaluation.gate_plan import GatePlan, Guard, Primary, SliceRule, load_plan, parse_plan
from freehold.evaluation.gate_report import render_report
from freehold.evaluation.intervals import cluster_mean, wilson
from freehold.evaluation.paired import Difference, compare, holm
from freehold.evaluation.power import (
    detectable_gain,
    more_cases,
    planning_variance,
    power_for_bound,
)
from freehold.evaluation.refusals import case_scores, refusals
from freehold.evaluation.verdict import (
    ArmFacts,
    CaseResult,
    Comparison,
    GateContext,
    GuardResult,
    Measured,
    NoiseFloor,
    Outcome,
    Power,
    Reason,
    Results,
    SliceResult,
    Standing,
    Verdict,
)

__all__ = [
    "ArmFacts",
    "CaseResult",
    "GateContext",
    "GatePlan",
    "Results",
    "Verdict",
    "judge",
    "load_plan",
    "noise_floor",
    "parse_plan",
    "render_report",
]


def judge(plan: GatePlan, champion: Results, candidate: Results, context: GateContext) -> Verdict:
    """Return the verdict of the plan on these results; the same input gives the same bytes."""
    facts = _facts(plan, context)
    reasons = refusals(plan, champion, candidate, context)
    if reasons or plan.primary is None:
        return Verdict(
            outcome="invalid",
            reasons=reasons,
            plan=plan.name,
            facts=facts,
            test_uses=context.test_uses,
            trained_by=context.trained_by,
        )
    pairs = _pair(plan.primary, plan.suite, champion, candidate)
    primary = _comparison(plan, pairs)
    guards = tuple(_guard(plan, guard, champion, candidate) for guard in plan.guards)
    slices = _slices(plan.slices, pairs, float(plan.alphas.guard)) if plan.slices else ()
    outcome, reasons = _outcome(plan, primary, guards, slices)
    power = _power(plan, primary)
    noise = None
    if context.champion_again is not None:
        noise = noise_floor(plan, champion, context.champion_again)
    return Verdict(
        outcome=outcome,
        reasons=reasons,
        plan=plan.name,
        facts=facts,
        warnings=tuple(_warnings(plan, context, primary, power, noise)),
        proposal=_proposal(plan, outcome, primary),
        primary=primary,
        guards=guards,
        slices=slices,
        power=power,
        noise=noise,
        more_reviews=_more(plan, outcome, primary, guards),
        test_uses=context.test_uses,
        figures=_shared_figures(champion, candidate),
        trained_by=context.trained_by,
    )


def noise_floor(plan: GatePlan, first: Results, second: Results) -> NoiseFloor:
    """Return how far two runs of one and the same candidate differ on the primary metric.

    Raises InputError when there are no cases; `judge` has checked that the cases are the same.
    """
    metric = plan.primary.metric if plan.primary else ""
    here = case_scores(first.suites.get(plan.suite, ()), metric)
    there = case_scores(second.suites.get(plan.suite, ()), metric)
    changed = sum(1 for case_id, score in here.items() if there[case_id] != score)
    total = sum((there[case_id] - score for case_id, score in here.items()), Decimal(0))
    n = len(here)
    return NoiseFloor(changed, n, wilson(changed, n), float(total / n) if n else 0.0)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Both arms' scores of one metric, case by case in the order of case ids."""

    rule: Primary
    suite: str
    cases: tuple[CaseResult, ...]
    champion: tuple[Decimal, ...]
    candidate: tuple[Decimal, ...]

    @property
    def differences(self) -> list[float]:
        """Candidate minus champion, turned so that positive is good."""
        sign = 1 if self.rule.want == "higher" else -1
        pairs = zip(self.champion, self.candidate, strict=True)
        return [float(sign * (new - old)) for old, new in pairs]

    @property
    def clusters(self) -> list[str]:
        return [case.cluster for case in self.cases]


def _pair(rule: Primary, suite: str, champion: Results, candidate: Results) -> _Pairs:
    old = case_scores(champion.suites[suite], rule.metric)
    new = case_scores(candidate.suites[suite], rule.metric)
    cases = {case.case_id: case for case in champion.suites[suite]}
    order = sorted(cases)
    return _Pairs(
        rule=rule,
        suite=suite,
        cases=tuple(cases[case_id] for case_id in order),
        champion=tuple(old[case_id] for case_id in order),
        candidate=tuple(new[case_id] for case_id in order),
    )


def _comparison(plan: GatePlan, pairs: _Pairs) -> Comparison:
    differences, clusters = pairs.differences, pairs.clusters
    seen = compare(differences, clusters, 1.0 - 2.0 * float(plan.alphas.promote_auto))
    bound = seen.interval
    if plan.alphas.guard != plan.alphas.promote_auto:
        bound = compare(differences, clusters, 1.0 - 2.0 * float(plan.alphas.guard)).interval
    ids = [case.case_id for case in pairs.cases]
    flips = list(zip(ids, differences, strict=True))
    return Comparison(
        suite=pairs.suite,
        metric=pairs.rule.metric,
        want=pairs.rule.want,
        margin=pairs.rule.margin,
        champion=_measured(pairs.champion, clusters),
        candidate=_measured(pairs.candidate, clusters),
        difference=seen.estimate,
        interval=seen.interval,
        bound=bound,
        p_better=seen.p_better,
        p_worse=seen.p_worse,
        n=seen.n,
        clusters=seen.clusters,
        variance=seen.variance,
        method=seen.method,
        wins=tuple(case_id for case_id, value in flips if value > 0),
        losses=tuple(case_id for case_id, value in flips if value < 0),
    )


def _measured(scores: tuple[Decimal, ...], clusters: list[str]) -> Measured:
    values = [float(score) for score in scores]
    if set(scores) <= {Decimal(0), Decimal(1)} and len(set(clusters)) == len(values):
        right = round(sum(values))
        return Measured(right / len(values), wilson(right, len(values)))
    mean = cluster_mean(values, clusters)
    return Measured(mean.mean, mean.interval())


def _standing(comparison: Comparison) -> Standing:
    """Say whether a metric is shown not to be worse by its margin, shown to be, or neither."""
    line = -float(comparison.margin)
    if comparison.bound.low > line:
        return "held"
    return "broken" if comparison.bound.high < line else "open"


def _guard(plan: GatePlan, guard: Guard, champion: Results, candidate: Results) -> GuardResult:
    if guard.ratio is not None:
        old, new = (Decimal(arm.figures[guard.metric]) for arm in (champion, candidate))
        standing: Standing = "held" if new <= guard.ratio * old else "broken"
        return GuardResult(guard.metric, standing, ratio=new / old, limit=guard.ratio)
    rule = Primary(guard.metric, guard.margin or Decimal(0), guard.want)
    suite = guard.suite or plan.suite
    comparison = _comparison(plan, _pair(rule, suite, champion, candidate))
    standing = _standing(comparison)
    more = 0
    if standing == "open":
        more = _more_for(plan, comparison, (-float(rule.margin),))
    return GuardResult(f"{suite}.{guard.metric}", standing, comparison, more=more)


def _slices(rule: SliceRule, pairs: _Pairs, alpha: float) -> tuple[SliceResult, ...]:
    groups: dict[tuple[str, str], list[int]] = {}
    for position, case in enumerate(pairs.cases):
        for key in rule.by:
            groups.setdefault((key, case.slices.get(key, "(none)")), []).append(position)
    differences, clusters = pairs.differences, pairs.clusters
    seen: dict[tuple[str, str], Difference] = {
        name: compare([differences[i] for i in rows], [clusters[i] for i in rows], 1 - 2 * alpha)
        for name, rows in sorted(groups.items())
    }
    judged = [name for name, part in seen.items() if part.n >= rule.min_n]
    adjusted = dict(zip(judged, holm([seen[name].p_worse for name in judged]), strict=True))
    return tuple(
        SliceResult(
            key=name[0],
            value=name[1],
            standing=_slice_standing(part, adjusted.get(name), float(rule.margin), alpha),
            difference=part.estimate,
            bound=part.interval,
            n=part.n,
            p_holm=adjusted.get(name),
        )
        for name, part in seen.items()
    )


def _slice_standing(
    part: Difference, p_holm: float | None, margin: float, alpha: float
) -> Standing:
    if p_holm is None:
        return "shown only"
    if p_holm <= alpha and part.estimate < -margin:
        return "broken"
    return "held" if part.interval.low > -margin else "open"


def _outcome(
    plan: GatePlan,
    primary: Comparison,
    guards: tuple[GuardResult, ...],
    slices: tuple[SliceResult, ...],
) -> tuple[Outcome, tuple[Reason, ...]]:
    harm = [Reason("guard_broken", f"guard {g.name}") for g in guards if g.standing == "broken"]
    harm += [
        Reason("slice_broken", f"slice {part.key} = {part.value}")
        for part in slices
        if part.standing == "broken"
    ]
    if primary.interval.high < 0.0:
        harm.insert(0, Reason("primary_worse", f"{primary.metric}: the interval is below zero"))
    if harm:
        return "worse", tuple(harm)
    unsettled = [Reason("guard_open", f"guard {g.name}") for g in guards if g.standing == "open"]
    if _is_better(plan, primary):
        sure = Reason("primary_better", f"{primary.metric}: the interval is above zero")
        return ("too close to call", tuple(unsettled)) if unsettled else ("better", (sure,))
    if _standing(primary) != "held":
        unsettled.insert(0, Reason("primary_open", f"{primary.metric}: not shown within margin"))
    if unsettled:
        return "too close to call", tuple(unsettled)
    text = f"{primary.metric}: not worse by more than {primary.margin}"
    return "not worse", (Reason("primary_not_worse", text),)


def _is_better(plan: GatePlan, primary: Comparison) -> bool:
    return primary.interval.low > 0.0 and primary.p_better <= float(plan.alphas.promote_auto)


def _proposal(plan: GatePlan, outcome: Outcome, primary: Comparison) -> str:
    if outcome == "better":
        return "may promote itself where policy allows it; otherwise a person may promote"
    if outcome != "not worse":
        return "none"
    if primary.p_better <= float(plan.alphas.propose_to_human):
        return "propose to a person: not worse, with some sign of a gain"
    return "a person may promote: not worse, without a sign of a gain"


def _power(plan: GatePlan, primary: Comparison) -> Power:
    variance = planning_variance(_as_difference(primary))
    margin, wanted = float(primary.margin), float(plan.min_power)
    return Power(
        not_worse=power_for_bound(margin, variance, primary.n, float(plan.alphas.guard)),
        detectable=detectable_gain(variance, primary.n, wanted, float(plan.alphas.promote_auto)),
        wanted=plan.min_power,
    )


def _more(
    plan: GatePlan, outcome: Outcome, primary: Comparison, guards: tuple[GuardResult, ...]
) -> int:
    if outcome != "too close to call":
        return 0
    needed = [guard.more for guard in guards]
    if not _is_better(plan, primary) and _standing(primary) != "held":
        needed.append(_more_for(plan, primary, (0.0, -float(primary.margin))))
    return max(needed)


def _more_for(plan: GatePlan, comparison: Comparison, lines: tuple[float, ...]) -> int:
    alpha = float(min(plan.alphas.guard, plan.alphas.promote_auto))
    return more_cases(_as_difference(comparison), lines, float(plan.min_power), alpha)


def _as_difference(comparison: Comparison) -> Difference:
    return Difference(
        estimate=comparison.difference,
        interval=comparison.interval,
        p_better=comparison.p_better,
        p_worse=comparison.p_worse,
        n=comparison.n,
        clusters=comparison.clusters,
        variance=comparison.variance,
        method=comparison.method,
    )


def _warnings(
    plan: GatePlan,
    context: GateContext,
    primary: Comparison,
    power: Power,
    noise: NoiseFloor | None,
) -> Iterable[str]:
    if power.not_worse < float(plan.min_power):
        yield (
            f"underpowered: with {primary.n} cases equal models are shown 'not worse' in"
            f" {power.not_worse:.0%} of comparisons, the plan wants {float(plan.min_power):.0%}"
        )
    most_uses = max(1, primary.n // plan.cases_per_use)
    if context.test_uses > most_uses:
        yield (
            f"this test set was used {context.test_uses} times; with {primary.n} cases its figures"
            f" inflate above {most_uses}: add fresh random reviews"
        )
    if noise is None:
        yield "noise floor not measured: run the champion twice"
    elif abs(primary.difference) <= abs(noise.difference) and noise.changed:
        yield "the difference is no larger than between two runs of the champion itself"
    first, second = context.champion.runtime, context.candidate.runtime
    if first != second:
        yield f"two kinds of engine are compared: {first} and {second}"


def _shared_figures(champion: Results, candidate: Results) -> tuple[tuple[str, str, str], ...]:
    names = sorted(champion.figures.keys() & candidate.figures.keys())
    return tuple((name, champion.figures[name], candidate.figures[name]) for name in names)


def _facts(plan: GatePlan, context: GateContext) -> dict[str, str]:
    arms: list[tuple[str, Callable[[ArmFacts], str]]] = [
        ("digest", lambda arm: arm.candidate),
        ("artefact", lambda arm: arm.artefact),
        ("runtime", lambda arm: arm.runtime),
        ("engine", lambda arm: arm.engine),
        ("batch policy", lambda arm: arm.batch_policy),
        ("cases", lambda arm: arm.cases.get(plan.suite, "unknown")),
        ("evaluated at", lambda arm: arm.evaluated_at),
    ]
    facts = {"plan": plan.digest, "plan fixed at": context.plan_fixed_at}
    for name, read in arms:
        facts[f"champion {name}"] = read(context.champion)
        facts[f"candidate {name}"] = read(context.candidate)
    return facts
