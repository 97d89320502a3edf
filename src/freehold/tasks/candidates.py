"""Candidates: what is evaluated, gated and served. A frozen specification, not a bare model.

A candidate's id is the digest of canonical JSON that names contract and wording, model, base,
tokenizer, template, decoding, thresholds, guardrails, runtime and library versions, our own
version, and a behavioural fingerprint: token ids and answers for a few fixed texts. Bit-identical
weights have given other token ids after a library's upgrade; the fingerprint finds that when the
candidate is opened, before any item is answered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError as RowExists

from freehold.canonical.json import decode, digest, encode_text, to_ppb
from freehold.errors import InputError, NotFound, Refused
from freehold.evidence.entries import Entry
from freehold.lab.opened import Lab
from freehold.lab.schema import candidates
from freehold.models.intake import ModelRecord, get_model, materialise, require_usable
from freehold.policy.permits import IN_PROCESS, EngineZone, Permit, read_policy
from freehold.runtimes.base import Scorer
from freehold.runtimes.formats import PACK_FILE
from freehold.runtimes.open import RuntimeSpec, open_scorer
from freehold.runtimes.secret import Secret
from freehold.tasks.answering import DEFAULT_THRESHOLD
from freehold.tasks.contract import recorded_task, register_task
from freehold.tasks.definition import Task
from freehold.version import __version__

FORMAT = "freehold-candidate/1"
REMOTE = "openai_http"
PROBES = (
    "Hello.",
    "The meeting was moved from Monday to Thursday at ten.",
    "Please send the form again, the first one did not arrive.",
    "0123456789 +49 (0)30 1234 €5.20",
    "Ein kurzer Satz auf Deutsch, mit Umlauten: äöüß.",
    "これは短い文です。",
    "one two three four five six seven eight nine ten " * 4,
    "What is this about?",
)
_TOLERANCE_PPB = 1_000_000  # 0.001: above the noise between two machines, below another model
_NOT_IDENTITY = frozenset({"threads", "timeout_s", "retries", "parallel"})
_FORMS = {"classifier": "classifier", "estimator": "estimator", "scripted": "scripted",
          "api": REMOTE, "peft": "causal"}  # fmt: skip


@dataclass(frozen=True)
class CandidateSpec:
    """The frozen specification, as it is digested and stored."""

    record: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """The candidate's id."""
        return digest(dict(self.record))

    @property
    def form(self) -> str:
        """The runtime's form."""
        return str(self.record["runtime"]["form"])

    @property
    def options(self) -> dict[str, str]:
        """The runtime's options that are part of the identity."""
        return dict(self.record["runtime"]["options"])

    @property
    def threshold(self) -> str:
        """The probability from which a label applies."""
        return str(self.record["thresholds"].get("labels", DEFAULT_THRESHOLD))

    @property
    def calibrated(self) -> bool:
        """Whether the probabilities were fitted to held-out answers."""
        return bool(self.record["calibrated"])

    @property
    def identity_basis(self) -> str:
        """How the weights are known: ``loaded`` here, or what a server claims."""
        return str(self.record["identity_basis"])


@dataclass(frozen=True)
class Opened:
    """A candidate ready to answer. `drift` says what differs from its registration, if allowed."""

    candidate_id: str
    scorer: Scorer
    task: Task
    spec: CandidateSpec
    model_digest: str
    engine: EngineZone
    drift: tuple[str, ...] = ()


@dataclass(frozen=True)
class Opening:
    """What opening needs beside the specification, and what no identity depends on.

    `engine`: threads, timeouts and the like. `exact` False lets a candidate be opened under other
    library versions (a replay, a parity check) and reports the drift instead of refusing.
    """

    engine: Mapping[str, str] = field(default_factory=dict)
    permit: Permit | None = None
    key: Secret | None = None
    exact: bool = True


def register_candidate(
    lab: Lab,
    task: Task,
    model: str,
    *,
    actor: str,
    options: Mapping[str, str] | None = None,
    run_id: str | None = None,
    name: str | None = None,
) -> str:
    """Freeze a specification for a task and a model (name or digest), and return its id.

    `options` are the runtime's (text values), and ``threshold`` for a labels task. The model is
    opened and probed here, so a model that cannot answer the task's question never becomes a
    candidate. Registering the same specification again returns the same id.
    """
    record = get_model(lab, model)
    require_usable(lab, record.digest)
    spec = _specify(lab, task, record, dict(options or {}))
    with lab.writing() as connection:
        register_task(lab, connection, task, actor)
        try:
            with connection.begin_nested():
                _register(lab, connection, task, spec, _Registration(record, actor, run_id, name))
        except RowExists:
            # Another process registered the same specification in the meantime.
            return spec.digest
    return spec.digest


