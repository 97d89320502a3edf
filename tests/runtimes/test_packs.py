"""Packs come back as they were written; a malformed one is refused and the file is named."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from freehold.canonical.json import encode
from freehold.errors import IntegrityError, UnsafeModel
from freehold.runtimes.formats import (
    ClassifierPack,
    Estimator,
    EstimatorPack,
    Linear,
    TfidfSettings,
    read_classifier,
    read_estimator,
    write_classifier,
    write_estimator,
)

BASE = "sha256:" + "0" * 64


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    pack = ClassifierPack("choice", ("a", "b"), "head", 64, BASE, temperature="1.25")
    head = Linear(np.eye(2, 4, dtype=np.float32), np.array([0.5, -np.inf], dtype=np.float32))
    write_classifier(tmp_path, pack, head)
    return tmp_path


@pytest.fixture
def estimator(tmp_path: Path) -> Path:
    pack = EstimatorPack("tfidf_logreg", "choice", ("a", "b"), TfidfSettings())
    tensors = {"weight": np.ones((2, 3)), "bias": np.zeros(2), "idf": np.ones(3)}
    write_estimator(tmp_path, Estimator(pack, tensors, ("x", "y", "z")))
    return tmp_path


def test_a_classifier_pack_comes_back_as_written(classifier: Path):
    pack, head = read_classifier(classifier)
    assert (pack.temperature, pack.options, pack.base) == ("1.25", ("a", "b"), BASE)
    assert head.weight.dtype == np.float32
    assert head.bias.tolist() == [0.5, -np.inf]


def test_an_estimator_pack_comes_back_as_written(estimator: Path):
    read = read_estimator(estimator)
    assert read.pack.tfidf == TfidfSettings()
    assert read.terms == ("x", "y", "z")
    assert read.tensors["weight"].shape == (2, 3)


def _edit(**changes: object) -> Callable[[Path], None]:
    def edit(directory: Path) -> None:
        path = directory / "freehold.json"
        document = json.loads(path.read_bytes()) | changes
        path.write_bytes(encode({k: v for k, v in document.items() if v != "absent"}))

    return edit


def _cut(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).write_bytes((directory / name).read_bytes()[:-5])


def _tensors(name: str, **arrays: np.ndarray) -> Callable[[Path], None]:
    from safetensors.numpy import save_file

    return lambda directory: save_file(arrays, directory / name)


TWO = np.zeros(2, dtype=np.float32)
SQUARE = np.zeros((2, 4), dtype=np.float32)
BAD_CLASSIFIERS = [
    (_edit(format="freehold-classifier/2"), "freehold.json has format 'freehold-classifier/2'"),
    (_edit(colour="red"), "freehold.json has missing or unknown keys: colour"),
    (_edit(bias=1, pooling="absent"), "freehold.json has missing or unknown keys: bias, pooling"),
    (_edit(kind="ranking"), "freehold.json: field 'kind'"),
    (_edit(options=["a", "a"]), "freehold.json: field 'options'"),
    (_edit(options=None), "freehold.json: "),
    (_edit(temperature="0"), "freehold.json: field 'temperature'"),
    (_edit(temperature="nan"), "freehold.json: field 'temperature'"),
    (_edit(calibrated_on=True), "freehold.json: field 'calibrated_on'"),
    (_edit(max_tokens=2), "freehold.json: field 'max_tokens'"),
    (_edit(base=None), "freehold.json: field 'base'"),
    (_edit(low="0"), "freehold.json: field 'low, high'"),
    (_edit(options=["a", "b", "c"]), "head.safetensors: weight .* do not fit 3 options"),
    (_edit(method="lora"), "adapter_config.json is missing: method lora needs it"),
    (lambda d: (d / "freehold.json").unlink(), "freehold.json is missing"),
    (lambda d: (d / "freehold.json").write_text("{ }"), "freehold.json: .*not in canonical form"),
    (lambda d: (d / "head.safetensors").unlink(), "head.safetensors is missing"),
    (_cut("head.safetensors"), "head.safetensors is cut or altered"),
    (_tensors("head.safetensors", weight=SQUARE), r"head.safetensors holds \['weight'\]"),
    (
        _tensors("head.safetensors", weight=SQUARE.astype(np.float16), bias=TWO),
        "head.safetensors: weight is float16",
    ),
    (
        _tensors("head.safetensors", weight=SQUARE * np.float32("nan"), bias=TWO),
        "head.safetensors holds a weight that is not a finite number",
    ),
    (
        _tensors("head.safetensors", weight=SQUARE, bias=TWO - np.float32("inf")),
        "head.safetensors: a softmax over these biases has no value",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_CLASSIFIERS)
def test_a_malformed_classifier_is_refused_and_the_file_named(classifier, spoil, message):
    spoil(classifier)
    with pytest.raises(IntegrityError, match=message):
        read_classifier(classifier)


BAD_ESTIMATORS = [
    (_edit(estimator="forest"), "freehold.json: field 'estimator'"),
    (_edit(tfidf={"analyser": "word", "stop": 1}), "freehold.json: .*stop"),
    (_edit(tfidf=None), "freehold.json: field 'tfidf'"),
    (lambda d: (d / "vocabulary.json").unlink(), "vocabulary.json is missing"),
    (lambda d: (d / "vocabulary.json").write_bytes(b'["x","x","z"]'), "expected 3 different ones"),
    (lambda d: (d / "vocabulary.json").write_bytes(b"[1,2,3]"), "is not a list of terms"),
    (_cut("weights.safetensors"), "weights.safetensors is cut or altered"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_ESTIMATORS)
def test_a_malformed_estimator_is_refused_and_the_file_named(estimator, spoil, message):
    spoil(estimator)
    with pytest.raises(IntegrityError, match=message):
        read_estimator(estimator)


@pytest.mark.parametrize("name", ["model.pkl", "pytorch_model.bin", "inner/modeling.py"])
def test_files_that_could_run_code_are_refused(classifier: Path, name: str):
    (classifier / name).parent.mkdir(exist_ok=True)
    (classifier / name).write_bytes(pickle.dumps({}))
    with pytest.raises(UnsafeModel, match=f"{name} could run code"):
        read_classifier(classifier)


def test_links_out_and_code_of_its_own_are_refused(classifier: Path, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "x.json"
    outside.write_text("{}")
    (classifier / "config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}')
    with pytest.raises(UnsafeModel, match="auto_map"):
        read_classifier(classifier)
    (classifier / "config.json").unlink()
    (classifier / "x.json").symlink_to(outside)
    with pytest.raises(UnsafeModel, match="leads out of the model directory"):
        read_classifier(classifier)


def test_a_pack_that_could_not_be_read_is_not_written(tmp_path: Path):
    pack = ClassifierPack("choice", ("a", "b"), "head", 64, BASE)
    with pytest.raises(IntegrityError, match="do not fit 2 options"):
        write_classifier(tmp_path / "new", pack, Linear(np.zeros((3, 4)), np.zeros(3)))
    assert not (tmp_path / "new").exists()
