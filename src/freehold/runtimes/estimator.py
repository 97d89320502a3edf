"""Baselines as scorers: majority, TF-IDF and embeddings with logistic regression, in numpy alone.

scikit-learn fits them (in `training`); this file computes the same probabilities from a pack,
equal to 1e-12, without it and without pickles. A baseline is a candidate like any other: it may win
a gate and serve.
"""

from __future__ import annotations

import math
import platform
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freehold.errors import InputError
from freehold.runtimes.answers import probabilities, require_options, to_scored
from freehold.runtimes.base import Execution, Question, Scored, ScoredBatch, collect
from freehold.runtimes.formats import Estimator, Linear, TfidfSettings, read_estimator

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from freehold.runtimes.answers import Matrix
    from freehold.runtimes.encoder import Encoder

_ROWS_AT_ONCE = 1024
_WORD = re.compile(r"(?u)\b\w\w+\b")


class EstimatorScorer:
    """A baseline pack; `encoder` is needed by ``embedding_logreg`` alone."""

    def __init__(
        self, directory: Path, question: Question, encoder: Callable[[], Encoder] | None = None
    ) -> None:
        self._estimator = read_estimator(directory)
        pack = self._estimator.pack
        require_options(question, pack.kind, pack.options, (pack.low, pack.high))
        self._question = question
        self._encoder: Encoder | None = None
        self._tfidf: Tfidf | None = None
        if pack.estimator == "embedding_logreg":
            if encoder is None:
                raise InputError(f"{directory} embeds texts and needs its base model")
            self._encoder = encoder()
            width = self._estimator.tensors["weight"].shape[1]
            if width != self._encoder.hidden:
                raise InputError(
                    f"{directory} was fitted on vectors of {width}, "
                    f"its base gives {self._encoder.hidden}"
                )
        elif pack.tfidf is not None:
            self._tfidf = Tfidf(pack.tfidf, self._estimator)

    def stream(self, texts: Sequence[str]) -> Iterator[ScoredBatch]:
        """Yield answers batch by batch."""
        if self._encoder is not None:
            yield from self._embedded(self._encoder, texts)
            return
        for start in range(0, len(texts), _ROWS_AT_ONCE):
            some = texts[start : start + _ROWS_AT_ONCE]
            shares, tokens = self._shares(some)
            read = [(count, 1) for count in tokens]
            scored = to_scored(self._question, shares, read, calibrated=self._calibrated)
            execution = Execution(f"{len(some)}x1", 1, platform.machine(), "float64", "cpu")
            yield ScoredBatch(tuple(range(start, start + len(some))), scored, execution)

    def score(self, texts: Sequence[str]) -> list[Scored]:
        """Return one answer per text, in input order."""
        return collect(self.stream(texts), len(texts))

    def describe(self) -> dict[str, Any]:
        """Return what identifies this way of scoring."""
        pack = self._estimator.pack
        engine = (
            self._encoder.describe()
            if self._encoder is not None
            else {
                "libraries": {"numpy": metadata.version("numpy")},
                "device": "cpu",
                "dtype": "float64",
                "threads": 1,
            }
        )
        return {
            "runtime": "estimator/1",
            "estimator": pack.estimator,
            "temperature": pack.temperature,
            "calibrated_on": pack.calibrated_on,
            **engine,
        }

    @property
    def _calibrated(self) -> bool:
        return self._estimator.pack.calibrated_on > 0

    def _shares(self, texts: Sequence[str]) -> tuple[Matrix, list[int]]:
        """Return probabilities [texts, options] and how many known terms each text held."""
        import numpy as np

        pack = self._estimator.pack
        if self._tfidf is None:
            prior = self._estimator.tensors["prior"].astype(np.float64)
            return np.tile(prior, (len(texts), 1)), [0] * len(texts)
        logits, terms = self._tfidf.logits(texts)
        return probabilities(logits, pack.kind, pack.temperature), terms

    def _embedded(self, encoder: Encoder, texts: Sequence[str]) -> Iterator[ScoredBatch]:
        from freehold.runtimes.classifier import answered

        pack, tensors = self._estimator.pack, self._estimator.tensors
        for batch in encoder.stream(texts):
            logits = batch.times(tensors["weight"].T) + tensors["bias"]
            shares = probabilities(logits, pack.kind, pack.temperature)
            yield answered(batch, self._question, shares, calibrated=self._calibrated)


class Tfidf:
    """TF-IDF features and a linear layer over them, computed only where a text has terms."""

    def __init__(self, settings: TfidfSettings, estimator: Estimator) -> None:
        import numpy as np

        self._settings = settings
        self._column = {term: column for column, term in enumerate(estimator.terms)}
        self._idf = estimator.tensors["idf"]
        # One row per term: a text gathers the few rows that it needs.
        self._by_term: Matrix = np.ascontiguousarray(estimator.tensors["weight"].T, np.float64)
        self._bias = estimator.tensors["bias"]

    def logits(self, texts: Sequence[str]) -> tuple[Matrix, list[int]]:
        """Return logits [texts, options] and the count of known terms per text."""
        import numpy as np

        logits = np.tile(self._bias.astype(np.float64), (len(texts), 1))
        counts = []
        for row, text in enumerate(texts):
            columns, values = self._features(text)
            counts.append(len(columns))
            if len(columns):
                logits[row] += values @ self._by_term[columns]
        return logits, counts

    def _features(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        import numpy as np

        seen = Counter(terms(text, self._settings))
        known = sorted((self._column[term], n) for term, n in seen.items() if term in self._column)
        columns = np.array([column for column, _ in known], dtype=np.int64)
        values = np.array([count for _, count in known], dtype=np.float64)
        if self._settings.sublinear:
            values = np.log(values) + 1.0
        values = values * self._idf[columns]
        norm = math.sqrt(float(values @ values))
        return columns, values / norm if norm else values


def terms(text: str, settings: TfidfSettings) -> list[str]:
    """Return a text's terms, repeats included, as scikit-learn's analysers cut them."""
    lowered = text.lower()
    if settings.analyser == "char_wb":
        return [
            gram
            for word in lowered.split()
            for gram in _grams(f" {word} ", settings.ngram_min, settings.ngram_max)
        ]
    words = _WORD.findall(lowered)
    return [
        " ".join(words[start : start + size])
        for size in range(settings.ngram_min, settings.ngram_max + 1)
        for start in range(len(words) - size + 1)
    ]


def logistic_layer(
    options: Sequence[str], classes: Sequence[str], coef: Matrix, intercept: NDArray[np.float64]
) -> Linear:
    """Return a fitted scikit-learn LogisticRegression (choice or number) as a pack's linear layer.

    `coef` [classes, features], or [1, features] for two classes, where scikit-learn keeps only the
    second's; the softmax over (0, z) is its sigmoid. An option that is no class gets bias -inf.
    """
    import numpy as np

    if len(classes) == 2:
        coef = np.vstack((np.zeros_like(coef), coef))
        intercept = np.concatenate((np.zeros(1), intercept))
    weight = np.zeros((len(options), coef.shape[1]))
    bias = np.full(len(options), -np.inf)
    for row, name in enumerate(classes):
        place = list(options).index(name)
        weight[place], bias[place] = coef[row], intercept[row]
    return Linear(weight, bias)


def _grams(word: str, shortest: int, longest: int) -> Iterator[str]:
    """Yield a padded word's n-grams as scikit-learn does: a word shorter than n counts once."""
    for size in range(shortest, longest + 1):
        yield word[:size]
        for start in range(1, len(word) - size + 1):
            yield word[start : start + size]
        if len(word) <= size:
            break
