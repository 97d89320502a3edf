"""Ask the same candidate the same question about the same item again, and compare.

A replay must give the same value, and probabilities within a stated tolerance. Bit-equal they can
only be under the identical execution (batch shape, threads, instruction set, dtype, device), which
the decision recorded; what differs from it is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from freehold.canonical.json import PARTS_PER_BILLION, commit, decode
from freehold.errors import Conflict, EngineError, NotFound
from freehold.evidence.entries import Salts
from freehold.lab.opened import Lab
from freehold.lab.schema import decisions, items, releases
from freehold.policy.permits import authorize, read_policy
from freehold.runtimes.base import ScoredBatch
from freehold.runtimes.secret import Secret
from freehold.tasks.answering import DEFAULT_THRESHOLD, shares_of, value_of
from freehold.tasks.candidates import (
    REMOTE,
    Opened,
    Opening,
    candidate_spec,
    engine_of,
    open_candidate,
)
from freehold.workflows.deciding import question_digest
from freehold.workflows.items import item_text

TOLERANCE_PPB = 1_000_000
"""Probabilities may differ by a thousandth: other batch shapes round float32 sums otherwise."""
_THREADED = ("transformers", "classifier", "causal", "estimator")


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay showed. Probabilities are compared in parts per billion.

    `bit_equal` means equal to the last recorded part per billion. `execution` names what was
    computed otherwise than then, `drift` what differs from the candidate's registration (library
    versions, answers to the probe texts). `same_prompt` says that item and question are those of
    then; None where the decision recorded no commitment to them.
    """

    decision_id: str
    candidate_id: str
    value: Any
    value_then: Any
    max_difference_ppb: int
    tolerance_ppb: int
    bit_equal: bool
    same_prompt: bool | None
    execution: dict[str, tuple[Any, Any]]
    drift: tuple[str, ...]

    @property
    def equal_value(self) -> bool:
        """Whether the answer is the same."""
        return bool(self.value == self.value_then)

    @property
    def holds(self) -> bool:
        """Whether the decision is confirmed: same question, same value, within the tolerance."""
        within = self.max_difference_ppb <= self.tolerance_ppb
        return self.equal_value and within and self.same_prompt is not False

    @property
    def max_difference(self) -> float:
        """The largest difference of a probability, between 0 and 1."""
        return self.max_difference_ppb / PARTS_PER_BILLION


def replay(
    lab: Lab,
    decision_id: str,
    *,
    tolerance_ppb: int = TOLERANCE_PPB,
    key: Secret | None = None,
) -> Replay:
    """Replay one decision. Nothing is written: a replay is no decision.

    Raises NotFound for an unknown decision or an erased item, Conflict for a decision without an
    answer, PermitDenied where the policy does not let the item go to the engine (today's policy
    rules), EngineError where the engine gives no answer now.
    """
    with lab.reading() as connection:
        row = _decision(connection, decision_id)
        candidate_id = _candidate(connection, row)
        text = item_text(lab, connection, row["item_id"])
        salt = Salts(connection).get(row["item_id"])
    recorded = decode(row["execution"]) if row["execution"] else {}
    opened = _open(lab, row, candidate_id, recorded, key)
    batch = _ask(opened, text, decision_id)
    scored = batch.scored[0]
    threshold = opened.spec.record["thresholds"].get("labels", DEFAULT_THRESHOLD)
    now, then = shares_of(opened.task, scored), decode(row["probabilities"] or "{}")
    difference = max((abs(now[one] - then.get(one, 0)) for one in now), default=0)
    asked = {"candidate": candidate_id, "question": question_digest(opened.task.question())}
    execution = batch.execution.record()
    return Replay(
        decision_id=decision_id,
        candidate_id=candidate_id,
        value=value_of(opened.task, scored, threshold),
        value_then=decode(row["value"]),
        max_difference_ppb=difference,
        tolerance_ppb=tolerance_ppb,
        bit_equal=now == then,
        same_prompt=_same_prompt(row, salt, asked | {"text": text}),
        execution={
            name: (recorded.get(name), execution.get(name))
            for name in sorted({*recorded, *execution})
            if recorded.get(name) != execution.get(name)
        },
        drift=opened.drift,
    )


def _decision(connection: Connection, decision_id: str) -> RowMapping:
    query = select(decisions).where(decisions.c.decision_id == decision_id)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFound(f"no decision {decision_id!r} in this lab")
    if row["state"] != "answered":
        raise Conflict(
            f"decision {decision_id} is {row['state']}: there is no answer to compare with"
        )
    if row["value"] is None:
        raise NotFound(f"the item of decision {decision_id} was erased, and its answer with it")
    return row


def _candidate(connection: Connection, row: RowMapping) -> str:
    if row["candidate_id"] is not None:
        return str(row["candidate_id"])
    query = select(releases.c.candidate_id).where(releases.c.release_id == row["release_id"])
    found = connection.execute(query).scalar()
    if found is None:
        raise NotFound(f"decision {row['decision_id']} names no candidate that is in this lab")
    return str(found)


def _open(
    lab: Lab, row: RowMapping, candidate_id: str, recorded: dict[str, Any], key: Secret | None
) -> Opened:
    spec, _ = candidate_spec(lab, candidate_id)
    permit = None
    if spec.form == REMOTE:
        with lab.reading() as connection:
            query = select(items.c.sensitivity).where(items.c.item_id == row["item_id"])
            sensitivity = connection.execute(query).scalar_one()
        policy = read_policy(lab.layout.policies / "policy.toml")
        permit = authorize(sensitivity, engine_of(lab, spec), policy)
    engine: dict[str, str] = {}
    if spec.form in _THREADED and recorded.get("threads"):
        engine["threads"] = str(recorded["threads"])
    return open_candidate(lab, candidate_id, Opening(engine, permit, key, exact=False))


def _ask(opened: Opened, text: str, decision_id: str) -> ScoredBatch:
    batches = list(opened.scorer.stream([text]))
    if len(batches) != 1 or len(batches[0].scored) != 1:
        raise EngineError(f"the engine did not answer the one text of decision {decision_id} once")
    if batches[0].scored[0].error is not None:
        raise EngineError(f"the engine gives no answer now: {batches[0].scored[0].error}")
    return batches[0]


def _same_prompt(row: RowMapping, salt: bytes | None, asked: dict[str, str]) -> bool | None:
    if row["prompt_commitment"] is None or salt is None:
        return None
    return commit(salt, asked) == str(row["prompt_commitment"])
