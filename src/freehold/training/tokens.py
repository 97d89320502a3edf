"""From rows to token ids and masks: made here, by us, so that they can be counted and hashed.

Trainers that tokenise for the user cut at a default length, or drop rows whose answer lay behind
the cut, with nothing but a progress bar. Here every row in is either used or counted under the
reason why not, and the exact stream of ids, masks and targets has a commitment in the lock.

For a causal model the prompt and the answer's ids come from `runtimes.prompts`: what is trained is
token for token what the runtime will ask and score. A prompt that is not a prefix of prompt and
answer (a tokenizer that joins them) is an error of that row, because it would train on a context
that never occurs when the model is used.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from freehold.canonical.json import encode
from freehold.errors import EngineError, InputError, IntegrityError, RowError
from freehold.runtimes.base import Question
from freehold.runtimes.prompts import Continuation, answer_text, continuations, prompt_for
from freehold.training.recipe import CAUSAL_METHODS, Recipe, TooLong
from freehold.training.rows import TrainingRow, bin_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NOT_TRAINED = -100
TOO_LONG, NO_WEIGHT = "too long", "weight 0"
_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence as the model sees it: `ids` with special tokens.

    For a causal model `labels` holds, position by position, the id to learn or -100; an encoder's
    `labels` is empty and it learns `target`. A split row gives several examples under one `row_id`,
    among which its weight is divided.
    """

    row_id: str
    ids: tuple[int, ...]
    target: str | tuple[str, ...]
    weight: Decimal
    labels: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """Examples in the order of their rows, and what became of every row that came in."""

    examples: tuple[Example, ...]
    rows_in: int
    dropped: dict[str, int]

    @property
    def rows_used(self) -> int:
        """Rows of which at least one example is trained on."""
        return self.rows_in - sum(self.dropped.values())

    @property
    def tokens(self) -> int:
        """Tokens of all examples, without padding."""
        return sum(len(example.ids) for example in self.examples)

    @property
    def trained_tokens(self) -> int:
        """Tokens that carry a loss; an encoder learns one target per example."""
        return sum(
            sum(label != NOT_TRAINED for label in example.labels) if example.labels else 1
            for example in self.examples
        )


class Tokeniser(Protocol):
    """What preparation needs of a model's tokenizer."""

    def frame(self, texts: Sequence[str]) -> list[list[int]]:
        """Return ids with the special tokens that the model expects around a text."""

    def bare(self, text: str) -> list[int]:
        """Return ids without special tokens."""

    def show(self, ids: Sequence[int]) -> str:
        """Return ids as text, special tokens included."""


class FastTokeniser:
    """The Rust tokenizer of a model directory, its own truncation and padding turned off."""

    def __init__(self, directory: Path) -> None:
        """Load ``tokenizer.json``; IntegrityError when it is absent."""
        from tokenizers import Tokenizer

        path = directory / "tokenizer.json"
        if not path.is_file():
            raise IntegrityError(
                f"{path} is missing",
                hint="Save the fast tokenizer beside the weights (tokenizer.save_pretrained).",
            )
        self._inner: Tokenizer = Tokenizer.from_file(str(path))
        self._inner.no_truncation()
        self._inner.no_padding()

    def frame(self, texts: Sequence[str]) -> list[list[int]]:
        """Return ids with special tokens, one list per text."""
        rows: list[list[int]] = []
        for start in range(0, len(texts), _AT_ONCE):
            some = list(texts[start : start + _AT_ONCE])
            rows.extend(one.ids for one in self._inner.encode_batch_fast(some))
        return rows

    def bare(self, text: str) -> list[int]:
        """Return ids without special tokens."""
        ids: list[int] = self._inner.encode(text, add_special_tokens=False).ids
        return ids

    def show(self, ids: Sequence[int]) -> str:
        """Return ids as text, special tokens included."""
        text: str = self._inner.decode(list(ids), skip_special_tokens=False)
        return text


