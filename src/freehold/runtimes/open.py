"""One door to every engine: a specification and a question in, a scorer out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from freehold.errors import InputError, IntegrityError, PermitDenied
from freehold.policy.permits import Permit
from freehold.runtimes.base import Question, Scorer
from freehold.runtimes.secret import Secret

if TYPE_CHECKING:
    from freehold.runtimes.batching import Budget
    from freehold.runtimes.torch_stack import Placement

_ENGINE = {"device", "dtype", "threads", "batch_tokens"}
OPTIONS: Mapping[str, frozenset[str]] = {
    "transformers": frozenset(_ENGINE),
    "classifier": frozenset({*_ENGINE, "base_digest"}),
    "causal": frozenset({*_ENGINE, "list_options", "orders"}),
    "estimator": frozenset({*_ENGINE, "base_digest"}),
    "majority": frozenset(),
    "scripted": frozenset(),
    "openai_http": frozenset({"url", "model", "timeout_s", "retries", "parallel"}),
}
"""The forms of runtime, and which options each takes (all values are text)."""


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """Which engine, on which files.

    `directory`: the model, pack or script. `base_directory`: the base model of a pack or of a PEFT
    adapter. `key` and `permit` are for engines over HTTP; neither is part of any identity.
    """

    form: str
    directory: Path | None = None
    base_directory: Path | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    key: Secret | None = None
    permit: Permit | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown form or option: a misspelt option would silently mean its default."""
        if self.form not in OPTIONS:
            raise InputError(f"unknown runtime {self.form!r}; known: {', '.join(OPTIONS)}")
        unknown = sorted(set(self.options) - OPTIONS[self.form])
        if unknown:
            known = ", ".join(sorted(OPTIONS[self.form])) or "none"
            raise InputError(f"runtime {self.form}: unknown option {unknown[0]!r}; known: {known}")


def open_scorer(spec: RuntimeSpec, question: Question) -> Scorer:
    """Return a scorer; raises what the engine's loader raises, always before any text is read."""
    openers: Mapping[str, Callable[[RuntimeSpec, Question], Scorer]] = {
        "transformers": _zero_shot,
        "classifier": _classifier,
        "causal": _causal,
        "estimator": _estimator,
        "majority": _majority,
        "scripted": _scripted,
        "openai_http": _openai_http,
    }
    return openers[spec.form](spec, question)


def _zero_shot(spec: RuntimeSpec, question: Question) -> Scorer:
    from freehold.runtimes.classifier import ZeroShotScorer
    from freehold.runtimes.encoder import Encoder

    encoder = Encoder(_directory(spec), placement=_placement(spec), budget=_budget(spec))
    return ZeroShotScorer(encoder, question)


def _classifier(spec: RuntimeSpec, question: Question) -> Scorer:
    from freehold.runtimes.classifier import HeadScorer
    from freehold.runtimes.formats import read_classifier

    directory = _directory(spec)
    _require_base(spec, read_classifier(directory)[0].base)
    return HeadScorer(directory, spec.base_directory, question, _placement(spec), _budget(spec))


def _causal(spec: RuntimeSpec, question: Question) -> Scorer:
    from freehold.runtimes.causal import Asking, CausalModel, CausalScorer

    directory, base = _directory(spec), spec.base_directory
    model = CausalModel(base or directory, _placement(spec), directory if base else None)
    listed = spec.options.get("list_options", "false")
    if listed not in ("true", "false"):
        raise InputError(f"list_options is true or false, got {listed!r}")
    return CausalScorer(model, question, Asking(listed == "true", _count(spec, "orders", 1)))


def _estimator(spec: RuntimeSpec, question: Question) -> Scorer:
    from freehold.runtimes.encoder import Encoder, Reading
    from freehold.runtimes.estimator import EstimatorScorer
    from freehold.runtimes.formats import read_estimator

    directory, base = _directory(spec), spec.base_directory
    pack = read_estimator(directory).pack
    _require_base(spec, pack.base)
    if base is None or pack.max_tokens is None:
        return EstimatorScorer(directory, question)
    reading = Reading(pack.max_tokens, pack.pooling, pack.normalise)
    encoder = Encoder(base, reading, placement=_placement(spec), budget=_budget(spec))
    return EstimatorScorer(directory, question, lambda: encoder)


def _majority(spec: RuntimeSpec, question: Question) -> Scorer:
    from freehold.runtimes.estimator import EstimatorScorer
    from freehold.runtimes.formats import read_estimator

    directory = _directory(spec)
    found = read_estimator(directory).pack.estimator
    if found != "majority":
        raise InputError(f"{directory} is a {found} pack; open it as 'estimator'")
    return EstimatorScorer(directory, question)


def _scripted(spec: RuntimeSpec, question: Question) -> Scorer:
    from freehold.runtimes.scripted import ScriptedScorer, read_script

    return ScriptedScorer(read_script(_directory(spec)), question)


def _openai_http(spec: RuntimeSpec, question: Question) -> Scorer:
    from freehold.runtimes.http_client import Endpoint
    from freehold.runtimes.openai_http import OpenAIScorer, RemoteModel

    for name in ("url", "model"):
        if not spec.options.get(name):
            raise InputError(f"runtime openai_http needs the option {name!r}")
    if spec.permit is None:
        raise PermitDenied(f"{spec.options['url']} needs a permit from policy")
    endpoint = Endpoint(
        spec.options["url"],
        spec.key,
        timeout_s=_count(spec, "timeout_s", 60),
        retries=_count(spec, "retries", 2),
    )
    remote = RemoteModel(endpoint, spec.options["model"], _count(spec, "parallel", 4))
    return OpenAIScorer(remote, question, spec.permit)


def _directory(spec: RuntimeSpec) -> Path:
    if spec.directory is None:
        raise InputError(f"runtime {spec.form} needs a model directory")
    return spec.directory


def _placement(spec: RuntimeSpec) -> Placement:
    from freehold.runtimes.torch_stack import Placement, available_cores

    return Placement(
        spec.options.get("device", "cpu"),
        spec.options.get("dtype", "float32"),
        _count(spec, "threads", available_cores()),
    )


def _budget(spec: RuntimeSpec) -> Budget:
    from freehold.runtimes.batching import BATCH_TOKENS, Budget

    return Budget(tokens=_count(spec, "batch_tokens", BATCH_TOKENS))


def _count(spec: RuntimeSpec, name: str, default: int) -> int:
    text = spec.options.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit():
        raise InputError(f"runtime {spec.form}: {name} is a whole number, got {text!r}")
    return int(text)


def _require_base(spec: RuntimeSpec, trained_on: str | None) -> None:
    """Raise IntegrityError when a pack would be put on another base than it was trained on."""
    given = spec.options.get("base_digest")
    if given is not None and given != trained_on:
        raise IntegrityError(f"{spec.directory} was trained on {trained_on}, not on {given}")
