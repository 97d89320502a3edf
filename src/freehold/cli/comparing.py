"""Two candidates on one suite, case by case."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from freehold.errors import NotFound

if TYPE_CHECKING:
    from freehold.evaluation.gate import CaseResult
    from freehold.lab import Lab

_METRIC = "correct"


def compare_candidates(lab: Lab, first: str, second: str, suite: str) -> dict[str, Any]:
    """Return the paired difference (second minus first) with its interval and every flip."""
    from freehold.datasets.suites import get_suite
    from freehold.evaluation.paired import compare
    from freehold.tasks.finding import find_candidate

    suite_id = get_suite(lab, suite).suite_id
    names = [find_candidate(lab, one) for one in (first, second)]
    one, other = (_results(lab, name.candidate_id, name.name, suite_id) for name in names)
    shared = [case for case in one if case in other]
    metric = _METRIC if all(_METRIC in one[case].scores for case in shared) else _first(one)
    differences = [
        float(Decimal(str(other[case].scores[metric])) - Decimal(str(one[case].scores[metric])))
        for case in shared
    ]
    found = compare(differences, [one[case].cluster for case in shared], 0.95)
    gained = [case for case, by in zip(shared, differences, strict=True) if by > 0]
    lost = [case for case, by in zip(shared, differences, strict=True) if by < 0]
    return {
        "metric": metric,
        "first": names[0].name,
        "second": names[1].name,
        "difference": f"{found.estimate:+.4f}",
        "95 % interval": f"{found.interval.low:+.4f} to {found.interval.high:+.4f}",
        "method": found.method,
        "cases": len(shared),
        "wins": len(gained),
        "losses": len(lost),
        "ties": len(shared) - len(gained) - len(lost),
        "flips": {"gained": gained, "lost": lost},
    }


def _results(lab: Lab, candidate_id: str, name: str, suite_id: str) -> dict[str, CaseResult]:
    from freehold.evaluation.reading import find_evaluation, results_of

    evaluation = find_evaluation(lab, candidate_id, suite_id)
    if evaluation is None or evaluation.state != "done":
        raise NotFound(
            f"{name} has not been evaluated on this suite",
            hint=f"freehold evaluate {name} --suite SUITE",
        )
    return {case.case_id: case for case in results_of(lab, evaluation.evaluation_id)}


def _first(results: dict[str, CaseResult]) -> str:
    return next(iter(next(iter(results.values())).scores))
