"""What a trained classifier and a baseline look like on disk: written by training, read here.

**Classifier pack** (``freehold-classifier/1``): ``freehold.json``, ``head.safetensors`` (`weight`
[options, hidden] and `bias` [options], float32), and by `method`:

- ``head``: nothing more; the frozen encoder is the base model;
- ``lora``: ``adapter_config.json`` and ``adapter_model.safetensors`` (PEFT) on the base model;
- ``full``: a whole encoder: ``config.json``, ``model.safetensors``, ``tokenizer.json``.

**Estimator pack** (``freehold-estimator/1``): ``freehold.json``, ``weights.safetensors`` (float64)
and, for TF-IDF, ``vocabulary.json`` (terms in column order). Tensors by `estimator`:

- ``majority``: `prior` [options], the share of each option among the training labels;
- ``tfidf_logreg``: `weight` [options, terms], `bias` [options], `idf` [terms];
- ``embedding_logreg``: `weight` [options, hidden], `bias` [options].

A logit is ``weight @ features + bias``, over `temperature`; choice and number take the softmax
over options (a number's options are its bins), labels the sigmoid of each. `bias` may be -inf for
an option that training never saw, and +inf for a label that it always saw. Nothing is a pickle; a
reader refuses a malformed pack with an error that names the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from freehold.canonical.json import decode, encode
from freehold.errors import FreeholdError, IntegrityError, UnsafeModel
from freehold.runtimes.base import KINDS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64] | NDArray[np.float32]

PACK_FILE = "freehold.json"
HEAD_FILE = "head.safetensors"
WEIGHTS_FILE = "weights.safetensors"
VOCABULARY_FILE = "vocabulary.json"
CLASSIFIER_FORMAT = "freehold-classifier/1"
ESTIMATOR_FORMAT = "freehold-estimator/1"
METHODS = ("head", "lora", "full")
POOLINGS = ("mean", "cls")
ESTIMATORS = ("majority", "tfidf_logreg", "embedding_logreg")
ANALYSERS = ("word", "char_wb")

_CAN_RUN_CODE = {
    ".bin",
    ".ckpt",
    ".joblib",
    ".pickle",
    ".pkl",
    ".pt",
    ".pth",
    ".py",
    ".npy",
    ".npz",
}


@dataclass(frozen=True, slots=True)
class ClassifierPack:
    """The ``freehold.json`` of a trained classifier.

    `normalise`: the pooled vector is scaled to length 1 before the head. `temperature` (decimal
    string) was fitted on `calibrated_on` held-out rows; 0 rows means that probabilities are not
    calibrated. `base` is the digest of the base model's manifest, None for a full encoder.
    `low` and `high` (decimal strings) bound a number; None for other kinds.
    """

    kind: str
    options: tuple[str, ...]
    method: str
    max_tokens: int
    base: str | None = None
    pooling: str = "mean"
    normalise: bool = True
    temperature: str = "1.0"
    calibrated_on: int = 0
    low: str | None = None
    high: str | None = None

    def __post_init__(self) -> None:
        """Refuse values that no classifier could have."""
        _check_common(self)
        _check(self.method in METHODS, "method", self.method)
        _check(self.pooling in POOLINGS, "pooling", self.pooling)
        _check(isinstance(self.normalise, bool), "normalise", self.normalise)
        _check(_is_count(self.max_tokens, least=8), "max_tokens", self.max_tokens)
        _check((self.method == "full") == (self.base is None), "base", self.base)


@dataclass(frozen=True, slots=True)
class TfidfSettings:
    """How a text becomes counted terms, as scikit-learn's TfidfVectorizer does it.

    Lower-cased; ``word`` uses the default token pattern, ``char_wb`` character n-grams inside word
    bounds; smoothed idf; rows scaled to length 1.
    """

    analyser: str = "word"
    ngram_min: int = 1
    ngram_max: int = 2
    sublinear: bool = True

    def __post_init__(self) -> None:
        """Refuse settings that the reader does not implement."""
        _check(self.analyser in ANALYSERS, "tfidf.analyser", self.analyser)
        _check(isinstance(self.sublinear, bool), "tfidf.sublinear", self.sublinear)
        _check(_is_count(self.ngram_min, least=1), "tfidf.ngram_min", self.ngram_min)
        _check(_is_count(self.ngram_max, least=self.ngram_min), "tfidf.ngram_max", self.ngram_max)


@dataclass(frozen=True, slots=True)
class EstimatorPack:
    """The ``freehold.json`` of a baseline; the fields that it shares mean what they mean above.

    `max_tokens`, `pooling`, `normalise` and `base` say how ``embedding_logreg`` embeds.
    """

    estimator: str
    kind: str
    options: tuple[str, ...]
    tfidf: TfidfSettings | None = None
    base: str | None = None
    max_tokens: int | None = None
    pooling: str = "mean"
    normalise: bool = True
    temperature: str = "1.0"
    calibrated_on: int = 0
    low: str | None = None
    high: str | None = None

    def __post_init__(self) -> None:
        """Refuse values that no estimator could have."""
        _check_common(self)
        embeds = self.estimator == "embedding_logreg"
        _check(self.estimator in ESTIMATORS, "estimator", self.estimator)
        _check((self.estimator == "tfidf_logreg") == (self.tfidf is not None), "tfidf", self.tfidf)
        _check(embeds == (self.base is not None), "base", self.base)
        _check(embeds == (self.max_tokens is not None), "max_tokens", self.max_tokens)
        _check(not embeds or _is_count(self.max_tokens, least=8), "max_tokens", self.max_tokens)
        _check(self.pooling in POOLINGS, "pooling", self.pooling)
        _check(isinstance(self.normalise, bool), "normalise", self.normalise)


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer in numpy: `weight` [options, features] and `bias` [options]."""

    weight: Array
    bias: Array