def prepare(
    rows: Sequence[TrainingRow],
    question: Question,
    recipe: Recipe,
    tokeniser: Tokeniser,
    end: int | None = None,
) -> Prepared:
    """Return the examples that a recipe makes of rows; `end` is a causal model's end token.

    Raises RowError for a row that is over-long under ``fail`` or whose prompt is no prefix, and
    InputError when more rows would be dropped than the recipe allows.
    """
    dropped: Counter[str] = Counter(NO_WEIGHT for row in rows if not row.weight)
    counted = [row for row in rows if row.weight]
    examples = _examples(counted, question, recipe, tokeniser, end)
    length, too_long = int(recipe["length"]), recipe["data.too_long"]
    over = {example.row_id: len(example.ids) for example in examples if len(example.ids) > length}
    kept = [example for example in examples if example.row_id not in over]
    if over and too_long.action == "split":
        kept = _with_pieces(examples, counted, tokeniser, length)
    elif over:
        _allow_drop(over, len(rows), length, too_long)
        dropped[TOO_LONG] = len(over)
    if not kept:
        raise InputError(f"no row is left to train on: {dict(dropped)}")
    return Prepared(tuple(kept), len(rows), dict(sorted(dropped.items())))


def prepare_bytes(rows: Sequence[TrainingRow]) -> Prepared:
    """Return rows for a baseline, which reads text and no tokens: its "ids" are UTF-8 bytes."""
    examples = tuple(
        Example(row.row_id, tuple(row.text.encode("utf-8")), row.target, row.weight)
        for row in rows
        if row.weight
    )
    idle = len(rows) - len(examples)
    if not examples:
        raise InputError(f"no row is left to train on: all {idle} have weight 0")
    return Prepared(examples, len(rows), {NO_WEIGHT: idle} if idle else {})


def _examples(
    rows: Sequence[TrainingRow],
    question: Question,
    recipe: Recipe,
    tokeniser: Tokeniser,
    end: int | None,
) -> list[Example]:
    if recipe.method not in CAUSAL_METHODS:
        framed = tokeniser.frame([row.text for row in rows])
        return [
            Example(row.row_id, tuple(ids), row.target, row.weight)
            for row, ids in zip(rows, framed, strict=True)
        ]
    try:
        follow = continuations(question, tokeniser.bare, None)
    except EngineError as error:
        raise InputError(error.message, hint="Choose another base model.") from error
    answered = [_answered(row, question, tokeniser, follow, end) for row in rows]
    return [example for examples in answered for example in examples]


def _allow_drop(over: dict[str, int], rows: int, length: int, too_long: TooLong) -> None:
    longest = max(over, key=lambda row_id: over[row_id])
    said = (
        f"{len(over)} of {rows} rows have more than {length} tokens; "
        f"the longest is row {longest} with {over[longest]}"
    )
    if too_long.action == "fail":
        raise RowError(
            said,
            hint="Raise `length`, or say in data.too_long what to do: drop:N% or split.",
            row=longest,
            rows=list(over)[:20],
        )
    if Decimal(len(over)) > too_long.limit * rows:
        raise InputError(
            f"{said}: more than data.too_long = {str(too_long)!r} allows",
            hint="Raise `length` or the allowed share; nothing was dropped.",
        )


def _with_pieces(
    examples: Sequence[Example], rows: Sequence[TrainingRow], tokeniser: Tokeniser, length: int
) -> list[Example]:
    kept: list[Example] = []
    for example, row in zip(examples, rows, strict=True):
        short = len(example.ids) <= length
        kept += [example] if short else _split(example, tokeniser.bare(row.text), length)
    return kept


def _split(example: Example, bare: list[int], length: int) -> list[Example]:
    """Return pieces of at most `length` tokens, each framed like the whole; no token is lost."""
    ids = list(example.ids)
    start = next((i for i in range(len(ids)) if ids[i : i + len(bare)] == bare), None)
    if start is None:
        raise RowError(
            f"row {example.row_id}: its tokenizer sets special tokens inside the text; "
            "it cannot be split",
            row=example.row_id,
        )
    before, after = ids[:start], ids[start + len(bare) :]
    room = length - len(before) - len(after)
    chunks = [bare[first : first + room] for first in range(0, len(bare), room)]
    share = example.weight / len(chunks)
    return [replace(example, ids=(*before, *chunk, *after), weight=share) for chunk in chunks]


