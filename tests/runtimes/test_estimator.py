"""Baselines without scikit-learn: the same probabilities as scikit-learn, to 1e-12."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from freehold.errors import InputError
from freehold.runtimes.base import OptionText, Question
from freehold.runtimes.encoder import Encoder
from freehold.runtimes.estimator import logistic_layer
from freehold.runtimes.formats import Estimator, EstimatorPack, TfidfSettings, write_estimator
from freehold.runtimes.open import RuntimeSpec, open_scorer

BASE = "sha256:" + "0" * 64
WORDS = """card Lost refund, MONEY back x Ünï — o'clock 42 3.5% naïve\tand
the the of 日本語 ß É""".split(" ")  # noqa: SIM905


def texts(count: int, seed: int = 0) -> list[str]:
    source = random.Random(seed)
    made = [" ".join(source.choices(WORDS, k=source.randint(1, 12))) for _ in range(count)]
    return [*made, "", "  ", "unseenword", "a b c", "É", "ab"]


def answers(count: int, names: tuple[str, ...], seed: int = 1) -> list[str]:
    return random.Random(seed).choices(names, k=count + 6)


def question(*names: str, kind: str = "choice") -> Question:
    return Question(kind, tuple(OptionText(name) for name in names))


def scored(directory: Path, asked: Question, form: str = "estimator") -> np.ndarray:
    rows = open_scorer(RuntimeSpec(form, directory), asked).score(texts(40, seed=9))
    return np.array([row.probabilities for row in rows])


def vectoriser(settings: TfidfSettings) -> TfidfVectorizer:
    return TfidfVectorizer(
        analyzer=settings.analyser,
        ngram_range=(settings.ngram_min, settings.ngram_max),
        sublinear_tf=settings.sublinear,
    )


def terms_of(cutter: TfidfVectorizer) -> tuple[str, ...]:
    return tuple(cutter.get_feature_names_out().tolist())


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c", "d")])
@pytest.mark.parametrize(
    "settings",
    [
        TfidfSettings(),
        TfidfSettings("word", 1, 1, sublinear=False),
        TfidfSettings("char_wb", 2, 5),
        TfidfSettings("char_wb", 3, 3, sublinear=False),
    ],
    ids=str,
)
def test_tfidf_logreg_equals_scikit_learn(tmp_path: Path, settings: TfidfSettings, names):
    """Binary and multinomial, word and character n-grams, empty and unknown texts included."""
    cutter = vectoriser(settings)
    features = cutter.fit_transform(texts(60))
    model = LogisticRegression(C=5.0).fit(features, answers(60, names))
    layer = logistic_layer(names, list(model.classes_), model.coef_, model.intercept_)
    pack = EstimatorPack("tfidf_logreg", "choice", names, settings)
    tensors = {"weight": layer.weight, "bias": layer.bias, "idf": cutter.idf_}
    found = terms_of(cutter)
    write_estimator(tmp_path, Estimator(pack, tensors, found))
    expected = model.predict_proba(cutter.transform(texts(40, seed=9)))
    assert np.abs(scored(tmp_path, question(*names)) - expected).max() < 1e-12


def test_labels_equal_one_logistic_regression_each(tmp_path: Path):
    names, settings = ("a", "b", "c"), TfidfSettings()
    cutter = vectoriser(settings)
    features = cutter.fit_transform(texts(60))
    truth = np.random.default_rng(2).integers(0, 2, size=(66, 3))
    model = OneVsRestClassifier(LogisticRegression()).fit(features, truth)
    tensors = {
        "weight": np.vstack([one.coef_ for one in model.estimators_]),
        "bias": np.concatenate([one.intercept_ for one in model.estimators_]),
        "idf": cutter.idf_,
    }
    pack = EstimatorPack("tfidf_logreg", "labels", names, settings)
    write_estimator(tmp_path, Estimator(pack, tensors, terms_of(cutter)))
    expected = model.predict_proba(cutter.transform(texts(40, seed=9)))
    assert np.abs(scored(tmp_path, question(*names, kind="labels")) - expected).max() < 1e-12


@pytest.mark.parametrize("form", ["majority", "estimator"])
def test_majority_equals_the_prior(tmp_path: Path, form: str):
    names = ("a", "b", "c")
    model = DummyClassifier(strategy="prior").fit(np.zeros((66, 1)), answers(60, names))
    pack = EstimatorPack("majority", "choice", names)
    write_estimator(tmp_path, Estimator(pack, {"prior": model.class_prior_}))
    assert np.array_equal(scored(tmp_path, question(*names), form)[0], model.class_prior_)


def test_an_option_that_training_never_saw_gets_probability_zero(tmp_path: Path):
    names, settings = ("a", "never", "b"), TfidfSettings()
    cutter = vectoriser(settings)
    features = cutter.fit_transform(texts(60))
    model = LogisticRegression().fit(features, answers(60, ("a", "b")))
    layer = logistic_layer(names, list(model.classes_), model.coef_, model.intercept_)
    tensors = {"weight": layer.weight, "bias": layer.bias, "idf": cutter.idf_}
    pack = EstimatorPack("tfidf_logreg", "choice", names, settings)
    write_estimator(tmp_path, Estimator(pack, tensors, terms_of(cutter)))
    got = scored(tmp_path, question(*names))
    expected = model.predict_proba(cutter.transform(texts(40, seed=9)))
    assert np.abs(got[:, [0, 2]] - expected).max() < 1e-12
    assert (got[:, 1] == 0).all()


def test_embedding_logreg_equals_scikit_learn_on_the_same_vectors(bert: Path, tmp_path: Path):
    names = ("a", "b", "c")
    encoder = Encoder(bert)
    model = LogisticRegression().fit(encoder.embed(texts(60)).astype(float), answers(60, names))
    pack = EstimatorPack("embedding_logreg", "choice", names, base=BASE, max_tokens=64)
    tensors = {"weight": model.coef_, "bias": model.intercept_}
    write_estimator(tmp_path, Estimator(pack, tensors))
    spec = RuntimeSpec("estimator", tmp_path, bert)
    rows = open_scorer(spec, question(*names)).score(texts(40, seed=9))
    vectors = {text: encoder.embed([text])[0] for text in set(texts(40, seed=9))}
    features = np.stack([vectors[text] for text in texts(40, seed=9)]).astype(float)
    got = np.array([row.probabilities for row in rows])
    assert np.abs(got - model.predict_proba(features)).max() < 1e-6
    with pytest.raises(InputError, match="needs its base model"):
        open_scorer(RuntimeSpec("estimator", tmp_path), question(*names))


def test_a_trained_baseline_is_not_opened_as_the_majority(tmp_path: Path):
    pack = EstimatorPack("tfidf_logreg", "choice", ("a", "b"), TfidfSettings())
    tensors = {"weight": np.ones((2, 1)), "bias": np.zeros(2), "idf": np.ones(1)}
    write_estimator(tmp_path, Estimator(pack, tensors, ("x",)))
    with pytest.raises(InputError, match="is a tfidf_logreg pack; open it as 'estimator'"):
        open_scorer(RuntimeSpec("majority", tmp_path), question("a", "b"))


def test_banking77_with_all_its_classes(tmp_path: Path, shared_data: Path):
    """Real texts, 77 options: still equal to 1e-12."""

    def rows(name: str, count: int) -> tuple[list[str], list[str]]:
        with (shared_data / "banking77" / name).open(encoding="utf-8", newline="") as file:
            read = list(csv.reader(file))[1:]
        random.Random(0).shuffle(read)
        return [row[0] for row in read[:count]], [row[1] for row in read[:count]]

    train, truth = rows("train.csv", 1000)
    names = tuple(sorted(set(truth)))
    settings = TfidfSettings()
    cutter = vectoriser(settings)
    model = LogisticRegression(max_iter=20, tol=1e-2).fit(cutter.fit_transform(train), truth)
    layer = logistic_layer(names, list(model.classes_), model.coef_, model.intercept_)
    tensors = {"weight": layer.weight, "bias": layer.bias, "idf": cutter.idf_}
    pack = EstimatorPack("tfidf_logreg", "choice", names, settings)
    write_estimator(tmp_path, Estimator(pack, tensors, terms_of(cutter)))
    test, _ = rows("test.csv", 500)
    got = open_scorer(RuntimeSpec("estimator", tmp_path), question(*names)).score(test)
    expected = model.predict_proba(cutter.transform(test))
    assert np.abs(np.array([row.probabilities for row in got]) - expected).max() < 1e-12
