"""Any OpenAI-compatible server as a scorer: vLLM, SGLang, TGI, Ollama, a remote provider.

Options are shown with letters and the model answers with one. Where the server returns
``top_logprobs``, the letters' probabilities at the first token, renormalised, are the answer; else
the stated option gets probability 1, which is a claim and not a measurement. Neither is calibrated.
We cannot hash another's weights: the identity of the model is what the server claims.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from freehold.errors import InputError, PermitDenied
from freehold.policy.permits import Permit, host_of
from freehold.runtimes.base import Execution, Question, Scored, ScoredBatch, collect
from freehold.runtimes.batching import in_parallel
from freehold.runtimes.http_client import Endpoint, NoAnswer, post_json

IDENTITY_BASIS = "provider_claimed"
PROMPT = "freehold-chat/1"
_TOP = 20
_LETTERS = string.ascii_uppercase[:_TOP]


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model at an endpoint, and how many requests may be under way at once."""

    endpoint: Endpoint
    model: str
    workers: int = 4


class OpenAIScorer:
    """Scores texts by a server; cannot be made without a permit for its host."""

    def __init__(self, remote: RemoteModel, question: Question, permit: Permit) -> None:
        if not isinstance(permit, Permit):
            raise PermitDenied(f"{remote.endpoint.url} needs a permit from policy")
        host = host_of(remote.endpoint.url)
        if permit.host != host:
            raise PermitDenied(f"the permit is for {permit.host}, not for {host}")
        if not remote.model:
            raise InputError("name the model that the server should use")
        self._remote = remote
        self._question = question
        self._permit = permit
        # Beyond 20 options a first token's top_logprobs cannot name them all: names are asked for.
        self._lettered = question.kind == "choice" and len(question.names) <= _TOP

    @property
    def permit(self) -> Permit:
        """The permit under which every text is sent."""
        return self._permit

    def stream(self, texts: Sequence[str]) -> Iterator[ScoredBatch]:
        """Yield one answer at a time, in input order."""
        execution = Execution("1x1", 0, "unknown", "unknown", f"http:{self._permit.host}")

        def work(position: int) -> ScoredBatch:
            return ScoredBatch((position,), (self._ask(texts[position]),), execution)

        yield from in_parallel(range(len(texts)), work, self._remote.workers)

    def score(self, texts: Sequence[str]) -> list[Scored]:
        """Return one answer per text, in input order."""
        return collect(self.stream(texts), len(texts))

    def describe(self) -> dict[str, Any]:
        """Return what is known of the engine: where it is and what it is said to be."""
        return {
            "runtime": "openai_http/1",
            "identity_basis": IDENTITY_BASIS,
            "model": self._remote.model,
            "host": self._permit.host,
            "prompt": PROMPT,
            "libraries": {},
            "device": "unknown",
            "dtype": "unknown",
            "threads": 0,
        }

    def _ask(self, text: str) -> Scored:
        body: dict[str, Any] = {
            "model": self._remote.model,
            "messages": [
                {"role": "system", "content": instructions_for(self._question, self._lettered)},
                {"role": "user", "content": text},
            ],
            "temperature": 0,
            "max_tokens": 4 if self._lettered else 256,
        }
        if self._lettered:
            body |= {"logprobs": True, "top_logprobs": _TOP}
        answer = post_json(self._remote.endpoint, "/chat/completions", body)
        said = answer if isinstance(answer, NoAnswer) else _parsed(answer)
        if isinstance(said, NoAnswer):
            return Scored.failed(said.reason)
        shares = _from_letters(said.first, len(self._question.names)) if self._lettered else None
        if shares is not None:
            return Scored(shares, raw=said.content, tokens_in=said.tokens)
        return self._from_content(said.content, said.tokens)

    def _from_content(self, content: str, tokens: int) -> Scored:
        """Return the stated answer as certain: nothing else is known about it."""
        said = content.strip().rstrip(".")
        if self._question.kind == "number":
            return self._number(said, content, tokens)
        wanted = [said] if self._question.kind == "choice" else _split(said)
        places = [self._place(one) for one in wanted]
        if None in places:
            reason = f"the answer {content[:80]!r} is not among the options"
            return Scored.failed(reason, raw=content, tokens_in=tokens)
        shares = tuple(float(place in places) for place in range(len(self._question.names)))
        return Scored(shares, raw=content, tokens_in=tokens)

    def _place(self, said: str) -> int | None:
        if self._lettered and len(said) == 1:
            place = _LETTERS.find(said.upper())
            return place if 0 <= place < len(self._question.names) else None
        folded = [name.casefold() for name in self._question.names]
        return folded.index(said.casefold()) if said.casefold() in folded else None

    def _number(self, said: str, content: str, tokens: int) -> Scored:
        question = self._question
        low, high = Decimal(question.low or "0"), Decimal(question.high or "0")
        try:
            number = Decimal(said)
        except InvalidOperation:
            number = Decimal("NaN")
        if not number.is_finite() or not low <= number <= high:
            reason = f"the answer {content[:80]!r} is not a number from {low} to {high}"
            return Scored.failed(reason, raw=content, tokens_in=tokens)
        bin_ = min(question.bins - 1, int((number - low) * question.bins / (high - low)))
        shares = tuple(float(place == bin_) for place in range(question.bins))
        return Scored(shares, value=float(number), raw=content, tokens_in=tokens)


