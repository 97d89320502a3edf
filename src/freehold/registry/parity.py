"""Parity: whether one candidate under two sets of library versions still answers the same.

For `requalify`. A new version of a library is not a new model; but bit-identical weights have
given other answers after an upgrade, so the claim is tested case by case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select

from freehold.canonical.json import PARTS_PER_BILLION, decode
from freehold.errors import GateRefused
from freehold.evaluation.run import evaluation_record, find_evaluation
from freehold.lab.opened import Lab
from freehold.lab.schema import evaluation_results

TOLERANCE_PPB: Final = 10_000_000  # 0.01: above the noise between versions, below any decision
# What an upgrade may change: versions, and the fingerprint's answers within the tolerance.
_VERSIONS: Final = frozenset({"freehold", "runtime", "fingerprint"})


@dataclass(frozen=True, slots=True)
class Parity:
    """How two evaluations of the same cases agree; `farthest_ppb` is between two probabilities."""

    cases: int
    changed: int
    farthest_ppb: int

    def as_record(self) -> dict[str, int]:
        """Return the figures as a ledger entry holds them."""
        return {
            "cases": self.cases,
            "changed": self.changed,
            "farthest_ppb": self.farthest_ppb,
            "tolerance_ppb": TOLERANCE_PPB,
        }


def only_versions_differ(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise GateRefused unless two specifications are the same but for library versions."""
    differing = {key for key in {*old, *new} if old.get(key) != new.get(key)} - _VERSIONS
    differing |= _beyond_versions(old["runtime"], new["runtime"])
    if not differing:
        return
    raise GateRefused(
        f"the candidates differ in more than versions: {', '.join(sorted(differing))}",
        hint="Let the gate judge it and promote it: requalify is for upgrades alone.",
    )


def compare_evaluations(lab: Lab, old_candidate: str, after: str) -> Parity:
    """Compare an evaluation with the old candidate's on the same suite, case by case.

    Raises GateRefused where the old candidate was never evaluated there, where an answer changed,
    or where a probability moved by more than the tolerance.
    """
    suite_id = evaluation_record(lab, after).suite_id
    before = find_evaluation(lab, old_candidate, suite_id)
    if before is None or before.state != "done":
        raise GateRefused(
            "the candidate that serves was not evaluated on this suite before the upgrade",
            hint="Use a suite on which it was, or evaluate it with the old versions installed.",
        )
    parity = _parity(_answers(lab, before.evaluation_id), _answers(lab, after))
    if parity.changed or parity.farthest_ppb > TOLERANCE_PPB:
        raise GateRefused(
            f"not the same candidate any more: {parity.changed} of {parity.cases} answers changed, "
            f"probabilities by up to {parity.farthest_ppb / PARTS_PER_BILLION:.4f}",
            hint="Let the gate judge it as a new candidate.",
        )
    return parity


def _beyond_versions(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    found = {f"runtime.{key}" for key in ("form", "options") if old[key] != new[key]}
    first, second = dict(old["described"]), dict(new["described"])
    first.pop("libraries", None)
    second.pop("libraries", None)
    names = {key for key in {*first, *second} if first.get(key) != second.get(key)}
    return found | {f"runtime.{name}" for name in names}


def _answers(lab: Lab, evaluation_id: str) -> dict[str, tuple[str | None, dict[str, int]]]:
    query = select(
        evaluation_results.c.case_id,
        evaluation_results.c.value,
        evaluation_results.c.probabilities,
    ).where(evaluation_results.c.evaluation_id == evaluation_id)
    with lab.reading() as connection:
        rows = connection.execute(query).all()
    return {
        row.case_id: (row.value, decode(row.probabilities) if row.probabilities else {})
        for row in rows
    }


def _parity(
    old: Mapping[str, tuple[str | None, dict[str, int]]],
    new: Mapping[str, tuple[str | None, dict[str, int]]],
) -> Parity:
    changed, farthest = 0, 0
    for case_id in {*old, *new}:
        (value, shares), (other, others) = (
            old.get(case_id, (None, {})),
            new.get(case_id, (None, {})),
        )
        changed += value != other or case_id not in old or case_id not in new
        for name in {*shares, *others}:
            farthest = max(farthest, abs(shares.get(name, 0) - others.get(name, 0)))
    return Parity(len({*old, *new}), changed, farthest)
