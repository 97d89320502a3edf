"""Asking the bundled encoders and language models again, by the torch stack. Part of the harness.

Written to be read, not to be fast: one text at a time, on the CPU, in float32, from local files
only. What it computes is stated in the model card; probabilities agree with the recorded ones to
the noise between processors.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from packs import read_pack, read_safetensors, to_shares  # type: ignore[import-not-found]

_OVERLAP_SHARE = 8
_ZERO_SHOT_TEMPERATURE = "0.05"
_ZERO_SHOT_LABEL_COSINE = 0.30


def shares(bundle: Path, evaluation: dict[str, Any], texts: list[str]) -> list[Any]:
    """Return the probabilities of each text; None where the model reads no text so long."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    model = bundle / evaluation["model"]
    base = bundle / evaluation["base"] if evaluation["base"] else None
    question, kind = evaluation["question"], evaluation["question"]["kind"]
    if evaluation["engine"] == "causal":
        return _causal(model, base, evaluation, texts)
    if evaluation["engine"] == "zero-shot":
        encoder = _Encoder(model, None, _stated_reading(model))
        options = encoder.embed([option["description"] for option in question["options"]])
        cosines = encoder.embed(texts) @ options.T
        if kind == "labels":
            cosines = cosines - _ZERO_SHOT_LABEL_COSINE
        return list(to_shares(cosines, kind, _ZERO_SHOT_TEMPERATURE))
    pack = read_pack(model)
    reading = (pack["max_tokens"], pack["pooling"], pack["normalise"])
    full = pack.get("method") == "full"
    adapter = model if pack.get("method") == "lora" else None
    encoder = _Encoder(model if full or base is None else base, adapter, reading)
    file = "head.safetensors" if "method" in pack else "weights.safetensors"
    head = read_safetensors(model / file)
    weight, bias = head["weight"].astype("float64"), head["bias"].astype("float64")
    return list(to_shares(encoder.embed(texts) @ weight.T + bias, kind, pack["temperature"]))


class _Encoder:
    """A BERT-like encoder: a text becomes the mean (or the first) of its tokens' vectors."""

    def __init__(self, folder: Path, adapter: Path | None, reading: tuple[int, str, bool]) -> None:
        self._model = _load(folder, adapter, "AutoModel")
        self._tokenizer = _tokenizer(folder)
        self._most, self._pooling, self._normalise = reading

    def embed(self, texts: list[str]) -> Any:
        """Return vectors [texts, hidden] in float64."""
        return np.stack([self._one(text) for text in texts])

    def _one(self, text: str) -> Any:
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        framed = self._tokenizer.encode("a", add_special_tokens=True).ids
        start = next(i for i in range(len(framed)) if framed[i : i + len(bare)] == bare)
        prefix, suffix = framed[:start], framed[start + len(bare) :]
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        room = self._most - len(prefix) - len(suffix)
        total, weights = 0.0, 0
        for first, end in _windows(len(ids), room):
            vector = self._window([*prefix, *ids[first:end], *suffix])
            weight = end - first if len(ids) > room else 1
            total, weights = total + vector * weight, weights + weight
        mean = total / weights
        return mean / max(float(np.linalg.norm(mean)), 1e-12) if self._normalise else mean

    def _window(self, ids: list[int]) -> Any:
        import torch

        with torch.inference_mode():
            hidden = self._model(input_ids=torch.tensor([ids])).last_hidden_state.float()[0]
        pooled = hidden[0] if self._pooling == "cls" else hidden.mean(dim=0)
        return pooled.numpy().astype("float64")


