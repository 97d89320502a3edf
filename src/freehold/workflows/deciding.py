"""Items through an engine into decisions: admitted, answered in batches, closed batch by batch.

A chunk of items is admitted in one transaction, then streamed through the scorer, which orders it
by length. Answers are written in groups of up to `FLUSH_ROWS`, each one transaction, at least every
`FLUSH_SECONDS`: a kill loses at most what one group holds, and what was admitted stays on record.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from freehold.canonical.json import commit, digest, encode_text
from freehold.errors import EngineError, LabBusy, PermitDenied
from freehold.evidence.sequencer import publish
from freehold.lab.leases import Lease
from freehold.lab.opened import Lab
from freehold.policy.permits import Permit, Policy, authorize, read_policy
from freehold.runtimes.base import Question, Scored, ScoredBatch
from freehold.tasks import decisions
from freehold.tasks.answering import encoded, shares_of, value_of
from freehold.tasks.candidates import Opened
from freehold.tasks.decisions import Answer, Asked, Asking, Failure, Recorder, Row
from freehold.workflows.exclusive import renew
from freehold.workflows.items import item_texts, sensitivities

CHUNK = 2048
FLUSH_ROWS = 200
FLUSH_SECONDS = 0.5
PUBLISH_SECONDS = 10.0


@dataclass
class Counts:
    """What became of the items of one call; `erased` ones have no text any more."""

    answered: int = 0
    failed: int = 0
    refused: int = 0
    erased: int = 0

    @property
    def done(self) -> int:
        """How many items were dealt with."""
        return self.answered + self.failed + self.refused + self.erased


@dataclass(frozen=True)
class Said:
    """One answer of the engine, not yet written."""

    row: Row
    scored: Scored
    execution: str


@dataclass
class Deciding:
    """Work on the items of one run, under its lease."""

    lab: Lab
    opened: Opened
    asking: Asking
    lease: Lease
    actor: str
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self._policy: Policy = read_policy(self.lab.layout.policies / "policy.toml")
        self._question = question_digest(self.opened.task.question())
        self._published = time.monotonic()

    def decide(self, item_ids: Sequence[str]) -> None:
        """Decide a chunk of items. EngineError leaves each of them recorded as failed."""
        with self.lab.reading() as connection:
            texts = item_texts(self.lab, connection, item_ids)
            marked = sensitivities(connection, texts)
        self.counts.erased += len(item_ids) - len(texts)
        admitted = self._admit(texts, marked)
        if admitted:
            self._answer(admitted, [texts[str(row["item_id"])] for row in admitted])
        if time.monotonic() - self._published > PUBLISH_SECONDS:
            self._publish()

    def _admit(self, texts: dict[str, str], marked: dict[str, str]) -> list[Row]:
        """Admit items and close those that the policy refuses; return what the engine may see."""
        permits = {mark: self._permit(mark) for mark in set(marked.values())}
        with self.lab.writing() as connection:
            renew(connection, self.lease)
            recorder = Recorder(self.lab, connection, self.actor)
            recorder.salts.fetch(texts)
            live = [item for item in texts if recorder.salts.get(item) is not None]
            asked = [
                self._asked(recorder, item, texts[item], permits[marked[item]]) for item in live
            ]
            rows = decisions.admit(recorder, self.asking, asked)
            denied = [row for row in rows if row["permit"] is None]
            reasons = [str(permits[marked[str(row["item_id"])]]) for row in denied]
            for start in range(0, len(denied), FLUSH_ROWS):
                part = slice(start, start + FLUSH_ROWS)
                decisions.close_refused(recorder, denied[part], reasons[part])
        self.counts.erased += len(texts) - len(live)
        self.counts.refused += len(denied)
        return [row for row in rows if row["permit"] is not None]

    def _asked(
        self, recorder: Recorder, item_id: str, text: str, permit: Permit | PermitDenied
    ) -> Asked:
        salt = recorder.salts.get(item_id) or b""
        shown = {"candidate": self.opened.candidate_id, "question": self._question, "text": text}
        granted = permit if isinstance(permit, Permit) else None
        return Asked(item_id, commit(salt, shown), granted)

    def _permit(self, sensitivity: str) -> Permit | PermitDenied:
        try:
            return authorize(sensitivity, self.opened.engine, self._policy)
        except PermitDenied as refusal:
            return refusal

    def _answer(self, admitted: list[Row], texts: list[str]) -> None:
        waiting = dict(enumerate(admitted))
        group: list[Said] = []
        waited, flushed = 0.0, time.monotonic()
        stream = iter(self.opened.scorer.stream(texts))
        try:
            while True:
                start = time.perf_counter()
                batch = next(stream, None)
                waited += time.perf_counter() - start
                if batch is None:
                    break
                group += _said(batch, waiting)
                if len(group) >= FLUSH_ROWS or time.monotonic() - flushed > FLUSH_SECONDS:
                    self._flush(group, waited)
                    group, waited, flushed = [], 0.0, time.monotonic()
            _require_none(waiting)
        except EngineError as error:
            self._flush(group, waited)
            self._fail(list(waiting.values()), error.message)
            raise
        self._flush(group, waited)

    def _flush(self, group: Sequence[Said], waited: float) -> None:
        """Write a group; each row's latency is its share of the time the group was waited for."""
        share = round(waited * 1_000_000 / max(1, len(group)))
        for start in range(0, len(group), FLUSH_ROWS):
            with self.lab.writing() as connection:
                renew(connection, self.lease)
                self._write(connection, group[start : start + FLUSH_ROWS], share)

    def _write(self, connection: Connection, group: Sequence[Said], latency_us: int) -> None:
        recorder = Recorder(self.lab, connection, self.actor)
        rows = recorder.not_erased([said.row for said in group])
        live = {row["decision_id"] for row in rows}
        answered: list[tuple[Row, Answer]] = []
        failed: list[tuple[Row, Failure]] = []
        for said in group:
            if said.row["decision_id"] not in live:
                continue
            try:
                answered.append((said.row, self._as_answer(said, latency_us)))
            except EngineError as error:
                failed.append((said.row, _as_failure(said, error, latency_us)))
        decisions.close_answered(recorder, [one[0] for one in answered], [a for _, a in answered])
        decisions.close_failed(recorder, [one[0] for one in failed], [why for _, why in failed])
        self.counts.answered += len(answered)
        self.counts.failed += len(failed)
        self.counts.erased += len(group) - len(live)

    def _as_answer(self, said: Said, latency_us: int) -> Answer:
        task, scored = self.opened.task, said.scored
        return Answer(
            value=encoded(value_of(task, scored, self.opened.spec.threshold)),
            probabilities=encode_text(shares_of(task, scored)),
            calibrated=scored.calibrated,
            raw=scored.raw,
            latency_us=latency_us,
            tokens_in=scored.tokens_in,
            execution=said.execution,
        )

    def _fail(self, rows: Sequence[Row], reason: str) -> None:
        for start in range(0, len(rows), FLUSH_ROWS):
            with self.lab.writing() as connection:
                renew(connection, self.lease)
                recorder = Recorder(self.lab, connection, self.actor)
                live = recorder.not_erased(rows[start : start + FLUSH_ROWS])
                decisions.close_failed(recorder, live, [Failure(reason)] * len(live))
            self.counts.failed += len(live)

    def _publish(self) -> None:
        try:
            publish(self.lab, patience=1.0)
        except LabBusy:
            # Another process is publishing, ours included; the end of the run publishes again.
            return
        finally:
            self._published = time.monotonic()


def _as_failure(said: Said, error: EngineError, latency_us: int) -> Failure:
    scored = said.scored
    return Failure(error.message, scored.raw, latency_us, scored.tokens_in, said.execution)


def _require_none(waiting: dict[int, Row]) -> None:
    if waiting:
        raise EngineError(f"the engine left {len(waiting)} texts of a batch out")


def question_digest(question: Question) -> str:
    """Return the digest of what is asked of every text, options and their words included."""
    return digest(
        {
            "kind": question.kind,
            "options": [[option.name, option.description] for option in question.options],
            "instructions": question.instructions,
            "bounds": [question.low, question.high, question.bins],
        }
    )


def _said(batch: ScoredBatch, waiting: dict[int, Row]) -> list[Said]:
    execution = encode_text(batch.execution.record())
    found = []
    for position, scored in zip(batch.positions, batch.scored, strict=True):
        row = waiting.pop(position, None)
        if row is None:
            raise EngineError(f"the engine answered text {position} twice")
        found.append(Said(row, scored, execution))
    return found