@dataclass(frozen=True, slots=True)
class Estimator:
    """An estimator pack with its tensors: by name as in this module's first paragraph."""

    pack: EstimatorPack
    tensors: Mapping[str, Array]
    terms: tuple[str, ...] = ()


def write_classifier(directory: Path, pack: ClassifierPack, head: Linear) -> None:
    """Write ``freehold.json`` and ``head.safetensors``; encoder or adapter files go beside them."""
    import numpy as np
    from safetensors.numpy import save_file

    _check_linear(head.weight, head.bias, pack, directory / HEAD_FILE)
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {
        "weight": np.ascontiguousarray(head.weight, dtype=np.float32),
        "bias": np.ascontiguousarray(head.bias, dtype=np.float32),
    }
    save_file(tensors, directory / HEAD_FILE)
    _write_pack(directory, CLASSIFIER_FORMAT, pack)


def read_classifier(directory: Path) -> tuple[ClassifierPack, Linear]:
    """Return a classifier pack and its head; IntegrityError or UnsafeModel names the file."""
    refuse_unsafe(directory)
    pack = _read_pack(directory, CLASSIFIER_FORMAT, ClassifierPack)
    path = directory / HEAD_FILE
    tensors = _read_tensors(path, {"weight", "bias"}, "float32")
    _check_linear(tensors["weight"], tensors["bias"], pack, path)
    needed = {
        "head": (),
        "lora": ("adapter_config.json", "adapter_model.safetensors"),
        "full": ("config.json", "model.safetensors", "tokenizer.json"),
    }[pack.method]
    for name in needed:
        if not (directory / name).is_file():
            raise IntegrityError(f"{directory / name} is missing: method {pack.method} needs it")
    return pack, Linear(tensors["weight"], tensors["bias"])


def write_estimator(directory: Path, estimator: Estimator) -> None:
    """Write an estimator pack; the directory is made when it is not there."""
    import numpy as np
    from safetensors.numpy import save_file

    _check_estimator(estimator, directory)
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: np.ascontiguousarray(array, dtype=np.float64)
        for name, array in estimator.tensors.items()
    }
    save_file(tensors, directory / WEIGHTS_FILE)
    if estimator.pack.tfidf is not None:
        (directory / VOCABULARY_FILE).write_bytes(encode(list(estimator.terms)))
    _write_pack(directory, ESTIMATOR_FORMAT, estimator.pack)


def read_estimator(directory: Path) -> Estimator:
    """Return an estimator pack with its tensors; IntegrityError or UnsafeModel names the file."""
    refuse_unsafe(directory)
    pack = _read_pack(directory, ESTIMATOR_FORMAT, EstimatorPack)
    tensors = _read_tensors(directory / WEIGHTS_FILE, _tensor_names(pack), "float64")
    terms: tuple[str, ...] = ()
    if pack.tfidf is not None:
        path = directory / VOCABULARY_FILE
        listed = _read_json(path)
        if not isinstance(listed, list) or not all(isinstance(term, str) for term in listed):
            raise IntegrityError(f"{path} is not a list of terms")
        terms = tuple(listed)
    estimator = Estimator(pack, tensors, terms)
    _check_estimator(estimator, directory)
    return estimator


def refuse_unsafe(directory: Path) -> None:
    """Raise UnsafeModel for a file that could run code or lead out; IntegrityError if no directory.

    A second look after intake's, because a trainer's scratch folder never passed intake.
    """
    if not directory.is_dir():
        raise IntegrityError(f"{directory} is not a directory")
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(directory.resolve()):
            raise UnsafeModel(f"{path} is a link that leads out of the model directory")
        if path.suffix in _CAN_RUN_CODE and path.is_file():
            raise UnsafeModel(f"{path} could run code when it is loaded")
        if path.name in ("config.json", "tokenizer_config.json") and "auto_map" in _read_any(path):
            raise UnsafeModel(f"{path} asks for code of its own (auto_map)")


Pack = TypeVar("Pack", ClassifierPack, EstimatorPack)


def _write_pack(directory: Path, format_: str, pack: ClassifierPack | EstimatorPack) -> None:
    document = {**asdict(pack), "options": list(pack.options), "format": format_}
    (directory / PACK_FILE).write_bytes(encode(document))


