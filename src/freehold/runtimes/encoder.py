"""Texts to vectors by a BERT-like encoder: the fast path under zero-shot, heads and baselines.

Tokens come from the Rust tokenizer in bulk, batches from `batching` (with next to no padding), and
the model runs in inference mode under scaled-dot-product attention. A vector is the mean over a
text's tokens (or the first token's), scaled to length 1 where the model says so. A text longer than
`max_tokens` is read in windows that overlap by an eighth; its vector is the mean of the windows'
vectors weighted by their tokens, before scaling.

The figures of `benchmarks/run_vs_pipeline.py` are this file's reason to exist.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freehold.errors import EngineError, InputError, IntegrityError
from freehold.runtimes.base import Execution
from freehold.runtimes.batching import Budget, in_parallel, plan, windows
from freehold.runtimes.formats import POOLINGS, refuse_unsafe
from freehold.runtimes.torch_stack import Placement, load_pretrained, merge_adapter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

_TOKENISE_AT_ONCE = 1024
_OVERLAP_SHARE = 8
_MOST_WINDOWS = 8192


@dataclass(frozen=True, slots=True)
class Reading:
    """How an encoder turns a text into one vector; `max_tokens` counts special tokens too."""

    max_tokens: int
    pooling: str = "mean"
    normalise: bool = True

    def __post_init__(self) -> None:
        """Refuse what the encoder does not implement."""
        if self.pooling not in POOLINGS:
            raise InputError(f"unknown pooling {self.pooling!r}; known: {', '.join(POOLINGS)}")
        if self.max_tokens < 8:
            raise InputError(f"max_tokens must be 8 or more, got {self.max_tokens}")


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors [texts, hidden] of texts computed together; `read` holds (tokens, windows) of each.

    `failures` maps a row to why it has no vector; such rows are zero.
    """

    positions: tuple[int, ...]
    vectors: Vectors
    read: tuple[tuple[int, int], ...]
    failures: dict[int, str]
    execution: Execution

    def times(self, matrix: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return the vectors times `matrix` [hidden, columns], in float64, as [texts, columns].

        By torch, which `Encoder.stream` holds to one thread: NumPy would start threads of its own,
        which take the cores from the next batches (a seventh of a run on two cores), and its last
        bits depend on how many there are.
        """
        import numpy as np
        import torch

        left, right = (np.asarray(one, dtype=np.float64) for one in (self.vectors, matrix))
        product: NDArray[np.float64] = (torch.from_numpy(left) @ torch.from_numpy(right)).numpy()
        return product


class Encoder:
    """A loaded encoder. Safe to use from several threads; holds no state between calls."""

    def __init__(
        self,
        directory: Path,
        reading: Reading | None = None,
        *,
        placement: Placement | None = None,
        budget: Budget | None = None,
        adapter: Path | None = None,
    ) -> None:
        """Load the model in `directory`, with a PEFT adapter merged into it if one is given.

        Raises IntegrityError for a directory without what is needed, UnsafeModel for one that could
        run code.
        """
        refuse_unsafe(directory)
        self.reading = reading or stated_reading(directory)
        self.placement = placement or Placement()
        self.budget = budget or Budget()
        self._model = load_pretrained(directory, "AutoModel", self.placement)
        if adapter is not None:
            self._model = merge_adapter(self._model, adapter)
        self._tokens = _Tokeniser(directory)
        self._check_length(directory)

    @property
    def hidden(self) -> int:
        """The width of a vector."""
        return int(self._model.config.hidden_size)

    def describe(self) -> dict[str, Any]:
        """Return what besides the weights could change a vector."""
        return {
            **self.placement.describe(),
            "attention": "sdpa",
            "max_tokens": self.reading.max_tokens,
            "pooling": self.reading.pooling,
            "normalise": self.reading.normalise,
        }

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 vectors [texts, hidden] in input order; EngineError if a text failed."""
        import numpy as np

        result = np.zeros((len(texts), self.hidden), dtype=np.float32)
        for batch in self.stream(texts):
            for row, reason in batch.failures.items():
                raise EngineError(f"text {batch.positions[row]} has no vector: {reason}")
            result[list(batch.positions)] = batch.vectors
        return result

    def stream(self, texts: Sequence[str]) -> Iterator[Embedded]:
        """Yield vectors batch by batch, longest texts first; each text once."""
        ids = self._tokens.encode(texts)
        room = self.reading.max_tokens - self._tokens.special
        lengths = [len(row) for row in ids]
        long = [position for position, length in enumerate(lengths) if length > room]
        short = [position for position, length in enumerate(lengths) if length <= room]

        def work(positions: tuple[int, ...]) -> Embedded:
            if lengths[positions[0]] > room:
                return self._embed_long(positions[0], ids[positions[0]], room)
            return self._embed_short(positions, [ids[position] for position in positions])

        full = [lengths[position] + self._tokens.special for position in short]
        batches: list[tuple[int, ...]] = [(position,) for position in long]
        batches += [tuple(short[i] for i in batch) for batch in plan(full, self.budget)]
        with self.placement.one_thread_per_batch():
            yield from in_parallel(batches, work, self.placement.workers)

    def _embed_short(self, positions: tuple[int, ...], rows: list[NDArray[np.int32]]) -> Embedded:
        vectors, shape = self._pooled(rows)
        read = tuple((len(row) + self._tokens.special, 1) for row in rows)
        execution = self.placement.execution(*shape)
        failures = _not_finite(vectors)
        return Embedded(positions, self._scaled(vectors), read, failures, execution)

    def _embed_long(self, position: int, row: NDArray[np.int32], room: int) -> Embedded:
        import numpy as np

        pieces = windows(len(row), room, room // _OVERLAP_SHARE)
        tokens = sum(end - start + self._tokens.special for start, end in pieces)
        shape = (1, self.reading.max_tokens)
        total = np.zeros((1, self.hidden), dtype=np.float64)
        if len(pieces) > _MOST_WINDOWS:
            reason = f"{len(row)} tokens are more than {_MOST_WINDOWS} windows of {room}"
            execution = self.placement.execution(*shape)
            zero = total.astype(np.float32)
            return Embedded((position,), zero, ((len(row), 0),), {0: reason}, execution)
        step = max(1, self.budget.tokens // self.reading.max_tokens)
        for first in range(0, len(pieces), step):
            chunk = pieces[first : first + step]
            vectors, shape = self._pooled([row[start:end] for start, end in chunk])
            weights = np.array([end - start for start, end in chunk], dtype=np.float64)
            total += weights @ vectors
        mean = (total / sum(end - start for start, end in pieces)).astype(np.float32)
        execution = self.placement.execution(*shape)
        read, failures = ((tokens, len(pieces)),), _not_finite(mean)
        return Embedded((position,), self._scaled(mean), read, failures, execution)

    def _pooled(self, rows: list[NDArray[np.int32]]) -> tuple[Vectors, tuple[int, int]]:
        """Return unscaled vectors [rows, hidden] and the batch's padded (rows, tokens)."""
        import torch

        ids, mask = self._tokens.padded(rows)
        device = self.placement.device
        tokens = torch.from_numpy(ids).to(device)
        # Without padding no mask is passed: attention then takes its fastest path.
        held = None if mask is None else torch.from_numpy(mask).to(device)
        with torch.inference_mode():
            hidden = self._model(input_ids=tokens, attention_mask=held).last_hidden_state.float()
            if self.reading.pooling == "cls":
                pooled = hidden[:, 0]
            elif held is None:
                pooled = hidden.mean(dim=1)
            else:
                weights = held.unsqueeze(-1).float()
                pooled = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
            vectors: Vectors = pooled.cpu().numpy()
        return vectors, (ids.shape[0], ids.shape[1])

    def _scaled(self, vectors: Vectors) -> Vectors:
        import numpy as np

        if not self.reading.normalise:
            return vectors
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        scaled: Vectors = vectors / np.maximum(norms, 1e-12)
        return scaled

    def _check_length(self, directory: Path) -> None:
        most = getattr(self._model.config, "max_position_embeddings", None)
        if most is not None and self.reading.max_tokens > most:
            raise IntegrityError(
                f"max_tokens is {self.reading.max_tokens}, but {directory} reads {most} at most"
            )


class _Tokeniser:
    """The Rust tokenizer of a model directory, with its own truncation and padding turned off."""

    def __init__(self, directory: Path) -> None:
        from tokenizers import Tokenizer

        path = directory / "tokenizer.json"
        if not path.is_file():
            raise IntegrityError(
                f"{path} is missing",
                hint="Save the fast tokenizer beside the weights (tokenizer.save_pretrained).",
            )
        self._inner = Tokenizer.from_file(str(path))
        self._inner.no_truncation()
        self._inner.no_padding()
        self._prefix, self._suffix = self._frame(path)
        self.special = len(self._prefix) + len(self._suffix)

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Return the token ids of each text, special tokens left out."""
        import numpy as np

        rows: list[NDArray[np.int32]] = []
        for first in range(0, len(texts), _TOKENISE_AT_ONCE):
            some = list(texts[first : first + _TOKENISE_AT_ONCE])
            encoded = self._inner.encode_batch_fast(some, add_special_tokens=False)
            rows.extend(np.array(one.ids, dtype=np.int32) for one in encoded)
        return rows

    def padded(
        self, rows: list[NDArray[np.int32]]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Return ids [rows, tokens] framed by special tokens, and a mask where padding was needed.

        Padding repeats the last token: the mask hides it, so that no padding id need be known.
        """
        import numpy as np

        lengths = np.array([len(row) + self.special for row in rows])
        ids = np.empty((len(rows), int(lengths.max())), dtype=np.int64)
        for line, row in zip(ids, rows, strict=True):
            framed = np.concatenate((self._prefix, row, self._suffix))
            line[: len(framed)] = framed
            line[len(framed) :] = framed[-1] if len(framed) else 0
        if (lengths == lengths[0]).all():
            return ids, None
        mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
        return ids, mask

    def _frame(self, path: Path) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the special tokens that the tokenizer sets before and after a text."""
        import numpy as np

        bare = self._inner.encode("a", add_special_tokens=False).ids
        framed = self._inner.encode("a", add_special_tokens=True).ids
        for start in range(len(framed) - len(bare) + 1):
            if framed[start : start + len(bare)] == bare:
                prefix, suffix = framed[:start], framed[start + len(bare) :]
                return np.array(prefix, dtype=np.int32), np.array(suffix, dtype=np.int32)
        raise IntegrityError(f"{path} does not set special tokens around a text, but inside it")


def _not_finite(vectors: Vectors) -> dict[int, str]:
    """Set rows that hold NaN or infinity to zero and return why: they may not become an answer."""
    import numpy as np

    odd = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    vectors[odd] = 0.0
    return {int(row): "the model's numbers are not finite" for row in odd}


def stated_reading(directory: Path) -> Reading:
    """Return how the model's own files say it reads a text (the sentence-transformers layout).

    A model that says nothing is read by the mean over at most 512 tokens, scaled to length 1.
    """
    config = _object(directory / "config.json")
    most = min(512, int(config.get("max_position_embeddings", 512)))
    stated = _object(directory / "sentence_bert_config.json", required=False)
    limit = min(most, int(stated.get("max_seq_length") or most))
    pooling = _object(directory / "1_Pooling" / "config.json", required=False)
    if pooling.get("pooling_mode_cls_token"):
        return Reading(limit, "cls")
    if pooling and not pooling.get("pooling_mode_mean_tokens"):
        raise IntegrityError(f"{directory / '1_Pooling'} asks for a pooling other than mean or cls")
    return Reading(limit)


def _object(path: Path, *, required: bool = True) -> dict[str, Any]:
    if not path.is_file():
        if required:
            raise IntegrityError(f"{path} is missing: this is not a model directory")
        return {}
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise IntegrityError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise IntegrityError(f"{path} is not a JSON object")
    return value