def _answered(
    row: TrainingRow,
    question: Question,
    tokens: Tokeniser,
    follow: Sequence[Continuation],
    end: int | None,
) -> list[Example]:
    """Return prompt and answer of a causal row; only the answer's tokens, and the end, are learnt.

    ``labels`` gives one example per label, a yes or a no, as the runtime asks them one by one.
    """
    if row.weight != 1:
        raise RowError(
            f"row {row.row_id}: weight {row.weight}; a causal model is trained with weight 1 only",
            hint="Use an encoder method, or weigh the rows when the dataset is built.",
            row=row.row_id,
        )
    text = prompt_for(question, row.text)
    prompt = tokens.frame([text])[0]
    found: list[Example] = []
    for chosen in _chosen(row, question):
        one = follow[chosen]
        ids = [*prompt, *one.ids]
        labels = [NOT_TRAINED] * (len(prompt) + one.score_from) + list(one.ids[one.score_from :])
        if question.kind != "labels":
            whole = tokens.frame([text + answer_text(_option(row, question))])[0]
            _check_prefix(row, prompt, ids, whole)
        if end is not None:
            ids.append(end)
            labels.append(end)
        found.append(Example(row.row_id, tuple(ids), row.target, row.weight, tuple(labels)))
    return found


def _chosen(row: TrainingRow, question: Question) -> Iterator[int]:
    """Yield which of `continuations` a row's answer is: the same order, yes before no."""
    if question.kind == "labels":
        yield from (2 * i + (name not in row.target) for i, name in enumerate(question.names))
    else:
        yield question.names.index(_option(row, question))


def _option(row: TrainingRow, question: Question) -> str:
    target = str(row.target)
    return question.names[bin_of(target, question)] if question.kind == "number" else target


def _check_prefix(row: TrainingRow, prompt: list[int], ids: list[int], whole: list[int]) -> None:
    if whole[: len(prompt)] != prompt or whole[: len(ids)] != ids:
        raise RowError(
            f"row {row.row_id}: the prompt's tokens are not the beginning of prompt and answer",
            hint="This tokenizer joins the two; the model would learn in a context that never "
            "occurs in use. Choose another base model.",
            row=row.row_id,
        )


def commit_stream(salt: bytes, examples: Sequence[Example]) -> str:
    """Return the commitment to every id, mask, target and weight, in order (HMAC-SHA-256)."""
    if len(salt) < 16:
        raise InputError(f"a commitment needs a salt of 16 bytes or more, got {len(salt)}")
    code = hmac.new(salt, digestmod=hashlib.sha256)
    for example in examples:
        target = list(example.target) if isinstance(example.target, tuple) else example.target
        fields: list[Any] = [example.row_id, list(example.ids), list(example.labels), target]
        data = encode([*fields, str(example.weight)])
        # The length before each record: no two different streams give the same bytes.
        code.update(len(data).to_bytes(8, "big") + data)
    return "hmac-sha256:" + code.hexdigest()


def rendered(example: Example, tokeniser: Tokeniser) -> str:
    """Return a row as the model will see it, with the trained part between ⟦ and ⟧."""
    if not example.labels:
        target = example.target
        said = ", ".join(target) or "none" if isinstance(target, tuple) else target
        return f"{tokeniser.show(example.ids)} ⟦{said}⟧"
    parts: list[str] = []
    start = 0
    trained = [label != NOT_TRAINED for label in example.labels]
    for place in range(1, len(trained) + 1):
        if place == len(trained) or trained[place] != trained[start]:
            shown = tokeniser.show(example.ids[start:place])
            parts.append(f"⟦{shown}⟧" if trained[start] else shown)
            start = place
    return "".join(parts)