def open_candidate(lab: Lab, candidate_id: str, opening: Opening | None = None) -> Opened:
    """Open a candidate as it was registered, and check that it still behaves so.

    Raises Refused when libraries or behaviour differ from the registration (unless
    ``opening.exact`` is False), PermitDenied for a remote engine without a permit.
    """
    how = opening or Opening()
    spec, model_digest = candidate_spec(lab, candidate_id)
    require_usable(lab, model_digest)
    record = spec.record
    with lab.reading() as connection:
        task = recorded_task(connection, record["contract"], record["wording"])
    runtime = _runtime(lab, spec.form, model_digest, record["base"], spec.options, how)
    scorer = open_scorer(runtime, task.question())
    drift = tuple(_drift(record, scorer, runtime.directory))
    if drift and how.exact:
        raise Refused(
            f"candidate {candidate_id[:19]}… is not what was registered: {'; '.join(drift)}",
            hint="Register it again as a trial, or requalify it through a parity gate.",
            candidate=candidate_id,
        )
    zone = engine_of(lab, spec)
    return Opened(candidate_id, scorer, task, spec, model_digest, zone, drift)


def candidate_spec(lab: Lab, candidate_id: str) -> tuple[CandidateSpec, str]:
    """Return a candidate's specification and its model's digest; NotFound when there is none."""
    with lab.reading() as connection:
        row = connection.execute(
            select(candidates.c.spec, candidates.c.model_digest).where(
                candidates.c.candidate_id == candidate_id
            )
        ).first()
    if row is None:
        raise NotFound(f"no candidate {candidate_id!r} in this lab")
    return CandidateSpec(decode(row.spec)), str(row.model_digest)


def engine_of(lab: Lab, spec: CandidateSpec) -> EngineZone:
    """Return the engine as the lab's policy sees it."""
    if spec.form != REMOTE:
        return IN_PROCESS
    return read_policy(lab.layout.policies / "policy.toml").engine(spec.options["url"])


@dataclass(frozen=True)
class _Registration:
    model: ModelRecord
    actor: str
    run_id: str | None
    name: str | None


def _register(
    lab: Lab, connection: Connection, task: Task, spec: CandidateSpec, by: _Registration
) -> None:
    candidate_id = spec.digest
    there = connection.execute(
        select(candidates.c.candidate_id).where(candidates.c.candidate_id == candidate_id)
    ).scalar()
    if there is not None:
        return
    body = {"candidate_id": candidate_id, "task": task.name, "model_digest": by.model.digest}
    entry = Entry(lab, connection, "candidate.registered", by.actor, body)
    row = {
        "candidate_id": candidate_id,
        "name": by.name or f"{task.name}/{by.model.name}",
        "task": task.name,
        "contract_digest": task.contract_digest,
        "model_digest": by.model.digest,
        "spec": encode_text(dict(spec.record)),
        "run_id": by.run_id,
        "created_at": entry.at,
        "created_by": by.actor,
    }
    entry.insert(candidates, row)
    entry.close()


def _specify(lab: Lab, task: Task, model: ModelRecord, options: dict[str, str]) -> CandidateSpec:
    threshold = options.pop("threshold", DEFAULT_THRESHOLD)
    form = _form(model)
    base = None if form == REMOTE else _base(lab, model)
    files = [one for one in (model.digest, base) if one is not None]
    if form == REMOTE:  # where it answers is said once, when the model is added
        options = {key: str(model.description[key]) for key in ("url", "model")} | options
    thresholds = {"labels": threshold} if task.space.kind == "labels" else {}
    kept = {key: value for key, value in options.items() if key not in _NOT_IDENTITY}
    identity: dict[str, Any] = {
        "format": FORMAT,
        "contract": task.contract_digest,
        "wording": task.wording_digest,
        "model": model.digest,
        "model_kind": model.kind,
        "base": base,
        "adapter": model.digest if model.kind == "adapter" else None,
        "quantization": model.digest if model.kind == "quantized" else None,
        "tokenizer": _file_digest(lab, files, "tokenizer.json"),
        "chat_template": _file_digest(lab, files, "chat_template.jinja"),
        "decoding": {"method": "probabilities of every option", "grammar": None},
        "thresholds": thresholds,
        "guardrails": [],
        "freehold": __version__,
    }
    if form == REMOTE:
        # Probing would send texts out: a provider's model is known by what is claimed.
        described, probed = {"runtime": "openai_http/1"}, None
        basis, calibrated = "provider_claimed", False
    else:
        runtime = _runtime(lab, form, model.digest, base, kept, Opening(options))
        scorer = open_scorer(runtime, task.question())
        described, basis = scorer.describe(), "loaded"
        probed, calibrated = _fingerprint(scorer, runtime.directory)
    identity["runtime"] = {"form": form, "options": kept, "described": described}
    identity |= {"identity_basis": basis, "calibrated": calibrated, "fingerprint": probed}
    return CandidateSpec(identity)


