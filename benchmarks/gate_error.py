"""How often does the gate promote what it should not, and find what it should?

Simulated pairs of models (nothing is trained): each case is won, lost or tied with stated chances,
so the true difference is known. In the same run, on the same draws, three rules decide: the gate,
"the number went up", and plain "not lower". Printed with the number of rounds and a 95 % interval.

    python benchmarks/gate_error.py [--rounds 4000] [--seed 1]
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from decimal import Decimal

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


def free_cases(n: int, gain: float, rounds: int, seed: int) -> None:
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
    passed = counts["better"] + counts["not worse"]
    print(
        f"{n:6} {gain:+.2f}  better {rate(counts['better'], rounds)}"
        f"  passed {rate(passed, rounds)}  number up {rate(counts['up'], rounds)}"
        f"  not lower {rate(counts['not lower'], rounds)}"
    )


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
        f"{documents:4} documents of {size} fields: better, clustered by document"
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
        f"{parts} slices of {each}: some slice broken after Holm {rate(gate, rounds)};"
        f" some slice down more than 3 points {rate(naive, rounds)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    start = time.perf_counter()
    print(
        f"margin {MARGIN}, 10 % of cases differ, {given.rounds} rounds, rates with 95 % intervals"
    )
    print("     n  gain")
    for gain in (-0.03, 0.0, 0.03, 0.05):
        for n in (100, 200, 500, 1_000):
            free_cases(n, gain, given.rounds, given.seed)
    few = max(1, given.rounds // 20)
    print(f"\nequal models, {few} rounds")
    for documents in (20, 60):
        clustered(documents, 5, few, given.seed)
    sliced(20, 100, few // 2 or 1, given.seed)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
