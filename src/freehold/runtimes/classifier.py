"""Encoder scorers: zero-shot by the options' descriptions, and a trained head.

Zero-shot needs no training row: a text is as probable for an option as its vector lies close to
that of the option's description. Its probabilities are a stated function of cosines and were never
calibrated; they say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freehold.errors import InputError
from freehold.runtimes.answers import probabilities, require_options, to_scored
from freehold.runtimes.base import Question, Scored, ScoredBatch, collect
from freehold.runtimes.batching import Budget
from freehold.runtimes.encoder import Embedded, Encoder, Reading
from freehold.runtimes.formats import read_classifier
from freehold.runtimes.torch_stack import Placement

if TYPE_CHECKING:
    from freehold.runtimes.answers import Matrix

ZERO_SHOT_TEMPERATURE = "0.05"
ZERO_SHOT_LABEL_COSINE = "0.30"


class ZeroShotScorer:
    """Cosine to each option's description; softmax at 0.05 (labels: sigmoid around cosine 0.30)."""

    def __init__(self, encoder: Encoder, question: Question) -> None:
        if question.kind == "number":
            raise InputError(
                "an encoder cannot answer a number question before it was trained",
                hint="Start with a causal model or an imported history, then train a head.",
            )
        self._encoder = encoder
        self._question = question
        self._options = encoder.embed([option.description for option in question.options])

    def stream(self, texts: Sequence[str]) -> Iterator[ScoredBatch]:
        """Yield answers batch by batch."""
        for batch in self._encoder.stream(texts):
            cosines = batch.times(self._options.T)
            if self._question.kind == "labels":
                cosines = cosines - float(ZERO_SHOT_LABEL_COSINE)
            shares = probabilities(cosines, self._question.kind, ZERO_SHOT_TEMPERATURE)
            yield answered(batch, self._question, shares, calibrated=False)

    def score(self, texts: Sequence[str]) -> list[Scored]:
        """Return one answer per text, in input order."""
        return collect(self.stream(texts), len(texts))

    def describe(self) -> dict[str, Any]:
        """Return what identifies this way of scoring."""
        return {
            "runtime": "transformers/zero-shot-1",
            "temperature": ZERO_SHOT_TEMPERATURE,
            "label_cosine": ZERO_SHOT_LABEL_COSINE,
            **self._encoder.describe(),
        }


class HeadScorer:
    """A trained classifier pack on its encoder."""

    def __init__(
        self,
        directory: Path,
        base: Path | None,
        question: Question,
        placement: Placement,
        budget: Budget | None = None,
    ) -> None:
        """Load a pack; `base` is the base model's directory, unneeded for a full encoder."""
        self._pack, self._head = read_classifier(directory)
        pack = self._pack
        require_options(question, pack.kind, pack.options, (pack.low, pack.high))
        if pack.method != "full" and base is None:
            raise InputError(f"{directory} is a {pack.method} pack and needs its base model")
        self._encoder = Encoder(
            directory if pack.method == "full" or base is None else base,
            Reading(pack.max_tokens, pack.pooling, pack.normalise),
            placement=placement,
            budget=budget,
            adapter=directory if pack.method == "lora" else None,
        )
        if self._head.weight.shape[1] != self._encoder.hidden:
            raise InputError(
                f"{directory} was trained on vectors of {self._head.weight.shape[1]}, "
                f"its base gives {self._encoder.hidden}"
            )
        self._question = question

    def stream(self, texts: Sequence[str]) -> Iterator[ScoredBatch]:
        """Yield answers batch by batch."""
        weight = self._head.weight.T.astype("float64")
        bias = self._head.bias.astype("float64")
        for batch in self._encoder.stream(texts):
            logits = batch.times(weight) + bias
            shares = probabilities(logits, self._pack.kind, self._pack.temperature)
            calibrated = self._pack.calibrated_on > 0
            yield answered(batch, self._question, shares, calibrated=calibrated)

    def score(self, texts: Sequence[str]) -> list[Scored]:
        """Return one answer per text, in input order."""
        return collect(self.stream(texts), len(texts))

    def describe(self) -> dict[str, Any]:
        """Return what identifies this way of scoring."""
        return {
            "runtime": "transformers/classifier-1",
            "method": self._pack.method,
            "adapter": "merged at load" if self._pack.method == "lora" else None,
            "temperature": self._pack.temperature,
            "calibrated_on": self._pack.calibrated_on,
            **self._encoder.describe(),
        }


def answered(
    batch: Embedded, question: Question, shares: Matrix, *, calibrated: bool
) -> ScoredBatch:
    """Return a batch of vectors' answers; a text without a vector gets an error, not an answer."""
    scored = list(to_scored(question, shares, batch.read, calibrated=calibrated))
    for row, reason in batch.failures.items():
        scored[row] = Scored.failed(reason, tokens_in=batch.read[row][0])
    return ScoredBatch(batch.positions, tuple(scored), batch.execution)
