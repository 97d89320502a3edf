"""Reading the packs of a bundle with numpy alone: safetensors, TF-IDF. Part of the harness."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4"}
_WORD = re.compile(r"(?u)\b\w\w+\b")


def read_pack(model: Path) -> dict[str, Any]:
    """Return the ``freehold.json`` of a model folder."""
    pack: dict[str, Any] = json.loads((model / "freehold.json").read_bytes())
    return pack


def read_safetensors(path: Path) -> dict[str, Any]:
    """Return the tensors of a safetensors file: a length, a JSON header, raw numbers."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, end = entry["data_offsets"]
            raw = np.frombuffer(data[start + first : start + end], dtype=_DTYPES[entry["dtype"]])
            tensors[name] = raw.reshape(entry["shape"])
    return tensors


def tfidf_logits(
    texts: list[str], settings: dict[str, Any], terms: list[str], tensors: dict[str, Any]
) -> Any:
    """Return logits [texts, options] of TF-IDF features under a linear layer."""
    column = {term: place for place, term in enumerate(terms)}
    by_term = np.ascontiguousarray(tensors["weight"].T)
    logits = np.tile(tensors["bias"], (len(texts), 1))
    for row, text in enumerate(texts):
        seen = Counter(cut(text, settings))
        known = sorted((column[term], count) for term, count in seen.items() if term in column)
        if not known:
            continue
        columns = np.array([place for place, _ in known], dtype=np.int64)
        values = np.array([count for _, count in known], dtype=np.float64)
        if settings["sublinear"]:
            values = np.log(values) + 1.0
        values = values * tensors["idf"][columns]
        norm = math.sqrt(float(values @ values))
        logits[row] += (values / norm if norm else values) @ by_term[columns]
    return logits


def cut(text: str, settings: dict[str, Any]) -> list[str]:
    """Return a text's terms, repeats included, as scikit-learn's TfidfVectorizer cuts them."""
    lowered = text.lower()
    low, high = settings["ngram_min"], settings["ngram_max"]
    if settings["analyser"] == "char_wb":
        return [gram for word in lowered.split() for gram in _grams(f" {word} ", low, high)]
    words = _WORD.findall(lowered)
    return [
        " ".join(words[start : start + size])
        for size in range(low, high + 1)
        for start in range(len(words) - size + 1)
    ]


def _grams(word: str, shortest: int, longest: int) -> Iterator[str]:
    for size in range(shortest, longest + 1):
        yield word[:size]
        for start in range(1, len(word) - size + 1):
            yield word[start : start + size]
        if len(word) <= size:
            break


def to_shares(logits: Any, kind: str, temperature: str) -> list[list[float]]:
    """Return probabilities of logits [texts, options]: a softmax, or a sigmoid for labels."""
    scaled = np.asarray(logits, dtype=np.float64) / float(temperature)
    if kind == "labels":
        small = np.exp(-np.abs(scaled))
        shares = np.where(scaled >= 0, 1.0 / (1.0 + small), small / (1.0 + small))
    else:
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True)
    rows: list[list[float]] = shares.tolist()
    return rows
