"""The cheap rungs of the ladder: trained beside every run, and promotable like any candidate.

- ``majority``: the share of each option among the training rows;
- ``tfidf``: TF-IDF of words and word pairs, then logistic regression;
- ``embedding``: the frozen base encoder's vectors, then logistic regression.

A fine-tuned model that does not beat these is not worth its upkeep, and often none does. They are
given the same rows, and a temperature fitted on five folds' held-out scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freehold.errors import InputError
from freehold.runtimes.base import Question
from freehold.runtimes.encoder import Encoder, Reading
from freehold.runtimes.formats import (
    Estimator,
    EstimatorPack,
    Linear,
    TfidfSettings,
    write_estimator,
)
from freehold.runtimes.torch_stack import Placement
from freehold.training.calibration import LEAST_ROWS, Calibration, fit_temperature
from freehold.training.linear import fit_linear, logits_of
from freehold.training.rows import TrainingRow
from freehold.training.targets import row_weights, target_matrix

if TYPE_CHECKING:
    from freehold.training.targets import Matrix

NAMES = ("majority", "tfidf", "embedding")
_FOLDS = 5


@dataclass(frozen=True, slots=True)
class BaselineJob:
    """What a baseline is made from; `strength` is scikit-learn's C."""

    rows: tuple[TrainingRow, ...]
    question: Question
    strength: float = 30.0
    balance: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Embedding:
    """The encoder under ``embedding``: its folder, manifest digest, and how it reads."""

    directory: Path
    digest: str
    reading: Reading


def write_majority(job: BaselineJob, directory: Path) -> Calibration:
    """Write the shares of the options; they are probabilities as they are."""
    import numpy as np

    targets, weights = _wanted(job)
    prior = (targets * weights[:, None]).sum(axis=0) / weights.sum()
    pack = EstimatorPack("majority", calibrated_on=len(job.rows), **_task(job.question))
    write_estimator(directory, Estimator(pack, {"prior": np.clip(prior, 0.0, 1.0)}))
    return Calibration(rows=len(job.rows))


def write_tfidf(job: BaselineJob, directory: Path) -> Calibration:
    """Write TF-IDF and logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    settings = TfidfSettings()
    vectoriser = TfidfVectorizer(
        analyzer=settings.analyser,
        ngram_range=(settings.ngram_min, settings.ngram_max),
        sublinear_tf=settings.sublinear,
    )
    try:
        features = vectoriser.fit_transform([row.text for row in job.rows])
    except ValueError as error:  # scikit-learn's only complaint here: no text has a word
        raise InputError(f"TF-IDF found nothing to count in the texts: {error}") from error
    linear, calibration = _fitted(job, features)
    pack = EstimatorPack(
        "tfidf_logreg",
        tfidf=settings,
        temperature=calibration.temperature,
        calibrated_on=calibration.rows,
        **_task(job.question),
    )
    tensors = {"weight": linear.weight, "bias": linear.bias, "idf": vectoriser.idf_}
    terms = tuple(str(term) for term in vectoriser.get_feature_names_out())
    write_estimator(directory, Estimator(pack, tensors, terms))
    return calibration


def write_embedding(job: BaselineJob, directory: Path, embedding: Embedding) -> Calibration:
    """Write logistic regression on the frozen encoder's vectors, read as when serving."""
    encoder = Encoder(embedding.directory, embedding.reading, placement=Placement())
    features = encoder.embed([row.text for row in job.rows]).astype("float64")
    linear, calibration = _fitted(job, features)
    pack = EstimatorPack(
        "embedding_logreg",
        base=embedding.digest,
        max_tokens=embedding.reading.max_tokens,
        pooling=embedding.reading.pooling,
        normalise=embedding.reading.normalise,
        temperature=calibration.temperature,
        calibrated_on=calibration.rows,
        **_task(job.question),
    )
    tensors = {"weight": linear.weight, "bias": linear.bias}
    write_estimator(directory, Estimator(pack, tensors))
    return calibration


def write_all(
    job: BaselineJob, directory: Path, embedding: Embedding | None
) -> dict[str, Calibration]:
    """Write every baseline into a folder of its name; without an encoder all but ``embedding``."""
    made = {
        "majority": write_majority(job, directory / "majority"),
        "tfidf": write_tfidf(job, directory / "tfidf"),
    }
    if embedding is not None:
        made["embedding"] = write_embedding(job, directory / "embedding", embedding)
    return made


def _wanted(job: BaselineJob) -> tuple[Matrix, Matrix]:
    targets = target_matrix(job.rows, job.question)
    return targets, row_weights(job.rows, job.question, balance=job.balance)


def _task(question: Question) -> dict[str, Any]:
    return {
        "kind": question.kind,
        "options": question.names,
        "low": question.low,
        "high": question.high,
    }


def _fitted(job: BaselineJob, features: Any) -> tuple[Linear, Calibration]:
    targets, weights = _wanted(job)
    linear = fit_linear(features, targets, weights, job.question.kind, job.strength)
    return linear, _cross_calibrated(job, features, targets, weights)


def _cross_calibrated(
    job: BaselineJob, features: Any, targets: Matrix, weights: Matrix
) -> Calibration:
    """Return the temperature of scores that each row got from a model which had not seen it."""
    import numpy as np

    rows = len(job.rows)
    if rows < max(LEAST_ROWS, _FOLDS):
        return Calibration()
    logits = np.zeros_like(targets)
    fold_of = np.random.default_rng(job.seed).permutation(rows) % _FOLDS
    for fold in range(_FOLDS):
        held, learnt = np.flatnonzero(fold_of == fold), np.flatnonzero(fold_of != fold)
        kind, strength = job.question.kind, job.strength
        part = fit_linear(features[learnt], targets[learnt], weights[learnt], kind, strength)
        logits[held] = logits_of(features[held], part)
    return fit_temperature(logits, targets, job.question.kind)