def _form(model: ModelRecord) -> str:
    if model.form == "transformers":
        architecture = str(model.description.get("architecture") or "")
        generates = architecture.endswith(("ForCausalLM", "LMHeadModel"))
        return "causal" if generates else "transformers"
    if model.form not in _FORMS:
        raise InputError(
            f"model {model.name!r} is in the form {model.form!r}, which no runtime here executes",
            hint="Add it in safetensors; GGUF models run behind an OpenAI-compatible server.",
        )
    return _FORMS[model.form]


def _base(lab: Lab, model: ModelRecord) -> str | None:
    """Return the digest of the model that an adapter or a pack stands on, if it stands on one."""
    if model.form in ("classifier", "estimator"):
        pack = json.loads((materialise(lab, model.digest) / PACK_FILE).read_bytes())
        return None if pack.get("base") is None else str(pack["base"])
    return next((edge.parent for edge in model.edges if edge.relation == "adapter_of"), None)


def _file_digest(lab: Lab, models: Sequence[str], name: str) -> str | None:
    for wanted in models:
        for entry in get_model(lab, wanted).manifest.files:
            if entry.path == name:
                return f"sha256:{entry.sha256}"
    return None


def _runtime(
    lab: Lab,
    form: str,
    model: str,
    base: str | None,
    options: Mapping[str, str],
    opening: Opening,
) -> RuntimeSpec:
    if form == REMOTE:
        merged = {**options, **_how(opening.engine)}
        return RuntimeSpec(form, options=merged, key=opening.key, permit=opening.permit)
    how = _how(opening.engine)
    threads = lab.settings.number("run.threads")
    if threads and form in ("transformers", "classifier", "causal", "estimator"):
        how = {"threads": str(threads)} | how
    return RuntimeSpec(
        form,
        materialise(lab, model),
        None if base is None else materialise(lab, base),
        {**options, **how},
    )


def _how(engine: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in engine.items() if key in _NOT_IDENTITY}


def _fingerprint(scorer: Scorer, directory: Path | None) -> tuple[dict[str, Any], bool]:
    """Return token ids and answers (parts per billion) for the probes, and whether calibrated."""
    answers = scorer.score(PROBES)
    record = {
        "probes": digest(list(PROBES)),
        "token_ids": digest(_token_ids(directory)),
        "answers": [one.error or [to_ppb(share) for share in one.probabilities] for one in answers],
    }
    return record, any(one.calibrated for one in answers)


def _token_ids(directory: Path | None) -> list[list[int]] | None:
    path = None if directory is None else directory / "tokenizer.json"
    if path is None or not path.is_file():
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    return [list(tokenizer.encode(probe).ids) for probe in PROBES]


def _drift(record: Mapping[str, Any], scorer: Scorer, directory: Path | None) -> list[str]:
    if record["fingerprint"] is None:
        return []
    found = []
    if record["freehold"] != __version__:
        found.append(f"freehold was {record['freehold']}, is {__version__}")
    before, now = record["runtime"]["described"], scorer.describe()
    found += [
        f"{key} was {before.get(key)}, is {now.get(key)}"
        for key in sorted(set(before) | set(now))
        if before.get(key) != now.get(key)
    ]
    probed = _fingerprint(scorer, directory)[0]
    if probed["token_ids"] != record["fingerprint"]["token_ids"]:
        found.append("the tokenizer gives other token ids")
    if not _alike(record["fingerprint"]["answers"], probed["answers"]):
        found.append("the answers to the probe texts differ")
    return found


def _alike(before: Sequence[Any], now: Sequence[Any]) -> bool:
    for one, other in zip(before, now, strict=True):
        if isinstance(one, str) or isinstance(other, str):
            if one != other:
                return False
        elif any(abs(a - b) > _TOLERANCE_PPB for a, b in zip(one, other, strict=True)):
            return False
    return True
