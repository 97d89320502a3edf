"""The shipped fake: a scorer that answers by a stated rule, for dry runs, the demo and tests.

A directory with ``scripted.toml``::

    format = "freehold-scripted/1"
    rule = "keywords"          # or "hash": a keyed hash of the text picks the option
    seed = "any text"          # key of the hash; also decides texts that no keyword matches
    latency_ms = 0             # time that each text takes, to try out slowness
    fail_on = ["BOOM"]         # texts that hold one of these get an error instead of an answer

    [keywords]
    refund = ["money back", "refund"]

Same text, same answer, on every machine. It says that it is scripted wherever it is described.
"""

from __future__ import annotations

import hashlib
import hmac
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from freehold.canonical.json import digest
from freehold.errors import SettingsError
from freehold.runtimes.answers import estimate
from freehold.runtimes.base import Execution, Question, Scored, ScoredBatch, collect

FORMAT = "freehold-scripted/1"
FILE = "scripted.toml"
RULES = ("keywords", "hash")
_ROWS_AT_ONCE = 64
_SURE = 0.9


@dataclass(frozen=True, slots=True)
class Script:
    """The rule by which a scripted scorer answers."""

    rule: str = "hash"
    seed: str = ""
    keywords: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    latency_ms: int = 0
    fail_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an unknown rule."""
        if self.rule not in RULES:
            raise SettingsError(f"unknown rule {self.rule!r}; known: {', '.join(RULES)}")
        if self.latency_ms < 0:
            raise SettingsError(f"latency_ms cannot be {self.latency_ms}")

    def record(self) -> dict[str, Any]:
        """Return the script as it stands in a candidate's digest."""
        return {
            "rule": self.rule,
            "seed": self.seed,
            "keywords": {name: list(words) for name, words in self.keywords.items()},
            "fail_on": list(self.fail_on),
        }


class ScriptedScorer:
    """Answers by a `Script`; never calibrated."""

    def __init__(self, script: Script, question: Question) -> None:
        unknown = sorted(set(script.keywords) - set(question.names))
        if unknown:
            raise SettingsError(f"keywords of options that the task does not have: {unknown}")
        self._script = script
        self._question = question

    def stream(self, texts: Sequence[str]) -> Iterator[ScoredBatch]:
        """Yield answers batch by batch, in input order."""
        for start in range(0, len(texts), _ROWS_AT_ONCE):
            some = texts[start : start + _ROWS_AT_ONCE]
            if self._script.latency_ms:
                time.sleep(self._script.latency_ms * len(some) / 1000)
            execution = Execution(f"{len(some)}x1", 1, "scripted", "exact", "cpu")
            positions = tuple(range(start, start + len(some)))
            yield ScoredBatch(positions, tuple(map(self._answer, some)), execution)

    def score(self, texts: Sequence[str]) -> list[Scored]:
        """Return one answer per text, in input order."""
        return collect(self.stream(texts), len(texts))

    def describe(self) -> dict[str, Any]:
        """Return what identifies this way of scoring."""
        return {
            "runtime": "scripted/1",
            "script": digest(self._script.record()),
            "libraries": {},
            "device": "cpu",
            "dtype": "exact",
            "threads": 1,
        }

    def _answer(self, text: str) -> Scored:
        tokens = len(text.split())
        for word in self._script.fail_on:
            if word in text:
                return Scored.failed(f"scripted to fail on {word!r}", tokens_in=tokens)
        shares = self._shares(text)
        value = estimate(self._question, shares)
        return Scored(shares, value=value, raw=None, tokens_in=tokens)

    def _shares(self, text: str) -> tuple[float, ...]:
        names = self._question.names
        hits = [0] * len(names)
        if self._script.rule == "keywords":
            lowered = text.lower()
            for place, name in enumerate(names):
                words = self._script.keywords.get(name, ())
                hits[place] = sum(lowered.count(word.lower()) for word in words)
        if self._question.kind == "labels":
            if self._script.rule == "hash":
                hits = [self._hashed(f"{name}\n{text}") % 2 for name in names]
            return tuple(_SURE if hit else 1.0 - _SURE for hit in hits)
        if len(names) == 1:
            return (1.0,)
        best = hits.index(max(hits)) if any(hits) else self._hashed(text) % len(names)
        rest = (1.0 - _SURE) / (len(names) - 1)
        return tuple(_SURE if place == best else rest for place in range(len(names)))

    def _hashed(self, text: str) -> int:
        key = self._script.seed.encode("utf-8")
        return int.from_bytes(hmac.new(key, text.encode("utf-8"), hashlib.sha256).digest()[:8])


def read_script(directory: Path) -> Script:
    """Return the script in a directory; SettingsError names the file and the key."""
    path = directory / FILE
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error
    if document.pop("format", None) != FORMAT:
        raise SettingsError(f"{path}: format must be {FORMAT!r}")
    forms = {"rule": str, "seed": str, "latency_ms": int, "fail_on": list, "keywords": dict}
    for key, value in document.items():
        if key not in forms or not isinstance(value, forms[key]):
            raise SettingsError(f"{path}: unknown key or wrong type: {key} = {value!r}")
    keywords = {name: tuple(words) for name, words in document.pop("keywords", {}).items()}
    fail_on = tuple(document.pop("fail_on", ()))
    try:
        return Script(**document, keywords=keywords, fail_on=fail_on)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error.message}") from error
