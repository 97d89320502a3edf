"""Gate plans in a lab: fixed on the ledger before the candidate is evaluated.

A plan is a TOML file under ``gates/``. What counts is not the file but what was registered, and
when: the gate compares that time with the start of the candidate's evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, select

from freehold.canonical.json import decode, encode_text
from freehold.datasets.suites import get_suite
from freehold.errors import IntegrityError, NotFound, SettingsError
from freehold.evaluation.gate_plan import (
    Alphas,
    GatePlan,
    Guard,
    Primary,
    SliceRule,
    load_plan,
)
from freehold.evidence.entries import Entry
from freehold.evidence.sequencer import publish
from freehold.lab.atomic import write_atomically
from freehold.lab.opened import Lab
from freehold.lab.schema import gate_plans
from freehold.lab.sequences import take_number

DEFAULT_PLAN: Final = "default"
ANY_SUITE: Final = "*"
_DEFAULT_TEXT: Final = """\
# The gate that a candidate must pass where a task has none of its own. Copy and change it;
# a plan counts from the moment in which it is registered: freehold gate register FILE
gate = "default"
suite = "*"                       # the suite that is named when the plan is registered

[primary]
metric = "correct"
margin = 0.02                     # "not worse" means: not worse by more than two points
"""


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """A plan as it was registered."""

    plan: GatePlan
    created_at: str
    created_by: str

    @property
    def digest(self) -> str:
        """The plan's name in verdicts."""
        return self.plan.digest


def write_default_plan(lab: Lab) -> Path:
    """Write ``gates/default.toml`` where there is none; return its path."""
    path = lab.layout.gates / f"{DEFAULT_PLAN}.toml"
    if not path.exists():
        write_atomically(path, _DEFAULT_TEXT.encode())
    return path


def register_plan(lab: Lab, path: Path, *, actor: str, suite: str | None = None) -> PlanRecord:
    """Fix a plan on the ledger. The same plan again keeps its first time.

    `suite` says which suite a plan for any suite (``suite = "*"``) is registered for. Raises
    SettingsError naming file and key, NotFound for a suite that is not in the lab.
    """
    plan = load_plan(path)
    if plan.suite == ANY_SUITE:
        if suite is None:
            raise SettingsError(
                f"{path.name} is for any suite: name the one it is to judge by",
                hint="freehold gate register FILE --suite NAME",
                file=str(path),
                field="suite",
            )
        plan = replace(plan, suite=get_suite(lab, suite).name)
    for name in plan.suites:
        get_suite(lab, name)
    with lab.writing() as connection:
        take_number(connection, "gate_plans")
        if _row(connection, gate_plans.c.plan_digest == plan.digest) is None:
            body = {"plan_digest": plan.digest, "name": plan.name, "suite": plan.suite}
            entry = Entry(lab, connection, "gate.fixed", actor, body)
            row = {"plan_digest": plan.digest, "name": plan.name, "created_at": entry.at}
            row |= {"plan": encode_text(plan.contract()), "created_by": actor}
            entry.insert(gate_plans, row)
            entry.close()
    publish(lab)
    return find_plan(lab, plan.digest)


def find_plan(lab: Lab, name_or_digest: str) -> PlanRecord:
    """Return a registered plan by digest, or the newest of a name. Raises NotFound."""
    condition = (gate_plans.c.plan_digest == name_or_digest) | (gate_plans.c.name == name_or_digest)
    with lab.reading() as connection:
        row = _row(connection, condition)
    if row is None:
        raise NotFound(
            f"no gate plan {name_or_digest!r} is registered",
            hint="Register it before the candidate is evaluated: freehold gate register FILE",
        )
    return _record(row)


def list_plans(lab: Lab) -> list[PlanRecord]:
    """Return every registered plan, oldest first."""
    order = (gate_plans.c.created_at, gate_plans.c.plan_digest)
    with lab.reading() as connection:
        rows = connection.execute(select(gate_plans).order_by(*order)).mappings()
        return [_record(row) for row in rows]


def plan_from(contract: dict[str, Any]) -> GatePlan:
    """Return the plan that `GatePlan.contract` described."""
    primary, alpha, slices = contract["primary"], contract["alpha"], contract["slices"]
    return GatePlan(
        name=contract["gate"],
        suite=contract["suite"],
        primary=None
        if primary is None
        else Primary(primary["metric"], Decimal(primary["margin"]), primary["want"]),
        unit=contract["unit"],
        alphas=Alphas(**{name: Decimal(number) for name, number in alpha.items()}),
        guards=tuple(_guard(one) for one in contract["guards"]),
        slices=None
        if slices is None
        else SliceRule(tuple(slices["by"]), slices["min_n"], Decimal(slices["margin"])),
        repeats=contract["repeats"],
        min_power=Decimal(contract["min_power"]),
        cases_per_use=contract["cases_per_use"],
        cases=contract["cases"],
    )


def _guard(record: dict[str, Any]) -> Guard:
    numbers = {
        name: None if record[name] is None else Decimal(record[name])
        for name in ("margin", "ratio")
    }
    return Guard(record["metric"], suite=record["suite"], want=record["want"], **numbers)


def _row(connection: Connection, condition: Any) -> RowMapping | None:
    order = (gate_plans.c.created_at.desc(), gate_plans.c.plan_digest)
    query = select(gate_plans).where(condition).order_by(*order).limit(1)
    return connection.execute(query).mappings().first()


def _record(row: RowMapping) -> PlanRecord:
    plan = plan_from(decode(row["plan"]))
    if plan.digest != row["plan_digest"]:
        raise IntegrityError(f"gate plan {plan.name}: its rules are not those of its digest")
    return PlanRecord(plan, row["created_at"], row["created_by"])