def instructions_for(question: Question, lettered: bool) -> str:
    """Return the system message: the task's instructions, the options, the form of the answer."""
    parts = [question.instructions.strip()] if question.instructions.strip() else []
    if question.kind == "number":
        parts.append(f"Answer with one number from {question.low} to {question.high} only.")
        return "\n\n".join(parts)
    marks = _LETTERS if lettered else ["-"] * len(question.options)
    listed = (
        f"{mark}{')' if lettered else ''} {option.name}: {option.description}"
        for mark, option in zip(marks, question.options, strict=False)
    )
    parts.append("Options:\n" + "\n".join(listed))
    if question.kind == "labels":
        parts.append("Answer with the names that apply, joined by '|', or with 'none'.")
    else:
        parts.append(f"Answer with one {'letter' if lettered else 'name'} only.")
    return "\n\n".join(parts)


@dataclass(frozen=True, slots=True)
class _Said:
    """A chat completion's content, its first token's top_logprobs (maybe none), prompt tokens."""

    content: str
    first: list[dict[str, Any]]
    tokens: int


def _parsed(answer: dict[str, Any]) -> _Said | NoAnswer:
    try:
        choice = answer["choices"][0]
        content = choice["message"]["content"]
        steps = (choice.get("logprobs") or {}).get("content") or []
        first = (steps[0].get("top_logprobs") or []) if steps else []
        tokens = (answer.get("usage") or {}).get("prompt_tokens", 0)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        return NoAnswer(f"the answer is not a chat completion: {error!r}")
    usable = isinstance(first, list) and all(isinstance(one, dict) for one in first)
    if not isinstance(content, str) or not usable:
        return NoAnswer("the answer is not a chat completion: content is not text")
    return _Said(content, first, tokens if isinstance(tokens, int) else 0)


def _from_letters(first: Sequence[dict[str, Any]], options: int) -> tuple[float, ...] | None:
    """Return the options' probabilities from a first token's alternatives; None if none is one."""
    mass = [0.0] * options
    for alternative in first:
        token, logprob = alternative.get("token"), alternative.get("logprob")
        if not isinstance(token, str) or not isinstance(logprob, int | float):
            continue
        letter = token.strip()
        place = _LETTERS.find(letter) if len(letter) == 1 else -1
        if 0 <= place < options and logprob <= 0:
            mass[place] += math.exp(logprob)
    total = sum(mass)
    return tuple(share / total for share in mass) if total > 0 else None


def _split(said: str) -> list[str]:
    named = [part.strip() for part in said.replace(",", "|").split("|") if part.strip()]
    return [] if named in ([], ["none"]) else named