def _causal(
    model: Path, base: Path | None, evaluation: dict[str, Any], texts: list[str]
) -> list[Any]:
    """Return for each text how probable a language model finds each option after the prompt."""
    loaded = _load(base or model, model if base else None, "AutoModelForCausalLM")
    tokenizer = _tokenizer(base or model)
    question, options = evaluation["question"], evaluation["question"]["options"]
    follow = _continuations(question, tokenizer, _end(loaded))
    listed = evaluation["options"].get("list_options") == "true"
    orders = [options, options[::-1]][: int(evaluation["options"].get("orders", "1"))]
    found: list[Any] = []
    for text in texts:
        rows = []
        for order in orders:
            prompt = tokenizer.encode(_prompt(question, text, order if listed else [])).ids
            if len(prompt) + max(len(ids) for ids, _ in follow) > _context(loaded):
                break
            logs = np.array([_log_likelihood(loaded, prompt, *one) for one in follow])
            if question["kind"] == "labels":
                pairs = logs.reshape(-1, 2)
                logs = pairs[:, 0] - pairs[:, 1]
            rows.append(to_shares(logs[None, :], question["kind"], "1.0")[0])
        found.append(np.mean(rows, axis=0).tolist() if len(rows) == len(orders) else None)
    return found


def _log_likelihood(model: Any, prompt: list[int], ids: list[int], score_from: int) -> float:
    import torch

    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0].float()
    logs = logits.log_softmax(-1)
    places = range(score_from, len(ids))
    return sum(float(logs[len(prompt) + at - 1, ids[at]].double()) for at in places)


def _prompt(question: dict[str, Any], text: str, options: list[dict[str, str]]) -> str:
    stated = question["instructions"].strip()
    parts = [stated] if stated else []
    if options:
        parts.append("Options:\n" + "\n".join(f"- {_words(option)}" for option in options))
    parts.append(f"Text: {text}")
    return "\n\n".join(parts) + ("\n" if question["kind"] == "labels" else "\nAnswer:")


def _continuations(
    question: dict[str, Any], tokenizer: Any, end: int | None
) -> list[tuple[list[int], int]]:
    """Return (token ids, first scored place): one per option, for labels a yes and a no each."""

    def bare(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    if question["kind"] == "labels":
        asked = [f"Does this apply: {_words(o)}?\nAnswer:" for o in question["options"]]
        return [
            (bare(f"{stem} {word}"), len(bare(stem))) for stem in asked for word in ("yes", "no")
        ]
    stem = len(bare("Answer:"))
    answers = [bare(f"Answer: {option['name']}")[stem:] for option in question["options"]]
    begins = any(a is not b and b[: len(a)] == a for a in answers for b in answers)
    return [([*ids, end] if begins and end is not None else ids, 0) for ids in answers]


def _words(option: dict[str, str]) -> str:
    return option["name"] if option["plain"] else f"{option['name']} ({option['description']})"


def _load(folder: Path, adapter: Path | None, auto_class: str) -> Any:
    import torch
    import transformers

    torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
    model = getattr(transformers, auto_class).from_pretrained(
        str(folder), local_files_only=True, use_safetensors=True, dtype=torch.float32
    )
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return model.eval()


def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _stated_reading(folder: Path) -> tuple[int, str, bool]:
    """Return (tokens, pooling, scaled) as the files of a sentence encoder state them."""
    config = _stated(folder / "config.json")
    most = min(512, int(config.get("max_position_embeddings", 512)))
    limit = min(
        most, int(_stated(folder / "sentence_bert_config.json").get("max_seq_length", most))
    )
    first = _stated(folder / "1_Pooling" / "config.json").get("pooling_mode_cls_token")
    return limit, "cls" if first else "mean", True


def _stated(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    return found


def _windows(length: int, room: int) -> list[tuple[int, int]]:
    found = [(0, min(length, room))]
    while found[-1][1] < length:
        start = found[-1][1] - room // _OVERLAP_SHARE
        found.append((start, min(length, start + room)))
    return found


def _end(model: Any) -> int | None:
    end = model.config.eos_token_id
    found: int | None = end[0] if isinstance(end, list) else end
    return found


def _context(model: Any) -> int:
    return int(model.config.max_position_embeddings)
