"""How a question becomes a prompt, and an option its continuation, for runtime and trainer alike.

A causal model that was tuned on one rendering and asked in another answers worse, silently; so both
sides call this file, and `TEMPLATE` is part of the candidate's digest.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from freehold.errors import EngineError
from freehold.runtimes.base import OptionText, Question, humanise

TEMPLATE = "freehold-plain/1"
_STEM = "Answer:"

Encode = Callable[[str], list[int]]


@dataclass(frozen=True, slots=True)
class Continuation:
    """Token ids that follow a prompt; only those from `score_from` on are an answer's."""

    ids: tuple[int, ...]
    score_from: int = 0


def prompt_for(question: Question, text: str, options: Sequence[OptionText] = ()) -> str:
    """Return the prompt for one text, up to and with ``Answer:``; `options` are listed in order.

    For ``labels`` it ends before the first option is asked about; see `continuations`.
    """
    parts = [question.instructions.strip()] if question.instructions.strip() else []
    if options:
        parts.append("Options:\n" + "\n".join(_listed(option) for option in options))
    parts.append(f"Text: {text}")
    return "\n\n".join(parts) + ("\n" if question.kind == "labels" else f"\n{_STEM}")


def answer_text(name: str) -> str:
    """Return what a model is trained to write after ``Answer:``, without its end token."""
    return f" {name}"


def continuations(question: Question, encode: Encode, end: int | None) -> list[Continuation]:
    """Return what to score after a prompt: one per option; for labels a yes and a no for each.

    The end token is scored only where one option's tokens begin another's, as ``card`` begins
    ``card lost``: without it the shorter would always win, and a model that was never tuned hardly
    knows it.
    """
    if question.kind == "labels":
        return [
            _asked(option, word, encode) for option in question.options for word in ("yes", "no")
        ]
    answers = [_after_stem(_STEM, answer_text(name), encode) for name in question.names]
    if end is not None and _one_begins_another(answers):
        answers = [(*ids, end) for ids in answers]
    return [Continuation(ids) for ids in answers]


def _asked(option: OptionText, word: str, encode: Encode) -> Continuation:
    asked = f"Does this apply: {_words(option)}?\n{_STEM}"
    stem = tuple(encode(asked))
    return Continuation((*stem, *_after_stem(asked, answer_text(word), encode)), len(stem))


def _after_stem(stem: str, answer: str, encode: Encode) -> tuple[int, ...]:
    """Return the answer's ids as the tokenizer writes them after the stem, not alone.

    Tokenizers of the SentencePiece family set a space before whatever stands first.
    """
    before, whole = encode(stem), encode(stem + answer)
    if whole[: len(before)] != before or len(whole) == len(before):
        raise EngineError(
            f"this tokenizer joins {stem!r} and {answer!r}; the option cannot be scored by itself"
        )
    return tuple(whole[len(before) :])


def _one_begins_another(answers: Sequence[tuple[int, ...]]) -> bool:
    ordered = sorted(answers)
    return any(after[: len(before)] == before for before, after in itertools.pairwise(ordered))


def _words(option: OptionText) -> str:
    if option.description == humanise(option.name):
        return option.name
    return f"{option.name} ({option.description})"


def _listed(option: OptionText) -> str:
    return f"- {_words(option)}"
