"""How often does the gate promote what it should not, and find what it should?

Simulated pairs of models (nothing is trained): each case is won, lost or tied with stated chances,
so the true difference is known. In the same run, on the same draws, three rules decide: the gate,
"the number went up", and plain "not lower". Rates stand with their 95 % intervals.

The aim is what the gate promises: of models that are equal it calls at most 5 % better, and of
models that are worse by its whole margin it lets at most 5 % pass. The ratio is how many times as
often "the number went up" promotes one of two equal models.

    python benchmarks/gate_error.py [--quick] [--rounds 4000] [--seed 1]
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import _sheet as sheet
import numpy as np

from freehold.evaluation.gate import (
    ArmFacts,
    CaseResult,
    GateContext,
    GatePlan,
    Results,
    judge,
)
from freehold.evaluation.gate_plan import Primary, SliceRule
from freehold.evaluation.intervals import wilson

SUITE, DISCORDANCE = "simulated", 0.10
MARGIN = Decimal("0.03")
PROMISED = 0.05


def context(plan: GatePlan) -> GateContext:
    arm = ArmFacts("c", "a", "r", "e", "b", {SUITE: "d"}, "2026-01-02T00:00:00Z")
    return GateContext(arm, arm, "a", plan.digest, "2026-01-01T00:00:00Z", {SUITE: 0})


def arms(gained: int, lost: int, n: int, size: int = 1) -> tuple[Results, Results]:
    old = [0] * gained + [1] * lost + [1] * (n - gained - lost)
    new = [1] * gained + [0] * lost + [1] * (n - gained - lost)
    return rows(old, size), rows(new, size)


def rows(values: list[int], size: int, parts: int = 0) -> Results:
    cases = []
    for i, value in enumerate(values):
        slices = {"part": str(i % parts)} if parts else {}
        cases.append(CaseResult(f"c{i:06}", f"k{i // size:06}", {"correct": value}, slices))
    return Results({SUITE: tuple(cases)})


def rate(count: int, rounds: int) -> str:
    bounds = wilson(count, rounds)
    return f"{count / rounds:6.1%} [{bounds.low:5.1%}, {bounds.high:5.1%}]"


def free_cases(n: int, gain: float, rounds: int, seed: int) -> Counter[str]:
    """Print how often each rule promotes, for one size and true gain; return the counts."""
    plan = GatePlan("simulation", SUITE, Primary("correct", MARGIN))
    chances = [(DISCORDANCE + gain) / 2, (DISCORDANCE - gain) / 2, 1 - DISCORDANCE]
    draws = np.random.default_rng(seed).multinomial(n, chances, rounds)
    verdicts: dict[tuple[int, int], str] = {}
    counts: Counter[str] = Counter()
    for gained, lost, _ in draws:
        key = (int(gained), int(lost))
        if key not in verdicts:
            verdicts[key] = judge(plan, *arms(*key, n), context(plan)).outcome
        counts[verdicts[key]] += 1
        counts["up"] += gained > lost
        counts["not lower"] += gained >= lost
    counts["passed"] = passed = counts["better"] + counts["not worse"]
    shown = (counts["better"], passed, counts["up"], counts["not lower"])
    print(f"  {n:5}  {gain:+.2f}   " + "   ".join(rate(count, rounds) for count in shown))
    return counts


def clustered(documents: int, size: int, rounds: int, seed: int) -> None:
    """Fields of one document tend to flip together: equal models, right-or-wrong scores."""
    plan = GatePlan("simulation", SUITE, Primary("correct", MARGIN))
    generator = np.random.default_rng(seed)
    gate = ignored = 0
    for _ in range(rounds):
        document = generator.choice([-1, 0, 1], documents, p=[0.1, 0.8, 0.1])
        flips = np.where(generator.random((documents, size)) < 0.8, document[:, None], 0).ravel()
        old, new = [int(f < 0) for f in flips], [int(f > 0) for f in flips]
        gate += judge(plan, rows(old, size), rows(new, size), context(plan)).outcome == "better"
        ignored += judge(plan, rows(old, 1), rows(new, 1), context(plan)).outcome == "better"
    print(
        f"  {documents:4} documents of {size} fields: better, clustered by document"
        f" {rate(gate, rounds)}; clusters ignored {rate(ignored, rounds)}"
    )


def sliced(parts: int, each: int, rounds: int, seed: int) -> None:
    """Many slices, equal models: how often is some slice called broken?"""
    rule = SliceRule(("part",), min_n=each, margin=Decimal("0.03"))
    plan = GatePlan("simulation", SUITE, Primary("correct", MARGIN), slices=rule)
    generator = np.random.default_rng(seed)
    gate = naive = 0
    for _ in range(rounds):
        flips = generator.choice([-1, 0, 1], parts * each, p=[0.05, 0.9, 0.05])
        old, new = [int(f < 0) for f in flips], [int(f > 0) for f in flips]
        verdict = judge(plan, rows(old, 1, parts), rows(new, 1, parts), context(plan))
        gate += any(part.standing == "broken" for part in verdict.slices)
        naive += any(part.difference < -0.03 for part in verdict.slices)
    print(
        f"  {parts:4} slices of {each}: some slice broken after Holm {rate(gate, rounds)};"
        f" some slice down more than 3 points {rate(naive, rounds)}"
    )


def main() -> None:
    parser = sheet.options(__doc__, rounds=(4_000, 300, "rounds of each case"), seed=(1, 1, "seed"))
    given = sheet.read(parser)
    sheet.title(
        "How often the gate promotes what it should not, against 'the number went up'",
        f"simulated, {given.rounds:,} rounds, 10 % of cases differ, margin {MARGIN}; "
        "every rule decides on the same draws",
        timed=False,
    )
    columns = ("gate: better", "gate: passed", "number went up", "not lower")
    print("\n  cases  gain   " + "   ".join(f"{name:21}" for name in columns).rstrip())
    equal: Counter[str] = Counter()
    worse: Counter[str] = Counter()
    for gain in (-0.03, 0.0, 0.03, 0.05):
        for n in (100, 200, 500, 1_000):
            counts = free_cases(n, gain, given.rounds, given.seed)
            equal += counts if gain == 0 else Counter()
            worse += counts if gain == -float(MARGIN) else Counter()
    few = max(1, given.rounds // 20)
    print(f"\n  equal models, {few} rounds")
    for documents in (20, 60):
        clustered(documents, 5, few, given.seed)
    sliced(20, 100, few // 2 or 1, given.seed)
    conclude(equal, worse, 4 * given.rounds)


def conclude(equal: Counter[str], worse: Counter[str], rounds: int) -> None:
    """Print the ratio over all sizes, and whether the promised rates are kept."""
    times = equal["up"] / max(1, equal["better"])
    print(f"\n  ratio: of equal models 'the number went up' promotes {times:.0f} x as many")
    told = (
        ("equal, called better", equal["better"]),
        ("worse by the margin, let pass", worse["passed"]),
    )
    for what, count in told:
        kept = wilson(count, rounds).low <= PROMISED
        print(f"  aim:   {what}: {rate(count, rounds)}, at most {PROMISED:.0%}: "
              f"{'reached' if kept else 'MISSED'}")  # fmt: skip


if __name__ == "__main__":
    main()
