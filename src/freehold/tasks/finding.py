"""Finding candidates by what people call them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from freehold.canonical.json import decode
from freehold.errors import InputError, NotFound
from freehold.lab.opened import Lab
from freehold.lab.schema import candidates, runs

_LEAST_DIGITS = 8


@dataclass(frozen=True, slots=True)
class CandidateRecord:
    """One candidate as a list shows it."""

    candidate_id: str
    name: str
    task: str
    model_digest: str
    run_id: str | None
    created_at: str


def list_candidates(lab: Lab, task: str | None = None) -> list[CandidateRecord]:
    """Return every candidate, oldest first, of one task or of all."""
    query = select(candidates).order_by(candidates.c.created_at)
    if task is not None:
        query = query.where(candidates.c.task == task)
    with lab.reading() as connection:
        rows = connection.execute(query).all()
    return [
        CandidateRecord(
            row.candidate_id, row.name, row.task, row.model_digest, row.run_id, row.created_at
        )
        for row in rows
    ]


def find_candidate(lab: Lab, reference: str) -> CandidateRecord:
    """Return a candidate by id, eight or more first digits of it, or name (the newest).

    RUN/NAME is what the newest finished run of that name made, even where an earlier run had made
    the very same candidate, which keeps its first name.

    Raises NotFound listing the newest names, InputError when the digits fit several.
    """
    everyone = list_candidates(lab)
    reference = _made_by_run(lab, reference) or reference
    named = [one for one in everyone if reference in (one.name, one.candidate_id)]
    if named:
        return named[-1]
    digits = reference.removeprefix("sha256:")
    if len(digits) >= _LEAST_DIGITS:
        fitting = [one for one in everyone if one.candidate_id.startswith(f"sha256:{digits}")]
        if len(fitting) > 1:
            raise InputError(f"{reference} fits {len(fitting)} candidates; give more digits")
        if fitting:
            return fitting[0]
    known = ", ".join(one.name for one in everyone[-6:]) or "none"
    raise NotFound(
        f"no candidate {reference!r}; the newest are: {known}",
        hint="`freehold candidates list` shows all of them.",
    )


def _made_by_run(lab: Lab, reference: str) -> str | None:
    run, slash, name = reference.partition("/")
    if not slash:
        return None
    query = select(runs.c.record).where(runs.c.name == run, runs.c.state == "done")
    with lab.reading() as connection:
        record = connection.execute(query.order_by(runs.c.ended_at.desc()).limit(1)).scalar()
    made: str | None = decode(record)["candidates"].get(name) if record else None
    return made