def _read_pack(directory: Path, format_: str, form: type[Pack]) -> Pack:
    path = directory / PACK_FILE
    document = _read_json(path)
    if not isinstance(document, dict) or document.get("format") != format_:
        got = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise IntegrityError(f"{path} has format {got!r}; this reader knows {format_!r}")
    del document["format"]
    expected = {field.name for field in fields(form)}
    if set(document) != expected:
        odd = ", ".join(sorted(set(document) ^ expected))
        raise IntegrityError(f"{path} has missing or unknown keys: {odd}")
    try:
        document["options"] = tuple(document["options"])
        if document.get("tfidf") is not None:
            document["tfidf"] = TfidfSettings(**document["tfidf"])
        return form(**document)
    except (TypeError, IntegrityError) as error:
        raise IntegrityError(f"{path}: {error}") from error


def _read_json(path: Path) -> Any:
    try:
        return decode(path.read_bytes())
    except FileNotFoundError as error:
        raise IntegrityError(f"{path} is missing") from error
    except FreeholdError as error:
        raise IntegrityError(f"{path}: {error.message}") from error


def _read_any(path: Path) -> Any:
    """Return JSON that others wrote, which need not be canonical; a dict or an error."""
    import json

    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        raise IntegrityError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise IntegrityError(f"{path} is not a JSON object")
    return document


def _read_tensors(path: Path, names: set[str], dtype: str) -> dict[str, Array]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors: dict[str, Array] = load_file(path)
    except FileNotFoundError as error:
        raise IntegrityError(f"{path} is missing") from error
    except SafetensorError as error:
        raise IntegrityError(f"{path} is cut or altered: {error}") from error
    if set(tensors) != names:
        raise IntegrityError(f"{path} holds {sorted(tensors)}, expected {sorted(names)}")
    for name, array in tensors.items():
        if array.dtype.name != dtype:
            raise IntegrityError(f"{path}: {name} is {array.dtype.name}, expected {dtype}")
    return tensors


def _tensor_names(pack: EstimatorPack) -> set[str]:
    if pack.estimator == "majority":
        return {"prior"}
    return {"weight", "bias", "idf"} if pack.tfidf is not None else {"weight", "bias"}


def _check_estimator(estimator: Estimator, directory: Path) -> None:
    import numpy as np

    path, pack, tensors = directory / WEIGHTS_FILE, estimator.pack, estimator.tensors
    if set(tensors) != _tensor_names(pack):
        raise IntegrityError(f"{path} holds {sorted(tensors)}, not what {pack.estimator} needs")
    if pack.estimator == "majority":
        prior = tensors["prior"]
        if prior.shape != (len(pack.options),) or not ((prior >= 0) & (prior <= 1)).all():
            raise IntegrityError(f"{path}: prior is not one share per option")
        return
    _check_linear(tensors["weight"], tensors["bias"], pack, path)
    if pack.tfidf is not None:
        width = (tensors["weight"].shape[1],)
        if tensors["idf"].shape != width or not np.isfinite(tensors["idf"]).all():
            raise IntegrityError(f"{path}: idf is not one finite number per term")
        if len(estimator.terms) != width[0] or len(set(estimator.terms)) != width[0]:
            raise IntegrityError(
                f"{directory / VOCABULARY_FILE} lists {len(estimator.terms)} terms, "
                f"expected {width[0]} different ones"
            )


def _check_linear(
    weight: Array, bias: Array, pack: ClassifierPack | EstimatorPack, path: Path
) -> None:
    import numpy as np

    options = len(pack.options)
    if weight.ndim != 2 or weight.shape[0] != options or bias.shape != (options,):
        raise IntegrityError(
            f"{path}: weight {list(weight.shape)} and bias {list(bias.shape)} do not fit "
            f"{options} options"
        )
    if not np.isfinite(weight).all() or np.isnan(bias).any():
        raise IntegrityError(f"{path} holds a weight that is not a finite number")
    if pack.kind != "labels" and (np.isposinf(bias).any() or not np.isfinite(bias).any()):
        raise IntegrityError(f"{path}: a softmax over these biases has no value")


def _check_common(pack: ClassifierPack | EstimatorPack) -> None:
    named = all(isinstance(name, str) and name for name in pack.options)
    _check(pack.kind in KINDS, "kind", pack.kind)
    _check(bool(pack.options) and named, "options", pack.options)
    _check(len(set(pack.options)) == len(pack.options), "options", pack.options)
    _check(_is_positive_decimal(pack.temperature), "temperature", pack.temperature)
    _check(_is_count(pack.calibrated_on, least=0), "calibrated_on", pack.calibrated_on)
    bounded = isinstance(pack.low, str) and isinstance(pack.high, str)
    unbounded = pack.low is None and pack.high is None
    _check(bounded if pack.kind == "number" else unbounded, "low, high", (pack.low, pack.high))


def _check(holds: bool, field: str, got: object) -> None:
    if not holds:
        raise IntegrityError(f"field {field!r} of the pack cannot be {got!r}")


def _is_count(value: object, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_positive_decimal(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        number = float(value)
    except ValueError:
        return False
    return math.isfinite(number) and number > 0
